"""Shared streams: whoever follows a stream hears of its moves, and takes them in.

A stream that its owner shares has a topic, `stream/<name>`; each move publishes its head there, and each
head heard of is fetched, verified and adopted: two who moved at once make a fork on every node. An owner may
name whose heads he takes; else they are those of any member.
"""

from __future__ import annotations

from typing import Final

from promisegrid import dagcbor, did
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Scan, Write
from promisegrid.entry import Entry
from promisegrid.errands import Errands
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promisebase import streams
from promisegrid.promisebase.base import Base
from promisegrid.promisebase.streams import Head
from promisegrid.state import State
from promisegrid.topics import Topics

TOPIC: Final = "stream/"
_ROWS: Final = b"stream/"
_NAMED_MAX: Final = 64
_HEARD: Final = 64
"""Entries that came before a stream was shared: the latest heads rest on all before them."""
_TAKERS: Final = 256
"""Members whose heads are being taken in, or waited for, of all streams together."""
_HEADS: Final = 4
"""Heads that one member announced of one stream: the latest rest on those before."""
_PASSING: Final = frozenset({"not_found", "bad_block", "busy", "closed", "internal", "out_of_time"})
"""Why a head may not be had now, and later on may."""


class Sharing:
    """The shared streams of one node."""

    def __init__(self, state: State, base: Base, topics: Topics) -> None:
        self._state, self._base, self._topics = state, base, topics
        self._shared: dict[str, frozenset[str]] = {}
        self._takers: dict[tuple[str, str], Errands[Cid]] = {}
        topics.heard.append(self._heard)
        base.on_moved.append(self._moved)

    async def load(self) -> None:
        """Which streams are shared, from the store; what was left undone when the node ended is done."""
        rows = await Scan("grid", _ROWS, _ROWS, self._state.limits.topics)
        self._shared = {key[len(_ROWS) :].decode(): frozenset(dagcbor.decode(row)) for key, row in rows}
        for name in self._shared:
            if not self._topics.follows(TOPIC + name):
                await self._topics.follow(TOPIC + name)
            if self._state.grid is not None:
                self._state.scheduler.spawn(self._catch_up(name))

    async def forget(self) -> None:
        """The grid is left: nothing is shared there any more. The streams stay."""
        rows = tuple(Write("grid", _ROWS + name.encode(), None) for name in self._shared)
        self._shared.clear()
        if rows:
            await Commit(rows)

    async def share(self, name: str, by: tuple[str, ...] = ()) -> None:
        """Share a stream with whoever shares it too; `by`: whose moves are taken, of any member's if none."""
        streams.check_name(name)
        if len(by) > _NAMED_MAX:
            raise LocalError(f"At most {_NAMED_MAX} keys can be named.", "too_large")
        for one in by:
            try:
                did.decode(one)
            except RemoteError as error:
                raise LocalError(error.text, "bad_args") from error
        await Commit((Write("grid", _ROWS + name.encode(), dagcbor.encode(sorted(by))),))
        self._shared[name] = frozenset(by)
        await self._topics.follow(TOPIC + name)
        await self._catch_up(name)

    async def unshare(self, name: str) -> bool:
        """Keep a stream to oneself from now on; whether it was shared."""
        await Commit((Write("grid", _ROWS + name.encode(), None),))
        await self._topics.leave(TOPIC + name)
        return self._shared.pop(name, None) is not None

    async def shared(self) -> dict[str, list[str]]:
        """Shared streams, and whose moves are taken: [] for any member's."""
        return {name: sorted(by) for name, by in sorted(self._shared.items())}

    async def _catch_up(self, name: str) -> None:
        """Take in what was heard of lately, and tell of heads that were not told of."""
        told = set()
        for heard in (await self._topics.latest(TOPIC + name, _HEARD))[::-1]:
            self._heard(heard)
            told.add(_head_in(heard))
        for cid in await self._base.head_cids(name):
            if cid not in told:
                await self._topics.publish(TOPIC + name, {"head": cid})

    def _moved(self, head: Head) -> None:
        if head.stream in self._shared:
            self._state.scheduler.spawn(self._topics.publish(TOPIC + head.stream, {"head": head.cid}))

    def _heard(self, entry: Entry) -> None:
        name, head = entry.topic.removeprefix(TOPIC), _head_in(entry)
        if name == entry.topic or name not in self._shared or head is None:
            return
        key = name, entry.by
        taker = self._takers.pop(key, None)
        if taker is None:
            taker = Errands(
                self._state.scheduler,
                self._state.limits.topics_again_ms,
                _HEADS,
                lambda cid: self._take(name, cid),
                lambda _: name in self._shared and key in self._takers,
            )
        while len(self._takers) >= _TAKERS:
            del self._takers[next(iter(self._takers))]
        self._takers[key] = taker
        taker.add(head)

    async def _take(self, name: str, cid: Cid) -> None:
        """Take a head in, if it is of that stream and by one of those named. RemoteError when it cannot be
        had now: who announced it is asked again, and keeps nobody else waiting meanwhile."""
        try:
            head = await self._base.head(cid)
            wanted = self._shared.get(name, frozenset())
            is_wanted = head.by in wanted if wanted else head.by not in self._state.banned
            if head.stream == name and name in self._shared and is_wanted:
                await self._base.adopt(cid)
        except RemoteError as wrong:
            if wrong.code in _PASSING:
                raise


def _head_in(entry: Entry) -> Cid | None:
    """The head that an entry announces."""
    head = entry.body.get("head") if isinstance(entry.body, dict) and len(entry.body) == 1 else None
    return head if isinstance(head, Cid) else None
