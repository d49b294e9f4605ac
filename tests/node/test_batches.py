"""Blocks on their way into a node arrive as they were sent, or are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import varint
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid_node import batches


@given(st.lists(st.binary(max_size=300), max_size=8), st.sampled_from(["raw", "dag-pb", "dag-cbor"]))
def test_blocks_arrive(contents: list[bytes], codec: str) -> None:
    blocks = [Block.of(data, codec) for data in contents]
    pieces = [b"".join(parts) for parts in batches.write(blocks)]
    assert [block for piece in pieces for block in batches.read(piece)] == blocks


def test_a_piece_is_about_a_leaf() -> None:
    blocks = [Block.of(bytes([number]) * 400_000) for number in range(5)]
    pieces = [b"".join(parts) for parts in batches.write(blocks)]
    assert [len(batches.read(piece)) for piece in pieces] == [3, 2]
    assert list(batches.write([])) == []


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=3), st.data())
def test_damage_is_refused(contents: list[bytes], data: st.DataObject) -> None:
    (parts,) = batches.write(Block.of(content) for content in contents)
    piece = b"".join(parts)
    at = data.draw(st.integers(0, len(piece) - 1))
    bad = piece[:at] + bytes([piece[at] ^ data.draw(st.integers(1, 255))]) + piece[at + 1 :]
    for wrong in (bad, piece[:at] if at else b"\x01"):
        try:
            found = batches.read(wrong)
        except (LocalError, RemoteError):
            continue
        assert all(block.cid.holds(block.data) for block in found)


def test_a_lie_is_named() -> None:
    cid = Cid.of(b"truth")
    lie = varint.encode(len(bytes(cid)) + 3) + bytes(cid) + b"lie"
    with pytest.raises(RemoteError, match=f"{cid} do not hash"):
        batches.read(lie)
    with pytest.raises(LocalError, match="cut off"):
        batches.read(lie[:-1])
    with pytest.raises(LocalError, match="cannot be read"):
        batches.read(b"\x05hello")
