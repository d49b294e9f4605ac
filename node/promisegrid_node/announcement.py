"""Announcements: a signed word to a router that this node provides a root, and everything below it.

There is no standard for it. What the network once had announces Bitswap only and is withdrawn (IPIP-526); the
draft meant to follow (IPIP-378) is read and written here: a record of the schema `announcement` whose payload
is signed, in DAG-CBOR behind `routing-record:`, with the key of the Peer ID. A Peer ID of P-256 does not hold
its key, so the key stands beside the signature, as `PublicKey`, in libp2p's form.

Promises: what passes `read` and `check` was signed by the node it is about, lately, and says only where a web
server with the content is. Does not know who may announce here, nor whether the content is there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from promisegrid import dagcbor, did
from promisegrid.cid import Cid, CidError
from promisegrid.effects import Sign, Verify
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid_node import multiaddr, peerid
from promisegrid_node.providers import GATEWAY, Provider
from promisegrid_node.routers import v1

SCHEMA: Final = "announcement"
PREFIX: Final = b"routing-record:"
ADDRESSES_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Announced:
    """What a node says: a root, who it is, where. since_ms, until_ms: milliseconds since 1970."""

    root: Cid
    did: str
    provider: Provider
    since_ms: int
    until_ms: int


async def make(root: Cid, me: str, addresses: list[str], ttl_ms: int, now_ms: int) -> dict[str, Any]:
    """The record that announces a root, signed with this node's key; a verb of the kernel."""
    payload: dict[str, Any] = {
        "CID": str(v1(root)),
        "Scope": "recursive",
        "Timestamp": _stamp(now_ms),
        "TTL": ttl_ms,
        "ID": peerid.text_of(peerid.of_did(me)),
        "Addrs": addresses,
        "Protocols": [GATEWAY],
    }
    signature = await Sign(PREFIX + dagcbor.encode(payload))
    key = _base64(peerid.key_of(me))
    return {"Schema": SCHEMA, "Payload": payload, "Signature": _base64(_der(signature)), "PublicKey": key}


def read(record: object, now_ms: int, limits: Limits) -> tuple[Announced, bytes, bytes]:
    """What a record says, the bytes that were signed and the signature, not checked yet.

    RemoteError: malformed, bad_claims, expired, not_yet_valid.
    """
    if not isinstance(record, Mapping) or record.get("Schema") != SCHEMA:
        raise RemoteError("malformed", f"Only records of the schema {SCHEMA!r} are taken here.")
    payload = record.get("Payload")
    if not isinstance(payload, Mapping):
        raise RemoteError("malformed", "The announcement has no payload.")
    try:
        root = v1(Cid.parse(_text(payload, "CID")))
        peer = peerid.read(_text(payload, "ID"))
        key = _bytes(record.get("PublicKey"))
        name = peerid.did_of(key)
        signature = _raw(_bytes(record.get("Signature")))
        since_ms = _milliseconds(_text(payload, "Timestamp"))
        signed = PREFIX + dagcbor.encode(dict(payload))
    except (CidError, ValueError, RemoteError) as error:
        raise RemoteError("malformed", f"The announcement cannot be read: {error}.") from error
    if peerid.of_key(key) != peer:
        raise RemoteError("bad_claims", "The announcement is about another node than the one that signs it.")
    if since_ms > now_ms + limits.clock_skew_ms:
        raise RemoteError("not_yet_valid", "The announcement is of a time to come; set the clock.")
    ttl_ms = payload.get("TTL") or limits.announced_ms
    if not isinstance(ttl_ms, int) or isinstance(ttl_ms, bool) or ttl_ms < 0:
        raise RemoteError("malformed", "The announcement's TTL is not a number of milliseconds.")
    until_ms = since_ms + min(ttl_ms, limits.announced_max_ms)
    if until_ms <= now_ms:
        raise RemoteError("expired", "The announcement has expired; make a new one.")
    provider = Provider(peerid.text_of(peer), _addresses(payload), (GATEWAY,))
    return Announced(root, name, provider, since_ms, until_ms), signed, signature


async def check(name: str, signed: bytes, signature: bytes) -> None:
    """Whether a node signed that; a verb of the kernel. RemoteError("bad_signature")."""
    key = did.decode(name)
    if not await Verify(key.verify_as, key.key, signed, signature):
        raise RemoteError("bad_signature", "The announcement's signature does not hold.")


def _addresses(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """Those of web servers, of an announcement that says it has one."""
    given, protocols = payload.get("Addrs"), payload.get("Protocols")
    found = given[:ADDRESSES_MAX] if isinstance(given, list) else []
    kept = tuple(one for one in found if isinstance(one, str) and multiaddr.url_of(one) is not None)
    if not kept or not isinstance(protocols, list) or GATEWAY not in protocols:
        raise RemoteError("malformed", f"The announcement names no web server that speaks {GATEWAY}.")
    return kept


def _text(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str):
        raise ValueError(f"its {name} is missing")
    return value


def _bytes(text: object) -> bytes:
    """Multibase base64 without padding ("m…"), as these records have it."""
    if not isinstance(text, str) or not text.startswith("m") or len(text) > 256:
        raise ValueError("bytes are written in multibase base64, m…")
    try:
        return base64.b64decode(text[1:] + "=" * (-len(text[1:]) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error


def _base64(data: bytes) -> str:
    return "m" + base64.b64encode(data).decode().rstrip("=")


def _stamp(now_ms: int) -> str:
    whole = datetime.fromtimestamp(now_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{now_ms % 1000:03d}Z"


def _milliseconds(text: str) -> int:
    """RFC 3339 in UTC, in milliseconds since 1970; ValueError for anything else."""
    if not text.endswith("Z") or len(text) > 40:
        raise ValueError(f"{text[:40]!r} is not a time in UTC, such as 2026-01-01T00:00:00Z")
    whole, _, part = text[:-1].partition(".")
    found = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    if part and not (part.isascii() and part.isdigit()):
        raise ValueError(f"{text[:40]!r} is not a time in UTC")
    return (found - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1) + int(part[:3].ljust(3, "0"))


def _der(raw: bytes) -> bytes:
    """ECDSA's r‖s as libp2p has it: ASN.1's SEQUENCE of two INTEGERs."""
    body = b"".join(_integer(raw[at : at + 32]) for at in (0, 32))
    return b"\x30" + bytes([len(body)]) + body


def _integer(data: bytes) -> bytes:
    number = int.from_bytes(data, "big")
    value = number.to_bytes(number.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(value)]) + value


def _raw(der: bytes) -> bytes:
    """The other way round, of its one spelling. ValueError for any other bytes."""
    numbers, at = list[int](), 2
    for _ in range(2):
        size = der[at + 1] if len(der) > at + 1 else 0
        numbers.append(int.from_bytes(der[at + 2 : at + 2 + size], "big"))
        at += 2 + size
    if any(number.bit_length() > 256 for number in numbers):
        raise ValueError("a signature of another curve")
    raw = b"".join(number.to_bytes(32, "big") for number in numbers)
    if _der(raw) != der:
        raise ValueError("the signature is not one of ECDSA")
    return raw
