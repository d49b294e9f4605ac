"""Modules that are legal and ruin whoever compiles them without looking: what a stranger can send.

Each function returns valid WebAssembly bytes; the defaults are the size that hurts, tests may ask for
smaller ones. `ALL` names every kind. `python tests/ruinous.py NAME FILE` writes one to a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.wasm_asm import END, FUNC, I32, I64, Module, body, exported, functype, i32, local_get, local_set

from promisegrid.wasm.binary import sleb, uleb


def single(code: bytes, locals_: Sequence[tuple[int, int]] = (), types: Sequence[bytes] = ()) -> bytes:
    """A module of one exported function () -> () named `f`; `types` follow type 0."""
    return Module(
        types=[functype(), *types], functions=[(0, body(code, locals_))], exports=[exported("f", FUNC, 0)]
    ).encode()


def increment(index: int) -> bytes:
    """`local[index] += 1` for an i32 local."""
    return local_get(index) + i32(1) + b"\x6a" + local_set(index)


def nested_loops(loops: int = 2_000, variables: int = 1_000) -> bytes:
    """Loops inside loops, every local changed in the innermost: each loop head carries each local."""
    inner = b"".join(increment(index) for index in range(variables))
    again = local_get(0) + b"\x0d\x00"
    return single(b"\x03\x40" * loops + inner + (again + END) * loops, [(variables, I32)])


def loop_row(loops: int = 10_000, variables: int = 1_000) -> bytes:
    """Loops one after another, every local changed before and read after."""
    inner = b"".join(increment(index) for index in range(variables))
    loop = b"\x03\x40" + local_get(0) + b"\x0d\x00" + END
    return single(inner + loop * loops + inner, [(variables, I32)])


def diamond_row(diamonds: int = 20_000, variables: int = 1_000) -> bytes:
    """`if … else … end` one after another, each changing another local, all read at the end."""
    row = b"".join(
        local_get(0) + b"\x04\x40" + increment(k % variables) + b"\x05" + increment((k + 1) % variables) + END
        for k in range(diamonds)
    )
    return single(row + b"".join(increment(index) for index in range(variables)), [(variables, I32)])


def deep_blocks(depth: int = 100_000) -> bytes:
    """Blocks inside blocks."""
    return single(b"\x02\x40" * depth + END * depth)


def wide_blocks(blocks: int = 10_000, width: int = 500) -> bytes:
    """Blocks that take and leave hundreds of values each."""
    values = b"".join(i32(k) for k in range(width))
    kind = functype([I32] * width, [I32] * width)
    return single(values + (b"\x03" + uleb(1) + END) * blocks + b"\x1a" * width, types=[kind])


def wide_calls(calls: int = 100_000, width: int = 100) -> bytes:
    """Two bytes a call, hundreds of values each."""
    values = b"".join(i32(k) for k in range(width))
    return Module(
        types=[functype(), functype([I32] * width, [I32] * width)],
        functions=[
            (0, body(values + b"\x10\x01" * calls + b"\x1a" * width)),
            (1, body(b"".join(local_get(k) for k in range(width)))),
        ],
        exports=[exported("f", FUNC, 0)],
    ).encode()


def huge_function(size: int = 7_600_000) -> bytes:
    """One function of straight code, near the engines' own limit."""
    step = b"\x20\x00\x42\x01\x7c\x21\x00"
    return single(step * (size // len(step)), [(1, I64)])


def live_values(size: int = 2_000_000) -> bytes:
    """One function that keeps every value it makes until the end: pressure on registers and stack."""
    count = size // 4
    return single((local_get(0) + b"\x45") * (count) + b"\x6a" * (count - 1) + local_set(0), [(1, I32)])


def many_locals(variables: int = 50_000, functions: int = 2_000) -> bytes:
    """Tens of thousands of locals, a few bytes a function."""
    code = body(b"", [(variables, I64)])
    return Module(
        types=[functype()], functions=[(0, code)] * functions, exports=[exported("f", FUNC, 0)]
    ).encode()


def giant_br_table(targets: int = 1_000_000, tables: int = 1) -> bytes:
    """Jump tables as large as the engines accept."""
    table = b"\x02\x40" + local_get(0) + b"\x0e" + uleb(targets) + b"\0" * (targets + 1) + END
    return single(table * tables, [(1, I32)])


def table_to_everywhere(depth: int = 2_000, tables: int = 500) -> bytes:
    """Blocks inside blocks and, within, jump tables that each lead to all of them: edges × locals."""
    table = local_get(0) + b"\x0e" + uleb(depth - 1) + b"".join(uleb(k) for k in range(depth))
    inside = (b"\x02\x40" + table + END) * tables
    return single(b"\x02\x40" * depth + inside + END * depth, [(1, I32)])


def staircase(depth: int = 1_000, variables: int = 1_000) -> bytes:
    """Blocks inside blocks, a jump to every end from the innermost, a local changed after each end."""
    jump = local_get(0) + b"\x0e" + uleb(depth - 1) + b"".join(uleb(k) for k in range(depth))
    ends = b"".join(END + increment(k % variables) for k in range(depth))
    reads = b"".join(increment(index) for index in range(variables))
    return single(b"\x02\x40" * depth + jump + ends + reads, [(variables, I32)])


def exits(branches: int = 5_000, variables: int = 1_000) -> bytes:
    """Branches out of one block, a local changed before each: every edge carries every local."""
    row = b"".join(increment(k % variables) + local_get(0) + b"\x0d\x00" for k in range(branches))
    reads = b"".join(increment(index) for index in range(variables))
    return single(b"\x02\x40" + row + END + reads, [(variables, I32)])


def interpreter(cases: int = 2_000, variables: int = 1_000) -> bytes:
    """A loop over a jump table whose every case changes one local and starts again."""
    jump = local_get(0) + b"\x0e" + uleb(cases - 1) + b"".join(uleb(k) for k in range(cases))
    ends = b"".join(END + increment(k % variables) + b"\x0c" + uleb(cases - 1 - k) for k in range(cases))
    reads = b"".join(increment(index) for index in range(variables))
    return single(b"\x03\x40" + b"\x02\x40" * cases + jump + ends + END + reads, [(variables, I32)])


def many_functions(functions: int = 1_000_000) -> bytes:
    """A million functions of two bytes."""
    return Module(types=[functype()], functions=[(0, body(b""))] * functions).encode()


def many_types(types: int = 1_000_000) -> bytes:
    """A million function types."""
    return Module(types=[functype()] * types).encode()


def many_globals(count: int = 1_000_000) -> bytes:
    """A million globals."""
    return Module(globals=[bytes([I32, 1]) + b"\x41" + sleb(0) + END] * count).encode()


ALL: dict[str, Callable[[], bytes]] = {
    make.__name__: make
    for make in (
        nested_loops,
        loop_row,
        diamond_row,
        deep_blocks,
        wide_blocks,
        wide_calls,
        huge_function,
        live_values,
        many_locals,
        staircase,
        exits,
        interpreter,
        giant_br_table,
        table_to_everywhere,
        many_functions,
        many_types,
        many_globals,
    )
}

if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(ALL[sys.argv[1]]())
