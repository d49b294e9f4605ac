"""Sharded folders: the shape follows from the names alone, and every name is found again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid.cid import Cid
from promisegrid.unixfs import Entry, HamtShard, UnixFsError, hamt, parse

CID = Cid.of(b"")


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        ("", 0),
        ("hello", 0xCBD8A7B341BD9B02),
        ("hello, world", 0x342FAC623A5EBC8E),
        ("19 Jan 2038 at 3:14:07 AM", 0xB89E5988B737AFFC),
        ("The quick brown fox jumps over the lazy dog.", 0xCD99481F9EE902C9),
    ],
)
def test_murmur_of_known_texts(name: str, digest: int) -> None:
    assert hamt.murmur3(name.encode()) == digest


def test_slots_are_read_from_the_top() -> None:
    digest = 0x0123456789ABCDEF
    assert [hamt.slot(digest, level) for level in range(8)] == [1, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]
    assert [hamt.slot(digest, level, 4) for level in range(3)] == [0, 1, 2]
    with pytest.raises(UnixFsError, match="share one hash"):
        hamt.slot(digest, 8)


@given(st.lists(st.text("abcdef", min_size=1, max_size=4), unique=True, min_size=1, max_size=300))
def test_every_name_is_where_its_hash_says(names: list[str]) -> None:
    root, tsize, blocks = hamt.build([Entry(name, CID, 10) for name in names])
    shards = {block.cid: block.data for block in blocks}
    assert blocks[-1] == root
    assert tsize == 10 * len(names) + sum(len(block.data) for block in blocks)
    found = []
    waiting: list[tuple[Cid, int]] = [(root.cid, 0)]
    while waiting:
        cid, level = waiting.pop()
        shard = parse(cid, shards[cid])
        assert isinstance(shard, HamtShard)
        assert len(shard.entries) + len(shard.shards) > (level > 0)
        for slot, entry in shard.entries:
            assert slot == hamt.slot(hamt.murmur3(entry.name.encode()), level)
            found.append(entry.name)
        waiting.extend((below, level + 1) for _, below in shard.shards)
    assert sorted(found) == sorted(names)


@given(st.permutations([f"name {n}" for n in range(30)]))
def test_the_order_of_building_does_not_matter(names: list[str]) -> None:
    root, _, _ = hamt.build([Entry(name, CID, 1) for name in names])
    again, _, _ = hamt.build([Entry(name, CID, 1) for name in sorted(names)])
    assert root == again
