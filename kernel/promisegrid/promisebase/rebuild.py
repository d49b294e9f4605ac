"""Indexes made anew from blocks: which heads a stream has, and which receipts answer which task.

What is found is added and what no block bears out is removed, a page at a time, so that giving it up leaves
a base no worse than before. Blocks, pins, keys and values, and the grid's records are nobody's index.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from promisegrid import receipt
from promisegrid.cid import DAG_CBOR, RAW, Cid, CidError, take
from promisegrid.effects import Commit, Conflict, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promisebase import streams
from promisegrid.promisebase.collect import TURN, value_of
from promisegrid.promisebase.streams import Head
from promisegrid.scan import batches, rows
from promisegrid.state import State

_PAGE: Final = 32
_SMALL: Final = 64 * 1024
_AT_ONCE: Final = 256
_ATTEMPTS: Final = 8
Watch = Callable[[str, int, int | None], None]
"""Called with ("rebuild", blocks, None) as it goes on."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """Blocks read; index rows now there, by stream heads and receipts; and rows removed as unfounded."""

    blocks: int
    heads: int
    receipts: int
    removed: int


class Rebuilder:
    """Rebuilds the indexes of one base."""

    def __init__(self, state: State) -> None:
        self._state = state

    async def rebuild(self, watch: Watch) -> Rebuilt:
        """Make the tables `streams` and `memo` what the blocks say. LocalError: too_large. RemoteError: busy.

        A stream has the heads it has now and this node's own, but for those that another of them rests on.
        Somebody else's head that nobody took in is only a block.
        """
        heads: dict[Cid, Head] = {}
        receipts: set[bytes] = set()
        blocks = 0
        async for found in batches("blocks", size=_PAGE):
            blocks += len(found)
            watch("rebuild", blocks, None)
            for key, data in found:
                if len(data) <= _SMALL:
                    await self._note(key, data, heads, receipts)
            if len(heads) + len(receipts) > self._state.limits.collect_blocks:
                raise LocalError("The base holds too many heads and receipts to index here.", "too_large")
        tips, removed = await self._settle_streams(heads)
        removed += await self._forget_unfounded(receipts)
        return Rebuilt(blocks, tips, len(receipts), removed)

    async def _note(self, key: bytes, data: bytes, heads: dict[Cid, Head], receipts: set[bytes]) -> None:
        try:
            cid = Cid.decode(key)
            if not cid.holds(data):
                return
            if cid.codec == DAG_CBOR and b"\x69signature" in data:
                heads[cid] = await streams.verify(cid, data)
            elif cid.codec == RAW and data.startswith(b"\xd2\x84"):
                claim = await receipt.verify(data)
                if claim is None:
                    return
                receipts.add(bytes(claim.task) + key)  # others who share the base may trust its executor
                if claim.executor in {self._state.me, *self._state.trust.executors}:
                    await Commit((Write("memo", bytes(claim.task) + key, claim.executor.encode()),))
        except (RemoteError, CidError):
            return

    # -- streams ---------------------------------------------------------------------------------------

    async def _settle_streams(self, heads: dict[Cid, Head]) -> tuple[int, int]:
        """Write which heads streams have; how many those are, and how many rows went.

        Each change rests on no move having been made since the rows were read: else they are read again.
        """
        for _ in range(_ATTEMPTS):
            turn = await value_of(TURN)
            listed = await self._listed(heads)
            tips = self._tips(heads, {cid for cid in listed.values() if cid is not None})
            wanted = {streams.row(heads[cid].stream, cid) for cid in tips}
            stale = [Write("streams", key, None) for key in listed if key not in wanted]
            fresh = [Write("streams", key, b"") for key in sorted(wanted - listed.keys())]
            changes = [*fresh, *stale]
            for at in range(0, len(changes), _AT_ONCE):
                if isinstance(await Commit(tuple(changes[at : at + _AT_ONCE]), (turn,)), Conflict):
                    break
            else:
                return len(tips), len(stale)
        raise RemoteError("busy", "Streams move all the time; rebuild when it is quieter.")

    async def _listed(self, heads: dict[Cid, Head]) -> dict[bytes, Cid | None]:
        """The rows there are, and the head each names; None for one that is no head of that stream."""
        listed: dict[bytes, Cid | None] = {}
        async for key, _ in rows("streams", keys_only=True):
            name = key.partition(b"\0")[2]
            cid = _cid(name)
            if cid is not None and cid not in heads:
                (data,) = await Load("blocks", (name,))  # one that came since the blocks were read
                if data is not None:
                    await self._note(name, data, heads, set())
            head = heads.get(cid) if cid is not None else None
            listed[key] = cid if head is not None and streams.row(head.stream, head.cid) == key else None
        return listed

    def _tips(self, heads: dict[Cid, Head], listed: set[Cid]) -> set[Cid]:
        """Of the heads listed and of this node's own, those that no other rests on."""
        known = listed | {cid for cid, head in heads.items() if head.by == self._state.me}
        followed: set[Cid] = set()
        waiting, seen = list(known), set(known)
        while waiting:
            head = heads[waiting.pop()]
            for cid in head.previous:
                before = heads.get(cid)
                if before is None or before.stream != head.stream or before.height >= head.height:
                    continue
                followed.add(cid)
                if cid not in seen:
                    seen.add(cid)
                    waiting.append(cid)
        return known - followed

    # -- results ---------------------------------------------------------------------------------------

    async def _forget_unfounded(self, receipts: set[bytes]) -> int:
        """Remove rows of `memo` that no receipt bears out; how many."""
        removed = 0
        async for found in batches("memo", keys_only=True):
            doubtful = [key for key, _ in found if key not in receipts]
            stale = tuple([Write("memo", key, None) for key in doubtful if not await self._is_borne_out(key)])
            if stale:
                await Commit(stale)
            removed += len(stale)
        return removed

    async def _is_borne_out(self, row: bytes) -> bool:
        """Whether a row's receipt, which came since the blocks were read, is there."""
        try:
            _, at = take(row, 0)
        except CidError:
            return False
        found: set[bytes] = set()
        (data,) = await Load("blocks", (row[at:],))
        if data is not None:
            await self._note(row[at:], data, {}, found)
        return row in found


def _cid(data: bytes) -> Cid | None:
    try:
        return Cid.decode(data)
    except CidError:
        return None
