"""What one node knows and has decided, shared by the kernel's parts. Data only; the steps are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from promisegrid.capability import Verdicts
from promisegrid.cid import Cid
from promisegrid.entropy import Entropy
from promisegrid.genesis import Genesis
from promisegrid.limits import Limits
from promisegrid.membership import Membership
from promisegrid.receipt import TrustPolicy
from promisegrid.strand import Scheduler, Slots
from promisegrid.traffic import Totals

if TYPE_CHECKING:
    from promisegrid.link import Link


_NEARNESS: Final = {"unix": 0, "relay": 2}
"""Which of several links to one peer is used: the lower, the sooner."""


@dataclass(frozen=True, slots=True)
class Identity:
    """This node's name and the key in it (65 bytes, uncompressed P-256). The private half is the host's."""

    did: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Serving:
    """The owner's promise to run programs for others: at most so many at once, so much memory each."""

    cpu: int
    memory_bytes: int


_BROWSERS: Final = ("Chromium/", "Edge/", "Firefox/", "Safari/", "browser")
_MARK: Final = "+webrtc"


def may_make_channels(engine: str) -> bool:
    """Whether a peer's host may be able to make data channels. A hint only: whoever is not refuses."""
    return engine.startswith(_BROWSERS) or engine.endswith(_MARK)


@dataclass(slots=True)
class State:
    """Mutable, owned by one kernel. grid, genesis and membership are None until the node is in a grid."""

    me: str
    engine: str
    wasi: Cid | None
    limits: Limits
    scheduler: Scheduler
    entropy: Entropy
    admissions: Slots
    grid: Cid | None = None
    genesis: Genesis | None = None
    genesis_data: bytes | None = None
    membership: Membership | None = None
    trust: TrustPolicy = field(default_factory=TrustPolicy)
    serving: Serving | None = None
    open_mode: bool = False
    makes_channels: bool = False
    links: dict[int, Link] = field(default_factory=dict)
    revoked: set[Cid] = field(default_factory=set)
    dismissed: set[str] = field(default_factory=set)
    banned: set[str] = field(default_factory=set)
    left: set[Cid] = field(default_factory=set)
    """Grids this node left since it was started: what still dials them does not bring it back."""
    totals: Totals = field(default_factory=Totals)
    verdicts: Verdicts = field(init=False)

    def __post_init__(self) -> None:
        self.verdicts = Verdicts(self.limits)

    @property
    def now_ms(self) -> int:
        """The host's clock at the current entry, milliseconds since 1970."""
        return self.scheduler.now_ms

    @property
    def steady_ms(self) -> int:
        """The clock for how long something takes; see `Scheduler`."""
        return self.scheduler.steady_ms

    @property
    def engine_told(self) -> str:
        """The engine as peers are told: marked where its name does not show that this host makes channels."""
        is_shown = not self.makes_channels or may_make_channels(self.engine)
        return self.engine if is_shown else self.engine + _MARK

    @property
    def may_admit(self) -> bool:
        """Whether this node may admit members: the founder's, or one whose membership may be passed on."""
        own = self.membership
        if own is None:
            return self.is_founder
        return own.delegate > 0 and own.until * 1000 > self.now_ms and not self.is_revoked(own)

    def is_revoked(self, member: Membership) -> bool:
        """Whether this node has heard that a membership, or one it rests on, was taken back."""
        return any(one.name in self.revoked for one in member.grant.chain)

    def bars(self, did: str, member: Membership | None) -> bool:
        """Whether a key is banned here, or a member on a banned one's word; the founder's is everybody's.

        Whom this node admitted is a member on its own word, whoever admitted this node.
        """
        if not self.banned or did in self.banned:
            return did in self.banned
        founder = None if self.genesis is None else self.genesis.founder
        for one in () if member is None else reversed(member.grant.chain):
            if one.issuer in (self.me, founder):
                return False
            if one.issuer in self.banned:
                return True
        return False

    @property
    def is_founder(self) -> bool:
        """Whether this node's key founded the grid, and so may admit."""
        return self.genesis is not None and self.genesis.founder == self.me

    def open_links(self) -> list[Link]:
        """Links to peers that proved who they are and that they belong to the grid."""
        return [link for link in self.links.values() if link.is_open]

    def link_to(self, did: str) -> Link | None:
        """The open link to a peer, if there is one; rather a direct one than one through others."""
        found = [link for link in self.open_links() if link.did == did]
        return min(found, key=lambda link: _NEARNESS.get(link.via, 1)) if found else None
