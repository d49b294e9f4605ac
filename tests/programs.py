"""The programs of the Runtime contract, each function a few instructions long.

`NUMBERS` has plain functions, `HANDLER` the handle ABI, `COMMAND` is a WASI command that does another thing
for each number of arguments, `REACTOR` plain functions that use WASI. All are valid modules.
"""

from __future__ import annotations

from typing import Final

from tests.ruinous import nested_loops
from tests.wasm_asm import (
    END,
    F64,
    FUNC,
    I32,
    I64,
    MEMORY,
    Module,
    body,
    call,
    exported,
    functype,
    i32,
    imported,
    local_get,
    pages,
)

from promisegrid.wasm.binary import sized, sleb, uleb

_WASI: Final = "wasi_snapshot_preview1"
_DROP, _TRAP = b"\x1a", b"\x00"
_AGAIN: Final = b"\x0c\x00"


def _loop(code: bytes) -> bytes:
    return b"\x03\x40" + code + _AGAIN + END


def _i64(value: int) -> bytes:
    return b"\x42" + sleb(value)


def _data(at: int, content: bytes) -> bytes:
    return b"\0" + i32(at) + END + sized(content)


def numbers(seed: int = 0) -> bytes:
    """Plain functions over numbers; `long` reads past the memory, `count` counts from 40.

    Another seed gives a module of other bytes that does the same.
    """
    number, single, nothing = functype([I64], [I64]), functype([I32], [I32]), functype()
    functions = {
        "add_one": (0, local_get(0) + _i64(1) + b"\x7c"),
        "half": (1, local_get(0) + b"\x44" + bytes(6) + b"\xe0\x3f" + b"\xa2"),
        "forever": (2, _loop(b"")),
        "recurse": (2, call(3)),
        "trap": (2, _TRAP),
        "divide": (3, i32(1) + local_get(0) + b"\x6d"),
        "grow": (3, local_get(0) + b"\x40\x00"),
        "bomb": (2, _loop(i32(100) + b"\x40\x00" + _DROP)),
        "count": (4, b"\x23\x00" + i32(1) + b"\x6a\x24\x00\x23\x00"),
        "swap": (5, local_get(1) + local_get(0)),
        "long": (2, i32(0) + b"\x28\x02" + uleb(65_536) + _DROP),
    }
    return Module(
        types=[
            number,
            functype([F64], [F64]),
            nothing,
            single,
            functype([], [I32]),
            functype([I32, I64], [I64, I32]),
        ],
        functions=[(kind, body(code)) for kind, code in functions.values()],
        memories=[pages(1)],
        globals=[bytes([I32, 1]) + i32(40) + END],
        exports=[exported(name, FUNC, at) for at, name in enumerate(functions)]
        + [exported("memory", MEMORY, 0)],
        data=[_data(0, bytes([seed]))],
    ).encode()


def ruin() -> bytes:
    """Legal, small, and minutes of work for an optimizing compiler: see `ruinous.nested_loops`."""
    return nested_loops()


def _handler() -> bytes:
    """Gives its arguments back; but 1 byte of them: it points outside, 2: it claims 4 GiB, 3: `alloc`."""
    length = local_get(1)
    packed = local_get(0) + b"\xad" + _i64(32) + b"\x86" + length + b"\xad\x84"
    code = (
        length
        + i32(1)
        + b"\x46\x04\x40"
        + _i64((1 << 52) | 16)
        + b"\x0f"
        + END
        + length
        + i32(2)
        + b"\x46\x04\x40"
        + _i64(0xFFFF_FFFF)
        + b"\x0f"
        + END
        + packed
    )
    alloc = local_get(0) + i32(3) + b"\x46\x04\x7f" + i32(-2) + b"\x05" + i32(1024) + END
    return Module(
        types=[functype([I32], [I32]), functype([I32, I32], [I64])],
        functions=[(0, body(alloc)), (1, body(code))],
        memories=[pages(1)],
        exports=[exported("alloc", FUNC, 0), exported("handle", FUNC, 1), exported("memory", MEMORY, 0)],
    ).encode()


