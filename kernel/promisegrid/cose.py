"""COSE_Sign1 (RFC 9052 section 4.2), as strict as a message that is its own name must be.

The protected header is exactly `{1: alg, 16: typ}` (typ: RFC 9596); the unprotected one is empty; there is
no `crit`. ES256 signatures are raw r‖s of 64 bytes with the low s (RFC 9053 section 2.1; low s is ours, so
that nobody but the signer can make a second spelling). `typ` says what is signed: a receipt can never pass
for a message.

Signing and verifying are effects; this file only builds and reads the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from promisegrid import did
from promisegrid.cbor import CborError, Dialect, Tag, byte_string
from promisegrid.effects import Sign, Verify
from promisegrid.errors import RemoteError

Typ = Literal["grid-message", "grid-hello", "grid-capability", "grid-receipt", "grid-statement"]
ES256: Final = -7
EDDSA: Final = -8
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN1: Final = 18
_DIALECT: Final = Dialect(name="COSE", tags=frozenset({_SIGN1}), links=False, int_keys=True, depth=4)
_SIGNATURE_MAX: Final = 1024
_OPENING: Final = b"\xd2\x84"
"""Tag 18 and an array of four."""
_CONTEXT: Final = b"\x84\x6aSignature1"


@dataclass(frozen=True, slots=True)
class Sign1:
    """One COSE_Sign1 as read: `payload` is None when it is detached."""

    protected: bytes
    alg: int
    typ: str
    payload: bytes | None
    signature: bytes


@lru_cache(maxsize=64)
def protected_header(typ: Typ, alg: int = ES256) -> bytes:
    """The bytes of the protected header."""
    return _DIALECT.encode({1: alg, 16: typ})


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052 section 4.4, external data empty."""
    return b"".join((_CONTEXT, byte_string(protected), b"\x40", byte_string(payload)))


def assemble(protected: bytes, payload: bytes | None, signature: bytes) -> bytes:
    """The tagged COSE_Sign1: 18([protected, {}, payload or nil, signature])."""
    middle = b"\xf6" if payload is None else byte_string(payload)
    return b"".join((_OPENING, byte_string(protected), b"\xa0", middle, byte_string(signature)))


def read(data: bytes, typ: Typ) -> Sign1:
    """Take a tagged COSE_Sign1 apart. RemoteError("malformed") unless it is one, of that typ."""
    usual = _usual(typ)
    if len(data) == len(usual) + 64 and data.startswith(usual):
        return Sign1(protected_header(typ), ES256, typ, None, data[len(usual) :])
    try:
        item = _DIALECT.decode(data)
    except CborError as error:
        raise RemoteError("malformed", f"The signature is not a COSE_Sign1: {error}.") from error
    parts = item.value if isinstance(item, Tag) else None
    if not isinstance(parts, list) or len(parts) != 4:
        raise RemoteError("malformed", "The signature is not a COSE_Sign1 of four elements.")
    protected, unprotected, payload, signature = parts
    if not isinstance(protected, bytes) or not isinstance(signature, bytes):
        raise RemoteError("malformed", "A COSE_Sign1 holds bytes in its first and last place.")
    if unprotected != {}:
        raise RemoteError("malformed", "Unprotected headers are not accepted: nothing unsigned is read.")
    if payload is not None and not isinstance(payload, bytes):
        raise RemoteError("malformed", "The payload of a COSE_Sign1 is bytes or nil.")
    alg = _header(protected, typ)
    if len(signature) > _SIGNATURE_MAX:
        raise RemoteError("malformed", f"A signature of {len(signature)} bytes.")
    return Sign1(protected, alg, typ, payload, signature)


@lru_cache(maxsize=64)
def _usual(typ: Typ) -> bytes:
    """How nearly every signature begins: ES256, detached, 64 bytes to follow."""
    return assemble(protected_header(typ), None, bytes(64))[:-64]


def _header(protected: bytes, typ: Typ) -> int:
    try:
        header = _DIALECT.decode(protected)
    except CborError as error:
        raise RemoteError("malformed", f"The protected header is not canonical CBOR: {error}.") from error
    if not isinstance(header, dict) or set(header) != {1, 16}:
        raise RemoteError("malformed", "The protected header must hold exactly alg (1) and typ (16).")
    alg, found = header[1], header[16]
    if type(alg) is not int or found != typ:
        raise RemoteError("malformed", f"Expected a signature of type {typ}, not {str(found)[:40]!r}.")
    return alg


async def sign(typ: Typ, payload: bytes, detached: bool) -> bytes:
    """Sign with this node's own key; the COSE_Sign1's bytes."""
    protected = protected_header(typ)
    signature = low_s(await Sign(to_be_signed(protected, payload)))
    return assemble(protected, None if detached else payload, signature)


async def holds(sign1: Sign1, payload: bytes, signer: str) -> bool:
    """Whether `signer` (a did:key) signed exactly that payload. Cheap refusals come before the curve."""
    key = did.decode(signer)
    if sign1.alg not in key.algs or not _is_possible(key, sign1.signature):
        return False
    answer = await Verify(key.verify_as, key.key, to_be_signed(sign1.protected, payload), sign1.signature)
    return answer is True


def low_s(signature: bytes) -> bytes:
    """The same ES256 signature with s in the lower half of the group's order."""
    assert len(signature) == 64, "ES256 signatures are raw r‖s"
    s = int.from_bytes(signature[32:], "big")
    return signature if s <= _ORDER // 2 else signature[:32] + (_ORDER - s).to_bytes(32, "big")


def is_low_s(signature: bytes) -> bool:
    """Whether bytes could be an ES256 signature with the low s: both numbers in their range."""
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return 0 < r < _ORDER and 0 < s <= _ORDER // 2


def _is_possible(key: did.PublicKey, signature: bytes) -> bool:
    """What every host must refuse alike, refused before a host is asked."""
    if key.verify_as == ES256:
        return is_low_s(signature)
    if key.verify_as == EDDSA:
        s = int.from_bytes(signature[32:], "little")
        return len(signature) == 64 and s < _ED25519_ORDER and did.is_sound_ed25519(signature[:32])
    return len(signature) == key.signature_bytes
