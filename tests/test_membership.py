"""Membership is passed on: admitters, backup keys, revocation; and a grid that outlives its founder."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.sim import Node, World
from tests.test_handshake import why
from tests.test_promises import again

from promisegrid import membership, statement
from promisegrid.cid import Cid
from promisegrid.errors import LocalError
from promisegrid.limits import Limits

DAY_MS = 24 * 3600 * 1000


def admitter(ann: Node, bob: Node, delegate: int = 1) -> None:
    """Ann, the founder, lets Bob admit others."""
    made = ann.do(ann.kernel.promises.grant(bob.did, {"ability": "member"}, delegate=delegate, days=700))
    assert made.delivered


def gone(world: World, *nodes: Node) -> None:
    """Nodes that never come back."""
    for node in nodes:
        for link in list(node.links):
            world.cut(node, link)
        world.run()
        world.nodes.remove(node)


def own(node: Node) -> membership.Membership:
    found = node.kernel._state.membership
    assert found is not None
    return found


def test_a_grid_outlives_its_founder() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    admitter(ann, bob)
    gone(world, ann)
    dan = world.node("dan")
    world.link(dan, bob, bob.do(bob.kernel.owner.invite()))
    assert dan.kernel.grid == ann.kernel.grid and bob.do(bob.kernel.owner.members()) == [dan.did]
    world.link(dan, carol)
    assert sorted(carol.peers()) == ["dan"] and "bob" in dan.peers()
    assert [one.issuer for one in own(dan).grant.chain] == [ann.did, bob.did]
    eve = world.node("eve")
    world.link(eve, dan)
    assert why(eve) == ["not_member"], "dan's may not be passed on"
    with pytest.raises(LocalError, match="may not admit"):
        dan.do(dan.kernel.owner.invite())


def test_an_admitter_admits_in_person_and_opens_its_door() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    admitter(ann, bob, 2)
    carol, dan = world.node("carol"), world.node("dan")
    bob.do(bob.kernel.owner.admit(carol.did))
    world.link(carol, bob)
    bob.kernel.open_mode = True
    world.link(dan, bob)
    assert {"carol", "dan"} <= set(bob.peers())
    world.link(dan, ann)
    assert "dan" in ann.peers()


def test_a_backup_key_can_do_what_the_founder_can() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    ann.do(ann.kernel.promises.backup(bob.did))
    gone(world, ann)
    world.now_ms += 15 * 365 * DAY_MS
    for name in ("carol", "dan"):
        joiner = world.node(name)
        world.link(joiner, bob, bob.do(bob.kernel.owner.invite()))
    carol, dan = world.nodes[-2:]
    made = bob.do(bob.kernel.promises.grant(carol.did, {"ability": "member"}, delegate=3, days=365))
    assert made.delivered and own(carol).delegate == 3
    world.link(dan, carol)
    assert "dan" in carol.peers()
    with pytest.raises(LocalError, match="delegate"):
        bob.do(bob.kernel.promises.grant(dan.did, {"ability": "member"}, delegate=7))
    with pytest.raises(LocalError, match="founder"):
        bob.do(bob.kernel.promises.backup(dan.did))


def test_a_revoked_member_is_out_wherever_it_is_heard() -> None:
    world = World()
    ann, _, carol, eve = world.grid("ann", "bob", "carol", "eve")
    world.link(eve, carol)
    name = own(eve).grant.name
    ann.do(ann.kernel.promises.revoke(name, "Not one of us."))
    world.run()
    assert "eve" not in ann.peers() and "eve" not in carol.peers()
    world.link(eve, carol)
    assert "eve" not in carol.peers() and why(carol)[-1] == "not_member"
    dan = world.node("dan")
    world.link(dan, ann, ann.do(ann.kernel.owner.invite()))
    world.link(eve, dan)
    assert "eve" not in dan.peers(), "whoever connects is told"


def test_an_admitter_takes_back_what_it_gave_and_no_more() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    admitter(ann, bob)
    dan = world.node("dan")
    world.link(dan, bob, bob.do(bob.kernel.owner.invite()))
    world.link(dan, carol)
    world.link(carol, bob)
    with pytest.raises(LocalError):
        bob.do(bob.kernel.promises.revoke(own(carol).grant.name))
    bob.do(bob.kernel.promises.revoke(own(dan).grant.name))
    assert "dan" not in bob.peers() and "dan" not in carol.peers() and "bob" in carol.peers()


def test_taking_back_an_admitter_takes_back_whom_it_admitted() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    admitter(ann, bob)
    dan = world.node("dan")
    world.link(dan, bob, bob.do(bob.kernel.owner.invite()))
    world.link(dan, carol)
    world.link(carol, bob)
    ann.do(ann.kernel.promises.dismiss(bob.did))
    world.run()
    assert "dan" not in carol.peers() and "bob" not in ann.peers() + carol.peers()
    for other in (ann, carol):
        world.link(bob, other)
        assert "bob" not in other.peers()


def test_an_admitter_that_may_not_admit_any_more_is_still_a_member() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    admitter(ann, bob)
    ann.do(ann.kernel.promises.revoke(own(bob).grant.name))
    assert own(bob).delegate == 0
    bob = again(bob)
    world.link(bob, ann)
    assert ann.peers() == ["bob"] and not bob.kernel._state.may_admit


def test_a_dismissed_members_store_stays_its_owners() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    ann.do(ann.kernel.promises.dismiss(bob.did))
    world.run()
    bob = again(bob)
    assert bob.kernel.grid == ann.kernel.grid and not bob.kernel._state.may_admit
    world.link(bob, ann)
    assert not ann.peers()
    bob.do(bob.kernel.owner.leave())
    bob = again(bob)
    assert bob.kernel.grid is None


def test_a_membership_that_was_taken_back_gives_way_to_another_after_a_restart_too() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    first = own(bob).proof
    admitter(ann, bob)
    better = own(bob).proof
    ann.do(ann.kernel.promises.revoke(own(bob).grant.name))
    assert own(bob).proof == first != better
    bob.tables["grid"][b"membership"] = better  # the end of it was not written down here
    bob = again(bob)
    assert own(bob).proof == first == bob.tables["grid"][b"membership"]
    world.link(bob, carol)
    assert carol.peers() and "bob" in carol.peers()


def test_a_dismissed_member_may_be_admitted_again_in_person() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    ann.do(ann.kernel.promises.dismiss(bob.did))
    assert ann.do(ann.kernel.owner.members()) == []
    ann.kernel.open_mode = True
    bob.do(bob.kernel.owner.leave())
    bob = again(bob)
    world.link(bob, ann)
    assert not ann.peers() and why(bob)[-1] == "not_member", "an open door is not open to him"
    ann.do(ann.kernel.owner.admit(bob.did))
    world.link(bob, ann)
    assert ann.peers() == ["bob"]


def test_who_left_stays_out_until_it_is_started_again() -> None:
    """What dials the grid goes on dialling; a member that is known needs no invitation."""
    world = World()
    ann, bob = world.grid("ann", "bob")
    ann.kernel.open_mode = True
    with pytest.raises(LocalError, match="founder"):
        ann.do(ann.kernel.owner.leave())
    bob.do(bob.kernel.owner.set_trust("peers", [ann.did]))
    bob.do(bob.kernel.owner.leave())
    world.run()
    assert ann.peers() == bob.peers() == [] and bob.kernel.grid is None
    assert bob.do(bob.kernel.owner.trust())["mode"] == "own"
    for one, other in ((bob, ann), (ann, bob)):
        world.link(one, other)
        assert bob.kernel.grid is None and why(bob)[-1] == "wrong_grid"
    zoe = world.node("zoe")
    zoe.do(zoe.kernel.owner.found("another"))
    world.link(bob, zoe, zoe.do(zoe.kernel.owner.invite()))
    assert bob.kernel.grid == zoe.kernel.grid
    bob.do(bob.kernel.owner.leave())
    bob = again(bob)
    world.link(bob, ann)
    assert bob.kernel.grid == ann.kernel.grid


def back(node: Node, proof: bytes | None) -> Node:
    """The same key with another store: nothing but its grid and this membership."""
    world = node.world
    gone(world, node)
    twin = Node(world, node.name, node.limits, node.life + 1)
    world.nodes.append(twin)
    if proof is not None:
        twin.tables["grid"].update({b"genesis": node.tables["grid"][b"genesis"], b"membership": proof})
    twin.do(twin.kernel.owner.boot())
    return twin


@pytest.mark.parametrize("renewed", [False, True], ids=["joining", "renewing"])
def test_a_dismissal_takes_back_whatever_a_member_collected(renewed: bool) -> None:
    """Eve says that she lost hers, or shows one that is to be renewed, more often than she may hold any."""
    world = World()
    ann, eve = world.grid("ann", "eve", limits=replace(Limits(), promises_per_holder=3))
    first, collected = own(eve).proof, {own(eve).proof}
    if renewed:
        world.now_ms += (membership.LIFE_S // 2 + 1) * 1000
    for _ in range(6):
        eve = back(eve, first if renewed else None)
        world.link(eve, ann, bytes(16))
        world.run()
        collected.add(own(eve).proof)
    assert ann.do(ann.kernel.promises.dismiss(eve.did))
    for proof in collected:
        eve = back(eve, proof)
        world.link(eve, ann)
        assert not ann.peers()


def test_word_of_a_revocation_by_somebody_else_is_not_heard() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    world.link(bob, carol)
    chain = [one.raw for one in own(carol).grant.chain]
    said = bob.do(_statement_by(bob, own(carol).grant.name))
    told = bob.do(bob.kernel.promises.tell(ann.did, [{"chain": chain, "statement": said}]))
    assert not told and sorted(ann.peers()) == ["bob", "carol"]
    assert not ann.kernel._state.revoked


async def _statement_by(node: Node, name: Cid) -> bytes:
    said = statement.Statement(name, "revoked", node.did, node.world.now_ms // 1000)
    return (await statement.seal(said)).data


def test_any_admitter_renews() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    ann.do(ann.kernel.promises.backup(bob.did))
    before = own(carol)
    gone(world, ann)
    world.now_ms += (membership.LIFE_S // 2 + 1) * 1000
    world.link(carol, bob)
    world.run()
    assert own(carol).until > before.until and [one.issuer for one in own(carol).grant.chain][-1] == bob.did
    assert carol.tables["grid"][b"membership"] == own(carol).proof
