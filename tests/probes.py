"""What is promised about floating point, as one module that every engine must answer alike.

`FLOATS` exports a function () -> i64 for each operation in `OPERATIONS`, named after it: a digest of what it
gives for all values, or pairs of values, of a table full of corners. NaNs are all counted as one, for their
sign and payload are not promised when arithmetic made them; every other bit is. `all` digests the digests,
and `ALL_DIGEST` is what it gives. `python -m tests.probes FILE` writes the module.
"""

from __future__ import annotations

import random
import struct
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.wasm_asm import END, F32, F64, FUNC, I32, I64, Module, body, call, exported, functype, i32, pages

from promisegrid.wasm.binary import sized, sleb, uleb

ALL_DIGEST: Final = 0xE2BB_A221_7AE1_4DC3
_GET, _SET, _TEE = b"\x20", b"\x21", b"\x22"
_I, _J, _H = b"\x00", b"\x01", b"\x02"
_VALUES: Final = 64
_FLOATS_AT: Final = 8 * _VALUES
"""The table of f64 at 0, that of f32 behind it."""
_FOLD, _CANON64, _CANON32 = 0, 1, 2
_UNARY: Final = ("abs", "neg", "ceil", "floor", "trunc", "nearest", "sqrt")
_BINARY: Final = ("add", "sub", "mul", "div", "min", "max", "copysign")
_COMPARE: Final = ("eq", "ne", "lt", "gt", "le", "ge")
_FROM_BITS: Final = b"\x29\x03\x00"
_LOAD64, _LOAD32 = b"\x2b\x03\x00", b"\x2a\x02" + uleb(_FLOATS_AT)
_WIDE = b"\xac"
_VECTOR64: Final = {
    "abs": 0xEC, "neg": 0xED, "sqrt": 0xEF, "add": 0xF0, "sub": 0xF1, "mul": 0xF2, "div": 0xF3, "min": 0xF4,
    "max": 0xF5, "pmin": 0xF6, "pmax": 0xF7, "ceil": 0x74, "floor": 0x75, "trunc": 0x7A, "nearest": 0x94,
}  # fmt: skip
_VECTOR32: Final = {
    "abs": 0xE0, "neg": 0xE1, "sqrt": 0xE3, "add": 0xE4, "sub": 0xE5, "mul": 0xE6, "div": 0xE7, "min": 0xE8,
    "max": 0xE9, "pmin": 0xEA, "pmax": 0xEB, "ceil": 0x67, "floor": 0x68, "trunc": 0x69, "nearest": 0x6A,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kind:
    """One width of float: how it is loaded, and its first opcodes."""

    name: str
    load: bytes
    shift: int
    unary: int
    compare: int
    saturate: int
    canon: int
    vectors: dict[str, int]
    splat: bytes
    lane: bytes


_WIDE_KIND: Final = _Kind(
    "f64", _LOAD64, 3, 0x99, 0x61, 2, _CANON64, _VECTOR64, b"\xfd\x14", b"\xfd\x21\x01"
)
_SMALL_KIND: Final = _Kind(
    "f32", _LOAD32, 2, 0x8B, 0x5B, 0, _CANON32, _VECTOR32, b"\xfd\x13", b"\xfd\x1f\x03"
)


def _table() -> bytes:
    """Sixty-four f64 and as many f32: corners first, then bits at random, then everyday numbers."""
    corners = [
        0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.1, 1 / 3, 3.5e-310, 5e-324,
        2.2250738585072014e-308, 1.7976931348623157e308, float("inf"), float("-inf"), 2.0**24 + 1, 2.0**31,
        -(2.0**31) - 1, 2.0**53 + 2, 2.0**63, -(2.0**63), 4503599627370497.5, 1e-45, 3.4028235677973366e38,
        -0.9999999999999999,
    ]  # fmt: skip
    dice = random.Random(20261121)
    nans = [0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0001, 0x7FF0_0000_0000_0001, 0xFFF4_DEAD_BEEF_0000]
    wide = [struct.pack("<d", one) for one in corners] + [struct.pack("<Q", one) for one in nans]
    wide += [dice.randbytes(8) for _ in range(16)]
    wide += [struct.pack("<d", dice.uniform(-1000, 1000)) for _ in range(_VALUES - len(wide))]
    small = [1.0, -0.0, 0.0, 0.5, -1.5, 2.5, 1e-45, 1.1754943508222875e-38, 3.4028234663852886e38, 16777217.0]
    single = [struct.pack("<f", one) for one in (*small, float("inf"), float("-inf"), 2.0**31, -(2.0**63))]
    single += [struct.pack("<I", one) for one in (0x7FC0_0000, 0xFFC0_0001, 0x7F80_0001)]
    single += [dice.randbytes(4) for _ in range(24)]
    single += [struct.pack("<f", dice.uniform(-1000, 1000)) for _ in range(_VALUES - len(single))]
    return b"".join(wide + single)


def _at(index: bytes, shift: int) -> bytes:
    return _GET + index + i32(shift) + b"\x74"


def _each(index: bytes, inner: bytes) -> bytes:
    """`inner` for every index of the table."""
    more = _GET + index + i32(1) + b"\x6a" + _TEE + index + i32(_VALUES) + b"\x49\x0d\x00"
    return i32(0) + _SET + index + b"\x03\x40" + inner + more + END


def _folded(bits: bytes) -> bytes:
    return _GET + _H + bits + call(_FOLD) + _SET + _H


def _digest(bits: bytes, pairs: bool) -> bytes:
    """A function body: the digest of what `bits` leaves, an i64, for every value or pair."""
    inner = _folded(bits)
    code = _each(_I, _each(_J, inner) if pairs else inner)
    return body(code + _GET + _H, [(2, I32), (1, I64)])


def _scalar(operation: bytes, load: bytes, shift: int, pairs: bool, ends: bytes) -> bytes:
    second = _at(_J, shift) + load if pairs else b""
    return _digest(_at(_I, shift) + load + second + operation + ends, pairs)


def _operations() -> dict[str, bytes]:
    """Function bodies by name."""
    made: dict[str, bytes] = {}
    for kind in (_WIDE_KIND, _SMALL_KIND):
        load, shift = kind.load, kind.shift
        for at, name in enumerate((*_UNARY, *_BINARY)):
            op = bytes([kind.unary + at])
            made[f"{kind.name}.{name}"] = _scalar(op, load, shift, name in _BINARY, call(kind.canon))
        for at, name in enumerate(_COMPARE):
            made[f"{kind.name}.{name}"] = _scalar(bytes([kind.compare + at]), load, shift, True, _WIDE)
        for at, name in enumerate(("i32", "i32 unsigned", "i64", "i64 unsigned")):
            op = bytes([0xFC, kind.saturate + at % 2 + 4 * (at > 1)])
            made[f"{name} from {kind.name}"] = _scalar(op, load, shift, False, b"" if at > 1 else _WIDE)
        for name, number in kind.vectors.items():
            second = _at(_J, shift) + load + kind.splat if name not in _UNARY else b""
            code = _at(_I, shift) + load + kind.splat + second + b"\xfd" + uleb(number) + kind.lane
            made[f"vector {kind.name}.{name}"] = _digest(code + call(kind.canon), name not in _UNARY)
    made["f32.demote"] = _scalar(b"\xb6", _LOAD64, 3, False, call(_CANON32))
    made["f64.promote"] = _scalar(b"\xbb", _LOAD32, 2, False, call(_CANON64))
    for at, number in enumerate((0xB2, 0xB3, 0xB4, 0xB5, 0xB7, 0xB8, 0xB9, 0xBA)):
        narrow = b"\xa7" if at % 4 < 2 else b""
        ends = call(_CANON32 if at < 4 else _CANON64)
        made[f"convert {number:x}"] = _scalar(narrow + bytes([number]), _FROM_BITS, 3, False, ends)
    return made


def _module() -> bytes:
    """Helpers, operations, and `all`."""
    bodies = _operations()
    turned = _GET + b"\x00\x42\x05\x89" + _GET + b"\x01\x85\x42" + sleb(0x2545F4914F6CDD1D) + b"\x7e"
    wide, small = b"\x42" + sleb(0x7FF8 << 48), b"\x42" + sleb(0x7FC0 << 16)
    twice = (_GET + b"\x00") * 2  # a value that differs from itself is a NaN
    canon64 = twice + b"\x62\x04\x7e" + wide + b"\x05" + _GET + b"\x00\xbd" + END
    canon32 = twice + b"\x5c\x04\x7e" + small + b"\x05" + _GET + b"\x00\xbc\xad" + END
    each = (call(3 + at) for at in range(len(bodies)))
    everything = b"".join(_GET + b"\x00" + one + call(_FOLD) + _SET + b"\x00" for one in each)
    functions = [(1, body(turned)), (2, body(canon64)), (3, body(canon32))]
    functions += [(0, one) for one in bodies.values()]
    functions.append((0, body(everything + _GET + b"\x00", [(1, I64)])))
    signatures = ([], [I64, I64], [F64], [F32])
    return Module(
        types=[functype(params, [I64]) for params in signatures],
        functions=functions,
        memories=[pages(1)],
        exports=[exported(name, FUNC, 3 + at) for at, name in enumerate((*bodies, "all"))],
        data=[b"\0" + i32(0) + END + sized(_table())],
    ).encode()


FLOATS: Final = _module()
OPERATIONS: Final = tuple(_operations())

if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(FLOATS)
