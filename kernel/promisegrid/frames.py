"""Link frames: what travels between two nodes that are connected.

A frame is one dag-cbor array, `[kind, field…]`. The table `KINDS` is the whole vocabulary; a frame is
read into the dataclass of its kind, every field's type checked against its annotation, every size bounded
by the frame's. Frames say nothing about who may send them when: that is `link.py`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import fields
from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.cbor import byte_string, head, link, number
from promisegrid.cid import Cid, CidError
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen


@frozen
class Hello:
    """First frame of each side: who I say I am, and which connection this is.

    grid: None when the sender is in none yet; role: initiator or responder; channel: host and path as the
    sender knows it; nonce: 32 bytes.
    """

    version: int
    did: str
    nonce: bytes
    grid: Cid | None
    role: str
    channel: str


@frozen
class Proof:
    """Second frame: a COSE_Sign1 over the transcript; this member's admission; the genesis block."""

    signature: bytes
    membership: bytes | None
    genesis: bytes | None


@frozen
class Join:
    """A newcomer asks to be admitted; the invitation, or None where the door is open."""

    invitation: bytes | None


@frozen
class Admitted:
    """The founder's promise of membership, a signed capability."""

    membership: bytes


@frozen
class Message:
    """One signed message, exact bytes."""

    raw: bytes


@frozen
class Refusal:
    """Why a frame or message was not accepted, unsigned. about: the message's name, if there is one."""

    code: str
    text: str
    about: Cid | None


@frozen
class Want:
    """Please send this block. hops: how often the request may be passed on."""

    cid: Cid
    hops: int


@frozen
class BlockFrame:
    """A block that was wanted, or None for "I do not have it"."""

    cid: Cid
    data: bytes | None


@frozen
class Credit:
    """The sender of this frame can take so many more messages."""

    messages: int


@frozen
class Progress:
    """A hint about a call that is running: phase, done, total (None when unknown)."""

    about: Cid
    phase: str
    done: int
    total: int | None


@frozen
class Ping:
    """Are you there? The pong carries the same number."""

    number: int


@frozen
class Pong:
    """Yes."""

    number: int


@frozen
class Status:
    """What the sender likes its peers to know: whether it runs programs for others, and its engine."""

    serves: bool
    engine: str


@frozen
class Cancel:
    """The sender of a message wants no answer to it any more; what is in work for it may end."""

    about: Cid


@frozen
class Dial:
    """Please make a circuit to a member, over at most so many further nodes."""

    circuit: int
    to: str
    hops: int


@frozen
class Dialled:
    """The circuit is made."""

    circuit: int


@frozen
class HangUp:
    """The circuit is over, or could not be made."""

    circuit: int
    code: str
    text: str


@frozen
class Relayed:
    """A frame of the link that runs over a circuit."""

    circuit: int
    data: bytes


@frozen
class Window:
    """The far end of a circuit has taken so many bytes: as many more may set out."""

    circuit: int
    size: int


@frozen
class Near:
    """Who is linked to the sender: dag-cbor, `[[did, serves, engine], …]`."""

    peers: bytes


@frozen
class Seek:
    """Who is nearest to this point of the key space (16 bytes)? Over at most so many further nodes.

    asker: who wants to know, and is not looked for.
    """

    number: int
    point: bytes
    hops: int
    asker: str


@frozen
class Sought:
    """The signed address of who is nearest, as far as is known; empty for nobody."""

    number: int
    address: bytes


@frozen
class Piece:
    """Part of a block that was wanted and is too large for one frame: of its `size` bytes those from `at` on.

    The pieces of one block come in order, beginning with that at 0.
    """

    cid: Cid
    size: int
    at: int
    data: bytes


Frame = (
    Hello
    | Proof
    | Join
    | Admitted
    | Message
    | Refusal
    | Want
    | BlockFrame
    | Credit
    | Progress
    | Ping
    | Pong
    | Status
    | Cancel
    | Dial
    | Dialled
    | HangUp
    | Relayed
    | Window
    | Near
    | Seek
    | Sought
    | Piece
)
KINDS: Final[tuple[type[Any], ...]] = (
    Hello,
    Proof,
    Join,
    Admitted,
    Message,
    Refusal,
    Want,
    BlockFrame,
    Credit,
    Progress,
    Ping,
    Pong,
    Status,
    Cancel,
    Dial,
    Dialled,
    HangUp,
    Relayed,
    Window,
    Near,
    Seek,
    Sought,
    Piece,
)
_TYPES: Final[dict[str, tuple[type[Any], ...]]] = {
    "int": (int,),
    "str": (str,),
    "bytes": (bytes,),
    "bool": (bool,),
    "Cid": (Cid,),
    "int | None": (int, type(None)),
    "bytes | None": (bytes, type(None)),
    "Cid | None": (Cid, type(None)),
}
_SHAPES: Final = tuple(tuple(_TYPES[str(field.type)] for field in fields(kind)) for kind in KINDS)
_NAMES: Final = tuple(tuple(field.name for field in fields(kind)) for kind in KINDS)
_NUMBER: Final = {kind: number for number, kind in enumerate(KINDS)}
_TEXT_MAX: Final = 2048
_MESSAGE: Final = bytes((0x82, KINDS.index(Message)))
_CREDIT: Final = bytes((0x82, KINDS.index(Credit)))
_BLOCK: Final = bytes((0x83, KINDS.index(BlockFrame)))
_PIECE: Final = bytes((0x85, KINDS.index(Piece)))
"""How the frames that count most begin; they are read and written without the general way's detours."""


