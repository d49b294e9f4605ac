"""The guard's rewriting, byte by byte. What rewritten modules do: `tests/node/test_wasm_guarded.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wasm_asm import (
    END,
    FUNC,
    GLOBAL,
    HEADER,
    I32,
    I64,
    MEMORY,
    Module,
    body,
    exported,
    functype,
    i32,
    imported,
    local_get,
    pages,
)

from promisegrid.errors import RemoteError
from promisegrid.wasm.binary import sleb, uleb
from promisegrid.wasm.guard import DEPTH, FUEL, GROW_FLAG, GROW_PAGES, START, guard
from promisegrid.wasm.inspect import bodies, inspect
from promisegrid.wasm.layout import Export, FuncType, Layout, Memory, parse
from promisegrid.wasm.limits import ModuleLimits

GROW = b"\x40\x00"
HELPER = b"\x10\x03"
"""A call of the function appended for growth to the two of `growing()`, after the one for lengths."""


def charge(units: int, fuel: int = 0) -> bytes:
    """Units taken off the fuel."""
    return b"\x23" + uleb(fuel) + b"\x42" + sleb(units) + b"\x7d\x24" + uleb(fuel)


def growing(largest: int | None = None, code: bytes = local_get(0) + GROW) -> Module:
    """`grow(delta) -> old` over a memory of one page; a second function that never grows."""
    return Module(
        types=[functype([I32], [I32])],
        functions=[(0, body(code)), (0, body(local_get(0)))],
        memories=[pages(1, largest)],
        exports=[exported("grow", FUNC, 0), exported("memory", MEMORY, 0)],
    )


def layout_of(data: bytes) -> Layout:
    """The declarations of a module."""
    return parse(data, ModuleLimits())


def codes_of(data: bytes) -> list[bytes]:
    """The function bodies of a module."""
    return [data[start:end] for start, end in bodies(layout_of(data))]


def refused(data: bytes, max_pages: int | None = None) -> RemoteError:
    """The refusal of `guard`."""
    with pytest.raises(RemoteError) as caught:
        guard(data, max_pages)
    return caught.value


def test_a_growth_becomes_a_call_of_an_appended_function() -> None:
    original = growing().encode()
    guarded = guard(original)
    before, after = layout_of(original), layout_of(guarded)
    assert after.functions == (0, 0, 1, 1)
    assert after.types == (*before.types, FuncType(("i32",), ("i32",)))
    assert codes_of(guarded)[0] == body(charge(2) + local_get(0) + HELPER)
    assert codes_of(guarded)[1] == body(charge(1) + local_get(0))
    assert codes_of(guarded)[3].count(local_get(0) + GROW) == 1
    assert after.exports == {
        **before.exports,
        FUEL: Export("global", 0),
        DEPTH: Export("global", 1),
        GROW_FLAG: Export("global", 2),
        GROW_PAGES: Export("global", 3),
    }
    inspect(guarded)


def test_what_is_appended_comes_after_what_is_there() -> None:
    module = growing()
    module.imports = [imported("env", "abort", FUNC, uleb(0)), imported("env", "g", GLOBAL, bytes([I32, 0]))]
    module.globals = [bytes([I32, 1]) + i32(7) + END]
    module.exports[0] = exported("grow", FUNC, 1)
    after = layout_of(guard(module.encode()))
    assert after.exports["grow"] == Export("func", 1)
    assert after.exports[FUEL] == Export("global", 2)
    assert after.exports[GROW_PAGES] == Export("global", 5)
    assert codes_of(guard(module.encode()))[0] == body(charge(2, 2) + local_get(0) + b"\x10\x04")


def test_a_module_without_code_is_left_as_it_is() -> None:
    module = Module(types=[functype()], memories=[pages(1)], exports=[exported("memory", MEMORY, 0)])
    plain = module.encode()
    assert guard(plain) == plain
    assert guard(HEADER) == HEADER
    module.custom = [("name", b"secret")]
    assert guard(module.encode()) == plain, "custom sections are dropped"


def test_a_start_function_becomes_an_export() -> None:
    module = growing()
    module.types.append(functype())
    module.functions.append((1, body(b"")))
    module.start = 2
    after = layout_of(guard(module.encode()))
    assert after.start is None
    assert after.exports[START] == Export("func", 2)


@pytest.mark.parametrize(
    ("code", "rewritten"),
    [
        (i32(0x2000) + GROW, charge(2) + i32(0x2000) + HELPER),  # a number that ends in 0x40
        (
            b"\x44" + GROW * 4 + b"\x1a" + i32(1) + GROW,
            charge(4) + b"\x44" + GROW * 4 + b"\x1a" + i32(1) + HELPER,
        ),
        (
            b"\xfd\x0c" + GROW * 8 + b"\x1a" + i32(1) + GROW,
            charge(4) + b"\xfd\x0c" + GROW * 8 + b"\x1a" + i32(1) + HELPER,
        ),
        (b"\x02\x40\x00" + END + i32(1) + GROW, charge(1) + b"\x02\x40\x00" + END + i32(1) + HELPER),
        (
            b"\x02\x40" + i32(0) + b"\x0e\x02\x40\x00\x00" + END + i32(1) + GROW,
            charge(2) + b"\x02\x40" + i32(0) + b"\x0e\x02\x40\x00\x00" + END + charge(2) + i32(1) + HELPER,
        ),
    ],
    ids=lambda code: code.hex(),
)
def test_only_the_instruction_is_rewritten(code: bytes, rewritten: bytes) -> None:
    assert codes_of(guard(growing(code=code).encode()))[0] == body(rewritten)


def test_every_growth_of_a_body_is_rewritten() -> None:
    code = (i32(1) + GROW + b"\x1a") * 1_000 + i32(0)
    left = b"\x23\x00\x42" + sleb(3_001) + b"\x7d\x22\x01\x24\x00\x20\x01\x42\x00\x53\x04\x40\x00" + END
    expected = body(left + code.replace(GROW, HELPER), [(1, I64)])  # long, so that it is looked at
    assert codes_of(guard(growing(code=code).encode()))[0] == expected


def test_a_padded_or_second_memory_cannot_slip_through() -> None:
    for code in (b"\x40\x80\x00", b"\x40\x80\x80\x80\x80\x00"):
        assert refused(growing(code=i32(1) + code).encode()).code == "unsupported"


def test_locals_that_look_like_a_growth_are_locals() -> None:
    module = growing()
    module.functions[0] = (0, body(local_get(0) + GROW, [(0x40, 0x7F), (0, 0x7F)]))
    expected = body(charge(2) + local_get(0) + HELPER, [(0x40, 0x7F), (0, 0x7F)])
    assert codes_of(guard(module.encode()))[0] == expected


# -- the clamp ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "clamp", "kept"),
    [(None, None, None), (None, 5, 5), (9, 5, 5), (3, 5, 3), (9, None, 9), (None, 1, 1)],
)
def test_the_clamp_is_the_smaller_of_both(declared: int | None, clamp: int | None, kept: int | None) -> None:
    for code in (local_get(0) + GROW, local_get(0)):
        data = guard(growing(declared, code).encode(), clamp)
        assert layout_of(data).memory == Memory(False, 1, kept)


def test_an_imported_memory_is_clamped_where_it_is_imported() -> None:
    module = growing()
    module.memories = []
    module.imports = [
        imported("env", "abort", FUNC, uleb(0)),
        imported("env", "memory", MEMORY, pages(2, 300)),
        imported("env", "g", GLOBAL, bytes([I32, 0])),
    ]
    after = layout_of(guard(module.encode(), 4))
    assert after.memory == Memory(True, 2, 4)
    assert after.imports == layout_of(module.encode()).imports


def test_the_helper_compares_with_the_declared_maximum_not_the_clamp() -> None:
    clamped, free = guard(growing(300).encode(), 5), guard(growing(300).encode())
    assert codes_of(clamped) == codes_of(free)
    assert codes_of(free)[3] != codes_of(guard(growing(301).encode()))[3]


def test_a_module_that_starts_above_the_clamp_is_refused() -> None:
    module = growing()
    module.memories = [pages(10)]
    error = refused(module.encode(), 9)
    assert error.code == "out_of_memory"
    assert "640 KiB" in error.text
    guard(module.encode(), 10)


# -- refusals ----------------------------------------------------------------------------------------------


def test_reserved_names_are_refused() -> None:
    module = growing()
    assert refused(guard(module.encode())).code == "unsupported", "what is guarded is not guarded again"
    module.exports.append(exported("promisegrid:anything", FUNC, 0))
    assert "promisegrid:anything" in refused(module.encode()).text


def test_the_callers_limits_hold() -> None:
    with pytest.raises(RemoteError, match="locals"):
        module = growing()
        module.functions[0] = (0, body(local_get(0) + GROW, [(5, I32)]))
        guard(module.encode(), limits=ModuleLimits(locals=4))


@given(st.binary(max_size=200), st.sampled_from([None, 1, 100]))
def test_any_bytes_are_guarded_or_refused(code: bytes, clamp: int | None) -> None:
    whole = Module(types=[functype()], functions=[(0, code)], memories=[pages(1)]).encode()
    for data in (code, HEADER + code, whole, growing(code=code).encode()):
        try:
            guarded = guard(data, clamp)
        except RemoteError:
            continue
        layout_of(guarded)


@given(st.data())
def test_a_damaged_module_is_guarded_or_refused(draw: st.DataObject) -> None:
    data = bytearray(growing(9, (local_get(0) + GROW + b"\x1a") * 9 + i32(0)).encode())
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(8, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        guard(bytes(data), draw.draw(st.sampled_from([None, 3])))
    except RemoteError:
        return
