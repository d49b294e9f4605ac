"""CAR files: what is written is read, in pieces of any size, and nothing unverified comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import car, dagcbor, varint
from promisegrid.block import Block
from promisegrid.car import CarError, CarReader
from promisegrid.cid import Cid

NODE = Block.of(dagcbor.encode({"a": 1}), "dag-cbor")
BLOCKS = [Block.of(b""), Block.of(b"hello"), NODE, Block.of(b"x" * 300)]
ROOTS = [BLOCKS[2].cid, BLOCKS[1].cid]
FILE = car.header(ROOTS) + b"".join(map(car.frame, BLOCKS))


def read(data: bytes, step: int) -> tuple[tuple[Cid, ...] | None, list[Block]]:
    reader = CarReader()
    blocks: list[Block] = []
    for at in range(0, len(data), step):
        blocks.extend(reader.feed(data[at : at + step]))
    reader.finish()
    return reader.roots, blocks


@pytest.mark.parametrize("step", [1, 2, 7, 100, 10_000])
def test_it_is_read_in_pieces_of_any_size(step: int) -> None:
    assert read(FILE, step) == (tuple(ROOTS), BLOCKS)


def test_the_bytes_of_a_header() -> None:
    empty = car.header([])
    assert empty.hex() == "11" + "a265726f6f7473806776657273696f6e01"
    assert read(empty, 1) == ((), [])


def test_a_cut_is_noticed_unless_it_is_between_blocks() -> None:
    whole = {len(car.header(ROOTS))}
    for block in BLOCKS:
        whole.add(max(whole) + len(car.frame(block)))
    for end in range(len(FILE)):
        if end in whole:
            read(FILE[:end], 64)
        else:
            with pytest.raises(CarError, match="cut off"):
                read(FILE[:end], 64)


def test_a_changed_byte_of_a_block_is_noticed() -> None:
    for at in range(len(FILE) - 300, len(FILE)):
        broken = bytearray(FILE)
        broken[at] ^= 1
        with pytest.raises(CarError, match="do not hash"):
            read(bytes(broken), 64)


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"\xff" * 10,
        varint.encode(1 << 40),
        varint.encode(5) + b"hello",
        car.header([]).replace(b"\x01", b"\x02"),
        b"\x0a" + dagcbor.encode({"version": 1}),
        b"\x12" + dagcbor.encode({"roots": [1], "version": 1}),
        FILE + b"\x00",
        FILE + b"\x80\x00",
        FILE + varint.encode(car.BLOCK_MAX + 1000),
        FILE + b"\x03abc",
        car.header([]) + car.frame(Block(Cid(b"\x01\x55\x1e\x20" + bytes(32)), b"")),
    ],
    ids=range(12),
)
def test_what_is_not_a_car(data: bytes) -> None:
    with pytest.raises(CarError):
        read(data, 1)
    with pytest.raises(CarError):
        read(data, len(data))


def test_a_piece_too_long_is_refused_before_it_is_here() -> None:
    for start in (b"", car.header([])):
        reader = CarReader()
        with pytest.raises(CarError, match="are possible"):
            reader.feed(start + varint.encode(1 << 40))


def test_a_block_may_not_be_larger_than_said() -> None:
    reader = CarReader(block_max=299)
    with pytest.raises(CarError, match="too large"):
        reader.feed(FILE)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_car_or_a_refusal(data: bytes) -> None:
    for start in (b"", car.header([])):
        try:
            read(start + data, 16)
        except CarError:
            continue
