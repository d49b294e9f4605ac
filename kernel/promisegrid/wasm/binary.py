"""Reading and writing the small parts of the WebAssembly binary format: LEB128, names, sections.

Promises: no read past the end of what it was given, no number longer than the format allows, one
sentence with the byte and the section when something is wrong. Every read costs time in proportion
to the bytes it passes. Does not know what a section means.

Source: WebAssembly Core Specification 2.0, chapter 5 (binary format).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

from promisegrid.errors import RemoteError

MAGIC: Final = b"\0asm"
VERSION: Final = b"\x01\0\0\0"
HEADER: Final = MAGIC + VERSION
SECTION_NAMES: Final = {
    0: "custom",
    1: "type",
    2: "import",
    3: "function",
    4: "table",
    5: "memory",
    6: "global",
    7: "export",
    8: "start",
    9: "element",
    10: "code",
    11: "data",
    12: "data count",
}
EXCEPTIONS: Final = "The module uses exception handling (a tag section), which is refused; build it without."
SECTION_ORDER: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11)
"""The one order in which non-custom sections may appear (5.5.2 and 5.5.16)."""


def uleb(value: int) -> bytes:
    """An unsigned LEB128 number, shortest form."""
    assert value >= 0, value
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def sleb(value: int) -> bytes:
    """A signed LEB128 number, shortest form: what `i32.const` and `i64.const` carry."""
    out = bytearray()
    while not -0x40 <= value <= 0x3F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value & 0x7F)
    return bytes(out)


def sized(payload: bytes) -> bytes:
    """A byte vector: its length, then the bytes (names, function bodies)."""
    return uleb(len(payload)) + payload


@dataclass(frozen=True, slots=True)
class Section:
    """Where one section's payload lies in the module: `data[start:end]`."""

    id: int
    start: int
    end: int


class Reader:
    """A cursor over `data[pos:end]` that refuses instead of running past `end`."""

    __slots__ = ("data", "end", "pos", "where")

    def __init__(self, data: bytes, pos: int, end: int, where: str) -> None:
        """`where` names the place in sentences ("the import section")."""
        self.data = data
        self.pos = pos
        self.end = end
        self.where = where

    def fail(self, what: str, code: str = "invalid_wasm") -> NoReturn:
        """Refuse with a sentence made of `what`, a clause without its full stop, and the place."""
        raise RemoteError(code, f"{what[0].upper()}{what[1:]} ({self.where} at byte {self.pos}).")

    def refuse(self, feature: str) -> NoReturn:
        """Refuse what is legal elsewhere, by its name."""
        self.fail(f"the module uses {feature}, which is refused; build it without", "unsupported")

    def byte(self) -> int:
        """One byte."""
        pos = self.pos
        if pos >= self.end:
            self.fail("the module is truncated: more is announced than there is")
        self.pos = pos + 1
        return self.data[pos]

    def u32(self) -> int:
        """An unsigned LEB128 number below 2**32, in at most five bytes (padding is legal, 5.2.2)."""
        first = self.byte()
        if first < 0x80:
            return first
        value = first & 0x7F
        for shift in (7, 14, 21, 28):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        else:
            self.fail("a number takes more than five bytes")
        if value >= 1 << 32:
            self.fail("a number does not fit 32 bits")
        return value

    def count(self, what: str, limit: int) -> int:
        """The length of a vector of `what`, refused above `limit` or the bytes that are left."""
        count = self.u32()
        if count > limit:
            self.fail(f"there are {count:,} {what}, above this node's limit of {limit:,}", "too_complex")
        if count > self.end - self.pos:
            self.fail(f"the module is truncated: {count:,} {what} do not fit in what follows")
        return count

    def skip(self, size: int) -> int:
        """Pass `size` bytes; their start."""
        start = self.pos
        if size > self.end - start:
            self.fail(f"the module is truncated: {size:,} bytes are announced, {self.end - start:,} are left")
        self.pos = start + size
        return start

    def name(self) -> str:
        """A UTF-8 name."""
        size = self.u32()
        start = self.skip(size)
        try:
            return self.data[start : self.pos].decode()
        except UnicodeDecodeError:
            self.fail("a name is not UTF-8")

    def done(self) -> None:
        """Refuse anything left over."""
        if self.pos != self.end:
            self.fail(f"there are {self.end - self.pos:,} bytes more than its content")


def check_header(data: bytes) -> None:
    """Refuse what is not a core module of version 1, and say what it is instead when known."""
    if data[:4] != MAGIC:
        raise RemoteError("not_wasm", "This is not a WebAssembly module: it does not begin with \\0asm.")
    if len(data) < 8:
        raise RemoteError("invalid_wasm", "The module is truncated inside its header of 8 bytes.")
    if data[4:8] == VERSION:
        return
    if data[6:8] == b"\x01\0":
        raise RemoteError(
            "unsupported",
            "This is a component, which is refused: extract or build the core module (wasip1) instead.",
        )
    version = int.from_bytes(data[4:8], "little")
    raise RemoteError("unsupported", f"This is WebAssembly version {version}; version 1 is read.")


def sections(data: bytes, customs_max: int) -> dict[int, Section]:
    """Every non-custom section by id, each at most once and in order. Custom sections are passed over."""
    check_header(data)
    reader = Reader(data, 8, len(data), "a section header")
    found: dict[int, Section] = {}
    rank, customs = -1, 0
    while reader.pos < reader.end:
        reader.where = "a section header"
        section_id = reader.byte()
        if section_id == 13:
            raise RemoteError("unsupported", EXCEPTIONS)
        if section_id not in SECTION_NAMES:
            reader.fail(f"section {section_id} is unknown", "unsupported")
        reader.where = f"the {SECTION_NAMES[section_id]} section"
        size = reader.u32()
        start = reader.skip(size)
        if section_id == 0:
            customs += 1
            if customs > customs_max:
                reader.fail(f"there are more than {customs_max:,} custom sections", "too_complex")
            continue
        if SECTION_ORDER.index(section_id) <= rank:
            reader.fail("a section comes twice, or out of order")
        rank = SECTION_ORDER.index(section_id)
        found[section_id] = Section(section_id, start, reader.pos)
    return found
