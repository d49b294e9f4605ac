"""What one peer can cost us is bounded, link by link; and what we owe it is not lost."""

from __future__ import annotations

import pytest
from tests.scenes import (
    add_one,
    claims_of,
    forgive,
    hand,
    hand_frame,
    link_from,
    module,
    never,
    pair,
    refusals,
    replies,
    sealed,
    sent,
    with_claims,
)
from tests.sim import Node, World

from promisegrid import frames
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Close, Notify, Verify
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.strand import Scheduler
from promisegrid.task import Task


def closes(node: Node) -> list[str]:
    return [close.code for close in node.closed]


def test_a_flood_of_frames_closes_the_link() -> None:
    limits = Limits(link_inbox=10)
    scheduler = Scheduler(limits)
    link = Link(1, "responder", "b/grid", "ws", scheduler, limits)
    for _ in range(11):
        link.arrived(b"frame")
    assert scheduler.run() == [(0, Close(1, "busy", "More frames than this node can read."))]
    link.arrived(b"frame")
    link.send(frames.Ping(1))
    assert scheduler.run() == [], "a closed link neither hears nor speaks"


def test_a_flood_while_the_greeting_waits_closes_the_link() -> None:
    world = World()
    (ann,) = world.grid("ann", limits=Limits(link_inbox=4))
    ann.perform(ann.kernel.connect(9, "responder", "b/grid", "ws", world.now_ms))
    for _ in range(9):
        ann.perform(ann.kernel.receive(9, frames.encode(frames.Ping(1)), world.now_ms))
    world.run()
    assert len(ann.closed) == 1 and not ann.kernel._state.links


def test_signatures_that_do_not_hold_close_the_link() -> None:
    ann, bob, code = pair()
    for number in range(ann.limits.link_bad_signatures):
        assert ann.peers() == ["bob"], number
        bad = sealed(bob, code, with_claims(claims_of(bob, ann), cti=b"number %03d" % number), secret=1)
        hand(ann, bob, bad)
    assert closes(ann) == ["bad_signature"] and not ann.peers()


def test_only_so_many_signatures_of_a_link_are_checked_at_once() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(link_verifies=2))
    code = module(ann, add_one)
    link, issued = link_from(ann, bob), []
    for number in range(5):
        call = sealed(bob, code, with_claims(claims_of(bob, ann), cti=b"number %d" % number))
        issued += ann.kernel.receive(link, frames.encode(frames.Message(call)), world.now_ms)
    assert [type(effect) for _, effect in issued] == [Verify, Verify]
    before = len(ann.log)
    ann.perform(issued)
    world.run()
    assert len(replies(ann.log[before:])) == 5, "the others waited"


def test_messages_wait_for_credit_and_none_is_lost() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(link_credit=2, runs=1, runs_waiting=10))
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    code = module(ann, never)
    asks = [bob.start(bob.kernel.run(Task(code, "add_one", (n,)), Budget(), on=ann.did)) for n in range(5)]
    world.run()
    assert len(ann.runs) == 1, "one runs, one more is there, two wait at bob's, the fifth is too much"
    with pytest.raises(RemoteError) as wrong:
        bob.end(asks[4])
    assert wrong.value.code == "busy"
    for number in range(4):
        assert len(ann.runs) == number + 1
        ann.answer(max(ann.kernel._scheduler._waiting), add_one(ann.runs[number]))
        world.run()
    assert [bob.end(ask).value for ask in asks[:4]] == [1, 2, 3, 4]


def test_messages_beyond_the_credit_end_the_link() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(link_credit=2))
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    code = module(ann, never)
    for number in range(3):
        content = with_claims(claims_of(bob, ann), call=("add_one", (number,)), cti=b"number %d" % number)
        hand(ann, bob, sealed(bob, code, content))
    assert closes(ann) == ["busy"] and not ann.peers()


def test_credit_cannot_be_hoarded() -> None:
    ann, bob, _ = pair()
    link = bob.kernel._state.links[link_from(bob, ann)]
    for credit in (10**15, -(10**15)):
        hand_frame(bob, ann, frames.encode(frames.Credit(credit)))
    assert link._credit == bob.limits.link_credit


def test_blocks_asked_for_at_once_are_bounded() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(wants_served_per_link=2))
    link = link_from(ann, bob)
    for number in range(3):
        want = frames.Want(Cid.of(b"%d" % number), 0)
        effects = ann.kernel.receive(link, frames.encode(want), world.now_ms)
    assert [effect.code for _, effect in effects if isinstance(effect, Close)] == ["busy"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x80",
        b"\x81\x18\x63",
        frames.encode(frames.Join(None)),
        frames.encode(frames.Ping(1))[:-1],
    ],
)
def test_a_frame_that_is_none_ends_the_link_with_a_reason(data: bytes) -> None:
    ann, bob, _ = pair()
    effects = hand_frame(ann, bob, data)
    assert refusals(effects) == ["malformed"] and closes(ann) == ["malformed"]
    (down,) = [e for e in effects if isinstance(e, Notify) and e.detail.get("event") == "down"]
    assert down.detail["code"] == "malformed" and down.detail["did"] == bob.did


