"""Membership: the founder's promise that a key belongs to the grid, and invitations to ask for it.

A membership is a capability: a CWT in COSE_Sign1 (typ `grid-capability`) from the founder, for one key
(`cnf`, RFC 8747), with the body `{ability: "member", grid}`. Anyone who holds the genesis block can check
it without a network. This is the seam where capability promises will go: `Membership` is what the rest of
the kernel sees, however it was delegated.

An invitation is a secret of 16 bytes. The founder keeps its hash, how often it may still be used and until
when.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from promisegrid import claims, cose, dagcbor
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

INVITATION_BYTES: Final = 16
LIFE_S: Final = 2 * 365 * 24 * 3600
"""How long a membership lasts; the founder renews it when the member connects in its second half."""


@dataclass(frozen=True, slots=True)
class Membership:
    """A verified membership: whose, until when (seconds since 1970), and the bytes that prove it."""

    member: str
    until: int
    proof: bytes

    def renewable(self, now_ms: int) -> bool:
        """Whether it is time for the founder to promise anew."""
        return self.until - now_ms // 1000 < LIFE_S // 2


async def promise(grid: Cid, founder: str, member: str, cti: bytes, now_ms: int) -> Membership:
    """Make and sign a membership with the founder's key, this node's own."""
    now = now_ms // 1000
    until = now + LIFE_S
    body = {"ability": "member", "grid": grid}
    content = claims.Claims(
        iss=founder,
        aud=member,
        exp=until,
        cti=cti,
        iat=now,
        body=body,
        extra={claims.CNF: {3: member.encode()}},
    )
    return Membership(member, until, await cose.sign("grid-capability", content.encode(), detached=False))


async def verify(
    proof: bytes, grid: Cid, founder: str, member: str, now_ms: int, limits: Limits
) -> Membership:
    """Check a membership that `member` presents. RemoteError("not_member") says what is wrong with it."""
    try:
        sign1 = cose.read(proof, "grid-capability")
        content = claims.decode(sign1.payload or b"", limits)
    except RemoteError as error:
        raise RemoteError("not_member", f"The membership cannot be read: {error.text}") from error
    body = content.body
    if content.iss != founder or content.aud != member:
        raise RemoteError("not_member", "The membership was promised by or to somebody else.")
    if not isinstance(body, dict) or body.get("ability") != "member" or body.get("grid") != grid:
        raise RemoteError("not_member", "The capability does not promise membership of this grid.")
    if content.extra.get(claims.CNF) != {3: member.encode()}:
        raise RemoteError("not_member", "The membership is not bound to the key that presents it.")
    if content.exp * 1000 + limits.clock_skew_ms < now_ms:
        raise RemoteError("not_member", "The membership has expired; ask the founder for a new one.")
    if not await cose.holds(sign1, sign1.payload or b"", founder):
        raise RemoteError("not_member", "The founder did not sign this membership.")
    return Membership(member, content.exp, proof)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open invitation as the founder keeps it; times in seconds since 1970."""

    uses: int
    until: int

    def record(self) -> bytes:
        """What is stored under `key`."""
        return dagcbor.encode({"uses": self.uses, "until": self.until})


def invitation_key(secret: bytes) -> bytes:
    """Where an invitation is stored: by its hash, so that a copy of the store invites nobody."""
    return b"invitation/" + hashlib.sha256(secret).digest()


def read_invitation(record: bytes) -> Invitation:
    """An invitation from the store."""
    value = dagcbor.decode(record)
    return Invitation(value["uses"], value["until"])
