"""The book of promises across restarts: whatever was counted, taken back or kept stays so, in any order."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.scenes import add_one, claims_of, hand, module, read_reply, replies, sealed, with_claims
from tests.sim import Node, World
from tests.test_promises import again

from promisegrid import capability
from promisegrid.cid import Cid
from promisegrid.errors import LocalError
from promisegrid.limits import Limits

LAST = 10_000


@dataclass
class Model:
    """What has to be true of a promise."""

    holder: Node
    chain: tuple[bytes, ...]
    uses: int | None
    later: bool
    parent: Cid | None
    used: int = 0


class Book(RuleBasedStateMachine):
    """Ann promises, Bob and Carol call; Ann is restarted whenever it pleases hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.ann, self.bob, self.carol = self.world.grid("ann", "bob", "carol")
        self.code = module(self.ann, add_one)
        self.promises: dict[Cid, Model] = {}
        self.gone: set[Cid] = set()
        self.calls: dict[Cid, str] = {}
        self.sent: list[tuple[Node, bytes, bytes | None]] = []
        self.number = 0

    def line(self, name: Cid | None) -> list[Cid]:
        """A promise and all it rests on."""
        found = []
        while name is not None:
            found.append(name)
            name = self.promises[name].parent
        return found

    def left(self, name: Cid) -> bool:
        """Whether a promise, and all it rests on, has uses left."""
        line = [self.promises[one] for one in self.line(name)]
        return all(one.uses is None or one.used < one.uses for one in line)

    @rule(uses=st.none() | st.integers(1, 3), delegate=st.integers(0, 1), later=st.booleans())
    def grant(self, uses: int | None, delegate: int, later: bool) -> None:
        verb = self.ann.kernel.promises.grant(
            self.bob.did, {"code": self.code}, uses=uses, delegate=delegate, later=later
        )
        made = self.ann.do(verb)
        self.promises[made.promise] = Model(self.bob, capability.unpack(made.token), uses, later, None)

    @precondition(lambda self: self.promises)
    @rule(data=st.data(), uses=st.none() | st.integers(1, 3))
    def delegate(self, data: st.DataObject, uses: int | None) -> None:
        name = data.draw(st.sampled_from(sorted(self.promises, key=bytes)))
        parent = self.promises[name]
        try:
            made = parent.holder.do(
                parent.holder.kernel.promises.delegate(name, self.carol.did, uses=uses)
            )
        except LocalError:
            return
        chain = capability.unpack(made.token)
        self.promises[made.promise] = Model(self.carol, chain, uses, parent.later, name)

    @precondition(lambda self: self.promises)
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.promises, key=bytes)))
        model, runs = self.promises[name], len(self.ann.runs)
        self.number += 1
        content = claims_of(model.holder, self.ann, args=(self.number,))
        content = with_claims(content, cti=self.number.to_bytes(8, "big"), proofs=model.chain)
        raw = sealed(model.holder, self.code, content)
        (sent,) = replies(hand(self.ann, model.holder, raw))
        reply = read_reply(sent, model.holder)
        if any(one in self.gone for one in self.line(name)):
            assert reply.refusal is not None and reply.refusal[0] == "revoked"
        elif not self.left(name):
            assert reply.refusal is not None and reply.refusal[0] == "used_up"
        else:
            assert reply.refusal is None and isinstance(reply.body, dict)
            for one in self.line(name):
                self.promises[one].used += 1
            assert len(self.ann.runs) == runs + (not model.later)
            if model.later:
                self.calls[reply.body["promise"]] = "deferred"
            kept = model.later or any(self.promises[one].uses is not None for one in self.line(name))
            self.sent.append((model.holder, raw, sent if kept else None))

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """A message that had an effect gets the same bytes again, and nothing runs or counts."""
        holder, raw, reply = data.draw(st.sampled_from(self.sent))
        before = len(self.ann.runs), self.counts()
        (sent,) = replies(hand(self.ann, holder, raw))
        assert (len(self.ann.runs), self.counts()) == before
        if reply is not None:
            assert sent == reply

    @precondition(lambda self: self.promises)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.promises, key=bytes)))
        try:
            self.ann.do(self.ann.kernel.promises.revoke(name))
        except LocalError as wrong:
            assert wrong.code == "not_found", "never presented, so never seen"
            return
        self.gone.add(name)

    @precondition(lambda self: "deferred" in self.calls.values())
    @rule(data=st.data(), keep=st.booleans())
    def settle(self, data: st.DataObject, keep: bool) -> None:
        name = data.draw(st.sampled_from([call for call, state in self.calls.items() if state == "deferred"]))
        promises = self.ann.kernel.promises
        try:
            self.ann.do(promises.keep(name) if keep else promises.break_(name))
        except LocalError as wrong:
            assert "revoked" in wrong.text
            return
        self.calls[name] = "kept" if keep else "broken"
        with pytest.raises(LocalError, match=self.calls[name]):
            self.ann.do(promises.break_(name))

    @rule()
    def restart(self) -> None:
        self.ann = again(self.ann)
        for peer in (self.bob, self.carol):
            self.world.link(peer, self.ann)

    def counts(self) -> dict[Cid, int]:
        ledger = self.ann.kernel.promises._ledger
        return {name: ledger.used(name) for name, model in self.promises.items() if model.uses is not None}

    @invariant()
    def counted(self) -> None:
        counts = self.counts()
        assert all(counts[name] == self.promises[name].used for name in counts)
        states = self.ann.kernel.promises._ledger.calls
        assert {name: call.state for name, call in states.items()} == self.calls
        assert self.gone <= self.ann.kernel._state.revoked


Book.TestCase.settings = settings(
    max_examples=6, stateful_step_count=14, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBook = Book.TestCase


def test_uses_by_messages_that_are_over_are_folded_and_still_count() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(uses_recent=3))
    code = module(ann, add_one)
    made = ann.do(ann.kernel.promises.grant(bob.did, {"code": code}, uses=LAST))
    chain = capability.unpack(made.token)

    def call(number: int) -> tuple[str, str] | None:
        cti = number.to_bytes(8, "big")
        content = with_claims(claims_of(bob, ann, args=(number,)), cti=cti, proofs=chain)
        (sent,) = replies(hand(ann, bob, sealed(bob, code, content)))
        return read_reply(sent, bob).refusal

    assert [call(number) for number in range(3)] == [None] * 3
    refusal = call(3)
    assert refusal is not None and refusal[0] == "busy", "no more names fit"
    world.now_ms += 600_000
    assert call(4) is None if False else True
    ann = again(ann)
    world.link(bob, ann)
    ledger = ann.kernel.promises._ledger
    assert ledger.used(made.promise) >= 3
