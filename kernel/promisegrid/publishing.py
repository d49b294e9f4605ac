"""What the owner published: roots, and every block below them, for whoever asks without being a member.

Promises: a block is public exactly while a published root has it below; publishing is durable when it is
answered, and so is taking it back. Which blocks those are is an index in the table `grid`, so that one look
answers for any of them; it is kept from collection by standing there, and can be made anew from its roots.
Does not know: who asks, and what he may have besides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from promisegrid import dagcbor
from promisegrid.cid import IDENTITY, Cid, take
from promisegrid.effects import Commit, Load, Save, Scan, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange, links_of
from promisegrid.promisebase.archive import PUBLIC
from promisegrid.promisebase.base import Base
from promisegrid.promisebase.walk import Missing, Walk
from promisegrid.scan import BATCH, batches
from promisegrid.state import State

_ROOT: Final = PUBLIC
_BLOCK: Final = b"public/block/"
_NAME_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Published:
    """A published root, since when (seconds since 1970)."""

    cid: Cid
    name: str
    at: int


class Publishing:
    """What one node published."""

    def __init__(self, state: State, exchange: Exchange, base: Base) -> None:
        self._state, self._exchange, self._base = state, exchange, base
        self.changed: Callable[[], None] = lambda: None
        """Called when something was published."""

    async def publish(self, cid: Cid, name: str = "") -> Published:
        """Let anybody read a CID and all below it; what is missing is fetched. RemoteError("not_found")."""
        if len(name) > _NAME_MAX:
            raise LocalError(f"A name has at most {_NAME_MAX} characters.", "bad_args")
        try:
            await self._index(cid, self._exchange.fetch)
        except RemoteError:
            if (await Load("grid", (_ROOT + bytes(cid),))) == (None,):
                await self._forget(bytes(cid))
            raise
        made = Published(cid, name, self._state.now_ms // 1000)
        record = dagcbor.encode({"name": made.name, "at": made.at})
        await self._base.name(cid, (Write("grid", _ROOT + bytes(cid), record),))
        self.changed()
        return made

    async def catch_up(self) -> None:
        """Apps published before there was an index get into it, as far as they are here."""
        for cid in await self._apps():
            await self._index(cid, _left_out)
            record = dagcbor.encode({"name": "", "at": self._state.now_ms // 1000})
            await Commit((Write("grid", _ROOT + bytes(cid), record),))

    async def withdraw(self, cid: Cid) -> bool:
        """Publish a CID no longer; whether it was. What another published root has below stays public."""
        (record,) = await Load("grid", (_ROOT + bytes(cid),))
        await self._forget(bytes(cid))
        await Commit((Write("grid", _ROOT + bytes(cid), None),))
        return record is not None

    async def page(self, after: bytes = b"", limit: int = 256) -> list[Published]:
        """Published roots in the order of their CIDs' bytes, from the one behind `after`."""
        rows = await Scan("grid", _ROOT, _ROOT + after, limit)
        return [Published(Cid.decode(key[len(_ROOT) :]), **dagcbor.decode(record)) for key, record in rows]

    async def has(self, cid: Cid) -> bool:
        """Whether anybody may read a block.

        What holds its content in its own name says nothing new, but must not lead on: anybody can make one.
        """
        if cid.hash_code == IDENTITY:
            try:
                return not links_of(cid, cid.digest)
            except RemoteError:
                return False
        prefix = _BLOCK + bytes(cid)
        return bool(await Scan("grid", prefix, prefix, 1, keys_only=True))

    async def rebuild(self) -> int:
        """Make the index anew from what was published, apps too; how many roots. What is lost is left out."""
        await self.catch_up()
        await self._forget(b"")
        count, after = 0, b""
        while roots := await self.page(after):
            for root in roots:
                await self._index(root.cid, _left_out)
            count, after = count + len(roots), bytes(roots[-1].cid)
        return count

    # -- inside --------------------------------------------------------------------------------------

    async def _apps(self) -> list[Cid]:
        """Apps that are not among the roots."""
        apps = list[Cid]()
        async for found in batches("apps", keys_only=True):
            known = await Load("grid", tuple(_ROOT + key for key, _ in found))
            apps += [Cid.decode(row[0]) for row, root in zip(found, known, strict=True) if root is None]
        return apps

    async def _index(self, root: Cid, missing: Missing) -> None:
        walk = Walk(self._exchange, self._state.limits.walk_blocks, missing)
        writes: list[Write] = []
        async for block in walk.below(root):
            writes.append(Write("grid", _BLOCK + bytes(block.cid) + bytes(root), b""))
            if len(writes) == BATCH:
                await Save(tuple(writes))
                writes = []
        if writes:
            await Save(tuple(writes))

    async def _forget(self, root: bytes) -> None:
        """Remove the rows of one root; of all for b""."""
        async for found in batches("grid", _BLOCK, keys_only=True):
            gone = tuple(Write("grid", key, None) for key, _ in found if not root or _root_of(key) == root)
            if gone:
                await Save(gone)


def _root_of(key: bytes) -> bytes:
    """The root that a row of the index is about."""
    _, at = take(key, len(_BLOCK))
    return key[at:]


async def _left_out(_: Cid) -> bytes:
    """A missing block, as one that links to nothing."""
    return b""
