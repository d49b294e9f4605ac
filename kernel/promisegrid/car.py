"""CAR: blocks one after another in one file, as trustless gateways send them, and as backups are kept.

Version 1 is written, with `header` and `frame`. Versions 1 and 2 are read, by pushing bytes into a
`CarReader`, which answers whole, verified blocks and keeps at most one unfinished; of version 2 the CARv1
within is read, never its index. (Source: ipld.io/specs/transport/car: carv1, carv2.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from promisegrid import dagcbor, varint
from promisegrid.block import Block
from promisegrid.cid import Cid, CidError, take

BLOCK_MAX: Final = 2 * 1024 * 1024
"""Bytes of one block: what public networks carry at most."""
_HEADER_MAX: Final = 64 * 1024
_CID_MAX: Final = 160
_LENGTH_MAX: Final = 10
_V2: Final = b"\x0a\xa1gversion\x02"
_V2_FIXED: Final = 40
"""Bytes behind the beginning of a CARv2: 16 of flags, then where the CARv1 begins, its size, its index."""


class CarError(ValueError):
    """Not a CAR, or one whose blocks are not what their CIDs say; the text says where."""


def header(roots: Sequence[Cid]) -> bytes:
    """The beginning of a CAR: its version and its roots."""
    return _frame(dagcbor.encode({"roots": list(roots), "version": 1}))


def frame(block: Block) -> bytes:
    """One block, as it follows the header or another block."""
    return _frame(block.cid.encoded + block.data)


def _frame(data: bytes) -> bytes:
    return varint.encode(len(data)) + data


class _Envelope:
    """Takes off what CARv2 puts around the CARv1 in it; a CARv1 passes as it is."""

    def __init__(self) -> None:
        self._start: bytearray | None = bytearray()
        self._skip = 0
        self._left: int | None = None

    def open(self, data: bytes) -> bytes:
        """What of these bytes belongs to the CARv1."""
        if self._start is not None:
            self._start += data
            if self._start[: len(_V2)] != _V2[: len(self._start)]:
                data, self._start = bytes(self._start), None
            elif len(self._start) < len(_V2) + _V2_FIXED:
                return b""
            else:
                data, self._start = self._fixed(bytes(self._start)), None
        skipped = min(self._skip, len(data))
        self._skip -= skipped
        data = data[skipped:]
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _fixed(self, start: bytes) -> bytes:
        at = len(_V2) + _V2_FIXED
        offset, size = (int.from_bytes(start[n : n + 8], "little") for n in (at - 24, at - 16))
        if offset < at or not 0 < size < 1 << 62 or offset > 1 << 32:
            raise CarError(f"not a CARv2: its CARv1 is said to be {size} bytes at byte {offset}")
        self._skip, self._left = offset - at, size
        return start[at:]

    def finish(self) -> bytes:
        """What was held back. Raises `CarError` when something is missing."""
        if self._skip or self._left:
            missing = self._skip + (self._left or 0)
            raise CarError(f"the CAR is cut off: {missing} bytes of its CARv1 are missing")
        return bytes(self._start or b"")


class CarReader:
    """Reads a CAR as it arrives: feed, feed, …, finish. After a `CarError` it is used up.

    With `check` False the blocks come as they were found: who takes them checks them.
    """

    def __init__(self, block_max: int = BLOCK_MAX, check: bool = True) -> None:
        self._block_max, self._check = block_max, check
        self._envelope = _Envelope()
        self._tail = bytearray()
        self._read = 0
        self.roots: tuple[Cid, ...] | None = None
        """The roots, once the header is here."""

    def feed(self, data: bytes) -> list[Block]:
        """Take the next bytes; answers the blocks they completed, each checked against its CID."""
        self._tail += self._envelope.open(data)
        blocks: list[Block] = []
        at = 0
        while (piece := self._piece(at)) is not None:
            start, at = piece
            content = bytes(self._tail[start:at])
            if self.roots is None:
                self.roots = self._header(content)
            else:
                blocks.append(self._block(content))
        del self._tail[:at]
        self._read += at
        return blocks

    def finish(self) -> None:
        """Say that nothing follows. Raises `CarError` when something should."""
        self._tail += self._envelope.finish()
        if self._tail or self.roots is None:
            raise CarError(f"the CAR is cut off after {self._read + len(self._tail)} bytes")

    def _piece(self, at: int) -> tuple[int, int] | None:
        """Where the piece at `at` begins and ends, None while it is not all here."""
        window = bytes(self._tail[at : at + _LENGTH_MAX])
        if all(byte >= 0x80 for byte in window) and len(window) < _LENGTH_MAX:
            return None
        try:
            length, width = varint.decode(window)
        except varint.VarintError as error:
            raise CarError(f"the CAR is broken at byte {self._read + at}: {error}") from error
        most = _HEADER_MAX if self.roots is None else self._block_max + _CID_MAX
        if not 0 < length <= most:
            place = self._read + at
            raise CarError(f"a piece of {length} bytes at byte {place} of the CAR; 1 to {most} are possible")
        end = at + width + length
        return (at + width, end) if end <= len(self._tail) else None

    def _header(self, data: bytes) -> tuple[Cid, ...]:
        try:
            value = dagcbor.decode(data)
        except dagcbor.DagCborError as error:
            raise CarError(f"not a CAR: its header is {error}") from error
        if not isinstance(value, dict) or value.keys() != {"roots", "version"} or value["version"] != 1:
            raise CarError("not a CARv1: its header is not {roots, version: 1}")
        roots = value["roots"]
        if not isinstance(roots, list) or not all(isinstance(root, Cid) for root in roots):
            raise CarError("not a CARv1: its roots are not CIDs")
        return tuple(roots)

    def _block(self, data: bytes) -> Block:
        try:
            cid, at = take(data, 0)
        except CidError as error:
            raise CarError(f"a block of the CAR has no name: {error}") from error
        block = Block(cid, data[at:])
        if len(block.data) > self._block_max or (self._check and not cid.holds(block.data)):
            raise CarError(f"a block of the CAR is too large, or its bytes do not hash to {cid}")
        return block
