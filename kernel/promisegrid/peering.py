"""Links from greeting to end: what each kind of frame sets going, and what the end of a link ends.

A frame of an open link is dealt with as it comes, in the kernel's entry that brought it. A message gets a
strand of its own, which ends with its link, so that no run outlives all who asked for it.
"""

from __future__ import annotations

from promisegrid import frames
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.dispatch import Dispatcher
from promisegrid.effects import Detail, Notify
from promisegrid.errors import RemoteError
from promisegrid.exchange import Exchange
from promisegrid.frames import (
    BlockFrame,
    Dial,
    Dialled,
    Frame,
    HangUp,
    Near,
    Relayed,
    Seek,
    Sought,
    Want,
    Window,
)
from promisegrid.handshake import greet
from promisegrid.link import Link
from promisegrid.liveness import Liveness
from promisegrid.overlay import Overlay
from promisegrid.owner import Owner
from promisegrid.promises import Promises
from promisegrid.relay import Relay
from promisegrid.seeking import Seeking
from promisegrid.signalling import Signalling
from promisegrid.state import State
from promisegrid.strand import Pause
from promisegrid.topics import Topics
from promisegrid.traffic import kind_of


class Peering:
    """Serves the links of one node."""

    def __init__(
        self, state: State, exchange: Exchange, caller: Caller, owner: Owner, dispatcher: Dispatcher,
        promises: Promises,
        topics: Topics,
        signalling: Signalling,
    ) -> None:  # fmt: skip
        self._state, self._scheduler = state, state.scheduler
        self._exchange, self._caller, self._owner, self._dispatcher = exchange, caller, owner, dispatcher
        self._promises, self._topics = promises, topics
        self._signalling = signalling
        self.relay = Relay(state, self.begin, self.drop)
        signalling.over(self.relay)
        self.seeking = Seeking(state)
        self.overlay = Overlay(state, self.seeking, signalling)
        self.relay.deliver = self.receive
        caller.reach = self.relay.reach
        caller.is_near = lambda did: did in self.relay.near()
        self.liveness = Liveness(state, caller.awaits_any)

    def begin(self, link: Link) -> None:
        """A connection is open."""
        self._state.links[link.number] = link
        self._scheduler.spawn(self.serve(link))

    def receive(self, link: Link, data: bytes) -> None:
        """A frame of a link, whatever its state."""
        link.traffic.frames_in += 1
        link.traffic.bytes_in += len(data)
        if link.is_open:
            self.arrived(link, data)
        else:
            link.arrived(data)

    async def serve(self, link: Link) -> None:
        """One link from greeting to end."""
        wrong: RemoteError | None = None
        try:
            await greet(self._state, link)
            self._opened(link)
            for frame in link.take_inbox():
                self._take(link, frame)
        except RemoteError as error:
            wrong = error
        if wrong is None:
            wrong = await link.ended
        self.drop(link, wrong)

    def has_room(self) -> bool:
        """Whether one more may connect. The oldest that has not proved who it is makes room when there are
        too many of them, or of all: strangers who only hold their places must not keep members out."""
        links = self._state.links.values()
        strangers = [link for link in links if link.role == "responder" and not link.is_open]
        is_full = len(links) >= self._state.limits.links
        if strangers and (is_full or len(strangers) >= self._state.limits.greeting):
            self.drop(strangers[0], RemoteError("busy", "This link proved nothing so far, and others wait."))
            return True
        return not is_full

    def arrived(self, link: Link, data: bytes) -> None:
        """A frame of an open link is dealt with as it comes."""
        link.heard_ms = self._state.steady_ms
        try:
            self._take(link, frames.decode(data, self._state.limits.frame_bytes))
        except RemoteError as wrong:
            self.drop(link, wrong)

    def _opened(self, link: Link) -> None:
        """A peer is in. A second link of the same peer in the same direction replaces the first."""
        for other in self._state.open_links():
            same = (other.did, other.role, other.via) == (link.did, link.role, link.via)
            if other is not link and same:
                other.close("closed", "The peer connected again.")
        link.opened.set(None)
        link.since_ms = self._state.now_ms
        self._state.totals.opened[kind_of(link.via)] += 1
        link.send(frames.Status(self._state.serving is not None, self._state.engine_told))
        self.relay.tell()
        self._tell_peer(link, "up")
        self._scheduler.emit(Notify("grid", {"grid": str(self._state.grid)}))
        self._scheduler.spawn(self.liveness.keep(link))
        self._scheduler.spawn(self._promises.opened(link))
        self._scheduler.spawn(self._topics.opened(link))
        self._signalling.opened(link)
        self.overlay.opened(link)

    def _message(self, link: Link, raw: bytes) -> None:
        name = Cid.of(raw)
        if self._dispatcher.again(link, name):
            return
        if len(link.work) >= self._state.limits.link_credit:
            raise RemoteError("busy", "More messages at once than this node gave credit for.")
        link.work[self._scheduler.spawn(self._deal(link, raw, name))] = name

    async def _deal(self, link: Link, raw: bytes, name: Cid) -> None:
        """One message; it is given up with its link, so that no run outlives all who asked for it."""
        strand = self._scheduler.current
        assert strand is not None
        try:
            await self._dispatcher.message(link, raw, name)
        finally:
            link.work.pop(strand, None)
            link.hints.pop(name, None)

    def _take(self, link: Link, frame: Frame) -> None:
        """One frame of an open link."""
        match frame:
            case frames.Message(raw):
                self._message(link, raw)
            case Want():
                self._exchange.wanted(link, frame)
            case BlockFrame() | frames.Piece():
                self._exchange.arrived(link, frame)
            case frames.Refusal(code, text, None):
                link.parting = RemoteError.from_wire(code, text)
            case frames.Refusal(code, text, about):
                self._caller.refused(link, about, code, text)
            case frames.Credit(messages):
                link.add_credit(messages)
            case frames.Progress(about, phase, done, total):
                self._caller.progress(link, about, phase, done, total)
            case frames.Cancel(about):
                self._cancel(link, about)
            case frames.Ping(number):
                link.send(frames.Pong(number))
            case frames.Pong(number):
                if number == link.ping_number:  # once for each ping: whoever talks much is not news
                    link.ping_number, link.rtt_ms = 0, self._state.steady_ms - link.ping_sent_ms
                    self._tell_peer(link, "up")
            case frames.Status(serves, engine):
                if (serves, engine[:80]) != (link.serves, link.engine):
                    link.serves, link.engine = serves, engine[:80]
                    if not link.is_news:
                        link.is_news = True
                        self._scheduler.spawn(self._spread_news(link))
            case Dial() | Dialled() | HangUp() | Relayed() | Window() | Near():
                self.relay.take(link, frame)
            case Seek() | Sought():
                self.seeking.take(link, frame)
            case frames.Admitted(membership):
                if not link.renewing:
                    link.renewing = True
                    self._scheduler.spawn(self._renew(link, membership))
            case _:
                raise RemoteError("malformed", f"A {type(frame).__name__} frame on an open link.")

    async def _spread_news(self, link: Link) -> None:
        """Say what a peer says of itself, its latest word, now and then: each time costs others a look."""
        wait_ms = link.news_ms - self._state.steady_ms
        if wait_ms > 0:
            await Pause(None, wait_ms)
        link.is_news, link.news_ms = False, self._state.steady_ms + self._state.limits.near_ms
        if link.is_open:
            self.relay.tell()
            self._signalling.look()
            self._tell_peer(link, "up")

    def _cancel(self, link: Link, about: Cid) -> None:
        """The peer wants no more what it asked for, a message's answer or a block."""
        for work in (link.work, link.serving):
            for strand in [strand for strand, name in work.items() if name == about]:
                self._scheduler.cancel(strand)

    async def _renew(self, link: Link, membership: bytes) -> None:
        """A membership is looked at one at a time; one that does not hold counts as a bad signature."""
        try:
            await self._owner.renewed(link, membership)
        except RemoteError as wrong:
            if wrong.code == "not_member":
                link.count_bad_signature()
        finally:
            link.renewing = False

    def drop(self, link: Link, wrong: RemoteError | None) -> None:
        """The end of a link, whoever ended it."""
        if self._state.links.pop(link.number, None) is None:
            return
        if wrong is not None and not link.is_closed:
            link.refuse(wrong, None)
            link.close(wrong.code, wrong.text)
        link.down()
        self._state.totals.ended(link.via, link.traffic, link.bad_signatures)
        for strand in (*link.work, *link.serving):
            self._scheduler.cancel(strand)
        self.relay.link_down(link)
        self._caller.link_down(link)
        self._topics.closed(link)
        self._signalling.closed(link)
        self.seeking.link_down(link)
        self.overlay.closed(link)
        self._tell_peer(link, "down", wrong or link.parting)

    def _tell_peer(self, link: Link, event: str, wrong: RemoteError | None = None) -> None:
        detail: Detail = {
            "event": event,
            "did": link.did,
            "via": link.via,
            "link": link.number,
            "rtt_ms": link.rtt_ms,
            "serves": link.serves,
            "engine": link.engine,
            "code": wrong.code if wrong else None,
            "reason": wrong.text if wrong else None,
        }
        self._scheduler.emit(Notify("peer", detail))
