"""Circuits: members who share no wire reach each other through others, who cannot lie nor be worn out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.scenes import add_one, chain, module, never
from tests.sim import Node, World

from promisegrid import frames
from promisegrid.effects import Budget, Send
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frames import Dial, HangUp, Relayed, Window
from promisegrid.limits import Limits
from promisegrid.task import RunResult, Task

MIB = 1024 * 1024


def run(node: Node, on: Node, number: int = 41) -> RunResult:
    code = module(node, add_one)
    done = node.do(node.kernel.run(Task(code, "add_one", (number,)), Budget(), on=on.did))
    assert isinstance(done, RunResult)
    return done


def serve(node: Node) -> None:
    node.do(node.kernel.owner.set_serving(2, MIB))


def say(node: Node, link: Any, frame: frames.Frame) -> None:
    """Have a node send a frame that its kernel would not."""
    link.send(frame)
    node.perform(node.kernel.tick(node.world.now_ms))
    node.world.run()


def link_of(node: Node, peer: Node) -> Any:
    return node.kernel._state.link_to(peer.did)


@pytest.mark.parametrize("far", [2, 3, 5])
def test_a_call_goes_over_several_hops(far: int) -> None:
    nodes = chain(*"abcdef"[: far + 1])
    serve(nodes[-1])
    done = run(nodes[0], nodes[-1])
    assert done.value == 42 and done.by == nodes[-1].did and len(nodes[-1].runs) == 1
    assert [peer["via"] for peer in nodes[0].kernel.peers()] == ["ws", "relay"]
    assert not any(node.runs for node in nodes[1:-1])


def test_farther_than_the_hops_allow_is_told() -> None:
    nodes = chain(*"abcdefgh")
    with pytest.raises(LocalError, match="not connected to this node, nor to those around it"):
        run(nodes[0], nodes[-1])


def test_who_is_near_is_known() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    serve(eve)
    ann.world.pass_time(2_000)
    assert ann.kernel.near() == [{"did": eve.did, "serves": True, "engine": "python"}]
    assert bob.kernel.near() == []
    ann.world.cut(eve, next(iter(eve.links)))
    ann.world.pass_time(2_000)
    assert ann.kernel.near() == []


def test_blocks_come_over_a_circuit_whole() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    serve(eve)
    run(ann, eve)
    data = bytes(range(256)) * (5 * MIB // 256) + b"end"
    cid = eve.put(data)
    bob.do(bob.kernel.save([]))
    assert ann.get(cid) == data


def test_the_window_holds_back_what_nobody_takes() -> None:
    """With a small window a large file still comes, and no more than that is ever under way."""
    ann, _, eve = chain("ann", "bob", "eve", limits=Limits(relay_window=100_000))
    serve(eve)
    run(ann, eve)
    cids = [eve.put(bytes([n]) * MIB) for n in range(3)]
    start, link = len(eve.log), link_of(ann, eve)
    asks = [ann.start(ann.kernel._exchange.fetch(cid, link)) for cid in cids]
    assert [ann.end(ask) for ask in asks] == [bytes([n]) * MIB for n in range(3)]
    sent = [frames.decode(e.frame, 4 * MIB) for e in eve.log[start:] if isinstance(e, Send)]
    largest = max(len(frame.data) for frame in sent if isinstance(frame, Relayed))
    assert largest > 100_000, "one, however large"
    heard = [frames.decode(e.frame, 4 * MIB) for e in ann.log if isinstance(e, Send)]
    assert any(isinstance(frame, Window) for frame in heard)


def test_who_passes_on_may_not_be_flooded() -> None:
    limits = Limits(relay_window=1_000, frame_bytes=100_000)
    ann, bob, eve = chain("ann", "bob", "eve", limits=limits)
    serve(eve)
    run(ann, eve)
    circuit = next(iter(ann.kernel._peering.relay._circuits.values()))
    for _ in range(3):  # past the window, as our own circuit never would
        say(ann, circuit.below, Relayed(circuit.number, bytes(50_000)))
    assert link_of(ann, eve) is None and link_of(eve, ann) is None
    assert link_of(ann, bob) is not None, "the wire itself is whole"
    assert not bob.kernel._peering.relay._passages and bob.kernel._peering.relay._count == 0


def test_the_node_between_dies_and_both_ends_know() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    serve(eve)
    run(ann, eve)
    code = module(ann, never, name=b"never")
    asked = ann.start(ann.kernel.run(Task(code, "add_one", (1,)), Budget(), on=eve.did))
    ann.world.run()
    assert eve.runs[1:]
    for link in list(bob.links):
        ann.world.cut(bob, link)
    with pytest.raises(RemoteError) as wrong:
        ann.end(asked)
    assert wrong.value.code == "closed"
    assert link_of(ann, eve) is None and link_of(eve, ann) is None


def test_a_call_moves_to_another_link_and_is_run_once() -> None:
    """A direct link opens beside the circuit and is preferred; when it dies the call goes over the other."""
    ann, _, eve = chain("ann", "bob", "eve")
    serve(eve)
    run(ann, eve)
    ann.world.link(ann, eve)
    assert link_of(ann, eve).via == "ws"
    ended: list[Any] = []

    def slow(job: Any) -> None:
        ended.append(job)

    code = module(ann, slow, name=b"slow")
    asked = ann.start(ann.kernel.run(Task(code, "add_one", (1,)), Budget(), on=eve.did))
    ann.world.run()
    assert len(ended) == 1
    direct = [number for number, (peer, _) in ann.links.items() if peer is eve]
    ann.world.cut(ann, direct[0])
    ann.world.run()
    assert link_of(ann, eve).via == "relay" and asked not in ann.replies, "nobody noticed"
    assert len(ended) == 2, "given up with its link, and begun once more for the same message"


def test_a_stranger_gets_no_circuit() -> None:
    world = World()
    ann, _ = world.grid("ann", "bob")
    eve = world.node("eve")
    world.link(eve, ann)
    assert not link_of(ann, eve)
    assert ann.kernel._peering.relay._count == 0


@pytest.mark.parametrize("circuit", [0, -2, 1, 3])
def test_a_circuit_with_a_number_of_ours_closes_the_link(circuit: int) -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    link = link_of(ann, bob)
    assert link.role == "initiator", "so ann gives the even numbers"
    say(ann, link, Dial(circuit, eve.did, 1))
    assert link_of(ann, bob) is None


def test_circuits_are_counted_and_given_back() -> None:
    ann, bob, eve = chain("ann", "bob", "eve", limits=Limits(circuits_per_link=2))
    link = link_of(ann, bob)
    for number in (2, 4, 6):
        say(ann, link, Dial(number, eve.did, 1))
    relay = bob.kernel._peering.relay
    assert len(relay._passages) == 4 and relay._count == 2
    refused = [frames.decode(e.frame, MIB) for e in bob.log if isinstance(e, Send)]
    assert [f.code for f in refused if isinstance(f, HangUp)] == ["busy"]
    for number in (2, 4):
        say(ann, link, HangUp(number, "cancelled", ""))
    assert relay._count == 0 and not relay._passages and not eve.kernel._peering.relay._ends
    assert all(one.circuits == 0 for node in (ann, bob, eve) for one in node.kernel._state.links.values())


def test_what_comes_for_a_circuit_that_is_not_is_dropped() -> None:
    ann, bob, _ = chain("ann", "bob", "eve")
    link = link_of(ann, bob)
    for frame in (Relayed(8, b"x"), Window(8, 5), HangUp(8, "closed", ""), frames.Dialled(8)):
        say(ann, link, frame)
    assert link_of(ann, bob) is not None


@pytest.mark.parametrize("data", [b"", b"\xff", b"\x80" * 2, b"\x81\x01", b"\x81\x83\x01\xf5\x60"])
def test_who_is_near_must_be_said_in_order(data: bytes) -> None:
    ann, bob, _ = chain("ann", "bob", "eve")
    say(ann, link_of(ann, bob), frames.Near(data))
    assert link_of(ann, bob) is None


def test_the_wrong_member_at_the_end_is_not_believed() -> None:
    """Who passes on leads the circuit to somebody else: the greeting shows who it is."""
    ann, bob, eve, mal = chain("ann", "bob", "eve", "mal")
    relay = bob.kernel._peering.relay
    real = relay._next
    relay._next = lambda did, source, hops: real(eve.did, source, hops)  # type: ignore[method-assign]
    link = link_of(bob, eve)
    dial = link.send

    def misled(frame: frames.Frame) -> None:
        dial(Dial(frame.circuit, eve.did, frame.hops) if isinstance(frame, Dial) else frame)

    link.send = misled
    with pytest.raises(LocalError, match="not connected"):
        run(ann, mal)
    assert all(peer["did"] != mal.did for peer in ann.kernel.peers())


def test_two_who_ask_at_once_share_one_circuit() -> None:
    ann, _, eve = chain("ann", "bob", "eve")
    serve(eve)
    code = module(ann, add_one)
    asks = [ann.start(ann.kernel.run(Task(code, "add_one", (n,)), Budget(), on=eve.did)) for n in range(5)]
    assert [ann.end(ask).value for ask in asks] == [1, 2, 3, 4, 5]
    assert len(ann.kernel._peering.relay._ends) == 1


def test_grids_side_by_side_stay_apart() -> None:
    """A node is in one grid; whoever asks it for a circuit is a member of that grid."""
    world = World()
    ann, bob = world.grid("ann", "bob")
    cat, dan = world.grid("cat", "dan")
    world.link(bob, cat)
    assert link_of(bob, cat) is None
    with pytest.raises(LocalError):
        run(ann, dan)
