"""Making a module fit to run here: metered, its growth guarded, its memory clamped, its start function ours.

`meter.py` rewrites the code; this file writes the module again around it. Everything is appended and nothing
renumbered; custom sections are dropped. **The engine must have validated the original module first**, and
must validate what comes out.

- A program that is told "no" by `memory.grow` adapts and gives another result: the same task would then mean
  different things on a large and a small machine. So every `memory.grow` becomes a call of a helper: past the
  module's own declared maximum it returns -1, as the specification says; past the exported global
  `promisegrid:pages`, or when the engine refuses, it sets the exported global `promisegrid:grow` to 1 and
  traps. The host sets `promisegrid:pages` before each run, so one compiled module serves every budget.
- A start function would run before anybody could say what it may cost: it becomes the export
  `promisegrid:start`, which the host calls first.
"""

from __future__ import annotations

from typing import Final

from promisegrid import units
from promisegrid.errors import RemoteError
from promisegrid.wasm.additions import Additions
from promisegrid.wasm.binary import HEADER, SECTION_ORDER, sized, uleb
from promisegrid.wasm.layout import Layout, parse
from promisegrid.wasm.limits import ModuleLimits
from promisegrid.wasm.meter import DEPTH, FUEL, GROW_FLAG, GROW_PAGES, RESERVED, UNMETERED, Meter

__all__ = ["DEPTH", "FUEL", "GROW_FLAG", "GROW_PAGES", "START", "UNMETERED", "VERSION", "guard"]
VERSION: Final = 5
"""Raise it when modules come out differently: hosts keep what they made of them under it."""
START: Final = "promisegrid:start"
"""The exported function that was the module's start function, if it had one."""
_TYPE, _IMPORT, _FUNCTION, _MEMORY, _GLOBAL, _EXPORT, _START, _CODE = 1, 2, 3, 5, 6, 7, 8, 10


def guard(
    data: bytes, max_pages: int | None = None, limits: ModuleLimits | None = None, growth: bool = True
) -> bytes:
    """The module metered, its growth guarded unless `growth` is False, its memory clamped to `max_pages`.

    A page is 64 KiB. RemoteError: as `inspect`; out_of_memory when the module starts with more than
    `max_pages`; unsupported when it uses a reserved export name.
    """
    limits = limits or ModuleLimits()
    layout = parse(data, limits)
    taken = next((name for name in layout.exports if name.startswith(RESERVED)), None)
    if taken is not None:
        raise RemoteError("unsupported", f"The module exports {taken!r}, a name this grid keeps for itself.")
    added = Additions(layout)
    code: bytes | None = None
    if _CODE in layout.sections:
        code = Meter(layout, added, limits, growth).code()
    if layout.start is not None:
        added.export_function(START, layout.start)
    return _write(layout, added, code, max_pages)


def _write(layout: Layout, added: Additions, code: bytes | None, max_pages: int | None) -> bytes:
    """The module again, section by section."""
    out = [HEADER]
    appended = {
        _TYPE: list(added.types),
        _FUNCTION: added.functions,
        _GLOBAL: added.globals,
        _EXPORT: added.exports,
    }
    for section_id in SECTION_ORDER:
        if section_id == _START:
            continue
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
            has, most = units.size(memory.min_pages << 16), units.size(max_pages << 16)
            text = f"The module begins with {has} of memory; its budget is {most}."
            raise RemoteError("out_of_memory", text)
        start, end = layout.memory_limits_at
        largest = max_pages if memory.max_pages is None else min(memory.max_pages, max_pages)
        clamped = b"\x01" + uleb(memory.min_pages) + uleb(largest)
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
