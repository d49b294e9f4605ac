"""COSE_Sign1 with one spelling: what is signed, by whom, as what, and nothing beside it."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from tests import p256
from tests.test_did import ED25519

from promisegrid import cose, did
from promisegrid.cbor import Dialect, Tag
from promisegrid.effects import Sign, Verify
from promisegrid.errors import RemoteError

SECRET = p256.secret_of("ann")
KEY = p256.public_key(SECRET)
DID = did.encode_p256(KEY)
CBOR = Dialect(name="test", tags=frozenset({18, 17}), links=False, int_keys=True)


def drive(verb: Coroutine[Any, Any, Any], secret: int = SECRET) -> Any:
    """Run a coroutine whose only effects are of keys."""
    answer: object = None
    while True:
        try:
            effect = verb.send(answer)
        except StopIteration as end:
            return end.value
        match effect:
            case Sign(message):
                answer = p256.sign(secret, message)
            case Verify(alg, key, message, signature):
                answer = alg == -7 and p256.verify(key, message, signature)
            case _:
                raise AssertionError(effect)


@pytest.mark.parametrize("detached", [True, False])
def test_what_is_signed_holds_for_its_signer_and_payload_alone(detached: bool) -> None:
    data = drive(cose.sign("grid-receipt", b"payload", detached))
    sign1 = cose.read(data, "grid-receipt")
    assert sign1.payload == (None if detached else b"payload") and sign1.alg == -7
    assert drive(cose.holds(sign1, b"payload", DID)) is True
    assert drive(cose.holds(sign1, b"Payload", DID)) is False
    other = did.encode_p256(p256.public_key(7))
    assert drive(cose.holds(sign1, b"payload", other)) is False


def test_one_kind_never_passes_for_another() -> None:
    data = drive(cose.sign("grid-hello", b"payload", True))
    for typ in ("grid-message", "grid-capability", "grid-receipt", "grid-statement"):
        with pytest.raises(RemoteError, match="grid-hello"):
            cose.read(data, typ)


def test_the_signature_is_always_the_low_one() -> None:
    seen = set()
    for number in range(12):
        raw = p256.sign(SECRET, b"%d" % number)
        seen.add(cose.is_low_s(raw))
        low = cose.low_s(raw)
        assert cose.is_low_s(low) and cose.low_s(low) == low
        assert low[:32] == raw[:32]
    assert seen == {True, False}, "both halves were met"
    assert p256.verify(KEY, b"0", cose.low_s(p256.sign(SECRET, b"0")))


@pytest.mark.parametrize(
    "signature", [b"", bytes(64), b"\1" * 63, b"\1" * 65, b"\xff" * 64, bytes(32) + b"\xff" * 32]
)
def test_what_cannot_be_a_low_signature_costs_no_curve(signature: bytes) -> None:
    data = cose.assemble(cose.protected_header("grid-hello"), None, signature)
    verdict = cose.holds(cose.read(data, "grid-hello"), b"", DID)
    with pytest.raises(StopIteration) as end:
        verdict.send(None)
    assert end.value.value is False


def test_an_algorithm_must_fit_the_key() -> None:
    for alg, signer, asked in ((-8, DID, False), (-7, ED25519, False), (-8, ED25519, True), (-9, DID, True)):
        data = cose.assemble(cose.protected_header("grid-hello", alg), None, b"\1" * 64)
        verdict = cose.holds(cose.read(data, "grid-hello"), b"", signer)
        try:
            effect = verdict.send(None)
        except StopIteration as end:
            assert not asked and end.value is False
        else:
            assert asked and isinstance(effect, Verify) and effect.alg in (-7, -8)
        verdict.close()


HEADER = cose.protected_header("grid-hello")
WRONG: dict[str, object] = {
    "no tag": [HEADER, {}, None, b"s"],
    "another tag": Tag(17, [HEADER, {}, None, b"s"]),
    "three parts": Tag(18, [HEADER, {}, None]),
    "five parts": Tag(18, [HEADER, {}, None, b"s", b"s"]),
    "an unprotected key": Tag(18, [HEADER, {4: b"kid"}, None, b"s"]),
    "an unprotected nil": Tag(18, [HEADER, None, None, b"s"]),
    "a header that is a map": Tag(18, [{1: -7}, {}, None, b"s"]),
    "a text payload": Tag(18, [HEADER, {}, "text", b"s"]),
    "no signature": Tag(18, [HEADER, {}, None, None]),
    "a signature beyond reason": Tag(18, [HEADER, {}, None, bytes(1025)]),
    "no typ": Tag(18, [CBOR.encode({1: -7}), {}, None, b"s"]),
    "no alg": Tag(18, [CBOR.encode({16: "grid-hello"}), {}, None, b"s"]),
    "a text alg": Tag(18, [CBOR.encode({1: "ES256", 16: "grid-hello"}), {}, None, b"s"]),
    "something critical": Tag(18, [CBOR.encode({1: -7, 2: [16], 16: "grid-hello"}), {}, None, b"s"]),
    "a key id": Tag(18, [CBOR.encode({1: -7, 4: b"k", 16: "grid-hello"}), {}, None, b"s"]),
    "no header": Tag(18, [b"", {}, None, b"s"]),
    "a header that is an array": Tag(18, [b"\x80", {}, None, b"s"]),
    "a header with another spelling": Tag(18, [b"\xbf\x01\x26\x10\x6agrid-hello\xff", {}, None, b"s"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_signature(what: str) -> None:
    with pytest.raises(RemoteError) as wrong:
        cose.read(CBOR.encode(WRONG[what]), "grid-hello")
    assert wrong.value.code == "malformed"
