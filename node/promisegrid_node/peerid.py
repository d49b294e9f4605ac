"""How other networks write the name of a key: libp2p's Peer ID of a node, made of its did:key alone.

Promises: one did:key has one Peer ID, and one Peer ID with its key one did:key. Only keys on P-256 ("ECDSA"
there) are read: nodes have no others.
(Source: libp2p/specs, peer-ids/peer-ids.md; RFC 5480 for the key's DER.)
"""

from __future__ import annotations

import hashlib
from typing import Final

from promisegrid import did, multibase, protobuf
from promisegrid.cid import Cid

LIBP2P_KEY: Final = 0x72
TEXT_MAX: Final = 128
_ECDSA: Final = 3
_P256_DER: Final = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")
"""What the uncompressed point follows."""


def key_of(name: str) -> bytes:
    """The public key of a P-256 did:key as libp2p writes it. RemoteError("bad_claims") for another text."""
    return protobuf.number(1, _ECDSA) + protobuf.run(2, _P256_DER + did.decode(name).key)


def of_key(key: bytes) -> Cid:
    """The Peer ID of a key in libp2p's form (long ones: its SHA-256)."""
    return Cid.of_digest(hashlib.sha256(key).digest(), LIBP2P_KEY)


def of_did(name: str) -> Cid:
    """The Peer ID of a node, as a CID."""
    return of_key(key_of(name))


def did_of(key: bytes) -> str:
    """The did:key of a public key in libp2p's form. ValueError when it is not one on P-256."""
    head = protobuf.number(1, _ECDSA)
    body = head + protobuf.run(2, _P256_DER + key[-65:])
    if len(key) < 65 or key != body or key[-65] != 4:
        raise ValueError("it is not a P-256 key in libp2p's form")
    name = did.encode_p256(key[-65:])
    if did.decode(name).key != key[-65:]:
        raise ValueError("it is not a point of P-256")
    return name


def text_of(peer: Cid) -> str:
    """The usual spelling: base58 of the multihash (Qm… for P-256)."""
    return multibase.base58(bytes(peer)[2:])


def read(text: str) -> Cid:
    """A Peer ID in any of its spellings. ValueError says what one looks like."""
    wrong = ValueError(f"{text[:80]!r} is not a Peer ID, which looks like 12D3Koo… or Qm… or k51…")
    if not 8 <= len(text) <= TEXT_MAX or not text.isascii():
        raise wrong
    try:
        if text.startswith(("Qm", "1")):
            return Cid.decode(b"\x01\x72" + multibase.from_base58(text))
        found = Cid.parse(text)
    except ValueError:
        raise wrong from None
    if found.codec != LIBP2P_KEY:
        raise wrong
    return found
