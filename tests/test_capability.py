"""Chains of promises only get narrower, whatever their shape; and the attacks on them, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokens import CODE, GRID, LIMITS, NOW, chain, name_of, read, signed, token

from promisegrid import capability, claims
from promisegrid.capability import CHAIN_MAX, TOKEN_MAX, Grant
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError

OTHER = Cid.of(b"other")
HOUR = 3600


def check(tokens: list[bytes], holder: str = "bob", now: int = NOW, root: str | None = "ann") -> Grant:
    """As the issuer of the first token would, signatures too."""
    grant = capability.check(
        tokens, GRID, name_of(holder), now * 1000, LIMITS, None if root is None else name_of(root)
    )
    signed(grant)
    return grant


def refused(tokens: list[bytes], **more: Any) -> str:
    with pytest.raises(RemoteError) as wrong:
        check(tokens, **more)
    return wrong.value.code


def test_a_promise_says_what_it_says() -> None:
    limits = {"func": "add", "policy": [[0, "<", 5]], "budget": {"fuel": 7, "time": 9}, "uses": 3}
    grant = check([token("ann", "bob", **limits)])
    assert (grant.what, grant.func, grant.budget) == (("code", CODE), "add", Budget(fuel=7, time_ms=9))
    assert grant.uses == ((grant.name, 3),) and grant.until == NOW + 1000 and not grant.later
    assert grant.lacks(CODE, "add", [4]) is None
    for code, func, args in ((OTHER, "add", [4]), (CODE, "sub", [4]), (CODE, "add", [5]), (CODE, "add", [])):
        assert grant.lacks(code, func, args) is not None


def test_a_chain_says_what_all_of_it_says() -> None:
    second: dict[str, Any]
    first = {"budget": {"fuel": 9, "memory": 5}, "uses": 9, "policy": [[0, ">", 1]], "keep": "later"}
    second = {"budget": {"fuel": 8, "time": 4}, "func": "add", "policy": [[0, "<", 5]]}
    second["claim_exp"] = NOW + 500
    grant = check(chain("ann", "bob", "carol", each=(first, second)), "carol")
    assert grant.budget == Budget(fuel=8, memory_bytes=5, time_ms=4) and grant.later and grant.func == "add"
    assert [most for _, most in grant.uses] == [9] and grant.until == NOW + 500
    assert [grant.lacks(CODE, "add", [n]) is None for n in (1, 2, 4, 5)] == [False, True, True, False]


def test_any_program_may_be_narrowed_to_one() -> None:
    tokens = chain("ann", "bob", "carol", each=({"promise": {"ability": "run"}},))
    assert check(tokens, "carol").lacks(OTHER, "f", []) is not None
    assert check(tokens[:1]).lacks(OTHER, "f", []) is None


# -- attacks ---------------------------------------------------------------------------------------------


def swapped() -> list[bytes]:
    """Carol's token rests on a narrow promise; it is shown with a wide one of the same parties."""
    narrow = token("ann", "bob", delegate=1, uses=1)
    wide = token("ann", "bob", delegate=1, uses=100, claim_cti=b"another number!!")
    return [wide, token("bob", "carol", narrow, uses=1)]


def under_a_dead_parent() -> list[bytes]:
    parent = token("ann", "bob", delegate=1, claim_exp=NOW - HOUR)
    return [parent, token("bob", "carol", parent, claim_exp=NOW + HOUR)]


def looped() -> list[bytes]:
    first, second = chain("ann", "bob", "carol", each=({"delegate": 5},))
    return [first, second, first, second]


def too_long() -> list[bytes]:
    tokens = [token("ann", "bob", delegate=7)]
    return tokens * (CHAIN_MAX + 1)


