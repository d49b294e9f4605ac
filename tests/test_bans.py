"""A banned key is out: at the greeting, over circuits, inside messages, in topics and in the cache."""

from __future__ import annotations

import pytest
from tests.scenes import add_one, claims_of, hand, module, never, refusals, sealed, sent
from tests.sim import Node, World
from tests.test_handshake import why
from tests.test_membership import admitter
from tests.test_nested import inside, message, refused
from tests.test_nested import world as nested_world
from tests.test_promises import again
from tests.test_relay import chain, link_of, say

from promisegrid.effects import Budget, Verify
from promisegrid.errors import LocalError
from promisegrid.frames import Dial, HangUp
from promisegrid.limits import Limits
from promisegrid.task import RunResult, Task

MIB = 1024 * 1024


def ban(node: Node, other: Node, reason: str = "") -> None:
    node.do(node.kernel.bans.ban(other.did, reason))
    node.world.run()


def test_a_banned_members_links_end_and_none_opens_again() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    ban(ann, eve, "floods")
    assert ann.peers() == ["bob"] and eve.peers() == [] and why(eve) == ["banned"]
    (row,) = ann.do(ann.kernel.bans.ls())
    assert (row["did"], row["reason"], row["at"]) == (eve.did, "floods", world.now_ms // 1000)
    world.link(eve, ann)
    world.link(ann, eve)
    assert eve.peers() == [] and set(why(eve)) == {"banned"}
    ann = again(ann)
    world.link(eve, ann)
    assert eve.peers() == [], "it is kept"
    world.link(eve, bob)
    assert eve.peers() == ["bob"], "each node decides for itself"


def test_it_ends_when_the_owner_says_so() -> None:
    world = World()
    ann, eve = world.grid("ann", "eve")
    ban(ann, eve)
    assert ann.do(ann.kernel.bans.unban(eve.did)) and not ann.do(ann.kernel.bans.unban(eve.did))
    world.link(eve, ann)
    assert eve.peers() == ["ann"] and again(ann).kernel._state.banned == set()


def test_no_invitation_and_no_admission_lets_it_in() -> None:
    world = World()
    ann, eve = world.grid("ann", "eve")
    ban(ann, eve)
    eve.do(eve.kernel.owner.leave())
    eve = again(eve)
    ann.kernel.open_mode = True
    world.link(eve, ann, ann.do(ann.kernel.owner.invite()))
    assert eve.kernel.grid is None and why(eve)[-1] == "banned"
    with pytest.raises(LocalError, match="unban"):
        ann.do(ann.kernel.owner.admit(eve.did))
    with pytest.raises(LocalError, match="unban"):
        ann.do(ann.kernel.promises.grant(eve.did, {"ability": "member"}))
    dan = world.node("dan")
    world.link(dan, ann, ann.do(ann.kernel.owner.invite()))
    assert "dan" in ann.peers(), "the invitation was not used up"


def test_an_admitter_that_is_banned_does_not_admit_itself_anew() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    admitter(ann, eve)
    guise = world.node("another key of eve's")
    world.link(guise, eve, eve.do(eve.kernel.owner.invite()))
    world.link(guise, bob)
    assert "another key of eve's" in bob.peers()
    ban(bob, eve)
    assert "another key of eve's" not in bob.peers()
    world.link(guise, bob)
    assert "another key of eve's" not in bob.peers() and why(guise)[-1] == "banned"
    assert "ann" in bob.peers()


def test_whom_this_node_admitted_stays_though_its_own_admitter_is_banned() -> None:
    """They are members on this node's word, not on the banned one's alone."""
    world = World()
    ann, eve = world.grid("ann", "eve")
    admitter(ann, eve, 2)
    bob, carol = world.node("bob"), world.node("carol")
    world.link(bob, eve, eve.do(eve.kernel.owner.invite()))
    admitter(eve, bob)
    world.link(carol, bob, bob.do(bob.kernel.owner.invite()))
    ban(bob, eve)
    assert bob.peers() == ["carol"]
    world.link(carol, bob)
    assert bob.peers() == ["carol"]


def test_a_banned_founder_is_out_and_its_members_are_not() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    ban(bob, ann)
    world.link(carol, bob)
    assert bob.peers() == ["carol"]
    world.link(bob, ann)
    assert bob.peers() == ["carol"]


def test_no_circuit_leads_to_it_or_comes_from_it() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    eve.do(eve.kernel.owner.set_serving(1, MIB))
    ban(bob, eve)
    ann.world.link(bob, eve)
    code = module(ann, add_one)
    with pytest.raises(LocalError) as wrong:
        ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget(), on=eve.did))
    assert wrong.value.code == "no_such_peer"
    say(ann, link_of(ann, bob), Dial(1000, eve.did, 2))
    said = [frame for frame in sent(bob.log) if isinstance(frame, HangUp)]
    assert said[-1].code == "banned"
    ban(ann, eve)
    with pytest.raises(LocalError, match="unban"):
        ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget(), on=eve.did))


