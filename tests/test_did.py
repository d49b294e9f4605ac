"""A name that is its own key: one spelling a key, and nothing else is a name."""

from __future__ import annotations

import pytest
from tests import p256

from promisegrid import did, multibase
from promisegrid.errors import RemoteError

# did:key method, test vectors (P-256 and Ed25519).
P256 = "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169"
ED25519 = "did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH"


@pytest.mark.parametrize("name", ["ann", "bob", "carol", "dan"])
def test_a_key_has_one_name(name: str) -> None:
    key = p256.public_key(p256.secret_of(name))
    made = did.encode_p256(key)
    read = did.decode(made)
    assert read.key == key and read.algs == {-7, -9} and read.verify_as == -7


def test_published_names_are_read() -> None:
    assert did.encode_p256(did.decode(P256).key) == P256
    assert did.decode(ED25519).algs == {-8, -19} and len(did.decode(ED25519).key) == 32


def rename(prefix: bytes, key: bytes) -> str:
    return "did:key:z" + multibase.base58(prefix + key)


WRONG = {
    "nothing": "",
    "another method": "did:web:example.com",
    "another base": "did:key:u7QE",
    "not base58": "did:key:z0OIl",
    "an empty key": "did:key:z",
    "a key cut off": rename(b"\x80\x24", b"\2" + bytes(31)),
    "not on the curve": rename(b"\x80\x24", b"\2" + (1).to_bytes(32, "big")),
    "beyond the field": rename(b"\x80\x24", b"\2" + b"\xff" * 32),
    "an uncompressed point": rename(b"\x80\x24", p256.public_key(1)),
    "a sign that is none": rename(b"\x80\x24", b"\4" + p256.public_key(1)[1:33]),
    "a kind that is not read": rename(b"\xe7\x01", bytes(33)),
    "a fragment": P256 + "#key-1",
    "a space": P256 + " ",
    "leading zeros": "did:key:z1" + P256[9:],
    "far too long": "did:key:z" + "1" * 100_000,
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_name(what: str) -> None:
    with pytest.raises(RemoteError) as wrong:
        did.decode(WRONG[what])
    assert wrong.value.code == "bad_claims" and len(wrong.value.text) < 300


def test_a_parity_decides_which_point() -> None:
    key = p256.public_key(p256.secret_of("ann"))
    other = rename(b"\x80\x24", bytes([2 + (key[64] & 1 ^ 1)]) + key[1:33])
    assert did.decode(other).key[1:33] == key[1:33] and did.decode(other).key != key
