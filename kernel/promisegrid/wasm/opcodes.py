"""The instructions this grid runs, as two regular expressions, and the names of those it refuses.

`RUN` eats a run of instructions that need no thought in one step of the regular-expression engine;
what stops it is control flow, `memory.grow`, or something refused. That is why a Python scanner
passes ten megabytes of code a second. Being possessive (`*+`, `{0,4}+`), no expression backtracks, so
every byte is looked at a bounded number of times whatever the input.

Does not know types or index spaces: the engine validates the module.
Source: WebAssembly Core Specification 2.0, section 5.4 (instructions).
"""

from __future__ import annotations

import re
from typing import Final

UNREACHABLE: Final = 0x00
BLOCK: Final = 0x02
LOOP: Final = 0x03
IF: Final = 0x04
ELSE: Final = 0x05
END: Final = 0x0B
BR: Final = 0x0C
BR_IF: Final = 0x0D
BR_TABLE: Final = 0x0E
RETURN: Final = 0x0F
CALL: Final = 0x10
CALL_INDIRECT: Final = 0x11
MEMORY_GROW: Final = 0x40

LEB32: Final = rb"(?:[\x80-\xff]{0,4}+[\x00-\x7f])"
LEB64: Final = rb"(?:[\x80-\xff]{0,9}+[\x00-\x7f])"
REFERENCE: Final = rb"[\x6f\x70]"
"""externref and funcref."""
MEMARG: Final = rb"[\x00-\x0f]" + LEB32
"""Alignment, then offset. Bit 6 of the alignment would name a second memory: not matched."""

_SIMD: Final = (
    rb"\xfd(?:[\x00-\x0b\x5c\x5d]"
    + MEMARG
    + rb"|[\x0c\x0d].{16}|[\x15-\x22].|[\x54-\x5b]"
    + MEMARG
    + rb".|[\x0e-\x14\x23-\x53\x5e-\x7f]|[\x80-\xff]\x01)"
)
"""Fixed-width SIMD: memory, constants and shuffles, lanes, lanes in memory, the rest."""
_SIMPLE: Final = (
    # local.* and global.*, i32.const, table.get/set, ref.func: one 32-bit number
    rb"[\x20-\x26\x41\xd2]" + LEB32,
    # no immediate: arithmetic, comparison, conversion; nop, drop, select, ref.is_null
    rb"[\x45-\xc4\x01\x1a\x1b\xd1]",
    rb"[\x28-\x3e]" + MEMARG,
    rb"\x42" + LEB64,
    rb"\x44.{8}",
    rb"\x43.{4}",
    rb"\x3f\x00",
    rb"\x1c\x01[\x6f\x70\x7b-\x7f]",
    rb"\xd0" + REFERENCE,
    # saturating truncations; data.drop, elem.drop, table.size
    rb"\xfc(?:[\x00-\x07]|[\x09\x0d\x10]" + LEB32 + rb")",
    _SIMD,
)
"""Instructions that neither branch, call, nor cost more for a larger operand."""
_CALL: Final = rb"\x10" + LEB32 + rb"|\x11" + LEB32 + LEB32
_BRANCH: Final = rb"[\x0c\x0d]" + LEB32
_LEAVE: Final = rb"[\x00\x0f]"
_BULK: Final = (
    rb"\xfc(?:\x0a\x00\x00|\x0b\x00|\x08"
    + LEB32
    + rb"\x00|\x11"
    + LEB32
    + rb"|[\x0c\x0e]"
    + LEB32
    + LEB32
    + rb")"
)
"""memory.copy, fill, init; table.fill, init, copy. 0x0f table.grow is left out."""
PLAIN: Final = (*_SIMPLE, _CALL, _BRANCH, _LEAVE, _BULK)
RUN: Final = rb"(?:" + rb"|".join(PLAIN) + rb")*+"
BLOCK_TYPE: Final = rb"(?:[\x40\x6f\x70\x7b-\x7f]|[\x80-\xff]{0,4}+[\x00-\x3f])"
"""Nothing, one value, or the index of a function type (33-bit signed, not negative)."""

