"""From CIDs back to bytes and names, one block at a time, from whoever has the blocks.

`load` is handed in: an async function from CID to verified bytes. These are plain coroutines that wait for
nothing else, so any scheduler can drive them. Whoever wrote the blocks may be hostile: sizes are checked
against what is found, empty parts are not followed, and folders, depth and nodes are bounded. Everything
wrong is a `UnixFsError`. Files and folders of any UnixFS profile are read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from promisegrid.cid import RAW, Cid
from promisegrid.unixfs import hamt
from promisegrid.unixfs.build import DEPTH, FILE, FOLDER, SYMLINK, TreeNode
from promisegrid.unixfs.node import (
    Directory,
    Entry,
    File,
    HamtShard,
    Item,
    Symlink,
    UnixFsError,
    check_name,
    parse,
)

Load = Callable[[Cid], Awaitable[bytes]]
"""Where blocks come from: the bytes that a CID holds. What it raises passes through."""

FILE_DEPTH: Final = 32
"""Levels of one file's tree: with two links a node that is 4 billion leaves."""
ENTRIES_MAX: Final = 1 << 18
"""Names in one folder, and shards it may be spread over."""


@dataclass(frozen=True, slots=True)
class TreeLimits:
    """How much of a tree may come into memory: bytes (content, targets, paths), and files and folders."""

    bytes: int = 256 * 1024 * 1024
    nodes: int = 65_536


