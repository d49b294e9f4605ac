"""One task runs once, however many ask for it at once; and it runs as long as anybody waits."""

from __future__ import annotations

from functools import partial

import pytest
from tests.scenes import COMMAND, add_one, module, never, pair, printed
from tests.sim import Node, World

from promisegrid import unixfs
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Cancel, Failure, Job, Outcome, Prepare, Run
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.task import Task


def alone(limits: Limits | None = None) -> Node:
    (ann,) = World().grid("ann", limits=limits)
    return ann


def fail(code: str, job: Job) -> Failure:
    return Failure(code, "It went wrong.")


def running(node: Node) -> int:
    """The ticket of the latest run, for a test to answer."""
    return max(
        ticket for ticket, strand in node.kernel._scheduler._waiting.items() if strand is not None and ticket
    )


def finish(node: Node, outcome: Outcome | Failure) -> None:
    node.answer(running(node), outcome)
    node.world.run()


def test_two_who_ask_at_once_share_one_run() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    asks = [ann.start(ann.kernel.run(task, Budget())) for _ in range(3)]
    ann.world.run()
    assert len(ann.runs) == 1
    finish(ann, add_one(ann.runs[0]))
    done = [ann.end(ask) for ask in asks]
    assert {one.value for one in done} == {2} and len({one.receipt for one in done}) == 1


def test_the_owner_and_two_peers_share_one_run() -> None:
    world = World()
    ann, bob, carol = world.grid("ann", "bob", "carol")
    ann.do(ann.kernel.owner.set_serving(1, 1 << 30))
    task = Task(module(ann, never), "add_one", (1,))
    asks = [(node, node.start(node.kernel.run(task, Budget(), on=ann.did))) for node in (bob, carol)]
    asks.append((ann, ann.start(ann.kernel.run(task, Budget()))))
    world.run()
    assert len(ann.runs) == 1
    finish(ann, add_one(ann.runs[0]))
    done = [node.end(ask) for node, ask in asks]
    assert [one.value for one in done] == [2, 2, 2] and len({one.receipt for one in done}) == 1
    assert {one.by for one in done} == {ann.did}


def test_a_remembered_result_runs_only_when_asked_afresh() -> None:
    ann = alone()
    task = Task(module(ann, add_one), "add_one", (1,))
    assert [ann.do(ann.kernel.run(task, Budget())).cached for _ in range(3)] == [False, True, True]
    assert not ann.do(ann.kernel.run(task, Budget(), fresh=True)).cached
    assert len(ann.runs) == 2


def test_a_larger_budget_tries_again_after_a_limit_was_hit() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    small = ann.start(ann.kernel.run(task, Budget(fuel=10)))
    large = ann.start(ann.kernel.run(task, Budget(fuel=1000)))
    also_small = ann.start(ann.kernel.run(task, Budget(fuel=10)))
    ann.world.run()
    finish(ann, Failure("out_of_fuel", "10 units are used up."))
    assert [job.fuel for job in ann.runs] == [10, 1000]
    finish(ann, add_one(ann.runs[1]))
    assert ann.end(large).value == 2
    for ask in (small, also_small):
        with pytest.raises(RemoteError, match="10 units"):
            ann.end(ask)


def test_a_guest_with_little_memory_does_not_speak_for_the_owner() -> None:
    ann, bob, _ = pair()
    task = Task(module(ann, never, name=b"never"), "add_one", (1,))
    guest = bob.start(bob.kernel.run(task, Budget(), on=ann.did))
    ann.world.run()
    owner = ann.start(ann.kernel.run(task, Budget()))
    ann.world.run()
    finish(ann, Failure("out_of_memory", "1 MiB is used up."))
    assert [job.memory_bytes for job in ann.runs] == [1 << 20, ann.limits.memory_bytes]
    finish(ann, add_one(ann.runs[1]))
    assert ann.end(owner).value == 2
    with pytest.raises(RemoteError) as wrong:
        bob.end(guest)
    assert wrong.value.code == "out_of_memory"


def test_a_trap_is_everybodys() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    asks = [ann.start(ann.kernel.run(task, Budget(fuel=fuel))) for fuel in (1, 2)]
    ann.world.run()
    finish(ann, Failure("trap", "unreachable"))
    for ask in asks:
        with pytest.raises(RemoteError, match="unreachable"):
            ann.end(ask)
    assert len(ann.runs) == 1


def test_a_run_is_cancelled_when_the_last_one_leaves() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    one, other = (ann.start(ann.kernel.run(task, Budget(fuel=fuel))) for fuel in (1, 2))
    ann.world.run()
    for ask, cancels in ((one, 0), (other, 1)):
        ann.perform(ann.kernel.cancel(ask, ann.world.now_ms))
        with pytest.raises(RemoteError) as wrong:
            ann.end(ask)
        assert wrong.value.code == "cancelled"
        assert len([effect for effect in ann.log if isinstance(effect, Cancel)]) == cancels
    assert len(ann.runs) == 1 and not ann.do(ann.kernel.owner.running())


