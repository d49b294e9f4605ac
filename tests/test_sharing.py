"""Shared streams: a move made anywhere is everywhere, forks are forks everywhere."""

from __future__ import annotations

import pytest
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.errors import LocalError


def share(*nodes: Node, by: tuple[str, ...] = ()) -> None:
    for node in nodes:
        node.do(node.kernel.sharing.share("notes", by))
    nodes[0].world.pass_time(1_000)


def move(node: Node, data: bytes) -> Cid:
    value = node.put(data)
    head = node.do(node.kernel.base.move("notes", value))
    node.world.pass_time(1_000)
    assert isinstance(head.cid, Cid)
    return head.cid


def heads(node: Node) -> list[Cid]:
    return sorted(node.do(node.kernel.base.head_cids("notes")))


def test_a_move_reaches_whoever_shares_the_stream_with_what_it_names() -> None:
    ann, bob, eve = World().grid("ann", "bob", "eve")
    share(bob, eve)
    first = move(bob, b"one")
    second = move(eve, b"two")
    assert heads(bob) == heads(eve) == [second] != [first]
    (head,) = bob.do(bob.kernel.base.heads("notes"))
    assert bob.get(head.value) == b"two" and head.by == eve.did and head.height == 1
    assert heads(ann) == [], "she only passes on"


def test_moves_made_apart_are_a_fork_on_both_sides_and_are_joined_on_both() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    share(ann, bob)
    move(ann, b"common")
    (link,) = bob.links
    world.cut(bob, link)
    world.run()
    mine, yours = move(ann, b"ann's"), move(bob, b"bob's")
    world.link(bob, ann)
    world.pass_time(3_000)
    assert heads(ann) == heads(bob) == sorted((mine, yours))
    joined = move(bob, b"both")
    assert heads(ann) == heads(bob) == [joined]


def test_what_is_not_shared_stays_at_home() -> None:
    ann, bob = World().grid("ann", "bob")
    share(bob)
    move(ann, b"private")
    assert heads(bob) == [] and not [row for row in ann.tables["kv"] if row.startswith(b"\0topic")]


def test_a_stream_begun_before_it_was_shared_is_told() -> None:
    ann, bob = World().grid("ann", "bob")
    first = move(ann, b"before")
    share(ann, bob)
    assert heads(bob) == [first]


def test_only_those_named_are_taken() -> None:
    ann, bob, eve = World().grid("ann", "bob", "eve")
    share(ann, by=(bob.did,))
    share(bob, eve)
    good = move(bob, b"bob's")
    move(eve, b"eve's")
    assert heads(ann) == [good]
    assert ann.do(ann.kernel.sharing.shared()) == {"notes": [bob.did]}


def test_it_is_shared_after_a_restart_and_not_after_it_was_ended() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    share(ann, bob)
    again = Node(world, "bob", life=1)
    world.nodes[world.nodes.index(bob)] = again
    again.tables = bob.tables
    again.do(again.kernel.owner.boot())
    world.link(again, ann)
    world.pass_time(1_000)
    assert heads(again) == [move(ann, b"news")] == heads(again) or heads(again) == heads(ann)
    assert again.do(again.kernel.sharing.unshare("notes"))
    assert not again.do(again.kernel.sharing.unshare("notes"))
    world.pass_time(1_000)
    last = move(ann, b"later")
    assert last not in heads(again)


def test_mistakes_are_told() -> None:
    ann = World().grid("ann")[0]
    for name, by in (("", ()), ("a\nb", ()), ("notes", ("did:key:nobody",))):
        with pytest.raises(LocalError):
            ann.do(ann.kernel.sharing.share(name, by))
