"""Scenario trees: one spelling, bounded, read without recursion; trust the same bits anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import scenario
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError
from promisegrid.scenario import ONE, WEIGHT_MAX, WEIGHT_ONE, Branch, update_trust

CIDS = [Cid.of(bytes([number])) for number in range(8)]
UINT16 = st.integers(0, ONE)
WEIGHTS = st.integers(0, WEIGHT_MAX)


def chain(depth: int) -> Branch:
    """A tree with one branch a level."""
    tree = Branch(CIDS[0], CIDS[1], 1, 1)
    for _ in range(depth - 1):
        tree = Branch(CIDS[0], CIDS[1], 1, 1, (tree,))
    return tree


def refused(data: bytes) -> str:
    with pytest.raises(RemoteError) as wrong:
        scenario.read(data)
    return wrong.value.code


branches = st.recursive(
    st.builds(Branch, st.sampled_from(CIDS), st.sampled_from(CIDS), UINT16, WEIGHTS),
    lambda inner: st.builds(
        Branch,
        st.sampled_from(CIDS),
        st.sampled_from(CIDS),
        UINT16,
        WEIGHTS,
        st.lists(inner, max_size=4, unique_by=lambda b: (b.event, b.state)).map(tuple),
    ),
    max_leaves=12,
)


@given(branches)
def test_a_tree_is_read_as_it_was_written_and_has_one_spelling(tree: Branch) -> None:
    data = scenario.encode(tree)
    read = scenario.read(data)
    assert scenario.encode(read) == data
    assert scenario.measure(read)[0] == scenario.measure(tree)[0]


def test_the_seeds_tree() -> None:
    tree = Branch(CIDS[0], CIDS[1], 42598, 9830, (Branch(CIDS[2], CIDS[3], 58982, 8192),))
    data = scenario.encode(tree)
    assert data.startswith(b"\x85\xd8\x2a\x58\x25\x00\x01\x55\x12\x20")
    assert scenario.read(data) == tree and scenario.measure(tree) == (2, 2)


def test_links_without_the_zero_byte_are_read() -> None:
    tree = Branch(CIDS[0], CIDS[1], 1, 2)
    bare = scenario.encode(tree).replace(b"\xd8\x2a\x58\x25\x00", b"\xd8\x2a\x58\x24")
    assert scenario.read(bare) == tree


def test_siblings_are_sorted_and_distinct() -> None:
    first, second = sorted(CIDS[:2], key=bytes)
    leaves = [Branch(first, second, 1, 1), Branch(second, first, 2, 2)]
    right = scenario.encode(Branch(CIDS[2], CIDS[3], 1, 1, tuple(leaves)))
    one, two = (scenario.encode(leaf) for leaf in leaves)
    assert right.endswith(one + two)
    assert refused(right[: -len(one + two)] + two + one) == "bad_tree"
    assert refused(right[: -len(two)] + one) == "bad_tree"


def test_depth_and_number_are_bounded_without_recursion() -> None:
    deepest = chain(scenario.DEPTH_MAX)
    data = scenario.encode(deepest)
    assert scenario.measure(scenario.read(data)) == (256, 256)
    leaf = scenario.encode(Branch(CIDS[0], CIDS[1], 1, 1))
    assert refused(leaf[:-1] + b"\x81" + data) == "bad_tree"
    assert refused((leaf[:-1] + b"\x81") * 100_000) == "too_large"
    wide = leaf[:-1] + b"\x19\x0f\xff"
    assert refused(wide) == "bad_tree"


@pytest.mark.parametrize(
    ("at", "byte"), [(0, 0x84), (1, 0xD9), (3, 0x59), (42, 0xD9), (83, 0x18), (84, 0x1A), (85, 0x9F)]
)
def test_a_branch_of_another_shape_is_none(at: int, byte: int) -> None:
    data = bytearray(scenario.encode(Branch(CIDS[0], CIDS[1], 1, 1)))
    data[at] = byte
    assert refused(bytes(data)) == "bad_tree"


def test_what_is_out_of_range_is_refused() -> None:
    data = scenario.encode(Branch(CIDS[0], CIDS[1], 1, 1))
    assert refused(data[:-2] + b"\x19\x40\x01\x80") == "bad_tree"  # weight 16385
    assert refused(data[:-3] + b"\x1a\x00\x01\x00\x00\x01\x80") == "bad_tree"  # probability 65536
    assert refused(data[:-2] + b"\x18\x01\x80") == "bad_tree"  # a longer 1
    assert refused(data + b"\x00") == "bad_tree" and refused(b"") == "bad_tree"


@given(st.binary(max_size=300))
def test_any_bytes_are_a_tree_or_refused(data: bytes) -> None:
    try:
        tree = scenario.read(data)
    except RemoteError:
        return
    scenario.encode(tree)


# -- trust -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prior", "actual", "predicted", "weight", "after"),
    [
        (65535, 65535, 42598, 8192, 57507),
        (65535, 0, 42598, 8192, 37846),
        (65535, 0, 65535, 8192, 0),
        (65535, 0, 65535, 16384, 0),
        (32768, 65535, 32768, 16384, 16385),
        (65535, 65535, 65535, 8192, 65535),
    ],
)
def test_the_documents_examples(prior: int, actual: int, predicted: int, weight: int, after: int) -> None:
    assert update_trust(prior, actual, predicted, weight) == after


@given(UINT16, UINT16, UINT16, WEIGHTS)
def test_trust_is_the_formula_rounded_once(prior: int, actual: int, predicted: int, weight: int) -> None:
    after = update_trust(prior, actual, predicted, weight)
    loss = ((actual - predicted) / ONE) ** 2
    exact = prior * max(0.0, 1 - weight / WEIGHT_ONE * loss)
    assert 0 <= after <= prior
    assert abs(after - exact) <= 0.5 + 1e-6
    assert update_trust(0, actual, predicted, weight) == 0
    assert update_trust(prior, predicted, predicted, weight) == prior


@given(UINT16, UINT16, UINT16, UINT16, WEIGHTS)
def test_a_worse_forecast_never_earns_more(prior: int, actual: int, a: int, b: int, weight: int) -> None:
    near, far = sorted((a, b), key=lambda predicted: abs(predicted - actual))
    assert update_trust(prior, actual, near, weight) >= update_trust(prior, actual, far, weight)


def test_numbers_out_of_range_are_a_bug_of_the_callers() -> None:
    for wrong in [(-1, 0, 0, 0), (65536, 0, 0, 0), (0, 65536, 0, 0), (0, 0, -1, 0), (0, 0, 0, 16385)]:
        with pytest.raises(ValueError, match="0 to"):
            update_trust(*wrong)
