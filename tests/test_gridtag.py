"""Messages under the grid's tag: read as carefully as the others, and what they say is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import p256
from tests.scenes import add_one, module, never
from tests.sim import Node, World
from tests.test_promises import again

from promisegrid import claims, cose, dagcbor, forms, frames, gridtag
from promisegrid.cbor import Encoded
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Budget, Send
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.protocols import CAPABILITY_CALL
from promisegrid.task import RunResult, Task

UNKNOWN = Cid.of(b"a protocol nobody here knows")
HEAD = b"\xda\x67\x72\x69\x64"


def world() -> tuple[Node, Node, Cid]:
    ann, bob = World().grid("ann", "bob")
    code = module(ann, add_one)
    module(bob, add_one)
    ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    return ann, bob, code


def content(sender: Node, to: Node, **changes: Any) -> Claims:
    now = sender.world.now_ms // 1000
    made = Claims(iss=sender.did, aud=to.did, exp=now + 60, cti=bytes(16), grid=sender.kernel.grid)
    return replace(made, **changes)


def tagged(
    sender: Node,
    protocol: Cid,
    payload: object,
    said: Claims,
    prefix: bytes = b"\x00",
    typ: str = "grid-tagged",
) -> bytes:
    """A signed message by hand."""
    first = b"\xd8\x2a" + dagcbor.encode(prefix + bytes(protocol))
    slot = dagcbor.encode(payload)
    protected = claims._DIALECT.encode({1: -7, 15: Encoded(said.encode()), 16: typ})
    signed = cose.to_be_signed(protected, b"\x82" + first + slot)
    signature = cose.low_s(p256.sign(sender.secret, signed))
    return HEAD + b"\x83" + first + slot + cose.assemble(protected, None, signature)


def hand(node: Node, sender: Node, raw: bytes) -> list[frames.Frame]:
    """What the node sends back over its link to the sender, settled."""
    link = next(number for number, (peer, _) in node.links.items() if peer is sender)
    before = len(node.log)
    node.perform(node.kernel.receive(link, frames.encode(frames.Message(raw)), node.world.now_ms))
    node.world.run()
    sent = [e.frame for e in node.log[before:] if isinstance(e, Send) and e.link == link]
    return [frames.decode(frame, 1 << 22) for frame in sent]


def refusal(node: Node, sender: Node, raw: bytes) -> str:
    """The code of the unsigned refusal, or of the signed one."""
    for frame in hand(node, sender, raw):
        if isinstance(frame, frames.Refusal):
            return frame.code
        if isinstance(frame, frames.Message):
            opened = gridtag.open_tagged(frame.raw, 1 << 20)
            assert node.kernel.grid is not None
            _, said = forms.open_known(opened, node.kernel.grid, Limits())
            assert said.refusal is not None
            return said.refusal[0]
    raise AssertionError("it was not refused")


def test_a_call_goes_out_and_comes_back_in_this_form() -> None:
    ann, bob, code = world()
    done = bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did, tagged=True))
    assert isinstance(done, RunResult) and done.value == 2 and done.by == ann.did
    messages = [e.frame for e in (*ann.log, *bob.log) if isinstance(e, Send) and HEAD in e.frame[:12]]
    assert len(messages) == 2, "the call and its reply"
    five = bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did))
    assert five.task == done.task and five.result == done.result and len(ann.runs) == 1


def test_a_refusal_comes_back_in_this_form() -> None:
    ann, bob, code = world()
    ann.do(ann.kernel.owner.set_serving(0, 0))
    with pytest.raises(RemoteError) as wrong:
        bob.do(bob.kernel.run(Task(code, "add_one", (1,)), Budget(), on=ann.did, tagged=True))
    assert wrong.value.code == "not_serving"


def test_both_spellings_of_the_first_slot_are_read() -> None:
    ann, bob, code = world()
    for number, prefix in enumerate((b"\x00", b"")):
        said = content(bob, ann, cti=bytes([number]) * 16, func="add_one")
        raw = tagged(bob, CAPABILITY_CALL, [0, code, [number]], said, prefix)
        assert any(isinstance(frame, frames.Message) for frame in hand(ann, bob, raw))
    assert len(ann.runs) == 2


def test_a_call_without_a_function_means_the_entry() -> None:
    ann, bob, _ = world()
    code = module(ann, never, name=b"other")
    assert refusal(ann, bob, tagged(bob, CAPABILITY_CALL, [0, code, []], content(bob, ann))) in (
        "no_such_function",
        "bad_args",
    )


ATTACKS: dict[str, tuple[str, Callable[[Node, Node, Cid], Claims]]] = {
    "a call in the claims": ("bad_claims", lambda b, a, c: content(b, a, call=("x", ()))),
    "another grid": ("wrong_grid", lambda b, a, c: content(b, a, grid=Cid.of(b"elsewhere", "dag-cbor"))),
    "no grid": ("wrong_grid", lambda b, a, c: content(b, a, grid=None)),
    "another node": ("wrong_audience", lambda b, a, c: content(b, a, aud=b.did)),
    "expired": ("expired", lambda b, a, c: content(b, a, exp=1)),
    "a body in the claims": ("bad_claims", lambda b, a, c: content(b, a, body=1)),
    "somebody else's name": ("bad_signature", lambda b, a, c: content(b, a, iss=a.did)),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_claims_that_do_not_hold(what: str) -> None:
    ann, bob, code = world()
    expected, made = ATTACKS[what]
    raw = tagged(bob, CAPABILITY_CALL, [0, code, [1]], made(bob, ann, code))
    assert refusal(ann, bob, raw) == expected
    assert not ann.runs


@pytest.mark.parametrize(
    "payload", [[0], [1, 2], [False, UNKNOWN, []], [0, "code", []], [0, UNKNOWN, {}], {}, [4, UNKNOWN, []]]
)
def test_payloads_that_are_no_call(payload: object) -> None:
    ann, bob, _ = world()
    assert refusal(ann, bob, tagged(bob, CAPABILITY_CALL, payload, content(bob, ann))) == "malformed"


def reply_read(payload: object) -> Claims:
    """What a reply with this payload says, as whoever asked reads it."""
    ann, bob, code = world()
    raw = tagged(ann, CAPABILITY_CALL, payload, content(ann, bob, reply_to=code))
    assert bob.kernel.grid is not None
    return forms.open_known(gridtag.open_tagged(raw, 1 << 20), bob.kernel.grid, Limits())[1]


@pytest.mark.parametrize(
    "payload", [[True, {}], [1.0, {}], [1], [1, {}, 0], [2, "busy"], [2, 1, ""], [3, "x"], [0, {}], {}]
)
def test_payloads_that_are_no_reply(payload: object) -> None:
    with pytest.raises(RemoteError) as wrong:
        reply_read(payload)
    assert wrong.value.code == "malformed"


@pytest.mark.parametrize(
    "body", [{"promise": "x"}, {"promise": UNKNOWN}, {"promise": UNKNOWN, "a": 1}, [3, 4]]
)
def test_a_body_comes_through_whatever_it_looks_like(body: object) -> None:
    said = Claims(iss="a", aud="b", exp=1, cti=b"", reply_to=UNKNOWN, body=body)
    payload, rest = forms.payload_of(said, UNKNOWN)
    assert rest.body is None
    assert reply_read(payload).body == body
    assert (payload == [3, UNKNOWN]) == (body == {"promise": UNKNOWN})


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"\xda\x67\x72\x69\x65\x80", "future_grid"),
        (b"\xd9\x01\x00\x82\x01\x02", "future_grid"),
        (HEAD, "malformed"),
        (HEAD + b"\x80", "malformed"),
        (HEAD + b"\x81\x01", "malformed"),
        (HEAD + b"\x81\xd8\x2a\x41\x00", "bad_cid"),
        (HEAD + b"\x81\xd8\x2a\x58\x01\x00", "malformed"),
        (HEAD + b"\x9f\xff", "malformed"),
        (b"\xda\x67\x72", "malformed"),
    ],
)
def test_structures_that_are_no_message(raw: bytes, code: str) -> None:
    ann, bob, _ = world()
    assert refusal(ann, bob, raw) == code


def test_a_signature_of_another_type_is_none() -> None:
    ann, bob, code = world()
    raw = tagged(bob, CAPABILITY_CALL, [0, code, [1]], content(bob, ann), typ="grid-message")
    assert refusal(ann, bob, raw) == "malformed"


def test_every_changed_byte_is_noticed() -> None:
    ann, bob, code = world()
    raw = tagged(bob, CAPABILITY_CALL, [0, code, [1]], content(bob, ann, func="add_one"))
    assert ann.kernel.grid is not None
    for at in range(0, len(raw), 3):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        try:
            opened, said = forms.open_known(gridtag.open_tagged(changed, 1 << 20), ann.kernel.grid, Limits())
            claims.check(said, ann.did, ann.world.now_ms, Limits())
        except RemoteError:
            continue
        key = p256.public_key(bob.secret)
        tbs = cose.to_be_signed(opened.sign1.protected, opened.signed)
        held = said.iss == bob.did and p256.verify(key, tbs, opened.sign1.signature)
        assert not held, at


@given(st.binary(max_size=200))
def test_any_slots_are_taken_apart_or_refused(data: bytes) -> None:
    for raw in (data, HEAD + data, HEAD + b"\x83\xd8\x2a\x58\x25\x00" + bytes(UNKNOWN) + data):
        try:
            opened = gridtag.open_tagged(raw, 1 << 20)
        except RemoteError:
            continue
        assert opened.raw == raw
        assert b"".join((opened.first, *opened.slots)) == raw[6:]


# -- what is not known ---------------------------------------------------------------------------------------


def opaque(size: int = 100) -> bytes:
    """A message of a protocol nobody knows; floats, maps with odd keys, whatever."""
    first = b"\xd8\x2a" + dagcbor.encode(b"\x00" + bytes(UNKNOWN))
    return HEAD + b"\x83" + first + b"\xa1\xf9\x3c\x00\x01" + dagcbor.encode(bytes(size))


def test_the_unknown_is_refused_unless_the_owner_promised_to_carry() -> None:
    ann, bob, _ = world()
    assert refusal(ann, bob, opaque()) == "no_such_protocol"
    ann.do(ann.kernel.carriage.promise(10_000, 1))
    (carried, *_) = hand(ann, bob, opaque())
    assert carried == frames.Progress(Cid.of(opaque()), "carried", 1, 1)
    assert ann.tables["blocks"][bytes(Cid.of(opaque()))] == opaque()
    assert bob.do(bob.kernel.block(Cid.of(opaque()))) == opaque(), "its exact bytes, for a member who asks"
    assert not ann.runs


def test_what_is_carried_is_charged_to_the_link_and_ends() -> None:
    ann, bob, _ = world()
    ann.do(ann.kernel.carriage.promise(4_000, 1))
    hand(ann, bob, opaque(700))
    assert refusal(ann, bob, opaque(701)) == "busy", "a quarter of the whole is one peer's"
    assert ann.do(ann.kernel.carriage.carrying())["messages"] == 1
    again = Node(ann.world, "ann")
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    assert again.do(again.kernel.carriage.carrying())["messages"] == 1, "also after a restart"
    ann.world.now_ms += 2 * 86_400_000
    ann.world.link(bob, ann)
    hand(ann, bob, opaque(701))
    assert bytes(Cid.of(opaque(700))) not in ann.tables["blocks"], "its time is over"
    assert bytes(Cid.of(opaque(701))) in ann.tables["blocks"]
    ann.do(ann.kernel.carriage.promise(0, 1))
    assert refusal(ann, bob, opaque(5)) == "no_such_protocol"


@pytest.mark.parametrize("how", ["before", "after", "kept"])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_the_owner_has_too_is_never_dropped(how: str, restarted: bool) -> None:
    ann, bob, _ = world()
    ann.do(ann.kernel.carriage.promise(10_000, 1))
    name = Cid.of(opaque())
    if how == "before":
        ann.put(opaque())
    hand(ann, bob, opaque())
    if how == "after":
        assert ann.put(opaque()) == name
    if how == "kept":
        ann.do(ann.kernel.base.pin(name))
    assert ann.do(ann.kernel.carriage.carrying())["messages"] == 0, "it counts for nobody"
    if restarted:
        ann = again(ann)
        ann.world.link(bob, ann)
    ann.world.now_ms += 2 * 86_400_000
    ann.do(ann.kernel.carriage.promise(10_000, 1))
    hand(ann, bob, opaque(7))
    assert ann.tables["blocks"].get(bytes(name)) == opaque()


def test_a_promise_to_carry_has_bounds() -> None:
    ann, _, _ = world()
    for size, days in ((-1, 1), (1 << 40, 1), (100, 0), (100, 1000)):
        with pytest.raises(LocalError, match="365"):
            ann.do(ann.kernel.carriage.promise(size, days))
