"""Several peers run one task; what they sign is compared, and a disagreement is kept and never believed."""

from __future__ import annotations

import pytest
from tests.scenes import NUMBERS, add_one, module
from tests.sim import Node, World

from promisegrid import cose, dagcbor
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Failure, Job, Outcome
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.runner import Watch
from promisegrid.task import RunResult, Task
from promisegrid.verifying import Verified


def grid(*names: str, limits: Limits | None = None) -> tuple[list[Node], Cid]:
    """The first node asks; all others are linked to it and serve. add_one is in everybody's store."""
    world = World()
    nodes = world.grid(*names, limits=limits)
    for node in nodes:
        code = module(node, add_one)
    for node in nodes[1:]:
        node.do(node.kernel.owner.set_serving(1, 1 << 20))
    world.run()
    return nodes, code


def lie(job: Job) -> Outcome:
    return Outcome((666).to_bytes(8, "little"), b"", 1, 0)


def trap(job: Job) -> Failure:
    return Failure("trap", "The program trapped: unreachable.")


def verify(node: Node, code: Cid, peers: int, value: int = 1) -> Verified:
    done = node.do(node.kernel.run_verified(Task(code, "add_one", (value,)), Budget(), peers))
    assert isinstance(done, Verified)
    return done


def task_cid(code: Cid, value: int = 1) -> Cid:
    return Task(code, "add_one", (value,)).block(Limits()).cid


def test_distinct_peers_run_it_each_and_agree() -> None:
    (ann, *others), code = grid("ann", "bob", "eve", "zoe")
    verified = verify(ann, code, 2)
    assert verified.done.value == 2
    who = {one.did for one in verified.said}
    assert len(who) == 2 and who <= {node.did for node in others}
    assert len({one.result for one in verified.said}) == 1
    assert sum(len(node.runs) for node in ann.world.nodes) == 2 and not ann.runs


def test_it_is_run_again_even_where_it_is_remembered() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    verify(ann, code, 2)
    verify(ann, code, 2)
    assert (len(bob.runs), len(eve.runs)) == (2, 2)


def test_a_disagreement_is_named_kept_and_never_cached() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    eve.prepared[code] = (NUMBERS, lie)
    ann.do(ann.kernel.owner.set_trust("peers", [bob.did, eve.did]))
    with pytest.raises(RemoteError, match="disagree") as wrong:
        verify(ann, code, 2)
    assert wrong.value.code == "disagreement"
    assert bob.did in wrong.value.text and eve.did in wrong.value.text
    (kept,) = ann.do(ann.kernel.owner.evidence())
    assert kept["task"] == str(task_cid(code))
    assert {one["did"] for one in kept["said"]} == {bob.did, eve.did}
    for one in kept["said"]:  # the receipts themselves are here, and each holds
        assert ann.do(ann.kernel.owner.receipt(Cid.parse(one["receipt"])))["valid"]
    own = ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget()))
    assert own.by == ann.did and not own.cached, "trusted peers or not, a disputed task is run here"


def test_a_dispute_outlives_a_restart_and_later_receipts() -> None:
    (ann, _, eve), code = grid("ann", "bob", "eve")
    eve.prepared[code] = (NUMBERS, lie)
    ann.do(ann.kernel.owner.set_trust("peers", [eve.did]))
    with pytest.raises(RemoteError, match="disagree"):
        verify(ann, code, 2)
    told = ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget(), on=eve.did))
    assert told.value == 666, "who asks eve gets what eve says"
    again = World().node("ann")
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    module(again, add_one)
    assert again.do(again.kernel.run(Task(code, "add_one", (1,)), Budget())).value == 2
    assert len(again.do(again.kernel.owner.evidence())) == 1


def test_the_evidence_is_signed() -> None:
    (ann, _, eve), code = grid("ann", "bob", "eve")
    eve.prepared[code] = (NUMBERS, lie)
    with pytest.raises(RemoteError, match="disagree"):
        verify(ann, code, 2)
    (kept,) = ann.do(ann.kernel.owner.evidence())
    data = ann.tables["blocks"][bytes(Cid.parse(kept["evidence"]))]
    sign1 = cose.read(data, "grid-statement")
    assert dagcbor.decode(sign1.payload or b"")["by"] == ann.did


def test_what_this_node_computed_itself_is_compared_too() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    assert ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget())).value == 2
    bob.prepared[code] = eve.prepared[code] = (NUMBERS, lie)
    with pytest.raises(RemoteError, match=ann.did):
        verify(ann, code, 2)


def test_the_same_trap_everywhere_is_an_answer_and_a_trap_on_one_is_a_disagreement() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    bob.prepared[code] = (NUMBERS, trap)
    with pytest.raises(RemoteError, match="trap") as wrong:
        verify(ann, code, 2)
    assert wrong.value.code == "disagreement"
    eve.prepared[code] = (NUMBERS, trap)
    with pytest.raises(RemoteError) as wrong:
        verify(ann, code, 2, value=5)
    assert wrong.value.code == "trap"
    assert len(ann.do(ann.kernel.owner.evidence())) == 1


def test_a_peer_that_cannot_is_replaced_by_one_that_can() -> None:
    (ann, bob, eve, zoe), code = grid("ann", "bob", "eve", "zoe")
    bob.prepared[code] = (NUMBERS, lambda job: Failure("out_of_time", "Too slow."))
    verified = verify(ann, code, 2)
    assert {one.did for one in verified.said} == {eve.did, zoe.did}
    with pytest.raises(RemoteError, match="Only 2 of 3"):
        verify(ann, code, 3, value=7)


def test_too_few_peers_is_said_before_anything_is_sent() -> None:
    (ann, bob), code = grid("ann", "bob")
    with pytest.raises(LocalError, match="1 that run programs"):
        verify(ann, code, 2)
    with pytest.raises(LocalError, match="at least 2"):
        verify(ann, code, 1)
    assert not bob.runs


def test_somebody_elses_receipt_is_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    ann.world.link(eve, bob)
    eve.do(eve.kernel.owner.set_trust("peers", [bob.did]))
    eve.do(eve.kernel.run(Task(code, "add_one", (1,)), Budget(), on=bob.did))
    call = Caller.call

    async def stale(
        caller: Caller, did: str, task: Task, budget: Budget, watch: Watch, fresh: bool, remember: bool
    ) -> RunResult:
        return await call(caller, did, task, budget, watch, fresh=False, remember=remember)

    monkeypatch.setattr(Caller, "call", stale)  # as if peers did not mind what they are asked
    with pytest.raises(RemoteError, match=f"{eve.did} was to run it, and showed a receipt of {bob.did}"):
        verify(ann, code, 2)
