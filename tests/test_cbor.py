"""Deterministic CBOR: one spelling a value, whatever the dialect; and hostile input costs little."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid.cbor import CborError, Dialect, Tag
from promisegrid.cid import Cid

PLAIN = Dialect(links=False)
CWT = Dialect(name="CWT", int_keys=True, tags=frozenset({18}), max_items=4096)

ints = st.integers(-(2**64), 2**64 - 1)
leaves = st.none() | st.booleans() | ints | st.binary(max_size=40) | st.text(max_size=20)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5)
    | st.dictionaries(ints | st.text(max_size=5), inner, max_size=5)
    | st.builds(Tag, st.just(18), inner),
    max_leaves=20,
)


@given(values)
def test_what_is_written_is_read(value: object) -> None:
    data = CWT.encode(value)
    assert CWT.decode(data) == value
    assert CWT.skip(data) == len(data)
    assert CWT.skip(b"\x00" + data + b"\xff", 1) == len(data) + 1


def test_claims_are_in_one_order() -> None:
    claims = {-65537: b"", 24: 1, "aa": 2, "b": 3, -1: 4, 1: 5}
    order = ["0105", "2004", "181801", "616203", "62616102", "3a0001000040"]
    assert CWT.encode(claims).hex() == "a6" + "".join(order)
    assert CWT.decode(CWT.encode(claims)) == claims


@pytest.mark.parametrize(
    "data",
    [
        "a202010102",  # keys out of order
        "a218180120" + "01",  # a longer key before a shorter one
        "a201020103",  # a key twice
        "a2010201f5",  # a key twice, once cut off
        "a201000b",  # cut off
        "a1f501",  # a key that is a bool
        "a1fb3ff000000000000001",  # … a float
        "a1f600",  # … null
        "a1410000",  # … bytes
        "a18001",  # … an array
        "a1a001",  # … a map
        "a1d2000000",  # … tagged
        "d311",  # another tag
        "d81211",  # tag 18, written too long
        "c100",  # a date, which the decoder beneath would make
        "d82500",
        "d9010280",
        "d81c80",  # a shared value
        "d81d00",
        "d8236161",  # a regular expression
    ],
)
def test_what_a_dialect_does_not_admit(data: str) -> None:
    with pytest.raises(CborError, match="CWT"):
        CWT.decode(bytes.fromhex(data))


def test_integer_keys_and_links_are_a_choice() -> None:
    with pytest.raises(CborError):
        PLAIN.decode(CWT.encode({1: 2}))
    with pytest.raises(CborError, match="key of type int"):
        PLAIN.encode({1: 2})
    cid = Cid.of(b"")
    with pytest.raises(CborError, match="no links"):
        PLAIN.encode(cid)
    with pytest.raises(CborError, match="tag 42"):
        PLAIN.decode(CWT.encode(cid))
    assert CWT.decode(CWT.encode([cid])) == [cid]


def test_limits_hold_both_ways() -> None:
    small = Dialect(depth=3, max_bytes=40, max_items=10)
    assert small.decode(small.encode([[[1]]])) == [[[1]]]
    for value in ([[[[1]]]], b"x" * 40):
        with pytest.raises(CborError):
            small.encode(value)
    for data in (b"\x81" * 4 + b"\x01", b"\x58\x27" + b"x" * 39, b"\x8a" + b"\x00" * 10):
        with pytest.raises(CborError):
            small.decode(data)
    assert small.decode(b"\x89" + b"\x00" * 9) == [0] * 9
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(CborError, match="nested deeper"):
        small.encode(loop)


def test_a_cut_is_found_everywhere() -> None:
    data = CWT.encode(["grid", Cid.of(b""), {1: b"abc", "k": [None, 2**40]}, Tag(18, [b"", {}, None, b"s"])])
    for end in range(len(data)):
        with pytest.raises(CborError):
            CWT.decode(data[:end])
        with pytest.raises(CborError):
            CWT.skip(data[:end])
    with pytest.raises(CborError, match=f"from byte {len(data)}"):
        CWT.decode(data + b"\x00")


@pytest.mark.parametrize(
    "data",
    [
        b"\x81" * 2_000_000,
        b"\x9a\x00\x1e\x84\x80" + b"\x80" * 2_000_000,
        b"\x9a\x00\x1e\x84\x80" + b"\xa0" * 2_000_000,
        b"\xd2" * 2_000_000,
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff" + b"\x80" * 2_000_000,
        b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x9b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x7a\x7f\xff\xff\xff" + b"x" * 1000,
    ],
    ids=lambda data: data[:10].hex(),
)
def test_bombs_do_not_go_off(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(CborError):
        Dialect(max_bytes=4_000_000).decode(data)
    assert time.process_time() - started < 3


@given(st.binary(max_size=60))
def test_any_bytes_are_one_value_or_a_refusal(data: bytes) -> None:
    try:
        value = CWT.decode(data)
    except CborError:
        return
    assert CWT.encode(value) == data
