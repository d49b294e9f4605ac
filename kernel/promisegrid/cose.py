"""COSE_Sign1 (RFC 9052 section 4.2), as strict as a message that is its own name must be.

The protected header is exactly `{1: alg, 16: typ}` (typ: RFC 9596); the unprotected one is empty; there is
no `crit`. ES256 signatures are raw r‖s of 64 bytes with the low s (RFC 9053 section 2.1; low s is ours, so
that nobody but the signer can make a second spelling). `typ` says what is signed: a receipt can never pass
for a message.

`read_any` takes what others write: tagged or not, a CWT (tag 61, RFC 8392 section 6), headers of theirs. It
is as strict about spelling, and nothing of the grid is decided by it.

Signing and verifying are effects; this file only builds and reads the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, Literal

from promisegrid import did
from promisegrid.cbor import CborError, Dialect, Tag, byte_string, head
from promisegrid.effects import Sign, Verify
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen

Typ = Literal[
    "grid-message",
    "grid-hello",
    "grid-capability",
    "grid-receipt",
    "grid-statement",
    "grid-head",
    "grid-entry",
    "grid-address",
]
ES256: Final = -7
EDDSA: Final = -8
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ZERO, _HALF, _TOP = (limit.to_bytes(32, "big") for limit in (0, _ORDER // 2, _ORDER))
"""Bounds of r and s as they are written: bytes of one length compare as the numbers do."""
_ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_SIGN1: Final = 18
_CWT: Final = 61
_DIALECT: Final = Dialect(name="COSE", tags=frozenset({_SIGN1, _CWT}), links=False, int_keys=True, depth=6)
_CRIT: Final = 2
SIGNATURE_MAX: Final = 1024
"""Bytes of any signature: RSA of 8192 bits."""
_OPENING: Final = b"\xd2\x84"
"""Tag 18 and an array of four."""
_CONTEXT: Final = b"\x84\x6aSignature1"


@frozen
class Sign1:
    """One COSE_Sign1 as read: `payload` is None when it is detached."""

    protected: bytes
    alg: int
    typ: str
    payload: bytes | None
    signature: bytes


@frozen
class AnySign1:
    """One COSE_Sign1 as anybody may write it. tags: outermost first; the headers: label → value."""

    tags: tuple[int, ...]
    sign1: Sign1
    header: Mapping[int | str, object]
    unprotected: Mapping[int | str, object]


@lru_cache(maxsize=64)
def protected_header(typ: Typ, alg: int = ES256) -> bytes:
    """The bytes of the protected header."""
    return _DIALECT.encode({1: alg, 16: typ})


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """The Sig_structure of RFC 9052 section 4.4, external data empty."""
    return b"".join((_opening(protected), byte_string(payload)))


def assemble(
    protected: bytes, payload: bytes | None, signature: bytes, tags: tuple[int, ...] = (_SIGN1,)
) -> bytes:
    """The COSE_Sign1 [protected, {}, payload or nil, signature] under its tags, outermost first."""
    opening = _OPENING if tags == (_SIGN1,) else b"".join(head(6, tag) for tag in tags) + _OPENING[1:]
    middle = b"\xf6" if payload is None else byte_string(payload)
    return b"".join((opening, byte_string(protected), b"\xa0", middle, byte_string(signature)))


def read(data: bytes, typ: Typ) -> Sign1:
    """Take a tagged COSE_Sign1 apart. RemoteError("malformed") unless it is one, of that typ."""
    usual = _usual(typ)
    if len(data) == len(usual) + 64 and data.startswith(usual):
        return Sign1(protected_header(typ), ES256, typ, None, data[len(usual) :])
    if (attached := _attached(data, typ)) is not None:
        return attached
    found = read_any(data)
    if found.tags != (_SIGN1,):
        raise RemoteError("malformed", "A signature here carries the tag of COSE_Sign1, 18, and no other.")
    if found.unprotected:
        raise RemoteError("malformed", "Unprotected headers are not accepted: nothing unsigned is read.")
    if set(found.header) != {1, 16}:
        raise RemoteError("malformed", "The protected header must hold exactly alg (1) and typ (16).")
    if found.sign1.typ != typ:
        raise RemoteError("malformed", f"Expected a signature of type {typ}, not {found.sign1.typ[:40]!r}.")
    return found.sign1


def read_any(data: bytes) -> AnySign1:
    """Take any COSE_Sign1 apart. RemoteError("malformed") also when its algorithm is not signed along.

    A label stands in one of the two headers only (RFC 9052 section 3); `crit` is refused, because no header
    that needs it is understood here.
    """
    tags, item = _untagged(data)
    if not isinstance(item, list) or len(item) != 4 or tags not in ((), (_SIGN1,), (_CWT, _SIGN1)):
        raise RemoteError("malformed", "The signature is not a COSE_Sign1 of four elements.")
    protected, unprotected, payload, signature = item
    if not isinstance(protected, bytes) or not isinstance(signature, bytes):
        raise RemoteError("malformed", "A COSE_Sign1 holds bytes in its first and last place.")
    if payload is not None and not isinstance(payload, bytes):
        raise RemoteError("malformed", "The payload of a COSE_Sign1 is bytes or nil.")
    if len(signature) > SIGNATURE_MAX:
        raise RemoteError("malformed", f"A signature of {len(signature)} bytes.")
    _, header = _untagged(protected)
    if not isinstance(header, dict) or not isinstance(unprotected, dict) or {*header} & {*unprotected}:
        raise RemoteError("malformed", "The headers of a COSE_Sign1 are two maps that share no label.")
    alg, typ = header.get(1), header.get(16, "")
    if type(alg) is not int or _CRIT in header or _CRIT in unprotected:
        raise RemoteError("malformed", "The protected header must hold a known alg (1) and no crit (2).")
    sign1 = Sign1(protected, alg, typ if isinstance(typ, str) else "", payload, signature)
    return AnySign1(tags, sign1, header, unprotected)


def _untagged(data: bytes) -> tuple[tuple[int, ...], object]:
    """The tags around an item, outermost first, and the item."""
    try:
        item = _DIALECT.decode(data)
    except CborError as error:
        raise RemoteError("malformed", f"The signature is not a COSE_Sign1: {error}.") from error
    tags: tuple[int, ...] = ()
    while isinstance(item, Tag):
        tags, item = (*tags, item.number), item.value
    return tags, item


@lru_cache(maxsize=64)
def _usual(typ: Typ) -> bytes:
    """How nearly every signature begins: ES256, detached, 64 bytes to follow."""
    return assemble(protected_header(typ), None, bytes(64))[:-64]


def _attached(data: bytes, typ: Typ) -> Sign1 | None:
    """What nearly every token is: ES256, its payload of 24 to 65535 bytes inside; None for all else."""
    opening = _token(typ)
    at, end = len(opening), len(data) - 66
    if not data.startswith(opening) or data[end : end + 2] != b"\x58\x40":
        return None
    begin = at + (2 if data[at : at + 1] == b"\x58" else 3)
    payload = data[begin:end]
    if begin > end or len(payload) < 24 or data[at:begin] != head(2, len(payload)):
        return None
    return Sign1(protected_header(typ), ES256, typ, payload, data[end + 2 :])


@lru_cache(maxsize=64)
def _token(typ: Typ) -> bytes:
    """How nearly every token begins: ES256, its payload to follow."""
    return b"".join((_OPENING, byte_string(protected_header(typ)), b"\xa0"))


@lru_cache(maxsize=64)
def _opening(protected: bytes) -> bytes:
    """How the Sig_structure of a protected header begins."""
    return b"".join((_CONTEXT, byte_string(protected), b"\x40"))


async def sign(typ: Typ, payload: bytes, detached: bool) -> bytes:
    """Sign with this node's own key; the COSE_Sign1's bytes."""
    protected = protected_header(typ)
    signature = low_s(await Sign(to_be_signed(protected, payload)))
    return _usual(typ) + signature if detached else assemble(protected, payload, signature)


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
    if signature[32:] <= _HALF:
        return signature
    return signature[:32] + (_ORDER - int.from_bytes(signature[32:], "big")).to_bytes(32, "big")


def is_low_s(signature: bytes) -> bool:
    """Whether bytes could be an ES256 signature with the low s: both numbers in their range."""
    r, s = signature[:32], signature[32:]
    return len(signature) == 64 and _ZERO < r < _TOP and _ZERO < s <= _HALF


def _is_possible(key: did.PublicKey, signature: bytes) -> bool:
    """What every host must refuse alike, refused before a host is asked."""
    if key.verify_as == ES256:
        return is_low_s(signature)
    if key.verify_as == EDDSA:
        s = int.from_bytes(signature[32:], "little")
        return len(signature) == 64 and s < _ED25519_ORDER and did.is_sound_ed25519(signature[:32])
    return len(signature) == key.signature_bytes
