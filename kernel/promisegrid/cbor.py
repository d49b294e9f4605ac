"""Deterministic CBOR: one value has one spelling, and any other spelling is refused.

The rule is *decode, write again, compare*: what we would not write, we do not read. So there are no
indefinite lengths, no longer-than-needed numbers, no duplicate or unsorted keys, no NaN or infinity, no
undefined or other simple values, no floats but 64-bit ones, no integers beyond 64 bits, no tags that were not
asked for, nothing after the item. Keys are sorted by the length of their encoding, then bytewise (DAG-CBOR;
for the integer keys of CWT and COSE the same order, which RFC 8949 section 4.2.3 calls length-first).

Reading is done by cbor2's compiled decoder; writing is here, because checking and writing in one walk is
faster than cbor2's encoder with hooks. Work and memory are bounded by a `Dialect`'s limits whatever the input
says about itself. What a value means this file does not know.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import cbor2

from promisegrid.cid import Cid
from promisegrid.frozen import frozen

LINK_TAG: Final = 42


class CborError(ValueError):
    """Bytes that are not the one spelling of a value, or a value that has none. The text says why."""


@frozen
class Tag:
    """A tagged value, for the tags a dialect admits (links are `Cid`s instead)."""

    number: int
    value: object


@frozen
class Encoded:
    """An item that has been written already, by the same rules: its bytes are put in as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one format admits. Make one per format, at the top of its module, and keep it.

    name: how errors call it; tags: numbers read as `Tag` (42 is not one of them); links: whether tag 42 is
    admitted, as `Cid`; int_keys: whether map keys may be integers beside text; depth: nesting of arrays, maps
    and tags; max_bytes: one whole item; max_items: values within one item, each of which costs memory
    (a one-byte empty list becomes 64); error: the class raised.
    """

    name: str = "CBOR"
    tags: frozenset[int] = frozenset()
    links: bool = True
    int_keys: bool = False
    depth: int = 32
    max_bytes: int = 2 * 1024 * 1024
    max_items: int = 1 << 18
    error: type[CborError] = CborError

    def encode(self, value: object) -> bytes:
        """The bytes of a value made of None, bool, int, float, str, bytes, list or tuple, dict, `Cid`, `Tag`.

        Raises `error` for anything else, for NaN and infinity, and beyond the limits.
        """
        out: list[bytes] = []
        try:
            _write(value, out.append, self.depth, self)
        except UnicodeEncodeError as error:
            raise self.error(f"text with a lone surrogate cannot be written as {self.name}") from error
        except OverflowError as error:
            raise self.error(f"{error}, so it cannot be written as {self.name}") from error
        data = b"".join(out)
        if len(data) > self.max_bytes:
            raise self.error(f"{len(data)} bytes is more than the {self.max_bytes} of one {self.name} item")
        return data

    def decode(self, data: bytes) -> Any:
        """The value that the whole of `data` spells. Raises `error` for everything else."""
        value = self.decode_loosely(data)
        again = self.encode(value)
        if again != data:
            raise self.error(f"not {self.name}: not in its one canonical form {_difference(again, data)}")
        return value

    def decode_loosely(self, data: bytes) -> Any:
        """As `decode`, other spellings of the value included: the caller writes it again and compares."""
        size = len(data)
        if size > self.max_bytes:
            raise self.error(f"{size} bytes is more than the {self.max_bytes} of one {self.name} item")
        if size > self.max_items:
            self.skip(data)
        try:
            return cbor2.loads(
                data,
                semantic_decoders=_readers(self.tags, self.links),
                max_depth=self.depth,
                allow_indefinite=False,
                allow_duplicate_keys=False,
                strict_hashable_types=not self.int_keys,
            )
        except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
            raise self.error(f"not {self.name}: {_reason(error)}") from error

    def skip(self, data: bytes, at: int = 0) -> int:
        """The offset behind the item that begins at `at`, without building anything.

        For cutting the exact bytes out of a larger item. It checks lengths and counts items, no more.
        """
        waiting, items, size = 1, 0, len(data)
        while waiting:
            items += 1
            if items > self.max_items:
                raise self.error(f"more than {self.max_items} values in one {self.name} item")
            if at >= size:
                raise self.error(f"not {self.name}: cut off at byte {size}")
            major, info = data[at] >> 5, data[at] & 31
            at, number = at + 1, info
            if info > 23:
                width = 1 << (info - 24) if info < 28 else 0
                if not width or at + width > size:
                    raise self.error(f"not {self.name}: bad or cut-off head at byte {at - 1}")
                number = int.from_bytes(data[at : at + width], "big")
                at += width
            waiting -= 1
            if major in (2, 3):
                at += number
            elif 4 <= major <= 6:
                waiting += 1 if major == 6 else number if major == 4 else 2 * number
        if at > size:
            raise self.error(f"not {self.name}: cut off at byte {size}")
        return at


Put = Callable[[bytes], None]

_HEADS: Final = [
    [bytes((major << 5 | n,)) if n < 24 else bytes((major << 5 | 24, n)) for n in range(256)]
    for major in range(8)
]
"""The shortest heads of numbers below 256, by major type: nearly all that are ever written."""
_TWO, _FOUR, _EIGHT = (struct.Struct(f">B{size}").pack for size in "HIQ")
"""Writers of longer heads: the first byte, and a number of so many bytes."""
_UINTS, _BYTES, _TEXTS, _LISTS = _HEADS[0], _HEADS[2], _HEADS[3], _HEADS[4]


def head(major: int, number: int) -> bytes:
    """The shortest head of a major type with its number, 0 to 2**64 - 1 (RFC 8949 section 3)."""
    if number < 256:
        return _HEADS[major][number]
    if number <= 0xFFFF:
        return _TWO(major << 5 | 25, number)
    if number <= 0xFFFF_FFFF:
        return _FOUR(major << 5 | 26, number)
    if number <= 0xFFFF_FFFF_FFFF_FFFF:
        return _EIGHT(major << 5 | 27, number)
    raise OverflowError(f"an integer of {number.bit_length()} bits does not fit the 64 of CBOR")


def byte_string(data: bytes) -> bytes:
    """A byte string: its shortest head and itself."""
    size = len(data)
    return (_BYTES[size] if size < 256 else _TWO(0x59, size) if size < 0x1_0000 else head(2, size)) + data


def text(value: str) -> bytes:
    """A text string. UnicodeEncodeError for a lone surrogate."""
    data = value.encode()
    size = len(data)
    return (_TEXTS[size] if size < 256 else head(3, size)) + data


def number(value: int) -> bytes:
    """An integer of 64 bits and its sign. OverflowError for a larger one."""
    if 0xFFFF < value <= 0xFFFF_FFFF:  # a time, mostly
        return _FOUR(26, value)
    if value >= 0:
        return _UINTS[value] if value < 256 else head(0, value)
    return head(1, -1 - value)


def link(cid: Cid) -> bytes:
    """A link: tag 42 and the CID behind a zero byte."""
    encoded = cid.encoded
    if len(encoded) == 36:
        return b"\xd8\x2a\x58\x25\x00" + encoded
    return b"\xd8\x2a" + byte_string(b"\x00" + encoded)


def _write(value: object, put: Put, depth: int, dialect: Dialect) -> None:
    """Write one value and all below it; `depth` is how many levels of nesting are left."""
    if type(value) is str:
        put(text(value))
    elif type(value) is int:
        put(number(value))
    elif type(value) is bytes:
        put(byte_string(value))
    elif type(value) is list or type(value) is tuple:
        size, inner = len(value), _deeper(depth, dialect)
        put(_LISTS[size] if size < 256 else head(4, size))
        for item in value:
            _write(item, put, inner, dialect)
    elif type(value) is dict:
        _write_dict(value, put, depth, dialect)
    elif type(value) is Cid:
        _write_cid(value, put, depth, dialect)
    else:
        _write_rare(value, put, depth, dialect)


def _write_dict(value: dict[object, object], put: Put, depth: int, dialect: Dialect) -> None:
    put(head(5, len(value)))
    inner = _deeper(depth, dialect)
    rows = [(len(key), key, name) for name, key in zip(value, _keys(value, dialect), strict=True)]
    rows.sort()
    for _, key, name in rows:
        put(key)
        _write(value[name], put, inner, dialect)


def _keys(value: dict[object, object], dialect: Dialect) -> list[bytes]:
    """The keys of a map as bytes. No two are alike, so that sorting never looks beyond them."""
    out = []
    for key in value:
        if type(key) is str:
            out.append(text(key))
        elif dialect.int_keys and type(key) is int:
            out.append(number(key))
        else:
            raise dialect.error(f"a map key of type {type(key).__name__} cannot be written as {dialect.name}")
    return out


def _write_cid(value: Cid, put: Put, depth: int, dialect: Dialect) -> None:
    if not dialect.links:
        raise dialect.error(f"{dialect.name} has no links")
    _deeper(depth, dialect)
    put(link(value))


def _write_rare(value: object, put: Put, depth: int, dialect: Dialect) -> None:
    if type(value) is bool:
        put(b"\xf5" if value else b"\xf4")
    elif value is None:
        put(b"\xf6")
    elif type(value) is float:
        if not math.isfinite(value):
            raise dialect.error(f"{value} cannot be written as {dialect.name}")
        put(struct.pack(">Bd", 0xFB, value))
    elif type(value) is Tag:
        if value.number not in dialect.tags:
            raise dialect.error(f"tag {value.number} is not admitted in {dialect.name}")
        put(head(6, value.number))
        _write(value.value, put, _deeper(depth, dialect), dialect)
    elif type(value) is Encoded:
        put(value.data)
    else:
        kind = type(value).__name__
        raise dialect.error(f"a value of type {kind} cannot be written as {dialect.name}")


def _deeper(depth: int, dialect: Dialect) -> int:
    if depth <= 0:
        raise dialect.error(f"nested deeper than the {dialect.depth} levels of one {dialect.name} item")
    return depth - 1


Reader = Callable[[Any, bool], object]


class _Readers(dict[int, Reader]):
    """What cbor2 calls for a tag: ours for those admitted, a refusal for all others, built-in ones too."""

    def __missing__(self, number: int) -> Reader:
        raise ValueError(f"tag {number} is not admitted")


def _link(content: object, immutable: bool) -> Cid:
    if type(content) is not bytes or content[:1] != b"\x00":
        raise ValueError("a link is not a byte string that begins with 00")
    return Cid(content[1:])


def _reader(number: int) -> Reader:
    return lambda content, immutable: Tag(number, content)


@lru_cache(maxsize=64)
def _readers(tags: frozenset[int], links: bool) -> _Readers:
    """The table of a dialect; the same few every time, so they are kept."""
    table = _Readers({number: _reader(number) for number in tags})
    if links:
        table[LINK_TAG] = _link
    return table


def _reason(error: BaseException) -> str:
    """The innermost of a chain of errors, which is the one that says something."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    return text if len(text) <= 160 else f"{text[:159]}…"


def _difference(ours: bytes, given: bytes) -> str:
    """Where two spellings part, for a person to look at."""
    low, high = 0, min(len(ours), len(given))
    while low < high:
        middle = (low + high + 1) // 2
        if ours[low:middle] == given[low:middle]:
            low = middle
        else:
            high = middle - 1
    return f"(from byte {low})"
