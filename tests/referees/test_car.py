"""Second opinions on CAR files: libipld reads what we export, and reads or refuses what we read or refuse."""

from __future__ import annotations

from typing import Any

import dag_cbor
import libipld
import multiformats
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.sim import World
from tests.test_archive import brought, drained, file_of, other

from promisegrid import car, dagcbor
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, Cid
from promisegrid.errors import RemoteError

leaves = st.binary(max_size=300).map(lambda data: Block.of(dagcbor.encode(data), "dag-cbor"))
"""libipld reads CAR files of dag-cbor only."""


@st.composite
def dags(draw: st.DrawFn) -> list[Block]:
    """Blocks that name each other, the root first, what is below a block behind it."""
    blocks = draw(st.lists(leaves, min_size=1, max_size=4, unique_by=lambda block: block.cid))
    for number in range(draw(st.integers(1, 5))):
        links = draw(st.lists(st.sampled_from(blocks), min_size=1, max_size=4))
        value = {"n": number, "links": [block.cid for block in links]}
        blocks.append(Block.of(dagcbor.encode(value), "dag-cbor"))
    blocks.append(Block.of(dagcbor.encode([block.cid for block in blocks]), "dag-cbor"))
    return blocks[::-1]


@settings(max_examples=60, deadline=None)
@given(dags())
def test_libipld_reads_what_we_export(blocks: list[Block]) -> None:
    node = World().node("ann")
    node.do(node.kernel.save(blocks))
    root = blocks[0].cid
    header, found = libipld.decode_car(drained(node, node.kernel.base.archive.export([root])))
    assert header["version"] == 1
    assert [bytes(one) for one in header["roots"]] == [bytes(root)]
    assert {bytes(cid) for cid in found} == {bytes(block.cid) for block in blocks}


@settings(max_examples=60, deadline=None)
@given(dags())
def test_we_read_a_car_that_dag_cbor_wrote(blocks: list[Block]) -> None:
    roots = [multiformats.CID.decode(bytes(blocks[0].cid))]
    header = dag_cbor.encode({"roots": roots, "version": 1})  # type: ignore[dict-item]
    data = multiformats.varint.encode(len(header)) + header
    for block in blocks:
        frame = bytes(block.cid) + block.data
        data += multiformats.varint.encode(len(frame)) + frame
    assert data == file_of([blocks[0].cid], *blocks)
    assert brought(other(), data, 97).roots == (blocks[0].cid,)


def theirs(data: bytes) -> dict[bytes, Any] | None:
    try:
        return {bytes(cid): value for cid, value in libipld.decode_car(data)[1].items()}
    except Exception:  # noqa: BLE001  whatever it raises is a refusal
        return None


@settings(max_examples=200, deadline=None)
@given(dags(), st.integers(0, 100_000), st.integers(1, 255))
def test_what_we_take_in_libipld_takes_in_too(blocks: list[Block], place: int, change: int) -> None:
    """We are the stricter: libipld does not check that blocks are what their CIDs say."""
    data = bytearray(file_of([blocks[0].cid], *blocks))
    data[place % len(data)] ^= change
    reader = car.CarReader()
    try:
        ours = reader.feed(bytes(data))
        reader.finish()
    except car.CarError:
        return
    if any(block.cid.codec != DAG_CBOR for block in ours):
        return
    found = theirs(bytes(data))
    assert found is not None
    assert {bytes(block.cid) for block in ours} == set(found)


@given(dags())
@settings(max_examples=30, deadline=None)
def test_a_block_under_another_name_is_not_taken_in(blocks: list[Block]) -> None:
    wrong = Block(Cid.of(b"something else", "dag-cbor"), blocks[0].data)
    data = file_of([wrong.cid], wrong, *blocks[1:])
    try:
        brought(other(), data)
    except RemoteError as refused:
        assert refused.code == "bad_block"
    else:
        raise AssertionError("a lie was taken in")
