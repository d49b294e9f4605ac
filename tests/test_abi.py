"""Arguments and values across the three ABIs: the same on every host, or refused."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid import abi, dagcbor
from promisegrid.errors import RemoteError
from promisegrid.wasm.layout import FuncType, Memory
from promisegrid.wasm.module import ModuleInfo

START = FuncType((), ())
HANDLE = {"handle": FuncType(("i32", "i32"), ("i64",)), "alloc": FuncType(("i32",), ("i32",))}


def info(functions: dict[str, FuncType]) -> ModuleInfo:
    return ModuleInfo((), functions, Memory(False, 1, None), True, False)


def code_of(function: Callable[..., object], *args: object) -> str:
    with pytest.raises(RemoteError) as wrong:
        function(*args)
    return wrong.value.code


def test_the_entry_of_a_module() -> None:
    both = info({"_start": START, **HANDLE})
    assert abi.entry(both) == "_start" and abi.entry(info(HANDLE)) == "handle"
    assert code_of(abi.entry, info({"f": START})) == "no_such_function"
    assert code_of(abi.entry, info({})) == "no_such_function"


def test_how_a_function_is_called_follows_from_the_module() -> None:
    module = info({"_start": START, **HANDLE, "f": FuncType(("f64",), ()), "g": FuncType(("externref",), ())})
    assert [abi.choose(module, name) for name in ("_start", "handle", "f")] == ["command", "handle", "plain"]
    assert code_of(abi.choose, module, "g") == "no_such_function"
    assert code_of(abi.choose, module, "none") == "no_such_function"
    odd = info({"_start": FuncType(("i32",), ())})
    assert abi.choose(odd, "_start") == "plain", "a _start with parameters is no command"


def test_a_command_takes_text() -> None:
    assert abi.command_args(("a", "é", "")) == ["a", "é", ""]
    for args in ((1,), (None,), (b"x",), ("a\0b",)):
        assert code_of(abi.command_args, args) == "bad_args"


@given(
    st.integers(-(2**31), 2**31 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
@settings(max_examples=80, deadline=None)
def test_numbers_come_back_as_they_went(small: int, large: int, real: float) -> None:
    kinds = FuncType(("i32", "i64", "f64"), ("i32", "i64", "f64"))
    words = abi.pack(kinds, (small, large, real))
    assert len(words) == 24 and abi.unpack(kinds, words) == [small, large, real]


def test_an_unsigned_number_is_the_same_bits() -> None:
    kinds = FuncType(("i32", "i64"), ())
    assert abi.pack(kinds, (2**32 - 1, 2**64 - 1)) == abi.pack(kinds, (-1, -1))


@pytest.mark.parametrize(
    ("kind", "arg"),
    [
        ("i32", 2**32), ("i32", -(2**31) - 1), ("i64", 2**64), ("i32", 1.0), ("i32", "1"), ("i32", True),
        ("f64", "1"), ("f64", True), ("f64", None), ("f32", 1e300), ("f64", 10**400),
    ],
)  # fmt: skip
def test_what_does_not_fit(kind: str, arg: object) -> None:
    assert code_of(abi.pack, FuncType((kind,), ()), (arg,)) == "bad_args"


def test_as_many_arguments_as_parameters() -> None:
    for args in ((), (1, 2)):
        assert code_of(abi.pack, FuncType(("i32",), ()), args) == "bad_args"


def test_results() -> None:
    assert abi.unpack(FuncType((), ()), b"") is None
    assert abi.unpack(FuncType((), ("f32",)), struct.pack("<f4x", 0.5)) == 0.5
    for bad in (math.nan, math.inf, -math.inf):
        assert code_of(abi.unpack, FuncType((), ("f64",)), struct.pack("<d", bad)) == "bad_result"
        assert code_of(abi.unpack, FuncType((), ("f32",)), struct.pack("<f4x", bad)) == "bad_result"
    assert code_of(abi.unpack, FuncType((), ("i32",)), b"\0" * 7) == "bad_result"


def test_a_handlers_value() -> None:
    assert abi.handle_value(dagcbor.encode({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
    for bad in (b"", b"\xff", b"\x01\x01", b"\xf9\x7e\x00"):
        assert code_of(abi.handle_value, bad) == "bad_result"
