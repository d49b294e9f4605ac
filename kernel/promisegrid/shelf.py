"""The promises a node knows, and the numbers that bound them, kept as they come and go.

Peers may tell many promises in one message, so how many there are of one side, or whether any rests on a
given one, must not take a walk through all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from promisegrid import capability, dagcbor
from promisegrid.capability import Grant
from promisegrid.cid import Cid
from promisegrid.deferral import Wait
from promisegrid.limits import Limits
from promisegrid.statement import Statement


@dataclass(frozen=True, slots=True)
class Known:
    """A promise this node knows of, with all it rests on, since when (seconds)."""

    grant: Grant
    at: int

    def record(self) -> bytes:
        """What is stored."""
        return dagcbor.encode({"at": self.at, "chain": [one.raw for one in self.grant.chain]})


@dataclass(frozen=True, slots=True)
class Gone:
    """A promise that was revoked: the statement that says so, and the chain that shows who may say it.

    first: whom the first promise of the chain was made to.
    """

    said: Statement
    data: bytes
    chain: tuple[bytes, ...]
    until: int
    holder: str
    first: str
    of_member: bool


@dataclass(slots=True)
class Uses:
    """How often a promise was used: by messages that may come again, by name; and by others, a number."""

    folded: int = 0
    names: dict[Cid, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """In all."""
        return self.folded + len(self.names)


class Shelf(dict[Cid, Known]):
    """Known promises by name; add with `put`, remove with `drop`. `me` is this node's did:key."""

    def __init__(self, me: str) -> None:
        super().__init__()
        self._me = me
        self._count: dict[object, int] = {}

    def put(self, known: Known) -> None:
        """Add one promise."""
        if known.grant.name not in self:
            self[known.grant.name] = known
            for key in self._keys(known.grant):
                self._count[key] = self._count.get(key, 0) + 1

    def drop(self, name: Cid) -> None:
        """Remove one promise."""
        for key in self._keys(self.pop(name).grant):
            self._count[key] -= 1
            if not self._count[key]:
                del self._count[key]

    def clear(self) -> None:
        """Remove all."""
        super().clear()
        self._count.clear()

    def rests_on(self, name: Cid) -> bool:
        """Whether a promise known here is this one, or rests on it."""
        return name in self._count

    def ours(self, first: str | None = None) -> int:
        """How many this node keeps; of those, whose chains begin with a promise to `first`."""
        return self._count.get(("ours", first), 0)

    def theirs(self, issuer: str | None = None) -> int:
        """How many others keep; of those, in whose chains `issuer` promised something."""
        return self._count.get(("theirs", issuer), 0)

    def _keys(self, grant: Grant) -> Iterator[object]:
        yield from (one.name for one in grant.chain)
        if grant.root == self._me:
            yield from (("ours", None), ("ours", grant.chain[0].holder))
        else:
            yield ("theirs", None)
            yield from {("theirs", one.issuer) for one in grant.chain}


class Impressions:
    """What a holder saw of the promises made to it since it started; the issuer's count is what holds."""

    def __init__(self) -> None:
        self.times: dict[Cid, int] = {}
        self.broken: set[Cid] = set()
        """Those whose latest call was broken."""

    def count(self, grant: Grant) -> None:
        """One more use, of all that a promise rests on."""
        for one in grant.chain:
            self.times[one.name] = self.times.get(one.name, 0) + 1
            self.broken.discard(one.name)

    def came(self, wait: Wait | None, state: str) -> None:
        """What was awaited has come: the call was kept, or broken."""
        if wait is not None and state == "broken":
            self.broken.add(wait.promise)

    def drop(self, name: Cid) -> None:
        """Forget one promise."""
        self.times.pop(name, None)
        self.broken.discard(name)

    def clear(self) -> None:
        """Forget all."""
        self.times.clear()
        self.broken.clear()


def checked(chain: Iterable[bytes], limits: Limits) -> Grant:
    """A chain from the store: it was checked before it was written."""
    first, *rest = [capability.read(raw, limits) for raw in chain]
    grant = capability.alone(first)
    for one in rest:
        grant = capability.extend(grant, one)
    return grant
