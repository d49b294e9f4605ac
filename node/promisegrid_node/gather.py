"""From files on disk to blocks: what `put` reads, and how a folder becomes one CID.

A file is read once, a piece at a time, and cut into blocks here, so that a node is only ever handed blocks,
a few at a time: memory does not grow with a file's size.
Hidden files are left out unless asked for, symbolic links are kept as links, and anything that is neither
file, folder nor link is named and left out.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from promisegrid import unixfs
from promisegrid.block import Block
from promisegrid.chunker import Chunker, Sized
from promisegrid.cid import Cid
from promisegrid.errors import LocalError

READ: Final = 1024 * 1024
"""Bytes read at once: a leaf of our profile, which is then not copied."""
BATCH_BYTES: Final = 4 * 1024 * 1024
"""Of one batch, and of the transaction it becomes; larger ones are no faster."""
BATCH_BLOCKS: Final = 512
DEPTH: Final = 200


@dataclass(slots=True)
class Gathered:
    """What is known once the last piece is out."""

    cid: Cid | None = None
    files: int = 0
    size: int = 0
    stored: int = 0
    """Bytes of blocks that the node did not have before."""
    left_out: list[str] = field(default_factory=list)


class Gatherer:
    """Makes blocks out of a path, in batches. Iterate `batches` to the end, then see `found`.

    chunker: where files are cut; as our profile says by default. on_bytes: told how many were read so far.
    instead: what some files hold, for this purpose.
    """

    def __init__(
        self,
        hidden: bool = False,
        on_bytes: Callable[[int], None] | None = None,
        instead: dict[Path, bytes] | None = None,
        chunker: Chunker | None = None,
    ) -> None:
        self.found = Gathered()
        self._chunker = chunker or Sized(unixfs.CHUNK)
        self._instead = instead or {}
        self._hidden, self._on_bytes = hidden, on_bytes
        self._batch: list[Block] = []
        self._batch_bytes = 0

    def batches(self, source: Path | BinaryIO) -> Iterator[list[Block]]:
        """Blocks of a file, folder or stream, in batches. LocalError names what cannot be read."""
        if isinstance(source, Path):
            self.found.cid, _ = yield from self._path(source, 0, str(source), follow=True)
        else:
            self.found.cid, _ = yield from self._stream(source)
        if self._batch:
            yield self._flush()

    def _path(
        self, path: Path, depth: int, shown: str, follow: bool = False
    ) -> Generator[list[Block], None, tuple[Cid, int]]:
        try:
            info = path.stat() if follow else path.lstat()
            if stat.S_ISLNK(info.st_mode):
                return (yield from self._blocks_of(unixfs.symlink(os.fsencode(os.readlink(path)))))
            if stat.S_ISDIR(info.st_mode):
                return (yield from self._folder(path, depth))
            with self._open(path) as file:
                return (yield from self._stream(file))
        except OSError as error:
            raise LocalError(f"{shown} cannot be read: {error.strerror or error}.") from error

    def _open(self, path: Path) -> BinaryIO:
        return io.BytesIO(self._instead[path]) if path in self._instead else path.open("rb")

    def _folder(self, path: Path, depth: int) -> Generator[list[Block], None, tuple[Cid, int]]:
        if depth >= DEPTH:
            raise LocalError(f"{path} is nested deeper than {DEPTH} folders.")
        entries = []
        for name in sorted(os.listdir(path)):
            inner = path / name
            if name.startswith(".") and not self._hidden:
                continue
            try:
                unixfs.check_name(name)
                name.encode()
            except ValueError as error:
                raise LocalError(f"{str(inner)!r} cannot be named in a folder by CID: rename it.") from error
            mode = inner.lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
                self.found.left_out.append(str(inner))
                continue
            cid, tsize = yield from self._path(inner, depth + 1, str(inner))
            entries.append(unixfs.Entry(name, cid, tsize))
        cid, tsize, blocks = unixfs.build_directory(entries)
        for block in blocks:
            yield from self._add(block)
        return cid, tsize

    def _stream(self, file: BinaryIO) -> Generator[list[Block], None, tuple[Cid, int]]:
        tree, held, more = unixfs.FileTree(), b"", True
        empty = True
        while more:
            data = _read(file)
            more = len(data) == READ
            self._count(len(data))
            data = held + data if held else data
            view, at = memoryview(data), 0
            for length in self._chunker.cut(view, not more):
                leaf = Block.of(data if length == len(data) else bytes(view[at : at + length]))
                at, empty = at + length, False
                yield from self._add(leaf)
                for node in tree.add(leaf.cid, length):
                    yield from self._add(node)
            held = b"" if at == len(data) else bytes(view[at:])
        if empty:
            leaf = Block.of(b"")
            yield from self._add(leaf)
            tree.add(leaf.cid, 0)
        cid, tsize, nodes = tree.finish()
        for node in nodes:
            yield from self._add(node)
        self.found.files += 1
        return cid, tsize

    def _count(self, size: int) -> None:
        self.found.size += size
        if self._on_bytes is not None:
            self._on_bytes(self.found.size)

    def _blocks_of(self, block: Block) -> Generator[list[Block], None, tuple[Cid, int]]:
        yield from self._add(block)
        return block.cid, len(block.data)

    def _add(self, block: Block) -> Iterator[list[Block]]:
        self._batch.append(block)
        self._batch_bytes += len(block.data)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BLOCKS:
            yield self._flush()

    def _flush(self) -> list[Block]:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        return batch


def _read(file: BinaryIO) -> bytes:
    """The next `READ` bytes; fewer only at the end."""
    data = file.read(READ)
    if not data or len(data) == READ:
        return data
    pieces, size = [data], len(data)
    while size < READ and (more := file.read(READ - size)):
        pieces.append(more)
        size += len(more)
    return b"".join(pieces)
