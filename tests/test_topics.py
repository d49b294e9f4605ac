"""Topics: what is published reaches whoever follows, over others too, and what was missed is found."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import cose, dagcbor, entry
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Failure
from promisegrid.entry import Entry
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.topics import TOPIC


def bodies(node: Node, topic: str = "news") -> list[object]:
    return [one.body for one in node.do(node.kernel.topics.entries(topic, limit=100_000))]


def follow(*nodes: Node, topic: str = "news") -> None:
    for node in nodes:
        node.do(node.kernel.topics.follow(topic))
    nodes[0].world.pass_time(1_000)


def publish(node: Node, body: object, topic: str = "news") -> Entry:
    made = node.do(node.kernel.topics.publish(topic, body))
    assert isinstance(made, Entry)
    node.world.run()
    return made


def test_what_is_published_reaches_all_who_follow() -> None:
    ann, bob, eve = World().grid("ann", "bob", "eve")
    follow(ann, bob, eve)
    heard: list[Entry] = []
    eve.kernel.topics.heard.append(heard.append)
    one = publish(bob, {"hello": 1})
    assert bodies(ann) == bodies(eve) == bodies(bob) == [{"hello": 1}]
    assert heard == [one] and heard[0].by == bob.did


def test_who_does_not_follow_hears_nothing_and_keeps_nothing() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(ann)
    publish(ann, 1)
    assert not bodies(bob) and not any(b"\0topic\0" in key for key in bob.tables["kv"])


def test_a_node_between_passes_on_and_keeps_for_those_who_are_away() -> None:
    """ann does not follow: bob and eve do, and know each other only through her."""
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    follow(bob, eve)
    publish(bob, "while there")
    assert bodies(eve) == ["while there"]
    (link,) = eve.links
    world.cut(eve, link)
    world.run()
    world.now_ms += 1
    publish(bob, "while away")
    assert bodies(eve) == ["while there"]
    world.link(eve, ann)
    world.pass_time(2_000)
    assert bodies(eve) == ["while there", "while away"]


def test_a_node_between_passes_on_what_it_cannot_keep_itself() -> None:
    """Nobody behind it waits for its disk; it does not say it has what it lacks, and finds it later."""
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    follow(ann, bob, eve)
    heard: list[Entry] = []
    ann.kernel.topics.heard.append(heard.append)
    ann.failing[Commit] = Failure("internal", "The disk is full.")
    publish(bob, "news")
    assert bodies(eve) == ["news"]
    assert not heard and not bodies(ann)
    del ann.failing[Commit]
    (link,) = eve.links
    world.cut(eve, link)
    world.run()
    world.link(eve, ann)
    world.pass_time(2_000)
    assert bodies(ann) == ["news"]


def test_what_both_sides_published_apart_is_exchanged() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    follow(ann, bob)
    for n in range(3):
        publish(ann, ["before", n])
    (link,) = bob.links
    world.cut(bob, link)
    world.run()
    for n in range(150):
        publish(ann, ["ann", n])
        world.now_ms += 7
        publish(bob, ["bob", n])
        world.now_ms += 7
    world.link(bob, ann)
    world.pass_time(2_000)
    assert len(bodies(ann)) == 303 and bodies(ann) == bodies(bob)


def test_what_was_published_before_one_followed_is_had() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(ann)
    for n in range(200):
        publish(ann, n)
        ann.world.now_ms += 1
    follow(bob)
    assert bodies(bob) == list(range(200))


def test_in_a_ring_each_entry_comes_once() -> None:
    world = World()
    nodes = world.grid("ann", "bob", "eve", "dan")
    world.link(nodes[1], nodes[2])
    world.link(nodes[2], nodes[3])
    world.link(nodes[3], nodes[1])
    follow(*nodes)
    heard: list[str] = []
    for node in nodes:
        node.kernel.topics.heard.append(lambda one, name=node.name: heard.append(name))
    publish(nodes[1], "once")
    assert sorted(heard) == ["ann", "dan", "eve"]


def test_it_is_known_after_a_restart() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(ann, bob)
    publish(ann, "kept")
    again = Node(ann.world, "bob", life=1)
    again.tables = bob.tables
    again.do(again.kernel.owner.boot())
    assert again.do(again.kernel.topics.followed()) == ["news"] and bodies(again) == ["kept"]


def test_a_topic_is_left() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(ann, bob)
    assert bob.do(bob.kernel.topics.leave("news")) and not bob.do(bob.kernel.topics.leave("news"))
    ann.world.pass_time(1_000)
    publish(ann, "gone by")
    assert bodies(bob) == []


def test_a_full_topic_loses_its_oldest() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(topic_entries=32))
    follow(ann, bob)
    for n in range(50):
        publish(ann, n)
        ann.world.now_ms += 1
    assert bodies(ann)[-1] == 49 and len(bodies(ann)) <= 32 and bodies(bob)[-1] == 49
    rows = [key for key in ann.tables["kv"] if key.startswith(b"\0topic\0")]
    assert len(rows) == len(bodies(ann))


def test_what_is_carried_for_others_is_bounded() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve", limits=Limits(topics_carried_bytes=1_000))
    follow(bob, eve)
    for n in range(30):
        publish(bob, [n, "x" * 100])
        world.now_ms += 1
    kept = [key for key in ann.tables["kv"] if key.startswith(b"\0topic\0")]
    assert 0 < len(kept) < 6


def test_entries_are_not_collected() -> None:
    ann = World().grid("ann")[0]
    follow(ann)
    one = publish(ann, {"see": Cid.of(b"elsewhere")})
    ann.world.now_ms += ann.limits.fresh_ms + 1
    ann.do(ann.kernel.base.collect())
    assert bytes(one.cid) in ann.tables["blocks"]


# -- what peers may not do -----------------------------------------------------------------------------


def say(node: Node, peer: Node, op: str, *args: object) -> Any:
    return node.do(node.kernel._caller.ask(peer.did, TOPIC, op, args, 5_000))


def seal(node: Node, at_ms: int, body: object) -> Entry:
    assert node.kernel.grid is not None
    made = node.do(entry.seal(node.kernel.grid, "news", node.did, at_ms, bytes(8), body))
    assert isinstance(made, Entry)
    return made


def forged(ann: Node, **change: object) -> bytes:
    made = seal(ann, ann.world.now_ms, "true")
    claim = dagcbor.decode(entry.read(made.data)[1].payload)
    sign1 = entry.read(made.data)[1]
    return cose.assemble(sign1.protected, dagcbor.encode({**claim, **change}), sign1.signature)


@pytest.mark.parametrize("change", [{"body": "false"}, {"at": 5}, {"nonce": b"12345678"}])
def test_a_forged_entry_is_refused(change: dict[str, object]) -> None:
    ann, bob = World().grid("ann", "bob")
    follow(bob)
    with pytest.raises(RemoteError) as wrong:
        say(ann, bob, "give", "news", [forged(ann, **change)])
    assert wrong.value.code == "bad_signature" and bodies(bob) == []


def test_forgeries_close_the_link() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(bob)
    for n in range(bob.limits.link_bad_signatures):
        with pytest.raises((RemoteError, LocalError)):
            say(ann, bob, "give", "news", [forged(ann, body=n)])
    ann.world.run()
    assert not bob.kernel.peers()


def test_an_entry_of_the_future_waits() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(bob)
    made = seal(ann, ann.world.now_ms + 120_000, "soon")
    assert say(ann, bob, "give", "news", [made.data]) == {"taken": 0}
    ann.world.now_ms += 61_000
    assert say(ann, bob, "give", "news", [made.data]) == {"taken": 1} and bodies(bob) == ["soon"]


def test_entries_under_another_name_are_refused() -> None:
    ann, bob = World().grid("ann", "bob")
    follow(bob, topic="other")
    made = seal(ann, ann.world.now_ms, "x")
    with pytest.raises(RemoteError) as wrong:
        say(ann, bob, "give", "other", [made.data])
    assert wrong.value.code == "malformed"


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("", ()),
        ("follow", (1,)),
        ("follow", (["news", 4],)),
        ("follow", (["news", True],)),
        ("follow", (["", 0],)),
        ("give", ("news",)),
        ("give", ("news", [1])),
        ("give", ("ne\nws", [])),
        ("compare", ("news", [[b"", b"", b""]])),
        ("compare", ("news", [[bytes(42), b""]])),
        ("compare", ("news", [[b"", b""]] * 513)),
        ("list", ("news", [1])),
        ("get", ("news", [[b"", b""]])),
        ("get", ("news", [[b"", b"", "x"]])),
        ("elsewhere", ("news", [])),
    ],
)
def test_what_the_protocol_does_not_know(op: str, args: tuple[object, ...]) -> None:
    ann, bob = World().grid("ann", "bob")
    with pytest.raises(RemoteError) as wrong:
        say(ann, bob, op, *args)
    assert wrong.value.code in {"bad_args", "bad_claims"}


@pytest.mark.parametrize("topic", ["", "a\nb", "x" * 257, "a\0b"])
def test_names_that_are_none(topic: str) -> None:
    ann = World().grid("ann")[0]
    for verb in (ann.kernel.topics.follow(topic), ann.kernel.topics.publish(topic, 1)):
        with pytest.raises(LocalError, match="topic"):
            ann.do(verb)


def test_what_cannot_be_published_is_told() -> None:
    ann = World().grid("ann")[0]
    with pytest.raises(LocalError, match="cannot be published"):
        publish(ann, object())
    with pytest.raises(LocalError, match="publish its CID"):
        publish(ann, "x" * 20_000)
