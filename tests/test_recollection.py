"""Results that others remember spare a run where the owner's policy lets them, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.scenes import COMMAND, add_one, module, never, printed
from tests.sim import Node, World

from promisegrid import receipt
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Verify
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.protocols import MEMO, Answer
from promisegrid.receipt import Receipt
from promisegrid.task import RunResult, Task

MIB = 1024 * 1024


def grid(*names: str, limits: Limits | None = None) -> tuple[list[Node], Task]:
    """Nodes linked to the first, all of which serve, and a task whose module everybody has."""
    nodes = World().grid(*names, limits=limits)
    for node in nodes:
        code = module(node, add_one)
        node.do(node.kernel.owner.set_serving(1, MIB))
    return nodes, Task(code, "add_one", (41,))


def trust(node: Node, *others: Node) -> None:
    node.do(node.kernel.owner.set_trust("peers", [other.did for other in others]))


def run(node: Node, task: Task, fresh: bool = False) -> RunResult:
    done = node.do(node.kernel.run(task, Budget(), fresh=fresh))
    assert isinstance(done, RunResult)
    return done


def asked(node: Node, to: Node, task: Task, hops: int = 1) -> Any:
    """What a node is told when it asks for receipts itself."""
    named = task.block(Limits()).cid
    return node.do(node.kernel._caller.ask(to.did, MEMO, "receipts", (named, hops), 5_000))["receipts"]


def test_a_trusted_peers_receipt_spares_the_run() -> None:
    (ann, bob), task = grid("ann", "bob")
    there = run(bob, task)
    trust(ann, bob)
    done = run(ann, task)
    assert (done.value, done.by, done.cached, done.receipt) == (42, bob.did, True, there.receipt)
    assert not ann.runs and len(bob.runs) == 1, "bob did not run it again either"
    for link in list(ann.links):
        ann.world.cut(ann, link)
    ann.world.run()
    assert run(ann, task).by == bob.did, "and it is kept"
    assert run(ann, task, fresh=True).by == ann.did


def test_it_is_found_one_node_further_and_kept_on_the_way_by_who_trusts_too() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    run(carol, task)
    trust(bob, carol)
    ann.do(ann.kernel.owner.set_serving(0, 0))
    done = run(bob, task)
    assert (done.value, done.by) == (42, carol.did) and not ann.runs and not bob.runs
    assert not ann.tables["memo"], "ann passed it on, and trusts nobody's"
    other = Task(task.code, "add_one", (1,))
    run(carol, other)
    trust(ann, carol)
    assert run(bob, other).by == carol.did and len(ann.tables["memo"]) == 1
    ann.world.cut(carol, next(iter(carol.links)))
    ann.world.run()
    assert run(ann, other).by == carol.did and not ann.runs


def test_two_nodes_further_is_too_far() -> None:
    world = World()
    nodes = world.grid("ann", "bob", "carol", "dan")
    ann, bob, carol, dan = nodes
    for node in nodes:
        task = Task(module(node, add_one), "add_one", (41,))
        node.do(node.kernel.owner.set_serving(2, MIB))
    for node in (carol, dan):
        for link in list(node.links):
            world.cut(node, link)
    world.run()
    world.link(bob, carol)
    world.link(carol, dan)
    run(dan, task)
    trust(ann, dan)
    assert run(ann, task).by == ann.did


def test_nobody_is_asked_while_only_own_receipts_count() -> None:
    (ann, bob), task = grid("ann", "bob")
    run(bob, task)
    before = len(bob.log)
    assert run(ann, task).by == ann.did
    assert len(bob.log) == before


def test_what_the_policy_lets_not_count_is_not_even_verified() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    run(bob, task)
    trust(ann, carol)
    before = len(ann.log)
    assert run(ann, task).by == ann.did
    receipts = [e for e in ann.log[before:] if isinstance(e, Verify) and b"grid-receipt" in e.message[:40]]
    assert not receipts and len(ann.runs) == 1


def test_so_many_that_agree() -> None:
    """Each answers for its own run; one receipt that is told by many is still one executor's."""
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    ann.do(ann.kernel.owner.set_trust("agree", [], 2))
    run(bob, task)
    assert run(ann, task).by == ann.did
    other = Task(task.code, "add_one", (1,))
    run(bob, other)
    run(carol, other)
    done = run(ann, other)
    assert done.by in (bob.did, carol.did) and done.value == 2 and len(ann.runs) == 1