def test_it_does_not_come_in_through_others() -> None:
    """Ann and Eve share no wire; Bob, who passes circuits on, bans nobody."""
    ann, _, eve = chain("ann", "bob", "eve")
    ann.do(ann.kernel.owner.set_serving(1, MIB))
    code = module(eve, add_one)
    eve.do(eve.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did))
    ban(ann, eve)
    assert link_of(ann, eve) is None and ann.kernel.near() == []
    with pytest.raises(LocalError):
        eve.do(eve.kernel.run(Task(code, "add_one", (2,)), Budget(), on=ann.did))
    assert len(ann.runs) == 1


def test_what_it_signed_is_not_looked_at_inside_somebody_elses_message() -> None:
    (ann, bob, eve), code = nested_world("ann", "bob", "eve")
    of_eve = inside(message(eve, ann, code, 40, sub=bob.did))
    ban(ann, eve)
    assert refused(bob, ann, code, of_eve) == "banned" and not ann.runs
    found = hand(ann, bob, sealed(eve, code, claims_of(eve, ann)))
    assert refusals(found) == ["banned"] and not any(isinstance(effect, Verify) for effect in found)


def test_what_runs_for_it_alone_is_stopped() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    ann.do(ann.kernel.owner.set_serving(2, MIB))
    code = module(ann, never)
    tasks = [Task(code, "add_one", (n,)) for n in (1, 2)]
    for task in tasks:
        eve.start(eve.kernel.run(task, Budget(), on=ann.did))
        world.run()
    bob.start(bob.kernel.run(tasks[0], Budget(), on=ann.did))
    world.run()
    assert len(ann.do(ann.kernel.owner.running())) == 2
    ban(ann, eve)
    (left,) = ann.do(ann.kernel.owner.running())
    assert left["task"] == str(tasks[0].block(Limits()).cid), "bob waits for the other one too"


def test_its_entries_in_topics_are_not_taken_nor_passed_on() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    world.link(bob, eve)
    for node in (ann, bob, eve):
        node.do(node.kernel.topics.follow("news"))
    eve.do(eve.kernel.topics.publish("news", "before"))
    world.pass_time(1_000)
    ban(ann, eve)
    eve.do(eve.kernel.topics.publish("news", "after"))
    bob.do(bob.kernel.topics.publish("news", "bob's"))
    world.pass_time(1_000)
    said = [one.body for one in ann.do(ann.kernel.topics.latest("news"))]
    assert said == ["bob's", "before"]
    assert len(bob.do(bob.kernel.topics.latest("news"))) == 3


def test_its_receipts_answer_nothing() -> None:
    world = World()
    ann, eve = world.grid("ann", "eve")
    eve.do(eve.kernel.owner.set_serving(1, MIB))
    ann.do(ann.kernel.owner.set_trust("peers", [eve.did]))
    task = Task(module(ann, add_one), "add_one", (1,))

    def ran() -> RunResult:
        done = ann.do(ann.kernel.run(task, Budget()))
        assert isinstance(done, RunResult)
        return done

    ann.do(ann.kernel.run(task, Budget(), on=eve.did))
    assert ran().by == eve.did and not ann.runs
    ban(ann, eve)
    assert ran().by == ann.did and len(ann.runs) == 1


def test_who_can_be_banned() -> None:
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve", limits=Limits(bans=1))
    for wrong in ("", "eve", "did:key:zNobody", ann.did):
        with pytest.raises(LocalError):
            ann.do(ann.kernel.bans.ban(wrong))
    with pytest.raises(LocalError):
        ann.do(ann.kernel.bans.ban(eve.did, "x" * 201))
    ban(ann, eve)
    ban(ann, eve, "again")
    with pytest.raises(LocalError, match="unban"):
        ban(ann, bob)
    assert ann.peers() == ["bob"]
