"""Shared streams: a move made anywhere is everywhere, forks are forks everywhere."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, Cid
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


# -- what must not stop it ---------------------------------------------------------------------------------


def test_a_head_whose_content_was_nowhere_is_taken_when_it_is_there() -> None:
    """ann only passes on, dan only listens: eve hears of bob's move while he is away, and nobody has it."""
    world = World()
    ann, bob, eve, dan = world.grid("ann", "bob", "eve", "dan")
    share(bob, eve)
    dan.do(dan.kernel.topics.follow("stream/notes"))
    move(bob, b"one")
    (link,) = eve.links
    world.cut(eve, link)
    world.run()
    second = move(bob, b"two")
    for link in list(bob.links):
        world.cut(bob, link)
    world.run()
    world.link(eve, ann)
    world.pass_time(60_000)
    assert heads(eve) != [second]
    world.link(bob, ann)
    world.pass_time(15 * 60_000)
    assert heads(eve) == [second]


def test_a_move_that_was_not_told_of_before_a_crash_is_told_of_afterwards() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    share(ann, bob)
    ann.kernel.base.on_moved.clear()  # it crashes between the two
    head = move(ann, b"one")
    assert heads(bob) == []
    for link in list(ann.links):
        world.cut(ann, link)
    again = Node(world, "ann", life=1)
    again.tables = ann.tables
    world.nodes[0] = again
    again.do(again.kernel.owner.boot())
    world.link(bob, again)
    world.pass_time(3_000)
    assert heads(bob) == [head]


def test_a_share_whose_topic_was_not_followed_before_a_crash_is_followed_afterwards() -> None:
    ann, _ = World().grid("ann", "bob")
    share(ann)
    del ann.tables["grid"][b"topic/stream/notes"]
    again = Node(ann.world, "ann", life=1)
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    assert again.do(again.kernel.topics.followed()) == ["stream/notes"]


def test_heads_that_are_none_cost_a_question_at_a_time() -> None:
    ann, bob = World().grid("ann", "bob")
    share(ann, bob)
    link = ann.kernel._state.link_to(bob.did)
    assert link is not None
    exchange: Any = bob.kernel._exchange
    exchange.wanted = lambda link, want: None  # it stays silent
    most = 0
    for n in range(300):
        bob.do(bob.kernel.topics.publish("stream/notes", {"head": Cid.of(b"%d" % n, DAG_CBOR)}))
        most = max(most, len(link.wants), len(ann.kernel._exchange._flights))
    assert most <= 1
    del exchange.wanted
    ann.world.pass_time(5_000)
    head = move(bob, b"one")
    ann.world.pass_time(60_000)
    assert heads(ann) == [head]


def test_a_head_that_says_it_is_as_high_as_can_be_ends_no_stream() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    share(ann, bob)
    first = move(bob, b"one")
    for height in (2**53 - 1, world.now_ms + 1_000_000):
        claim = {
            "stream": "notes", "value": eve.put(b"evil"), "previous": [first], "height": height,
            "by": eve.did, "at": world.now_ms // 1000,
        }  # fmt: skip
        signed = eve.do(cose.sign("grid-head", dagcbor.encode(claim), detached=True))
        block = Block.of(dagcbor.encode({**claim, "signature": signed}), DAG_CBOR)
        eve.do(eve.kernel.save([block]))
        eve.do(eve.kernel.topics.publish("stream/notes", {"head": block.cid}))
        world.pass_time(3_000)
        assert heads(ann) == heads(bob) == [first]
    assert heads(bob) == [first] != [move(ann, b"two")] == heads(bob)


def test_heads_of_somebody_banned_are_not_taken() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    share(ann, bob, eve)
    ann.do(ann.kernel.bans.ban(eve.did))
    world.link(eve, bob)
    ann.world.pass_time(2_000)
    head = move(eve, b"one")
    bob.do(bob.kernel.topics.publish("stream/notes", {"head": head}))
    ann.world.pass_time(60_000)
    assert heads(ann) == []


def test_whoever_leaves_the_grid_shares_nothing() -> None:
    _, bob = World().grid("ann", "bob")
    share(bob)
    bob.do(bob.kernel.owner.leave())
    assert bob.do(bob.kernel.sharing.shared()) == {}
    assert not any(key.startswith((b"stream/", b"topic/")) for key in bob.tables["grid"])
