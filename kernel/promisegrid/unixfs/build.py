"""From bytes and names to blocks, in the `unixfs-v1-2025` profile: a folder has the CID it has under IPFS.

1 MiB chunks as raw leaves, 1024 links a node, balanced; folders above 256 KiB of block become shards; empty
folders and symbolic links are kept; no mode, no time. A file of one chunk is that one raw block. Nothing is
read or written here: bytes are pushed in, blocks come out, and memory is bounded by one chunk and 1024 links
a level, whatever the file's size. (Source: IPIP-499.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from promisegrid.block import Block
from promisegrid.chunker import Chunker, Sized
from promisegrid.cid import Cid
from promisegrid.unixfs import hamt
from promisegrid.unixfs.node import (
    Entry,
    UnixFsError,
    check_name,
    write_directory,
    write_file,
    write_symlink,
)

CHUNK: Final = 1024 * 1024
"""Bytes of a leaf."""
LINKS: Final = 1024
"""Links of a node of a file."""
DIRECTORY_MAX: Final = 256 * 1024
"""Bytes of a folder's block; a larger one is sharded."""
DEPTH: Final = 256
"""Folders within folders."""

FOLDER, FILE, SYMLINK = 0, 1, 2
TreeNode = tuple[str, int, bytes]
"""Path without a leading slash, kind (FOLDER, FILE, SYMLINK), content or link target."""

_Part = tuple[Cid, int, int]


