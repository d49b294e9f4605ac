"""Policies about arguments: what holds, what does not, and that asking never raises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import policy
from promisegrid.cid import Cid
from promisegrid.policy import PolicyError

ARGS: list[Any] = [5, "a long name", {"width": 7, "list": [1, 2.5, None]}, b"ab", Cid.of(b"x"), True, 1.0]

HOLD = [
    (0, "==", 5), ("0", "==", 5), ([0], "<=", 5), (0, "<", 5.5), (0, ">", -1), (0, ">=", 5), (0, "!=", 6),
    ("2.width", "==", 7), ([2, "list", 1], ">", 2), ("2.list", "==", [1, 2.5, None]),
    ([2, "list", 2], "type", "null"),
    (1, "like", "a*n*e"), (1, "like", "*"), (1, "like", "a long name"), (1, "like", "*name"), (1, ">", "a"),
    (0, "in", [4, 5]), (4, "in", [Cid.of(b"x")]), (3, "<", b"b"), (5, "==", True), (6, "==", 1.0),
    (0, "type", "int"), (1, "type", "text"), (2, "type", "map"), (3, "type", "bytes"), (4, "type", "link"),
    (5, "type", "bool"), (6, "type", "float"), ("2.list", "type", "list"), (2, "!=", {"width": 7}),
]  # fmt: skip
FAIL = [
    (0, "==", 5.0), (5, "==", 1), (6, "==", 1), (5, "<", 2), (0, "<", "6"), (1, "<", 9), (9, "==", 5),
    (9, "!=", 5), ("2.height", "!=", 5), ([0, 0], "!=", 1), ([1, 0], "==", "a"), (1, "like", "a*z"),
    (1, "like", "a long"), (1, "like", "a long name*name"), (0, "like", "*"), (0, "in", []), (0, "in", [[5]]),
    (5, "type", "int"), (0, "!=", 5), (0, "==", None), (2, "<", {"width": 8}),
]  # fmt: skip


@pytest.mark.parametrize("rule", HOLD, ids=repr)
def test_a_rule_that_holds(rule: Any) -> None:
    assert policy.read([list(rule)])[0].holds(ARGS)


@pytest.mark.parametrize("rule", FAIL, ids=repr)
def test_a_rule_that_does_not(rule: Any) -> None:
    assert not policy.read([list(rule)])[0].holds(ARGS)


@pytest.mark.parametrize(
    "bad",
    [
        None, {}, [1], [[0, "=="]], [["x", "==", 1]], [[-1, "==", 1]], [[0, "~", 1]], [[0, "like", 1]],
        [[0, "in", 1]], [[0, "type", "number"]], [[[], "==", 1]], [[[0] * 9, "==", 1]], [[True, "==", 1]],
        [[["a"], "==", 1]], [[0, "==", 1]] * 33,
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_policy(bad: Any) -> None:
    with pytest.raises(PolicyError):
        policy.read(bad)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(values, max_size=3), st.sampled_from(policy.OPS), values, st.integers(0, 2))
def test_asking_never_raises_and_nothing_is_equal_and_not(
    args: list[Any], op: str, value: Any, at: int
) -> None:
    try:
        (rule,) = policy.read([[at, op, value]])
    except PolicyError:
        return
    assert rule.holds(args) in (True, False)
    assert policy.read([rule.plain()]) == (rule,) or value != value
    equal, differs = policy.read([[at, "==", value], [at, "!=", value]])
    assert not (equal.holds(args) and differs.holds(args))


@given(st.text("ab*", max_size=8), st.text("ab", max_size=8))
def test_like_is_what_a_slow_matcher_says(pattern: str, text: str) -> None:
    def slow(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return slow(p[1:], t) or bool(t and slow(p, t[1:]))
        return bool(t) and t[0] == p[0] and slow(p[1:], t[1:])

    (rule,) = policy.read([[0, "like", pattern]])
    assert rule.holds([text]) == slow(pattern, text)
