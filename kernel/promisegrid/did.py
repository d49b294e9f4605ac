"""did:key: a name that is its own public key (W3C did:key method, multicodec keys).

P-256 keys travel as compressed points and are expanded here, because WebCrypto takes only uncompressed
ones. Ed25519 and bounded RSA keys are read so that their signatures can be verified. What a name may do
this file does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from promisegrid import multibase
from promisegrid.errors import RemoteError

_P256: Final = b"\x80\x24"
_ED25519: Final = b"\xed\x01"
_RSA: Final = b"\x85\x24"
_PRIME: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_RSA_DER_MAX: Final = 1100
DID_MAX: Final = 1600
"""Characters of the longest did:key read: RSA of 8192 bits."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key as `effects.Verify` wants it, and the COSE algorithms that fit it (RFC 9864 twins included)."""

    algs: frozenset[int]
    verify_as: int
    key: bytes


def encode_p256(point: bytes) -> str:
    """The did:key of an uncompressed P-256 point (65 bytes, 04‖x‖y)."""
    assert len(point) == 65 and point[0] == 4
    compressed = bytes([2 + (point[64] & 1)]) + point[1:33]
    return "did:key:z" + multibase.base58(_P256 + compressed)


@lru_cache(maxsize=1024)
def decode(did: str) -> PublicKey:
    """The public key in a did:key. RemoteError("bad_claims") for any other text."""
    if not did.startswith("did:key:z") or len(did) > DID_MAX:
        raise RemoteError("bad_claims", f"Not a did:key: {did[:80]!r}.")
    try:
        data = multibase.from_base58(did[9:])
    except ValueError as error:
        raise RemoteError("bad_claims", f"Not a did:key: {did[:80]!r} ({error}).") from error
    kind, key = data[:2], data[2:]
    if kind == _P256 and len(key) == 33 and "did:key:z" + multibase.base58(data) == did:
        return PublicKey(frozenset({-7, -9}), -7, _expand(key, did))
    if kind == _ED25519 and len(key) == 32 and "did:key:z" + multibase.base58(data) == did:
        return PublicKey(frozenset({-8, -19}), -8, key)
    if kind == _RSA and 256 <= len(key) <= _RSA_DER_MAX and "did:key:z" + multibase.base58(data) == did:
        return PublicKey(frozenset({-37}), -37, key)
    raise RemoteError("bad_claims", f"A did:key of a kind or length this node does not read: {did[:80]!r}.")


def _expand(compressed: bytes, did: str) -> bytes:
    """SEC 1 section 2.3.4: the point with that x, and y of that parity."""
    x = int.from_bytes(compressed[1:], "big")
    square = (pow(x, 3, _PRIME) - 3 * x + _B) % _PRIME
    y = pow(square, (_PRIME + 1) // 4, _PRIME)
    if compressed[0] not in (2, 3) or x >= _PRIME or y * y % _PRIME != square:
        raise RemoteError("bad_claims", f"Not a point of P-256: {did[:80]!r}.")
    if y & 1 != compressed[0] & 1:
        y = _PRIME - y
    return b"\x04" + compressed[1:] + y.to_bytes(32, "big")