ATTACKS: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
    "no chain": ("bad_capability", list),
    "stolen token": ("not_holder", lambda: [token("ann", "eve")]),
    "stolen chain": ("not_holder", lambda: chain("ann", "bob", "eve")),
    "swapped parent": ("bad_capability", swapped),
    "token for another grid": ("wrong_grid", lambda: [token("ann", "carol", grid=Cid.of(b"g", "dag-cbor"))]),
    "delegation by somebody else": (
        "bad_capability",
        lambda: [p := token("ann", "bob", delegate=1), token("eve", "carol", p)],
    ),
    "delegation in somebody's name": (
        "bad_capability",
        lambda: [p := token("ann", "bob", delegate=1), token("bob", "carol", p, signer="eve")],
    ),
    "expired parent": ("expired", under_a_dead_parent),
    "self-issued root": ("not_my_promise", lambda: [token("carol", "carol")]),
    "root in the issuer's name": ("bad_capability", lambda: [token("ann", "carol", signer="carol")]),
    "longer than any": ("bad_capability", too_long),
    "a loop": ("bad_capability", looped),
    "only the end": ("bad_capability", lambda: chain("ann", "bob", "carol")[1:]),
    "a receipt": ("bad_capability", lambda: [token("ann", "carol", typ="grid-receipt")]),
    "a message": ("bad_capability", lambda: [token("ann", "carol", typ="grid-message")]),
    "bound to another key": (
        "bad_capability",
        lambda: [token("ann", "carol", claim_extra={claims.CNF: {3: name_of("eve").encode()}})],
    ),
    "bound to no key": ("bad_capability", lambda: [token("ann", "carol", claim_extra={})]),
    "with the claims of a message": ("bad_capability", lambda: [token("ann", "carol", claim_call=("f", ()))]),
    "not begun": ("not_yet_valid", lambda: [token("ann", "carol", claim_nbf=NOW + HOUR)]),
    "over": ("expired", lambda: [token("ann", "carol", claim_exp=NOW - HOUR)]),
    "passed on though it may not be": (
        "widened",
        lambda: [p := token("ann", "bob"), token("bob", "carol", p)],
    ),
    "huge": ("bad_capability", lambda: [token("ann", "carol", policy=[[0, "==", "x" * TOKEN_MAX]])]),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_attack(what: str) -> None:
    code, make = ATTACKS[what]
    assert refused(make(), holder="carol") == code


WIDER: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another program": ({}, {"promise": {"code": OTHER}}),
    "any program": ({}, {"promise": {"ability": "run"}}),
    "another function": ({"func": "a"}, {"func": "b"}),
    "more fuel": ({"budget": {"fuel": 5}}, {"budget": {"fuel": 6}}),
    "more memory": ({"budget": {"memory": 5}}, {"budget": {"memory": 6}}),
    "more output": ({"budget": {"output": 5}}, {"budget": {"output": 6}}),
    "more time": ({"budget": {"time": 5}}, {"budget": {"time": 6}}),
    "more uses": ({"uses": 2}, {"uses": 3}),
    "for longer": ({}, {"claim_exp": NOW + 1001}),
    "from earlier": ({"claim_nbf": NOW - 5}, {"claim_nbf": NOW - 6}),
    "now, not later": ({"keep": "later"}, {"keep": "now"}),
    "as far": ({"delegate": 1}, {"delegate": 1}),
}


@pytest.mark.parametrize("what", WIDER)
def test_a_wider_delegation_is_refused(what: str) -> None:
    parent, child = WIDER[what]
    assert refused(chain("ann", "bob", "carol", each=(parent, child)), holder="carol") == "widened"


ALWAYS_SAID = {"as far", "for longer", "another program", "any program"}


@pytest.mark.parametrize("what", sorted(set(WIDER) - ALWAYS_SAID))
def test_silence_in_between_widens_nothing(what: str) -> None:
    """A link that says nothing about a bound does not lift it for the next."""
    first, last = WIDER[what]
    assert refused(chain("ann", "bob", "carol", "dan", each=(first, {}, last)), holder="dan") == "widened"


@pytest.mark.parametrize(
    "body",
    [
        {"promise": None}, {"promise": {}}, {"promise": {"ability": 1}}, {"promise": {"code": b"x"}},
        {"promise": {"code": CODE, "ability": "run"}}, {"grid": None}, {"delegate": None}, {"delegate": -1},
        {"delegate": 8}, {"delegate": True}, {"uses": 0}, {"uses": True}, {"func": ""}, {"keep": "never"},
        {"budget": {"fuel": 0}}, {"budget": {"money": 1}}, {"budget": {}}, {"policy": []},
        {"policy": [[0, "==", 1]] * 33}, {"policy": [["0", "==", 1]]}, {"policy": [[-1, "==", 1]]},
        {"policy": [[0, "=~", 1]]}, {"policy": {}}, {"rests_on": 5}, {"more": 1},
    ],
)  # fmt: skip
def test_what_is_no_promise(body: dict[str, Any]) -> None:
    with pytest.raises(RemoteError) as wrong:
        read(token("ann", "bob", signer=None, **body))
    assert wrong.value.code == "bad_capability"


