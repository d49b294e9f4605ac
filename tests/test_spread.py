"""Many tasks over all who serve: each is answered, whoever vanishes; more hands finish sooner."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from tests.scenes import add_one, module
from tests.sim import Node, World
from tests.test_relay import chain

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Failure, Job, Outcome
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid.spread import Spread
from promisegrid.task import Task

MIB = 1024 * 1024
LIMITS = Limits(runs=1)


def tasks(code: Cid, count: int) -> list[Task]:
    return [Task(code, "add_one", (number,)) for number in range(count)]


def serving(*names: str) -> tuple[World, list[Node]]:
    world = World()
    nodes = world.grid(*names, limits=LIMITS)
    for node in nodes[1:]:
        node.do(node.kernel.owner.set_serving(1, MIB))
    world.pass_time(1_000)
    return world, nodes


def values(ends: list[Spread]) -> list[object]:
    return [None if end.done is None else end.done.value for end in ends]


def mapped(node: Node, code: Cid, count: int, **how: Any) -> list[Spread]:
    ends = node.do(node.kernel.map(tasks(code, count), Budget(), **how))
    assert isinstance(ends, list)
    return ends


def test_every_task_is_answered_in_order_and_all_take_part() -> None:
    _, (ann, bob, eve) = serving("ann", "bob", "eve")
    code = module(ann, add_one)
    told: list[int] = []
    ends = mapped(ann, code, 40, told=lambda number, end: told.append(number))
    assert values(ends) == list(range(1, 41)) and sorted(told) == list(range(40))
    by = Counter(end.done.by for end in ends if end.done)
    assert set(by) == {ann.did, bob.did, eve.did} and {end.why for end in ends} >= {"run here"}
    progress = [note.detail for note in ann.notes if note.detail.get("phase") == "map"]
    assert progress[-1]["done"] == progress[-1]["total"] == 40


def test_a_second_time_nothing_is_run() -> None:
    _, (ann, bob) = serving("ann", "bob")
    code = module(ann, add_one)
    mapped(ann, code, 10, here=True)
    runs = len(ann.runs) + len(bob.runs)
    ann.do(ann.kernel.owner.set_trust("peers", [bob.did], 2))
    ends = mapped(ann, code, 10)
    assert values(ends) == list(range(1, 11)) and len(ann.runs) + len(bob.runs) == runs


def test_without_this_node_only_peers_run() -> None:
    _, (ann, bob) = serving("ann", "bob")
    ends = mapped(ann, module(ann, add_one), 6, here=False)
    assert values(ends) == [1, 2, 3, 4, 5, 6] and not ann.runs and len(bob.runs) == 6


def test_nobody_to_run_it_is_told() -> None:
    ann = World().grid("ann")[0]
    with pytest.raises(LocalError, match="Nobody serves"):
        mapped(ann, module(ann, add_one), 3, here=False)
    assert values(mapped(ann, module(ann, add_one), 3)) == [1, 2, 3], "it does it alone"
    assert mapped(ann, module(ann, add_one), 0) == []


def test_what_a_vanished_peer_had_is_done_elsewhere() -> None:
    world, (ann, bob, eve) = serving("ann", "bob", "eve")
    held: list[Job] = []

    def program(job: Job) -> Outcome | None:
        if world.nodes[1].runs and world.nodes[1].runs[-1] is job:
            held.append(job)
            return None  # bob never finishes
        return add_one(job)

    code = module(ann, program)
    asked = ann.start(ann.kernel.map(tasks(code, 30), Budget(), here=False))
    while not held:
        world.step()
    for link in list(bob.links):
        world.cut(bob, link)
    ends = ann.end(asked)
    assert values(ends) == list(range(1, 31))
    assert {end.done.by for end in ends} == {eve.did}


def test_what_a_frozen_peer_has_is_repeated_elsewhere() -> None:
    """Linked, and silent: after a while idle hands take what it holds."""
    world, (ann, bob, _) = serving("ann", "bob", "eve")

    def program(job: Job) -> Outcome | None:
        return None if bob.runs and bob.runs[-1] is job else add_one(job)

    code = module(ann, program)
    began = world.now_ms
    ends = mapped(ann, code, 12, here=False)
    assert values(ends) == list(range(1, 13)) and world.now_ms - began < 20_000


def test_a_task_that_fails_by_itself_has_failed_and_the_others_have_not() -> None:
    _, (ann, bob) = serving("ann", "bob")

    def program(job: Job) -> Outcome | Failure:
        return Failure("trap", "unreachable") if job.params[0] == 3 else add_one(job)

    ends = mapped(ann, module(ann, program), 6)
    assert values(ends) == [1, 2, 3, None, 5, 6]
    wrong = ends[3].wrong
    assert wrong is not None and wrong.code == "trap" and "failed on" in ends[3].why
    assert bob.runs


def test_who_begins_to_serve_meanwhile_joins_in() -> None:
    world, (ann, bob) = serving("ann", "bob")
    bob.do(bob.kernel.owner.set_serving(0, MIB))
    world.pass_time(1_000)

    def program(job: Job) -> Outcome | None:
        if len(ann.runs) == 10 and not bob.runs:
            bob.start(bob.kernel.owner.set_serving(1, MIB))
            return None  # from here on only bob can
        return add_one(job)

    ends = mapped(ann, module(ann, program), 60)
    assert values(ends) == list(range(1, 61))
    assert {end.done.by for end in ends if end.done} == {ann.did, bob.did}


def test_a_liar_is_named_by_his_result() -> None:
    _, (ann, bob) = serving("ann", "bob")
    ends = mapped(ann, module(ann, add_one), 4, here=False)
    assert {(end.done.by, end.why) for end in ends if end.done} == {(bob.did, f"run on {bob.did}")}


def test_one_task_goes_where_there_is_room() -> None:
    world, (ann, bob) = serving("ann", "bob")
    code = module(ann, add_one)
    task = Task(code, "add_one", (1,))
    end = ann.do(ann.kernel.run_anywhere(task, Budget()))
    assert end.why == "run here: a place was free here" and end.done.value == 2
    assert "this node ran it before" in ann.do(ann.kernel.run_anywhere(task, Budget())).why
    stuck = module(ann, lambda job: None, name=b"stuck")
    asked = ann.start(ann.kernel.run(Task(stuck, "add_one", (1,)), Budget()))
    world.run()
    end = ann.do(ann.kernel.run_anywhere(Task(code, "add_one", (2,)), Budget()))
    assert end.why == f"run on {bob.did}: all places here were taken" and end.done.by == bob.did
    ann.perform(ann.kernel.cancel(asked, world.now_ms))


def test_more_than_can_be_held_is_refused() -> None:
    world = World()
    ann = world.node("ann", Limits(map_tasks=3))
    with pytest.raises(LocalError, match="in parts"):
        mapped(ann, Cid.of(b"x"), 4)


def test_whoever_promised_a_call_runs_it_however_far() -> None:
    """Nobody serves; Bob promised nothing, Eve, two links on, this program twice."""
    ann, bob, eve = chain("ann", "bob", "eve")
    code = module(ann, add_one)
    task = Task(code, "add_one", (1,))
    with pytest.raises(LocalError, match="Nobody promised"):
        ann.do(ann.kernel.run_promised(task, Budget()))
    given = eve.do(eve.kernel.promises.grant(ann.did, {"code": code}, uses=2))
    ann.do(ann.kernel.promises.accept(given.token))
    end = ann.do(ann.kernel.run_promised(task, Budget()))
    assert (end.done.value, end.done.by, end.why) == (2, eve.did, f"run on {eve.did}: who promised it")
    assert ann.do(ann.kernel.run_promised(task, Budget())).why == f"run on {eve.did}: remembered there"
    with pytest.raises(LocalError, match="Nobody promised"):
        ann.do(ann.kernel.run_promised(task, Budget()))
    assert not ann.runs and not bob.runs


def test_a_promise_is_drawn_on_when_nobody_serves_and_all_places_are_taken() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(runs=1))
    code = module(ann, add_one)
    bob.do(bob.kernel.promises.grant(ann.did, {"code": code}))
    stuck = module(ann, lambda job: None, name=b"stuck")
    ann.start(ann.kernel.run(Task(stuck, "add_one", (1,)), Budget()))
    world.run()
    end = ann.do(ann.kernel.run_anywhere(Task(code, "add_one", (1,)), Budget()))
    assert end.done.by == bob.did and end.why.endswith("and it promised this call")
