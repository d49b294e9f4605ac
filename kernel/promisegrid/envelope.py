"""The five-element message (seed 000), taken apart without writing anything again.

    ["grid", 42(protocol), 42(grid), claims: bstr, 18([protected, {}, nil, signature])]

What is signed is the exact bytes of elements 1–4 as a 4-array: `0x84` and everything between the outer
header and element 5. A message's name is the raw CID of its exact bytes, and it has only one, because
every part has one spelling and the signature is checked to be the low one.

Order of checks here: size → array of five → "grid" → this grid → CIDs → the shape of the signature. Nothing
is believed yet.
"""

from __future__ import annotations

from typing import Final

from promisegrid import cose
from promisegrid.cbor import byte_string, head, link
from promisegrid.cid import Cid, CidError
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen

_FIVE: Final = 0x85
_FOUR: Final = b"\x84"
_GRID: Final = b"\x64grid"
_LINK: Final = b"\xd8\x2a"
_CID_MAX: Final = 160
_USUAL_LINK: Final = b"\xd8\x2a\x58\x25\x00"
_USUAL: Final = bytes((_FIVE,)) + _GRID + _USUAL_LINK


@frozen
class Envelope:
    """A message whose structure holds. `signed` is what the signature is over.

    pcid: of a message under the grid's tag, the protocol that shaped it; None for five elements.
    """

    raw: bytes
    protocol: Cid
    grid: Cid
    claims: bytes
    signed: bytes
    sign1: cose.Sign1
    pcid: Cid | None = None

    @property
    def name(self) -> Cid:
        """The message's name: the raw CID of its exact bytes."""
        return Cid.of(self.raw)


def prepare(protocol: Cid, grid: Cid, claims: bytes) -> bytes:
    """Elements 1–4 as the 4-array to be signed."""
    return b"".join((_FOUR, _GRID, link(protocol), link(grid), byte_string(claims)))


def seal(signed: bytes, sign1: bytes) -> bytes:
    """The whole message: the signed 4-array and its detached signature."""
    return b"".join((bytes([_FIVE]), signed[1:], sign1))


def open_message(raw: bytes, grid: Cid, bytes_max: int) -> Envelope:
    """Take a message of `grid` apart.

    RemoteError: too_large, malformed, not_grid, future_grid, wrong_grid, bad_cid.
    """
    if len(raw) > bytes_max:
        raise RemoteError("too_large", f"A message of {len(raw)} bytes; at most {bytes_max} are read.")
    if len(raw) < 2 or raw[0] != _FIVE:
        raise RemoteError("malformed", "A message is a CBOR array of five elements.")
    if raw[:11] == _USUAL and raw[47:52] == _USUAL_LINK:  # two links of 36 bytes, nearly always
        protocol_bytes, grid_bytes, at = raw[11:47], raw[52:88], 88
    else:
        protocol_bytes, at = _link_at(raw, _tag(raw), "protocol")
        grid_bytes, at = _link_at(raw, at, "grid")
    if grid_bytes != grid.encoded:
        raise RemoteError("wrong_grid", f"A message for another grid; this is {grid}.")
    try:
        protocol = Cid(protocol_bytes)
    except CidError as error:
        raise RemoteError("bad_cid", f"The protocol is not a CID: {error}.") from error
    claims, at = _bytes_at(raw, at, "claims")
    sign1 = cose.read(raw[at:], "grid-message")
    if sign1.payload is not None:
        raise RemoteError("malformed", "The signature of a message is detached: its payload must be nil.")
    return Envelope(raw, protocol, grid, claims, _FOUR + raw[1:at], sign1)


def _tag(raw: bytes) -> int:
    """The offset behind element 1, which must be the text "grid"."""
    if raw.startswith(_GRID, 1):
        return 1 + len(_GRID)
    length = raw[1] - 0x60
    if not 0 <= length <= 23 or len(raw) < 2 + length:
        raise RemoteError("not_grid", 'The first element is not the text "grid".')
    text = raw[2 : 2 + length]
    if text.startswith(b"grid"):
        spoken = text.decode(errors="replace")
        raise RemoteError("future_grid", f"The protocol {spoken!r} is not spoken here.")
    raise RemoteError("not_grid", f'The first element is {text[:20]!r}, not the text "grid".')


def _link_at(raw: bytes, at: int, what: str) -> tuple[bytes, int]:
    if raw[at : at + 2] != _LINK:
        raise RemoteError("malformed", f"The {what} element is not a link (CBOR tag 42).")
    content, at = _bytes_at(raw, at + 2, what)
    if not 1 < len(content) <= _CID_MAX or content[0] != 0:
        raise RemoteError("bad_cid", f"The {what} element does not hold a CID after a zero byte.")
    return content[1:], at


def _bytes_at(raw: bytes, at: int, what: str) -> tuple[bytes, int]:
    """A byte string in its shortest form, and the offset behind it."""
    first = raw[at] if at < len(raw) else 0
    if first == 0x59 and len(raw) > at + 2 and raw[at + 1]:  # 256 to 65535 bytes, nearly always
        begin = at + 3
        end = begin + (raw[at + 1] << 8 | raw[at + 2])
        if end <= len(raw):
            return raw[begin:end], end
    width = {0x58: 1, 0x59: 2, 0x5A: 4}.get(first, 0)
    length = first - 0x40 if 0x40 <= first <= 0x57 else int.from_bytes(raw[at + 1 : at + 1 + width], "big")
    begin = at + 1 + width
    if raw[at:begin] != head(2, length) or len(raw) < begin + length:
        raise RemoteError("malformed", f"The {what} element is not a byte string, or it is cut off.")
    return raw[begin : begin + length], begin + length
