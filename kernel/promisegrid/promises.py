"""The owner's verbs about promises: grant, delegate, accept, revoke, and what is known of them.

Whatever is promised or said here is durable before the verb returns, and told to whom it concerns when they
are connected, or when they next are. Keeping, breaking and awaiting are `keeping.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promisegrid import capability, did, listing, membership, statement
from promisegrid.caller import Caller
from promisegrid.capability import Grant
from promisegrid.cid import Cid, CidError
from promisegrid.effects import Budget, Commit, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.handshake import admit
from promisegrid.keeping import TELL_MS, Keeper, reason_of
from promisegrid.ledger import Ledger
from promisegrid.link import Link
from promisegrid.policy import PolicyError
from promisegrid.policy import read as read_policy
from promisegrid.protocols import STORE
from promisegrid.protocols.promise import ITEMS_MAX, PROMISE
from promisegrid.runner import Runner
from promisegrid.shelf import Known
from promisegrid.state import State
from promisegrid.statement import Statement
from promisegrid.task import Deferred, RunResult, Task
from promisegrid.terms import ABILITIES, MEMBER, Terms, What

_DAY_S: Final = 86_400
_DAYS_MAX: Final = 36_500
_UNBOUNDED: Final = Budget()
_BATCH: Final = 16
"""Items told in one message: eight long tokens each still fit."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A promise that was made: its name, the bytes to hand over (a chain), whether the holder has it."""

    promise: Cid
    token: bytes
    delivered: bool