def test_receipts_that_are_passed_on_do_not_agree_with_each_other() -> None:
    (ann, bob, carol, dan), task = grid("ann", "bob", "carol", "dan")
    run(carol, task)
    run(dan, task)
    ann.do(ann.kernel.owner.set_serving(0, 0))
    bob.do(bob.kernel.owner.set_trust("agree", [], 2))
    assert len(asked(bob, ann, task)) == 2
    assert run(bob, task).by == bob.did, "whoever passes them on may have made up both keys"


def test_a_commands_output_comes_with_it() -> None:
    nodes = World().grid("ann", "bob")
    ann, bob = nodes
    for node in nodes:
        code = module(node, lambda job: printed(b"x" * 300_000), COMMAND)
        node.do(node.kernel.owner.set_serving(1, MIB))
    task = Task(code, "_start", ("a",))
    run(bob, task)
    trust(ann, bob)
    done = run(ann, task)
    assert done.by == bob.did and done.stdout is not None and ann.get(done.stdout) == b"x" * 300_000
    bob.tables["blocks"].clear()
    assert run(ann, task).by == bob.did


def test_a_result_whose_content_is_nowhere_spares_nothing() -> None:
    nodes = World().grid("ann", "bob")
    ann, bob = nodes
    for node in nodes:
        code = module(node, lambda job: printed(b"text"), COMMAND)
        node.do(node.kernel.owner.set_serving(1, MIB))
    task = Task(code, "_start", ())
    done = run(bob, task)
    assert done.stdout is not None
    del bob.tables["blocks"][bytes(done.stdout)]
    trust(ann, bob)
    assert run(ann, task).by == ann.did


def test_who_serves_nobody_tells_nothing_of_its_own() -> None:
    (ann, bob), task = grid("ann", "bob")
    run(bob, task)
    assert len(asked(ann, bob, task)) == 1
    bob.do(bob.kernel.owner.set_serving(0, 0))
    assert asked(ann, bob, task) == []


def test_one_receipt_of_each_executor_is_told_and_few() -> None:
    (ann, bob, *others), task = grid("ann", "bob", *"cdefghijk")
    bob.do(bob.kernel.owner.set_trust("peers", [other.did for other in others]))
    for _ in range(3):
        run(bob, task, fresh=True)
    for other in others:
        bob.world.link(other, bob)
        bob.do(bob.kernel.run(task, Budget(), on=other.did))
    told = asked(ann, bob, task)
    by = [receipt.read(data)[0].executor for data, _ in told]
    assert len(by) == len(set(by)) == Limits().receipts_told and by[0] == bob.did


@pytest.mark.parametrize("lie", ["another task", "another key", "no receipt", "no list", "too many"])
def test_a_liar_spares_no_run_and_learns_nothing(lie: str) -> None:
    (ann, bob), task = grid("ann", "bob")
    named = task.block(Limits()).cid
    about = Cid.of(b"other", "dag-cbor") if lie == "another task" else named
    sealed = bob.do(_sealed(Receipt(about, Cid.of(b"result"), bob.did, "", None, 1, None)))
    if lie == "another key":
        sealed = bob.do(_sealed(Receipt(about, Cid.of(b"result"), ann.did, "", None, 1, None)))
    many = [[sealed, None]] * 9
    answers: dict[str, object] = {"no receipt": [[b"junk", None]], "no list": 7, "too many": many}

    async def told(verified: object, link: object) -> Answer:
        return Answer({"receipts": answers.get(lie, [[sealed, None]])})

    bob.kernel._dispatcher.handlers[MEMO] = told
    trust(ann, bob)
    assert run(ann, task).by == ann.did and "bob" in ann.peers()


