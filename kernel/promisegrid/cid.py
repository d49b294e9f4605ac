"""CIDs: the names of things by what they contain.

A `Cid` holds the binary form and nothing else; whatever exists is well formed, so nobody checks twice.
Equality, order and hash are those of the bytes. Version 1 prints as base32, version 0 as base58btc.
What the bytes behind a CID mean, and where they are, this file does not know.
(Source: multiformats/cid, multiformats/multihash, multiformats/multicodec.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from promisegrid import multibase, varint

RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71

CODECS: Final[dict[str, int]] = {
    "raw": RAW,
    "dag-pb": DAG_PB,
    "dag-cbor": DAG_CBOR,
    "cbor": 0x51,
    "libp2p-key": 0x72,
    "dag-json": 0x0129,
    "json": 0x0200,
    "car": 0x0202,
}
"""Codec names this project prints; any other codec is kept and shown as its number."""

IDENTITY: Final = 0x00
SHA2_256: Final = 0x12
DIGEST_MAX: Final = 128
"""Longest digest read, identity included: a CID is a name, not a place to hide a block in."""
TEXT_MAX: Final = 512
"""Longest text read, in characters: more than the longest CID in base16."""

_HASHES: Final[dict[int, tuple[int, Callable[[bytes], bytes]]]] = {
    SHA2_256: (32, lambda data: hashlib.sha256(data).digest()),
    0x13: (64, lambda data: hashlib.sha512(data).digest()),
    0x16: (32, lambda data: hashlib.sha3_256(data).digest()),
    0xB220: (32, lambda data: hashlib.blake2b(data, digest_size=32).digest()),
}
"""Hash functions that are verified: multicodec → (digest bytes, function)."""

_LOOK = "a CID looks like bafkrei… or Qm…"
_COMMON: Final[dict[bytes, int]] = {
    bytes((1, codec, SHA2_256, 32)): codec for codec in (RAW, DAG_PB, DAG_CBOR)
}
"""The first four bytes of nearly every CID met → codec: these need no varint to be read."""
_RAW_SHA2_256: Final = bytes((1, RAW, SHA2_256, 32))


class CidError(ValueError):
    """Not a CID; the text names what was given, shortened, and what a CID looks like."""


@dataclass(frozen=True, slots=True, order=True, repr=False)
class Cid:
    """A content identifier. `encoded` is its binary form: CIDv1, or the bare multihash of CIDv0.

    Make one with `parse` (text), `decode` (bytes) or `of` (content); the constructor is `decode` for exact
    `bytes`. Raises `CidError` for anything that is not exactly one CID.
    """

    encoded: bytes

    def __post_init__(self) -> None:
        if self.encoded[:4] not in _COMMON or len(self.encoded) != 36:
            _fields(self.encoded)

    @classmethod
    def parse(cls, text: str) -> Cid:
        """The CID a text spells: CIDv0, or CIDv1 in base32, base36, base58btc or base16."""
        if not isinstance(text, str) or not text.isascii() or not 8 <= len(text) <= TEXT_MAX:
            raise CidError(f"{_shorten(text)} is not a CID; {_LOOK}")
        try:
            if len(text) == 46 and text.startswith("Qm"):
                return cls(multibase.from_base58(text))
            data = multibase.decode(text)
            if data[:1] != b"\x01":
                raise ValueError("CIDv1 begins with version 1, and CIDv0 has no multibase letter")
            return cls(data)
        except ValueError as error:
            raise CidError(f"{_shorten(text)} is not a CID: {error}; {_LOOK}") from error

    @classmethod
    def decode(cls, data: bytes) -> Cid:
        """The CID that the whole of `data` is (36 bytes in the common case)."""
        return cls(bytes(data))

    @classmethod
    def of(cls, data: bytes, codec: str | int = "raw") -> Cid:
        """The CIDv1 with sha2-256 of `data`; `codec` is a name of `CODECS` or a multicodec number."""
        if codec == "raw":
            return cls(_RAW_SHA2_256 + hashlib.sha256(data).digest())
        return cls.of_digest(hashlib.sha256(data).digest(), codec)

    @classmethod
    def of_digest(cls, digest: bytes, codec: str | int = "raw") -> Cid:
        """The CIDv1 of a sha2-256 digest somebody else has computed (32 bytes)."""
        code = codec if isinstance(codec, int) else CODECS.get(codec)
        if code is None:
            raise CidError(f"codec {codec!r} is not known; use one of {', '.join(CODECS)} or a number")
        return cls(b"\x01" + varint.encode(code) + b"\x12\x20" + digest)

    @property
    def version(self) -> int:
        """0 or 1."""
        return 0 if self.encoded[0] == SHA2_256 else 1

    @property
    def codec(self) -> int:
        """The multicodec number of the content's format, as `RAW`, `DAG_PB`, `DAG_CBOR`."""
        common = _COMMON.get(self.encoded[:4])
        return _fields(self.encoded)[0] if common is None else common

    @property
    def codec_name(self) -> str:
        """The codec as people write it: "raw", "dag-cbor", or "0x…" for one without a name here."""
        code = self.codec
        return next((name for name, known in CODECS.items() if known == code), hex(code))

    @property
    def hash_code(self) -> int:
        """The multicodec number of the hash function, as `SHA2_256`."""
        return _fields(self.encoded)[1]

    @property
    def digest(self) -> bytes:
        """The hash value alone (for an identity CID: the content)."""
        return _fields(self.encoded)[2]

    @property
    def verifiable(self) -> bool:
        """Whether `holds` can check content against this CID's hash function."""
        return self.hash_code in _HASHES or self.hash_code == IDENTITY

    def holds(self, data: bytes) -> bool:
        """Whether `data` is this CID's content. False, too, for a hash function that cannot be checked."""
        if self.encoded[-34:-32] == b"\x12\x20" and self.encoded[:4] in _COMMON:
            return hashlib.sha256(data).digest() == self.encoded[4:]
        _, code, digest = _fields(self.encoded)
        if code == IDENTITY:
            return data == digest
        return code in _HASHES and _HASHES[code][1](data) == digest

    def __bytes__(self) -> bytes:
        return self.encoded

    def __str__(self) -> str:
        return _text(self.encoded)

    def __repr__(self) -> str:
        return f"Cid({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cid) and self.encoded == other.encoded

    def __hash__(self) -> int:
        return hash(self.encoded)


