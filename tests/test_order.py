"""Order and cost: who is served when, what is given up, and what is never done twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.scenes import (
    add_one,
    claims_of,
    forgive,
    hand,
    link_from,
    module,
    names,
    never,
    pair,
    read_reply,
    refusals,
    replies,
    sealed,
    sent,
    with_claims,
)
from tests.sim import Node, World

from promisegrid import frames
from promisegrid.cid import Cid
from promisegrid.dispatch import Verified
from promisegrid.effects import Budget, Cancel, Commit, Effect, Failure, Job, Send, Sign, Verify, Write
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.protocols import Answer
from promisegrid.task import Task

NOTE = Cid.of(b"the specification of a protocol that takes notes")


def trio(limits: Limits | None = None) -> tuple[Node, Node, Node]:
    """Ann, who runs one program at a time for others, and Bob and Carol."""
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol", limits=limits)
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    return ann, bob, carol


def call(sender: Node, to: Node, code: Cid, number: int) -> bytes:
    """A distinct call."""
    content = with_claims(claims_of(sender, to), call=("add_one", (number,)), cti=b"%016d" % number)
    return sealed(sender, code, content)


def finish(node: Node, job: Job | None = None) -> None:
    """The program that runs on a node ends."""
    node.answer(max(node.kernel._scheduler._waiting), add_one(job or node.runs[-1]))
    node.world.run()


# -- turns ---------------------------------------------------------------------------------------------------


def test_a_flood_from_one_link_delays_another_by_one_run() -> None:
    ann, bob, carol = trio()
    code = module(ann, never)
    floods = iter([call(bob, ann, code, number) for number in range(1000)])
    for _ in range(ann.limits.link_credit):
        hand(ann, bob, next(floods))
    hand(ann, carol, call(carol, ann, code, 5000))
    while int.from_bytes(ann.runs[-1].params, "little") != 5000:
        finish(ann)
        hand(ann, bob, next(floods))
        assert len(ann.runs) <= 3, "the one that ran already, one more of the flood, then hers"


def test_a_flood_fills_the_line_and_others_still_get_in() -> None:
    ann, bob, carol = trio(Limits(runs_waiting=4))
    code = module(ann, never)
    for number in range(7):
        hand(ann, bob, call(bob, ann, code, number))
    refused = hand(ann, carol, call(carol, ann, code, 100))
    codes = [read_reply(raw, bob).refusal for raw in replies(refused)]
    assert [refusal[0] for refusal in codes if refusal] == ["busy"], "the last of the flood gives way"
    finish(ann)
    assert 100 in [int.from_bytes(job.params, "little") for job in ann.runs] or len(ann.runs) == 2
    finish(ann)
    assert 100 in [int.from_bytes(job.params, "little") for job in ann.runs]


# -- giving up -----------------------------------------------------------------------------------------------


def waits(bob: Node, ann: Node, code: Cid) -> int:
    """Bob asks Ann for something that takes long."""
    ask = bob.start(bob.kernel.run(Task(code, "add_one", (1,)), Budget(time_ms=1000), on=ann.did))
    bob.world.run()
    return ask


def test_a_call_that_is_given_up_stops_the_program() -> None:
    ann, bob, _ = pair()
    ask = waits(bob, ann, module(ann, never, name=b"slow"))
    assert len(ann.kernel._runner.flights) == 1
    before = len(ann.log)
    bob.perform(bob.kernel.cancel(ask, bob.world.now_ms))
    bob.world.run()
    assert not ann.kernel._runner.flights and any(isinstance(effect, Cancel) for effect in ann.log[before:])
    assert not replies(ann.log[before:]), "nobody waits for a reply, so none is signed"
    assert not ann.kernel._state.links[link_from(ann, bob)].work
    with pytest.raises(RemoteError) as wrong:
        bob.end(ask)
    assert wrong.value.code == "cancelled"


def test_a_call_nobody_answers_in_time_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bob, _ = pair()
    ask = waits(bob, ann, module(ann, never, name=b"slow"))
    carry = bob.world.carry

    def only_pongs(node: Node, send: Send) -> None:
        if node is bob or isinstance(frames.decode(send.frame, 1 << 20), frames.Pong):
            carry(node, send)

    monkeypatch.setattr(bob.world, "carry", only_pongs)
    with pytest.raises(RemoteError) as wrong:
        bob.end(ask)
    assert wrong.value.code == "out_of_time"
    assert [f for f in sent(bob.log) if isinstance(f, frames.Cancel)]


def test_a_message_that_waited_for_credit_is_never_sent_when_it_is_given_up() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(link_credit=1))
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    code = module(ann, never)
    tasks = [Task(code, "add_one", (number,)) for number in range(2)]
    asks = [bob.start(bob.kernel.run(task, Budget(), on=ann.did)) for task in tasks]
    world.run()
    before = len(bob.log)
    bob.perform(bob.kernel.cancel(asks[1], world.now_ms))
    world.run()
    assert not sent(bob.log[before:])
    finish(ann)
    assert bob.end(asks[0]).value == 1 and len(ann.runs) == 1


def test_a_program_others_wait_for_goes_on_and_all_get_one_result() -> None:
    ann, bob, carol = trio()
    code = module(ann, never)
    task = Task(code, "add_one", (41,))
    local = ann.start(ann.kernel.run(task, Budget()))
    asks = [waits(bob, ann, code), waits(carol, ann, code)]
    remote = [node.start(node.kernel.run(task, Budget(), on=ann.did)) for node in (bob, carol)]
    ann.world.run()
    assert len(ann.runs) == 2, "two tasks, five askers"
    bob.perform(bob.kernel.cancel(remote[0], bob.world.now_ms))
    ann.perform(ann.kernel.cancel(local, ann.world.now_ms))
    ann.world.run()
    assert len(ann.kernel._runner.flights) == 2
    for ticket, job in zip(sorted(ann.kernel._scheduler._waiting), ann.runs, strict=True):
        ann.answer(ticket, add_one(job))
    ann.world.run()
    assert carol.end(remote[1]).value == 42
    assert [bob.end(asks[0]).value, carol.end(asks[1]).value] == [2, 2]


def test_cancelling_what_is_unknown_or_somebody_elses_does_nothing() -> None:
    ann, bob, carol = trio()
    raw = call(bob, ann, module(ann, never), 1)
    hand(ann, bob, raw)
    for about in (Cid.of(raw), Cid.of(b"never sent")):
        ann.perform(
            ann.kernel.receive(link_from(ann, carol), frames.encode(frames.Cancel(about)), ann.world.now_ms)
        )
    assert len(ann.kernel._runner.flights) == 1 and len(ann.peers()) == 2


# -- the same bytes again ------------------------------------------------------------------------------------


def test_the_same_bytes_are_looked_at_again_on_another_link_and_when_they_have_expired() -> None:
    ann, bob, carol = trio()
    raw = call(bob, ann, module(ann, add_one), 1)
    first = hand(ann, bob, raw)
    assert replies(hand(ann, bob, raw)) == replies(first)
    other = hand(ann, carol, raw)
    refusal = read_reply(replies(other)[0], bob).refusal
    assert "Verify" in names(other) and refusal is not None and refusal[0] == "not_member"
    ann.world.now_ms += 60_000 + ann.limits.clock_skew_ms + 1000
    assert refusals(hand(ann, bob, raw)) == ["expired"]


def test_nobody_uses_up_the_number_of_another() -> None:
    ann, bob, carol = trio()
    raw = call(bob, ann, module(ann, add_one), 1)
    hand(ann, carol, raw)
    assert read_reply(replies(hand(ann, bob, raw))[0], bob).refusal is None


def test_a_bad_signature_does_not_lock_out_the_good_message_nor_is_it_ever_free() -> None:
    ann, bob, code = pair()
    good = call(bob, ann, code, 1)
    bad = good[:-1] + bytes([good[-1] ^ 1])
    for _ in range(2):
        effects = hand(ann, bob, bad)
        assert "Verify" in names(effects) and refusals(effects) == ["bad_signature"]
    assert ann.kernel._state.links[link_from(ann, bob)].bad_signatures == 2
    forgive(ann, bob)
    assert len(replies(hand(ann, bob, good))) == 1


def test_a_reply_holds_as_long_as_its_message_may_be_repeated() -> None:
    ann, bob, code = pair()
    content = claims_of(bob, ann)
    day = with_claims(content, exp=content.exp + 20_000)
    (reply,) = replies(hand(ann, bob, sealed(bob, code, day)))
    assert read_reply(reply, bob).exp == day.exp


# -- calls that change something -----------------------------------------------------------------------------


def takes_notes(node: Node, told: list[bytes]) -> Callable[[Verified, Link], Any]:
    """A built-in protocol that writes down the number of each message."""

    async def handle(verified: Verified, link: Link) -> Answer:
        told.append(verified.claims.cti)
        if verified.claims.body == "look":
            return Answer(len(told))
        return Answer(len(told), (Write("grid", b"note/" + verified.claims.cti, b"noted"),))

    node.kernel._dispatcher.handlers[NOTE] = handle
    return handle


def note(bob: Node, ann: Node, body: object = "write", cti: bytes = b"note number one", **more: Any) -> bytes:
    return sealed(bob, NOTE, with_claims(claims_of(bob, ann), call=None, body=body, cti=cti, **more))


def restarted(node: Node, *peers: Node) -> Node:
    """The same node after a power cut, linked again."""
    for link in list(node.links):
        node.world.cut(node, link)
    node.world.run()
    fresh = Node(node.world, node.name, node.limits)
    fresh.tables, fresh.secret = node.tables, node.secret
    node.world.nodes[node.world.nodes.index(node)] = fresh
    fresh.do(fresh.kernel.owner.boot())
    for peer in peers:
        node.world.link(peer, fresh)
    return fresh


def test_a_call_that_changes_something_is_durable_before_it_is_answered_and_done_once() -> None:
    ann, bob, _ = pair(serving=False)
    told: list[bytes] = []
    takes_notes(ann, told)
    raw = note(bob, ann)
    first = hand(ann, bob, raw)
    assert names(first) == ["Verify", "Sign", "Commit", "Send"]
    (commit,) = [effect for effect in first if isinstance(effect, Commit)]
    assert [write.key.split(b"/")[0] for write in commit.writes] == [b"note", b"done"]
    assert replies(hand(ann, bob, raw)) == replies(first)
    ann = restarted(ann, bob)
    takes_notes(ann, told)
    assert replies(hand(ann, bob, raw)) == replies(first) and len(told) == 1
    refusal = read_reply(replies(hand(ann, bob, note(bob, ann, "other")))[0], bob).refusal
    assert refusal is not None and refusal[0] == "bad_claims", "another message with the same number"


def test_a_look_changes_nothing_and_is_not_kept() -> None:
    ann, bob, _ = pair(serving=False)
    takes_notes(ann, [])
    assert names(hand(ann, bob, note(bob, ann, "look"))) == ["Verify", "Sign", "Send"]


def test_what_was_kept_goes_when_it_has_expired() -> None:
    ann, bob, _ = pair(serving=False)
    takes_notes(ann, [])
    hand(ann, bob, note(bob, ann))
    later = ann.world.now_ms + 60_000 + ann.limits.clock_skew_ms + 1000
    ann.world.now_ms = later
    hand(ann, bob, note(bob, ann, cti=b"note number two"))
    done = [key for key in ann.tables["grid"] if key.startswith(b"done/")]
    assert len(done) == 1, "the first went with the second"
    ann.world.now_ms = later + 60_000 + ann.limits.clock_skew_ms + 1000
    ann = restarted(ann, bob)
    takes_notes(ann, [])
    hand(ann, bob, note(bob, ann, cti=b"note number three"))
    assert len([key for key in ann.tables["grid"] if key.startswith(b"done/")]) == 1


def test_changes_to_remember_are_bounded_for_each_sender() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol", limits=Limits(replay_kept=8))
    told: list[bytes] = []
    takes_notes(ann, told)
    for number in range(3):
        effects = hand(ann, bob, note(bob, ann, cti=b"note number %d" % number))
    refusal = read_reply(replies(effects)[0], bob).refusal
    assert refusal is not None and refusal[0] == "busy" and len(told) == 2
    hand(ann, carol, note(carol, ann))
    assert len(told) == 3


def test_a_change_that_cannot_be_kept_is_not_made() -> None:
    ann, bob, _ = pair(serving=False)
    takes_notes(ann, [])
    ann.failing[Commit] = Failure("disk_full", "The store is full.")
    refused = hand(ann, bob, note(bob, ann))
    refusal = read_reply(replies(refused)[0], bob).refusal
    assert refusal is not None and refusal[0] == "disk_full"


COSTLY: tuple[type[Effect], ...] = (Verify, Sign)


def test_a_repeat_costs_nothing_but_the_sending() -> None:
    ann, bob, code = pair()
    raw = call(bob, ann, code, 1)
    hand(ann, bob, raw)
    history = len(ann.do(ann.kernel.owner.history()))
    effects = [effect for _ in range(50) for effect in hand(ann, bob, raw)]
    assert not [effect for effect in effects if isinstance(effect, COSTLY)] and len(replies(effects)) == 50
    assert len(ann.do(ann.kernel.owner.history())) == history, "and is not counted"
