"""Sets that differ are made the same, and it costs little more than what they differ in."""

from __future__ import annotations

import hashlib
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid.reconcile import ALL, SHORT_BYTES, Index, Range, key_of, short

LEAF, PARTS = 64, 16
NUMBERS = st.sets(st.integers(0, 5000), max_size=400)


def key(n: int, at: int | None = None) -> bytes:
    return key_of(n if at is None else at, hashlib.sha256(b"%d" % n).digest())


def reconcile(mine: Index, theirs: Index) -> tuple[set[bytes], set[bytes], int]:
    """What each lacks, found as two nodes do, and the bytes it took."""
    lacking: set[bytes] = set()
    extra: set[bytes] = set()
    waiting: list[Range] = [ALL]
    cost = 0
    while waiting:
        between = waiting.pop()
        cost += len(between[0]) + len(between[1]) + 22
        ours, other = mine.fingerprint(between), theirs.fingerprint(between)
        if ours == other:
            continue
        if not ours[0] or not other[0] or max(ours[0], other[0]) <= LEAF:
            listed = theirs.within(between)
            cost += SHORT_BYTES * len(listed) if ours[0] else 0
            here = {short(one) for one in mine.within(between)}
            there = {short(one) for one in listed}
            lacking.update(one for one in listed if short(one) not in here)
            extra.update(one for one in mine.within(between) if short(one) not in there)
        else:
            parts = mine.split(between, PARTS)
            assert len(parts) > 1 and parts[0][0] == between[0] and parts[-1][1] == between[1]
            assert all(a[1] == b[0] and a[1] for a, b in pairwise(parts))
            waiting += parts
    return lacking, extra, cost


@settings(deadline=None)
@given(NUMBERS, NUMBERS, st.booleans())
def test_what_differs_is_found(a: set[int], b: set[int], same_time: bool) -> None:
    at = 7 if same_time else None
    mine, theirs = Index(key(n, at) for n in a), Index(key(n, at) for n in b)
    lacking, extra, _ = reconcile(mine, theirs)
    assert lacking == {key(n, at) for n in b - a} and extra == {key(n, at) for n in a - b}


def test_a_tenth_missed_at_random_costs_less_than_half_of_it() -> None:
    """10,000 of 100,000 entries of 256 bytes: names and sums take less than half of the missed bytes."""
    keys = [key(n) for n in range(100_000)]
    theirs = Index(keys)
    mine = Index(one for one in keys if one[-1] % 10)
    lacking, extra, cost = reconcile(mine, theirs)
    missed = len(theirs) - len(mine)
    assert len(lacking) == missed and not extra
    assert cost + missed * SHORT_BYTES < missed * 256 // 2


def test_what_was_missed_during_a_partition_costs_almost_nothing() -> None:
    keys = [key(n) for n in range(100_000)]
    mine = Index(keys[:90_000])
    lacking, _, cost = reconcile(mine, Index(keys))
    assert len(lacking) == 10_000 and cost < 20_000


def test_one_of_mine_among_many_of_theirs() -> None:
    keys = [key(n) for n in range(5_000)]
    for at in (0, 2_500, 4_999):
        lacking, _, _ = reconcile(Index([keys[at]]), Index(keys))
        assert len(lacking) == 4_999


def test_an_index_is_a_set_in_order() -> None:
    index = Index([key(3), key(1), key(3)])
    assert index.add(key(2)) and not index.add(key(2)) and len(index) == 3
    assert list(index.keys) == [key(1), key(2), key(3)] and key(2) in index and key(9) not in index
    assert index.drop_first(2) == [key(1), key(2)] and list(index.keys) == [key(3)]
    assert index.within((key(3), b"")) == [key(3)] and not index.within((b"", key(3)))
    assert not index.within((key(9), key(1))), "an upside-down range holds nothing"


@given(st.lists(st.tuples(st.sampled_from(["add", "drop", "first"]), st.integers(0, 1500)), max_size=60))
def test_a_fingerprint_is_the_same_however_the_keys_came_and_went(steps: list[tuple[str, int]]) -> None:
    index = Index(key_of(n, n.to_bytes(32, "big")) for n in range(0, 1200, 2))
    for step, n in steps:
        key = key_of(n, n.to_bytes(32, "big"))
        if step == "first":
            index.drop_first(n % 5)
        elif step == "add":
            index.add(key)
        else:
            index.drop(key)
        assert index.fingerprint((key, b"")) == Index(index.keys).fingerprint((key, b""))
