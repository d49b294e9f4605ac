"""Where a file is cut: every so many bytes, or where its content says so.

Cut by content, a byte put into a large file moves one or two cuts and leaves the others where they were, so
that all but a few of its blocks are the ones stored before. The rule is IPFS's buzhash (boxo,
chunker/buzhash.go): a chunk is at least 128 KiB and at most 512 KiB long, and ends where a rolling hash of
its last 32 bytes has 17 zero bits at its end.

`Buzhash` here is the specification, and far too slow for a large file. Hosts use the module `load` gives
(C in `kernel/chunker`, the same bytes on every host); its twins are `promisegrid_node/chunker.py` and
`worker/chunker.mjs`.

Promises: nothing of what a chunker has seen is kept; the same content is cut alike, however it arrives.
Does not know: hashes of blocks, nor how chunks become a file; `unixfs.build` does.
"""

from __future__ import annotations

from importlib import resources
from typing import Final, Protocol

from promisegrid.chunker.table import TABLE
from promisegrid.cid import Cid

SMALLEST: Final = 128 * 1024
LARGEST: Final = 512 * 1024
MASK: Final = (1 << 17) - 1
WINDOW: Final = 32
"""Of buzhash. The window is as long as a word has bits: a byte that leaves it has been rotated all round."""
ROOM: Final = 4 * 1024 * 1024
"""Bytes the module takes at once."""
CHUNKER_CID: Final = "bafkreidptgvedjezcsrxhmfx4o4cznni2fmg5db5zva5w3o6tjej3r6kla"
"""The module, by name: `load` gives these bytes or raises."""

_WORD: Final = (1 << 32) - 1


class Chunker(Protocol):
    """Says where content is cut."""

    @property
    def largest(self) -> int:
        """Bytes of the largest chunk; with so many at hand at least one cut is known."""

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """The lengths of the chunks that these bytes begin with, as far as they are certain.

        last: nothing follows, and all of `data` is cut. No bytes, no chunks.
        """


class Sized:
    """Every `size` bytes."""

    def __init__(self, size: int) -> None:
        assert size > 0
        self.largest = size

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """See `Chunker`."""
        count, rest = divmod(len(data), self.largest)
        return [self.largest] * count + ([rest] if last and rest else [])


class Buzhash:
    """By content, in plain Python: a megabyte takes a tenth of a second."""

    largest = LARGEST

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """See `Chunker`."""
        lengths: list[int] = []
        at = 0
        while at < len(data) and (last or len(data) - at >= LARGEST):
            lengths.append(_first(data[at : at + LARGEST]))
            at += lengths[-1]
        return lengths


def _first(data: memoryview) -> int:
    """The length of the first chunk of so many bytes, which are LARGEST or all there is."""
    if len(data) <= SMALLEST:
        return len(data)
    state = 0
    for byte in data[SMALLEST - WINDOW : SMALLEST]:
        state = ((state << 1 | state >> 31) & _WORD) ^ TABLE[byte]
    at = SMALLEST
    while at < len(data) and state & MASK:
        state = ((state << 1 | state >> 31) & _WORD) ^ TABLE[data[at - WINDOW]] ^ TABLE[data[at]]
        at += 1
    return at


def load() -> bytes:
    """The WebAssembly module. Raises ValueError if the installed file is not the pinned one."""
    data = (resources.files(__name__) / "chunker.wasm").read_bytes()
    if str(Cid.of(data)) != CHUNKER_CID:
        raise ValueError("promisegrid/chunker.wasm is not the pinned module; install promisegrid again")
    return data
