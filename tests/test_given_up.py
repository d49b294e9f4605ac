"""What a peer decides to have done here and then gives up is done whole or not at all, never half."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.scenes import add_one, claims_of, hand, link_from, module, promised, read_reply, replies, sealed
from tests.sim import Node, World
from tests.test_failed_commits import book, on_disk
from tests.test_promises import again

from promisegrid import capability, frames
from promisegrid.capability import Terms
from promisegrid.cid import Cid
from promisegrid.effects import Cancel, Commit, Effect
from promisegrid.errors import RemoteError
from promisegrid.protocols import Answer
from promisegrid.protocols.promise import PROMISE

STEPS = 14
"""More than a revocation takes, from its arrival to its reply."""


def asked(sender: Node, to: Node, op: str, args: tuple[object, ...], proofs: tuple[bytes, ...] = ()) -> bytes:
    """A message of the promise protocol."""
    return sealed(sender, PROMISE, replace(claims_of(sender, to), call=(op, args), proofs=proofs))


def slow_disk(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes its time to commit, and does not when that is given up before it began."""
    perform, given_up = node.perform, set[int]()

    def commit(ticket: int, effect: Effect) -> None:
        if ticket not in given_up:
            perform([(ticket, effect)])

    def slowly(effects: list[tuple[int, Effect]]) -> None:
        for ticket, effect in effects:
            if isinstance(effect, Commit):
                node.world.later(partial(commit, ticket, effect))
                continue
            if isinstance(effect, Cancel):
                given_up.add(effect.ticket)
            perform([(ticket, effect)])

    monkeypatch.setattr(node, "perform", slowly)


def test_a_revocation_given_up_at_any_moment_is_in_memory_and_on_disk_or_in_neither(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    slow_disk(ann, monkeypatch)
    code = module(ann, add_one)
    root = promised(ann, bob.did, Terms(("code", code), delegate=1))
    taken_back = 0
    for delay in range(STEPS):
        child = promised(bob, ann.did, Terms(("code", code)), Cid.of(root), cti=bytes([delay]) * 8)
        proofs = (root, child)
        message, link = asked(bob, ann, "revoke", ("enough",), proofs), link_from(ann, bob)
        ann.perform(ann.kernel.receive(link, frames.encode(frames.Message(message)), world.now_ms))
        for _ in range(delay):
            world.step()
        cancel = frames.encode(frames.Cancel(Cid.of(message)))
        ann.perform(ann.kernel.receive(link, cancel, world.now_ms))
        world.run()
        assert book(ann) == on_disk(ann), delay
        taken_back += Cid.of(child) in book(ann)["gone"]
        (reply,) = replies(hand(ann, bob, asked(bob, ann, "revoke", ("enough",), proofs)))
        assert read_reply(reply, bob).refusal is None
        assert Cid.of(child) in on_disk(ann)["gone"], "asked again, it is taken back for good"
    assert 0 < taken_back < STEPS, "it was given up early and late"


@pytest.mark.parametrize("later", [False, True])
def test_a_use_given_up_at_any_moment_is_counted_in_memory_and_on_disk_or_in_neither(
    later: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    slow_disk(ann, monkeypatch)
    code = module(ann, add_one)
    terms = Terms(("code", code), uses=100, later=later or None)
    proofs, counted = (promised(ann, bob.did, terms),), []
    for delay in range(STEPS):
        content = replace(claims_of(bob, ann, args=(delay,)), proofs=proofs, cti=bytes([delay]) * 16)
        message, link = sealed(bob, code, content), link_from(ann, bob)
        ann.perform(ann.kernel.receive(link, frames.encode(frames.Message(message)), world.now_ms))
        for _ in range(delay):
            world.step()
        cancel = frames.encode(frames.Cancel(Cid.of(message)))
        ann.perform(ann.kernel.receive(link, cancel, world.now_ms))
        world.run()
        assert book(ann) == on_disk(ann), delay
        counted.append(sum(book(ann)["uses"].values()))
    assert counted[0] == 0 < counted[-1] == len(set(counted)) - 1, "early ones do not count, late ones once"
    assert len(book(ann)["calls"]) == (counted[-1] if later else 0)


def test_a_member_that_tells_of_its_own_dismissal_is_out_for_good() -> None:
    """Its link is closed for it, and the work on what it said goes with the link; the word must stay."""
    world = World()
    ann, bob, eve = world.grid("ann", "bob", "eve")
    world.link(eve, bob)
    world.cut(bob, link_from(bob, ann))
    world.run()
    proof = eve.tables["grid"][b"membership"]
    (said, *_) = ann.do(ann.kernel.promises.dismiss(eve.did))
    chain = list(capability.unpack(proof))
    item = {"chain": chain, "statement": ann.tables["blocks"][bytes(said)]}
    hand(bob, eve, asked(eve, bob, "told", (item,)))
    assert bob.peers() == [] and book(bob) == on_disk(bob)
    bob = again(bob)
    assert book(bob)["gone"] == {Cid.of(chain[-1])}
    eve.tables["grid"][b"membership"] = proof
    world.link(again(eve), bob)
    assert bob.peers() == []


def test_who_is_dismissed_does_not_call_the_dismissal_off() -> None:
    """It is told, and answers that it was called off: the others are told all the same, and its link ends."""
    ann, bob, eve = World().grid("ann", "bob", "eve")

    async def calls_off(verified: object, link: object) -> Answer:
        raise RemoteError("cancelled")

    for node in (bob, eve):
        node.kernel._dispatcher.handlers[PROMISE] = calls_off
    assert ann.do(ann.kernel.promises.dismiss(eve.did))
    assert ann.peers() == ["bob"]
