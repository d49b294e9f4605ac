"""Rewriting a module so that a growth of memory that is refused ends the program.

A program that is told "no" by `memory.grow` adapts and gives another result: the same task would then mean
different things on a large and a small machine. So every `memory.grow` becomes a call of an appended helper:
past the module's own declared maximum it returns -1, as the specification says; past the exported global
`promisegrid:pages`, or when the engine refuses, it sets the exported global `promisegrid:grow` to 1 and
traps. The host sets `promisegrid:pages` to the budget of each run before it calls anything, so one compiled
module serves every budget; until then, for a start function, 16 MiB more than the minimum are allowed.
`max_pages` also lowers the memory's declared maximum, so that the engine itself holds the line.

Everything is appended and nothing renumbered. Custom sections are dropped. **The engine must have
validated the original module first**: one that is invalid because it names the index after its last
function or global would become valid here.

`Additions` is where a later meter puts its global and helpers: one pass over the code, one place that writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from promisegrid.errors import RemoteError
from promisegrid.wasm import opcodes
from promisegrid.wasm.binary import HEADER, SECTION_ORDER, Reader, sized, sleb, uleb
from promisegrid.wasm.inspect import bodies, locals_of, pass_branch_table
from promisegrid.wasm.layout import PAGES_MAX, Layout, parse
from promisegrid.wasm.limits import ModuleLimits

RESERVED: Final = "promisegrid:"
GROW_FLAG: Final = "promisegrid:grow"
"""The exported global that is 1 after a refused growth."""
GROW_PAGES: Final = "promisegrid:pages"
"""The exported global that holds the budget in pages of 64 KiB; the host sets it before each run."""
_START_PAGES: Final = 256
_I32: Final = b"\x7f"
_TYPE, _IMPORT, _FUNCTION, _MEMORY, _GLOBAL, _EXPORT, _CODE = 1, 2, 3, 5, 6, 7, 10


@dataclass(slots=True)
class Additions:
    """What is appended to a module: encoded entries, and the index each one gets."""

    layout: Layout
    types: list[bytes] = field(default_factory=list)
    functions: list[bytes] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    code: list[bytes] = field(default_factory=list)

    def global_i32(self, export: str, value: int) -> int:
        """A mutable i32, exported; its index."""
        index = self.layout.globals + len(self.globals)
        self.globals.append(_I32 + b"\x01\x41" + sleb(value) + b"\x0b")
        self.exports.append(sized(export.encode()) + b"\x03" + uleb(index))
        return index

    def next_function(self) -> int:
        """The index the next helper will get."""
        return len(self.layout.functions) + len(self.functions)

    def function(self, signature: bytes, body: bytes) -> int:
        """A helper function; its index."""
        index = self.next_function()
        self.functions.append(uleb(len(self.layout.types) + len(self.types)))
        self.types.append(signature)
        self.code.append(sized(body))
        return index


def guard(data: bytes, max_pages: int | None = None, limits: ModuleLimits | None = None) -> bytes:
    """The module with guarded growth, its memory clamped to `max_pages` pages of 64 KiB if given.

    RemoteError: as `inspect`; out_of_memory when the module starts with more than `max_pages`; unsupported
    when it uses a reserved export name.
    """
    limits = limits or ModuleLimits()
    layout = parse(data, limits)
    taken = next((name for name in layout.exports if name.startswith(RESERVED)), None)
    if taken is not None:
        raise RemoteError("unsupported", f"the module exports {taken!r}, a name this grid keeps for itself")
    added = Additions(layout)
    code = _code(layout, added, limits)
    return _write(layout, added, code, max_pages)


def _code(layout: Layout, added: Additions, limits: ModuleLimits) -> bytes | None:
    """The bodies rewritten, as the code section's entries; None when there is nothing to rewrite."""
    places = bodies(layout)
    helper = added.next_function()
    call = b"\x10" + uleb(helper)
    out, changed = [], False
    for number, (start, end) in enumerate(places, layout.imported_functions):
        body = None
        if opcodes.MAY_GROW.search(layout.data, start, end) is not None:
            body = _body(Reader(layout.data, start, end, f"function {number}"), limits, call)
        changed |= body is not None
        out.append(sized(layout.data[start:end] if body is None else body))
    if not changed:
        return None
    smallest = layout.memory.min_pages if layout.memory is not None else 0
    flag = added.global_i32(GROW_FLAG, 0)
    pages = added.global_i32(GROW_PAGES, min(smallest + _START_PAGES, PAGES_MAX))
    made = added.function(b"\x60\x01\x7f\x01\x7f", _grow_helper(layout, flag, pages))
    assert made == helper
    return b"".join(out)


