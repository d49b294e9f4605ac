"""Second opinions: multiformats, libipld and dag-cbor read what we write and the other way round.

Where a referee is known to be laxer than the specification, or to stop short of it, the test says so.
"""

from __future__ import annotations

from typing import Any

import dag_cbor
import libipld
import multiformats
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid import Cid, car, dagcbor
from promisegrid.block import Block
from promisegrid.cid import CidError

HASHES = ["sha2-256", "sha2-512", "sha3-256", "blake2b-256", "identity"]
BASES = ["base16", "base16upper", "base32", "base32upper", "base36", "base36upper", "base58btc"]

signed = st.integers(-(2**63), 2**64 - 1)
leaves = (
    st.none()
    | st.booleans()
    | signed
    | st.floats(allow_nan=False, allow_infinity=False).filter(lambda number: str(number) != "-0.0")
    | st.binary(max_size=40)
    | st.text(max_size=20)
    | st.binary(max_size=20).map(Cid.of)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=5),
    max_leaves=20,
)


def for_multiformats(value: Any) -> Any:
    """Our value with their links."""
    if isinstance(value, Cid):
        return multiformats.CID.decode(bytes(value))
    if isinstance(value, list):
        return [for_multiformats(item) for item in value]
    if isinstance(value, dict):
        return {key: for_multiformats(item) for key, item in value.items()}
    return value


def for_libipld(value: Any) -> Any:
    """Our value with libipld's links, which are the bytes of a CID. Lists and maps as they are."""
    if isinstance(value, Cid):
        return bytes(value)
    if isinstance(value, list):
        return [for_libipld(item) for item in value]
    if isinstance(value, dict):
        return {key: for_libipld(item) for key, item in value.items()}
    return value


@pytest.mark.parametrize("name", HASHES)
@pytest.mark.parametrize("codec", ["raw", "dag-pb", "dag-cbor", "dag-json", "git-raw"])
def test_cids_agree_with_multiformats(name: str, codec: str) -> None:
    data = b"what is hashed"
    digest = multiformats.multihash.digest(data, name)
    for base in BASES:
        theirs = multiformats.CID(base, 1, codec, digest)
        ours = Cid.parse(str(theirs))
        assert bytes(ours) == bytes(theirs)
        assert str(ours) == str(theirs.set(base="base32"))
        assert ours.codec == theirs.codec.code
        assert ours.hash_code == theirs.hashfun.code
        assert ours.digest == theirs.raw_digest
        assert ours.holds(data)


def test_version_0_agrees_with_multiformats() -> None:
    theirs = multiformats.CID("base58btc", 0, "dag-pb", multiformats.multihash.digest(b"x", "sha2-256"))
    ours = Cid.parse(str(theirs))
    assert str(ours) == str(theirs)
    assert bytes(ours) == bytes(theirs)
    assert ours.version == 0


@settings(max_examples=200)
@given(st.binary(max_size=40))
def test_what_multiformats_does_not_read_is_no_cid(data: bytes) -> None:
    try:
        cid = Cid.decode(data)
    except CidError:
        return
    assert bytes(multiformats.CID.decode(data)) == bytes(cid)


@given(values)
def test_dag_cbor_agrees(value: Any) -> None:
    theirs = for_multiformats(value)
    data = dag_cbor.encode(theirs)
    assert dagcbor.encode(value) == data
    assert dagcbor.decode(data) == value
    assert dag_cbor.decode(dagcbor.encode(value)) == theirs


@given(values)
def test_libipld_agrees(value: Any) -> None:
    data = dagcbor.encode(value)
    assert libipld.decode_dag_cbor(data) == for_libipld(value)


@settings(max_examples=300)
@given(values, st.integers(0, 5000), st.integers(0, 255))
def test_what_we_read_the_referees_read(value: Any, place: int, byte: int) -> None:
    """We are the strictest but for -0.0, which we keep and libipld refuses: what we accept, it accepts."""
    data = bytearray(dagcbor.encode(value))
    data[place % len(data)] = byte
    try:
        ours = dagcbor.decode(bytes(data))
    except dagcbor.DagCborError:
        return
    if bytes.fromhex("fb8000000000000000") not in data:
        assert libipld.decode_dag_cbor(bytes(data)) == for_libipld(ours)


def test_a_car_of_ours_is_read_by_libipld() -> None:
    from_us = [Cid.of(dagcbor.encode({"n": n}), "dag-cbor") for n in range(3)]
    file = car.header(from_us[:1])
    for n, cid in enumerate(from_us):
        file += car.frame(Block(cid, dagcbor.encode({"n": n})))
    header, blocks = libipld.decode_car(file)
    assert header["version"] == 1
    assert {bytes(key): value for key, value in blocks.items()} == {
        bytes(cid): {"n": n} for n, cid in enumerate(from_us)
    }
