"""A hand assembler: just enough of the WebAssembly binary format to say a module in a few lines of Python.

Runs wherever the tests run (no tool, no text format). It writes what it is told, valid or not.
Numbers are bytes of the format: `I32`, opcodes as written in `op(...)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from promisegrid.wasm.binary import sized, sleb, uleb

HEADER = b"\0asm\x01\0\0\0"
I32, I64, F32, F64, V128, FUNCREF, EXTERNREF = 0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F
VOID, END = b"\x40", b"\x0b"
FUNC, TABLE, MEMORY, GLOBAL = range(4)


def section(section_id: int, payload: bytes) -> bytes:
    """One section with its size."""
    return bytes([section_id]) + sized(payload)


def vector(entries: Sequence[bytes]) -> bytes:
    """A vector: its length, then its entries."""
    return uleb(len(entries)) + b"".join(entries)


def functype(params: Sequence[int] = (), results: Sequence[int] = ()) -> bytes:
    """A function type."""
    return b"\x60" + sized(bytes(params)) + sized(bytes(results))


def body(code: bytes, locals_: Sequence[tuple[int, int]] = ()) -> bytes:
    """A function body from its instructions (the last `end` is added) and (count, type) local groups."""
    return vector([uleb(count) + bytes([kind]) for count, kind in locals_]) + code + END


def i32(value: int) -> bytes:
    """`i32.const value`."""
    return b"\x41" + sleb(value)


def local_get(index: int) -> bytes:
    """`local.get index`."""
    return b"\x20" + uleb(index)


def local_set(index: int) -> bytes:
    """`local.set index`."""
    return b"\x21" + uleb(index)


def call(index: int) -> bytes:
    """`call index`."""
    return b"\x10" + uleb(index)


def pages(smallest: int, largest: int | None = None) -> bytes:
    """The limits of a memory or a table."""
    return b"\0" + uleb(smallest) if largest is None else b"\x01" + uleb(smallest) + uleb(largest)


def imported(module: str, name: str, kind: int, what: bytes) -> bytes:
    """One import entry; `what` is a type index or limits."""
    return sized(module.encode()) + sized(name.encode()) + bytes([kind]) + what


def exported(name: str, kind: int, index: int) -> bytes:
    """One export entry."""
    return sized(name.encode()) + bytes([kind]) + uleb(index)


@dataclass(slots=True)
class Module:
    """A module being written. `functions` pairs a type index with a body; entries are ready-made bytes."""

    types: list[bytes] = field(default_factory=list)
    imports: list[bytes] = field(default_factory=list)
    functions: list[tuple[int, bytes]] = field(default_factory=list)
    tables: list[bytes] = field(default_factory=list)
    memories: list[bytes] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    start: int | None = None
    elements: list[bytes] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    custom: list[tuple[str, bytes]] = field(default_factory=list)

    def encode(self) -> bytes:
        """The binary, empty sections left out."""
        out = [HEADER]
        vectors = [
            (1, self.types),
            (2, self.imports),
            (3, [uleb(kind) for kind, _ in self.functions]),
            (4, self.tables),
            (5, self.memories),
            (6, self.globals),
            (7, self.exports),
        ]
        out += [section(number, vector(entries)) for number, entries in vectors if entries]
        if self.start is not None:
            out.append(section(8, uleb(self.start)))
        vectors = [(9, self.elements), (10, [sized(code) for _, code in self.functions]), (11, self.data)]
        out += [section(number, vector(entries)) for number, entries in vectors if entries]
        out += [section(0, sized(name.encode()) + payload) for name, payload in self.custom]
        return b"".join(out)
