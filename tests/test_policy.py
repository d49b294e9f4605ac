"""Argument policies: rules that are total, that say no when in doubt, and that cost no more than they say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import dagcbor, policy
from promisegrid.cid import Cid
from promisegrid.policy import PolicyError, Rule

A, B = Cid.of(b"a"), Cid.of(b"b")
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(-2, 2, width=16)
    | st.text("ab*", max_size=3)
    | st.binary(max_size=2)
    | st.sampled_from([A, B])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=1), inner, max_size=2),
    max_leaves=5,
)


def holds(args: list[Any], *rules: list[Any]) -> bool:
    return all(rule.holds(args) for rule in policy.read(list(rules)))


@pytest.mark.parametrize(
    ("args", "rule", "expected"),
    [
        ([5], [0, "==", 5], True),
        ([5], [0, "==", 5.0], False),
        ([1], [0, "==", True], False),
        ([0.0], [0, "==", -0.0], False),
        ([[1, {"a": A}]], [0, "==", [1, {"a": A}]], True),
        ([[1, {"a": A}]], [0, "==", [1, {"a": B}]], False),
        ([{"a": 1}], [0, "==", {"a": 1, "b": 1}], False),
        ([5], [0, "!=", 6], True),
        ([5], [1, "!=", 6], False),
        ([5], [0, "<", 6], True),
        ([5], [0, "<", "6"], False),
        ([True], [0, "<", 6], False),
        (["b"], [0, ">=", "a"], True),
        ([5], [0, "in", [1, 5]], True),
        ([5], [0, "in", [5.0]], False),
        (["https://a.example/x"], [0, "like", "https://*.example/*"], True),
        (["http://a.example/x"], [0, "like", "https://*"], False),
        (["aba"], [0, "like", "ab*ba"], False),
        ([b"ab"], [0, "like", "ab"], False),
        ([A], [0, "type", "link"], True),
        ([True], [0, "type", "int"], False),
        ([{"w": [7]}], ["0.w.0", "<=", 7], True),
        ([{"w": [7]}], [[0, "w", 1], "<=", 7], False),
    ],
)
def test_what_a_rule_says(args: list[Any], rule: list[Any], expected: bool) -> None:
    assert holds(args, rule) is expected


@given(st.lists(values, max_size=3), values, st.sampled_from(policy.OPS))
def test_a_rule_is_total_and_equality_is_equality_of_what_is_written(
    args: list[Any], value: Any, op: str
) -> None:
    try:
        (rule,) = policy.read([[0, op, value]])
    except PolicyError:
        return
    said = rule.holds(args)
    if args and op in ("==", "!="):
        assert said is ((dagcbor.encode(args[0]) == dagcbor.encode(value)) is (op == "=="))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), {1, 2}, object(), [object()]])
def test_what_cannot_be_written_follows_no_rule(odd: Any) -> None:
    for op in ("==", "!="):
        assert not Rule((0,), op, odd).holds([odd])


class Counted(list[Any]):
    """A list that knows how often one looked into it."""

    looks = 0

    def __iter__(self) -> Any:
        for item in super().__iter__():
            Counted.looks += 1
            yield item


def test_a_rule_costs_no_more_than_it_says_however_large_the_arguments_are() -> None:
    huge = Counted(range(100_000))
    (rule,) = policy.read([[0, "in", [[n] for n in range(5000)]]])
    assert not rule.holds([huge]) and Counted.looks == 0
    (rule,) = policy.read([[0, "==", [0, 1, 3]]])
    assert not rule.holds([huge]) and Counted.looks == 0
    assert Rule((0,), "==", [0, 1, 2]).holds([Counted(range(3))]) and Counted.looks == 3


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        [[0, "==", 1]] * 33,
        [[0, "=="]],
        [["", "==", 1]],
        [["a", "==", 1]],
        [[-1, "==", 1]],
        [[True, "==", 1]],
        [[[0] * 9, "==", 1]],
        [[0, "=", 1]],
        [[0, ["=="], 1]],
        [[0, "like", 1]],
        [[0, "in", 1]],
        [[0, "type", "number"]],
    ],
)
def test_what_is_no_policy(wrong: Any) -> None:
    with pytest.raises(PolicyError):
        policy.read(wrong)
