"""DAG-CBOR: what the data model has is read and written exactly, and all else is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import Cid, dagcbor

CID = Cid.of(b"hello")

leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.binary(max_size=300)
    | st.text(max_size=30)
    | st.binary(max_size=40).map(Cid.of)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=6), inner, max_size=6),
    max_leaves=30,
)


def same(one: Any, other: Any) -> bool:
    """Equal, and of one kind: True is not 1, 1 is not 1.0, and 0.0 is not -0.0."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return bool(one == other)


@given(values)
def test_decode_after_encode_is_identity(value: object) -> None:
    data = dagcbor.encode(value)
    assert same(dagcbor.decode(data), value)
    assert dagcbor.encode(dagcbor.decode(data)) == data


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (True, "f5"),
        (1.0, "fb3ff0000000000000"),
        (-0.0, "fb8000000000000000"),
        (2**64 - 1, "1bffffffffffffffff"),
        (-(2**64), "3bffffffffffffffff"),
        (23, "17"),
        (24, "1818"),
        (-25, "3818"),
        (65535, "19ffff"),
        (65536, "1a00010000"),
        ({"b": 1, "aa": 2, "a": 3, "": 4}, "a46004616103616201626161" + "02"),
        ({"é": 1, "z": 2, "zz": 3}, "a3617a0262" + "7a7a0362c3a901"),
        (CID, "d82a582500" + bytes(CID).hex()),
        ([], "80"),
        ("ü" * 24, "7830" + "c3bc" * 24),
    ],
)
def test_the_one_spelling(value: object, data: str) -> None:
    assert dagcbor.encode(value).hex() == data
    assert same(dagcbor.decode(bytes.fromhex(data)), value)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "1817",  # a number that fits fewer bytes
        "1900ff",
        "5800",
        "7801" + "61",
        "980100",
        "b8006100",
        "9f00ff",  # indefinite lengths
        "bfff",
        "5f4100ff",
        "7f6161ff",
        "a2616101616102",  # a key twice
        "a2616201616102",  # keys out of order
        "a262616101616202",
        "a10100",  # keys that are not text
        "a1410000",
        "f7",  # undefined
        "f0",  # other simple values
        "f8ff",
        "f814",  # false, written too long
        "f97e00",  # NaN
        "fb7ff8000000000000",
        "fb7ff0000000000000",  # infinity
        "fbfff0000000000000",
        "f90000",  # short floats
        "fa00000000",
        "c249010000000000000000",  # bignums
        "c349010000000000000000",
        "c11a00000000",  # other tags
        "d9d9f701",
        "d82a4100",  # links that are none
        "d82a40",
        "d82a6100",
        "d82a00",
        "d82a5824" + "01551220" + "00" * 32,  # without the leading zero byte
        "d82a582600" + "01551220" + "00" * 33,
        "d9002a582500" + "01551220" + "00" * 32,  # the tag, written too long
        "d82a59002500" + "01551220" + "00" * 32,
        "62c328",  # not UTF-8
        "63eda080",  # a surrogate
        "61c0",
        "00" + "00",  # more than one item
        "8100" + "f6",
        "fc",
        "ff",
        "1c",
        "3e",
        "81",
        "a161",
    ],
)
def test_other_spellings_are_refused(data: str) -> None:
    with pytest.raises(dagcbor.DagCborError):
        dagcbor.decode(bytes.fromhex(data))


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        2**64,
        -(2**64) - 1,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        {b"a": 1},
        {None: 1},
        {1, 2},
        bytearray(b"x"),
        object(),
        1j,
        Cid,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_data_model_lacks(value: object) -> None:
    for wrapped in (value, [value], {"a": [value]}):
        with pytest.raises(dagcbor.DagCborError):
            dagcbor.encode(wrapped)


def test_a_tuple_is_a_list() -> None:
    assert dagcbor.decode(dagcbor.encode((1, (2,)))) == [1, [2]]


def test_depth() -> None:
    fits = dagcbor.decode(b"\x81" * dagcbor.DEPTH + b"\x00")
    assert dagcbor.encode(fits) == b"\x81" * dagcbor.DEPTH + b"\x00"
    with pytest.raises(dagcbor.DagCborError):
        dagcbor.decode(b"\x81" * (dagcbor.DEPTH + 1) + b"\x00")
    with pytest.raises(dagcbor.DagCborError, match="nested deeper"):
        dagcbor.encode([fits])


def test_links_in_order() -> None:
    one, two, three = (Cid.of(bytes([n])) for n in range(3))
    value = dagcbor.decode(dagcbor.encode({"b": [one, {"x": two}], "aa": three, "c": "text", "a": 1}))
    assert list(dagcbor.links(value)) == [one, two, three]
    assert list(dagcbor.links((one, [one]))) == [one, one]
    assert list(dagcbor.links("bafy")) == []


def test_it_is_a_value_error_with_a_sentence() -> None:
    with pytest.raises(ValueError, match="not DAG-CBOR: tag 1 is not admitted"):
        dagcbor.decode(b"\xc1\x00")


@given(st.binary(max_size=80))
def test_any_bytes_are_one_value_or_a_refusal(data: bytes) -> None:
    try:
        value = dagcbor.decode(data)
    except dagcbor.DagCborError:
        return
    assert dagcbor.encode(value) == data


@given(values, st.integers(0, 10_000), st.integers(0, 255))
def test_a_changed_byte_is_another_value_or_a_refusal(value: object, place: int, byte: int) -> None:
    data = bytearray(dagcbor.encode(value))
    data[place % len(data)] = byte
    try:
        other = dagcbor.decode(bytes(data))
    except dagcbor.DagCborError:
        return
    assert dagcbor.encode(other) == data
