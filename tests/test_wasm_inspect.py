"""What compiling may cost: ruinous modules are refused, plain ones are not, refused features have names."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import ruinous
from tests.wasm_asm import END, I32, I64, Module, body, call, functype, i32, local_get

from promisegrid.errors import RemoteError
from promisegrid.wasm.binary import uleb
from promisegrid.wasm.inspect import inspect
from promisegrid.wasm.limits import ModuleLimits

LEGAL_BUT_BOUNDED = {"live_values"}
"""Ruinous shapes that no bound refuses at their default size: 2 MB of code, 3 s of compiling."""


def one(code: bytes, locals_: tuple[tuple[int, int], ...] = ()) -> bytes:
    """A module of one function."""
    return ruinous.single(code, locals_)


def refused(data: bytes, limits: ModuleLimits | None = None) -> RemoteError:
    """The refusal of `inspect`."""
    with pytest.raises(RemoteError) as caught:
        inspect(data, limits)
    return caught.value


# -- figures ---------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_largest_function() -> None:
    nested = b"\x02\x40" + b"\x03\x40" + b"\x03\x7f" + i32(1) + END + b"\x1a" + END + END
    table = b"\x02\x40" + local_get(0) + b"\x0e\x02\x00\x00\x00" + END
    module = Module(
        types=[functype([I32], []), functype()],
        functions=[(1, body(nested, [(3, I32), (4, I64)])), (0, body(table))],
    )
    cost = inspect(module.encode())
    assert cost.functions == 2
    assert cost.locals == 7
    assert cost.all_locals == 8
    assert cost.depth == 4
    assert cost.loop_depth == 2
    assert cost.branch_targets == 3
    assert cost.loops_times_locals == 14
    assert cost.depth_times_locals == 28
    assert cost.edges_times_locals == 21
    assert cost.edges == 4
    assert cost.block_values == 0


def test_loops_in_a_row_are_not_nested() -> None:
    cost = inspect(one((b"\x03\x40" + END) * 5 + b"\x03\x40\x02\x40\x03\x40" + END * 3))
    assert cost.loop_depth == 2
    assert cost.depth == 4


def test_values_of_blocks_and_calls_count_where_there_are_several() -> None:
    pair = functype([], [I32, I32])
    code = b"\x02\x01" + call(1) + END + b"\x1a\x1a" + call(1) + b"\x1a\x1a"
    module = Module(types=[functype(), pair], functions=[(0, body(code)), (1, body(i32(1) + i32(2)))])
    cost = inspect(module.encode())
    assert cost.block_values == 2
    assert cost.call_values == 4


# -- ruin ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ruinous.ALL)
def test_a_ruinous_module_is_refused_at_once(name: str) -> None:
    data = ruinous.ALL[name]()
    began = time.process_time()
    if name in LEGAL_BUT_BOUNDED:
        inspect(data)
    else:
        error = refused(data)
        assert error.code == "too_complex"
        assert "limit" in error.text
    assert time.process_time() - began < 10, "time must stay in proportion to the bytes"


def test_many_functions_just_within_their_limits_are_refused_together() -> None:
    limits = ModuleLimits(all_locals=50, all_code_bytes=1_000)
    module = Module(types=[functype()], functions=[(0, body(b"", [(10, I32)]))] * 5)
    inspect(module.encode(), limits)
    module.functions.append(module.functions[0])
    assert "60 locals together" in refused(module.encode(), limits).text
    module.functions = [(0, body(b"\x01" * 300))] * 4
    assert "bytes of code together" in refused(module.encode(), limits).text


@pytest.mark.parametrize(
    ("code", "locals_", "limit"),
    [
        (b"\x02\x40" * 3 + END * 3, 0, "depth"),
        (b"\x02\x40" * 3 + END * 3, 4, "depth_times_locals"),
        (b"\x03\x40" * 2 + END * 2, 5, "loops_times_locals"),
        ((b"\x02\x40" + END) * 12, 0, "edges"),
        ((b"\x02\x40" + END) * 6, 3, "edges_times_locals"),
        (i32(0) + b"\x0e\x0a" + b"\0" * 11, 0, "branch_targets"),
        (b"", 11, "locals"),
        (b"\x01" * 20, 0, "body_bytes"),
        ((b"\x02\x00" + END) * 2, 0, "block_values"),
    ],
)
def test_each_limit_holds_and_only_where_it_is_passed(code: bytes, locals_: int, limit: str) -> None:
    figure = {"depth": 3, "branch_targets": 10, "body_bytes": 12, "locals": 10}.get(limit, 10)
    kinds = [functype([], [I32] * 6)] if limit == "block_values" else [functype()]
    groups = [(locals_, I32)] if locals_ else []
    module = Module(types=kinds, functions=[(0, body(code, groups))]).encode()
    inspect(module)
    tight = {"depth_times_locals": 15, "loops_times_locals": 9, "edges_times_locals": 17}.get(limit, figure)
    assert refused(module, ModuleLimits(**{limit: tight})).code == "too_complex"


# -- refused features ------------------------------------------------------------------------------------

FEATURES = {
    b"\x06\x40" + END: "exception handling",
    b"\x1f\x40\x00" + END: "exception handling",
    b"\x08\x00": "exception handling",
    b"\x12\x00": "tail calls",
    b"\x13\x00\x00": "tail calls",
    b"\x14\x00": "typed references",
    b"\xfb\x00\x00": "garbage collection",
    b"\xfe\x03\x00": "threads",
    b"\xe3\x00": "stack switching",
    b"\xfd\x80\x02": "relaxed SIMD",
    b"\xfd\x93\x02": "relaxed SIMD",
    b"\xfc\x0f\x00": "table.grow",
    b"\xfc\x13": "wide arithmetic",
    b"\xfd\x80\x03": "unknown instruction",
    b"\xfd\x80\x80\x00": "unknown instruction",
    b"\xfc\x80\x00": "unknown instruction",
    b"\x27": "unknown instruction 0x27",
    b"\xff": "unknown instruction 0xff",
    b"\x40\x80\x00": "padded",
    b"\x40\x01": "second memory",
}


@pytest.mark.parametrize("code", FEATURES, ids=bytes.hex)
def test_a_refused_instruction_is_named(code: bytes) -> None:
    error = refused(one(b"\x01" + code + b"\x01" * 5))
    assert error.code == "unsupported"
    assert FEATURES[code] in error.text
    assert error.text.startswith("The module uses ")
    assert error.text.endswith(" (function 0 at byte 31).")


@pytest.mark.parametrize(
    "code",
    [
        b"\x41",
        b"\x44\x00",
        b"\x02",
        b"\x0e\x05\x00",
        b"\xfc",
        b"\xfd\x0c\x00",
        b"\x28\x40\x00\x00",
        b"\xfc\x0b\x01",
    ],
    ids=bytes.hex,
)
def test_a_cut_or_malformed_instruction_is_refused(code: bytes) -> None:
    assert refused(one(code)).code == "invalid_wasm"


def test_a_body_must_end_where_it_says() -> None:
    assert "after the end" in refused(one(END)).text
    assert "cut off" in refused(one(b"\x02\x40")).text
    module = Module(types=[functype()], functions=[(0, b"")]).encode()
    assert refused(module).code == "invalid_wasm"


# -- instructions that hold bytes of others --------------------------------------------------------------

TRICKY = (
    b"\x41\x80\x80\x80\x80\x78\x1a",  # i32.const, five bytes
    b"\x42\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f\x1a",  # i64.const, ten bytes
    b"\x44" + b"\x0b" * 8 + b"\x1a",  # f64.const made of `end`
    b"\x43" + b"\x40\x00" * 2 + b"\x1a",  # f32.const made of memory.grow
    b"\xfd\x0c" + b"\x02\x40" * 8 + b"\x1a",  # v128.const made of blocks
    b"\x41\xc0\x00\x1a",  # i32.const 64
    b"\x02\xc0\x80\x00\x1a" + END,  # a block of type 64, padded
    b"\x41\x00\x28\x02\x8b\x8b\x00\x1a",  # i32.load with an offset that looks like `end`
    b"\x02\x40\x00" + END,  # block, unreachable
    b"\xfc\x0a\x00\x00\xfc\x0b\x00\xfc\x08\x0b\x00\xfc\x09\x0b",
    b"\x1c\x01\x7f\xd0\x70\xd2\x0b\x3f\x00\x25\x0b\x26\x0b\x11\x0b\x0b",
    b"\xfd\x0b\x04\x0b\xfd\x54\x00\x0b\x0b\xfd\x15\x0b\xfd\x80\x01\xfd\xff\x01",
    b"\x40\x00",
)


@given(st.lists(st.sampled_from(TRICKY), max_size=30), st.integers(0, 20))
def test_immediates_are_never_read_as_instructions(pieces: list[bytes], depth: int) -> None:
    """Whatever the bytes of immediates look like, the nesting found is the nesting written."""
    types = [functype()] * 65
    code = b"\x02\x40" * depth + b"".join(pieces) + END * depth
    cost = inspect(ruinous.single(code, types=types))
    blocks = any(piece[0] == 0x02 for piece in pieces)
    assert cost.depth == depth + (1 if blocks else 0) + (1 if depth or blocks else 0)


# -- laws --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_any_code_is_inspected_or_refused(code: bytes) -> None:
    for data in (one(code), Module(types=[functype()], functions=[(0, code)]).encode()):
        try:
            inspect(data)
        except RemoteError:
            continue


def test_time_is_in_proportion_to_the_bytes() -> None:
    """Runs, numbers and tables that stop one byte short of something: no backtracking, no second look."""
    wide = ModuleLimits(body_bytes=1 << 30, branch_targets=1 << 30, edges=1 << 30, depth=1 << 30)
    for piece in (b"\x01", b"\x41\x80", b"\x80", b"\x0e" + uleb(1) + b"\0\0", b"\x02\x40", b"\x03\x80\x80"):
        code = piece * (1_000_000 // len(piece))
        began = time.process_time()
        with contextlib.suppress(RemoteError):
            inspect(one(code), wide)
        assert time.process_time() - began < 10
