"""DAG edits and scenario trees between nodes: kept durably, several heads, followed, refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import forms, gridtag, scenario
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.protocols import SCENARIO_TREE
from promisegrid.protocols.edits import edit
from promisegrid.scenario import Branch

NOW = "2026-11-21T09:00:00Z"
WORDS = {"claims": [{"description": "a line", "detail": "hello"}]}


def say(node: Node, on: Node, op: str, payload: Any, parents: tuple[Cid, ...] = (), **changes: Any) -> Any:
    protocol, value = edit(op, node.did, NOW, changes.pop("target", "page"), payload, parents)
    return node.do(node.kernel.say(on.did, protocol, {**value, **changes}))


def refused(
    node: Node, on: Node, op: str, payload: Any, parents: tuple[Cid, ...] = (), **changes: Any
) -> str:
    with pytest.raises(RemoteError) as wrong:
        say(node, on, op, payload, parents, **changes)
    return wrong.value.code


def test_edits_build_on_each_other_and_stay_after_a_restart() -> None:
    ann, bob = World().grid("ann", "bob")
    first = say(bob, ann, "insert", WORDS)
    assert first["seq"] == 1 and first["heads"] == [first["edit"]]
    second = say(bob, ann, "reorder", WORDS, (first["edit"],))
    assert second["heads"] == [second["edit"]]
    again = Node(ann.world, "ann")
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    ann.world.nodes.append(again)
    for number in list(bob.links):
        ann.world.cut(bob, number)
    ann.world.run()
    ann.world.link(bob, again)
    third = say(bob, again, "delete", WORDS, (second["edit"],))
    assert third["seq"] == 3


def test_edits_that_do_not_know_of_each_other_are_both_heads_until_one_joins_them() -> None:
    ann, bob, eve = World().grid("ann", "bob", "eve")
    root = say(bob, ann, "insert", WORDS)["edit"]
    mine = say(bob, ann, "insert", WORDS, (root,))["edit"]
    theirs = say(eve, ann, "insert", WORDS, (root,))
    assert theirs["heads"] == [mine, theirs["edit"]]
    joined = say(eve, ann, "insert", WORDS, (mine, theirs["edit"]))
    assert joined["heads"] == [joined["edit"]]


def test_a_query_gives_whole_signed_edits_from_where_one_was() -> None:
    ann, bob, eve = World().grid("ann", "bob", "eve")
    names, parents = [], ()
    for _ in range(3):
        told = say(bob, ann, "insert", WORDS, parents)
        parents = (told["edit"],)
        names.append(told["edit"])
    told = say(eve, ann, "query", {"criteria": {"since": 1}})
    assert [Cid.of(raw) for raw in told["edits"]] == names[1:] and told["next"] == 3
    assert told["heads"] == names[-1:]
    assert ann.kernel.grid is not None
    _, said = forms.open_known(gridtag.open_tagged(told["edits"][0], 1 << 20), ann.kernel.grid, Limits())
    assert said.iss == bob.did
    assert say(eve, ann, "query", {"criteria": {}}, target="empty") == {"edits": [], "next": 0, "heads": []}


def test_who_follows_hears_of_every_edit_while_linked() -> None:
    ann, bob, eve = World().grid("ann", "bob", "eve")
    heard: list[Any] = []
    protocol, value = edit("subscribe", eve.did, NOW, "page", {"criteria": {}})
    assert eve.do(eve.kernel.follow(ann.did, protocol, value, heard.append)) == {"subscribed": "page"}
    first = say(bob, ann, "insert", WORDS)
    say(bob, ann, "insert", WORDS, target="another")
    second = say(bob, ann, "insert", WORDS, (first["edit"],))
    ann.world.run()
    assert [(Cid.of(one["edit"]), one["seq"]) for one in heard] == [(first["edit"], 1), (second["edit"], 2)]
    for number in list(eve.links):
        ann.world.cut(eve, number)
    ann.world.run()
    say(bob, ann, "insert", WORDS, (second["edit"],))
    ann.world.run()
    assert len(heard) == 2


def test_edits_that_are_refused() -> None:
    ann, bob = World().grid("ann", "bob")
    unknown = Cid.of(b"never seen")
    assert refused(bob, ann, "insert", WORDS, (unknown,)) == "unknown_edit"
    first = say(bob, ann, "insert", WORDS)["edit"]
    assert refused(bob, ann, "insert", WORDS) == "unknown_edit", "a second beginning"
    assert refused(bob, ann, "insert", WORDS, (first, first)) == "bad_args"
    assert refused(bob, ann, "insert", {"claims": []}, (first,)) == "bad_args"
    assert refused(bob, ann, "insert", WORDS, (first,), agent=ann.did) == "bad_args"
    assert refused(bob, ann, "insert", WORDS, (first,), timestamp="yesterday") == "bad_args"
    assert refused(bob, ann, "insert", WORDS, (first,), more=1) == "bad_args"
    assert refused(bob, ann, "undo", WORDS) == "bad_args"
    assert refused(bob, ann, "query", {"criteria": {"since": -1}}) == "bad_args"
    assert refused(bob, ann, "query", WORDS) == "bad_args"
    for number in range(16):
        say(bob, ann, "subscribe", {"criteria": {}}, target=f"t{number}")
    assert refused(bob, ann, "subscribe", {"criteria": {}}) == "busy"


def test_targets_are_bounded_and_one_member_begins_a_quarter() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(edit_targets=8))
    say(bob, ann, "insert", WORDS, target="one")
    say(bob, ann, "insert", WORDS, target="two")
    assert refused(bob, ann, "insert", WORDS, target="three") == "busy"


# -- scenario trees ------------------------------------------------------------------------------------------

EVENT, STATE, LATER = Cid.of(b"it rains"), Cid.of(b"the lawn is wet"), Cid.of(b"the lawn is green")
TREE = Branch(EVENT, STATE, 42598, 8192, (Branch(STATE, LATER, 58982, 9830),))


def tree_of(node: Node, tree: Branch = TREE) -> Cid:
    data = scenario.encode(tree)
    block = Block(Cid.of(data, "dag-cbor"), data)
    node.do(node.kernel.save([block]))
    return block.cid


def test_a_scenario_is_kept_and_trust_moves_with_what_came_of_it() -> None:
    ann, bob = World().grid("ann", "bob")
    root = tree_of(bob)
    told = bob.do(bob.kernel.say(ann.did, SCENARIO_TREE, [root, Cid.of(b"a contract")]))
    assert (told["branches"], told["depth"]) == (2, 2)
    assert ann.tables["blocks"][bytes(root)] == scenario.encode(TREE)
    assert ann.do(ann.kernel.scenarios.trust(bob.did)) == 32_768
    moved = ann.do(ann.kernel.scenarios.observe(told["accepted"], EVENT, STATE, happened=True))
    assert moved == scenario.update_trust(32_768, 65_535, 42_598, 8192) < 32_768
    worse = ann.do(ann.kernel.scenarios.observe(told["accepted"], STATE, LATER, happened=False))
    assert worse == scenario.update_trust(moved, 0, 58_982, 9830) < moved
    assert ann.do(ann.kernel.scenarios.trust(bob.did)) == worse
    with pytest.raises(LocalError, match="does not foretell"):
        ann.do(ann.kernel.scenarios.observe(told["accepted"], LATER, STATE, happened=True))


def test_scenarios_that_are_refused() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(scenarios=4, fetch_ms=1000))
    contract = Cid.of(b"a contract")
    for payload, code in (
        ([contract], "bad_args"),
        ([Cid.of(b"nobody has it"), contract], "not_found"),
        ([bob.put(b"not a tree"), contract], "bad_tree"),
    ):
        with pytest.raises(RemoteError) as wrong:
            bob.do(bob.kernel.say(ann.did, SCENARIO_TREE, payload))
        assert wrong.value.code == code
    bob.do(bob.kernel.say(ann.did, SCENARIO_TREE, [tree_of(bob), contract]))
    with pytest.raises(RemoteError) as wrong:
        bob.do(bob.kernel.say(ann.did, SCENARIO_TREE, [tree_of(bob), contract]))
    assert wrong.value.code == "busy", "a quarter is one member's"
