"""Calls that are kept later: the owner keeps or breaks them, their askers await them.

A deferred call and everything said about it are durable, so it can be kept after a restart of either side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from promisegrid import listing, membership, statement
from promisegrid.block import Block
from promisegrid.caller import Caller
from promisegrid.capability import Grant
from promisegrid.cid import Cid
from promisegrid.deferral import Call, Wait, ended
from promisegrid.effects import Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.ledger import Ledger
from promisegrid.protocols.promise import PROMISE, PromiseProtocol, call_state
from promisegrid.runner import Runner, Watch
from promisegrid.state import State
from promisegrid.statement import Statement
from promisegrid.strand import Pause
from promisegrid.task import Deferred, RunResult, Task
from promisegrid.terms import MEMBER

TELL_MS: Final = 5_000
"""How long a verb waits for a peer to take what it is told; it is told again when it next connects."""
_RETRY_MS: Final = 1_000
_DAY_S: Final = 86_400


class Keeper:
    """The owner's verbs about calls that are kept later."""

    def __init__(self, state: State, ledger: Ledger, caller: Caller, runner: Runner) -> None:
        self._state, self._ledger, self._caller, self._runner = state, ledger, caller, runner
        self.protocol = PromiseProtocol(
            state, ledger, self._became_member, self.fall_back, self.close_revoked
        )

    async def tell(self, peer: str, items: list[dict[str, Any]]) -> bool:
        """Tell a peer about promises; whether it took all of it. A peer that is away is told later."""
        if self._state.link_to(peer) is None:
            return False
        try:
            body = await self._caller.ask(peer, PROMISE, "told", tuple(items), TELL_MS)
        except (RemoteError, LocalError) as wrong:
            if wrong.code == "cancelled":
                raise
            return False
        return isinstance(body, dict) and body.get("taken") == len(items)

    def close_revoked(self) -> None:
        """Close the links of peers whose membership is gone."""
        for link in self._state.open_links():
            if link.membership is not None and self._state.is_revoked(link.membership):
                link.close("not_member", "The membership was taken back.")

    async def boot(self) -> None:
        """Once the store is read: a membership that was taken back gives way to another."""
        if writes := self.fall_back():
            await self._ledger.commit(writes)

    def issuers(self) -> set[str]:
        """Those whose promises this node holds."""
        me = self._state.me
        grants = (known.grant for known in self._ledger.known.values())
        return {grant.root for grant in grants if grant.holder == me} - {me}

    def fall_back(self) -> tuple[Write, ...]:
        """When this node's own membership is gone: it takes the best of those it has left."""
        state = self._state
        if state.membership is None or not state.is_revoked(state.membership):
            return ()
        left = [known.grant for known in self._ledger.known.values() if self._is_mine(known.grant)]
        best = max(left, key=lambda grant: (grant.delegate, grant.until), default=None)
        if best is None:
            return ()
        state.membership = membership.of(best)
        return (Write("grid", b"membership", state.membership.proof),)

    def _is_mine(self, grant: Grant) -> bool:
        """Whether a chain makes this node a member now."""
        state = self._state
        assert state.genesis is not None
        ours = grant.holder == state.me and grant.what == ("ability", MEMBER)
        live = grant.until * 1000 > state.now_ms and not self._ledger.is_revoked(grant.name)
        return ours and live and grant.root == state.genesis.founder

    def _became_member(self, grant: Grant) -> tuple[Write, ...]:
        """A promise of membership came: kept if it is one, and better than what this node has."""
        state = self._state
        founder = state.genesis.founder if state.genesis is not None else ""
        mine = membership.of(grant)
        if grant.root != founder or state.is_founder:
            return ()
        if not mine.is_better_than(state.membership, state.now_ms):
            return ()
        before = () if state.membership is None else self._ledger.note(state.membership.grant)
        state.membership = mine
        return (Write("grid", b"membership", mine.proof), *before)

    # -- keeping -------------------------------------------------------------------------------------

    async def pending(self) -> list[dict[str, Any]]:
        """Calls that wait for this owner: {"call", "promise", "for", "code", "func", "args", "at"}."""
        return [
            {**listing.call(name, call.task, call.promise, call.at), "for": call.holder}
            for name, call in self._ledger.calls.items()
            if self._waits(call)
        ]

    async def keep(self, name: Cid, watch: Watch | None = None) -> RunResult:
        """Run a call that waits, and say so. RemoteError: why it gave no result; it goes on waiting."""
        call = self._waiting(name)
        done = await self._runner.execute(
            call.task, call.budget, call.holder, watch or _unwatched, self._state.link_to(call.holder),
            promised=True,
        )  # fmt: skip
        blocks = await Load("blocks", (bytes(done.receipt), bytes(done.result)))
        kept = [
            Write("blocks", bytes(cid), data)
            for cid, data in zip((done.receipt, done.result), blocks, strict=True)
            if data is not None
        ]
        await self._end(name, "kept", kept, (done.receipt, done.result), None)
        return done

    async def break_(self, name: Cid, reason: str = "") -> Cid:
        """Refuse a call that waits, for good; the CID of the statement."""
        self._waiting(name)
        return await self._end(name, "broken", [], None, reason_of(reason))

    async def _end(
        self,
        name: Cid,
        state: Literal["kept", "broken"],
        writes: list[Write],
        done: tuple[Cid, Cid] | None,
        reason: str | None,
    ) -> Cid:
        receipt, result = done or (None, None)
        said = Statement(name, state, self._state.me, self._state.now_ms // 1000, receipt, result, reason)
        block = await statement.seal(said)
        call = self._waiting(name)
        after = ended(call, state, block, done)
        await self._ledger.end(name, after, (*writes, *self._ledger.say(said, block)))
        self.protocol.tell(state, str(call.promise), call.holder)
        return block.cid

    def _waits(self, call: Call) -> bool:
        gone = self._ledger.is_revoked(call.promise)
        return not gone and call_state(call, self._state.now_ms) == "deferred"

    def _waiting(self, name: Cid) -> Call:
        call = self._ledger.calls.get(name)
        if call is None:
            text = f"No call {name} waits here; `promisegrid cap pending` lists those that do."
            raise LocalError(text, "not_found")
        if name in self._ledger.ending:
            raise LocalError(f"The call {name} is being kept or broken just now.", "bad_args")
        if not self._waits(call):
            gone = self._ledger.is_revoked(call.promise)
            state = "revoked" if gone else call_state(call, self._state.now_ms)
            raise LocalError(f"The call {name} does not wait any more: it is {state}.", "bad_args")
        return call

    # -- awaiting ------------------------------------------------------------------------------------

    async def deferred(self, later: Deferred, task: Task) -> None:
        """Remember, durably, that a peer will keep a promise later."""
        known = self._ledger.known.get(later.promise)
        now = self._state.now_ms // 1000
        wait = Wait(later.by, later.promise, task, now, known.grant.until if known else now + 7 * _DAY_S)
        await self._ledger.wait_for(later.call, wait)
        self.protocol.tell("deferred", str(later.promise), later.by)

    async def awaited(self) -> list[dict[str, Any]]:
        """What this node waits for: {"call", "promise", "by", "code", "func", "args", "at"}."""
        return [
            {**listing.call(name, wait.task, wait.promise, wait.at), "by": wait.by}
            for name, wait in self._ledger.waits.items()
        ]

    async def awaiting(self, name: Cid, time_ms: int = 600_000, watch: Watch | None = None) -> RunResult:
        """Wait until a deferred call is kept, and take its result.

        RemoteError: broken, revoked, expired, not_found, out_of_time. A peer that is away, or was restarted,
        is asked again when it is back.
        """
        wait = self._ledger.waits.get(name)
        if wait is None:
            text = f"This node does not wait for {name}; `run` printed the CID to wait for."
            raise LocalError(text, "not_found")
        end_ms = self._state.steady_ms + time_ms
        while self._state.steady_ms < end_ms:
            left_ms = min(end_ms - self._state.steady_ms, self._state.limits.await_ms)
            body = await self._ask(wait.by, name, left_ms)
            if body is None:
                await Pause(None, _RETRY_MS)
            elif body.get("state") in ("kept", "broken"):
                return await self._settled(name, wait, body, watch or _unwatched)
        raise RemoteError("out_of_time", f"{wait.by} has not kept it yet; it may still. Await it again.")

    async def _ask(self, by: str, name: Cid, wait_ms: int) -> Mapping[str, Any] | None:
        """What the issuer answers now; None while it cannot be asked."""
        if self._state.link_to(by) is None:
            return None
        try:
            body = await self._caller.ask(by, PROMISE, "await", (name, wait_ms), wait_ms + TELL_MS)
        except RemoteError as wrong:
            if wrong.code in ("closed", "out_of_time", "busy"):
                return None
            raise
        if not isinstance(body, dict) or body.get("state") not in ("deferred", "kept", "broken"):
            raise RemoteError("malformed", f"{by} answered with something else than the state of a promise.")
        return body

    async def _settled(self, name: Cid, wait: Wait, body: Mapping[str, Any], watch: Watch) -> RunResult:
        data = body.get("statement")
        data = data if isinstance(data, bytes) else b""
        said = await statement.verify(data)
        if said.about != name or said.by != wait.by or said.state != body["state"]:
            raise RemoteError("malformed", f"{wait.by} showed a statement about something else.")
        block = Block(Cid.of(data), data)
        if said.state == "broken":
            await self._ledger.waited(name, said, block)
            self.protocol.tell("broken", str(wait.promise), wait.by)
            raise RemoteError("broken", f"{wait.by} broke its promise. {said.reason or ''}".strip())
        link = self._caller.link_to(wait.by)
        done = await self._caller.accept(body.get("reply"), wait.task.block(self._state.limits), link, watch)
        if done.result != said.result or done.receipt != said.receipt:
            raise RemoteError("malformed", f"{wait.by} showed a receipt that its statement does not name.")
        await self._ledger.waited(name, said, block)
        self.protocol.tell("kept", str(wait.promise), wait.by)
        return done


def reason_of(text: str) -> str | None:
    """A reason as a statement carries it. LocalError when it is too long."""
    if len(text) > statement.REASON_MAX:
        raise LocalError(f"A reason has at most {statement.REASON_MAX} characters.", "bad_args")
    return text or None


def _unwatched(phase: str, done: int, total: int | None) -> None:
    """Nobody looks."""