async def _sealed(claim: Receipt) -> bytes:
    return (await receipt.seal(claim)).data


def test_silent_peers_hold_a_run_up_for_a_moment_only() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    trust(ann, bob)
    bob.peer_drops = carol.peer_drops = True
    began = ann.world.now_ms
    assert run(ann, task).by == ann.did
    assert ann.world.now_ms - began <= 2 * ann.limits.recollect_ms


def test_what_is_asked_wrongly_is_refused() -> None:
    (ann, bob), task = grid("ann", "bob")
    for op, args in (("receipts", ()), ("receipts", ("x", 1)), ("receipts", (task.code, "1")), ("all", ())):
        with pytest.raises(RemoteError) as wrong:
            ann.do(ann.kernel._caller.ask(bob.did, MEMO, op, args, 5_000))
        assert wrong.value.code == "bad_args"
    assert asked(ann, bob, task, hops=99) == []


def test_many_questions_about_nothing_are_not_passed_on_for_ever() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol", limits=Limits(link_misses_per_second=3))
    ann.do(ann.kernel.owner.set_serving(0, 0))
    for number in range(6):
        asked(bob, ann, Task(task.code, "add_one", (number,)))
    started = carol.kernel._state.totals
    assert started is not None
    before = len(carol.log)
    asked(bob, ann, Task(task.code, "add_one", (99,)))
    assert len(carol.log) == before


def test_a_question_that_is_given_up_ends_the_asking() -> None:
    nodes = World().grid("ann", "bob")
    ann, bob = nodes
    task = Task(module(ann, never), "add_one", (1,))
    trust(ann, bob)
    bob.peer_drops = True
    ask = ann.start(ann.kernel.run(task, Budget()))
    ann.perform(ann.kernel.cancel(ask, ann.world.now_ms))
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code == "cancelled" and not ann.runs and not ann.kernel._runner.flights


def test_why_a_result_came_from_where_it_did_is_told() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    why = ann.kernel.recollection.why
    assert "only its own receipts count" in why(run(ann, task))
    assert "this node ran it before" in why(run(ann, task))
    there = ann.do(ann.kernel.run(task, Budget(), on=bob.did))
    assert why(there, bob.did) == f"run by {bob.did}, as you asked"
    there = ann.do(ann.kernel.run(task, Budget(), on=bob.did))
    assert why(there, bob.did) == f"remembered by {bob.did}, as you asked"
    trust(ann, carol)
    other = Task(task.code, "add_one", (1,))
    assert "no receipt of those that count" in why(run(ann, other))
    third = Task(task.code, "add_one", (2,))
    run(carol, third)
    assert why(run(ann, third)) == f"remembered: by a receipt of {carol.did}, whose receipts count here"
    trust(bob, carol)
    bob.world.link(bob, carol)
    run(bob, third)
    there = ann.do(ann.kernel.run(third, Budget(), on=bob.did))
    assert why(there, bob.did) == f"remembered by {bob.did}, by a receipt of {carol.did}"
    ann.do(ann.kernel.owner.set_trust("agree", [], 2))
    fourth = Task(task.code, "add_one", (3,))
    assert "that 2 agree on" in why(run(ann, fourth))
    fifth = Task(task.code, "add_one", (4,))
    run(bob, fifth)
    run(carol, fifth)
    assert "2 executors agree on it" in why(run(ann, fifth))


