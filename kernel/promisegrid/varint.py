"""Unsigned variable-length integers, as CIDs, protobuf and CAR files write them.

Seven bits a byte, least significant first, the high bit says "more follows". Only the shortest form is read,
so that one number has one spelling. (Source: multiformats/unsigned-varint.)
"""

from __future__ import annotations

MAX_BITS = 64
"""Nothing we read needs more, and a longer one is an attempt to make us build a giant integer."""


class VarintError(ValueError):
    """The bytes at that place are not a varint; the text says why."""


def encode(number: int) -> bytes:
    """The shortest varint of a number from 0 to 2**64 - 1."""
    if not 0 <= number < 1 << MAX_BITS:
        raise VarintError(f"{number} does not fit an unsigned varint of {MAX_BITS} bits")
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(data: bytes | memoryview, at: int = 0) -> tuple[int, int]:
    """The number that begins at offset `at`, and the offset behind it; `VarintError` otherwise."""
    number = shift = 0
    for end in range(at, min(len(data), at + 10)):
        byte = data[end]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and end > at:
                raise VarintError(f"varint at byte {at} is not in its shortest form")
            if number >> MAX_BITS:
                raise VarintError(f"varint at byte {at} is larger than {MAX_BITS} bits")
            return number, end + 1
        shift += 7
    if len(data) - at >= 10:
        raise VarintError(f"varint at byte {at} is larger than {MAX_BITS} bits")
    raise VarintError(f"varint at byte {at} is cut off")
