"""Content in and out as CAR files: what a person asked for, or the whole base as a backup.

Out: each block once, a piece at a time, in bounded memory. In: every block is checked against its CID;
nothing is pinned before all that the pin keeps is here and durable; a file that is cut off or lies changes no
pin and no stream. A backup is a CAR whose root says so: `{backup: 1, at, by, pages: [links]}`, each page
`{pins, streams, values}`. Bringing one back adds: it never changes a pin, a stream or a key that is there.

A backup holds no key of a node and no membership. What was published comes back as pins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promisegrid import car, dagcbor
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, IDENTITY, Cid
from promisegrid.effects import Commit, Load, Scan, Seen, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.promisebase import pages
from promisegrid.promisebase.collect import Collector
from promisegrid.promisebase.pins import NAME_MAX, Pin, Pins
from promisegrid.promisebase.walk import Missing, Walk
from promisegrid.scan import rows
from promisegrid.state import State
from promisegrid.strand import Strand

_PIECE: Final = 256 * 1024
_BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCH_BLOCKS: Final = 512
_PAGE_BYTES: Final = 512 * 1024
_ROWS: Final = 256
PUBLIC: Final = b"public/root/"
"""How the rows of what is published begin, in the table `grid`."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What an import did. pinned: of the roots, or of a backup's pins; streams, values: heads, keys added.

    lost: what a backup kept and neither it nor a peer has whole any more.
    """

    roots: tuple[Cid, ...]
    blocks: int
    bytes: int
    pinned: int
    streams: int
    values: int
    lost: tuple[Cid, ...]
    is_backup: bool
    left: bool = False
    """A backup whose pins, streams and keys were left alone: this base has its own, see `Archive.bring`."""


class Export:
    """A CAR on its way out: call `next` until None. `bad`: blocks left out because they had rotted."""

    def __init__(self, roots: Sequence[Cid]) -> None:
        self.roots = tuple(roots)
        self.source: AsyncIterator[Block] | None = None
        """Where its blocks come from; None once they are out."""
        self._held = car.header(roots)
        self.blocks = self.bytes = self.bad = 0

    async def next(self) -> bytes | None:
        """The next piece, some hundred KiB. RemoteError: not_found, bad_block, too_large, malformed."""
        if self.source is None:
            return None
        parts, size = [self._held], len(self._held)
        self._held = b""
        while size < _PIECE:
            try:
                block = await self.source.__anext__()
            except StopAsyncIteration:
                self.source = None
                break
            frame = car.frame(block)
            parts.append(frame)
            size += len(frame)
            self.blocks += 1
        self.bytes += size
        return b"".join(parts) or None


class Archive:
    """CAR files of one base. `adopt` takes the head of a stream in."""

    def __init__(
        self,
        state: State,
        exchange: Exchange,
        collector: Collector,
        pins: Pins,
        adopt: Callable[[Cid], Awaitable[bool]],
    ) -> None:
        self._state, self._exchange, self._collector = state, exchange, collector
        self._pins, self._adopt = pins, adopt

    def export(self, roots: Sequence[Cid], missing: Missing | None = None) -> Export:
        """A CAR of everything below these roots; what is not here comes from peers, or as `missing` says."""
        if not roots:
            raise LocalError("Say what to export: one CID or more.", "bad_args")
        walk = Walk(self._exchange, self._state.limits.walk_blocks, missing or self._exchange.fetch)
        made = Export(roots)
        made.source = walk.below(*roots)
        return made

    async def backup(self) -> Export:
        """A CAR of the whole base: its pins, streams, keys and values, and every block."""
        pages = await self._pages()
        at = self._state.now_ms // 1000
        value = {"backup": 1, "at": at, "by": self._state.me, "pages": [page.cid for page in pages]}
        top = Block.of(dagcbor.encode(value), DAG_CBOR)
        made = Export([top.cid])
        made.source = self._everything([top, *pages], made)
        return made

    def bring(self, pin: bool = True, name: str = "", restore: bool = False) -> Import:
        """Take a CAR in: feed it with `take`, end it with `finish`.

        restore: a backup may move streams and set keys here; into an empty base it always may.
        """
        return Import(
            self._state, self._exchange, self._collector, self._pins, self._adopt, pin, name, restore
        )

    # -- inside --------------------------------------------------------------------------------------

    async def _everything(self, first: list[Block], export: Export) -> AsyncIterator[Block]:
        for block in first:
            yield block
        after, limit = b"", 8
        while rows := await Scan("blocks", b"", after, limit):
            after = rows[-1][0]
            for key, data in rows:
                cid = Cid.decode(key)
                if len(data) <= car.BLOCK_MAX and await self._exchange.holds(cid, data):
                    yield Block(cid, data)
                else:
                    export.bad += 1
            small = sum(len(data) for _, data in rows) < _BATCH_BYTES // 2
            limit = min(2 * limit, _ROWS) if small else 8

    async def _pages(self) -> list[Block]:
        """What the rows of the base say, in blocks."""
        pages: list[Block] = []
        page: dict[str, list[Any]] = {}
        size = total = 0
        async for kind, row, weight in self._rows():
            if size + weight > _PAGE_BYTES and page:
                pages.append(Block.of(dagcbor.encode(page), DAG_CBOR))
                page, size = {}, 0
            page.setdefault(kind, []).append(row)
            size, total = size + weight, total + weight
            if total > self._state.limits.backup_bytes:
                most = self._state.limits.backup_bytes
                text = f"Pins, streams, keys and values take more than {most} bytes: export them by CID."
                raise LocalError(text, "too_large")
        if page:
            pages.append(Block.of(dagcbor.encode(page), DAG_CBOR))
        return pages

    async def _rows(self) -> AsyncIterator[tuple[str, list[Any], int]]:
        """What is kept: which list it belongs to, how it is written there, about how many bytes that is."""
        pinned: set[bytes] = set()
        async for key, value in rows("pins"):
            kept = Pin.read(key, value)
            pinned.add(key)
            yield "pins", [kept.cid, kept.name, kept.at, kept.kind], len(key) + len(value) + 16
        for cid, at in await self._shown():
            if bytes(cid) not in pinned:
                yield "pins", [cid, "was published", at, "recursive"], 64
        async for key, _ in rows("streams"):
            name, _, head = key.partition(b"\0")
            yield "streams", [name.decode(), Cid.decode(head)], len(key) + 16
        async for key, value in rows("kv"):
            if not key.startswith(pages.OWN_SPACE):
                yield "values", [key, value], len(key) + len(value) + 16

    async def _shown(self) -> list[tuple[Cid, int]]:
        """What is kept because it is published, since when; whoever brings it back has it as pins."""
        shown: dict[Cid, int] = {}
        async for key, value in rows("apps"):
            shown[Cid.decode(key)] = dagcbor.decode(value)["at"]
        async for key, value in rows("grid", PUBLIC):
            shown.setdefault(Cid.decode(key[len(PUBLIC) :]), dagcbor.decode(value)["at"])
        return list(shown.items())


class Import:
    """One CAR on its way in. Call `close` whatever happens."""

    def __init__(
        self,
        state: State,
        exchange: Exchange,
        collector: Collector,
        pins: Pins,
        adopt: Callable[[Cid], Awaitable[bool]],
        pin: bool,
        name: str,
        restore: bool,
    ) -> None:
        if len(name) > NAME_MAX:
            raise LocalError(f"A pin's name has at most {NAME_MAX} characters.", "bad_args")
        self._state, self._exchange, self._collector = state, exchange, collector
        self._pins, self._adopt, self._pin, self._name = pins, adopt, pin, name
        self._restore = restore
        self._reader = car.CarReader(check=False)
        self._batch: list[Write] = []
        self._waiting_bytes = 0
        self._writing: Strand[None] | None = None
        self._top: dict[str, Any] | None = None
        self._lost: list[Cid] = []
        self._open = True
        collector.holds += 1
        self.blocks = self.bytes = 0

    def close(self) -> None:
        """Collecting may go on."""
        if self._open:
            self._open = False
            self._collector.holds -= 1

    async def take(self, data: bytes) -> None:
        """The next bytes of the file. RemoteError: malformed, bad_block, disk_full."""
        for block in _told(lambda: self._reader.feed(data)):
            await self._take(block)

    async def finish(self) -> Brought:
        """The file is over: everything is durable, then pinned. RemoteError: as `take`, not_found."""
        _told(self._reader.finish)
        await self._flush()
        if self._writing is not None:
            await self._writing.done
        roots = self._reader.roots or ()
        pinned = heads = values = 0
        is_backup = False
        if self._top is not None and (self._restore or await _is_empty()):
            pinned, heads, values = await self._bring_back(self._top)
            is_backup = True
        elif self._pin:
            now = self._state.now_ms // 1000
            for root in dict.fromkeys(roots):
                pinned += await self._keep(Pin(root, self._name, now, "recursive"))
        lost = tuple(dict.fromkeys(self._lost))
        left = self._top is not None and not is_backup
        return Brought(roots, self.blocks, self.bytes, pinned, heads, values, lost, is_backup, left)

    # -- blocks --------------------------------------------------------------------------------------

    async def _take(self, block: Block) -> None:
        cid = block.cid
        if not cid.verifiable:
            raise RemoteError("bad_cid", f"The CAR holds {cid}, whose hash this node cannot check.")
        if not await self._exchange.holds(cid, block.data):
            raise RemoteError("bad_block", f"A block of the CAR is not what its name says: {cid}.")
        self.blocks, self.bytes = self.blocks + 1, self.bytes + len(block.data)
        if self.blocks == 1 and self._reader.roots == (cid,):
            self._top = pages.read_backup(block)
        if cid.hash_code == IDENTITY:
            return
        self._batch.append(Write("blocks", bytes(cid), block.data))
        self._waiting_bytes += len(block.data)
        if self._waiting_bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_BLOCKS:
            await self._flush()

    async def _flush(self) -> None:
        """Begin to write what has gathered, once what was before is written."""
        if self._batch:
            batch, self._batch, self._waiting_bytes = tuple(self._batch), [], 0
            if self._writing is not None:
                await self._writing.done
            self._writing = self._state.scheduler.spawn(self._write(batch))

    async def _write(self, batch: tuple[Write, ...]) -> None:
        self._collector.stored(write.key for write in batch)
        await Commit(batch)

    # -- pins ----------------------------------------------------------------------------------------

    async def _keep(self, pin: Pin) -> bool:
        """Make a pin that is not there yet, once all it keeps is here; whether it was made."""
        if await self._pins.find(pin.cid) is not None:
            return False

        async def writes() -> tuple[Write, ...]:
            return (Write("pins", bytes(pin.cid), pin.record()),)

        try:
            await self._collector.keep(lambda: self._bring(pin), writes)
        except RemoteError as wrong:
            if wrong.code not in ("not_found", "bad_block"):
                raise
            text = f"The CAR does not hold all of its root {pin.cid}, which was not pinned: {wrong.text}"
            raise RemoteError(wrong.code, text) from wrong
        return True

    async def _bring(self, pin: Pin) -> None:
        if pin.kind == "recursive":
            await self._pins.bring(pin.cid, lambda _blocks, _size: None)
        else:
            self._collector.protect(pin.cid)
            await self._exchange.block(pin.cid)

    # -- a backup ------------------------------------------------------------------------------------

    async def _bring_back(self, top: dict[str, Any]) -> tuple[int, int, int]:
        """Pins, heads and keys of a backup that are not here: how many of each. What is lost is noted."""
        pinned = heads = values = 0
        for link in top["pages"]:
            page = pages.read_page(link, await self._exchange.block(link))
            for row in page.get("pins", []) if self._pin else []:
                pinned += await self._or_lost(row[0], self._keep(pages.read_pin(row)))
            for _, head in page.get("streams", []):
                heads += await self._or_lost(head, self._adopt(head))
            values += await self._set(page.get("values", []))
        return pinned, heads, values

    async def _or_lost(self, cid: Cid, step: Awaitable[bool]) -> bool:
        """What a step gives; False, and noted, when what it needs is nowhere."""
        try:
            return await step
        except RemoteError as wrong:
            if wrong.code not in ("not_found", "bad_block"):
                raise
        self._lost.append(cid)
        return False

    async def _set(self, rows: list[list[bytes]]) -> int:
        read = Load("kv", tuple(key for key, _ in rows))
        while rows:
            found = await read
            fresh = [
                Write("kv", key, value)
                for (key, value), there in zip(rows, found, strict=True)
                if there is None
            ]
            if not fresh or await Commit(tuple(fresh), (Seen(read, found),)) is None:
                return len(fresh)
        return 0


async def _is_empty() -> bool:
    """Whether a base has nothing yet that a backup could change."""
    if await Scan("pins", b"", b"", 1) or await Scan("streams", b"", b"", 1):
        return False
    return not await Scan("kv", b"", pages.OWN_SPACE + b"\xff", 1)


def _told(step: Any) -> Any:
    """What reading gives; its error as a refusal."""
    try:
        return step()
    except car.CarError as error:
        raise RemoteError("malformed", f"The CAR cannot be read: {error}.") from error