def _body(reader: Reader, limits: ModuleLimits, call: bytes) -> bytes | None:
    """One body with its growths replaced; None when it has none."""
    data, end, copied = reader.data, reader.end, reader.pos
    locals_of(reader, limits)
    pieces: list[bytes] = []
    while reader.pos < end:
        match = opcodes.NEXT_GROW.match(data, reader.pos, end)
        assert match is not None, "the expression matches the empty run"
        reader.pos = match.end()
        if match.start(1) >= 0:
            pieces.extend((data[copied : match.start(1)], call))
            copied = match.end()
        elif reader.pos < end:
            if data[reader.pos] != opcodes.BR_TABLE:
                code, text = opcodes.refusal(data, reader.pos, end)
                raise RemoteError(code, f"{reader.where} at byte {reader.pos}: {text}")
            pass_branch_table(reader, limits)
    return b"".join((*pieces, data[copied:end])) if pieces else None


def _grow_helper(layout: Layout, flag: int, pages: int) -> bytes:
    """`$grow(delta) -> old`: -1 past the declared maximum; a trap past the budget or the engine's."""
    declared = layout.memory.max_pages if layout.memory is not None else None
    most = PAGES_MAX if declared is None else min(declared, PAGES_MAX)
    refuse = b"\x04\x40\x41\x01\x24" + uleb(flag) + b"\x00\x0b"
    return b"".join(
        (
            b"\x02\x01\x7f\x01\x7e",  # local 1: old pages (i32), local 2: wanted pages (i64)
            b"\x3f\x00\xad\x20\x00\xad\x7c\x22\x02",  # wanted = memory.size + delta, unsigned
            b"\x42" + sleb(most) + b"\x56\x04\x40\x41\x7f\x0f\x0b",  # wanted > declared: return -1
            b"\x20\x02\x23" + uleb(pages) + b"\xad\x56" + refuse,  # wanted > budget: refuse
            b"\x20\x00\x40\x00\x22\x01\x41\x7f\x46" + refuse,  # memory.grow gave -1: refuse
            b"\x20\x01\x0b",
        )
    )


def _write(layout: Layout, added: Additions, code: bytes | None, max_pages: int | None) -> bytes:
    """The module again, section by section."""
    out = [HEADER]
    appended = {
        _TYPE: added.types,
        _FUNCTION: added.functions,
        _GLOBAL: added.globals,
        _EXPORT: added.exports,
    }
    for section_id in SECTION_ORDER:
        payload = _payload(layout, section_id, max_pages)
        extra = appended.get(section_id, [])
        if section_id == _CODE and code is not None:
            payload, extra = _count(layout, _CODE)[0] + code, added.code
        if extra:
            payload = _extended(layout, section_id, payload, extra)
        if payload is not None:
            out.append(bytes([section_id]) + sized(payload))
    return b"".join(out)


def _payload(layout: Layout, section_id: int, max_pages: int | None) -> bytes | None:
    """A section's own payload, the memory's limits clamped."""
    section = layout.sections.get(section_id)
    if section is None:
        return None
    memory = layout.memory
    holds_memory = memory is not None and section_id == (_IMPORT if memory.imported else _MEMORY)
    if max_pages is not None and memory is not None and holds_memory:
        if memory.min_pages > max_pages:
            text = f"the module starts with {memory.min_pages * 64} KiB of memory, above {max_pages * 64} KiB"
            raise RemoteError("out_of_memory", text)
        start, end = layout.memory_limits_at
        most = max_pages if memory.max_pages is None else min(memory.max_pages, max_pages)
        clamped = b"\x01" + uleb(memory.min_pages) + uleb(most)
        return layout.data[section.start : start] + clamped + layout.data[end : section.end]
    return layout.data[section.start : section.end]


def _count(layout: Layout, section_id: int) -> tuple[bytes, int, int]:
    """A vector section's length as written, as a number, and where its entries begin."""
    reader = layout.reader(section_id, "a section")
    number = reader.u32()
    start = layout.sections[section_id].start
    return layout.data[start : reader.pos], number, reader.pos - start


def _extended(layout: Layout, section_id: int, payload: bytes | None, extra: list[bytes]) -> bytes:
    """A vector section with entries appended."""
    if payload is None:
        return uleb(len(extra)) + b"".join(extra)
    _, number, at = _count(layout, section_id)
    return uleb(number + len(extra)) + payload[at:] + b"".join(extra)
