"""Content in and out as CAR files: what a person asked for, or the whole base as a backup.

Out: each block once, a piece at a time, in bounded memory. In: every block is checked against its CID;
nothing is pinned before all that the pin keeps is here and durable; a file that is cut off or lies changes no
pin and no stream. A backup is a CAR whose root says so: `{backup: 1, at, by, pages: [links]}`, each page
`{pins, streams, values}`. Bringing one back adds: it never changes a pin, a stream or a key that is there.

A backup holds no key of a node, no membership, and does not say what was published.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promisegrid import car, dagcbor
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, IDENTITY, Cid
from promisegrid.effects import Commit, Load, Scan, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.promisebase.collect import Collector
from promisegrid.promisebase.pins import NAME_MAX, Pin, Pins
from promisegrid.promisebase.walk import Missing, Walk
from promisegrid.state import State
from promisegrid.strand import Strand

_PIECE: Final = 256 * 1024
_BATCH_BYTES: Final = 4 * 1024 * 1024
_BATCH_BLOCKS: Final = 512
_PAGE_BYTES: Final = 512 * 1024
_ROWS: Final = 256
_OWN_SPACE: Final = b"\0"
"""How the base's own keys begin: they say nothing to another base."""
_BACKUP: Final = frozenset({"backup", "at", "by", "pages"})


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

    def bring(self, pin: bool = True, name: str = "") -> Import:
        """Take a CAR in: feed it with `take`, end it with `finish`."""
        return Import(self._state, self._exchange, self._collector, self._pins, self._adopt, pin, name)

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
        async for key, value in _table("pins"):
            kept = Pin.read(key, value)
            yield "pins", [kept.cid, kept.name, kept.at, kept.kind], len(key) + len(value) + 16
        async for key, _ in _table("streams"):
            name, _, head = key.partition(b"\0")
            yield "streams", [name.decode(), Cid.decode(head)], len(key) + 16
        async for key, value in _table("kv"):
            if not key.startswith(_OWN_SPACE):
                yield "values", [key, value], len(key) + len(value) + 16


async def _table(table: Any) -> AsyncIterator[tuple[bytes, bytes]]:
    after = b""
    while rows := await Scan(table, b"", after, _ROWS):
        after = rows[-1][0]
        for row in rows:
            yield row


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
    ) -> None:
        if len(name) > NAME_MAX:
            raise LocalError(f"A pin's name has at most {NAME_MAX} characters.", "bad_args")
        self._state, self._exchange, self._collector = state, exchange, collector
        self._pins, self._adopt, self._pin, self._name = pins, adopt, pin, name
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
        if self._top is not None:
            pinned, heads, values = await self._bring_back(self._top)
        elif self._pin:
            now = self._state.now_ms // 1000
            for root in dict.fromkeys(roots):
                pinned += await self._keep(Pin(root, self._name, now, "recursive"))
        lost = tuple(dict.fromkeys(self._lost))
        is_backup = self._top is not None
        return Brought(roots, self.blocks, self.bytes, pinned, heads, values, lost, is_backup)

    # -- blocks --------------------------------------------------------------------------------------

    async def _take(self, block: Block) -> None:
        cid = block.cid
        if not cid.verifiable:
            raise RemoteError("bad_cid", f"The CAR holds {cid}, whose hash this node cannot check.")
        if not await self._exchange.holds(cid, block.data):
            raise RemoteError("bad_block", f"A block of the CAR is not what its name says: {cid}.")
        self.blocks, self.bytes = self.blocks + 1, self.bytes + len(block.data)
        if self.blocks == 1 and self._reader.roots == (cid,):
            self._top = _backup(block)
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
            page = _page(link, await self._exchange.block(link))
            for row in page.get("pins", []) if self._pin else []:
                pinned += await self._or_lost(row[0], self._keep(_pin(row)))
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
        keys = tuple(key for key, _ in rows)
        found = await Load("kv", keys) if keys else ()
        fresh = [
            Write("kv", key, value) for (key, value), there in zip(rows, found, strict=True) if there is None
        ]
        if fresh:
            await Commit(tuple(fresh))
        return len(fresh)


def _told(step: Any) -> Any:
    """What reading gives; its error as a refusal."""
    try:
        return step()
    except car.CarError as error:
        raise RemoteError("malformed", f"The CAR cannot be read: {error}.") from error


def _backup(block: Block) -> dict[str, Any] | None:
    """The beginning of a backup; None for any other block."""
    if block.cid.codec != DAG_CBOR:
        return None
    try:
        value = dagcbor.decode(block.data)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.keys() != _BACKUP:
        return None
    if value["backup"] != 1:
        raise RemoteError("malformed", "The CAR is a backup of a later version; bring it back with that one.")
    if not isinstance(value["pages"], list) or not all(isinstance(page, Cid) for page in value["pages"]):
        raise RemoteError("malformed", "The CAR says that it is a backup, and lists no pages.")
    return value


def _page(cid: Cid, data: bytes) -> dict[str, list[Any]]:
    """One page of a backup, its rows of the right kinds. RemoteError("malformed")."""
    kinds = {"pins": (Cid, str, int, str), "streams": (str, Cid), "values": (bytes, bytes)}
    try:
        page = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"The backup's page {cid} cannot be read: {error}.") from error
    if not isinstance(page, dict) or not page.keys() <= kinds.keys():
        raise RemoteError("malformed", f"{cid} is not a page of a backup.")
    for name, rows in page.items():
        if not isinstance(rows, list) or not all(_is_row(row, kinds[name]) for row in rows):
            raise RemoteError("malformed", f"The backup's page {cid} lists {name} that are none.")
    return page


def _is_row(row: object, kinds: tuple[type, ...]) -> bool:
    if not isinstance(row, list) or [type(part) for part in row] != list(kinds):
        return False
    return not (kinds[0] is bytes and (not 0 < len(row[0]) <= 1024 or row[0].startswith(_OWN_SPACE)))


def _pin(row: list[Any]) -> Pin:
    cid, name, at, kind = row
    if len(name) > NAME_MAX or kind not in ("recursive", "direct") or not 0 <= at < 1 << 53:
        raise RemoteError("malformed", f"The backup's pin of {cid} is none.")
    return Pin(cid, name, at, kind)
