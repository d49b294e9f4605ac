"""Content kept by those who promised to: asked, checked, replaced."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.dispatch import Verified
from promisegrid.effects import Budget
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frames import Want
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.protocols import STORE, Answer

DATA = bytes(range(256)) * 6000
LIMITS = Limits(copies_check_ms=60_000, copies_answer_ms=5_000)


def circle(*names: str) -> list[Node]:
    """The first owns content; the others promised to store for it."""
    nodes = World().grid(*names, limits=LIMITS)
    for node in nodes[1:]:
        node.do(node.kernel.promises.grant(nodes[0].did, {"ability": "store"}))
    nodes[0].world.pass_time(1_000)
    return nodes


def has(node: Node, cid: Cid) -> bool:
    return bool(node.do(node.kernel.has(cid)))


def lose(node: Node) -> None:
    """A disk that forgets every block but what its node itself needs."""
    for key in [key for key in node.tables["blocks"] if key[1] in (0x55, 0x70)]:
        del node.tables["blocks"][key]


def test_as_many_as_are_wanted_keep_it() -> None:
    ann, *others = circle("ann", "bob", "eve", "dan")
    cid = ann.put(DATA)
    holders = ann.do(ann.kernel.replicas.want(cid, 2))
    assert len(holders) == 2 and sum(has(node, cid) for node in others) == 2
    (kept,) = [node for node in others if node.did == holders[0]]
    (row,) = kept.do(kept.kernel.storage.kept())
    assert row["cid"] == cid and row["for"] == ann.did and row["bytes"] > len(DATA)
    assert ann.do(ann.kernel.replicas.wanted())[0]["missing"] == 0


def test_it_survives_a_collection_and_goes_when_it_is_let_go() -> None:
    ann, bob = circle("ann", "bob")
    cid = ann.put(DATA)
    ann.do(ann.kernel.replicas.want(cid, 1))
    bob.world.now_ms += bob.limits.fresh_ms + 1
    bob.do(bob.kernel.base.collect())
    assert has(bob, cid) and bob.get(cid) == DATA
    assert ann.do(ann.kernel.replicas.want(cid, 0)) == [] and not bob.do(bob.kernel.storage.kept())
    bob.do(bob.kernel.base.collect())
    assert not has(bob, cid)


def test_when_one_disappears_another_takes_over() -> None:
    ann, bob, eve = circle("ann", "bob", "eve")
    cid = ann.put(DATA)
    told: list[tuple[str, str]] = []
    ann.kernel.replicas.told = lambda event, what, did: told.append((event, did))
    (first,) = ann.do(ann.kernel.replicas.want(cid, 1))
    gone, other = (bob, eve) if first == bob.did else (eve, bob)
    assert not has(other, cid)
    for link in list(gone.links):
        ann.world.cut(gone, link)
    ann.world.pass_time(3 * LIMITS.copies_check_ms)
    assert has(other, cid) and ann.do(ann.kernel.replicas.wanted())[0]["holders"] == [other.did]
    assert told == [("kept", first), ("missed", first), ("lost", first), ("kept", other.did)]


def test_who_has_lost_it_is_found_out() -> None:
    """It is linked and says it keeps it; a leaf chosen at random shows that it does not."""
    ann, bob, eve = circle("ann", "bob", "eve")
    cid = ann.put(DATA)
    (first,) = ann.do(ann.kernel.replicas.want(cid, 1))
    liar, other = (bob, eve) if first == bob.did else (eve, bob)
    lose(liar)
    for _ in range(2):
        ann.do(ann.kernel.replicas.check(cid))
    assert ann.do(ann.kernel.replicas.check(cid)) == [other.did] and other.get(cid) == DATA


def test_it_is_looked_after_after_a_restart() -> None:
    ann, bob = circle("ann", "bob")
    cid = ann.put(DATA)
    ann.do(ann.kernel.replicas.want(cid, 1))
    again = Node(ann.world, "ann", LIMITS, life=1)
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    (wish,) = again.do(again.kernel.replicas.wanted())
    assert wish == {"cid": str(cid), "copies": 1, "holders": [bob.did], "missing": 0}


def test_nobody_keeps_what_nobody_promised_to() -> None:
    ann, bob = World().grid("ann", "bob", limits=LIMITS)
    cid = ann.put(DATA)
    assert ann.do(ann.kernel.replicas.want(cid, 1)) == []
    assert ann.do(ann.kernel.replicas.wanted())[0]["missing"] == 1
    with pytest.raises(RemoteError) as wrong:
        ann.do(ann.kernel._caller.ask(bob.did, STORE, "keep", (cid,), 5_000))
    assert wrong.value.code == "not_permitted" and not has(bob, cid)


def test_no_more_than_was_promised() -> None:
    ann, bob = World().grid("ann", "bob", limits=LIMITS)
    bob.do(bob.kernel.promises.grant(ann.did, {"ability": "store"}, budget=Budget(output_bytes=1000), uses=1))
    ann.world.pass_time(1_000)
    large, small = ann.put(DATA), ann.put(b"small")
    assert ann.do(ann.kernel.replicas.want(large, 1)) == [] and not bob.do(bob.kernel.storage.kept())
    assert ann.do(ann.kernel.replicas.want(small, 1)) == [], "the one use is gone"


def test_a_promise_that_is_over_is_kept_no_more() -> None:
    ann, bob = World().grid("ann", "bob", limits=LIMITS)
    bob.do(bob.kernel.promises.grant(ann.did, {"ability": "store"}, days=1))
    ann.world.pass_time(1_000)
    cid = ann.put(b"for a day")
    ann.do(ann.kernel.replicas.want(cid, 1))
    bob.world.now_ms += 2 * 86_400_000
    again = Node(bob.world, "bob", LIMITS, life=1)
    again.tables = bob.tables
    again.do(again.kernel.owner.boot())
    assert again.do(again.kernel.storage.kept()) == []


@pytest.mark.parametrize("op", ["keep", "drop", "other"])
def test_what_the_protocol_does_not_know(op: str) -> None:
    ann, bob = circle("ann", "bob")
    for args in ((), (1,), (Cid.of(b"x"), 1)):
        with pytest.raises(RemoteError) as wrong:
            ann.do(ann.kernel._caller.ask(bob.did, STORE, op, args, 5_000))
        assert wrong.value.code == "bad_args"


def test_mistakes_are_told() -> None:
    ann = World().grid("ann")[0]
    for copies in (-1, 17):
        with pytest.raises(LocalError, match="copies"):
            ann.do(ann.kernel.replicas.want(Cid.of(b"x"), copies))
    with pytest.raises(LocalError, match="No copies"):
        ann.do(ann.kernel.replicas.check(Cid.of(b"x")))


# -- who promised to keep it, and cheats -------------------------------------------------------------------


def test_who_asks_back_for_what_he_is_asked_for_is_found_out() -> None:
    """bob keeps nothing, and gets each leaf he is asked for from the very node that asks."""
    ann, bob = circle("ann", "bob")
    cid = ann.put(DATA)
    assert ann.do(ann.kernel.replicas.want(cid, 1)) == [bob.did]
    lose(bob)
    exchange: Any = bob.kernel._exchange

    async def pass_on(link: Link, want: Want) -> None:
        await exchange._send(link, want.cid, await exchange.ask_peers(want.cid, None, 0))

    exchange._serve = pass_on
    for _ in range(2):
        ann.do(ann.kernel.replicas.check(cid))
    assert ann.do(ann.kernel.replicas.wanted())[0]["missing"] == 1
    del exchange._serve
    assert bob.get(cid) == DATA, "what was held back for a moment is given afterwards"


def test_who_says_that_he_keeps_it_is_looked_at_before_he_counts() -> None:
    ann, bob, eve = circle("ann", "bob", "eve")

    async def boast(verified: Verified, link: Link) -> Answer:
        return Answer({"kept": 1, "until": 2**40})

    bob.kernel._dispatcher.handlers[STORE] = boast
    cid = ann.put(DATA)
    assert ann.do(ann.kernel.replicas.want(cid, 2)) == [eve.did]
    assert ann.do(ann.kernel.replicas.check(cid)) == [eve.did]


def test_who_lost_it_and_promised_brings_it_back() -> None:
    ann, bob = circle("ann", "bob")
    cid = ann.put(DATA)
    ann.do(ann.kernel.replicas.want(cid, 1))
    lose(bob)
    for _ in range(2):
        ann.do(ann.kernel.replicas.check(cid))
    assert ann.do(ann.kernel.replicas.check(cid)) == [bob.did] and has(bob, cid)
    for link in list(ann.links):
        ann.world.cut(ann, link)
    ann.world.run()
    assert bob.get(cid) == DATA


def test_who_is_lost_does_not_count_after_a_restart() -> None:
    ann, bob = circle("ann", "bob")
    cid = ann.put(DATA)
    ann.do(ann.kernel.replicas.want(cid, 1))
    for link in list(bob.links):
        ann.world.cut(bob, link)
    for _ in range(2):
        ann.do(ann.kernel.replicas.check(cid))
    again = Node(ann.world, "ann", LIMITS, life=1)
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    assert again.do(again.kernel.replicas.wanted())[0]["missing"] == 1


def test_what_the_owner_has_lost_is_not_blamed_on_others() -> None:
    ann, bob = circle("ann", "bob")
    cid = ann.put(DATA)
    ann.do(ann.kernel.replicas.want(cid, 1))
    lose(ann)
    lose(bob)
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.replicas.check(cid))
    assert ann.do(ann.kernel.replicas.wanted())[0]["holders"] == [bob.did]


def test_it_is_let_go_twice_at_once() -> None:
    ann, _ = circle("ann", "bob")
    cid = ann.put(DATA)
    ann.do(ann.kernel.replicas.want(cid, 1))
    asks = [ann.start(ann.kernel.replicas.want(cid, 0)) for _ in range(2)]
    assert [ann.end(ask) for ask in asks] == [[], []] and not ann.do(ann.kernel.replicas.wanted())


def test_whoever_leaves_the_grid_wants_nothing_there() -> None:
    _, bob = circle("ann", "bob")
    cid = bob.put(DATA)
    assert bob.do(bob.kernel.replicas.want(cid, 1)) == []
    bob.do(bob.kernel.owner.leave())
    assert bob.do(bob.kernel.replicas.wanted()) == []
    assert not any(key.startswith(b"copies/") for key in bob.tables["grid"])


def test_a_promise_that_ends_while_the_node_runs_is_kept_no_more() -> None:
    ann, bob = World().grid("ann", "bob", limits=LIMITS)
    bob.do(bob.kernel.promises.grant(ann.did, {"ability": "store"}, days=1))
    ann.world.pass_time(1_000)
    cid = ann.put(b"for a day")
    ann.do(ann.kernel.replicas.want(cid, 1))
    bob.world.now_ms += 2 * 86_400_000
    assert bob.do(bob.kernel.storage.kept())
    bob.world.pass_time(1_000)
    assert bob.do(bob.kernel.storage.kept()) == []
