"""Any bytes are a message, a refusal or nothing; never another exception, whole or cut anywhere.

Random bytes seldom get past the first check, so most examples are good input that was damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import p256
from tests.scenes import FRAME_MAX, add_one, claims_of, module, sealed
from tests.sim import Node, World

from promisegrid import (
    capability,
    claims,
    cose,
    dagcbor,
    did,
    envelope,
    frames,
    genesis,
    gridtag,
    job,
    membership,
    policy,
    receipt,
    scenario,
    statement,
    task,
)
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import CODES, RemoteError
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.state import State

LIMITS = Limits()
A_CID = Cid.of(b"a block", "dag-cbor")
BOB = p256.secret_of("bob")
BOB_DID = did.encode_p256(p256.public_key(BOB))
SIGN1 = cose.assemble(cose.protected_header("grid-message"), None, b"\1" * 64)
RECEIPT = cose.assemble(
    cose.protected_header("grid-receipt"),
    receipt.Receipt(A_CID, A_CID, BOB_DID, "engine", 1, 2, A_CID).payload(),
    b"\1" * 64,
)
CLAIMS = claims.Claims(
    iss=BOB_DID,
    aud=BOB_DID,
    exp=1_795_000_000,
    cti=b"12345678",
    iat=1,
    nbf=2,
    call=("f", (1, "two", A_CID, [None, {"a": 1.5}])),
    files=A_CID,
    stdin=A_CID,
    budget=Budget(1, 2, 3, 4),
    reply_to=A_CID,
    body={"receipt": A_CID, "cached": True, "blocks": [[A_CID, b"x"]]},
    refusal=("trap", "text"),
    proofs=(b"proof",),
    extra={claims.CNF: {3: b"key"}},
)
MESSAGE = envelope.seal(envelope.prepare(A_CID, A_CID, CLAIMS.encode()), SIGN1)
TERMS = capability.Terms(
    ("code", A_CID),
    func="f",
    policy=policy.read([[0, "in", [1, "two"]], ["1.w", "<=", 7]]),
    budget=Budget(1, 2, 3, 4),
    uses=5,
    delegate=2,
    later=True,
)
CAPABILITY = cose.assemble(
    cose.protected_header("grid-capability"),
    claims.Claims(
        iss=BOB_DID,
        aud=BOB_DID,
        exp=1_795_000_000,
        cti=b"12345678",
        iat=1,
        nbf=2,
        body=TERMS.body(A_CID, A_CID),
        extra={claims.CNF: {3: BOB_DID.encode()}},
    ).encode(),
    b"\1" * 64,
)
RFC_8392_A_3 = bytes.fromhex(
    "d28443a10126a104524173796d6d657472696345434453413235365850a70175636f61703a2f2f61732e6578616d706c652e636f6d"
    "02656572696b77037818636f61703a2f2f6c696768742e6578616d706c652e636f6d041a5612aeb0051a5610d9f0061a5610d9f007"
    "420b7158405427c1ff28d23fbad1f29c4c7c6a555e601d6fa29f9179bc3d7438bacaca5acd08c8d4d4f96131680c429a01f85951ec"
    "ee743a52b9b63632c57209120e1c9e30"
)
STATEMENT = cose.assemble(
    cose.protected_header("grid-statement"),
    statement.Statement(A_CID, "kept", BOB_DID, 1, A_CID, A_CID, "reason").payload(),
    b"\1" * 64,
)
TAGGED = b"\xda\x67\x72\x69\x64\x83\xd8\x2a" + dagcbor.encode(b"\0" + bytes(A_CID)) + b"\x81\1" + SIGN1
TREE = scenario.encode(scenario.Branch(A_CID, A_CID, 5, 7, (scenario.Branch(A_CID, A_CID, 1, 2),)))
GENESIS = genesis.Genesis(BOB_DID, "name", b"n" * 16, {"rule": 1}).block().data
RESULT = task.Result(3, A_CID, A_CID, A_CID).block().data
BLOB = b"PGR1" + bytes(8) + b"\2\0\0\0ok" + bytes(4) + b"\1\0\0\0" + b"\1" + b"\1\0\0\0a" + b"\1\0\0\0b"
FRAMES: list[bytes] = [
    frames.encode(frame)
    for frame in (
        frames.Hello(1, BOB_DID, b"n" * 32, A_CID, "initiator", "b/grid"),
        frames.Proof(SIGN1, RECEIPT, GENESIS),
        frames.Join(b"0123456789abcdef"),
        frames.Admitted(RECEIPT),
        frames.Message(MESSAGE),
        frames.Refusal("trap", "text", A_CID),
        frames.Want(A_CID, 1),
        frames.BlockFrame(A_CID, b"a block"),
        frames.Credit(1),
        frames.Progress(A_CID, "run", 1, 2),
        frames.Ping(1),
        frames.Pong(1),
        frames.Status(True, "engine"),
        frames.Cancel(A_CID),
        frames.Dial(2, BOB_DID, 1),
        frames.Dialled(2),
        frames.HangUp(2, "closed", "text"),
        frames.Relayed(2, b"a frame"),
        frames.Window(2, 1024),
        frames.Near(b"\x81\x83\x61a\xf5\x60"),
        frames.Seek(1, b"a place in space", 8, BOB_DID),
        frames.Sought(1, b"an address"),
        frames.Piece(A_CID, 300, 256, b"a part of a block that is long enough"),
    )
]


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Good bytes after a few accidents, or no good bytes at all."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    data = bytearray(draw(st.sampled_from(good)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 3)):
            case 0:
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case 1:
                del data[at : at + draw(st.integers(1, 20))]
            case 2:
                data[at:at] = draw(st.binary(min_size=1, max_size=12))
            case _:
                other = draw(st.sampled_from(good))
                data[at:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


READERS: dict[str, tuple[list[bytes], Callable[[bytes], object]]] = {
    "a frame": (FRAMES, lambda data: frames.decode(data, FRAME_MAX)),
    "a message": ([MESSAGE], lambda data: envelope.open_message(data, A_CID, FRAME_MAX)),
    "a signature": ([SIGN1, RECEIPT], lambda data: cose.read(data, "grid-message")),
    "claims": ([CLAIMS.encode()], lambda data: claims.read(data, BOB_DID, 1_794_999_999_000, LIMITS)),
    "a receipt": ([RECEIPT], receipt.read),
    "a statement": ([STATEMENT], statement.read),
    "a tagged message": ([TAGGED], lambda data: gridtag.open_tagged(data, FRAME_MAX)),
    "a scenario tree": ([TREE], scenario.read),
    "a capability": ([CAPABILITY], lambda data: capability.read(data, LIMITS)),
    "a chain": ([capability.pack([CAPABILITY] * 2)], capability.unpack),
    "any signature": ([SIGN1, RECEIPT, CAPABILITY, RFC_8392_A_3], cose.read_any),
    "a genesis block": ([GENESIS], genesis.read),
    "a result": ([RESULT], task.read_result),
    "a result blob": ([BLOB], lambda data: job.decode_result(data, 100)),
}


def outcome(read: Callable[[bytes], object], data: bytes) -> str:
    """ "" when it is read, else the refusal's code; any other exception comes out."""
    try:
        read(data)
    except RemoteError as refusal:
        assert refusal.code in CODES and refusal.text.endswith("."), refusal.text
        return refusal.code
    return ""


