"""Redeeming: a call that presents a capability, at the node that made the promise.

    structure, holder, times, narrowing, root → revoked? permitted? uses left? → signatures → counted → run

Uses are counted, durably, before the call is run, and once for each message. A promise that is kept later
gives a statement that says so, and a call that waits for the owner. Whether the caller is a member, and
whether this node serves members, does not matter here: the promise is the owner's word.
"""

from __future__ import annotations

from promisegrid import capability, statement
from promisegrid.capability import Grant
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.deferral import Call
from promisegrid.effects import Budget, Notify, Write
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen
from promisegrid.ledger import Ledger
from promisegrid.protocols import Answer
from promisegrid.state import State
from promisegrid.statement import Statement
from promisegrid.task import Task


@frozen
class Redeemed:
    """A call that a promise covers: within which budget, and whether its use was counted.

    `later` is the answer when the call waits for the owner: to be committed and sent, and nothing run.
    """

    grant: Grant
    budget: Budget
    counted: bool
    later: Answer | None = None


class Redeemer:
    """Decides about calls that present capabilities."""

    def __init__(self, state: State, ledger: Ledger) -> None:
        self._state, self._ledger = state, ledger

    async def redeem(self, content: Claims, name: Cid, task: Task, now: bool = False) -> Redeemed:
        """Check and count a verified message's capability. RemoteError says why it is not honoured.

        now: a promise that is kept later will not do.
        """
        grant = self._recalled(content, name, task) or await self._checked(content, name, task)
        if now and grant.later:
            raise RemoteError("not_permitted", "A promise that is kept later has no value yet.")
        budget = grant.narrowed(content.budget)
        if grant.later:
            return Redeemed(grant, budget, False, await self._defer(grant, content, name, task, budget))
        shown = self._shown(grant)
        try:
            uses = self._ledger.use(grant, name, content.exp)
        except RemoteError:
            self._ledger.undo(shown)
            raise
        if shown or uses:
            await self._ledger.commit((*shown, *uses))
        self._tell("used", grant, content.iss)
        return Redeemed(grant, budget, bool(grant.uses))

    def _recalled(self, content: Claims, name: Cid, task: Task) -> Grant | None:
        """The promise that is presented, if its chain was found to hold before. RemoteError."""
        state = self._state
        assert state.grid is not None
        grant = state.verdicts.recall(content.proofs)
        if grant is not None:
            capability.check_again(grant, state.grid, content.iss, state.now_ms, state.limits, state.me)
            self._check_cover(grant, name, task)
        return grant

    async def _checked(self, content: Claims, name: Cid, task: Task) -> Grant:
        """The promise that is presented, if it covers the call and holds. RemoteError."""
        state = self._state
        assert state.grid is not None
        grant = capability.check(
            content.proofs, state.grid, content.iss, state.now_ms, state.limits, state.me
        )
        self._check_cover(grant, name, task)
        await state.verdicts.check(grant.chain)
        state.verdicts.remember(grant)
        self._still_good(grant, name)
        return grant

    def _check_cover(self, grant: Grant, name: Cid, task: Task) -> None:
        """RemoteError unless a promise is still good, and is about this call."""
        self._still_good(grant, name)
        lacking = grant.lacks(task.code, task.func, task.args)
        if lacking is not None:
            raise RemoteError("not_permitted", lacking)

    def undo(self, redeemed: Redeemed) -> None:
        """The answer of a deferral could not be written down, or is not wanted. One made before stays."""
        if redeemed.later is None or not redeemed.later.writes:
            return
        self._ledger.undo(redeemed.later.writes)

    def _still_good(self, grant: Grant, message: Cid) -> None:
        revoked = self._state.revoked
        for one in grant.chain if revoked else ():
            if one.name in revoked:
                raise RemoteError("revoked", f"The promise {one.name} was taken back.")
        if grant.uses and self._ledger.is_used_up(grant, message):
            text = f"All uses of the promise {grant.name}, or of one it rests on, are gone."
            raise RemoteError("used_up", text)

    def _shown(self, grant: Grant) -> tuple[Write, ...]:
        """Delegations that were not known here yet are from now on."""
        if grant.name in self._ledger.known:
            return ()
        writes: tuple[Write, ...] = ()
        for step in grant.steps():
            try:
                self._ledger.room(step)
            except RemoteError:
                self._ledger.undo(writes)
                raise
            writes += self._ledger.note(step)
        return writes

    async def _defer(self, grant: Grant, content: Claims, name: Cid, task: Task, budget: Budget) -> Answer:
        """The answer to a call that waits from now on. The same message waits once."""
        if name in self._ledger.call_of:
            return Answer({"promise": self._ledger.call_of[name]})
        now = self._state.now_ms // 1000
        said = Statement(name, "deferred", self._state.me, now)
        block = await statement.seal(said)
        self._still_good(grant, name)
        shown = self._shown(grant)
        call = Call(content.iss, grant.name, name, task, budget, now, grant.until)
        uses: tuple[Write, ...] = ()
        try:
            uses = self._ledger.use(grant, name, content.exp)
            deferred = self._ledger.defer(block.cid, call)
        except RemoteError:
            self._ledger.undo((*shown, *uses))
            raise
        self._tell("deferred", grant, content.iss)
        return Answer({"promise": block.cid}, (*shown, *uses, *deferred, *self._ledger.say(said, block)))

    def _tell(self, event: str, grant: Grant, holder: str) -> None:
        detail = {"event": event, "promise": str(grant.name), "with": holder}
        self._state.scheduler.emit(Notify("promise", detail))
