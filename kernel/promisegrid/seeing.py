"""What can be seen of a node as it works: its links and what goes over them, who is near, what runs where.

Promises: a look costs no I/O and changes nothing; the lists are bounded (`limits.seen_rows`; links by their
own limit), and beside each cut list stands how long it was. Everything is plain: text, numbers, lists, maps.
Does not know: who looks, nor the time. Rates are the reader's, from two looks and its own clock.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from promisegrid.caller import Caller
from promisegrid.link import Link
from promisegrid.runner import Runner
from promisegrid.state import State
from promisegrid.topics import Topics
from promisegrid.traffic import Traffic, kind_of

Row = dict[str, Any]


class Seeing:
    """The view of one node. Look as often as you like: each look goes over the links once."""

    def __init__(self, state: State, runner: Runner, caller: Caller, topics: Topics) -> None:
        self._state, self._runner, self._caller, self._topics = state, runner, caller, topics

    def view(self) -> Row:
        """A snapshot, for a picture of the grid as it is from here:

        {
          "me": did:key, "serves": bool, "engine": str,
          "links":    [{"link": number, "did", "via": "ws"|"webrtc"|"unix"|"relay", "role": "initiator"|
                        "responder", "through": did of the next hop of a relayed link, else None,
                        "rtt_ms": int|None, "serves": bool, "engine": str, "since_ms": when it opened,
                        "unsent": messages and blocks that wait to be sent,
                        and the counts of `traffic.Traffic`: "bytes_in", "bytes_out", "frames_in",
                        "frames_out", "carried", "blocks_in", "blocks_out", "served", "refused", "asked"}],
          "greeting": links whose peer has not proved who it is,
          "near":     [{"did", "serves", "engine", "through": did of the peer that says so}],
          "here":     [{"task", "code", "func", "for": did (ours for our own), "since_ms",
                        "waits": bool, for its turn}],
          "there":    [{"task", "code", "func", "by": did, "since_ms"}],
          "near_count", "here_count", "there_count": how many there are; the lists may be cut
        }

        One peer may have several links, for instance a relayed one and the direct one that replaces it.
        since_ms: milliseconds since 1970 by the host's clock. CIDs are text. Bytes and the other counts are
        since the link opened, and only go up.
        """
        most = self._state.limits.seen_rows
        near, here, there = self._near(), self._here(), self._caller.away()
        return {
            "me": self._state.me,
            "serves": self._state.serving is not None,
            "engine": self._state.engine,
            "links": [_link(link) for link in self._state.open_links()],
            "greeting": sum(not link.is_open for link in self._state.links.values()),
            "near": [_neighbour(did, link) for did, link in islice(near.items(), most)],
            "here": here[:most],
            "there": there[:most],
            "near_count": len(near),
            "here_count": len(here),
            "there_count": len(there),
        }

    def counts(self) -> Row:
        """What was counted since the node started, and what waits now; nothing in it names a peer.

        {
          "links":    {kind: {"open", "unsent": now, "opened": ever, and the counts of `traffic.Traffic`}},
          "greeting": links whose peer has not proved who it is,
          "refusals": {code: messages of peers refused},
          "answers":  {"remembered" | "remembered_of_peer" | "here" | "there": results of calls},
          "bad_signatures", "topics": followed, "entries": of topics looked into since the start,
          "running", "waiting": runs here that go on, or wait for their turn, "away": calls of ours to peers,
          "wants": blocks asked for and not yet here, "circuits": that end here or pass through
        }
        """
        totals, links = self._state.totals, list(self._state.links.values())
        kinds = {*totals.gone, *totals.opened, *(kind_of(link.via) for link in links)}
        flights = self._runner.flights.values()
        topics, entries = self._topics.counts()
        return {
            "links": {kind: self._of_kind(kind, links) for kind in sorted(kinds)},
            "greeting": sum(not link.is_open for link in links),
            "refusals": dict(totals.refusals),
            "answers": dict(totals.answers),
            "bad_signatures": totals.bad_signatures + sum(link.bad_signatures for link in links),
            "topics": topics,
            "entries": entries,
            "running": sum(flight.line is None for flight in flights),
            "waiting": sum(flight.line is not None for flight in flights),
            "away": self._caller.waiting,
            "wants": sum(len(link.wants) for link in links),
            "circuits": sum(link.circuits for link in links),
        }

    def _of_kind(self, kind: str, links: list[Link]) -> Row:
        totals = self._state.totals
        sum_ = Traffic()
        if kind in totals.gone:
            sum_.add(totals.gone[kind])
        mine = [link for link in links if kind_of(link.via) == kind]
        for link in mine:
            sum_.add(link.traffic)
        now = {"open": sum(link.is_open for link in mine), "unsent": sum(link.unsent for link in mine)}
        return {**now, "opened": totals.opened[kind], **sum_.plain()}

    def _near(self) -> dict[str, Link]:
        """Members that a neighbour is linked to and this node is not, and one neighbour who says so."""
        links = self._state.open_links()
        found = {did: link for link in reversed(links) for did in link.near}
        for did in (self._state.me, *self._state.banned, *(link.did for link in links)):
            found.pop(did, None)
        return found

    def _here(self) -> list[Row]:
        return [
            {
                "task": str(cid),
                "code": str(flight.task.code),
                "func": flight.task.func,
                "for": flight.asker,
                "since_ms": flight.since_ms,
                "waits": flight.line is not None,
            }
            for cid, flight in self._runner.flights.items()
        ]


def _neighbour(did: str, link: Link) -> Row:
    said = link.near[did]
    return {"did": did, "serves": said.serves, "engine": said.engine, "through": link.did}


def _link(link: Link) -> Row:
    return {
        "link": link.number,
        "did": link.did,
        "via": link.via,
        "role": link.role,
        "through": link.through,
        "rtt_ms": link.rtt_ms,
        "serves": link.serves,
        "engine": link.engine,
        "since_ms": link.since_ms,
        "unsent": link.unsent,
        **link.traffic.plain(),
    }