@lru_cache(maxsize=8192)
def _text(encoded: bytes) -> str:
    """The same few CIDs are printed again and again, and base32 is slow."""
    if encoded[0] == SHA2_256:
        return multibase.base58(encoded)
    return "b" + multibase.base32(encoded)


def _shorten(what: object) -> str:
    shown = what if isinstance(what, str) else repr(what)
    shown = shown if len(shown) <= 40 else f"{shown[:20]}…{shown[-12:]}"
    return ascii(shown) if not shown.replace("…", "").isascii() else f'"{shown}"'


def _fields(data: bytes) -> tuple[int, int, bytes]:
    """Codec, hash function and digest of a whole binary CID; CidError when it is not one."""
    fields, end = read(data, 0)
    if end != len(data):
        raise CidError(f"{_shorten(data.hex())} (hex) has {len(data) - end} bytes after the CID")
    return fields


def read(data: bytes | memoryview, at: int) -> tuple[tuple[int, int, bytes], int]:
    """The fields (codec, hash function, digest) of the CID that begins at `at`, and the offset behind it.

    For formats that put more behind a CID, such as CAR. Raises `CidError`.
    """
    shown = bytes(data[at : at + 64])
    try:
        codec = DAG_PB
        if shown[:2] != b"\x12\x20":
            version, at = varint.decode(data, at)
            if version != 1:
                raise CidError(f"{_shorten(shown.hex())} (hex) is not a CID: version {version} is not known")
            codec, at = varint.decode(data, at)
        code, at = varint.decode(data, at)
        size, at = varint.decode(data, at)
    except varint.VarintError as error:
        raise CidError(f"{_shorten(shown.hex())} (hex) is not a binary CID: {error}") from error
    expected = _HASHES[code][0] if code in _HASHES else size
    if size != expected or size > DIGEST_MAX or size > len(data) - at:
        raise CidError(
            f"{_shorten(shown.hex())} (hex) is not a binary CID: a digest of {size} bytes"
            f" where {min(expected, DIGEST_MAX)} are due and {len(data) - at} follow"
        )
    return (codec, code, bytes(data[at : at + size])), at + size


def take(data: bytes | memoryview, at: int) -> tuple[Cid, int]:
    """The CID that begins at `at`, and the offset behind it. Raises `CidError`."""
    _, end = read(data, at)
    return Cid(bytes(data[at:end])), end
