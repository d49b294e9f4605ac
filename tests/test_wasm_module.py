"""What a module declares, read from hand-made modules: ABIs, memories, imports, and all that is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wasm_asm import (
    END,
    EXTERNREF,
    F32,
    F64,
    FUNC,
    FUNCREF,
    GLOBAL,
    HEADER,
    I32,
    I64,
    MEMORY,
    TABLE,
    V128,
    Module,
    body,
    exported,
    functype,
    i32,
    imported,
    local_get,
    pages,
    section,
    vector,
)

from promisegrid.errors import RemoteError
from promisegrid.wasm.binary import Reader, sized, sleb, uleb
from promisegrid.wasm.layout import FuncType, Import, Memory
from promisegrid.wasm.limits import ModuleLimits
from promisegrid.wasm.module import WASI_CALLS, ModuleInfo, check_imports, describe


def refused(data: bytes, limits: ModuleLimits | None = None) -> RemoteError:
    """The refusal of `describe`."""
    with pytest.raises(RemoteError) as caught:
        describe(data, limits)
    return caught.value


def handler() -> Module:
    """A handler: alloc, handle, a memory; it also imports one WASI call."""
    return Module(
        types=[functype([I32], [I32]), functype([I32, I32], [I64]), functype([I32, I32], [I32])],
        imports=[imported("wasi_snapshot_preview1", "random_get", FUNC, uleb(2))],
        functions=[(0, body(i32(0))), (1, body(b"\x42\x00"))],
        memories=[pages(1, 16)],
        exports=[exported("memory", MEMORY, 0), exported("alloc", FUNC, 1), exported("handle", FUNC, 2)],
    )


# -- what is told ---------------------------------------------------------------------------------------


def test_a_handler_is_told_by_its_exports() -> None:
    info = describe(handler().encode())
    assert info.is_handler
    assert not info.is_command
    assert info.memory == Memory(False, 1, 16)
    assert info.functions == {
        "alloc": FuncType(("i32",), ("i32",)),
        "handle": FuncType(("i32", "i32"), ("i64",)),
    }
    assert info.imports == (
        Import("wasi_snapshot_preview1", "random_get", "func", FuncType(("i32", "i32"), ("i32",))),
    )
    assert info.uses_wasi


def test_a_handler_needs_its_memory_under_its_name() -> None:
    module = handler()
    module.exports[0] = exported("heap", MEMORY, 0)
    assert not describe(module.encode()).is_handler


def test_a_command_is_told_by_start_without_parameters() -> None:
    module = Module(
        types=[functype(), functype([I32])],
        functions=[(0, body(b"")), (1, body(b""))],
        exports=[exported("_start", FUNC, 0), exported("_initialize", FUNC, 0)],
    )
    info = describe(module.encode())
    assert info.is_command
    assert info.has_initialize
    assert info.memory is None
    module.exports = [exported("_start", FUNC, 1), exported("_initialize", FUNC, 1)]
    info = describe(module.encode())
    assert not info.is_command
    assert not info.has_initialize


def test_a_start_function_is_told() -> None:
    module = Module(types=[functype()], functions=[(0, body(b""))])
    assert not describe(module.encode()).has_start
    module.start = 0
    assert describe(module.encode()).has_start


def test_every_value_type_is_named() -> None:
    kinds = [I32, I64, F32, F64, V128, FUNCREF, EXTERNREF]
    module = Module(types=[functype(kinds, [])], functions=[(0, body(b""))], exports=[exported("f", FUNC, 0)])
    assert describe(module.encode()).functions["f"].params == (
        "i32",
        "i64",
        "f32",
        "f64",
        "v128",
        "funcref",
        "externref",
    )


def test_an_imported_memory_is_told() -> None:
    module = Module(imports=[imported("env", "memory", MEMORY, pages(2))])
    info = describe(module.encode())
    assert info.memory == Memory(True, 2, None)
    check_imports(info)


def test_every_form_of_segment_is_passed() -> None:
    """The eight forms of element segments and three of data segments (5.5.12, 5.5.14)."""
    zero = i32(0) + END
    reference = b"\xd2\x00" + END
    module = Module(
        types=[functype()],
        functions=[(0, body(b""))],
        tables=[bytes([FUNCREF]) + pages(10)],
        memories=[pages(1)],
        globals=[
            bytes([I64, 1]) + b"\x42" + sleb(-(1 << 63)) + END,
            bytes([F64, 0]) + b"\x44" + b"\x0b" * 8 + END,
            bytes([V128, 0]) + b"\xfd\x0c" + b"\x0b" * 16 + END,
            bytes([FUNCREF, 0]) + b"\xd0\x70" + END,
        ],
        elements=[
            b"\x00" + zero + vector([b"\x00"]),
            b"\x01\x00" + vector([b"\x00"]),
            b"\x02\x00" + zero + b"\x00" + vector([b"\x00"]),
            b"\x03\x00" + vector([b"\x00"]),
            b"\x04" + zero + vector([reference]),
            b"\x05\x70" + vector([reference]),
            b"\x06\x00" + zero + b"\x70" + vector([reference]),
            b"\x07\x70" + vector([reference]),
        ],
        data=[b"\x00" + zero + sized(b"abc"), b"\x01" + sized(b"abc"), b"\x02\x00" + zero + sized(b"abc")],
        exports=[exported("g", GLOBAL, 0), exported("t", TABLE, 0), exported("f", FUNC, 0)],
    )
    assert list(describe(module.encode()).functions) == ["f"]


def test_info_survives_being_written_down() -> None:
    infos = [
        describe(handler().encode()),
        describe(Module(imports=[imported("env", "memory", MEMORY, pages(2))]).encode()),
        describe(HEADER),
    ]
    for info in infos:
        assert ModuleInfo.from_value(info.to_value()) == info


# -- imports ---------------------------------------------------------------------------------------------


def test_preview_1_has_46_calls() -> None:
    assert len(WASI_CALLS) == 46
    assert WASI_CALLS["path_open"].params == ("i32",) * 5 + ("i64", "i64", "i32", "i32")
    assert WASI_CALLS["proc_exit"] == FuncType(("i32",), ())


def importing(*imports: bytes) -> bytes:
    """A module of imports; types 0 to 2 are () -> (), abort's, and random_get's."""
    kinds = [functype(), functype([I32] * 4), functype([I32, I32], [I32])]
    return Module(types=kinds, imports=list(imports)).encode()


def test_what_is_offered_may_be_imported() -> None:
    check_imports(
        describe(
            importing(
                imported("env", "abort", FUNC, uleb(1)),
                imported("wasi_snapshot_preview1", "random_get", FUNC, uleb(2)),
            )
        )
    )


def test_every_import_not_offered_is_named() -> None:
    data = importing(
        imported("env", "abort", FUNC, uleb(0)),
        imported("wasi_snapshot_preview1", "random_get", FUNC, uleb(0)),
        imported("wasi_snapshot_preview1", "sock_open", FUNC, uleb(0)),
        imported("gojs", "\x1b[2J" + "x" * 500, FUNC, uleb(0)),
        imported("env", "table", TABLE, bytes([FUNCREF]) + pages(1)),
    )
    with pytest.raises(RemoteError) as caught:
        check_imports(describe(data))
    assert caught.value.code == "bad_import"
    text = caught.value.text
    assert "'gojs.\\x1b[2Jxxx" in text
    for name in ("env.abort", "random_get as () -> ()", "sock_open", "env.table as table"):
        assert name in text
    assert len(text) < 400
    assert text.isprintable()


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("wasi_snapshot_preview1 ", "'wasi_snapshot_preview1 .random_get'"),
        ("w\u0430si_snapshot_preview1", "'w\\u0430si_snapshot_preview1.random_get'"),
    ],
)
def test_a_name_that_looks_like_another_is_spelled_out(space: str, told: str) -> None:
    with pytest.raises(RemoteError) as caught:
        check_imports(describe(importing(imported(space, "random_get", FUNC, uleb(2)))))
    assert f"asks for {told}, which is not offered" in caught.value.text


# -- what is not read -------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\0", b"\x7fELF", b"#!/bin/sh\n", b"(module)", b"\0ASM\1\0\0\0"])
def test_not_wasm(data: bytes) -> None:
    assert refused(data).code == "not_wasm"


def test_a_component_is_named() -> None:
    error = refused(b"\0asm\x0d\0\x01\0")
    assert error.code == "unsupported"
    assert "component" in error.text


TYPES = section(1, vector([functype()]))
UNSUPPORTED = {
    "threads": section(5, b"\x01\x03\x01\x02"),
    "memory64": section(5, b"\x01\x04\x01"),
    "64-bit table": section(4, b"\x01\x70\x04\x01"),
    "more than one memory": section(5, vector([pages(1), pages(1)])),
    "exception handling (a tag": section(5, vector([pages(1)])) + section(13, b"\x01\0\0"),
    "exception handling (an imported": TYPES + section(2, vector([imported("e", "t", 4, b"\0\0")])),
    "exception handling (an exported": section(7, vector([exported("t", 4, 0)])),
    "garbage collection": section(1, vector([b"\x5f\0"])),
    "typed references": section(1, vector([functype([0x64])])),
    "shared globals": section(6, vector([bytes([I32, 2]) + i32(0) + END])),
    "Section 14 is unknown": section(14, b""),
    "An initial value": section(6, vector([bytes([I32, 0]) + b"\xfb\x1c" + END])),
    "a table with an initial value": section(4, b"\x01\x40\0\x70\0\x01" + i32(0) + END),
}


@pytest.mark.parametrize("feature", UNSUPPORTED)
def test_a_feature_that_is_refused_is_named(feature: str) -> None:
    error = refused(HEADER + UNSUPPORTED[feature])
    assert error.code == "unsupported"
    assert feature in error.text
    assert error.text.endswith(".") and error.text[0].isupper()


INVALID = {
    "header": HEADER[:6],
    "the type section at byte 10": HEADER + b"\x01\x05\x01",
    "twice, or out of order": HEADER + section(3, b"\0") + section(1, b"\0"),
    "A number takes more than five bytes": HEADER + b"\x01\x80\x80\x80\x80\x80\0",
    "does not fit 32 bits": HEADER + b"\x01\x80\x80\x80\x80\x10",
    "do not fit in what follows": HEADER + section(1, b"\x7f"),
    "more than its content": HEADER + section(1, b"\0\0"),
    "not UTF-8": HEADER + section(7, vector([b"\x01\xff\0\0"])),
    "An export comes twice": HEADER + section(7, vector([exported("a", MEMORY, 0)] * 2)),
    "Function 5 or its type": HEADER + section(7, vector([exported("a", FUNC, 5)])),
    "Type 9 does not exist": importing(imported("a", "b", FUNC, uleb(9))),
    "code section is missing": HEADER + TYPES + section(3, vector([b"\0"])),
    "0 bodies for 1": HEADER + TYPES + section(3, vector([b"\0"])) + section(10, b"\0"),
    "3 to 2 pages": HEADER + section(5, vector([pages(3, 2)])),
    "is unknown": HEADER + section(11, b"\x01\x03\0\0"),
}


@pytest.mark.parametrize("part", INVALID)
def test_what_is_malformed_is_told_where(part: str) -> None:
    error = refused(INVALID[part])
    assert error.code == "invalid_wasm"
    assert part in error.text
    assert error.text.endswith(".") and error.text[0].isupper()


def test_every_cut_of_a_module_is_refused_or_another_module() -> None:
    data = handler().encode()
    for size in range(len(data)):
        try:
            describe(data[:size])
        except RemoteError as error:
            assert error.code in ("not_wasm", "invalid_wasm")


def test_counts_above_the_limits_are_refused_before_they_are_read() -> None:
    few = ModuleLimits(types=3, exports=2, name_bytes=10, custom_sections=1, module_bytes=1_000)
    assert refused(Module(types=[functype()] * 4).encode(), few).code == "too_complex"
    memory = Module(memories=[pages(1)])
    memory.exports = [exported(name, MEMORY, 0) for name in "abc"]
    assert refused(memory.encode(), few).code == "too_complex"
    memory.exports = [exported("a" * 11, MEMORY, 0)]
    assert "bytes of names" in refused(memory.encode(), few).text
    assert refused(Module(custom=[("a", b"")] * 2).encode(), few).code == "too_complex"
    assert refused(Module(custom=[("a", b"x" * 1_000)]).encode(), few).code == "too_large"


# -- laws --------------------------------------------------------------------------------------------------


@given(st.integers(0, (1 << 32) - 1))
def test_a_number_written_is_the_number_read(value: int) -> None:
    data = uleb(value)
    reader = Reader(data, 0, len(data), "test")
    assert reader.u32() == value
    reader.done()


@given(st.binary(max_size=200))
def test_any_bytes_are_described_or_refused(tail: bytes) -> None:
    for data in (tail, HEADER + tail):
        try:
            describe(data)
        except RemoteError:
            continue


@given(st.data())
def test_a_damaged_module_is_described_or_refused(draw: st.DataObject) -> None:
    data = bytearray(handler().encode())
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(8, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        describe(bytes(data))
    except RemoteError:
        return


def test_local_get_names_a_local() -> None:
    """The assembler itself: padding-free numbers."""
    assert local_get(300) == b"\x20\xac\x02"
