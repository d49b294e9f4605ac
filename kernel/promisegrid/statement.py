"""Statements: what became of a promise, signed by who says so.

A statement is a COSE_Sign1 (typ `grid-statement`) over dag-cbor `{about, state, by, at, receipt?, result?,
reason?}`; its name is the raw CID of its bytes. `about` is the promise, or for a deferred call the name of
the message (state "deferred") and afterwards that of this first statement (states "kept" and "broken").
A statement only says that `by` said it. Whose word counts is for the reader to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.errors import RemoteError

Said = Literal["kept", "deferred", "broken", "revoked"]
STATES: Final[tuple[Said, ...]] = ("kept", "deferred", "broken", "revoked")
STATEMENT_MAX: Final = 8 * 1024
REASON_MAX: Final = 1024
_OPTIONAL: Final = ("receipt", "result", "reason")


@dataclass(frozen=True, slots=True)
class Statement:
    """What `by` (did:key) says about a promise or call, at a time in seconds since 1970."""

    about: Cid
    state: Said
    by: str
    at: int
    receipt: Cid | None = None
    result: Cid | None = None
    reason: str | None = None

    def payload(self) -> bytes:
        """The bytes that are signed; what is not said is left out."""
        value: dict[str, Any] = {"about": self.about, "state": self.state, "by": self.by, "at": self.at}
        said = ((name, getattr(self, name)) for name in _OPTIONAL)
        value.update({name: what for name, what in said if what is not None})
        return dagcbor.encode(value)


async def seal(statement: Statement) -> Block:
    """Sign a statement with this node's key."""
    data = await cose.sign("grid-statement", statement.payload(), detached=False)
    return Block(Cid.of(data), data)


def read(data: bytes) -> tuple[Statement, cose.Sign1]:
    """A statement as claimed; nothing is verified. RemoteError("malformed")."""
    if len(data) > STATEMENT_MAX:
        raise RemoteError("malformed", f"A statement of {len(data)} bytes; at most {STATEMENT_MAX}.")
    sign1 = cose.read(data, "grid-statement")
    try:
        value = dagcbor.decode(sign1.payload or b"")
    except ValueError as error:
        raise RemoteError("malformed", f"Not a statement: {error}.") from error
    if not isinstance(value, dict) or set(value) - set(_OPTIONAL) != {"about", "state", "by", "at"}:
        raise RemoteError("malformed", "Not a statement: it holds about, state, by and at.")
    by, at, reason = value["by"], value["at"], value.get("reason", "")
    links = [value[name] for name in ("about", "receipt", "result") if name in value]
    if (
        not all(isinstance(link, Cid) for link in links)
        or value["state"] not in STATES
        or not isinstance(by, str)
        or not 0 < len(by) <= DID_MAX
        or type(at) is not int
        or not 0 <= at < 1 << 53
        or not isinstance(reason, str)
        or len(reason) > REASON_MAX
    ):
        raise RemoteError("malformed", "Not a statement: a field is of the wrong kind.")
    return Statement(**value), sign1


async def verify(data: bytes) -> Statement:
    """The statement, signed by who it says. RemoteError: malformed, bad_signature, bad_claims."""
    said, sign1 = read(data)
    if not await cose.holds(sign1, sign1.payload or b"", said.by):
        raise RemoteError("bad_signature", f"{said.by} did not sign this statement.")
    return said
