"""Files being put, piece by piece: cut here every so many bytes, or by content in `worker/chunker.mjs`."""

from __future__ import annotations

from typing import Any, Final

from promisegrid.chunker import LARGEST, Sized
from promisegrid.errors import LocalError
from promisegrid.unixfs import FileImporter

_SIZE_MAX: Final = 2 * 1024 * 1024
"""Bytes of a chunk: what one block may have."""


class CutImporter(FileImporter):
    """A file whose chunks are told with its bytes."""

    def __init__(self) -> None:
        self._told = _Told()
        super().__init__(self._told)

    def tell(self, size: int, lengths: object) -> None:
        """How the next bytes are cut, all of them: `feed` them next. LocalError when that cannot be."""
        known = isinstance(lengths, list) and all(type(one) is int and 0 < one <= LARGEST for one in lengths)
        if not isinstance(lengths, list) or not known or sum(lengths) != size:
            raise LocalError("A file cut by content comes with the lengths of its chunks.", "bad_args")
        self._told.lengths = lengths


class _Told:
    """A `Chunker` that was told."""

    largest = LARGEST

    def __init__(self) -> None:
        self.lengths: list[int] = []

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """See `Chunker`."""
        lengths, self.lengths = self.lengths, []
        return lengths


def importer(args: Any) -> FileImporter:
    """What `put.open` asks for: {chunker}, "buzhash" or "size-BYTES"; as our profile says without it."""
    name = args.get("chunker") if isinstance(args, dict) else None
    if name is None:
        return FileImporter()
    if name == "buzhash":
        return CutImporter()
    kind, _, size = str(name).partition("-")
    whole = size.isascii() and size.isdecimal() and len(size) < 9
    if kind == "size" and whole and 0 < int(size) <= _SIZE_MAX:
        return FileImporter(Sized(int(size)))
    raise LocalError(f"{name!r:.40} is no chunker: say buzhash, or size-BYTES up to {_SIZE_MAX}.", "bad_args")
