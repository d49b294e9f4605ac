"""Messages inside messages: evaluated first, as their own signer's, for whom they were meant, bounded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.scenes import COMMAND, add_one, claims_of, module, printed, promised, sealed
from tests.sim import Node, World

from promisegrid import frames
from promisegrid.capability import Terms
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Failure, Send
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.nested import KEY
from promisegrid.task import RunResult, Task


def world(*names: str, limits: Limits | None = None) -> tuple[list[Node], Cid]:
    nodes = World().grid(*names, limits=limits)
    for node in nodes:
        code = module(node, add_one)
    nodes[0].do(nodes[0].kernel.owner.set_serving(2, 1 << 20))
    return nodes, code


def message(sender: Node, to: Node, code: Cid, arg: object, number: int = 0, **changes: Any) -> bytes:
    """A signed call of add_one, by hand."""
    content = replace(claims_of(sender, to, args=(arg,)), cti=number.to_bytes(16, "big"), **changes)
    return sealed(sender, code, content)


def inside(raw: bytes) -> dict[str, bytes]:
    return {KEY: raw}


def run(sender: Node, on: Node, code: Cid, arg: object) -> Any:
    done = sender.do(sender.kernel.run(Task(code, "add_one", (arg,)), Budget(), on=on.did))
    assert isinstance(done, RunResult)
    return done


def refused(sender: Node, on: Node, code: Cid, arg: object) -> str:
    with pytest.raises(RemoteError) as wrong:
        run(sender, on, code, arg)
    return wrong.value.code


def test_the_value_of_a_message_takes_its_place() -> None:
    (ann, bob), code = world("ann", "bob")
    done = run(bob, ann, code, inside(message(bob, ann, code, 40)))
    assert done.value == 42
    assert done.task == Task(code, "add_one", (41,)).block(Limits()).cid, "the task is the one with the value"
    assert len(ann.runs) == 2


def test_messages_within_messages_are_evaluated_from_the_inside() -> None:
    (ann, bob), code = world("ann", "bob")
    raw = message(bob, ann, code, 0)
    for number in range(1, 8):
        raw = message(bob, ann, code, inside(raw), number)
    assert run(bob, ann, code, inside(raw)).value == 9
    assert refused(bob, ann, code, inside(message(bob, ann, code, inside(raw), 9))) == "too_deep"


def test_their_number_is_bounded() -> None:
    (ann, bob), _ = world("ann", "bob", limits=replace(Limits(), nested_total=3))
    code = module(ann, lambda job: printed(b"done"), COMMAND, name=b"command")
    inner = module(ann, add_one)
    nested = [inside(message(bob, ann, inner, n, n)) for n in range(4)]
    with pytest.raises(RemoteError) as wrong:
        bob.do(bob.kernel.run(Task(code, "_start", (nested,)), Budget(), on=ann.did))
    assert wrong.value.code == "too_deep" and len(ann.runs) <= 3


def test_a_command_leaves_a_link_to_its_result() -> None:
    (ann, bob), code = world("ann", "bob")
    command = module(ann, lambda job: printed(b"done"), COMMAND, name=b"command")
    content = replace(claims_of(bob, ann, func="_start", args=()), cti=bytes(16))
    with pytest.raises(RemoteError) as wrong:  # add_one takes numbers, not links
        run(bob, ann, code, inside(sealed(bob, command, content)))
    assert wrong.value.code == "bad_args" and len(ann.runs) == 1


# -- whose, and for whom -------------------------------------------------------------------------------------


def test_somebody_elses_message_needs_to_be_meant_for_the_presenter() -> None:
    (ann, bob, eve), code = world("ann", "bob", "eve")
    plain = message(bob, ann, code, 1)
    assert refused(eve, ann, code, inside(plain)) == "not_for_you", "the confused deputy"
    for_bob = message(bob, ann, code, 1, 1, sub=bob.did)
    assert refused(eve, ann, code, inside(for_bob)) == "not_for_you"
    for_eve = message(bob, ann, code, 1, 2, sub=eve.did)
    assert run(eve, ann, code, inside(for_eve)).value == 3


def test_its_own_signer_has_to_have_the_authority() -> None:
    (ann, bob, eve), code = world("ann", "bob", "eve")
    for_eve = message(bob, ann, code, 1, 2, sub=eve.did)
    for number in list(bob.links):
        bob.world.cut(bob, number)
    bob.world.run()
    assert refused(eve, ann, code, inside(for_eve)) == "not_member", "bob is not connected any more"


def test_it_has_to_be_for_this_node_now_and_signed() -> None:
    (ann, bob, eve), code = world("ann", "bob", "eve")
    assert refused(bob, ann, code, inside(message(bob, eve, code, 1))) == "wrong_audience"
    assert refused(bob, ann, code, inside(message(bob, ann, code, 1, exp=1))) == "expired"
    assert refused(bob, ann, code, inside(message(bob, ann, code, 1)[:-1] + b"\x00")) == "bad_signature"
    assert refused(bob, ann, code, inside(b"nothing")) == "malformed"
    assert not ann.runs


def test_a_number_is_used_for_one_message_inside_and_outside() -> None:
    (ann, bob), code = world("ann", "bob")
    run(bob, ann, code, inside(message(bob, ann, code, 1, 5)))
    assert refused(bob, ann, code, inside(message(bob, ann, code, 2, 5))) == "bad_claims"
    assert run(bob, ann, code, inside(message(bob, ann, code, 1, 5))).value == 3, "the same one counts again"
    assert len(ann.runs) == 2


def test_a_call_without_messages_is_not_searched_twice() -> None:
    (ann, bob), code = world("ann", "bob")
    assert refused(bob, ann, code, {KEY: "text"}) == "bad_args", "not bytes: plain data, and no number"
    assert refused(bob, ann, code, {KEY: b"", "more": 1}) == "bad_args"
    sent = [e for e in ann.log if isinstance(e, Send)]
    assert not any(isinstance(frames.decode(e.frame, 1 << 22), frames.Refusal) for e in sent)


def test_one_use_is_one_run_however_often_its_message_is_presented() -> None:
    (ann, bob), _ = world("ann", "bob")
    code = module(ann, lambda job: Failure("trap", "It trapped."), name=b"traps")
    token = promised(ann, bob.did, Terms(("code", code), uses=1))
    once = message(bob, ann, code, 1, 1, proofs=(token,))
    assert refused(bob, ann, code, inside(once)) == "trap"
    for _ in range(3):
        assert refused(bob, ann, code, inside(once)) == "bad_claims"
    assert len(ann.runs) == 1
