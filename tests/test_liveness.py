"""Peers that fall silent: soon noticed where somebody waits for them, and never by a host that only slept."""

from __future__ import annotations

import pytest
from tests.scenes import add_one, module, never
from tests.sim import Node, World
from tests.test_relay import chain, serve

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Send
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frames import Ping, decode
from promisegrid.limits import Limits
from promisegrid.task import Task

LIMITS = Limits()
NOTICED_MS = LIMITS.awaited_silent_ms + LIMITS.awaited_ms


def pair() -> tuple[Node, Node, Cid]:
    """Ann serves a program that never ends; Bob is linked to her."""
    ann, bob = World().grid("ann", "bob")
    serve(ann)
    ann.world.pass_time(1_000)
    return ann, bob, module(ann, never)


def pings(node: Node, since: int) -> int:
    """How many pings a node has sent since its log was that long."""
    sent = [one.frame for one in node.log[since:] if isinstance(one, Send)]
    return sum(isinstance(decode(frame, LIMITS.frame_bytes), Ping) for frame in sent)


def asks(node: Node, code: Cid, on: Node) -> int:
    """A call under way."""
    ask = node.start(node.kernel.run(Task(code, "add_one", (1,)), Budget(), on=on.did))
    node.world.run()
    return ask


def ended(node: Node, ask: int) -> str:
    """The code of a call's refusal."""
    with pytest.raises((RemoteError, LocalError)) as wrong:
        node.end(ask)
    return wrong.value.code


def test_a_peer_that_freezes_in_the_middle_of_a_call_is_given_up_soon() -> None:
    ann, bob, code = pair()
    ask = asks(bob, code, ann)
    bob.world.pass_time(60_000)
    began = bob.world.now_ms
    ann.peer_drops = True
    assert ended(bob, ask) == "closed"
    assert LIMITS.awaited_silent_ms <= bob.world.now_ms - began <= NOTICED_MS
    assert not bob.peers()


def test_a_peer_at_rest_that_freezes_is_noticed_when_it_is_called() -> None:
    ann, bob, code = pair()
    ann.peer_drops = True
    ann.world.pass_time(LIMITS.ping_ms - 1_000)
    assert bob.peers() == ["ann"]
    began = bob.world.now_ms
    assert ended(bob, asks(bob, code, ann)) == "closed"
    assert bob.world.now_ms - began <= NOTICED_MS


def test_a_call_that_takes_long_at_a_peer_that_answers_pings_is_waited_for() -> None:
    ann, bob, code = pair()
    ask = asks(bob, code, ann)
    bob.world.pass_time(10 * LIMITS.awaited_silent_ms)
    assert ask not in bob.replies and bob.peers() == ["ann"]
    before = len(bob.log)
    ann.answer(max(ann.kernel._scheduler._waiting), add_one(ann.runs[0]))
    assert bob.end(ask).value == 2
    bob.world.pass_time(10 * LIMITS.ping_ms)
    assert pings(bob, before) <= 12, "at rest again: one ping in ping_ms"


def test_a_quick_call_costs_no_ping() -> None:
    ann, bob = World().grid("ann", "bob")
    serve(ann)
    code = module(ann, add_one)
    bob.world.pass_time(1_000)
    before = len(bob.log)
    for number in range(5):
        bob.do(bob.kernel.run(Task(code, "add_one", (number,)), Budget(), on=ann.did))
    assert pings(bob, before) == 0


@pytest.mark.parametrize("told", [False, True])
def test_a_host_that_slept_loses_no_link_that_is_whole(told: bool) -> None:
    ann, bob, _ = pair()
    bob.world.now_ms += 10 * LIMITS.silent_ms  # nothing ran meanwhile
    if told:
        bob.perform(bob.kernel.awake(bob.world.now_ms))
    bob.world.tick()
    bob.world.pass_time(2 * LIMITS.silent_ms)
    assert bob.peers() == ["ann"] and ann.peers() == ["bob"]


@pytest.mark.parametrize("told", [False, True])
def test_a_host_that_slept_finds_dead_links_soon(told: bool) -> None:
    ann, bob, _ = pair()
    ann.peer_drops = True
    bob.world.now_ms += 30_000 if told else 10 * LIMITS.silent_ms
    if told:
        bob.perform(bob.kernel.awake(bob.world.now_ms))
    bob.world.tick()
    assert bob.peers() == ["ann"]
    bob.world.pass_time(NOTICED_MS)
    assert not bob.peers()