NEXT: Final = re.compile(RUN + rb"(?:([\x02-\x04])" + BLOCK_TYPE + rb"|([\x05\x0b]))?", re.DOTALL)
"""A run, then the block opening (group 1) or `else`/`end` (group 2) that stopped it, if one did."""
_STOPS: Final = (
    rb"(?:[\x02-\x04]"
    + BLOCK_TYPE
    + rb"|[\x05\x0b]|\x40\x00|"
    + rb"|".join((_BRANCH, _LEAVE, _BULK, _CALL))
    + rb")?"
)
ONE_SIMPLE: Final = re.compile(rb"|".join((*_SIMPLE, _CALL)), re.DOTALL)
"""One instruction of a run, for counting them."""
TO_CALL: Final = re.compile(rb"((?:" + rb"|".join(_SIMPLE) + rb")*+)" + _STOPS, re.DOTALL)
"""A run (group 1), then the one instruction that stopped it; nothing for `br_table` and what is refused."""
PAST_CALLS: Final = re.compile(rb"((?:" + rb"|".join((*_SIMPLE, _CALL)) + rb")*+)" + _STOPS, re.DOTALL)
"""The same, calls being part of the run."""
CONSTANT: Final = re.compile(
    rb"(?:[\x23\xd2\x41]"
    + LEB32
    + rb"|\x42"
    + LEB64
    + rb"|\x44.{8}|\x43.{4}|\xd0"
    + REFERENCE
    + rb"|\xfd\x0c.{16}|[\x6a-\x6c\x7c-\x7e])*+\x0b",
    re.DOTALL,
)
"""A constant expression with its `end` (3.3.10, and extended constants)."""


def refusal(data: bytes, pos: int, end: int) -> tuple[str, str]:
    """(wire code, clause) for the instruction at `pos` that no expression above accepts."""
    op = data[pos]
    if op == MEMORY_GROW:
        return "unsupported", "the module uses a padded memory.grow, or a second memory, which is refused"
    if op in (0xFC, 0xFD):
        return _prefixed(op, data[pos + 1 : min(end, pos + 3)])
    for opcodes, feature in FEATURES:
        if op in opcodes:
            return "unsupported", f"the module uses {feature}, which is refused; build it without"
    if op in KNOWN:
        return "invalid_wasm", f"instruction 0x{op:02x} is truncated or malformed, or uses a second memory"
    return "unsupported", f"the module uses unknown instruction 0x{op:02x}"


FEATURES: Final = (
    ((0x06, 0x07, 0x08, 0x09, 0x0A, 0x18, 0x19, 0x1F), "exception handling"),
    ((0x12, 0x13, 0x15), "tail calls"),
    ((0x14, 0xD3, 0xD4, 0xD5, 0xD6, 0xFB), "typed references or garbage collection"),
    ((0xFE,), "threads (atomic instructions)"),
    ((0xE0, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6), "stack switching"),
)
"""Proposals by their opcodes, so that a refusal can name what the module was built with."""
KNOWN: Final = frozenset(
    [
        *range(0x06),
        0x0B,
        0x0C,
        0x0D,
        0x0E,
        0x0F,
        0x10,
        0x11,
        0x1A,
        0x1B,
        0x1C,
        *range(0x20, 0x27),
        *range(0x28, 0xC5),
        0xD0,
        0xD1,
        0xD2,
    ]
)


def _prefixed(op: int, following: bytes) -> tuple[str, str]:
    """The refusal for a two-byte instruction."""
    if not following:
        return "invalid_wasm", "an instruction is truncated"
    if op == 0xFC and following[0] == 0x0F:
        return "unsupported", "the module uses table.grow, which is refused; build it without"
    if op == 0xFC and following[0] in (0x13, 0x14, 0x15, 0x16):
        return "unsupported", "the module uses wide arithmetic, which is refused; build it without"
    if op == 0xFD and len(following) == 2 and following[0] >= 0x80 and following[1] == 2:
        return "unsupported", "the module uses relaxed SIMD, which is refused: results depend on the machine"
    if following[0] >= 0x80 or (op == 0xFC and following[0] > 0x11):
        return "unsupported", f"the module uses unknown instruction 0x{op:02x} 0x{following.hex()}"
    return "invalid_wasm", f"instruction 0x{op:02x} 0x{following[0]:02x} is truncated or malformed"
