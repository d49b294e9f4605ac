"""What the owner decides is kept, checked when it is said, and nobody else's to change."""

from __future__ import annotations

import pytest
from tests.scenes import add_one, module, pair
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Commit, Save
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.task import Task


def alone(limits: Limits | None = None) -> Node:
    (ann,) = World().grid("ann", limits=limits)
    return ann


def again(node: Node) -> Node:
    """The same home after a restart."""
    twin = Node(node.world, node.name)
    twin.tables = node.tables
    node.world.nodes[node.world.nodes.index(node)] = twin
    twin.do(twin.kernel.owner.boot())
    return twin


def test_a_fresh_node_is_in_no_grid() -> None:
    node = World().node("ann")
    assert node.kernel.grid is None
    assert node.do(node.kernel.owner.boot()) == {"did": node.did, "grid": None}


def test_founding_is_durable_and_once() -> None:
    ann = alone()
    grid = ann.kernel.grid
    assert grid is not None and any(isinstance(effect, Commit) for effect in ann.log)
    assert again(ann).kernel.grid == grid
    for name in ("", "x" * 81):
        other = World().node("bob")
        with pytest.raises(LocalError):
            other.do(other.kernel.owner.found(name))
    with pytest.raises(LocalError, match=str(grid)):
        ann.do(ann.kernel.owner.found("second"))


def test_two_grids_of_one_founder_differ() -> None:
    one, other = alone(), World().node("ann")
    other.do(other.kernel.owner.boot())
    other.kernel._state.entropy.take(1)
    assert other.do(other.kernel.owner.found("test")) != one.kernel.grid


def test_serving_is_off_until_said_and_kept() -> None:
    ann = alone()
    assert ann.do(ann.kernel.owner.serving()) is None
    ann.do(ann.kernel.owner.set_serving(2, 1 << 20))
    twin = again(ann)
    assert twin.do(twin.kernel.owner.serving()) == {"cpu": 2, "memory": 1 << 20}
    assert twin.kernel._runner.guests.free == 2
    twin.do(twin.kernel.owner.set_serving(0, 0))
    assert again(twin).kernel._runner.guests.free == 0


@pytest.mark.parametrize(("cpu", "memory"), [(-1, 0), (5, 1 << 20), (1, 0), (1, 1 << 40), (10**9, 1 << 20)])
def test_serving_within_what_the_machine_can_bear(cpu: int, memory: int) -> None:
    ann = alone()
    with pytest.raises(LocalError):
        ann.do(ann.kernel.owner.set_serving(cpu, memory))
    assert ann.do(ann.kernel.owner.serving()) is None


def test_a_history_of_what_ran_for_whom() -> None:
    ann, bob, code = pair()
    bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did))
    ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget()))
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.run(Task(code, "none", ()), Budget()))
    seen = [(line["for"], line["cached"], line["refused"]) for line in ann.do(ann.kernel.owner.history())]
    assert seen == [(ann.did, None, "no_such_function"), (ann.did, True, None), (bob.did, False, None)]
    assert len(ann.do(ann.kernel.owner.history(1))) == 1 and ann.do(ann.kernel.owner.history(-1)) == []


def test_a_receipt_can_be_looked_at() -> None:
    ann = alone()
    done = ann.do(ann.kernel.run(Task(module(ann, add_one), "add_one", (1,)), Budget()))
    shown = ann.do(ann.kernel.owner.receipt(done.receipt))
    assert shown["valid"] and shown["executor"] == ann.did and shown["result"] == str(done.result)
    data = ann.tables["blocks"][bytes(done.receipt)]
    forged = data[:-1] + bytes([data[-1] ^ 1])
    ann.tables["blocks"][bytes(Cid.of(forged))] = forged
    assert not ann.do(ann.kernel.owner.receipt(Cid.of(forged)))["valid"]
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.owner.receipt(ann.put(b"no receipt")))


def test_what_is_published_is_listed() -> None:
    ann = alone()
    ann.put(b"app")
    ann.do(ann.kernel.owner.publish(Cid.of(b"app"), "render", "SVG to PNG"))
    (line,) = again(ann).do(ann.kernel.owner.published())
    assert (line["cid"], line["name"], line["description"]) == (str(Cid.of(b"app")), "render", "SVG to PNG")


def test_put_is_durable_and_results_are_written_behind() -> None:
    ann = alone()
    code = module(ann, add_one)
    ann.log.clear()
    ann.put(b"data")
    assert [type(effect) for effect in ann.log if isinstance(effect, Save | Commit)] == [Commit]
    ann.log.clear()
    ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget()))
    assert [type(effect) for effect in ann.log if isinstance(effect, Save | Commit)] == [Save]


def test_the_did_of_a_home_is_checked_at_start() -> None:
    ann = alone()
    thief = Node(ann.world, "bob")
    thief.tables = ann.tables
    with pytest.raises(LocalError, match="another"):
        thief.do(thief.kernel.owner.boot())


def test_an_ask_number_is_used_once_at_a_time() -> None:
    ann = alone()
    ann.kernel.ask(99, ann.kernel.block(Cid.of(b"")), ann.world.now_ms)
    spare = ann.kernel.has(Cid.of(b""))
    with pytest.raises(AssertionError):
        ann.kernel.ask(99, spare, ann.world.now_ms)
    spare.close()
    assert ann.kernel.cancel(12345, ann.world.now_ms) == []