def test_a_frame_that_is_too_large() -> None:
    ann, bob, _ = pair()
    assert refusals(hand_frame(ann, bob, bytes(ann.limits.frame_bytes + 1))) == ["too_large"]


def test_a_peer_that_is_there_keeps_its_link_and_a_silent_one_loses_it() -> None:
    ann, bob, _ = pair()
    ann.world.pass_time(10 * ann.limits.silent_ms)
    assert ann.peers() == ["bob"]
    assert ann.kernel.peers()[0]["rtt_ms"] == 0
    bob.peer_drops = True
    ann.world.pass_time(ann.limits.silent_ms + ann.limits.ping_ms)
    assert not ann.peers() and not bob.peers()


def test_a_silent_peer_is_noticed_though_the_clock_was_set_back() -> None:
    ann, bob, _ = pair()
    bob.peer_drops = True
    ann.world.now_ms -= 3_600_000
    ann.world.tick()
    ann.world.pass_time(ann.limits.silent_ms + 2 * ann.limits.ping_ms)
    assert not ann.peers()


def test_peers_know_who_serves() -> None:
    ann, bob, _ = pair(serving=False)
    assert bob.kernel.peers()[0]["serves"] is False
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    ann.world.run()
    assert bob.kernel.peers()[0]["serves"] is True


def test_whoever_waits_for_a_peer_that_goes_is_told() -> None:
    ann, bob, _ = pair()
    task = Task(module(ann, never, name=b"never"), "add_one", (1,))
    ask = bob.start(bob.kernel.run(task, Budget(), on=ann.did))
    bob.world.run()
    bob.world.cut(bob, link_from(bob, ann))
    with pytest.raises(RemoteError) as wrong:
        bob.end(ask)
    assert wrong.value.code == "closed"
    with pytest.raises(LocalError, match="not connected"):
        bob.do(bob.kernel.run(task, Budget(), on=ann.did))


def test_a_call_outlives_another_link_of_the_same_peer() -> None:
    ann, bob, _ = pair()
    first = link_from(bob, ann)
    ann.world.link(ann, bob)
    assert len(bob.links) == 2, "one each way"
    task = Task(module(ann, never, name=b"never"), "add_one", (1,))
    ask = bob.start(bob.kernel.run(task, Budget(), on=ann.did))
    ann.world.run()
    called = max(bob.kernel._caller._pending.values(), key=lambda pending: pending.link.number).link.number
    assert called == first
    ann.world.cut(bob, max(bob.links))
    ann.world.run()
    ann.answer(max(ann.kernel._scheduler._waiting), add_one(ann.runs[0]))
    assert bob.end(ask).value == 2


def test_a_silent_peer_does_not_hold_a_caller_for_ever() -> None:
    ann, bob, code = pair()
    ann.peer_drops = True
    began = bob.world.now_ms
    with pytest.raises(RemoteError) as wrong:
        bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(time_ms=1000), on=ann.did))
    assert wrong.value.code in ("out_of_time", "closed")
    assert bob.world.now_ms - began <= 2 * bob.limits.silent_ms


def test_replies_nobody_asked_for_are_dropped() -> None:
    ann, bob, code = pair()
    content = with_claims(claims_of(bob, ann), call=None, reply_to=Cid.of(b"what?"), body={"receipt": 1})
    effects = hand(ann, bob, sealed(bob, code, content))
    assert not replies(effects) and not refusals(effects)
    for frame in (
        frames.Refusal("trap", "x", Cid.of(b"what?")),
        frames.Refusal("no such code", "x" * 2000, None),
        frames.Progress(Cid.of(b"what?"), "run", -5, -7),
        frames.BlockFrame(Cid.of(b"unasked"), b"unasked"),
        frames.Pong(99),
        frames.Admitted(b"\xff"),
    ):
        forgive(ann, bob)
        assert not sent(hand_frame(ann, bob, frames.encode(frame)))
    assert ann.peers() == ["bob"] and bytes(Cid.of(b"unasked")) not in ann.tables["blocks"]


def test_progress_of_a_call_reaches_whoever_asked_and_a_quick_one_says_nothing() -> None:
    ann, bob, code = pair()
    before = len(ann.log)
    bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did))
    assert not [f for f in sent(ann.log[before:]) if isinstance(f, frames.Progress)]
    slow = Task(module(ann, never, name=b"slow"), "add_one", (1,))
    ask = bob.start(bob.kernel.run(slow, Budget(), on=ann.did))
    ann.world.pass_time(6 * ann.limits.progress_ms)
    phases = [n.detail["phase"] for n in bob.notes if n.kind == "progress" and n.detail["ask"] == ask]
    assert phases == ["run"], "the latest word, once"


def test_of_several_links_to_a_peer_the_nearest_is_used() -> None:
    """A Unix socket before a WebSocket; when it is gone what is asked goes the other way."""
    world = World()
    ann, bob = world.grid("ann", "bob")
    world.link(ann, bob, via="unix")
    assert [peer["via"] for peer in ann.kernel.peers()] == ["ws", "unix"]
    for via in ("unix", "ws"):
        link = ann.kernel._state.link_to(bob.did)
        assert link is not None and link.via == via
        world.cut(ann, link.number)
        world.run()
    assert ann.kernel._state.link_to(bob.did) is None
