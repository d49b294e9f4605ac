"""Carrying messages of protocols not known here: exact bytes, never run, never written again.

A node carries only after its owner promised to: so many bytes, for so long. What is carried is charged to the
authenticated link that handed it over, which may use a quarter of the whole. It is kept as a raw block, for
whoever asks for it by its CID, and dropped when its time is over; unless the node's owner stores or keeps the
same bytes, before or after: then they are the owner's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promisegrid import dagcbor, frames
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.gridtag import Tagged
from promisegrid.link import Link
from promisegrid.scan import rows
from promisegrid.state import State

_KEY: Final = b"carrying"
_ROWS: Final = b"carry/"


@dataclass(frozen=True, slots=True)
class Carrying:
    """The owner's promise to carry: bytes in all, and seconds each message is kept."""

    bytes: int
    life_s: int


@dataclass(frozen=True, slots=True)
class _Load:
    by: str
    until: int
    size: int


class Carriage:
    """What this node carries, and for whom."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._promise: Carrying | None = None
        self._loads: dict[bytes, _Load] = {}  # by the CID's bytes

    async def load(self) -> None:
        """At boot: what was promised and what is carried."""
        (kept,) = await Load("grid", (_KEY,))
        if kept is not None:
            value = dagcbor.decode(kept)
            self._promise = Carrying(value["bytes"], value["life"])
        async for key, row in rows("grid", _ROWS):
            by, until, size = dagcbor.decode(row)
            self._loads[key[len(_ROWS) :]] = _Load(by, until, size)

    async def promise(self, size: int, days: int) -> None:
        """Promise to carry `size` bytes for others, each message for so many days; 0 ends it."""
        limits = self._state.limits
        if not 0 <= size <= limits.carried_bytes or not 0 < days <= 365:
            text = f"Carry up to {limits.carried_bytes} bytes for 1 to 365 days; 0 bytes ends it."
            raise LocalError(text, "bad_args")
        made = Carrying(size, days * 86_400) if size else None
        record = None if made is None else dagcbor.encode({"bytes": made.bytes, "life": made.life_s})
        await Commit((Write("grid", _KEY, record),))
        self._promise = made
        await self._drop_old()

    async def carrying(self) -> dict[str, int] | None:
        """{"bytes", "days", "used", "messages"}, or None while nothing is carried for others."""
        await self._drop_old()
        if self._promise is None:
            return None
        used = sum(one.size for one in self._loads.values())
        days = self._promise.life_s // 86_400
        return {"bytes": self._promise.bytes, "days": days, "used": used, "messages": len(self._loads)}

    async def take(self, link: Link, tagged: Tagged, name: Cid) -> None:
        """Carry a message for the peer on this link. RemoteError: no_such_protocol, busy."""
        if self._promise is None:
            text = f"The protocol {tagged.protocol} is not known here, and nothing is carried unknown."
            raise RemoteError("no_such_protocol", text)
        await self._drop_old()
        key = bytes(name)
        if key not in self._loads:
            (stored,) = await Load("blocks", (key,))
            if stored is None and key not in self._loads:
                await self._keep(link.did, tagged.raw, key, self._promise.life_s)
        link.send(frames.Progress(name, "carried", 1, 1))

    def shared(self, key: bytes) -> None:
        """The owner has a use for these bytes too: they are not ours to drop any more, nor anybody's load."""
        if self._loads.pop(key, None) is not None:
            self._state.scheduler.spawn(self._let_go(key))

    async def _let_go(self, key: bytes) -> None:
        await Commit((Write("grid", _ROWS + key, None),))

    def _check_room(self, did: str, size: int) -> None:
        assert self._promise is not None
        used = sum(one.size for one in self._loads.values())
        theirs = [one.size for one in self._loads.values() if one.by == did]
        if used + size > self._promise.bytes or sum(theirs) + size > self._promise.bytes // 4:
            raise RemoteError("busy", "What this node carries for others is used up; try again later.")
        most = self._state.limits.carried
        if len(self._loads) >= most or len(theirs) >= most // 4:
            raise RemoteError("busy", "This node carries as many messages as it can; try again later.")

    async def _keep(self, did: str, raw: bytes, key: bytes, life_s: int) -> None:
        """A message that is not stored here yet; one that is, is somebody else's to keep."""
        self._check_room(did, len(raw))
        until = self._state.now_ms // 1000 + life_s
        self._loads[key] = _Load(did, until, len(raw))
        row = dagcbor.encode([did, until, len(raw)])
        try:
            await Commit((Write("blocks", key, raw), Write("grid", _ROWS + key, row)))
        except RemoteError:
            self._loads.pop(key, None)
            raise

    async def _drop_old(self) -> None:
        """Let go of the messages whose time is over."""
        now = self._state.now_ms // 1000
        over = [key for key, one in self._loads.items() if one.until < now]
        if over:
            blocks = [Write("blocks", key, None) for key in over]
            rows = [Write("grid", _ROWS + key, None) for key in over]
            await Commit((*blocks, *rows))
            for key in over:
                self._loads.pop(key, None)
