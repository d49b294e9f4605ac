"""CIDs: every spelling is read, one is printed, and nothing that is not a CID exists as one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import multibase, varint
from promisegrid.cid import DAG_CBOR, DAG_PB, RAW, Cid, CidError, read, take

HELLO = Cid.of(b"hello world")
TEXT = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"


def test_the_well_known_names() -> None:
    assert str(HELLO) == TEXT
    assert str(Cid.of(b"")) == "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
    assert bytes(HELLO) == bytes.fromhex("01551220") + hashlib.sha256(b"hello world").digest()


def test_every_part() -> None:
    assert (HELLO.version, HELLO.codec, HELLO.codec_name, HELLO.hash_code) == (1, RAW, "raw", 0x12)
    assert HELLO.digest == hashlib.sha256(b"hello world").digest()
    assert Cid.of(b"", "dag-cbor").codec == DAG_CBOR
    assert Cid.of(b"", 0x0129).codec_name == "dag-json"
    assert Cid.of(b"", 0x300000).codec_name == "0x300000"
    with pytest.raises(CidError, match="codec 'dag-xml'"):
        Cid.of(b"", "dag-xml")


def test_version_0() -> None:
    old = Cid.parse(V0)
    assert (old.version, old.codec, str(old), len(bytes(old))) == (0, DAG_PB, V0, 34)
    assert Cid.decode(bytes(old)) == old
    assert old.holds(bytes.fromhex("0a020801"))
    assert old != Cid.of(bytes.fromhex("0a020801"), "dag-pb")


def test_every_spelling() -> None:
    data = bytes(HELLO)
    for text in (
        TEXT,
        TEXT.upper(),
        "z" + multibase.base58(data),
        "k" + multibase.base36(data),
        "K" + multibase.base36(data).upper(),
        "f" + data.hex(),
        "F" + data.hex().upper(),
    ):
        assert Cid.parse(text) == HELLO


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "hello world",
        TEXT[:-1],
        TEXT + "a",
        TEXT[:-1] + "f",
        TEXT[:-1] + "B",
        "B" + TEXT[1:],
        TEXT + "=",
        " " + TEXT,
        "z" + V0,
        V0 + "1",
        V0.replace("Q", "0", 1),
        "m" + TEXT,
        "z1" + multibase.base58(bytes(HELLO)),
        "f" + bytes(HELLO).hex() + " ",
        "f" + bytes(HELLO).hex()[:-1],
        "/ipfs/" + TEXT,
        "b" * 100_000,
        "é" * 59,
    ],
)
def test_what_is_not_a_cid(text: str) -> None:
    with pytest.raises(CidError, match="a CID looks like") as caught:
        Cid.parse(text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "data",
    [
        "",
        "01",
        "0155",
        "01551220",
        "01551220" + "00" * 31,
        "01551220" + "00" * 33,
        "02551220" + "00" * 32,
        "0155121f" + "00" * 31,
        "01d5001220" + "00" * 32,
        "015512a000" + "00" * 32,
        "1220" + "00" * 31,
        "1220" + "00" * 33,
        "01550081" + "01" + "00" * 129,
        "0155ffffffffffffffffffff01",
        "80" * 100,
    ],
)
def test_what_is_not_a_binary_cid(data: str) -> None:
    with pytest.raises(CidError):
        Cid.decode(bytes.fromhex(data))


def test_the_hashes_that_are_verified() -> None:
    data = b"some content"
    digests = {
        0x12: hashlib.sha256(data).digest(),
        0x13: hashlib.sha512(data).digest(),
        0x16: hashlib.sha3_256(data).digest(),
        0xB220: hashlib.blake2b(data, digest_size=32).digest(),
        0x00: data,
    }
    for code, digest in digests.items():
        cid = Cid(b"\x01\x55" + varint.encode(code) + varint.encode(len(digest)) + digest)
        assert cid.verifiable
        assert cid.holds(data)
        assert not cid.holds(data + b"!")
        assert Cid.parse(str(cid)) == cid


def test_a_hash_that_cannot_be_verified_holds_nothing() -> None:
    cid = Cid(b"\x01\x55\x1e\x20" + bytes(32))
    assert not cid.verifiable
    assert not cid.holds(b"")


def test_it_is_a_value() -> None:
    again = Cid.parse(TEXT)
    assert again == HELLO
    assert hash(again) == hash(HELLO)
    assert again != TEXT
    assert again != bytes(HELLO)
    assert sorted([HELLO, Cid.parse(V0)]) == sorted([HELLO, Cid.parse(V0)], key=bytes)
    frozen: Any = again
    with pytest.raises(AttributeError):
        frozen.encoded = b""


def test_one_of_many_in_a_row() -> None:
    row = bytes(HELLO) + bytes(Cid.parse(V0)) + b"rest"
    first, at = take(row, 0)
    second, end = take(row, at)
    assert (first, second, row[end:]) == (HELLO, Cid.parse(V0), b"rest")
    assert read(row, 0)[1] == 36


@given(st.binary(max_size=200))
def test_any_bytes_are_a_cid_or_a_refusal(data: bytes) -> None:
    try:
        cid = Cid.decode(data)
    except CidError:
        return
    assert bytes(cid) == data
    assert Cid.parse(str(cid)) == cid
    cid.holds(data)


@given(st.text(max_size=80) | st.text("bafkreizQmf0123456789", max_size=80))
def test_any_text_is_a_cid_or_a_refusal(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except CidError:
        return
    assert Cid.parse(str(cid)) == cid


@given(st.binary(max_size=64))
def test_base58_and_base36_keep_leading_zeros(data: bytes) -> None:
    assert multibase.from_base58(multibase.base58(data)) == data
    assert multibase.decode("k" + multibase.base36(data)) == data
    assert multibase.from_base32(multibase.base32(data)) == data


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_varints_have_one_spelling(number: int, rest: bytes) -> None:
    data = varint.encode(number)
    assert varint.decode(data + rest) == (number, len(data))
    if number:
        longer = data[:-1] + bytes([data[-1] | 0x80, 0])
        with pytest.raises(varint.VarintError):
            varint.decode(longer)


def test_varints_are_bounded() -> None:
    for data in (b"", b"\x80", b"\xff" * 100, b"\xff" * 9 + b"\x02"):
        with pytest.raises(varint.VarintError):
            varint.decode(data)
    for number in (-1, 2**64):
        with pytest.raises(varint.VarintError):
            varint.encode(number)
