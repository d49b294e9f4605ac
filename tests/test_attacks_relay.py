"""Members who mean harm, through circuits and near ones that are none: what they cost others is bounded."""

from __future__ import annotations

from typing import Any

import pytest
from tests.scenes import add_one, module
from tests.sim import Node, World
from tests.test_relay import chain, link_of, run, say, serve
from tests.test_spread import serving, values

from promisegrid import dagcbor, frames
from promisegrid.effects import Budget, Failure, Job, Outcome, Run, Send
from promisegrid.errors import LocalError
from promisegrid.frames import Dial, Near, Ping, Relayed, Window
from promisegrid.limits import Limits
from promisegrid.task import Task

SMALL = Limits(relay_window=1_000, frame_bytes=100_000, relay_waiting=20_000)


def circuit_of(node: Node) -> Any:
    return next(iter(node.kernel._peering.relay._circuits.values()))


def test_two_who_say_that_all_arrives_fill_nobody_in_between() -> None:
    """eve takes nothing, and says that she took it all: what waits for her at bob's is bounded even so."""
    ann, bob, eve = chain("ann", "bob", "eve", limits=SMALL)
    serve(eve)
    run(ann, eve)
    near, far, out = circuit_of(ann), circuit_of(eve), link_of(bob, eve)

    async def stuck(data: bytes) -> None:
        await bob.kernel._scheduler.signal()

    out._wire.push = stuck
    for _ in range(400):
        say(ann, near.below, Relayed(near.number, bytes(900)))
        say(eve, far.below, Window(far.number, 1_000_000))
    waits = sum(len(frame) for lane in out.outbox._lanes.values() for frame in lane.first)
    assert waits < 2 * (SMALL.relay_window + SMALL.frame_bytes)
    assert link_of(ann, bob) is not None and link_of(bob, eve) is not None, "the wires are whole"


def test_empty_frames_count_as_well() -> None:
    ann, bob, eve = chain("ann", "bob", "eve", limits=SMALL)
    serve(eve)
    run(ann, eve)
    near, out = circuit_of(ann), link_of(bob, eve)

    async def stuck(data: bytes) -> None:
        await bob.kernel._scheduler.signal()

    out._wire.push = stuck
    for _ in range(5_000):
        near.below.send(Relayed(near.number, b""))
    say(ann, near.below, Ping(1))
    assert sum(len(lane.first) for lane in out.outbox._lanes.values()) < 3_500


def test_who_asks_much_and_takes_no_answer_is_cut_off() -> None:
    """eve pings ann over a circuit, and never says that she took the answers."""
    ann, bob, eve = chain("ann", "bob", "eve", limits=SMALL)
    serve(eve)
    run(ann, eve)
    near, far = circuit_of(ann), circuit_of(eve)
    far.took = lambda size: None
    for n in range(5_000):
        say(eve, far.below, Relayed(far.number, frames.encode(Ping(n + 1))))
        if link_of(ann, eve) is None:
            break
    assert link_of(ann, eve) is None and sum(map(len, near._waiting)) < 30_000
    assert link_of(ann, bob) is not None


def test_somebody_silent_on_the_way_does_not_hide_who_is_beyond() -> None:
    """mute says that eve is near it, and then nothing: bob asks dan before ann has given up."""
    world = World()
    hub, ann, bob, mute, dan, eve = world.grid("hub", "ann", "bob", "mute", "dan", "eve")
    for node in (ann, bob, mute, dan, eve):
        for link in list(node.links):
            world.cut(node, link)
    world.run()
    for one, other in ((ann, bob), (bob, mute), (bob, dan), (dan, eve)):
        world.link(one, other)
    world.pass_time(2_000)
    serve(eve)
    say(mute, link_of(mute, bob), Near(dagcbor.encode([[eve.did, True, "python"]])))
    world.cut(hub, next(iter(hub.links), 0))
    mute.kernel._peering.relay.take = lambda link, frame: None
    assert run(ann, eve).value == 42


def test_dialling_nobody_again_and_again_asks_few_others() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    link = link_of(ann, bob)
    before = sum(isinstance(effect, Send) for effect in bob.log)
    for n in range(300):
        link.send(Dial(2 * (1_000 + n) + (link.role == "responder"), f"did:key:nobody{n}", 4))
        say(ann, link, Ping(n + 1))
    asked = [e for e in bob.log[before:] if isinstance(e, Send) and e.link == link_of(bob, eve).number]
    dials = [e for e in asked if isinstance(frames.decode(e.frame, 4_000_000), Dial)]
    assert 0 < len(dials) <= bob.limits.link_misses_per_second + 1


# -- work spread over many ---------------------------------------------------------------------------------


def slow_first(job: Job) -> Outcome | None:
    """Never ends for 0."""
    return add_one(job) if any(job.params[:4]) else None


def mapped(node: Node, count: int, **how: Any) -> list[object]:
    code = module(node, slow_first, name=b"slow first")
    tasks = [Task(code, "add_one", (number,)) for number in range(count)]
    return values(node.do(node.kernel.map(tasks, Budget(time_ms=5_000), **how)))


def test_one_who_is_always_busy_fails_nobodys_tasks() -> None:
    """eve takes tasks and gives them back at once; this node, busy for long, comes to them later."""
    _, (ann, eve) = serving("ann", "eve")
    eve.failing[Run] = Failure("busy", "Not now.")
    assert mapped(ann, 4, here=False) == [None] * 4, "there is nobody else"
    assert mapped(ann, 4) == [None, 2, 3, 4]


def test_workers_who_are_none_fail_nobodys_tasks() -> None:
    """eve says that forty members who serve are near her; there are none."""
    _, (ann, eve) = serving("ann", "eve")
    eve.failing[Run] = Failure("busy", "Not now.")
    rows = [[f"did:key:nobody{n}", True, "python"] for n in range(40)]
    say(eve, link_of(eve, ann), Near(dagcbor.encode(rows)))
    assert mapped(ann, 8) == [None, 2, 3, 4, 5, 6, 7, 8]


def test_who_is_nowhere_is_told() -> None:
    ann, _, _ = chain("ann", "bob", "eve")
    with pytest.raises(LocalError, match="not connected"):
        run(ann, World().node("nobody"))
