"""DAG-CBOR: plain data with links, one spelling a value.

Data is None, bool, int (64 bits), finite float, str, bytes, list, dict with text keys, `Cid` for a link; a
tuple is written as a list. `decode(encode(x)) == x`, and `encode(decode(b)) == b` for whatever is accepted.
(Source: ipld.io/specs/codecs/dag-cbor; the strictness is `cbor`'s.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from promisegrid.cbor import CborError, Dialect
from promisegrid.cid import Cid

DEPTH: Final = 128
"""Levels of nesting: more than data made by people or programs has, less than costs a stack."""


class DagCborError(CborError):
    """Not DAG-CBOR, or not a value of it; the text says why."""


_DIALECT: Final = Dialect(name="DAG-CBOR", depth=DEPTH, max_bytes=16 * 1024 * 1024, error=DagCborError)

_WITHIN: Final = replace(_DIALECT, depth=DEPTH - 1)


def encode(value: object) -> bytes:
    """The bytes of a value. Raises `DagCborError` for what the data model lacks."""
    return _DIALECT.encode(value)


def encode_within(value: object) -> bytes:
    """The bytes of a value that will stand in a map or list, put together by hand. Raises as `encode`."""
    return _WITHIN.encode(value)


def decode(data: bytes) -> Any:
    """The value that the whole of `data` spells. Raises `DagCborError` for all other bytes."""
    return _DIALECT.decode(data)


def decode_loosely(data: bytes) -> Any:
    """As `decode`, other spellings of the value included: the caller writes it again and compares."""
    return _DIALECT.decode_loosely(data)


def links(value: object) -> Iterator[Cid]:
    """Every link within a decoded value, in the order of its bytes."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Cid):
            yield item
        elif isinstance(item, dict):
            waiting.extend(reversed(item.values()))
        elif isinstance(item, (list, tuple)):
            waiting.extend(reversed(item))