class FileTree:
    """The nodes above the leaves of one file, made as its leaves become known.

    links: other than the profile's only in tests, where a tall tree should be small.
    """

    def __init__(self, links: int = LINKS) -> None:
        assert links > 1
        self._links = links
        self._levels: list[list[_Part]] = [[]]

    def add(self, leaf: Cid, size: int) -> list[Block]:
        """The file's next leaf, a raw block of so many bytes; answers the nodes it completed."""
        blocks: list[Block] = []
        self._add(0, (leaf, size, size), blocks)
        return blocks

    def finish(self) -> tuple[Cid, int, list[Block]]:
        """The file's CID, its tsize (all its blocks together, for `build_directory`), and the last nodes.

        There was a leaf: an empty file has one, of no bytes.
        """
        blocks: list[Block] = []
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._node(level, blocks)
            level += 1
        cid, _, tsize = self._levels[level][0]
        return cid, tsize, blocks

    def _add(self, level: int, part: _Part, blocks: list[Block]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        parts = self._levels[level]
        parts.append(part)
        if len(parts) == self._links:
            self._node(level, blocks)

    def _node(self, level: int, blocks: list[Block]) -> None:
        parts = self._levels[level]
        block = write_file(parts)
        blocks.append(block)
        size = sum(part[1] for part in parts)
        tsize = len(block.data) + sum(part[2] for part in parts)
        parts.clear()
        self._add(level + 1, (block.cid, size, tsize), blocks)


class FileImporter:
    """Cuts a file into blocks as its bytes arrive. Feed, feed, …, finish; then it is used up.

    chunker: where to cut, every `CHUNK` bytes by default. links: as in `FileTree`.
    """

    def __init__(self, chunker: Chunker | None = None, links: int = LINKS) -> None:
        self._chunker = chunker or Sized(CHUNK)
        self._tree = FileTree(links)
        self._tail = bytearray()
        self.size = 0
        """Bytes fed so far."""

    def feed(self, data: bytes | bytearray | memoryview) -> list[Block]:
        """Take the next bytes, any number of them; answers the blocks they completed."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        blocks: list[Block] = []
        while self._tail and len(view):
            missing = self._chunker.largest - len(self._tail)
            self._tail += view[:missing]
            view = view[missing:]
            if len(self._tail) < self._chunker.largest:
                return blocks
            del self._tail[: self._cut(bytes(self._tail), False, blocks)]
        self._tail += view[self._cut(view, False, blocks) :]
        return blocks

    def finish(self) -> tuple[Cid, int, list[Block]]:
        """The file's CID, its tsize (all its blocks together, for `build_directory`), and the last blocks."""
        blocks: list[Block] = []
        self._cut(bytes(self._tail), True, blocks)
        if not self.size:
            self._leaf(b"", blocks)
        self._tail.clear()
        cid, tsize, nodes = self._tree.finish()
        return cid, tsize, blocks + nodes

    def _cut(self, data: bytes | memoryview, last: bool, blocks: list[Block]) -> int:
        """Make blocks of what these bytes begin with; how many bytes of them are in blocks now."""
        at, view = 0, memoryview(data)
        for length in self._chunker.cut(view, last):
            self._leaf(bytes(view[at : at + length]), blocks)
            at += length
        return at

    def _leaf(self, data: bytes, blocks: list[Block]) -> None:
        block = Block.of(data)
        blocks.append(block)
        blocks.extend(self._tree.add(block.cid, len(data)))


def import_bytes(data: bytes) -> tuple[Cid, list[Block]]:
    """A whole file that is in memory anyway: its CID and blocks."""
    importer = FileImporter()
    blocks = importer.feed(data)
    cid, _, last = importer.finish()
    return cid, blocks + last


def build_directory(entries: Iterable[Entry]) -> tuple[Cid, int, list[Block]]:
    """A folder of things already imported: its CID, its tsize, and its own blocks.

    `tsize` of an entry is what `finish` or this function answered for it (for a `symlink`: `len(data)`);
    it is part of the folder's bytes, so a wrong one gives another CID. Raises `UnixFsError` for bad or
    repeated names.
    """
    known = list(entries)
    block = write_directory(known)
    if len(block.data) > DIRECTORY_MAX:
        root, tsize, blocks = hamt.build(known)
        return root.cid, tsize, blocks
    return block.cid, len(block.data) + sum(entry.tsize for entry in known), [block]


def symlink(target: bytes) -> Block:
    """The one block of a symbolic link; its tsize is `len(data)`."""
    return write_symlink(target)


def import_tree(nodes: Sequence[TreeNode]) -> tuple[Cid, list[Block]]:
    """A whole folder that is in memory anyway: its CID, and its blocks with the root last.

    Folders above a node need not be listed. Raises `UnixFsError` for bad paths, for two nodes with one path,
    and for something inside what is not a folder.
    """
    folders: dict[str, dict[str, Entry]] = {"": {}}
    blocks: dict[Cid, Block] = {}
    leaves: set[str] = set()
    for path, kind, data in nodes:
        if kind == FOLDER:
            _folder(path, folders)
            continue
        parent, slash, name = path.rpartition("/")
        entries = _folder(parent, folders) if slash else folders[""]
        if path in leaves:
            raise UnixFsError(f"{path!r} is there twice")
        leaves.add(path)
        entries[name] = _import_leaf(check_name(name), kind, data, blocks)
    for path in leaves:
        if path in folders:
            raise UnixFsError(f"{path!r} is there as a folder and as something else")
    root = _close(folders, blocks)
    return root, list(blocks.values())


def _folder(path: str, folders: dict[str, dict[str, Entry]]) -> dict[str, Entry]:
    """The entries of the folder at a path, made with those above it when it is new."""
    found = folders.get(path) if path else None
    if found is None:
        if path.count("/") >= DEPTH:
            raise UnixFsError(f"{path[:40]!r}… is nested deeper than {DEPTH} folders")
        at = ""
        for name in path.split("/"):
            at = f"{at}/{check_name(name)}" if at else check_name(name)
            found = folders.setdefault(at, {})
    assert found is not None
    return found


def _import_leaf(name: str, kind: int, data: bytes, blocks: dict[Cid, Block]) -> Entry:
    if kind == SYMLINK:
        block = symlink(data)
        blocks[block.cid] = block
        return Entry(name, block.cid, len(block.data))
    if kind != FILE:
        raise UnixFsError(f"{name!r} is of kind {kind}; 0 is a folder, 1 a file, 2 a symbolic link")
    importer = FileImporter()
    made = importer.feed(data)
    cid, tsize, last = importer.finish()
    blocks.update((block.cid, block) for block in (*made, *last))
    return Entry(name, cid, tsize)


def _close(folders: dict[str, dict[str, Entry]], blocks: dict[Cid, Block]) -> Cid:
    """Build the deepest folders first and enter each in the one above it; answers the root."""
    for path in sorted(folders, key=lambda path: (bool(path), path.count("/")), reverse=True):
        cid, tsize, made = build_directory(folders[path].values())
        blocks.update((block.cid, block) for block in made)
        if not path:
            return cid
        parent, _, name = path.rpartition("/")
        folders[parent][name] = Entry(name, cid, tsize)
    raise AssertionError("a tree has a root")