@pytest.mark.parametrize("busy", [False, True])
def test_wherever_it_is_quickest_begins_with_what_is_remembered(busy: bool) -> None:
    (ann, bob), task = grid("ann", "bob", limits=Limits(runs=1))
    trust(ann, bob)
    run(bob, task)
    if busy:
        ann.start(ann.kernel.run(Task(module(ann, never, name=b"never"), "add_one", (1,)), Budget()))
        ann.world.run()
    end = ann.do(ann.kernel.run_anywhere(task, Budget()))
    assert end.why == f"remembered: by a receipt of {bob.did}, whose receipts count here"
    assert len(bob.runs) == 1 and len(ann.runs) == busy
    assert ann.do(ann.kernel.owner.history(1))[0]["cached"] is True


def test_a_silent_peer_does_not_hold_up_another_ones_answer() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    run(carol, task)
    trust(ann, carol)
    bob.peer_drops = True
    began = ann.world.now_ms
    assert run(ann, task).by == carol.did and ann.world.now_ms == began


def test_a_guest_makes_this_node_ask_around_so_often_and_no_more() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol", limits=Limits(link_misses_per_second=3))
    trust(ann, carol)

    def asks(number: int) -> int:
        before = len(carol.log)
        bob.do(bob.kernel.run(Task(task.code, "add_one", (number,)), Budget(), on=ann.did))
        return len(carol.log) - before

    assert [asks(number) > 0 for number in range(5)] == [True, True, True, False, False]
    assert len(ann.runs) == 5


def test_nobody_passes_on_what_claims_to_be_his_own() -> None:
    (ann, bob, carol), task = grid("ann", "bob", "carol")
    named = task.block(Limits()).cid
    sealed = carol.do(_sealed(Receipt(named, Cid.of(b"result"), ann.did, "", None, 1, None)))

    async def told(verified: object, link: object) -> Answer:
        return Answer({"receipts": [[sealed, None]]})

    carol.kernel._dispatcher.handlers[MEMO] = told
    assert asked(ann, carol, task) != [] == asked(bob, ann, task)
    trust(bob, ann)
    assert run(bob, task).by == bob.did
    assert "ann" in bob.peers(), "ann is not blamed for what carol made up in her name"


def test_many_tasks_are_not_asked_about_one_by_one() -> None:
    (ann, bob), task = grid("ann", "bob")
    bob.do(bob.kernel.owner.set_serving(0, 0))
    trust(ann, bob)
    before = len(bob.log)
    tasks = [Task(task.code, "add_one", (number,)) for number in range(20)]
    assert all(end.done for end in ann.do(ann.kernel.map(tasks, Budget())))
    assert len(bob.log) == before and len(ann.runs) == 20


def test_a_neighbour_that_says_it_was_called_off_holds_nobody_up() -> None:
    (ann, bob), task = grid("ann", "bob")
    trust(ann, bob)

    async def calls_off(verified: object, link: object) -> Answer:
        raise RemoteError("cancelled")

    bob.kernel._dispatcher.handlers[MEMO] = calls_off
    assert run(ann, task).by == ann.did


@pytest.mark.parametrize("size", [10, 100_000])
def test_who_tells_much_hides_nobody_else(size: int) -> None:
    """Neither by the number of its answers nor by their size; who passes on knows no better."""
    (ann, bob, eve, carol), task = grid("ann", "bob", "eve", "carol")
    run(carol, task)
    ann.do(ann.kernel.owner.set_serving(0, 0))
    named = task.block(Limits()).cid
    made = [Receipt(named, Cid.of(b"%d" % number), eve.did, "", number, 1, None) for number in range(8)]
    rows = [[eve.do(_sealed(one)), bytes(size)] for one in made]

    async def much(verified: object, link: object) -> Answer:
        return Answer({"receipts": rows})

    eve.kernel._dispatcher.handlers[MEMO] = much
    told = asked(bob, ann, task)
    assert carol.did in {receipt.read(row[0])[0].executor for row in told} and len(told) == 8
    assert all(row[1] is None or len(row[1]) <= Limits().memo_recent_bytes for row in told)