async def read_file(load: Load, cid: Cid, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
    """The bytes of a file from `start` up to `end` (its whole by default), a leaf at a time.

    A file may say that it is larger than any memory: count, and stop when it is enough.
    """
    root = _as_file(cid, await _parse(load, cid))
    async for piece in _read(load, root, start, root.size if end is None else min(end, root.size)):
        yield piece


async def _read(load: Load, root: File, start: int, stop: int) -> AsyncIterator[bytes]:
    waiting = [_Span(0, 0, root.size, root)]
    while waiting:
        span = waiting.pop()
        at = span.at
        if at >= stop or at + span.size <= start:
            continue
        node = span.what if isinstance(span.what, File) else await _part(load, span.what, span)
        piece = node.data[max(start - at, 0) : max(stop - at, 0)]
        if piece:
            yield piece
        at += len(node.data)
        below = []
        for cid, size in node.parts:
            below.append(_Span(at, span.depth + 1, size, cid))
            at += size
        waiting.extend(reversed(below))


async def read_leaves(load: Load, cid: Cid) -> AsyncIterator[tuple[Cid, int]]:
    """What a file's bytes hash to, in order: (raw CID, bytes). Leaves are not loaded, if they are raw.

    For comparing what somebody has of a file with what it should be. Pieces of no bytes are left out.
    """
    root = _as_file(cid, await _parse(load, cid))
    waiting = [_Span(0, 0, root.size, root)]
    while waiting:
        span = waiting.pop()
        if not span.size:
            continue
        if isinstance(span.what, Cid) and span.what.codec == RAW:
            yield span.what, span.size
            continue
        node = span.what if isinstance(span.what, File) else await _part(load, span.what, span)
        if node.data:
            yield Cid.of(node.data), len(node.data)
        waiting.extend(_Span(0, span.depth + 1, size, part) for part, size in reversed(node.parts))


@dataclass(frozen=True, slots=True)
class _Span:
    """A piece of a file still to be read: where it begins, its level, its size, itself or its CID."""

    at: int
    depth: int
    size: int
    what: File | Cid


async def _part(load: Load, cid: Cid, span: _Span) -> File:
    if span.depth > FILE_DEPTH:
        raise UnixFsError(f"{cid} lies deeper than {FILE_DEPTH} levels in its file")
    part = _as_file(cid, await _parse(load, cid))
    if part.size != span.size:
        raise UnixFsError(f"{cid} has {part.size} bytes where its file says {span.size}")
    return part


async def file_size(load: Load, cid: Cid) -> int:
    """The size a file says it has, in bytes, from its first block. UnixFsError when it is no file."""
    return _as_file(cid, await _parse(load, cid)).size


async def list_directory(load: Load, cid: Cid, entries_max: int = ENTRIES_MAX) -> list[Entry]:
    """The entries of a folder, sharded or not, sorted by the bytes of their names."""
    return await _list(load, cid, await _parse(load, cid), entries_max)


async def _list(load: Load, cid: Cid, item: Item, entries_max: int) -> list[Entry]:
    if isinstance(item, HamtShard):
        return await _list_shards(load, cid, item, entries_max)
    if not isinstance(item, Directory):
        raise UnixFsError(f"{cid} is a {_kind(item)}, not a folder")
    if len(item.entries) > entries_max:
        raise UnixFsError(f"{cid} has more than {entries_max} names")
    return list(item.entries)


async def _list_shards(load: Load, cid: Cid, root: HamtShard, entries_max: int) -> list[Entry]:
    entries: dict[str, Entry] = {}
    waiting: list[tuple[HamtShard | Cid, int]] = [(root, 0)]
    seen = 0
    while waiting:
        what, level = waiting.pop()
        shard = what if isinstance(what, HamtShard) else await _shard(load, what, root.bits, level)
        seen += len(shard.shards)
        for _, entry in shard.entries:
            if entry.name in entries:
                raise UnixFsError(f"{cid} has the name {entry.name!r} twice")
            entries[entry.name] = entry
        if max(seen, len(entries)) > entries_max:
            raise UnixFsError(f"{cid} has more than {entries_max} names or shards")
        waiting.extend((below, level + 1) for _, below in shard.shards)
    return sorted(entries.values(), key=lambda entry: entry.name.encode())


async def _shard(load: Load, cid: Cid, bits: int, level: int) -> HamtShard:
    hamt.slot(0, level, bits)
    item = await _parse(load, cid)
    if not isinstance(item, HamtShard) or item.bits != bits:
        raise UnixFsError(f"{cid} is not the shard of a folder it is linked as")
    return item


async def resolve(load: Load, cid: Cid, path: str) -> Cid:
    """The CID at a path below a folder; slashes at either end do not matter, "" is the folder itself.

    Symbolic links are not followed. UnixFsError says which name is not there.
    """
    names = [name for name in path.split("/") if name]
    if len(names) > DEPTH:
        raise UnixFsError(f"{path[:40]!r}… is nested deeper than {DEPTH} folders")
    at = cid
    for name in names:
        entry = await _find(load, at, check_name(name))
        if entry is None:
            raise UnixFsError(f"there is no {name!r} in {at} (looking for {path!r} in {cid})")
        at = entry.cid
    return at


async def _find(load: Load, cid: Cid, name: str) -> Entry | None:
    item = await _parse(load, cid)
    if isinstance(item, Directory):
        return next((entry for entry in item.entries if entry.name == name), None)
    if not isinstance(item, HamtShard):
        raise UnixFsError(f"{cid} is a {_kind(item)}, not a folder, so {name!r} is not in it")
    digest, level, shard = hamt.murmur3(name.encode()), 0, item
    while True:
        place = hamt.slot(digest, level, item.bits)
        for slot, entry in shard.entries:
            if slot == place:
                return entry if entry.name == name else None
        below = next((link for slot, link in shard.shards if slot == place), None)
        if below is None:
            return None
        level += 1
        shard = await _shard(load, below, item.bits, level)


async def read_tree(load: Load, cid: Cid, limits: TreeLimits | None = None) -> list[TreeNode]:
    """All of a folder: (path, kind, content or link target) in byte order of paths, the root left out."""
    limits = limits or TreeLimits()
    nodes: list[TreeNode] = []
    left = limits.bytes
    waiting = [("", entry) for entry in await list_directory(load, cid, limits.nodes)]
    while waiting:
        if len(nodes) + len(waiting) > limits.nodes:
            raise UnixFsError(f"{cid} has more than {limits.nodes} files and folders")
        parent, entry = waiting.pop()
        path = f"{parent}{entry.name}"
        kind, data, below = await _read_node(load, entry.cid, left, limits.nodes)
        left -= len(path.encode()) + len(data)
        if left < 0:
            raise UnixFsError(f"{cid} has more than {limits.bytes} bytes")
        if below and path.count("/") >= DEPTH:
            raise UnixFsError(f"{cid} is nested deeper than {DEPTH} folders")
        nodes.append((path, kind, data))
        waiting.extend((f"{path}/", inner) for inner in below)
    return sorted(nodes, key=lambda node: node[0].encode())


async def _read_node(load: Load, cid: Cid, left: int, nodes_max: int) -> tuple[int, bytes, list[Entry]]:
    item = await _parse(load, cid)
    if isinstance(item, Symlink):
        return SYMLINK, item.target, []
    if not isinstance(item, File):
        return FOLDER, b"", await _list(load, cid, item, nodes_max)
    if item.size > left:
        raise UnixFsError(f"{cid} has {item.size} bytes where {left} are left")
    return FILE, b"".join([piece async for piece in _read(load, item, 0, item.size)]), []


async def _parse(load: Load, cid: Cid) -> Item:
    return parse(cid, await load(cid))


def _as_file(cid: Cid, item: Item) -> File:
    if not isinstance(item, File):
        raise UnixFsError(f"{cid} is a {_kind(item)}, not a file")
    return item


def _kind(item: Item) -> str:
    if isinstance(item, Symlink):
        return "symbolic link"
    return "file" if isinstance(item, File) else "folder"
