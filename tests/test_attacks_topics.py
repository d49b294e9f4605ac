"""Members who mean harm through topics: what they can cost others is bounded; nothing leaves its grid."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.sim import Node, World
from tests.test_topics import bodies, follow, publish, say

from promisegrid import entry
from promisegrid.comparison import Comparison
from promisegrid.effects import Commit, Failure
from promisegrid.entry import Entry
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.reconcile import Index, key_of
from promisegrid.topics import TOPIC


def run(coroutine: Any) -> None:
    """A coroutine that never waits."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def liar(answers: Any, index: Index, asks_max: int = 3_000) -> Comparison:
    """A comparison with a peer that answers like that."""
    asked = 0

    async def ask(link: Link, op: str, args: tuple[Any, ...]) -> Any:
        nonlocal asked
        asked += 1
        assert asked < asks_max, "this goes on for ever"
        return answers(op, args[1])

    async def take(link: Link, topic: str, items: Any) -> int:
        return len(items)

    async def read(keys: Any) -> list[Entry]:
        return []

    return Comparison(cast(Link, SimpleNamespace(did="did:key:liar")), "news", index, read, ask, take)


def test_who_says_that_every_range_differs_is_not_asked_for_ever() -> None:
    index = Index(key_of(n, bytes([n]) * 32) for n in range(200))

    def answers(op: str, ranges: Any) -> Any:
        return [[10**9, bytes(16)] for _ in ranges] if op == "compare" else \
            [b"" for _ in ranges] if op == "list" else {"entries": [], "more": True}  # fmt: skip

    run(liar(answers, index).run())


def test_who_gives_the_same_entry_again_and_again_is_not_asked_for_ever() -> None:
    ann, _ = World().grid("ann", "bob")
    again = publish(ann, "again").data

    def answers(op: str, ranges: Any) -> Any:
        return [[1, bytes(16)] for _ in ranges] if op == "compare" else {"entries": [again], "more": True}

    with pytest.raises(RemoteError, match="other than it was asked"):
        liar(answers, Index()).run().send(None)


def test_many_ranges_at_once_cost_little() -> None:
    """One message may ask for 512 fingerprints of all there is: the keys are not summed 512 times."""

    class Keys(list[bytes]):
        looked_at = 0

        def __getitem__(self, at: Any) -> Any:
            found = super().__getitem__(at)
            Keys.looked_at += len(found) if isinstance(at, slice) else 1
            return found

    index = Index()
    index.keys = Keys(key_of(n, n.to_bytes(32, "big")) for n in range(50_000))
    all_of_it = index.fingerprint((b"", b""))
    assert all(index.fingerprint((b"", b"")) == all_of_it for _ in range(511))
    assert Keys.looked_at < 512 * 600


def test_a_question_for_the_same_entries_many_times_is_refused() -> None:
    ann, bob = World().grid("ann", "bob")
    for wishes in ([[b"", b"", None]] * 2, [[b"b", b"a", b""], [b"a", b"b", b""]]):
        with pytest.raises(RemoteError) as wrong:
            say(ann, bob, "get", "news", wishes)
        assert wrong.value.code == "bad_args"
    assert say(ann, bob, "get", "news", [[b"", b"a", None], [b"a", b"", None]])["entries"] == []


def test_names_of_topics_cost_nothing() -> None:
    """Neither asking about topics nor following them, with ever other names, leaves anything behind."""
    ann, bob = World().grid("ann", "bob", limits=Limits(topics=8))
    for n in range(30):
        say(bob, ann, "compare", f"a{n}", [[b"", b""]])
        say(ann, bob, "follow", *[[f"b{n} {m}", 0] for m in range(8)])
        say(ann, bob, "give", f"b{n} 0", [])
    ann.world.pass_time(5_000)
    for node in (ann, bob):
        assert not node.kernel.topics._indexes


def test_what_was_carried_longest_makes_room() -> None:
    """However much somebody had carried, what others publish later is still passed on."""
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve", limits=Limits(topics_carried_bytes=2_000))
    follow(bob, eve)
    for n in range(60):
        publish(bob, n)
        world.now_ms += 1
    assert bodies(eve) == list(range(60))
    kept = [key for key in ann.tables["kv"] if key.startswith(b"\0topic\0")]
    assert 0 < len(kept) < 12 and len(kept) == sum(map(len, ann.kernel.topics._indexes.values()))