def test_a_joiner_with_another_budget_who_gives_up_is_gone() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    first = ann.start(ann.kernel.run(task, Budget(fuel=1)))
    joiner = ann.start(ann.kernel.run(task, Budget(fuel=2)))
    ann.world.run()
    ann.perform(ann.kernel.cancel(joiner, ann.world.now_ms))
    with pytest.raises(RemoteError, match="cancelled"):
        ann.end(joiner)
    finish(ann, add_one(ann.runs[0]))
    assert ann.end(first).value == 2 and len(ann.runs) == 1


def test_whoever_asks_as_the_last_one_leaves_gets_a_run_of_his_own() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    ask = ann.start(ann.kernel.run(task, Budget()))
    ann.world.run()
    effects = ann.kernel.cancel(ask, ann.world.now_ms)
    late = ann.start(ann.kernel.run(task, Budget()))
    ann.perform(effects)
    ann.world.run()
    assert len(ann.runs) == 2
    finish(ann, add_one(ann.runs[1]))
    assert ann.end(late).value == 2


def test_the_owner_stops_what_runs_for_others() -> None:
    ann, bob, _ = pair()
    task = Task(module(ann, never, name=b"never"), "add_one", (1,))
    ask = bob.start(bob.kernel.run(task, Budget(), on=ann.did))
    ann.world.run()
    (seen,) = ann.do(ann.kernel.owner.running())
    assert (seen["for"], seen["func"]) == (bob.did, "add_one")
    assert ann.do(ann.kernel.owner.stop(Cid.parse(seen["task"])))
    with pytest.raises(RemoteError) as wrong:
        bob.end(ask)
    assert wrong.value.code == "closed", "only we ourselves cancel what we asked"
    assert not ann.do(ann.kernel.owner.stop(Cid.parse(seen["task"])))


def test_at_most_so_many_run_at_once_and_the_rest_wait_their_turn() -> None:
    ann = alone(Limits(runs=2, runs_waiting=1))
    code = module(ann, never)
    asks = [ann.start(ann.kernel.run(Task(code, "add_one", (n,)), Budget())) for n in range(4)]
    ann.world.run()
    assert len(ann.runs) == 2
    with pytest.raises(RemoteError) as wrong:
        ann.end(asks[3])
    assert wrong.value.code == "busy"
    finish(ann, add_one(ann.runs[1]))
    assert [job.params[0] for job in ann.runs] == [0, 1, 2]
    assert ann.end(asks[1]).value == 2


def test_guests_get_no_more_than_the_owner_promised() -> None:
    ann, bob, _ = pair()
    code = module(ann, never, name=b"never")
    asked = Budget(memory_bytes=1 << 40, time_ms=1 << 40, output_bytes=1 << 40)
    for number in range(2):
        bob.start(bob.kernel.run(Task(code, "add_one", (number,)), asked, on=ann.did))
    ann.world.run()
    (job,) = ann.runs
    limits = ann.limits
    assert (job.memory_bytes, job.time_ms, job.output_bytes) == (
        1 << 20,
        limits.run_ms,
        limits.output_bytes,
    )


def test_when_the_owner_stops_serving_nothing_more_starts_for_others() -> None:
    ann, bob, _ = pair()
    code = module(ann, never, name=b"never")
    tasks = [Task(code, "add_one", (number,)) for number in range(3)]
    asks = [bob.start(bob.kernel.run(task, Budget(), on=ann.did)) for task in tasks]
    ann.world.run()
    first = running(ann)
    own = ann.start(ann.kernel.run(tasks[2], Budget()))
    ann.world.run()
    ann.do(ann.kernel.owner.set_serving(0, 0))
    ann.answer(first, add_one(ann.runs[0]))
    assert bob.end(asks[0]).value == 1, "what runs may end"
    for ask in asks[1:]:
        with pytest.raises(RemoteError) as wrong:
            bob.end(ask)
        assert wrong.value.code == "not_serving"
    assert [job.params[0] for job in ann.runs] == [0, 2], "the owner's own goes on"
    ann.perform(ann.kernel.cancel(own, ann.world.now_ms))


def test_a_host_that_forgets_a_run_does_not_hold_the_asker_for_ever() -> None:
    ann = alone()
    ask = ann.start(ann.kernel.run(Task(module(ann, never), "add_one", (1,)), Budget(time_ms=1000)))
    ann.world.run()
    began = ann.world.now_ms
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code == "internal"
    assert ann.world.now_ms - began <= 1000 + ann.limits.effect_ms
    assert any(isinstance(effect, Cancel) for effect in ann.log)


