"""did:key: a name that is its own public key (W3C did:key method, multicodec keys).

P-256 keys travel as compressed points and are expanded here, because WebCrypto takes only uncompressed
ones. Ed25519 and RSA keys are checked here to the last bit: libraries differ over points of small order,
second spellings and odd RSA numbers, and a verdict that differs between hosts would split the grid. What a
name may do this file does not know.
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
_FIELD: Final = 2**255 - 19
"""Ed25519's prime."""
_D: Final = 37095705934669439343138083508754565189542113879843219016388785533085940283555
"""Its curve: y² − x² = 1 + d·x²·y² (RFC 8032 section 5.1)."""
_EIGHTH: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL: Final = frozenset({0, 1, _FIELD - 1, _EIGHTH, _FIELD - _EIGHTH})
"""The y of the eight points of Ed25519 whose order divides eight: keys for which anybody could sign."""
_RSA_BYTES: Final = range(256, 1025)
"""Of a modulus: 2048 to 8192 bits. Below is weak; above, verifying costs more than a message is worth."""
_RSA_EXPONENT: Final = range(3, 1 << 32, 2)
"""A giant exponent is legal and makes verifying cost a thousand times as much; an even one, or 1, is none."""
DID_MAX: Final = 1600
"""Characters of the longest did:key read: RSA of 8192 bits."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key as `effects.Verify` wants it, and the COSE algorithms that fit it (RFC 9864 twins included).

    signature_bytes: the one length of its signatures.
    """

    algs: frozenset[int]
    verify_as: int
    key: bytes
    signature_bytes: int = 64


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
    kind, key = data[:2], data[2:]  # base58 has one spelling: other letters are other bytes
    if kind == _P256 and len(key) == 33:
        return PublicKey(frozenset({-7, -9}), -7, _expand(key, did))
    if kind == _ED25519 and is_sound_ed25519(key) and _on_ed25519(key):
        return PublicKey(frozenset({-8, -19}), -8, key)
    if kind == _RSA and (size := _rsa_size(key)) is not None:
        return PublicKey(frozenset({-37}), -37, key, size)
    raise RemoteError("bad_claims", f"A did:key of a kind or length this node does not read: {did[:80]!r}.")


def is_sound_ed25519(point: bytes) -> bool:
    """Whether bytes spell a point of Ed25519 in its one way, and not one of small order, if any at all.

    For both the key and a signature's R: RFC 8032 leaves room here, and libraries use it differently.
    """
    y = int.from_bytes(point, "little") & (1 << 255) - 1
    return len(point) == 32 and y < _FIELD and y not in _SMALL


def _on_ed25519(point: bytes) -> bool:
    """Whether there is an x for that y: (y² − 1)·(d·y² + 1) must be a square, by Euler's criterion."""
    y = int.from_bytes(point, "little") & (1 << 255) - 1
    return pow((y * y - 1) * (_D * y * y + 1), (_FIELD - 1) // 2, _FIELD) == 1


def _rsa_size(key: bytes) -> int | None:
    """The modulus's bytes, if this is DER of an RSAPublicKey (RFC 8017 A.1.1) in its one spelling and bounds.

    The modulus is odd and its first bit is set, so that whole bytes are its length on every host.
    """
    size = int.from_bytes(key[6:8], "big") - 1
    modulus, number = key[9 : 9 + size], int.from_bytes(key[11 + size :], "big")
    if size not in _RSA_BYTES or number not in _RSA_EXPONENT or len(key) < 12 + size:
        return None
    exponent = number.to_bytes(number.bit_length() // 8 + 1, "big")
    content = b"\x02\x82" + (size + 1).to_bytes(2, "big") + b"\0" + modulus
    content += b"\x02" + bytes([len(exponent)]) + exponent
    proper = key == b"\x30\x82" + len(content).to_bytes(2, "big") + content
    return size if proper and modulus[0] & 0x80 and modulus[-1] & 1 else None


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
