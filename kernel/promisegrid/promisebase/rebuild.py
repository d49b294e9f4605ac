"""Indexes made anew from blocks: which heads a stream has, and which receipts answer which task.

What is found is added and what no block bears out is removed, a page at a time, so that giving it up leaves
a base no worse than before. Blocks, pins, keys and values, and the grid's records are nobody's index.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from promisegrid import receipt
from promisegrid.cid import DAG_CBOR, RAW, Cid, CidError
from promisegrid.effects import Commit, Scan, Table, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promisebase import streams
from promisegrid.state import State

_PAGE: Final = 32
_SMALL: Final = 64 * 1024
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
        """Make the tables `streams` and `memo` what the blocks say. LocalError("too_large")."""
        heads: defaultdict[str, set[Cid]] = defaultdict(set)
        followed: set[Cid] = set()
        receipts: set[bytes] = set()
        blocks, after = 0, b""
        while rows := await Scan("blocks", b"", after, _PAGE):
            after, blocks = rows[-1][0], blocks + len(rows)
            watch("rebuild", blocks, None)
            for key, data in rows:
                if len(data) <= _SMALL:
                    await self._note(key, data, heads, followed, receipts)
            if len(followed) + len(receipts) > self._state.limits.collect_blocks:
                raise LocalError("The base holds too many heads and receipts to index here.", "too_large")
        tips = {streams.row(name, cid) for name, cids in heads.items() for cid in cids - followed}
        removed = await self._settle("streams", dict.fromkeys(tips, b""))
        removed += await self._settle("memo", dict.fromkeys(receipts))
        return Rebuilt(blocks, len(tips), len(receipts), removed)

    async def _note(
        self,
        key: bytes,
        data: bytes,
        heads: defaultdict[str, set[Cid]],
        followed: set[Cid],
        receipts: set[bytes],
    ) -> None:
        try:
            cid = Cid.decode(key)
            if not cid.holds(data):
                return
            if cid.codec == DAG_CBOR and b"\x69signature" in data:
                head = await streams.verify(cid, data)
                heads[head.stream].add(cid)
                followed.update(head.previous)
            elif cid.codec == RAW and data.startswith(b"\xd2\x84"):
                claim = await receipt.verify(data)
                wanted = {self._state.me, *self._state.trust.executors}
                if claim is None:
                    return
                receipts.add(bytes(claim.task) + key)  # others who share the base may trust its executor
                if claim.executor in wanted:
                    await Commit((Write("memo", bytes(claim.task) + key, claim.executor.encode()),))
        except (RemoteError, CidError):
            return

    async def _settle(self, table: Table, wanted: dict[bytes, bytes] | dict[bytes, None]) -> int:
        """Make a table's keys those wanted; how many were removed. Values of None are there already."""
        removed, after = 0, b""
        while rows := await Scan(table, b"", after, 256, keys_only=True):
            after = rows[-1][0]
            stale = tuple(Write(table, key, None) for key, _ in rows if key not in wanted)
            if stale:
                await Commit(stale)
            removed += len(stale)
        fresh = [Write(table, key, value) for key, value in wanted.items() if value is not None]
        for at in range(0, len(fresh), 256):
            await Commit(tuple(fresh[at : at + 256]))
        return removed
