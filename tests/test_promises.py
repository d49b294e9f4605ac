"""Promises between real kernels: given, presented, counted, passed on, kept later, broken, taken back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.scenes import add_one, module
from tests.sim import Node, World

from promisegrid import capability
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Commit, Failure
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.promises import Granted
from promisegrid.protocols.promise import PROMISE
from promisegrid.task import Deferred, RunResult, Task


def scene(*names: str) -> tuple[World, list[Node], Cid]:
    """A grid whose founder, the first, serves nobody and has add_one; all others are linked to it."""
    world = World()
    nodes = world.grid(*(names or ("ann", "bob")))
    return world, nodes, module(nodes[0], add_one)


def grant(ann: Node, bob: Node, code: Cid, **terms: Any) -> Granted:
    made = ann.do(ann.kernel.promises.grant(bob.did, {"code": code}, **terms))
    assert isinstance(made, Granted)
    return made


def run(node: Node, code: Cid, on: Node, number: int = 41, **more: Any) -> Any:
    return node.do(node.kernel.run(Task(code, "add_one", (number,)), Budget(), on=on.did, **more))


def refused(code: str, *args: Any, **more: Any) -> None:
    with pytest.raises(RemoteError) as wrong:
        run(*args, **more)
    assert wrong.value.code == code, wrong.value.text


def given(node: Node, name: Cid) -> dict[str, Any]:
    found = node.do(node.kernel.promises.show(name))
    assert isinstance(found, dict)
    return found


def again(node: Node) -> Node:
    """The same node after a restart: nothing is left of it but its tables."""
    world = node.world
    for link in list(node.links):
        world.cut(node, link)
    world.run()
    twin = Node(world, node.name, node.limits, node.life + 1)
    twin.tables, twin.prepared = node.tables, node.prepared
    world.nodes[world.nodes.index(node)] = twin
    twin.do(twin.kernel.owner.boot())
    return twin


def test_a_promise_is_given_presented_run_and_counted() -> None:
    _, (ann, bob), code = scene()
    refused("not_serving", bob, code, ann)
    made = grant(ann, bob, code, func="add_one", uses=2)
    assert made.delivered and given(bob, made.promise)["state"] == "offered"
    done = run(bob, code, ann)
    assert isinstance(done, RunResult) and done.value == 42 and done.by == ann.did
    assert (given(ann, made.promise)["used"], given(ann, made.promise)["state"]) == (1, "kept")
    run(bob, code, ann, 1)
    assert given(ann, made.promise)["state"] == "used up"
    refused("used_up", bob, code, ann, 2, proofs=(made.promise,))
    assert len(ann.runs) == 2


def test_uses_are_counted_across_restarts() -> None:
    world, (ann, bob), code = scene()
    made = grant(ann, bob, code, uses=2)
    run(bob, code, ann)
    ann = again(ann)
    world.link(bob, ann)
    assert given(ann, made.promise)["used"] == 1
    run(bob, code, ann, 1)
    refused("used_up", bob, code, ann, 2, proofs=(made.promise,))


def test_a_delegation_counts_for_all_it_rests_on() -> None:
    world, (ann, bob, carol), code = scene("ann", "bob", "carol")
    world.link(carol, bob)
    made = grant(ann, bob, code, uses=3, delegate=1)
    passed = bob.do(bob.kernel.promises.delegate(made.promise, carol.did, uses=2))
    assert passed.delivered
    for number in range(2):
        assert run(carol, code, ann, number).value == number + 1
    refused("used_up", carol, code, ann, 5, proofs=(passed.promise,))
    run(bob, code, ann, 6)
    refused("used_up", bob, code, ann, 7, proofs=(made.promise,))
    assert given(ann, passed.promise)["used"] == 2 and given(ann, made.promise)["used"] == 3
    with pytest.raises(LocalError, match="delegate"):
        carol.do(carol.kernel.promises.delegate(passed.promise, ann.did))


def test_a_policy_about_arguments() -> None:
    _, (ann, bob), code = scene()
    made = grant(ann, bob, code, policy=[["0", "<=", 10]], budget=Budget(fuel=50, time_ms=20))
    assert run(bob, code, ann, 10).value == 11
    assert ann.runs[-1].fuel == 50 and ann.runs[-1].time_ms == 20
    refused("not_permitted", bob, code, ann, 11, proofs=(made.promise,))
    refused("not_serving", bob, code, ann, 11)


def test_a_promise_is_kept_later_after_a_restart_of_both() -> None:
    world, (ann, bob), code = scene()
    made = grant(ann, bob, code, later=True)
    later = run(bob, code, ann)
    assert isinstance(later, Deferred) and later.by == ann.did and later.promise == made.promise
    assert given(ann, made.promise)["state"] == given(bob, made.promise)["state"] == "deferred"
    assert not ann.runs
    ann, bob = again(ann), again(bob)
    (call,) = ann.do(ann.kernel.promises.pending())
    assert call["call"] == str(later.call) and call["for"] == bob.did and call["func"] == "add_one"
    waiting = bob.start(bob.kernel.promises.awaiting(later.call))
    world.run()
    world.link(bob, ann)
    assert ann.do(ann.kernel.promises.keep(later.call)).value == 42
    done = bob.end(waiting)
    assert isinstance(done, RunResult) and done.value == 42
    assert ann.do(ann.kernel.promises.pending()) == []
    assert given(bob, made.promise)["statements"] == [] and bob.do(bob.kernel.promises.awaited()) == []
    (said, first) = ann.do(ann.kernel.promises.history())
    assert said["state"] == "kept" and said["about"] == first["statement"] == str(later.call)
    assert given(again(ann), made.promise)["state"] == "kept"
    with pytest.raises(LocalError, match="kept"):
        ann.do(ann.kernel.promises.break_(later.call))


def test_a_promise_is_broken() -> None:
    world, (ann, bob), code = scene()
    grant(ann, bob, code, later=True)
    later = run(bob, code, ann)
    waiting = bob.start(bob.kernel.promises.awaiting(later.call))
    world.pass_time(100_000)
    ann.do(ann.kernel.promises.break_(later.call, "No time."))
    with pytest.raises(RemoteError, match="No time") as wrong:
        bob.end(waiting)
    assert wrong.value.code == "broken"
    (held,) = [one for one in bob.do(bob.kernel.promises.ls()) if one["held"] and one["what"].get("code")]
    (made,) = [one for one in ann.do(ann.kernel.promises.ls()) if one["given"] and one["what"].get("code")]
    assert (held["state"], made["state"]) == ("broken", "broken"), "both sides see it"
    run(bob, code, ann, 5)
    (held,) = [one for one in bob.do(bob.kernel.promises.ls()) if one["held"] and one["what"].get("code")]
    assert held["state"] == "deferred", "the next call is another one"


def test_a_promise_is_taken_back_and_whatever_rests_on_it() -> None:
    world, (ann, bob, carol), code = scene("ann", "bob", "carol")
    world.link(carol, bob)
    made = grant(ann, bob, code, delegate=1)
    passed = bob.do(bob.kernel.promises.delegate(made.promise, carol.did))
    assert run(carol, code, ann).value == 42
    ann.do(ann.kernel.promises.revoke(made.promise, "Enough."))
    refused("revoked", carol, code, ann, 1, proofs=(passed.promise,))
    assert [given(node, passed.promise)["state"] for node in (ann, carol)] == ["revoked"] * 2
    refused("revoked", bob, code, ann, 1, proofs=(made.promise,))
    ann = again(ann)
    world.link(bob, ann)
    refused("revoked", bob, code, ann, 2, proofs=(made.promise,))


def test_a_delegator_has_its_own_delegation_revoked() -> None:
    _, (ann, bob, carol), code = scene("ann", "bob", "carol")
    made = grant(ann, bob, code, delegate=1)
    passed = bob.do(bob.kernel.promises.delegate(made.promise, carol.did))
    assert not passed.delivered
    assert carol.do(carol.kernel.promises.accept(passed.token)) == passed.promise
    bob.do(bob.kernel.promises.revoke(passed.promise))
    refused("revoked", carol, code, ann, proofs=(passed.promise,))
    assert run(bob, code, ann).value == 42
    with pytest.raises(LocalError, match="not promised by"):
        carol.do(carol.kernel.promises.revoke(passed.promise))


def test_whoever_was_away_is_told_when_it_connects() -> None:
    world, (ann, bob), code = scene()
    world.cut(bob, max(bob.links))
    world.run()
    made = grant(ann, bob, code)
    assert not made.delivered and bob.do(bob.kernel.promises.ls()) == []
    world.link(bob, ann)
    assert run(bob, code, ann).value == 42


def test_a_promise_that_is_over_is_not_presented_again() -> None:
    """What is left is tried next: another promise, or none where the peer serves members."""
    _, (ann, bob, carol), code = scene("ann", "bob", "carol")
    first = grant(ann, bob, code, uses=1, delegate=1, days=9)
    passed = bob.do(bob.kernel.promises.delegate(first.promise, carol.did))
    carol.do(carol.kernel.promises.accept(passed.token))
    run(carol, code, ann, 1)
    refused("not_serving", bob, code, ann, 2)
    grant(ann, bob, code, uses=1)
    assert run(bob, code, ann, 3).value == 4
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    assert run(bob, code, ann, 4).value == 5


def test_only_its_parties_hear_of_a_promise() -> None:
    _, (ann, bob, carol), code = scene("ann", "bob", "carol")
    made = grant(ann, bob, code, later=True)
    later = run(bob, code, ann)

    def ask(node: Node, op: str, *args: object) -> Any:
        return node.do(node.kernel._caller.ask(ann.did, PROMISE, op, args, 1000))

    assert ask(bob, "state", made.promise) == {"state": "deferred", "used": 1}
    assert ask(bob, "state", later.call)["state"] == "deferred"
    for op, args in (("state", (made.promise,)), ("state", (later.call,)), ("await", (later.call, 10))):
        with pytest.raises(RemoteError) as wrong:
            ask(carol, op, *args)
        assert wrong.value.code == "not_found"
    for op, args in (("state", (1,)), ("await", (later.call,)), ("keep", (later.call,)), ("told", ())):
        with pytest.raises(RemoteError) as wrong:
            ask(bob, op, *args)
        assert wrong.value.code == "bad_args"
    chain = list(capability.unpack(made.token))
    assert ask(bob, "told", {"chain": chain}) == {"taken": 0}, "it is not ann's to hold"
    with pytest.raises(RemoteError) as wrong:
        carol.do(carol.kernel._caller.ask(ann.did, PROMISE, "revoke", ("",), 1000, tuple(chain)))
    assert wrong.value.code == "not_permitted"


def test_the_document_is_the_protocol() -> None:
    path = Path(__file__).parent.parent / "docs" / "protocols" / "promise.md"
    if not path.is_file():
        pytest.skip("only the kernel is here")
    assert Cid.of(path.read_bytes()) == PROMISE


def test_whoever_leaves_a_grid_leaves_its_promises() -> None:
    _, (ann, bob), code = scene()
    grant(ann, bob, code)
    bob.do(bob.kernel.owner.leave())
    assert bob.do(bob.kernel.promises.ls()) == []
    assert not [key for key in bob.tables["grid"] if key.startswith(b"cap/")]


def test_a_picture_of_promises() -> None:
    _, (ann, bob, carol), code = scene("ann", "bob", "carol")
    made = grant(ann, bob, code, delegate=1, uses=4)
    passed = bob.do(bob.kernel.promises.delegate(made.promise, carol.did, uses=1))
    carol.do(carol.kernel.promises.accept(passed.token))
    run(carol, code, ann)
    graph = ann.do(ann.kernel.promises.graph())
    edges = {edge["promise"]: edge for edge in graph["edges"] if "code" in edge["what"]}
    assert {node["did"] for node in graph["nodes"]} == {ann.did, bob.did, carol.did}
    assert edges[str(passed.promise)]["parent"] == str(made.promise)
    assert [edges[str(one.promise)]["state"] for one in (made, passed)] == ["kept", "used up"]
    assert [edges[str(one.promise)]["uses"] for one in (made, passed)] == [4, 1]


def test_what_has_expired_is_shown_for_a_week_and_then_forgotten() -> None:
    world, (ann, bob), code = scene()
    made = grant(ann, bob, code, uses=3, days=1)
    gone = grant(ann, bob, code, days=1)
    grant(ann, bob, code, days=1, later=True)
    run(bob, code, ann, proofs=(made.promise,))
    later = [one for one in ann.do(ann.kernel.promises.ls()) if one["later"]]
    run(bob, code, ann, proofs=(Cid.parse(later[0]["promise"]),))
    ann.do(ann.kernel.promises.revoke(gone.promise))
    world.cut(bob, max(bob.links))
    world.now_ms += 2 * 24 * 3600 * 1000
    assert given(ann, made.promise)["state"] == "expired" and ann.do(ann.kernel.promises.pending()) == []
    grant(ann, bob, code)
    assert given(ann, made.promise)["used"] == 1
    world.now_ms += 7 * 24 * 3600 * 1000
    last = grant(ann, bob, code)
    cap = [key for key in ann.tables["grid"] if key.startswith(b"cap/") and not key.startswith(b"cap/said/")]
    left = {key.split(b"/")[1] for key in cap}
    assert left == {b"known"} and bytes(made.promise) not in b"".join(cap)
    with pytest.raises(LocalError, match="knows no promise"):
        given(ann, made.promise)
    assert given(ann, last.promise)["state"] == "offered"


def test_only_abilities_that_mean_something_are_promised() -> None:
    _, (ann, bob), code = scene()
    for text in ("rum", "", "Run", "run ", "x" * 1000):
        with pytest.raises(LocalError, match=r"promise run \(any program\), member") as wrong:
            ann.do(ann.kernel.promises.grant(bob.did, {"ability": text}))
        assert len(wrong.value.text) < 300
    made = ann.do(ann.kernel.promises.grant(bob.did, {"ability": str(code)}))
    assert given(ann, made.promise)["what"] == {"protocol": str(code)}
    assert run(bob, code, ann).value == 42


def test_promises_to_one_holder_are_bounded() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(promises_per_holder=3, deferred_per_holder=1))
    code = module(ann, add_one)
    made = [grant(ann, bob, code, later=True) for _ in range(2)]
    with pytest.raises(LocalError, match="Too many promises"):
        grant(ann, bob, code)
    assert isinstance(run(bob, code, ann, 1), Deferred)
    refused("busy", bob, code, ann, 2)
    assert given(ann, made[1].promise)["used"] == 0, "what could not wait was not used"


def test_a_revocation_that_could_not_be_written_is_written_when_it_is_said_again() -> None:
    world, (ann, bob), code = scene()
    made = grant(ann, bob, code, uses=5)
    ann.failing[Commit] = Failure("disk_full", "The store is full.")
    for _ in range(2):
        with pytest.raises(RemoteError, match="full"):
            ann.do(ann.kernel.promises.revoke(made.promise))
    refused("revoked", bob, code, ann, proofs=(made.promise,))
    ann.failing.clear()
    ann.do(ann.kernel.promises.revoke(made.promise))
    twin = again(ann)
    world.link(bob, twin)
    refused("revoked", bob, code, twin, proofs=(made.promise,))
