"""Large folders: names spread over shards by the bits of their hash, 256 slots a shard.

The shape follows from the names alone: a slot that two names want becomes a shard, one level down. So a
folder has one CID, however it was built. (Source: specs.ipfs.tech/unixfs, section HAMTDirectory; MurmurHash3
x64 128 by Austin Appleby, of which the first 64 bits are used.)
"""

from __future__ import annotations

from typing import Final

from promisegrid.block import Block
from promisegrid.dagpb import Link
from promisegrid.unixfs.node import Entry, UnixFsError, write_shard

BITS: Final = 8
"""Bits a level: fanout 256."""
_HASH_BITS: Final = 64
_MASK: Final = (1 << 64) - 1
_C1: Final = 0x87C37B91114253D5
_C2: Final = 0x4CF5AD432745937F


def slot(digest: int, level: int, bits: int = BITS) -> int:
    """The slot a name with that hash takes at a level (0 is the root). UnixFsError below the last bits."""
    shift = _HASH_BITS - bits * (level + 1)
    if shift < 0:
        raise UnixFsError("too many names of a sharded folder share one hash")
    return digest >> shift & (1 << bits) - 1


def build(entries: list[Entry]) -> tuple[Block, int, list[Block]]:
    """The root shard of a folder, its tsize, and all its blocks (the root last). Names have been checked."""
    blocks: list[Block] = []
    hashed = [(murmur3(entry.name.encode()), entry) for entry in entries]
    root, tsize = _build(hashed, 0, blocks)
    return root, tsize, blocks


def _build(hashed: list[tuple[int, Entry]], level: int, blocks: list[Block]) -> tuple[Block, int]:
    groups: dict[int, list[tuple[int, Entry]]] = {}
    for row in hashed:
        groups.setdefault(slot(row[0], level), []).append(row)
    links: dict[int, Link] = {}
    for place, group in groups.items():
        if len(group) == 1:
            entry = group[0][1]
            links[place] = Link(entry.cid, entry.name, entry.tsize)
        else:
            below, tsize = _build(group, level + 1, blocks)
            links[place] = Link(below.cid, "", tsize)
    block = write_shard(BITS, links)
    blocks.append(block)
    return block, len(block.data) + sum(link.tsize or 0 for link in links.values())


def murmur3(data: bytes) -> int:
    """The first 64 bits of MurmurHash3 x64 128 with seed 0."""
    one = two = 0
    whole = len(data) & ~15
    for at in range(0, whole, 16):
        one ^= _scramble(int.from_bytes(data[at : at + 8], "little"), _C1, 31, _C2)
        one = (_rotate(one, 27) + two) * 5 + 0x52DCE729 & _MASK
        two ^= _scramble(int.from_bytes(data[at + 8 : at + 16], "little"), _C2, 33, _C1)
        two = (_rotate(two, 31) + one) * 5 + 0x38495AB5 & _MASK
    two ^= _scramble(int.from_bytes(data[whole + 8 :], "little"), _C2, 33, _C1)
    one ^= _scramble(int.from_bytes(data[whole : whole + 8], "little"), _C1, 31, _C2)
    one ^= len(data)
    two ^= len(data)
    one = one + two & _MASK
    two = two + one & _MASK
    return _mix(one) + _mix(two) & _MASK


def _rotate(value: int, bits: int) -> int:
    return (value << bits | value >> 64 - bits) & _MASK


def _scramble(value: int, before: int, bits: int, after: int) -> int:
    return _rotate(value * before & _MASK, bits) * after & _MASK


def _mix(value: int) -> int:
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD & _MASK
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 & _MASK
    return value ^ value >> 33
