"""Which blocks a trustless gateway's reader wants: those along a path, and of what it ends in a scope.

Promises: only this node's own store is looked into; blocks come in depth-first order, each once unless
repeats are wanted; whatever the blocks claim, memory and time are bounded. A path leads through folders,
sharded or not, and through dag-cbor maps and lists. Does not know: HTTP, nor who may read what.
(Source: IPFS "Trustless Gateway Specification": dag-scope, entity-bytes, dups.)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Literal

from promisegrid import dagcbor, unixfs
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, IDENTITY, Cid
from promisegrid.errors import RemoteError
from promisegrid.exchange import Exchange, links_of
from promisegrid.limits import Limits
from promisegrid.promisebase.archive import Export
from promisegrid.promisebase.walk import Walk, nowhere

_FILE_DEPTH: Final = 32
Scope = Literal["block", "entity", "all"]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file, both ends included; below 0 from its end. `last` None: to the end."""

    first: int
    last: int | None

    def of(self, size: int) -> tuple[int, int]:
        """(start, stop) in a file of so many bytes; stop is not included, and start may be beyond it."""
        start = max(0, size + self.first) if self.first < 0 else self.first
        last = size - 1 if self.last is None else size + self.last if self.last < 0 else self.last
        return start, min(last + 1, size)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader wants of the end of a path. `span` goes with the scope "entity"."""

    scope: Scope = "all"
    span: Span | None = None
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """Where a path led: every block on the way, the first and the last included; the CIDs of its names."""

    blocks: tuple[Block, ...]
    roots: tuple[Cid, ...]

    @property
    def end(self) -> Block:
        """What the path names."""
        return self.blocks[-1]


class Selection:
    """Selects blocks out of one node's store."""

    def __init__(self, exchange: Exchange, limits: Limits) -> None:
        self._exchange, self._limits = exchange, limits

    async def local(self, cid: Cid) -> bytes:
        """A block of this node's own store, verified. RemoteError("not_found")."""
        data = await self._exchange.stored(cid)
        return await nowhere(cid) if data is None else data

    async def path(self, root: Cid, path: str) -> Found:
        """The blocks from a root along a path. RemoteError: not_found, malformed."""
        blocks, roots = [Block(root, await self.local(root))], [root]
        names = [name for name in path.split("/") if name]
        while names:
            at = blocks[-1]
            if at.cid.codec == DAG_CBOR:
                link, names = _through(at, names)
                blocks.append(Block(link, await self.local(link)))
            else:
                link = await self._enter(blocks, names.pop(0))
                if blocks[-1].cid != link:
                    blocks.append(Block(link, await self.local(link)))
            roots.append(link)
        return Found(tuple(blocks), tuple(roots))

    async def _enter(self, blocks: list[Block], name: str) -> Cid:
        """What a name in a folder, the last of the blocks, means; shards on the way are added."""

        async def load(cid: Cid) -> bytes:
            if blocks[-1].cid != cid:
                blocks.append(Block(cid, await self.local(cid)))
            return blocks[-1].data

        folder = blocks[-1].cid
        try:
            return await unixfs.resolve(load, folder, name)
        except unixfs.UnixFsError as error:
            raise RemoteError("not_found", f"{name!r} in {folder}: {error}.") from error

    def car(self, found: Found, wanted: Wanted) -> Export:
        """A CAR of the path's blocks and of what is wanted at its end."""
        export = Export([found.end.cid])
        export.source = self._blocks(found, wanted)
        return export

    async def _blocks(self, found: Found, wanted: Wanted) -> AsyncIterator[Block]:
        seen: set[bytes] = set()
        for block in found.blocks:
            if block.cid.hash_code != IDENTITY and (wanted.repeats or block.cid.encoded not in seen):
                yield block
            seen.add(block.cid.encoded)
        if wanted.scope == "all":
            walk = Walk(self._exchange, self._limits.walk_blocks, repeats=wanted.repeats)
            walk.seen |= set() if wanted.repeats else seen
            source = walk.below(*links_of(found.end.cid, found.end.data))
        elif wanted.scope == "entity":
            source = self._entity(found.end, wanted, seen)
        else:
            return
        async for block in source:
            yield block

    async def _entity(self, end: Block, wanted: Wanted, seen: set[bytes]) -> AsyncIterator[Block]:
        """What is needed to read a file, or to list a folder, besides its first block."""
        item = entity(end)
        if isinstance(item, unixfs.File):
            start, stop = wanted.span.of(item.size) if wanted.span is not None else (0, item.size)
            source = self._file(item, start, stop, wanted, seen)
        elif isinstance(item, unixfs.HamtShard):
            source = self._shards(item, seen)
        else:
            return
        async for block in source:
            yield block

    async def _file(
        self, file: unixfs.File, start: int, stop: int, wanted: Wanted, seen: set[bytes]
    ) -> AsyncIterator[Block]:
        """The blocks that hold bytes from `start` up to `stop` of a file."""
        waiting = _parts(file, 0, 0)
        whole: set[Cid] = set()
        met = 0
        while waiting:
            at, size, depth, cid = waiting.pop()
            inside = start <= at and at + size <= stop
            if not inside and (at >= stop or at + size <= start):
                continue
            if inside and cid in whole and not wanted.repeats:
                continue
            met += 1
            if depth > _FILE_DEPTH or met + len(waiting) > self._limits.walk_blocks:
                raise RemoteError("too_large", f"A file that {cid} is a part of unfolds too far.")
            if inside:
                whole.add(cid)
            block = Block(cid, await self.local(cid))
            if cid.hash_code != IDENTITY and (wanted.repeats or cid.encoded not in seen):
                yield block
            seen.add(cid.encoded)
            part = entity(block)
            if not isinstance(part, unixfs.File) or part.size != size:
                raise RemoteError("bad_file", f"{cid} is not the part of a file that it is linked as.")
            waiting.extend(_parts(part, at, depth + 1))

    async def _shards(self, top: unixfs.HamtShard, seen: set[bytes]) -> AsyncIterator[Block]:
        waiting = [cid for _, cid in reversed(top.shards)]
        while waiting:
            cid = waiting.pop()
            if cid.encoded in seen:
                continue
            seen.add(cid.encoded)
            if len(seen) + len(waiting) > self._limits.walk_blocks:
                raise RemoteError("too_large", f"A folder that {cid} is a shard of has too many.")
            block = Block(cid, await self.local(cid))
            yield block
            item = entity(block)
            if isinstance(item, unixfs.HamtShard):
                waiting.extend(cid for _, cid in reversed(item.shards))


def _parts(file: unixfs.File, at: int, depth: int) -> list[tuple[int, int, int, Cid]]:
    """A file's parts, the last first: (where it begins, its bytes, its level, its CID)."""
    parts, at = [], at + len(file.data)
    for cid, size in file.parts:
        parts.append((at, size, depth, cid))
        at += size
    return parts[::-1]


def entity(block: Block) -> unixfs.Item | None:
    """What a block is as a file or folder; None when it is neither."""
    try:
        return unixfs.parse(block.cid, block.data)
    except unixfs.UnixFsError:
        return None


def _through(block: Block, names: list[str]) -> tuple[Cid, list[str]]:
    """The first link along a path through a dag-cbor block, and the names left. RemoteError("not_found")."""
    value = dagcbor.decode(block.data)
    for place, name in enumerate(names):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(value):
            value = value[int(name[:9])]
        else:
            raise RemoteError("not_found", f"There is no {name!r} in {block.cid}.")
        if isinstance(value, Cid):
            return value, names[place + 1 :]
    raise RemoteError(
        "not_found", f"{'/'.join(names)!r} in {block.cid} is a value inside a block, not a block."
    )