def encode(frame: Frame) -> bytes:
    """The frame's bytes."""
    if type(frame) is Message:
        return _MESSAGE + byte_string(frame.raw)
    if type(frame) is Credit:
        return _CREDIT + dagcbor.encode(frame.messages)
    if type(frame) is BlockFrame and frame.data is not None:
        return b"".join((_BLOCK, link(frame.cid), head(2, len(frame.data)), frame.data))
    if type(frame) is Piece:
        return b"".join((_piece_head(frame.cid, frame.size, frame.at, len(frame.data)), frame.data))
    number = _NUMBER[type(frame)]
    return dagcbor.encode([number, *(getattr(frame, name) for name in _NAMES[number])])


def pieces(cid: Cid, data: bytes, piece_bytes: int) -> Generator[bytes, None, None]:
    """A block as the encoded frames it is sent in, each made when its turn comes."""
    if len(data) <= piece_bytes:
        yield encode(BlockFrame(cid, data))
        return
    view, size = memoryview(data), len(data)
    for at in range(0, size, piece_bytes):
        part = view[at : at + piece_bytes]
        yield b"".join((_piece_head(cid, size, at, len(part)), part))


def is_bulk(data: bytes) -> bool:
    """Whether an encoded frame carries a block, so that what others wait for may go before it."""
    return data[:2] in (_BLOCK, _PIECE)


def _piece_head(cid: Cid, size: int, at: int, length: int) -> bytes:
    return b"".join((_PIECE, link(cid), number(size), number(at), head(2, length)))


def _only_bytes(data: bytes, at: int) -> bytes | None:
    """The byte string of 24 bytes or more that is all that follows; None when something else does."""
    begin = at + _BYTES_HEADS.get(data[at : at + 1], len(data))
    return data[begin:] if data[at:begin] == head(2, max(0, len(data) - begin)) else None


_BYTES_HEADS: Final = {b"\x58": 2, b"\x59": 3, b"\x5a": 5}
"""First byte of a byte string → length of its head."""
_LINK: Final = b"\xd8\x2a\x58\x25\x00"
_LINK_END: Final = 2 + len(_LINK) + 36
"""Where the link of a block's frame ends, if it is a CID of the usual length."""


def _read_block(data: bytes) -> BlockFrame | Piece | None:
    """A frame with a block or part of one, its bytes copied once; None: it must be read the general way."""
    try:
        cid = Cid(data[7:_LINK_END])
        if data.startswith(_BLOCK):
            raw = _only_bytes(data, _LINK_END)
            return BlockFrame(cid, raw) if raw is not None and data[2:7] == _LINK else None
        size, at = _uint(data, _LINK_END)
        first, at = _uint(data, at)
    except CidError:
        return None
    raw = _only_bytes(data, at)
    if raw is None or data[:at] != _piece_head(cid, size, first, 0)[:-1]:
        return None
    return Piece(cid, size, first, raw)


def _uint(data: bytes, at: int) -> tuple[int, int]:
    """The number whose CBOR begins at `at`, and where it ends; anything at all for what is none."""
    info = data[at] & 31 if at < len(data) else 0
    width = 1 << info - 24 if 24 <= info < 28 else 0
    return (int.from_bytes(data[at + 1 : at + 1 + width]) if width else info), at + 1 + width


def decode(data: bytes, bytes_max: int) -> Frame:
    """Read one frame. RemoteError: too_large, malformed."""
    if len(data) > bytes_max:
        raise RemoteError("too_large", f"A frame of {len(data)} bytes; at most {bytes_max} are read.")
    if data.startswith(_MESSAGE) and (raw := _only_bytes(data, len(_MESSAGE))) is not None:
        return Message(raw)
    if is_bulk(data) and (block := _read_block(data)) is not None:
        return block
    try:
        value = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"A frame is not dag-cbor: {error}.") from error
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise RemoteError("malformed", "A frame is an array that begins with its kind.")
    number, *parts = value
    if not 0 <= number < len(KINDS):
        raise RemoteError("malformed", f"Frames of kind {number} are not known here.")
    shape = _SHAPES[number]
    if len(parts) != len(shape) or not all(
        type(part) in types for part, types in zip(parts, shape, strict=True)
    ):
        raise RemoteError("malformed", f"A {KINDS[number].__name__} frame with fields of the wrong kind.")
    if any(isinstance(part, str) and len(part) > _TEXT_MAX for part in parts):
        raise RemoteError("malformed", f"A {KINDS[number].__name__} frame with a text that is too long.")
    frame: Frame = KINDS[number](*parts)
    return frame
