"""The first test to read: one message, every effect in order, from the frame to the reply.

Then every refusal of the dispatcher, in the order of its checks: what comes before the signature is an
unsigned frame and costs nobody a look into the store; what comes after it is a signed reply.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.scenes import (
    claims_of,
    forgive,
    hand,
    module,
    names,
    pair,
    read_reply,
    refusals,
    replies,
    sealed,
    sent,
    with_claims,
)
from tests.sim import Node

from promisegrid import claims, cose, envelope, frames
from promisegrid.cbor import Dialect, Tag
from promisegrid.cid import DAG_CBOR, Cid
from promisegrid.effects import (
    Commit,
    Effect,
    Failure,
    Load,
    Outcome,
    Prepare,
    Run,
    Save,
    Scan,
    Sign,
    Verify,
)
from promisegrid.task import read_result

COSTLY = (Load, Scan, Save, Commit, Prepare, Run, Sign)
"""What a stranger must not be able to make a node do."""


def test_one_message_from_frame_to_reply() -> None:
    ann, bob, code = pair()
    call = sealed(bob, code, claims_of(bob, ann))
    effects = hand(ann, bob, call)
    assert names(effects) == [
        "Verify",  # the signature, before anything else
        "Scan",  # has this task been run before? no
        "Prepare",  # is the module compiled? no
        "Load",  # then its block
        "Load",  # … read as a file
        "Prepare",
        "Run",
        "Sign",  # the receipt
        "Save",  # receipt, task and result, written behind
        "Notify",  # the owner sees who was served
        "Sign",  # the reply
        "Send",  # … and there it goes; credit goes back for sixteen messages at once
    ]
    verify = effects[0]
    assert isinstance(verify, Verify)
    opened = envelope.open_message(call, ann.kernel.grid or code, 1 << 20)
    assert verify.message == cose.to_be_signed(opened.sign1.protected, opened.signed)
    assert opened.signed[1:] == call[1 : len(opened.signed)], (
        "the bytes that came are the bytes that are signed"
    )
    (run,) = [effect for effect in effects if isinstance(effect, Run)]
    assert (run.job.abi, run.job.func, run.job.params) == ("plain", "add_one", (41).to_bytes(8, "little"))
    (reply,) = [read_reply(raw, bob) for raw in replies(effects)]
    assert reply.reply_to == Cid.of(call)
    assert isinstance(reply.body, dict)
    results = [read_result(data) for cid, data in reply.body["blocks"] if cid.codec == DAG_CBOR]
    assert [result.value for result in results] == [42]


def test_the_second_time_nobody_runs_it() -> None:
    ann, bob, code = pair()
    first = hand(ann, bob, sealed(bob, code, claims_of(bob, ann)))
    again = hand(ann, bob, sealed(bob, code, claims_of(bob, ann)))
    assert len(ann.runs) == 1
    assert "Sign" in names(again) and "Run" not in names(again)
    bodies = [read_reply(replies(effects)[0], bob).body for effects in (first, again)]
    one, other = bodies
    assert isinstance(one, dict) and isinstance(other, dict)
    assert (one["cached"], other["cached"]) == (False, True)
    assert one["receipt"] == other["receipt"]


# -- before the signature -----------------------------------------------------------------------------------

Forge = Callable[[Node, Node, Cid], bytes]


def _call(bob: Node, ann: Node, code: Cid, **changes: object) -> bytes:
    return sealed(bob, code, with_claims(claims_of(bob, ann), **changes))


def _claims_table(bob: Node, ann: Node, code: Cid, change: Callable[[dict[int, object]], None]) -> bytes:
    table = TABLE.decode(claims_of(bob, ann).encode())
    assert isinstance(table, dict)
    change(table)
    return sealed(bob, code, TABLE.encode(table))


def _with_signature(bob: Node, ann: Node, code: Cid, change: Callable[[list[object]], None]) -> bytes:
    """The message with the four parts of its COSE_Sign1 changed."""
    raw = _call(bob, ann, code)
    at = raw.rindex(b"\xd2\x84")
    item = SIGN1.decode(raw[at:])
    assert isinstance(item, Tag) and isinstance(item.value, list)
    change(item.value)
    return raw[:at] + SIGN1.encode(Tag(18, item.value))


TABLE = Dialect(name="claims", int_keys=True)
SIGN1 = Dialect(name="COSE", tags=frozenset({18}), links=False, int_keys=True)
OTHER = Cid.of(b"another grid", "dag-cbor")
HOUR = 3600

UNSIGNED: dict[str, tuple[str, Forge]] = {
    "random bytes": ("malformed", lambda b, a, c: bytes(range(200, 255)) * 4),
    "nothing": ("malformed", lambda b, a, c: b""),
    "half a message": ("malformed", lambda b, a, c: _call(b, a, c)[:150]),
    "all but the last byte": ("malformed", lambda b, a, c: _call(b, a, c)[:-1]),
    "a byte behind it": ("malformed", lambda b, a, c: _call(b, a, c) + b"\0"),
    "an array of six": ("malformed", lambda b, a, c: b"\x86" + _call(b, a, c)[1:]),
    "an indefinite array": ("malformed", lambda b, a, c: b"\x9f" + _call(b, a, c)[1:] + b"\xff"),
    "a long-winded text": ("not_grid", lambda b, a, c: b"\x85\x78\x04grid" + _call(b, a, c)[6:]),
    "another word": ("not_grid", lambda b, a, c: b"\x85\x64grip" + _call(b, a, c)[6:]),
    "a later version": ("future_grid", lambda b, a, c: b"\x85\x65grid2" + _call(b, a, c)[6:]),
    "another grid": ("wrong_grid", lambda b, a, c: sealed(b, c, claims_of(b, a), grid=OTHER)),
    "no CID for a protocol": (
        "bad_cid",
        lambda b, a, c: _call(b, a, c).replace(bytes(c), b"\x07" * len(bytes(c))),
    ),
    "no link for a protocol": ("malformed", lambda b, a, c: b"\x85\x64grid\xf6" + _call(b, a, c)[46:]),
    "claims that are not CBOR": ("bad_claims", lambda b, a, c: sealed(b, c, b"\xff\xff")),
    "claims that are a list": ("bad_claims", lambda b, a, c: sealed(b, c, b"\x80")),
    "claims out of order": ("bad_claims", lambda b, a, c: sealed(b, c, bytes.fromhex("a204010101"))),
    "claims with a tag": ("bad_claims", lambda b, a, c: sealed(b, c, bytes.fromhex("a104c101"))),
    "nobody's claims": (
        "bad_claims",
        lambda b, a, c: _claims_table(b, a, c, lambda table: table.pop(claims.ISS)),
    ),
    "no number": ("bad_claims", lambda b, a, c: _claims_table(b, a, c, lambda table: table.pop(claims.CTI))),
    "a number that is short": ("bad_claims", lambda b, a, c: _call(b, a, c, cti=b"1234567")),
    "an issuer that is no key": ("bad_claims", lambda b, a, c: _call(b, a, c, iss="did:web:bob")),
    "a budget of nothing": (
        "bad_claims",
        lambda b, a, c: _claims_table(b, a, c, lambda t: t.update({claims.BUDGET: {"fuel": 0}})),
    ),
    "no expiry": ("no_expiry", lambda b, a, c: _claims_table(b, a, c, lambda table: table.pop(claims.EXP))),
    "for somebody else": ("wrong_audience", lambda b, a, c: _call(b, a, c, aud=b.did)),
    "expired": ("expired", lambda b, a, c: _call(b, a, c, exp=a.world.now_ms // 1000 - 61)),
    "for ever": ("bad_claims", lambda b, a, c: _call(b, a, c, exp=a.world.now_ms // 1000 + 30 * HOUR)),
    "issued tomorrow": (
        "not_yet_valid",
        lambda b, a, c: _call(b, a, c, iat=a.world.now_ms // 1000 + 62),
    ),
    "valid from tomorrow": (
        "not_yet_valid",
        lambda b, a, c: _call(b, a, c, nbf=a.world.now_ms // 1000 + 62),
    ),
    "an unprotected header": (
        "malformed",
        lambda b, a, c: _with_signature(b, a, c, lambda p: p.__setitem__(1, {4: b"k"})),
    ),
    "an attached payload": (
        "malformed",
        lambda b, a, c: _with_signature(b, a, c, lambda p: p.__setitem__(2, b"x")),
    ),
    "a critical header": (
        "malformed",
        lambda b, a, c: _with_signature(
            b, a, c, lambda p: p.__setitem__(0, SIGN1.encode({1: -7, 2: [16], 16: "grid-message"}))
        ),
    ),
    "a receipt's signature": ("malformed", lambda b, a, c: sealed(b, c, claims_of(b, a), typ="grid-receipt")),
    "forged": (
        "bad_signature",
        lambda b, a, c: _with_signature(b, a, c, lambda p: p.__setitem__(3, b"\1" * 64)),
    ),
    "somebody else's key": ("bad_signature", lambda b, a, c: sealed(b, c, claims_of(b, a), secret=12345)),
    "the high s": ("bad_signature", lambda b, a, c: sealed(b, c, claims_of(b, a), low=False)),
    "an algorithm that does not fit the key": (
        "bad_signature",
        lambda b, a, c: _with_signature(
            b, a, c, lambda p: p.__setitem__(0, SIGN1.encode({1: -8, 16: "grid-message"}))
        ),
    ),
    "a DER signature": (
        "bad_signature",
        lambda b, a, c: _with_signature(b, a, c, lambda p: p.__setitem__(3, b"\x30" + b"\1" * 70)),
    ),
}


@pytest.fixture(scope="module")
def linked() -> tuple[Node, Node, Cid]:
    return pair()


@pytest.mark.parametrize("what", UNSIGNED)
def test_refused_before_the_signature(what: str, linked: tuple[Node, Node, Cid]) -> None:
    ann, bob, code = linked
    forgive(ann, bob)
    expected, forge = UNSIGNED[what]
    raw = forge(bob, ann, code)
    effects = hand(ann, bob, raw)
    assert refusals(effects) == [expected]
    assert not [effect for effect in effects if isinstance(effect, COSTLY)]
    assert all(isinstance(frame, frames.Refusal | frames.Credit) for frame in sent(effects))
    (refusal,) = [frame for frame in sent(effects) if isinstance(frame, frames.Refusal)]
    assert refusal.about == Cid.of(raw) and refusal.text.endswith((".", "ago.", "ahead."))
    verified = names(effects).count("Verify")
    assert verified == (what in ("forged", "somebody else's key")), "the curve is only for what could hold"


def test_a_message_that_is_too_large_is_refused_unread() -> None:
    ann, bob, _ = pair()
    effects = hand(ann, bob, b"\x85" + bytes(ann.limits.message_bytes))
    assert refusals(effects) == ["too_large"]


def test_a_clock_may_be_a_minute_off() -> None:
    ann, bob, code = pair()
    now = ann.world.now_ms // 1000
    for changes in ({"exp": now - 59}, {"iat": now + 59}, {"nbf": now + 60}):
        assert replies(hand(ann, bob, _call(bob, ann, code, **changes)))


def test_every_flipped_bit_is_refused() -> None:
    ann, bob, code = pair()
    raw = _call(bob, ann, code)
    for at in range(0, len(raw), 7):
        flipped = raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :]
        forgive(ann, bob)
        effects = hand(ann, bob, flipped)
        assert len(refusals(effects)) == 1 and not replies(effects) and not ann.runs


def test_unsigned_refusals_are_rate_limited() -> None:
    ann, bob, _ = pair()
    most = ann.limits.link_refusals_per_second
    counts = [len(refusals(hand(ann, bob, b"x%d" % n))) for n in range(most + 10)]
    assert sum(counts) == most
    ann.world.now_ms += 1000
    assert refusals(hand(ann, bob, b"x")) == ["malformed"]


# -- after it ------------------------------------------------------------------------------------------------


def _refused(ann: Node, bob: Node, raw: bytes) -> tuple[str, list[Effect]]:
    """The code of the signed refusal that a message gets."""
    effects = hand(ann, bob, raw)
    (reply,) = [read_reply(one, bob) for one in replies(effects)]
    assert reply.refusal is not None and reply.reply_to == Cid.of(raw)
    assert not refusals(effects)
    return reply.refusal[0], effects


def test_only_the_signer_of_a_message_may_hand_it_over() -> None:
    ann, bob, code = pair()
    eve = Node(ann.world, "eve")
    eve.kernel._state.grid = ann.kernel.grid
    effects = hand(ann, bob, sealed(eve, code, claims_of(eve, ann)))
    ann.world.nodes.append(eve)
    (reply,) = [read_reply(one, eve) for one in replies(effects)]
    assert reply.refusal is not None and reply.refusal[0] == "not_member"
    assert not [effect for effect in effects if isinstance(effect, (Load, Scan, Save, Commit, Prepare, Run))]


def test_a_message_without_a_call() -> None:
    ann, bob, code = pair()
    assert _refused(ann, bob, _call(bob, ann, code, call=None))[0] == "no_such_protocol"


def test_serving_is_a_promise_of_the_owner() -> None:
    ann, bob, code = pair(serving=False)
    refused, effects = _refused(ann, bob, _call(bob, ann, code))
    assert refused == "not_serving"
    assert not [effect for effect in effects if isinstance(effect, (Load, Scan, Save, Commit, Prepare, Run))]


def test_code_that_nobody_has() -> None:
    ann, bob, _ = pair()
    assert _refused(ann, bob, _call(bob, ann, Cid.of(b"lost")))[0] == "not_found"


def test_code_that_is_not_code() -> None:
    ann, bob, _ = pair()
    assert _refused(ann, bob, _call(bob, ann, ann.put(b"a poem")))[0] == "not_wasm"


def test_a_function_that_is_not_there() -> None:
    ann, bob, code = pair()
    assert _refused(ann, bob, _call(bob, ann, code, call=("add_two", (1,))))[0] == "no_such_function"


@pytest.mark.parametrize("args", [(), (1, 2), ("1",), (1.5,), (2**32,), (-(2**31) - 1,), (None,), (True,)])
def test_arguments_that_do_not_fit(args: tuple[object, ...], linked: tuple[Node, Node, Cid]) -> None:
    ann, bob, code = linked
    assert _refused(ann, bob, _call(bob, ann, code, call=("add_one", args)))[0] == "bad_args"


@pytest.mark.parametrize("code", ["trap", "out_of_fuel", "out_of_time", "out_of_memory", "stack_overflow"])
def test_a_program_that_fails_is_refused_and_not_remembered(code: str) -> None:
    ann, bob, _ = pair()
    fails = module(ann, lambda job: Failure(code, "It went wrong."), name=b"fails")
    refused, effects = _refused(ann, bob, _call(bob, ann, fails))
    assert refused == code
    assert not [effect for effect in effects if isinstance(effect, (Save, Commit))]
    assert not ann.tables["memo"]


def test_a_program_whose_result_has_no_spelling() -> None:
    ann, bob, _ = pair()
    odd = module(ann, lambda job: Outcome(b"", b"", None, 0), name=b"odd")
    assert _refused(ann, bob, _call(bob, ann, odd))[0] == "bad_result"


def test_a_full_disk_is_said() -> None:
    ann, bob, code = pair()
    ann.failing[Save] = Failure("disk_full", "No space is left.")
    assert _refused(ann, bob, _call(bob, ann, code))[0] == "disk_full"


def test_the_owner_sees_whom_it_served_and_whom_not() -> None:
    ann, bob, code = pair()
    hand(ann, bob, _call(bob, ann, code))
    hand(ann, bob, _call(bob, ann, code, call=("add_two", ())))
    seen = [note for note in ann.notes if note.kind in ("receipt", "message")]
    assert [(note.kind, note.detail["for"], note.detail["refused"]) for note in seen] == [
        ("receipt", bob.did, None),
        ("message", bob.did, "no_such_function"),
    ]
