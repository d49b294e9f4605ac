"""Second opinions on signatures: pycose and OpenSSL read ours, and we read theirs."""

from __future__ import annotations

import cbor2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from pycose.algorithms import Es256
from pycose.headers import Algorithm
from pycose.keys import EC2Key
from pycose.keys.curves import P256
from pycose.messages import Sign1Message
from tests import p256
from tests.test_cose import DID, KEY, SECRET, drive

from promisegrid import cose, envelope
from promisegrid.cid import Cid
from promisegrid.receipt import Receipt

TYP = 16


def pycose_key() -> EC2Key:
    return EC2Key(crv=P256, x=KEY[1:33], y=KEY[33:], d=SECRET.to_bytes(32, "big"))


def pycose_reads(data: bytes) -> Sign1Message:
    """A tagged COSE_Sign1, read by cbor2 and pycose (whose own reader of tags does not know cbor2 6)."""
    item = cbor2.loads(data)
    assert item.tag == 18
    protected, unprotected, payload, signature = item.value
    message = Sign1Message.from_cose_obj([protected, dict(unprotected), payload, signature], True)
    message.key = pycose_key()
    return message


def openssl_key(secret: int = SECRET) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(secret, ec.SECP256R1())


def openssl_holds(key: bytes, message: bytes, signature: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    try:
        public.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def test_pycose_verifies_our_receipt() -> None:
    payload = Receipt(Cid.of(b"task"), Cid.of(b"result"), DID, "engine", 1, 2, None).payload()
    message = pycose_reads(drive(cose.sign("grid-receipt", payload, detached=False)))
    assert message.payload == payload and message.verify_signature()
    message.payload = payload + b"\0"
    assert not message.verify_signature()


def test_pycose_verifies_our_message() -> None:
    signed = envelope.prepare(Cid.of(b"protocol"), Cid.of(b"grid", "dag-cbor"), b"\xa0")
    raw = envelope.seal(signed, drive(cose.sign("grid-message", signed, detached=True)))
    opened = envelope.open_message(raw, Cid.of(b"grid", "dag-cbor"), 1 << 20)
    message = pycose_reads(raw[len(signed) :])
    assert message.payload is None
    assert message.verify_signature(detached_payload=opened.signed)
    assert not message.verify_signature(detached_payload=opened.signed + b"\0")


def test_we_verify_pycoses() -> None:
    for number in range(6):
        payload = b"payload %d" % number
        message = Sign1Message(phdr={Algorithm: Es256, TYP: "grid-receipt"}, uhdr={}, payload=payload)
        message.key = pycose_key()
        data = message.encode()
        sign1 = cose.read(data, "grid-receipt")
        low = cose.Sign1(sign1.protected, sign1.alg, sign1.typ, payload, cose.low_s(sign1.signature))
        assert drive(cose.holds(low, payload, DID))
        assert drive(cose.holds(sign1, payload, DID)) is cose.is_low_s(sign1.signature)


@pytest.mark.parametrize("name", ["ann", "bob", "carol"])
def test_the_curve_of_our_tests_is_openssls(name: str) -> None:
    secret = p256.secret_of(name)
    numbers = openssl_key(secret).public_key().public_numbers()
    key = p256.public_key(secret)
    assert key == b"\4" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    for message in (b"", b"message", bytes(1000)):
        ours = p256.sign(secret, message)
        assert openssl_holds(key, message, ours) and openssl_holds(key, message, cose.low_s(ours))
        assert not openssl_holds(key, message + b"\0", ours)
        r, s = decode_dss_signature(openssl_key(secret).sign(message, ec.ECDSA(hashes.SHA256())))
        theirs = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        assert p256.verify(key, message, theirs) and p256.verify(key, message, cose.low_s(theirs))
        assert not p256.verify(key, message + b"\0", theirs)
        assert not p256.verify(p256.public_key(secret + 1), message, theirs)