@pytest.mark.parametrize("what", READERS)
def test_good_bytes_are_read_and_no_part_of_them_is(what: str) -> None:
    good, read = READERS[what]
    assert outcome(read, good[0]) == ""
    for end in range(len(good[0])):
        assert outcome(read, good[0][:end]), f"the first {end} bytes are taken for the whole"
    assert outcome(read, good[0] + b"\0")


@pytest.mark.parametrize("what", READERS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_read_or_refused(what: str, data: st.DataObject) -> None:
    good, read = READERS[what]
    outcome(read, data.draw(damaged(good)))


@given(damaged([frame for frame in FRAMES if frame[1] in (0, 1, 2, 3)]))
@settings(max_examples=100, deadline=None)
def test_what_is_read_is_written_the_same(data: bytes) -> None:
    try:
        frame = frames.decode(data, FRAME_MAX)
    except RemoteError:
        return
    assert frames.encode(frame) == data


@given(st.binary(max_size=80), st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_text_is_a_key_or_none(data: bytes, text: str) -> None:
    for name in (text, "did:key:z" + text, "did:key:z" + data.hex()):
        try:
            assert did.decode(name).algs
        except RemoteError as refusal:
            assert refusal.code == "bad_claims"


async def _let_in(state: State, link: Link) -> None:
    """A greeting that believes everybody."""
    link.did, link.is_open = BOB_DID, True


@pytest.fixture(scope="module")
def ann() -> Node:
    world = World()
    (node,) = world.grid("ann")
    node.do(node.kernel.owner.set_serving(1, 1 << 20))
    return node


@pytest.fixture(scope="module")
def corpus(ann: Node) -> list[bytes]:
    """Frames for an open link, one with a call that would be answered."""
    bob = Node(ann.world, "bob")
    bob.kernel._state.grid = ann.kernel.grid
    return [*FRAMES, frames.encode(frames.Message(sealed(bob, module(ann, add_one), claims_of(bob, ann))))]


@given(data=st.data())
@settings(max_examples=120, deadline=None)
def test_an_open_link_takes_any_frames(ann: Node, corpus: list[bytes], data: st.DataObject) -> None:
    heard = data.draw(st.lists(damaged(corpus), min_size=1, max_size=4))
    link, ann.next_link = ann.next_link, ann.next_link + 1
    with mock.patch("promisegrid.peering.greet", _let_in):
        ann.perform(ann.kernel.connect(link, "responder", "b/grid", "ws", ann.world.now_ms))
    for frame in heard:
        ann.perform(ann.kernel.receive(link, frame, ann.world.now_ms))
        ann.world.run()
    ann.perform(ann.kernel.disconnect(link, ann.world.now_ms))
    ann.world.run()
    assert not ann.kernel._state.links
    ann.log.clear()


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_link_that_is_being_greeted_takes_any_frames(ann: Node, data: st.DataObject) -> None:
    heard = data.draw(st.lists(damaged(FRAMES), min_size=1, max_size=4))
    link, ann.next_link = ann.next_link, ann.next_link + 1
    ann.perform(ann.kernel.connect(link, "responder", "b/grid", "ws", ann.world.now_ms))
    for frame in heard:
        ann.perform(ann.kernel.receive(link, frame, ann.world.now_ms))
        ann.world.run()
    assert not ann.peers()
    ann.perform(ann.kernel.disconnect(link, ann.world.now_ms))
    ann.world.run()
    assert not ann.kernel._state.links
    ann.log.clear()


@given(damaged([RECEIPT, SIGN1]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_membership_or_none(data: bytes) -> None:
    verdict = membership.verify(data, A_CID, BOB_DID, BOB_DID, 0, LIMITS)
    with pytest.raises(RemoteError) as refusal:
        verdict.send(None)
    assert refusal.value.code == "not_member"