def test_a_command_gets_its_input_and_its_folder_comes_back() -> None:
    ann = alone()
    seen: list[Job] = []

    def program(job: Job) -> Outcome:
        seen.append(job)
        return printed(b"hello", [("out.txt", 1, b"written")], code=3)

    root, blocks = unixfs.import_tree([("in", 0, b""), ("in/a.txt", 1, b"read me")])
    ann.do(ann.kernel.save(blocks))
    task = Task(module(ann, program, COMMAND), args=("-v", "é"), files=root, stdin=ann.put(b"typed"))
    done = ann.do(ann.kernel.run(task, Budget()))
    assert done.exit == 3 and ann.get(done.stdout) == b"hello" and ann.get(done.stderr) == b""
    assert ann.do(ann.kernel.tree(done.files)) == [("out.txt", 1, b"written")]
    for text in (b"main", b"-v", "é".encode(), b"typed", b"in/a.txt", b"read me"):
        assert text in seen[0].wasi
    assert seen[0].abi == "command" and seen[0].func == "_start"


ODD_FOLDERS: list[list[tuple[str, int, bytes]]] = [
    [("../x", 1, b"")],
    [("/x", 1, b"")],
    [("a/../b", 1, b"")],
    [("", 1, b"")],
    [("a//b", 1, b"")],
    [(".", 0, b"")],
    [("a\0b", 1, b"")],
    [("a", 9, b"")],
    [("a", 1, b""), ("a", 1, b"")],
    [("a", 1, b""), ("a/b", 1, b"")],
]


@pytest.mark.parametrize("nodes", ODD_FOLDERS)
def test_a_program_that_broke_its_memory_leaves_no_odd_folder(nodes: list[tuple[str, int, bytes]]) -> None:
    ann = alone()
    code = module(ann, lambda job: printed(b"", nodes), COMMAND)
    with pytest.raises(RemoteError) as wrong:
        ann.do(ann.kernel.run(Task(code), Budget()))
    assert wrong.value.code == "bad_result"


def test_input_beyond_the_limit_is_refused_before_it_is_read_whole() -> None:
    ann = alone(Limits(input_bytes=1000))
    code = module(ann, lambda job: printed(b""), COMMAND)
    with pytest.raises(RemoteError) as wrong:
        ann.do(ann.kernel.run(Task(code, stdin=ann.put(bytes(10_000))), Budget()))
    assert wrong.value.code == "too_large"


def test_arguments_that_have_no_spelling_are_the_callers_fault() -> None:
    ann = alone()
    code = module(ann, add_one)
    for args in ((object(),), (float("nan"),), ("x" * 600_000,)):
        with pytest.raises(LocalError):
            ann.do(ann.kernel.run(Task(code, "add_one", args), Budget()))


def test_no_run_leaves_a_slot_taken() -> None:
    ann = alone(Limits(runs=1))
    for outcome in ("trap", "out_of_time"):
        code = module(ann, partial(fail, outcome), name=outcome.encode())
        with pytest.raises(RemoteError):
            ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget()))
    ask = ann.start(ann.kernel.run(Task(module(ann, never, name=b"n"), "add_one", (1,)), Budget()))
    ann.world.run()
    ann.perform(ann.kernel.cancel(ask, ann.world.now_ms))
    assert ann.do(ann.kernel.run(Task(module(ann, add_one), "add_one", (1,)), Budget())).value == 2
    assert [type(effect) for effect in ann.log].count(Run) == 4


def test_a_program_that_runs_long_gives_signs_of_life_until_it_ends() -> None:
    ann = alone()
    task = Task(module(ann, never), "add_one", (1,))
    ask = ann.start(ann.kernel.run(task, Budget()))
    ann.world.pass_time(5_000)
    finish(ann, Outcome((2).to_bytes(8, "little"), b"", 7, 0))
    assert ann.end(ask).value == 2
    ann.world.pass_time(5_000)
    told = [note.detail for note in ann.notes if note.kind == "progress" and note.detail["phase"] == "run"]
    assert [(one["done"], one["total"]) for one in told] == [(0, None), (2, None), (4, None), (1, 1)]


def test_a_module_is_asked_for_once_and_again_when_the_host_let_go_of_it() -> None:
    (ann,) = World().grid("ann")
    lost: list[Failure] = []
    code = module(ann, lambda job: lost.pop() if lost else add_one(job))
    for number in range(3):
        assert ann.do(ann.kernel.run(Task(code, "add_one", (number,)), Budget())).value == number + 1
    assert len([effect for effect in ann.log if isinstance(effect, Prepare)]) <= 2
    before = len(ann.log)
    lost.append(Failure("not_found", "The compiled module is no longer here; ask again."))
    assert ann.do(ann.kernel.run(Task(code, "add_one", (9,)), Budget())).value == 10
    kinds = [type(effect) for effect in ann.log[before:] if isinstance(effect, (Prepare, Run))]
    assert kinds == [Run, Prepare, Run] and not lost
