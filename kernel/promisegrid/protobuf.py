"""The little of protobuf that dag-pb and UnixFS use: varint and length-delimited fields, nothing else.

What a field means is the caller's; so is the order of fields.
(Source: protobuf.dev/programming-guides/encoding.)
"""

from __future__ import annotations

from collections.abc import Iterator

from promisegrid import varint

Field = tuple[int, int | bytes]
"""Field number and value: an int for wire type 0, bytes for wire type 2."""


class ProtobufError(ValueError):
    """Not such a message; the text says why."""


def number(field: int, value: int) -> bytes:
    """A varint field."""
    return varint.encode(field << 3) + varint.encode(value)


def run(field: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return varint.encode(field << 3 | 2) + varint.encode(len(value)) + value


def fields(data: bytes) -> Iterator[Field]:
    """The fields of a message in the order they are written. Raises `ProtobufError`."""
    at, size = 0, len(data)
    try:
        while at < size:
            key, at = varint.decode(data, at)
            value, at = varint.decode(data, at)
            wire = key & 7
            if wire == 0:
                yield key >> 3, value
            elif wire == 2:
                if value > size - at:
                    raise ProtobufError(f"field {key >> 3} is cut off")
                yield key >> 3, data[at : at + value]
                at += value
            else:
                raise ProtobufError(f"field {key >> 3} has wire type {wire}")
    except varint.VarintError as error:
        raise ProtobufError(str(error)) from error