def test_what_was_carried_before_a_restart_counts() -> None:
    world = World()
    limits = Limits(topics_carried_bytes=2_000)
    ann, bob, eve = world.grid("ann", "bob", "eve", limits=limits)
    follow(bob, eve)
    for n in range(8):
        publish(bob, n)
    again = Node(world, "ann", limits, life=1)
    again.tables = ann.tables
    world.nodes.append(again)
    again.do(again.kernel.owner.boot())
    world.run()
    assert again.kernel.topics._carrying.bytes == ann.kernel.topics._carrying.bytes > 0


def test_an_entry_of_another_grid_is_none() -> None:
    """One key in two grids: what it said in one cannot be said again in the other."""
    ann, bob = World().grid("ann", "bob")
    follow(bob)
    world = World()
    twin = world.node("ann")
    twin.do(twin.kernel.owner.found("another"))
    said = twin.do(twin.kernel.topics.publish("news", "elsewhere"))
    with pytest.raises(RemoteError) as wrong:
        say(ann, bob, "give", "news", [said.data])
    assert wrong.value.code == "wrong_grid" and bodies(bob) == []


def test_what_was_heard_in_a_grid_stays_there_when_its_member_leaves_for_another() -> None:
    ann, bob = World().grid("ann", "bob")
    world = bob.world
    follow(ann, bob)
    publish(ann, "ours")
    assert bodies(bob) == ["ours"]
    bob.do(bob.kernel.owner.leave())
    world.run()
    eve = world.node("eve")
    eve.do(eve.kernel.owner.found("elsewhere"))
    follow(eve)
    world.link(bob, eve, eve.do(eve.kernel.owner.invite()))
    assert bob.do(bob.kernel.topics.followed()) == []
    follow(bob)
    assert bodies(eve) == [] and bodies(bob) == []
    publish(eve, "here")
    assert bodies(bob) == ["here"]


def test_who_was_too_busy_to_hear_what_is_followed_is_told_again() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    handle, refused = ann.kernel._dispatcher.handlers[TOPIC], []

    async def busy(verified: Any, link: Link) -> Any:
        if not refused and verified.claims.call[0] == "follow":
            refused.append(verified)
            raise RemoteError("busy", "Not now.")
        return await handle(verified, link)

    ann.kernel._dispatcher.handlers[TOPIC] = busy
    bob.do(bob.kernel.topics.follow("news"))
    world.pass_time(60_000)
    assert refused
    publish(ann, "heard")
    assert bodies(bob) == ["heard"]


def test_what_a_peer_could_not_take_it_gets_later_on_the_same_link() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    follow(ann, bob)
    bob.failing[Commit] = Failure("internal", "The disk is full.")
    publish(ann, "late")
    del bob.failing[Commit]
    world.now_ms += 1
    publish(ann, "next")
    world.pass_time(120_000)
    assert bodies(bob) == ["late", "next"]


def test_one_who_follows_much_leaves_room_for_what_others_follow() -> None:
    limits = Limits(topics=8)
    hub, ann, bob, eve = World().grid("hub", "ann", "bob", "eve", limits=limits)
    follow(ann)
    for _ in range(2):
        say(bob, hub, "follow", *[[f"junk {n}", 0] for n in range(8)])
        ann.world.pass_time(2_000)
    follow(eve, topic="other")
    publish(ann, "hello", topic="other")
    assert bodies(eve, "other") == ["hello"]


def test_talking_about_what_one_follows_is_not_passed_on_each_time() -> None:
    """One word of a peer is one to every other: they go together, a few a second."""
    hub, ann, bob = World().grid("hub", "ann", "bob")
    before = bob.kernel._state.link_to(hub.did)
    assert before is not None
    frames = before.traffic.frames_in
    for n in range(100):
        ann.start(ann.kernel._caller.ask(hub.did, TOPIC, "follow", ([f"t{n}", 0],), 5_000))
        ann.world.run()
    assert before.traffic.frames_in - frames < 12
    ann.world.pass_time(3_000)
    assert before.topics == {"t99": 1}


def test_publishing_needs_a_grid() -> None:
    ann = World().node("ann")
    with pytest.raises(LocalError, match="no grid"):
        ann.do(ann.kernel.topics.publish("news", 1))


def test_a_name_and_an_entry_are_read_alike() -> None:
    ann = World().grid("ann")[0]
    one = publish(ann, 1)
    assert entry.read(one.data)[0] == one and one.grid == ann.kernel.grid