def test_a_host_whose_network_changed_asks_all_peers_at_once() -> None:
    _, bob, _ = pair()
    before = len(bob.log)
    bob.perform(bob.kernel.awake(bob.world.now_ms))
    bob.world.run()
    assert pings(bob, before) == 1
    bob.world.pass_time(2 * NOTICED_MS)
    assert bob.peers() == ["ann"]


def test_a_network_that_goes_right_after_a_call_is_noticed() -> None:
    """The peer was heard since the call was made, and not since the host was told."""
    ann, bob = World().grid("ann", "bob")
    serve(ann)
    code = module(ann, add_one)
    bob.world.pass_time(LIMITS.ping_ms + 1_000)
    bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did))
    bob.world.pass_time(1_000)
    ann.peer_drops = True
    bob.perform(bob.kernel.awake(bob.world.now_ms))
    bob.world.pass_time(NOTICED_MS)
    assert not bob.peers()


# -- the way to the peer ------------------------------------------------------------------------------


def direct(ann: Node, eve: Node) -> None:
    """A direct channel between two who know each other through others."""
    ann.world.link(ann, eve, via="webrtc")
    ann.world.pass_time(1_000)


def cut(one: Node, other: Node, via: str) -> None:
    """The connections of that kind between two nodes end."""
    for link in list(one.kernel._state.links.values()):
        if link.did == other.did and link.via == via:
            one.world.cut(one, link.number)
    one.world.run()


def test_a_call_whose_only_link_dies_goes_another_way() -> None:
    """A circuit is made then; what ran for the dead link was stopped, and runs anew."""
    ann, _, eve = chain("ann", "bob", "eve")
    serve(eve)
    direct(ann, eve)
    ask = asks(ann, module(eve, never), eve)
    assert [peer["via"] for peer in ann.kernel.peers() if peer["did"] == eve.did] == ["webrtc"]
    cut(ann, eve, "webrtc")
    ann.world.run()
    assert [peer["via"] for peer in ann.kernel.peers() if peer["did"] == eve.did] == ["relay"]
    eve.answer(max(eve.kernel._scheduler._waiting), add_one(eve.runs[-1]))
    assert ann.end(ask).value == 2


def test_one_who_comes_back_while_its_old_link_is_asked_is_reached() -> None:
    """A tab that was reloaded: its node had not heard yet that the link of before was gone."""
    bob, ann, eve = chain("bob", "ann", "eve")
    serve(eve)
    eve.peer_drops = True
    task = Task(module(bob, add_one), "add_one", (1,))
    ask = bob.start(bob.kernel.run(task, Budget(), on=eve.did))
    bob.world.run()
    eve.peer_drops = False
    bob.world.link(eve, ann)
    assert bob.end(ask).value == 2


def test_a_call_to_one_who_is_gone_is_refused_without_a_search() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    serve(eve)
    direct(ann, eve)
    ask = asks(ann, module(eve, never), eve)
    cut(bob, eve, "ws")
    ann.world.pass_time(1_000)
    began = ann.world.now_ms
    cut(ann, eve, "webrtc")
    assert ended(ann, ask) == "closed" and ann.world.now_ms == began


def test_a_frozen_peer_is_not_sought_a_second_time() -> None:
    """Two links to it, both silent: the call ends with the first that is given up."""
    ann, _, eve = chain("ann", "bob", "eve")
    serve(eve)
    ask = asks(ann, module(eve, never), eve)
    direct(ann, eve)
    assert sorted(str(p["via"]) for p in ann.kernel.peers() if p["did"] == eve.did) == ["relay", "webrtc"]
    began = ann.world.now_ms
    eve.peer_drops = True
    assert ended(ann, ask) == "closed"
    assert ann.world.now_ms - began <= NOTICED_MS


def test_a_neighbour_that_freezes_holds_up_a_circuit_no_longer_than_a_call() -> None:
    ann, _, eve = chain("ann", "bob", "eve")
    eve.peer_drops = True
    began = ann.world.now_ms
    assert ended(ann, asks(ann, module(ann, never), eve)) == "no_such_peer"
    assert ann.world.now_ms - began <= NOTICED_MS
