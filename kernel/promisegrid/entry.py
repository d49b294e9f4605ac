"""Entries of topics: what somebody said to whoever listens, signed.

An entry is a tagged COSE_Sign1 (typ `grid-entry`, attached) over dag-cbor `{grid, topic, by, at, nonce,
body}`; its name is the raw CID of its bytes. `at` is milliseconds since 1970 by its author's clock. An entry
says that `by` said it in that grid; whether he may is for the reader to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.errors import LocalError, RemoteError
from promisegrid.reconcile import key_of

ENTRY_MAX: Final = 16 * 1024
TOPIC_MAX: Final = 256
NONCE_BYTES: Final = 8
_FIELDS: Final = frozenset({"grid", "topic", "by", "at", "nonce", "body"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as read. cid: its name; data: its exact bytes; at: milliseconds since 1970."""

    cid: Cid
    data: bytes
    grid: Cid
    topic: str
    by: str
    at: int
    body: object

    @property
    def key(self) -> bytes:
        """Its place among the entries of its topic."""
        return key_of(self.at, self.cid.digest)

    def plain(self) -> dict[str, Any]:
        """For a person."""
        return {"entry": str(self.cid), "topic": self.topic, "by": self.by, "at": self.at, "body": self.body}


def check_topic(topic: str) -> str:
    """The name of a topic. LocalError when it cannot be one."""
    if not is_topic(topic):
        text = f"A topic's name is 1 to {TOPIC_MAX} bytes of printable text, not {topic[:40]!r}."
        raise LocalError(text, "bad_args")
    return topic


def is_topic(value: object) -> bool:
    """Whether a value can be the name of a topic."""
    if not isinstance(value, str) or not value.isprintable():
        return False
    return 0 < len(value.encode(errors="replace")) <= TOPIC_MAX


async def seal(grid: Cid, topic: str, by: str, at_ms: int, nonce: bytes, body: object) -> Entry:
    """Sign an entry with this node's key. LocalError for a body that cannot be written or is too large."""
    try:
        said = {"grid": grid, "topic": topic, "by": by, "at": at_ms, "nonce": nonce, "body": body}
        payload = dagcbor.encode(said)
    except ValueError as error:
        raise LocalError(f"This cannot be published: {error}.", "bad_args") from error
    data = await cose.sign("grid-entry", payload, detached=False)
    if len(data) > ENTRY_MAX:
        text = f"An entry of {len(data)} bytes; at most {ENTRY_MAX}: store the content, and publish its CID."
        raise LocalError(text, "too_large")
    return Entry(Block.of(data).cid, data, grid, topic, by, at_ms, body)


def read(data: bytes) -> tuple[Entry, cose.Sign1]:
    """An entry as claimed; nothing is verified. RemoteError("malformed")."""
    if len(data) > ENTRY_MAX:
        raise RemoteError("malformed", f"An entry of {len(data)} bytes; at most {ENTRY_MAX}.")
    sign1 = cose.read(data, "grid-entry")
    try:
        value = dagcbor.decode(sign1.payload or b"")
    except ValueError as error:
        raise RemoteError("malformed", f"Not an entry: {error}.") from error
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise RemoteError("malformed", "Not an entry: its fields are " + ", ".join(sorted(_FIELDS)) + ".")
    by, at, nonce = value["by"], value["at"], value["nonce"]
    if (
        not isinstance(value["grid"], Cid)
        or not is_topic(value["topic"])
        or not isinstance(by, str)
        or not 0 < len(by) <= DID_MAX
        or type(at) is not int
        or not 0 <= at < 1 << 53
        or not isinstance(nonce, bytes)
        or len(nonce) != NONCE_BYTES
    ):
        raise RemoteError("malformed", "Not an entry: a field is of the wrong kind.")
    return Entry(Cid.of(data), data, value["grid"], value["topic"], by, at, value["body"]), sign1


async def verify(data: bytes) -> Entry:
    """The entry, signed by who it says. RemoteError: malformed, bad_signature, bad_claims."""
    return await proved(*read(data))


async def proved(entry: Entry, sign1: cose.Sign1) -> Entry:
    """The entry as it was read, signed by who it says. RemoteError: bad_signature, bad_claims."""
    if not await cose.holds(sign1, sign1.payload or b"", entry.by):
        raise RemoteError("bad_signature", f"{entry.by} did not sign this entry.")
    return entry
