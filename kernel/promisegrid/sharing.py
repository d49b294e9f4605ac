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


class Sharing:
    """The shared streams of one node."""

    def __init__(self, state: State, base: Base, topics: Topics) -> None:
        self._state, self._base, self._topics = state, base, topics
        self._shared: dict[str, frozenset[str]] = {}
        topics.heard.append(self._heard)
        base.on_moved.append(self._moved)

    async def load(self) -> None:
        """Which streams are shared, from the store."""
        rows = await Scan("grid", _ROWS, _ROWS, self._state.limits.topics)
        self._shared = {key[len(_ROWS) :].decode(): frozenset(dagcbor.decode(row)) for key, row in rows}

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
        for heard in await self._topics.latest(TOPIC + name, _HEARD):
            self._heard(heard)
        for cid in await self._base.head_cids(name):
            await self._topics.publish(TOPIC + name, {"head": cid})

    async def unshare(self, name: str) -> bool:
        """Keep a stream to oneself from now on; whether it was shared."""
        await Commit((Write("grid", _ROWS + name.encode(), None),))
        await self._topics.leave(TOPIC + name)
        return self._shared.pop(name, None) is not None

    async def shared(self) -> dict[str, list[str]]:
        """Shared streams, and whose moves are taken: [] for any member's."""
        return {name: sorted(by) for name, by in sorted(self._shared.items())}

    def _moved(self, head: Head) -> None:
        if head.stream in self._shared:
            self._state.scheduler.spawn(self._topics.publish(TOPIC + head.stream, {"head": head.cid}))

    def _heard(self, entry: Entry) -> None:
        name = entry.topic.removeprefix(TOPIC)
        body = entry.body
        if name == entry.topic or name not in self._shared or not isinstance(body, dict):
            return
        if set(body) == {"head"} and isinstance(body["head"], Cid):
            self._state.scheduler.spawn(self._take(name, body["head"]))

    async def _take(self, name: str, cid: Cid) -> None:
        """Take a head in, if it is of that stream and by one of those named. What fails is tried again
        when the next head, which rests on it, is heard of."""
        try:
            head = await self._base.head(cid)
            wanted = self._shared.get(name, frozenset())
            if head.stream == name and (not wanted or head.by in wanted):
                await self._base.adopt(cid)
        except (RemoteError, LocalError):
            return