_HELLO: Final = i32(1) + i32(0) + i32(1) + i32(8) + call(0) + _DROP
_SLEEP: Final = i32(64) + i32(128) + i32(1) + i32(8) + call(2) + _DROP
_EVENT: Final = bytes(16) + (1).to_bytes(8, "little") + (1 << 62).to_bytes(8, "little") + bytes(16)
_TEXT: Final = (16).to_bytes(4, "little") + (6).to_bytes(4, "little") + bytes(8) + b"hello\n"
_USES_WASI: Final = {
    "types": [
        functype([I32] * 4, [I32]),
        functype([I32]),
        functype([I32, I32], [I32]),
        functype(),
        functype([I32] * 4),
    ],
    "imports": [
        imported(_WASI, "fd_write", FUNC, uleb(0)),
        imported(_WASI, "proc_exit", FUNC, uleb(1)),
        imported(_WASI, "poll_oneoff", FUNC, uleb(0)),
        imported(_WASI, "args_sizes_get", FUNC, uleb(2)),
        imported("env", "abort", FUNC, uleb(4)),
    ],
    "memories": [pages(1)],
    "data": [_data(0, _TEXT), _data(64, _EVENT)],
}


def _command() -> bytes:
    """By the number of arguments: 0 say hello, 1 say it and exit 3, 2 say it for ever, 3 sleep for 146 years,
    4 sleep for ever, 5 say it and trap."""
    cases = (
        _HELLO,
        _HELLO + i32(3) + call(1),
        _loop(_HELLO),
        _SLEEP,
        _loop(_SLEEP),
        _HELLO + _TRAP,
    )
    count = i32(8) + i32(12) + call(3) + _DROP + i32(0) + b"\x28\x02\x08" + i32(1) + b"\x6b"
    table = b"\x0e" + uleb(len(cases) - 1) + b"".join(uleb(k) for k in range(len(cases)))
    code = b"\x02\x40" * len(cases) + count + table
    code += b"".join(END + case + b"\x0f" for case in cases)
    return Module(
        **_USES_WASI,
        functions=[(3, body(code))],
        exports=[exported("_start", FUNC, 5), exported("memory", MEMORY, 0)],
    ).encode()


def _reactor() -> bytes:
    """`_initialize` notes that it ran, `ready` gives the note, `say` says hello, `leave`, `abort` end it."""
    functions = {
        "_initialize": (3, i32(7) + b"\x24\x00"),
        "ready": (5, b"\x23\x00"),
        "say": (3, _HELLO),
        "leave": (3, i32(0) + call(1)),
        "abort": (3, i32(0) * 4 + call(4)),
    }
    wasi = dict(_USES_WASI)
    wasi["types"] = [*_USES_WASI["types"], functype([], [I32])]
    return Module(
        **wasi,
        functions=[(kind, body(code)) for kind, code in functions.values()],
        globals=[bytes([I32, 1]) + i32(0) + END],
        exports=[exported(name, FUNC, 5 + at) for at, name in enumerate(functions)]
        + [exported("memory", MEMORY, 0)],
    ).encode()


def _starting() -> bytes:
    """A start function that never ends, in a program that asks for WASI."""
    return Module(
        types=[functype(), functype([], [I32])],
        imports=[imported(_WASI, "sched_yield", FUNC, uleb(1))],
        functions=[(0, body(_loop(b""))), (0, body(b""))],
        start=1,
        exports=[exported("f", FUNC, 2)],
    ).encode()


def _importing() -> bytes:
    """Asks for what nobody offers."""
    return Module(types=[functype()], imports=[imported("env", "launch", FUNC, uleb(0))]).encode()


NUMBERS: Final = numbers()
HANDLER: Final = _handler()
COMMAND: Final = _command()
REACTOR: Final = _reactor()
STARTING: Final = _starting()
IMPORTING: Final = _importing()
