"""Modules made to escape, to ruin or to confuse whoever runs them, and how each one has to end.

Every host runs the same list: `ALL` is a tuple of `Hostile`, plain data but for the function that makes the
bytes. `ends` is the failure's code, at preparing or at running, or "ok" for what is odd and yet allowed.
What ruins a compiler by its size alone is in `tests/ruinous.py`. `python -m tests.hostile FOLDER` writes them
all, with `hostile.json` beside them that says the rest.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests import ruinous
from tests.wasm_asm import (
    END,
    F64,
    FUNC,
    FUNCREF,
    GLOBAL,
    HEADER,
    I32,
    I64,
    MEMORY,
    TABLE,
    Module,
    body,
    call,
    exported,
    functype,
    i32,
    imported,
    local_get,
    local_set,
    pages,
    section,
)

from promisegrid.wasm.binary import sized, sleb, uleb

WASI: Final = "wasi_snapshot_preview1"
MIB: Final = 1 << 20
DROP, UNREACHABLE, RETURN = b"\x1a", b"\x00", b"\x0f"
AGAIN: Final = b"\x0c\x00"


@dataclass(frozen=True, slots=True)
class Hostile:
    """One module and its call: no arguments, the budget below unless said otherwise, and how it must end."""

    make: Callable[[], bytes]
    ends: str
    func: str = "f"
    fuel: int = 20_000_000
    memory: int = 16 * MIB
    output: int = MIB
    time_ms: int = 20_000

    @property
    def name(self) -> str:
        """How tests and benchmarks call it."""
        return self.make.__name__


def module(*codes: bytes, locals_: Sequence[tuple[int, int]] = (), **parts: Any) -> bytes:
    """Functions () -> () with these codes, the first exported as `f`; one page; a table of them all."""
    parts = {"types": [functype()], "memories": [pages(1)], "exports": [exported("f", FUNC, 0)]} | parts
    parts.setdefault("tables", [bytes([FUNCREF]) + pages(len(codes))])
    parts.setdefault("elements", [b"\0" + i32(0) + END + uleb(len(codes)) + bytes(range(len(codes)))])
    return Module(functions=[(0, body(code, locals_)) for code in codes], **parts).encode()


def loop(code: bytes) -> bytes:
    """For ever."""
    return b"\x03\x40" + code + AGAIN + END


# -- never ending ------------------------------------------------------------------------------------------


def endless_loop() -> bytes:
    """The shortest one."""
    return module(loop(b""))


def conditional_loop() -> bytes:
    """No call, no unconditional branch."""
    return module(b"\x03\x40" + i32(1) + b"\x0d\x00" + END)


def loops_in_loops() -> bytes:
    """The inner one jumps to the head of the outer: no loop of its own goes round."""
    return module((b"\x03\x40" * 50) + b"\x0c\x31" + END * 50)


def table_jump_loop() -> bytes:
    """Round and round by `br_table`."""
    return module(b"\x03\x40" + i32(5) + b"\x0e\x02\x00\x00\x00" + END)


def indirect_call_loop() -> bytes:
    """A loop that only calls, through a table, what does nothing."""
    return module(loop(i32(1) + b"\x11\x00\x00"), b"")


def growing_by_nothing() -> bytes:
    """`memory.grow` of no pages, for ever."""
    return module(loop(i32(0) + b"\x40\x00" + DROP))


def start_never_ends() -> bytes:
    """Before anybody called anything."""
    return module(b"", loop(b""), start=1)


def sleeping_for_ever() -> bytes:
    """Waits for a clock, again and again; each wait is over at once."""
    sleep = i32(64) + i32(128) + i32(1) + i32(8) + call(0) + DROP
    event = bytes(16) + (1).to_bytes(8, "little") + (1 << 62).to_bytes(8, "little") + bytes(16)
    return command(loop(sleep), "poll_oneoff", 4, data=(64, event))


def huge_leaf() -> bytes:
    """Three hundred thousand calls of as many square roots: no loop and no recursion anywhere."""
    roots = b"\x44" + bytes(6) + b"\xf0\x3f" + b"\x9f" * 300_000 + DROP
    return module(call(1) * 300_000, roots)


def returns_overdrawn() -> bytes:
    """It ends by itself, having used what it was not given."""
    return module(b"\x01" * 1_000)


# -- long work in one instruction --------------------------------------------------------------------------


def fill_bomb() -> bytes:
    """Fifteen megabytes an instruction."""
    return module(loop(i32(0) + i32(0) + i32(15 * MIB) + b"\xfc\x0b\x00"), memories=[pages(250)])


def copy_bomb() -> bytes:
    """The same, read and written."""
    return module(loop(i32(1) + i32(0) + i32(15 * MIB) + b"\xfc\x0a\x00\x00"), memories=[pages(250)])


def table_fill_bomb() -> bytes:
    """A million references an instruction."""
    tables = [bytes([FUNCREF]) + pages(1_000_000)]
    code = loop(i32(0) + b"\xd0\x70" + i32(1_000_000) + b"\xfc\x11\x00")
    return module(code, tables=tables, elements=[])


def fill_of_everything() -> bytes:
    """Four gigabytes that are not there: paid for before it is seen that they are not."""
    return module(i32(0) + i32(0) + i32(-1) + b"\xfc\x0b\x00")


def random_flood() -> bytes:
    """A megabyte of random bytes a call."""
    return command(loop(i32(0) + i32(MIB) + call(0) + DROP), "random_get", 2, smallest=20)


def reading_the_clock() -> bytes:
    """Cheap calls, without end."""
    kind = functype([I32, I64, I32], [I32])
    return command(loop(i32(0) + b"\x42\x00" + i32(8) + call(0) + DROP), "clock_time_get", kind=kind)


# -- space -------------------------------------------------------------------------------------------------


def memory_bomb() -> bytes:
    """Grows for ever."""
    return module(loop(i32(1) + b"\x40\x00" + DROP))


def memory_at_once() -> bytes:
    """Four gigabytes to begin with."""
    return module(b"", memories=[pages(65_536)])


def memory_to_the_limit() -> bytes:
    """Exactly what it may have; and it looks whether it was given."""
    return module(i32(255) + b"\x40\x00" + i32(1) + b"\x47\x04\x40" + UNREACHABLE + END)


def memory_past_its_own_maximum() -> bytes:
    """Its own bound: told -1, as the specification says, on every host."""
    code = i32(5) + b"\x40\x00" + i32(-1) + b"\x47\x04\x40" + UNREACHABLE + END
    return module(code, memories=[pages(1, 3)])


def deep_recursion() -> bytes:
    """Calls itself."""
    return module(call(0))


def mutual_recursion() -> bytes:
    """Three that call each other, one through the table."""
    return module(call(1), i32(2) + b"\x11\x00\x00", call(0))


def wide_recursion() -> bytes:
    """A thousand locals a frame, all in use."""
    use = b"".join(ruinous.increment(index) for index in range(1_000))
    return module(use + call(0) + use, locals_=[(1_000, I32)])


def recursion_over_operands() -> bytes:
    """Frames that hold hundreds of values nobody declared."""
    values = b"".join(b"\x23\x00" for _ in range(500))
    return module(values + call(0) + DROP * 500, globals=[bytes([I64, 1]) + b"\x42\x00" + END])


def start_recursion() -> bytes:
    """Too deep before anything was called."""
    return module(b"", call(1), start=1)


def output_flood() -> bytes:
    """Prints for ever."""
    text = (16).to_bytes(4, "little") + (40_000).to_bytes(4, "little")
    code = loop(i32(1) + i32(0) + i32(1) + i32(8) + call(0) + DROP)
    return command(code, "fd_write", 4, data=(0, text))


def output_by_a_thousand_vectors() -> bytes:
    """One call that prints a gigabyte."""
    one = (1 << 14).to_bytes(4, "little") + MIB.to_bytes(4, "little")
    code = i32(1) + i32(0) + i32(1024) + i32(8 << 10) + call(0) + DROP
    return command(code, "fd_write", 4, data=(0, one * 1024), smallest=20)


# -- declarations that hurt --------------------------------------------------------------------------------


def table_bomb() -> bytes:
    """Four billion references."""
    return module(b"", tables=[bytes([FUNCREF]) + pages(0xFFFF_FFFF)], elements=[])


def element_bomb() -> bytes:
    """More entries than any program has."""
    one = b"\0" + i32(0) + END + uleb(600_000) + bytes(600_000)
    return module(b"", tables=[bytes([FUNCREF]) + pages(600_000)], elements=[one, one])


def types_without_number() -> bytes:
    """Two million function types."""
    return ruinous.many_types(2_000_000)


def locals_without_number() -> bytes:
    """Four billion locals in six bytes."""
    return module(b"", locals_=[(0xFFFF_FFFF, I64)])


def nested_too_deep() -> bytes:
    """A hundred thousand blocks within each other."""
    return ruinous.deep_blocks()


def nested_loops() -> bytes:
    """31 kilobytes that keep a compiler busy for minutes."""
    return ruinous.nested_loops()


def functions_without_number() -> bytes:
    """A million functions of two bytes."""
    return ruinous.many_functions()


def jump_table_bomb() -> bytes:
    """A million targets."""
    return ruinous.giant_br_table()


# -- lies --------------------------------------------------------------------------------------------------


def not_a_module() -> bytes:
    """A script."""
    return b"#!/bin/sh\nrm -rf /\n"


def truncated() -> bytes:
    """Cut off in its code."""
    return module(b"\x01" * 100)[:-50]


def section_longer_than_the_file() -> bytes:
    """A section that claims four gigabytes."""
    return HEADER + b"\x01" + uleb(0xFFFF_FFFF) + b"\x00"


def vector_longer_than_its_section() -> bytes:
    """Nine thousand types in one byte."""
    return HEADER + section(1, uleb(9_000) + b"\x60")


def body_longer_than_its_section() -> bytes:
    """A body that claims the rest of the file and more."""
    whole = module(b"\x01" * 20)
    return whole.replace(sized(body(b"\x01" * 20)), b"\x7f" + body(b"\x01" * 20))


def sections_twice() -> bytes:
    """The engine might read one and we the other."""
    return HEADER + section(1, b"\x00") * 2


def number_too_long() -> bytes:
    """A number of six bytes."""
    return HEADER + section(1, b"\x80" * 5 + b"\x00")


def bodies_missing() -> bytes:
    """Declared, and not there."""
    return HEADER + section(1, b"\x01" + functype()) + section(3, b"\x01\x00")


def data_out_of_range() -> bytes:
    """A data segment past the end of the memory."""
    return module(b"", data=[b"\0" + i32(65_535) + END + sized(b"ab")])


def elements_out_of_range() -> bytes:
    """An element segment past the end of the table."""
    return module(b"", elements=[b"\0" + i32(7) + END + b"\x01\x00"])


def next_global() -> bytes:
    """Sets the global after its last one: the fuel, were it judged after the rewriting only."""
    return module(b"\x42" + sleb(1 << 60) + b"\x24\x00")


def next_global_exported() -> bytes:
    """Gives away the global after its last one."""
    return module(b"", exports=[exported("f", FUNC, 0), exported("g", GLOBAL, 0)])


def next_function() -> bytes:
    """Calls the function after its last one."""
    return module(i32(0) + call(1) + DROP)


def next_function_in_table() -> bytes:
    """Puts the function after its last one into its table."""
    return module(b"", elements=[b"\0" + i32(0) + END + b"\x01\x01"])


def next_type() -> bytes:
    """Calls through a type after its last one."""
    return module(i32(0) + i32(0) + b"\x11\x01\x00" + DROP)


def next_local() -> bytes:
    """Uses the local after its last one: where the rewriting keeps what is left of the fuel."""
    return module(loop(b"\x42\x00\x21\x00"))


def reserved_export() -> bytes:
    """Exports the name of the fuel."""
    parts = [exported("f", FUNC, 0), exported("promisegrid:fuel", GLOBAL, 0)]
    return module(b"", globals=[bytes([I64, 1]) + b"\x42\x00" + END], exports=parts)


def export_twice() -> bytes:
    """One name, two functions."""
    return module(b"", b"", exports=[exported("f", FUNC, 0), exported("f", FUNC, 1)])


def name_of_no_text() -> bytes:
    """An export whose name is no UTF-8."""
    return module(b"", exports=[exported("f", FUNC, 0), b"\x02\xff\xfe\x00\x00"])


# -- imports that look right -------------------------------------------------------------------------------


def asks(space: str, name: str, kind: bytes | None = None) -> bytes:
    """Imports one function, (i32, i32) -> i32 unless said."""
    types = [functype(), kind or functype([I32, I32], [I32])]
    return Module(
        types=types,
        imports=[imported(space, name, FUNC, uleb(1))],
        functions=[(0, body(b""))],
        exports=[exported("f", FUNC, 1)],
    ).encode()


def import_with_a_space() -> bytes:
    """Not quite the name."""
    return asks(WASI + " ", "random_get")


def import_look_alike() -> bytes:
    """A Cyrillic letter among the Latin ones."""
    return asks("w\u0430si_snapshot_preview1", "random_get")


def import_of_another_signature() -> bytes:
    """The right name, one parameter more."""
    return asks(WASI, "random_get", functype([I32, I32, I32], [I32]))


def import_of_prototypes() -> bytes:
    """What every JavaScript object has."""
    return asks(WASI, "__proto__")


def import_of_a_constructor() -> bytes:
    """The same by another name."""
    return asks(WASI, "constructor")


def import_of_the_kernel() -> bytes:
    """What the WASI module exports besides WASI."""
    return asks(WASI, "k_load")


def import_of_fuel() -> bytes:
    """The fuel, asked for politely."""
    return module(b"", imports=[imported("env", "promisegrid:fuel", GLOBAL, bytes([I64, 1]))])


def import_of_a_table() -> bytes:
    """The table of the gate."""
    return module(b"", imports=[imported("gate", "table", TABLE, bytes([FUNCREF]) + pages(3))], tables=[])


# -- features that are refused -----------------------------------------------------------------------------


def shared_memory() -> bytes:
    """Threads."""
    return module(b"", memories=[b"\x03\x01\x02"])


def atomic_instruction() -> bytes:
    """Threads, without saying so."""
    return module(i32(0) + i32(0) + i32(1) + b"\xfe\x00\x02\x00" + DROP)


def relaxed_simd() -> bytes:
    """Another result on another machine."""
    return module(b"\xfd\x0c" + bytes(16) + b"\xfd\x0c" + bytes(16) + b"\xfd\x80\x02" + DROP)


def wide_memory() -> bytes:
    """64-bit addresses."""
    return module(b"", memories=[b"\x04\x01"])


def two_memories() -> bytes:
    """More than one memory."""
    return module(b"", memories=[pages(1), pages(1)])


def growing_table() -> bytes:
    """`table.grow`."""
    return module(b"\xd0\x70" + i32(1) + b"\xfc\x0f\x00" + DROP)


def padded_growth() -> bytes:
    """`memory.grow` with its memory written in two bytes."""
    return module(i32(1) + b"\x40\x80\x00" + DROP)


def tail_call() -> bytes:
    """A recursion that never gets deeper."""
    return module(b"\x12\x00")


def component() -> bytes:
    """Not a core module."""
    return b"\0asm\x0d\0\x01\0"


# -- odd and allowed ---------------------------------------------------------------------------------------


def padded_numbers() -> bytes:
    """Every number as long as it may be."""
    five = b"\x80\x80\x80\x80\x00"
    code = b"\x41" + five + b"\x21" + five + b"\x02\x40\x0c" + five + END + b"\x20" + five + DROP
    return module(code + b"\x10\x81\x80\x80\x80\x00", b"", locals_=[(1, I32)])


def dead_code() -> bytes:
    """Branches, loops and calls where nothing ever comes."""
    never = b"\x03\x40" + i32(0) + b"\x0d\x00\x0c\x01" + END
    code = b"\x02\x40\x0c\x00" + never + b"\x04\x40\x05\x0c\x01" + END + call(0) + END
    return module(code + RETURN + b"\x03\x40" + AGAIN + END + b"\x0e\x00\x00")


def returns_from_everywhere() -> bytes:
    """`return` with values on the stack, from within loops, to a caller that counts its depth."""
    leave = b"\x03\x40\x02\x40" + i32(7) + i32(0) + RETURN + END + END
    less = local_get(0) + i32(1) + b"\x6b\x22\x00"
    again = i32(9_999) + local_set(0) + b"\x03\x40" + call(1) + less + b"\x0d\x00" + END
    end = b"\x02\x40" + i32(3) + call(1) + RETURN + END + UNREACHABLE
    return module(again + end, leave, locals_=[(1, I32)])


def not_a_number() -> bytes:
    """Makes NaNs of every payload and looks only at what is promised: that they are not themselves."""
    nan = b"\x44" + (0x7FF4_DEAD_BEEF_0001).to_bytes(8, "little")
    itself = b"\x22\x00" + local_get(0) + b"\x61\x04\x40\x00" + END
    code = b"".join(nan + nan + op + itself for op in FLOAT_OPS)
    return module(code, locals_=[(1, F64)])


FLOAT_OPS: Final = tuple(bytes([op]) for op in range(0xA0, 0xA6))
"""f64.add, sub, mul, div, min, max."""


def command(
    code: bytes,
    name: str,
    params: int = 0,
    kind: bytes | None = None,
    data: tuple[int, bytes] = (0, b""),
    smallest: int = 2,
) -> bytes:
    """A WASI command that imports one call of so many i32 parameters."""
    return Module(
        types=[functype(), kind or functype([I32] * params, [I32])],
        imports=[imported(WASI, name, FUNC, uleb(1))],
        functions=[(0, body(code))],
        memories=[pages(smallest)],
        exports=[exported("_start", FUNC, 1), exported("memory", MEMORY, 0)],
        data=[b"\0" + i32(data[0]) + END + sized(data[1])],
    ).encode()


def _each(ends: str, *makes: Callable[[], bytes], func: str = "f") -> tuple[Hostile, ...]:
    return tuple(Hostile(make, ends, func) for make in makes)


_CALLED: Final = (
    *_each("out_of_fuel", endless_loop, conditional_loop, loops_in_loops, table_jump_loop),
    *_each("out_of_fuel", indirect_call_loop, growing_by_nothing, start_never_ends, huge_leaf),
    *_each("out_of_fuel", fill_bomb, copy_bomb, table_fill_bomb, fill_of_everything),
    Hostile(returns_overdrawn, "out_of_fuel", fuel=999),
    *_each("out_of_fuel", sleeping_for_ever, random_flood, reading_the_clock, func="_start"),
    *_each("out_of_memory", memory_bomb, memory_at_once),
    *_each("stack_overflow", deep_recursion, mutual_recursion, wide_recursion),
    *_each("stack_overflow", recursion_over_operands, start_recursion),
    *_each("output_too_large", output_flood, output_by_a_thousand_vectors, func="_start"),
    *_each("trap", data_out_of_range, elements_out_of_range),
    *_each("ok", memory_to_the_limit, memory_past_its_own_maximum, padded_numbers),
    *_each("ok", dead_code, returns_from_everywhere, not_a_number),
)
_REFUSED: Final = (
    *_each("not_wasm", not_a_module),
    *_each("too_complex", table_bomb, element_bomb, types_without_number, locals_without_number),
    *_each("too_complex", nested_too_deep, nested_loops, functions_without_number, jump_table_bomb),
    *_each("invalid_wasm", truncated, section_longer_than_the_file, vector_longer_than_its_section),
    *_each("invalid_wasm", body_longer_than_its_section, sections_twice, number_too_long, bodies_missing),
    *_each("invalid_wasm", next_global, next_global_exported, next_function, next_function_in_table),
    *_each("invalid_wasm", next_type, next_local, export_twice, name_of_no_text),
    *_each("bad_import", import_with_a_space, import_look_alike, import_of_another_signature),
    *_each("bad_import", import_of_prototypes, import_of_a_constructor, import_of_the_kernel),
    *_each("bad_import", import_of_fuel, import_of_a_table),
    *_each("unsupported", reserved_export, shared_memory, atomic_instruction, relaxed_simd, wide_memory),
    *_each("unsupported", two_memories, growing_table, padded_growth, tail_call, component),
)
ALL: Final = _CALLED + _REFUSED
"""Every one; those that are refused never run."""


def write(folder: Path) -> None:
    """Every module as a file, and `hostile.json`: a list of what to call and how it must end."""
    rows = []
    for one in ALL:
        (folder / f"{one.name}.wasm").write_bytes(one.make())
        budget = {"fuel": one.fuel, "memory": one.memory, "output": one.output, "time_ms": one.time_ms}
        rows.append({"name": one.name, "ends": one.ends, "func": one.func, **budget})
    (folder / "hostile.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
