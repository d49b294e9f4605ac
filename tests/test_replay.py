"""A message counts once: the same message again gets the same reply, whatever the network repeats."""

from __future__ import annotations

import pytest
from tests.scenes import (
    add_one,
    claims_of,
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
    with_claims,
)
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Cancel, Effect
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.replay import Replay
from promisegrid.strand import Scheduler


def signed_refusals(effects: list[Effect], to: Node) -> list[str]:
    """The codes of the signed refusals among some effects."""
    read = [read_reply(raw, to).refusal for raw in replies(effects)]
    return [refusal[0] for refusal in read if refusal is not None]


def test_the_same_message_twice_gets_the_same_bytes() -> None:
    ann, bob, code = pair()
    call = sealed(bob, code, claims_of(bob, ann))
    first, second = hand(ann, bob, call), hand(ann, bob, call)
    assert replies(first) == replies(second) and len(replies(first)) == 1
    assert len(ann.runs) == 1
    assert names(second) == ["Send"], "nothing is verified, run or signed anew"


def test_a_repeat_while_the_first_is_still_running_waits_for_its_reply() -> None:
    ann, bob, _ = pair()
    waiting: list[bool] = []
    code = module(ann, lambda job: None if waiting else add_one(job), name=b"slow")
    waiting.append(True)
    call = sealed(bob, code, claims_of(bob, ann))
    hand(ann, bob, call)
    hand(ann, bob, call)
    assert len(ann.runs) == 1
    ticket = max(ann.kernel._scheduler._waiting)
    before = len(ann.log)
    ann.answer(ticket, add_one(ann.runs[0]))
    ann.world.run()
    first, second = replies(ann.log[before:])
    assert first == second


def test_a_number_serves_one_message() -> None:
    ann, bob, code = pair()
    content = claims_of(bob, ann)
    hand(ann, bob, sealed(bob, code, content))
    other = hand(ann, bob, sealed(bob, code, with_claims(content, call=("add_one", (1,)))))
    assert signed_refusals(other, bob) == ["bad_claims"] and not refusals(other)
    assert len(ann.runs) == 1


def test_another_sender_may_use_the_same_number() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    code = module(ann, add_one)
    cti = b"the same number"
    for sender in (bob, carol):
        assert replies(hand(ann, sender, sealed(sender, code, with_claims(claims_of(sender, ann), cti=cti))))


def test_a_refusal_is_repeated_too() -> None:
    ann, bob, code = pair(serving=False)
    call = sealed(bob, code, claims_of(bob, ann))
    first = replies(hand(ann, bob, call))
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    assert replies(hand(ann, bob, call)) == first
    fresh = read_reply(replies(hand(ann, bob, sealed(bob, code, claims_of(bob, ann))))[0], bob)
    assert fresh.refusal is None


def test_a_full_table_is_busy_and_forgets_nothing() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(replay_entries=2))
    code = module(ann, add_one)
    calls = [sealed(bob, code, with_claims(claims_of(bob, ann), cti=b"number %d" % n)) for n in range(3)]
    first = replies(hand(ann, bob, calls[0]))
    hand(ann, bob, calls[1])
    assert signed_refusals(hand(ann, bob, calls[2]), bob) == ["busy"]
    assert replies(hand(ann, bob, calls[0])) == first


def test_a_reply_that_is_no_longer_kept_is_made_again_without_running_again() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(replay_reply_bytes=10))
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    code = module(ann, add_one)
    call = sealed(bob, code, claims_of(bob, ann))
    first = read_reply(replies(hand(ann, bob, call))[0], bob)
    again = read_reply(replies(hand(ann, bob, call))[0], bob)
    assert isinstance(first.body, dict) and isinstance(again.body, dict)
    assert again.body["receipt"] == first.body["receipt"] and again.body["cached"] is True
    assert len(ann.runs) == 1


def test_one_sender_cannot_fill_the_table() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol", limits=Limits(replay_per_sender=1))
    code = module(ann, add_one)
    assert replies(hand(ann, bob, sealed(bob, code, claims_of(bob, ann))))
    second = sealed(bob, code, with_claims(claims_of(bob, ann), cti=b"another number"))
    assert signed_refusals(hand(ann, bob, second), bob) == ["busy"]
    assert replies(hand(ann, carol, sealed(carol, code, claims_of(carol, ann))))


def test_a_run_ends_with_the_link_of_the_last_one_who_asked() -> None:
    ann, bob, _ = pair()
    code = module(ann, never, name=b"slow")
    hand(ann, bob, sealed(bob, code, claims_of(bob, ann)))
    assert len(ann.runs) == 1
    ann.world.cut(ann, link_from(ann, bob))
    ann.world.run()
    assert not ann.kernel._runner.flights
    assert any(isinstance(effect, Cancel) for effect in ann.log)


def test_room_is_made_when_messages_expire_and_an_expired_one_does_not_run_again() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(replay_entries=1))
    code = module(ann, add_one)
    old = sealed(bob, code, claims_of(bob, ann))
    assert replies(hand(ann, bob, old))
    world.now_ms += 60_000 + ann.limits.clock_skew_ms
    assert replies(hand(ann, bob, old)), "still valid, so still remembered"
    world.now_ms += 1_001
    assert refusals(hand(ann, bob, old)) == ["expired"]
    assert replies(hand(ann, bob, sealed(bob, code, claims_of(bob, ann))))


def test_a_change_is_not_made_again_after_the_clock_was_ahead_for_a_while() -> None:
    scheduler, limits = Scheduler(Limits()), Limits()
    replay, begin_ms = Replay(scheduler, limits), 1_000_000_000
    scheduler.advance(begin_ms)
    made, later = (Claims(iss="bob", aud="ann", exp=begin_ms // 1000 + s, cti=bytes([s])) for s in (60, 61))
    replay.check_room(made)
    entry, _ = replay.admit(made, Cid.of(b"made"), "bob")
    replay.record(entry, b"reply")
    replay.keep(entry)
    scheduler.advance(begin_ms + 86_400_000)
    replay.check_room(Claims(iss="eve", aud="ann", exp=begin_ms // 1000 + 86_460, cti=b"x"))
    assert not replay.knows(made), "it has expired"
    scheduler.advance(begin_ms + 1_000)
    with pytest.raises(RemoteError) as wrong:
        replay.check_room(made)
    assert wrong.value.code == "busy"
    replay.check_room(later)