def test_one_clock_skew_is_allowed() -> None:
    tokens = [token("ann", "bob", claim_nbf=NOW)]
    skew = LIMITS.clock_skew_ms // 1000
    assert check(tokens, now=NOW - skew) and check(tokens, now=NOW + 1000 + skew)
    assert refused(tokens, now=NOW - skew - 1) == "not_yet_valid"
    assert refused(tokens, now=NOW + 1001 + skew) == "expired"


# -- laws ------------------------------------------------------------------------------------------------

numbers = st.integers(1, 6)
rules = st.tuples(st.integers(0, 1), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), st.integers(0, 4))
bodies = st.fixed_dictionaries(
    {"delegate": st.integers(0, 7)},
    optional={
        "promise": st.sampled_from([{"code": CODE}, {"code": OTHER}, {"ability": "run"}]),
        "func": st.sampled_from(["a", "b"]),
        "policy": st.lists(rules.map(list), min_size=1, max_size=2),
        "budget": st.dictionaries(st.sampled_from(["fuel", "memory", "time"]), numbers, min_size=1),
        "uses": numbers,
        "keep": st.sampled_from(["now", "later"]),
        "claim_exp": st.integers(NOW + 1, NOW + 4),
        "claim_nbf": st.integers(NOW - 3, NOW),
    },
)
PEOPLE = ("ann", "bob", "carol", "dan", "eve")
CALLS = [(code, func, [x, y]) for code in (CODE, OTHER) for func in "ab" for x in (0, 2, 4) for y in (1, 3)]


def of(tokens: list[bytes]) -> Grant | None:
    """The grant of a chain, or None when it is refused."""
    people = PEOPLE[len(tokens)]
    try:
        return capability.check(tokens, GRID, name_of(people), NOW * 1000, LIMITS)
    except RemoteError:
        return None


def within(less: Budget, more: Budget) -> bool:
    pairs = [(getattr(less, name), getattr(more, name)) for name in Budget.__slots__]
    return all(bound is None or (mine is not None and mine <= bound) for mine, bound in pairs)


@given(st.lists(bodies, min_size=2, max_size=4))
@settings(max_examples=400, deadline=None)
def test_no_chain_promises_more_than_any_of_its_links(each: list[dict[str, Any]]) -> None:
    tokens: list[bytes] = []
    for at, body in enumerate(each):
        over = tokens[-1] if tokens else None
        tokens.append(token(PEOPLE[at], PEOPLE[at + 1], over, signer=None, **{"delegate": 7 - at, **body}))
    whole = of(tokens)
    if whole is None:
        return
    grants = [of(tokens[: size + 1]) for size in range(len(tokens))]
    alone = [capability.alone(read(raw)) for raw in tokens]
    for one in (*grants, *alone):
        assert one is not None, "what holds holds link by link"
        for code, func, args in CALLS:
            assert whole.lacks(code, func, args) is not None or one.lacks(code, func, args) is None
        assert within(whole.budget, one.budget)
        assert whole.until <= one.until and whole.starts >= one.starts
        assert set(one.uses) <= set(whole.uses)
        assert whole.later or not one.later
    depths = [one.delegate for one in grants if one is not None]
    assert depths == sorted(set(depths), reverse=True), "each hop leaves fewer"


@given(st.lists(bodies, min_size=2, max_size=4), st.data())
@settings(max_examples=100, deadline=None)
def test_narrowing_by_construction_is_accepted(each: list[dict[str, Any]], data: st.DataObject) -> None:
    """The law above is not empty: a delegation that says nothing new always holds."""
    tokens = [token("ann", "bob", signer=None, **{**each[0], "delegate": 4})]
    for at in range(1, len(each)):
        until = min(each[0].get("claim_exp", NOW + 1000), NOW + data.draw(st.integers(1, 1000)))
        changes = {"promise": each[0].get("promise", {"code": CODE}), "claim_exp": until}
        if at > 1:
            changes["claim_exp"] = read(tokens[-1]).until
        tokens.append(
            token(PEOPLE[at], PEOPLE[at + 1], tokens[-1], signer=None, delegate=4 - at, **changes)
        )
    assert of(tokens) is not None
