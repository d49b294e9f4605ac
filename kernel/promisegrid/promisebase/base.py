"""The owner's verbs over PromiseBase: pins, streams, transactions, collecting, rebuilding.

Coroutines for `Kernel.ask`. What belongs to the base belongs to its owner: nothing here is reachable for a
peer.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Read, Save, Scan, Write
from promisegrid.errors import LocalError
from promisegrid.exchange import Exchange, block_writes
from promisegrid.link import Link
from promisegrid.promisebase.archive import Archive
from promisegrid.promisebase.audit import Audit, Audited
from promisegrid.promisebase.collect import Collected, Collector
from promisegrid.promisebase.pins import Kind, Pin, Pins
from promisegrid.promisebase.rebuild import Rebuilder, Rebuilt
from promisegrid.promisebase.streams import Head, Streams
from promisegrid.promisebase.transaction import Committed, Conflicted, Transaction, transact
from promisegrid.state import State

T = TypeVar("T")
Watch = Callable[[str, int, int | None], None]
"""Progress: (phase, done, total or None)."""


class Base:
    """One node's base. `watch` makes the progress of the verb that is running."""

    def __init__(self, state: State, exchange: Exchange, watch: Callable[[], Watch]) -> None:
        self._state, self._exchange, self._watch = state, exchange, watch
        self._collector = Collector(state)
        exchange.on_stored = self._collector.stored
        self._pins = Pins(state, exchange, self._collector)
        self._streams = Streams(state, exchange)
        self.archive = Archive(state, exchange, self._collector, self._pins, self.adopt)
        """CAR files in and out."""
        self._rebuilder = Rebuilder(state)
        self.on_moved: list[Callable[[Head], None]] = []
        """Told each move this node makes, once it is durable."""

    # -- blocks ----------------------------------------------------------------------------------------

    def tell_stored(self, told: Callable[[bytes], None]) -> None:
        """Have each block told, by its CID's bytes, that the owner or a fetch stores or is about to keep."""
        self._collector.on_stored = told

    async def save(self, blocks: Sequence[Block], durable: bool = True) -> None:
        """Keep blocks the host has chunked; durable before it returns unless said otherwise."""
        self._collector.stored(bytes(block.cid) for block in blocks)
        writes = block_writes(list(blocks))
        await (Commit(writes) if durable else Save(writes))

    @contextlib.contextmanager
    def storing(self) -> Iterator[None]:
        """Around many `save`s of what only the last of them names: no collecting, however long they take."""
        self._collector.holds += 1
        try:
            yield
        finally:
            self._collector.holds -= 1

    async def lacking(self, cids: Sequence[Cid]) -> list[Cid]:
        """Which of some blocks are not here, whole. Those that are will not be collected for a while.

        What a client asks before it sends blocks: whatever a put that was interrupted has stored, it need
        not send again. Each block that is here is read and hashed, one at a time.
        """
        keys = [bytes(cid) for cid in cids]
        self._collector.stored(keys)
        rows = await Read(tuple(Scan("blocks", key, b"", 1, keys_only=True) for key in keys))
        lacked = []
        for cid, key, found in zip(cids, keys, rows, strict=True):
            if not found or found[0][0] != key or await self._exchange.stored(cid) is None:
                lacked.append(cid)
        return lacked

    # -- pins ------------------------------------------------------------------------------------------

    async def pin(self, cid: Cid, name: str = "", kind: Kind = "recursive") -> Pin:
        """Keep a CID and all below it (or it alone: "direct"); what is missing is fetched. See `Pins.pin`."""
        watch = self._watch()
        return await self._pins.pin(cid, name, lambda _, size: watch("fetch", size, None), kind)

    async def unpin(self, cid: Cid) -> bool:
        """Let a CID go; whether it was pinned."""
        return await self._pins.unpin(cid)

    async def pinned(self, cid: Cid) -> Pin | None:
        """The pin of a CID, if it has one."""
        return await self._pins.find(cid)

    async def pins(self, after: bytes = b"", limit: int = 256) -> list[Pin]:
        """Pins in the order of their CIDs' bytes, from the one behind `after`."""
        return await self._pins.page(after, limit)

    async def keep(
        self,
        cid: Cid,
        bytes_max: int,
        watch: Callable[[int, int], None],
        writes: Callable[[], Awaitable[tuple[Write, ...]]],
        hint: Link | None = None,
    ) -> None:
        """Bring a CID and all below it here, at most so many bytes, and commit `writes`, which name it."""

        async def bring() -> None:
            self._collector.protect(cid)
            await self._exchange.fetch_dag(cid, bytes_max, watch, hint)

        await self._collector.keep(bring, writes)

    async def is_here(self, cid: Cid) -> bool:
        """Whether a CID and all below it is here. Leaves are not read: only `audit` reads everything."""
        return await self._pins.is_here(cid)

    async def name(self, cid: Cid, rows: tuple[Write, ...]) -> None:
        """Commit rows that name a CID, all of which is here then. Errors as `pin`."""
        watch = self._watch()

        async def writes() -> tuple[Write, ...]:
            return rows

        await self._collector.keep(lambda: self._bring(cid, watch), writes)

    # -- streams ---------------------------------------------------------------------------------------

    async def move(self, name: str, value: Cid, previous: Iterable[Cid] | None = None) -> Head:
        """Move a stream to a value, after all its heads or those given. The value and all below is kept.

        RemoteError("not_found") when the value is nowhere to be had.
        """
        watch = self._watch()
        moved: list[Head] = []

        async def writes() -> tuple[Write, ...]:
            head, rows = await self._streams.move(name, value, previous)
            moved[:] = [head]
            return rows

        await self._collector.keep(lambda: self._bring(value, watch), writes)
        for told in self.on_moved:
            told(moved[0])
        return moved[0]

    async def head(self, cid: Cid) -> Head:
        """One head, verified, from the store or from peers. RemoteError: not_found, malformed, …"""
        return await self._streams.head(cid)

    async def head_cids(self, name: str) -> list[Cid]:
        """The names of a stream's heads; none when there is no such stream."""
        return await self._streams.head_cids(name)

    async def adopt(self, head: Cid) -> bool:
        """Take somebody's head of a stream in, with what it names; False when the stream is past it."""
        watch = self._watch()
        taken = False

        async def writes() -> tuple[Write, ...]:
            nonlocal taken
            rows = await self._streams.adopt(head)
            taken = bool(rows)
            return rows

        await self._collector.keep(lambda: self._bring(head, watch), writes)
        return taken

    async def _bring(self, cid: Cid, watch: Watch) -> None:
        await self._pins.bring(cid, lambda _, size: watch("fetch", size, None))

    async def heads(self, name: str) -> list[Head]:
        """A stream's heads, the latest first; several are a fork. LocalError("not_found") for none."""
        heads = await self._streams.heads(name)
        if not heads:
            raise LocalError(f"There is no stream {name!r}: `promisegrid log` lists them.", "not_found")
        return heads

    async def streams(self, after: str = "", limit: int = 256) -> list[str]:
        """The names of streams in byte order, from the one behind `after`."""
        return await self._streams.names(after, limit)

    def history(self, heads: Iterable[Head]) -> AsyncIterator[Head]:
        """Heads and all they follow, the highest first; pull it with `next_head`."""
        return self._streams.history(heads)

    async def next_head(self, history: AsyncIterator[Head]) -> Head | None:
        """The next of a `history`; None at the end."""
        try:
            return await history.__anext__()  # not anext(): see Kernel.piece
        except StopAsyncIteration:
            return None

    # -- transactions ----------------------------------------------------------------------------------

    async def transact(
        self, space: str, work: Callable[[Transaction], Awaitable[T]], attempts: int = 16
    ) -> Committed[T] | Conflicted:
        """Do `work` in a transaction over the keys of a space. See `transaction.transact`."""
        if not space:
            raise LocalError('The space "" is the base\'s own: name another.', "bad_args")
        return await transact(space, self._state.limits, work, self._collector, attempts)

    # -- keeping house ---------------------------------------------------------------------------------

    async def collect(self, dry_run: bool = False, results: bool = False) -> Collected:
        """Remove what nothing keeps, remembered results too if `results`. See `Collector.collect`."""
        return await self._collector.collect(self._watch(), dry_run, results)

    async def audit(self, mend: bool = False, total: int | None = None) -> Audited:
        """Hash everything once more, look for all that is kept; `mend`: fetch what is damaged or missing.

        total: how many blocks there are, for `watch`, if the host knows. See `Audit`.
        """
        return await Audit(self._state, self._exchange, self._watch(), mend, total).run()

    async def rebuild(self) -> Rebuilt:
        """Make the indexes anew from blocks."""
        return await self._rebuilder.rebuild(self._watch())
