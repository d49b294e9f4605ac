"""From files on disk to blocks: what `put` reads, and how a folder becomes one CID.

A file is read once, a piece at a time, and cut into blocks here, so that a node is only ever handed blocks.
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

from promisegrid import dagcbor, unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError

READ: Final = 1024 * 1024
BATCH_BYTES: Final = 4 * 1024 * 1024
BATCH_BLOCKS: Final = 512
DEPTH: Final = 200


@dataclass(slots=True)
class Gathered:
    """What is known once the last piece is out."""

    cid: Cid | None = None
    files: int = 0
    size: int = 0
    left_out: list[str] = field(default_factory=list)


class Gatherer:
    """Makes the pieces for the verb `save` out of a path. Iterate `pieces` to the end, then see `found`."""

    def __init__(
        self,
        hidden: bool = False,
        on_bytes: Callable[[int], None] | None = None,
        instead: dict[Path, bytes] | None = None,
    ) -> None:
        self.found = Gathered()
        self._instead = instead or {}
        self._hidden, self._on_bytes = hidden, on_bytes
        self._batch: list[Block] = []
        self._batch_bytes = 0

    def pieces(self, source: Path | BinaryIO) -> Iterator[bytes]:
        """Blocks of a file, folder or stream, in batches. LocalError names what cannot be read."""
        if isinstance(source, Path):
            self.found.cid, _ = yield from self._path(source, 0, str(source), follow=True)
        else:
            self.found.cid, _ = yield from self._stream(source)
        if self._batch:
            yield self._flush()

    def _path(
        self, path: Path, depth: int, shown: str, follow: bool = False
    ) -> Generator[bytes, None, tuple[Cid, int]]:
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

    def _folder(self, path: Path, depth: int) -> Generator[bytes, None, tuple[Cid, int]]:
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

    def _stream(self, file: BinaryIO) -> Generator[bytes, None, tuple[Cid, int]]:
        importer = unixfs.FileImporter()
        while data := file.read(READ):
            for block in importer.feed(data):
                yield from self._add(block)
            self.found.size += len(data)
            if self._on_bytes is not None:
                self._on_bytes(self.found.size)
        cid, tsize, blocks = importer.finish()
        for block in blocks:
            yield from self._add(block)
        self.found.files += 1
        return cid, tsize

    def _blocks_of(self, block: Block) -> Generator[bytes, None, tuple[Cid, int]]:
        yield from self._add(block)
        return block.cid, len(block.data)

    def _add(self, block: Block) -> Iterator[bytes]:
        self._batch.append(block)
        self._batch_bytes += len(block.data)
        if self._batch_bytes >= BATCH_BYTES or len(self._batch) >= BATCH_BLOCKS:
            yield self._flush()

    def _flush(self) -> bytes:
        piece = dagcbor.encode([[block.cid, block.data] for block in self._batch])
        self._batch, self._batch_bytes = [], 0
        return piece