class Promises(Keeper):
    """All of the owner's verbs about promises; `Keeper` has those about calls that are kept later."""

    def __init__(self, state: State, ledger: Ledger, caller: Caller, runner: Runner) -> None:
        super().__init__(state, ledger, caller, runner)
        self._spent: set[Cid] = set()

    # -- giving --------------------------------------------------------------------------------------

    async def grant(
        self,
        holder: str,
        what: Mapping[str, str | Cid],
        *,
        func: str | None = None,
        policy: Sequence[object] = (),
        budget: Budget = _UNBOUNDED,
        uses: int | None = None,
        days: int = 7,
        not_before: int | None = None,
        delegate: int = 0,
        later: bool = False,
    ) -> Granted:
        """Promise `holder` (did:key) something of this node's own: {"ability"}, {"code"} or {"protocol"}.

        LocalError when it cannot be promised.
        """
        if dict(what) == {"ability": MEMBER}:
            return await self._member(holder, _days(days) * _DAY_S, delegate)
        terms = _terms(_what(what), func, policy, budget, uses, delegate, later or None)
        now = self._state.now_ms // 1000
        return await self._give(terms, holder, (now, not_before, now + _days(days) * _DAY_S), None)

    async def delegate(
        self,
        parent: Cid,
        holder: str,
        *,
        what: Mapping[str, str | Cid] | None = None,
        func: str | None = None,
        policy: Sequence[object] = (),
        budget: Budget = _UNBOUNDED,
        uses: int | None = None,
        days: int | None = None,
        not_before: int | None = None,
        delegate: int = 0,
        later: bool = False,
    ) -> Granted:
        """Pass a promise this node holds on to another, the same or narrower. LocalError: widened, others."""
        grant = self._known(parent).grant
        if grant.holder != self._state.me:
            raise LocalError(f"{parent} was promised to {grant.holder}; only its holder may pass it on.")
        terms = _terms(
            grant.what if what is None else _what(what), func, policy, budget, uses, delegate, later or None
        )
        now = self._state.now_ms // 1000
        until = grant.until if days is None else now + _days(days) * _DAY_S
        return await self._give(terms, holder, (now, not_before, until), grant)

    async def backup(self, holder: str) -> Granted:
        """Name another key of the founder's: it may admit members, and name others, when this one is lost."""
        if not self._state.is_founder:
            raise LocalError("Only the founder's node can name a backup key; run this there.")
        return await self._member(holder, membership.BACKUP_S, membership.BACKUP_DELEGATE)

    async def accept(self, token: bytes) -> Cid:
        """Take a promise that came by other ways. RemoteError says what is wrong with it."""
        chain = capability.unpack(token)
        before, writes = self._state.membership, await self.protocol.offered(None, chain)
        try:
            await self._ledger.commit(writes)
        except RemoteError:
            self.protocol.untaken(writes, before)
            raise
        return Cid.of(chain[-1])

    async def _give(
        self, terms: Terms, holder: str, times: tuple[int, int | None, int], parent: Grant | None
    ) -> Granted:
        state = self._state
        if state.grid is None:
            raise LocalError("This node is in no grid yet; join or found one first.")
        self._check_holder(holder)
        try:
            made = await capability.promise(
                terms, state.grid, state.me, holder, times, state.entropy.take(16), state.limits, parent
            )
            grant = capability.alone(made) if parent is None else capability.extend(parent, made)
            self._ledger.room(grant)
        except RemoteError as wrong:
            raise LocalError(wrong.text, wrong.code) from wrong
        await self._ledger.commit((*self._ledger.note(grant), _block(made.raw)))
        return await self._handed_over(grant)

    async def _member(self, holder: str, life_s: int, delegate: int) -> Granted:
        self._check_holder(holder)
        try:
            made = await admit(self._state, holder, life_s, delegate)
        except RemoteError as wrong:
            raise LocalError(wrong.text, wrong.code) from wrong
        await self._ledger.commit((*self._ledger.note(made.grant), _block(made.grant.chain[-1].raw)))
        return await self._handed_over(made.grant)

    async def _handed_over(self, grant: Grant) -> Granted:
        self.protocol.tell("granted", str(grant.name), grant.holder)
        chain = [one.raw for one in grant.chain]
        delivered = await self.tell(grant.holder, [{"chain": chain}])
        return Granted(grant.name, capability.pack(chain), delivered)

    def _check_holder(self, holder: str) -> None:
        try:
            did.decode(holder)
        except RemoteError as wrong:
            raise LocalError(wrong.text, "bad_args") from wrong
        if holder == self._state.me:
            raise LocalError(f"{holder} is this node itself; a promise is made to another.", "bad_args")

    # -- taking back ---------------------------------------------------------------------------------

    async def revoke(self, name: Cid, reason: str = "") -> Cid:
        """Take back a promise this node made, or one that rests on it; the CID of the statement.

        Where another node keeps the promise, that node is asked as well. LocalError when it is not ours.
        """
        grant, state = self._known(name).grant, self._state
        if state.me not in [one.issuer for one in grant.chain]:
            raise LocalError(f"{name} was not promised by this node, nor on its word.", "not_permitted")
        if name in self._ledger.gone:
            await Commit(self._ledger.unwritten(name))
            self._ledger.written(name)
            return Cid.of(self._ledger.gone[name].data)
        said = Statement(name, "revoked", state.me, state.now_ms // 1000, reason=reason_of(reason))
        block = await statement.seal(said)
        await Commit(self._ledger.revoke(said, block, grant))
        self._ledger.written(name)
        self.protocol.tell("revoked", str(name), grant.holder)
        await self._spread(grant, block.data, reason)
        return block.cid

    async def dismiss(self, member: str, reason: str = "") -> list[Cid]:
        """Take back every membership this node gave to a did:key, connected or not; the statements' CIDs."""
        (proof,) = await Load("grid", (b"member/" + member.encode(),))
        if proof is not None:
            await self._ledger.commit(self._ledger.note(self.protocol.chain(capability.unpack(proof))))
        given = [
            known.grant.name
            for known in self._ledger.known.values()
            if known.grant.holder == member
            and known.grant.what == ("ability", MEMBER)
            and self._state.me in [one.issuer for one in known.grant.chain]
            and not self._ledger.is_revoked(known.grant.name)
        ]
        if not given:
            text = f"{member} was not admitted here; `promisegrid members` lists who was."
            raise LocalError(text, "not_found")
        return [await self.revoke(name, reason) for name in given]

    async def _spread(self, grant: Grant, data: bytes, reason: str) -> None:
        """Tell whom a revocation concerns, as far as they are connected."""
        chain = [one.raw for one in grant.chain]
        item = {"chain": chain, "statement": data}
        of_grid = grant.what == ("ability", MEMBER)
        known = [one.grant for one in self._ledger.known.values()]
        concerned = {other.holder for other in known if _rests(other, grant)}
        if of_grid:
            concerned = {link.did for link in self._state.open_links()}
        elif grant.root != self._state.me:
            await self._ask_keeper(grant.root, tuple(chain), reason)
        for peer in concerned - {self._state.me}:
            await self.tell(peer, [item])
        self.fall_back()
        self.close_revoked()

    async def _ask_keeper(self, root: str, chain: tuple[bytes, ...], reason: str) -> None:
        """Have the node that keeps a promise take it back; one that is away is asked when it is back."""
        if self._state.link_to(root) is not None:
            try:
                await self._caller.ask(root, PROMISE, "revoke", (reason,), TELL_MS, chain)
            except RemoteError as wrong:
                if wrong.code == "cancelled":
                    raise

    # -- presenting ----------------------------------------------------------------------------------

    def presentable(self, on: str, task: Task, names: tuple[Cid, ...] | None) -> Grant | None:
        """The promise by `on` to present with a task; `names` as `Kernel.run`'s proofs.

        LocalError when the one that is named cannot be presented there.
        """
        if names is not None:
            return self._named(on, names[0]) if names else None
        me, now = self._state.me, self._state.now_ms // 1000
        fitting = [
            known.grant
            for known in self._ledger.known.values()
            if known.grant.root == on
            and known.grant.holder == me
            and known.grant.starts <= now < known.grant.until
            and known.grant.lacks(task.code, task.func, task.args) is None
            and known.grant.name not in self._spent
            and self._ledger.state_of(known.grant) not in ("revoked", "used up")
        ]
        return min(fitting, key=lambda grant: (grant.later, len(grant.uses), -grant.until), default=None)

    def is_spent(self, grant: Grant, refusal: str) -> bool:
        """Whether a refusal says that a promise is over; it is not presented again by itself then."""
        if refusal in ("used_up", "revoked", "expired"):
            self._spent.add(grant.name)
        return grant.name in self._spent

    def _named(self, on: str, name: Cid) -> Grant:
        grant = self._known(name).grant
        if grant.holder != self._state.me:
            raise LocalError(f"{name} was promised to {grant.holder}, not to this node.", "not_holder")
        if grant.root != on:
            raise LocalError(f"{name} is kept by {grant.root}; run it there.", "not_my_promise")
        return grant

    async def used(self, grant: Grant, done: RunResult | Deferred, task: Task) -> None:
        """A promise was presented and honoured, or is to be kept later."""
        self._ledger.count(grant)
        if isinstance(done, Deferred):
            await self.deferred(done, task)

    # -- links ---------------------------------------------------------------------------------------

    async def opened(self, link: Link) -> None:
        """A peer is in: it is told what it was promised here, and what was taken back while it was away."""
        self.fall_back()
        self.close_revoked()
        await self._note_member(link)
        items: list[dict[str, Any]] = []
        for known in self._ledger.known.values():
            grant = known.grant
            mine = grant.holder == link.did and self._state.me in [one.issuer for one in grant.chain]
            shown = link.membership is not None and link.membership.grant.name == grant.name
            if mine and not shown and self._ledger.state_of(grant) not in ("expired", "revoked"):
                items.append({"chain": [one.raw for one in grant.chain]})
        gone = [gone for gone in self._ledger.gone.values() if gone.until * 1000 > self._state.now_ms]
        told = [
            {"chain": list(one.chain), "statement": one.data}
            for one in gone
            if one.of_member or one.holder == link.did
        ]
        items = items[-ITEMS_MAX:] + told[-self._state.limits.revocations_told :]
        for at in range(0, len(items), _BATCH):
            await self.tell(link.did, items[at : at + _BATCH])
        ours = [one for one in gone if one.said.by == self._state.me and not one.of_member]
        for one in ours[-self._state.limits.revocations_told :]:
            if capability.read(one.chain[0], self._state.limits).issuer == link.did:
                await self._ask_keeper(link.did, one.chain, one.said.reason or "")

    async def _note_member(self, link: Link) -> None:
        """A membership this node gave is one of its promises, listed and revoked like any other."""
        grant = None if link.membership is None else link.membership.grant
        if grant is None or self._state.me not in [one.issuer for one in grant.chain]:
            return
        try:
            self._ledger.room(grant)
        except RemoteError:
            return
        if writes := self._ledger.note(grant):
            await self._ledger.commit(writes)

    # -- looking -------------------------------------------------------------------------------------

    async def ls(self) -> list[dict[str, Any]]:
        """Every promise this node gave, holds or was shown, as `show` tells them."""
        return [listing.promise(self._ledger, known, self._state.me) for known in self._ledger.known.values()]

    async def show(self, name: Cid) -> dict[str, Any]:
        """One promise: as in `ls`, and "chain" (root first), "statements" about it, "token" (bytes)."""
        known = self._known(name)
        chain = [
            listing.promise(self._ledger, Known(step, known.at), self._state.me)
            for step in known.grant.steps()
        ]
        statements = [said for said in await self.history(_BATCH * ITEMS_MAX) if said["about"] == str(name)]
        token = capability.pack([one.raw for one in known.grant.chain])
        told = listing.promise(self._ledger, known, self._state.me)
        return {**told, "chain": chain, "statements": statements, "token": token}

    async def graph(self) -> dict[str, list[dict[str, Any]]]:
        """Who promised what to whom: {"nodes": [{"did", "me"}], "edges": as `ls`}."""
        edges = await self.ls()
        dids = dict.fromkeys([self._state.me, *(edge[end] for edge in edges for end in ("issuer", "holder"))])
        return {"nodes": [{"did": one, "me": one == self._state.me} for one in dids], "edges": edges}

    async def history(self, limit: int = 50) -> list[dict[str, Any]]:
        """The latest statements made and heard here, newest first."""
        names = [name for _, name in self._ledger.said[::-1][: max(0, limit)]]
        blocks = await Load("blocks", tuple(bytes(name) for name in names))
        found = zip(names, blocks, strict=True)
        return [listing.statement(name, data) for name, data in found if data is not None]

    def _known(self, name: Cid) -> Known:
        known = self._ledger.known.get(name)
        if known is None:
            text = f"This node knows no promise {name}; `promisegrid cap ls` lists those it knows."
            raise LocalError(text, "not_found")
        return known

def _rests(grant: Grant, on: Grant) -> bool:
    return any(one.name == on.name for one in grant.chain)


def _block(raw: bytes) -> Write:
    return Write("blocks", bytes(Cid.of(raw)), raw)


def _what(what: Mapping[str, str | Cid]) -> What:
    if len(what) == 1:
        ((kind, value),) = what.items()
        if kind == "ability" and isinstance(value, str):
            return _ability(value)
        if kind == "code" and isinstance(value, Cid):
            return "code", value
        if kind == "protocol" and isinstance(value, Cid):
            return "protocol", value
    raise LocalError('A promise names one thing: an "ability", a "code" or a "protocol".', "bad_args")


def _ability(text: str) -> What:
    """An ability that nodes here know; the CID of a protocol in its place means that protocol."""
    if text in ABILITIES:
        return "ability", text
    if text == "store":
        return "protocol", STORE
    try:
        return "protocol", Cid.parse(text)
    except CidError:
        means = {**ABILITIES, "store": "keep content"}
        known = ", ".join(f"{name} ({what})" for name, what in means.items())
        sorry = f"{text[:64]!r} is no ability known here: promise {known}, or give the CID of a protocol."
        raise LocalError(sorry, "bad_args") from None


def _terms(
    what: What, func: str | None, policy: Sequence[object], budget: Budget, uses: int | None, delegate: int,
    later: bool | None,
) -> Terms:  # fmt: skip
    try:
        return Terms(what, func or None, read_policy(policy), budget, uses, delegate, later)
    except PolicyError as error:
        raise LocalError(f"The policy cannot be promised: {error}.", "bad_args") from error


def _days(days: int) -> int:
    if not 0 < days <= _DAYS_MAX:
        raise LocalError(f"A promise holds for 1 to {_DAYS_MAX} days, not {days}.", "bad_args")
    return days
