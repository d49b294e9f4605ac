"""The grid tag (seed 001): `1735551332([42(pCID), slot…])`, each later slot as the pCID's protocol says.

Two readings. `open_tagged` checks what holds for every message: the tag, an array, a CID in its first slot
(with or without the zero byte before it; both are met, zero is written), every other slot one CBOR item. It
decodes no slot, so what is not known here can be carried byte for byte. `open_signed` goes on for the
protocols known here, which all have two slots, and one way of signing:

    1735551332([42(pCID), payload, 18([{1: alg, 15: claims, 16: "grid-tagged"}, {}, nil, signature])])

The signature is over the exact bytes of the first two slots as an array of two, untagged. The claims are a
CWT claims set in header 15 (RFC 9597) that also names the grid. (Source: docs/protocols/capability-call.md.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promisegrid import claims, cose, dagcbor
from promisegrid.cbor import CborError, Dialect, Encoded, Tag, byte_string, head
from promisegrid.cid import Cid, CidError
from promisegrid.claims import Claims
from promisegrid.effects import Sign
from promisegrid.envelope import Envelope
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

TAG: Final = 0x67726964
_HEAD: Final = b"\xda\x67\x72\x69\x64"
_LINK: Final = b"\xd8\x2a"
_TWO: Final = b"\x82"
_SLOTS_MAX: Final = 16
_CID_MAX: Final = 160
_CWT_CLAIMS: Final = 15
_TYP: Final = "grid-tagged"
_SIGN1: Final = 18
_ANY: Final = Dialect(name="a slot", max_items=1 << 16)
_COSE: Final = Dialect(name="COSE", tags=frozenset({_SIGN1}), int_keys=True, depth=28)


@dataclass(frozen=True, slots=True)
class Tagged:
    """A message whose structure holds. `first` and `slots` are exact bytes; nothing in them is believed."""

    raw: bytes
    protocol: Cid
    first: bytes
    slots: tuple[bytes, ...]


def is_tagged(raw: bytes) -> bool:
    """Whether bytes begin like a tagged item, the grid's or a later one's, rather than like an array."""
    return b"\xc0" <= raw[:1] <= b"\xdb"


def open_tagged(raw: bytes, bytes_max: int) -> Tagged:
    """Take a message apart. RemoteError: too_large, future_grid, malformed, bad_cid."""
    if len(raw) > bytes_max:
        raise RemoteError("too_large", f"A message of {len(raw)} bytes; at most {bytes_max} are read.")
    if not raw.startswith(_HEAD):
        raise _another(raw)
    count = raw[5] - 0x80 if len(raw) > 5 else -1
    if not 1 <= count <= _SLOTS_MAX:
        raise RemoteError("malformed", f"The grid's tag holds an array of 1 to {_SLOTS_MAX} slots.")
    at, ends = 6, []
    try:
        for _ in range(count):
            at = _ANY.skip(raw, at)
            ends.append(at)
    except CborError as error:
        raise RemoteError("malformed", f"A slot is not a CBOR item: {error}.") from error
    if at != len(raw):
        raise RemoteError("malformed", "There are bytes after the message.")
    slots = tuple(raw[begin:end] for begin, end in zip([6, *ends], ends, strict=False))
    return Tagged(raw, _protocol(slots[0]), slots[0], slots[1:])


def _another(raw: bytes) -> RemoteError:
    """Another tag over a whole item may be a later version; anything else is no message."""
    try:
        whole = _ANY.skip(raw) == len(raw)
    except CborError:
        whole = False
    if whole:
        return RemoteError("future_grid", "A message under another tag than the grid's, 1735551332.")
    return RemoteError("malformed", "A tagged message carries the grid's tag, 1735551332.")


def _protocol(slot: bytes) -> Cid:
    if not slot.startswith(_LINK) or len(slot) > _CID_MAX:
        raise RemoteError("malformed", "The first slot is not a link (CBOR tag 42) that names the protocol.")
    width = 1 if slot[2] < 0x58 else 2
    content = slot[2 + width :]
    if slot[2 : 2 + width] != head(2, len(content)):
        raise RemoteError("malformed", "The first slot is not a link over a byte string.")
    try:
        return Cid.decode(content[1:] if content[:1] == b"\x00" else content)
    except CidError as error:
        raise RemoteError("bad_cid", f"The protocol is not a CID: {error}.") from error


def open_signed(tagged: Tagged, grid: Cid, limits: Limits) -> tuple[Envelope, Claims, object]:
    """The envelope, claims and payload of a protocol known here; the signature is not checked yet.

    RemoteError: malformed, wrong_grid, bad_claims, no_expiry.
    """
    if len(tagged.slots) != 2:
        raise RemoteError("malformed", "A message of this protocol has a payload and a signature.")
    payload_bytes, signature = tagged.slots
    sign1, table = _signature(signature)
    if table.get(claims.GRID) != grid:
        raise RemoteError("wrong_grid", f"A message for another grid; this is {grid}.")
    data = claims.encode_table(table)
    content = claims.decode(data, limits)
    try:
        payload = dagcbor.decode(payload_bytes)
    except ValueError as error:
        raise RemoteError("malformed", f"The payload is not dag-cbor: {error}.") from error
    signed = _TWO + tagged.first + payload_bytes
    opened = Envelope(tagged.raw, tagged.protocol, grid, data, signed, sign1, tagged.protocol)
    return opened, content, payload


def _signature(slot: bytes) -> tuple[cose.Sign1, dict[int, object]]:
    try:
        item = _COSE.decode(slot)
        parts = item.value if isinstance(item, Tag) else None
        if not isinstance(parts, list) or len(parts) != 4:
            raise RemoteError("malformed", "The signature is not a COSE_Sign1 of four elements.")
        protected, unprotected, payload, signature = parts
        if unprotected != {} or payload is not None:
            raise RemoteError("malformed", "The signature is detached and has no unprotected header.")
        if not isinstance(protected, bytes) or not isinstance(signature, bytes):
            raise RemoteError("malformed", "A COSE_Sign1 holds bytes in its first and last place.")
        header = _COSE.decode(protected)
    except CborError as error:
        raise RemoteError("malformed", f"The signature is not a COSE_Sign1: {error}.") from error
    if not isinstance(header, dict) or set(header) != {1, _CWT_CLAIMS, 16}:
        raise RemoteError("malformed", "The protected header must hold alg (1), claims (15) and typ (16).")
    alg, table, typ = header[1], header[_CWT_CLAIMS], header[16]
    if type(alg) is not int or typ != _TYP or len(signature) > cose.SIGNATURE_MAX:
        raise RemoteError("malformed", f"Expected a signature of type {_TYP}.")
    if not isinstance(table, dict):
        raise RemoteError("bad_claims", "The claims are not a map with integer keys.")
    return cose.Sign1(protected, alg, _TYP, None, signature), table


async def write(protocol: Cid, payload: object, content: Claims) -> bytes:
    """A message of this node's, signed. The claims must name the grid."""
    assert content.grid is not None
    first = _LINK + byte_string(b"\x00" + protocol.encoded)
    slot = dagcbor.encode(payload)
    protected = _COSE.encode({1: cose.ES256, _CWT_CLAIMS: Encoded(content.encode()), 16: _TYP})
    signature = cose.low_s(await Sign(cose.to_be_signed(protected, _TWO + first + slot)))
    return b"".join((_HEAD, b"\x83", first, slot, cose.assemble(protected, None, signature)))
