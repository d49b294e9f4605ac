"""Membership: the promise that a key belongs to the grid, from its founder, passed on; and invitations.

A membership is a chain of capabilities (`capability.py`) for the ability "member". The first is the
founder's; whoever's own may be passed on, an *admitter*, admits others. Anyone who holds the genesis block
can check a chain without a network, so a grid outlives its founder. A backup key is an admitter the founder
named, for the longest time and the most delegations. A membership says nothing else: one with a budget, a
policy or uses is none.

An invitation is a secret of 16 bytes. The admitter who made it keeps its hash, how often it may still be used
and until when.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

from promisegrid import capability, dagcbor
from promisegrid.capability import CHAIN_MAX, Grant, Verdicts
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.terms import MEMBER, Terms

INVITATION_BYTES: Final = 16
LIFE_S: Final = 2 * 365 * 24 * 3600
"""How long a membership lasts; an admitter renews it when the member connects in its second half."""
BACKUP_S: Final = 20 * 365 * 24 * 3600
"""How long a backup key's lasts: nobody may be there to renew it."""
BACKUP_DELEGATE: Final = CHAIN_MAX - 1


@dataclass(frozen=True, slots=True)
class Membership:
    """A verified membership: whose, until when (seconds since 1970), and the bytes that prove it."""

    member: str
    until: int
    proof: bytes
    grant: Grant

    @property
    def delegate(self) -> int:
        """How far it may be passed on; from 1 on its member may admit others."""
        return self.grant.delegate

    def renewable(self, now_ms: int) -> bool:
        """Whether it is time to promise anew."""
        return self.until - now_ms // 1000 < LIFE_S // 2

    def is_better_than(self, other: Membership | None, now_ms: int) -> bool:
        """Whether to keep this one instead: it may be passed on further, or as far and for longer.

        While the other has long to go, nobody may take back this one who could not take back that one: what
        looks like a gift would be a way to put a member out.
        """
        if other is None or other.until * 1000 < now_ms:
            return True
        issuers = {one.issuer for one in other.grant.chain}
        if not other.renewable(now_ms) and not {one.issuer for one in self.grant.chain} <= issuers:
            return False
        return (self.delegate, self.until) > (other.delegate, other.until)


async def promise(
    grid: Cid, me: str, own: Membership | None, member: str, cti: bytes, now_ms: int, limits: Limits,
    life_s: int = LIFE_S, delegate: int = 0,
) -> Membership:  # fmt: skip
    """Make and sign a membership with this node's key; `own`: its own membership, None for the founder.

    RemoteError("widened") when it is not this node's to give.
    """
    now = now_ms // 1000
    until = now + life_s if own is None else min(now + life_s, own.until)
    over = None if own is None else own.grant
    terms = Terms(("ability", MEMBER), delegate=delegate)
    made = await capability.promise(terms, grid, me, member, (now, None, until), cti, limits, over)
    return of(capability.alone(made) if over is None else capability.extend(over, made))


def of(grant: Grant) -> Membership:
    """The membership a chain gives. RemoteError("bad_capability") when it says anything else."""
    _only_membership(grant)
    return Membership(grant.holder, grant.until, capability.pack([one.raw for one in grant.chain]), grant)


async def verify(
    proof: bytes, grid: Cid, founder: str, member: str, now_ms: int, limits: Limits,
    verdicts: Verdicts | None = None, revoked: Container[Cid] = (),
) -> Membership:  # fmt: skip
    """Check a membership that `member` presents. RemoteError("not_member") says what is wrong with it."""
    try:
        grant = capability.check(capability.unpack(proof), grid, member, now_ms, limits, founder)
        mine = of(grant)
        for one in grant.chain:
            if one.name in revoked:
                raise RemoteError("revoked", f"The membership of {one.holder} was taken back.")
        await (verdicts or Verdicts(limits)).check(grant.chain)
    except RemoteError as error:
        text = f"The membership does not hold: {error.text} Ask a member who may admit for a new one."
        raise RemoteError("not_member", text) from error
    return mine


def _only_membership(grant: Grant) -> None:
    plain = grant.func is None and not grant.policy and not grant.uses and grant.budget == Budget()
    if grant.what != ("ability", MEMBER) or grant.later or not plain:
        raise RemoteError("bad_capability", "It does not promise membership, and nothing else.")


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open invitation as the admitter keeps it; times in seconds since 1970."""

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
