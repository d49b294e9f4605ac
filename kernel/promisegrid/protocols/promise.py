"""The promise protocol (docs/protocols/promise.md): what peers say about promises, and what we answer.

Operations: told, state, await, revoke. What they change is returned as writes; the dispatcher commits them
together with the reply. Who may say what is decided here by signatures alone, never by who carried them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

from promisegrid import capability, statement
from promisegrid.block import Block
from promisegrid.capability import Grant
from promisegrid.cid import Cid
from promisegrid.deferral import Call
from promisegrid.dispatch import Verified
from promisegrid.effects import Load, Notify, Write
from promisegrid.errors import RemoteError
from promisegrid.ledger import Ledger
from promisegrid.link import Link
from promisegrid.membership import Membership
from promisegrid.protocols import Answer
from promisegrid.reply import Replies
from promisegrid.state import State
from promisegrid.statement import Statement
from promisegrid.strand import Late, Pause
from promisegrid.task import RunResult, read_result
from promisegrid.terms import MEMBER

PROMISE: Final = Cid.parse("bafkreidq4mm7zy35qnbta4wrj4iqvz5pzol6oqry7pwz73cugrrdj72s4m")
"""The raw CID of docs/protocols/promise.md."""
ITEMS_MAX: Final = 64


class PromiseProtocol:
    """Answers peers.

    `member`: called with a chain that makes this node a member, `fall_back`: when its own membership may be
    gone; both give what is to be written. `closing`: called when it is written that somebody's is.
    """

    def __init__(
        self,
        state: State,
        ledger: Ledger,
        member: Callable[[Grant], tuple[Write, ...]],
        fall_back: Callable[[], tuple[Write, ...]],
        closing: Callable[[], None],
    ) -> None:
        self._state, self._ledger, self._member = state, ledger, member
        self._fall_back, self._closing = fall_back, closing
        self._replies = Replies(state)

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        content = verified.claims
        op, args = content.call or ("", ())
        if op == "told" and 0 < len(args) <= ITEMS_MAX:
            return await self._told(content.iss, args)
        if op == "state" and len(args) == 1 and isinstance(args[0], Cid):
            return Answer(self._status(content.iss, args[0]))
        if op == "await" and len(args) == 2 and isinstance(args[0], Cid) and type(args[1]) is int:
            return await self._await(content.iss, args[0], args[1])
        if op == "revoke" and len(args) == 1 and isinstance(args[0], str):
            return await self._revoke(content.iss, content.proofs, args[0])
        raise RemoteError("bad_args", "The promise protocol has told, state, await and revoke.")

    # -- told ----------------------------------------------------------------------------------------

    async def _told(self, iss: str, items: tuple[object, ...]) -> Answer:
        writes: tuple[Write, ...] = ()
        taken, before = 0, self._state.membership
        for item in items:
            try:
                more = await self._item(iss, item)
            except RemoteError as wrong:
                if wrong.code == "cancelled":
                    self.untaken(writes, before)
                    raise
                if wrong.code in ("bad_capability", "bad_signature"):
                    break  # whoever sends forgeries does not get all the rest verified
                continue
            taken += 1
            writes += more
        gone = [name for name in self._ledger.gone if self._ledger.unwritten(name)] if writes else []
        told = [name for name in gone if set(self._ledger.unwritten(name)) <= set(writes)]
        untaken = partial(self.untaken, writes, before)
        return Answer({"taken": taken}, writes, partial(self._ended, told), untaken)

    def untaken(self, writes: tuple[Write, ...], before: Membership | None) -> None:
        """What was taken could not be written: nothing of it is known. What is gone stays gone."""
        self._ledger.undo(writes)
        proofs = [write.value for write in writes if (write.table, write.key) == ("grid", b"membership")]
        mine = self._state.membership
        if mine is not None and mine.proof in proofs and before is not None:
            self._state.membership = before

    def _ended(self, names: list[Cid]) -> None:
        """Their end is durable: only now may it close the link that told of it."""
        self._ledger.written(*names)
        self._closing()

    async def _item(self, iss: str, item: object) -> tuple[Write, ...]:
        chain = item.get("chain") if isinstance(item, dict) else None
        listed = isinstance(chain, list) and all(type(one) is bytes for one in chain)
        if not isinstance(item, dict) or chain is None or not listed:
            raise RemoteError("bad_args", "An item is a map with a chain.")
        if set(item) == {"chain"}:
            return await self.offered(iss, tuple(chain))
        if set(item) == {"chain", "statement"} and isinstance(item["statement"], bytes):
            return await self.revoked(tuple(chain), item["statement"])
        raise RemoteError("bad_args", "An item holds a chain, and may hold a statement.")

    async def offered(self, teller: str | None, chain: tuple[bytes, ...]) -> tuple[Write, ...]:
        """A promise to this node. teller: who says so, None for its owner. RemoteError unless it holds."""
        state = self._state
        assert state.grid is not None
        grant = capability.check(chain, state.grid, state.me, state.now_ms, state.limits)
        if teller is not None and teller not in [one.issuer for one in grant.chain]:
            raise RemoteError("not_permitted", "A promise is told by one of its issuers.")
        if any(one.name in state.revoked for one in grant.chain):
            raise RemoteError("revoked", f"The promise {grant.name} was taken back.")
        is_new = grant.name not in self._ledger.known
        self._ledger.room(grant, teller)
        await state.verdicts.check(grant.chain)
        writes = self._member(grant) if grant.what == ("ability", MEMBER) else ()
        writes += self._ledger.note(grant)
        if is_new:
            self.tell("received", str(grant.name), grant.root)
        return writes

    async def revoked(self, chain: tuple[bytes, ...], data: bytes) -> tuple[Write, ...]:
        """Word that the last promise of a chain is gone. RemoteError unless it may be said here."""
        state = self._state
        said, _ = statement.read(data)
        grant = self.chain(chain)
        if said.about in self._ledger.gone:
            return self._ledger.unwritten(said.about)
        if said.state != "revoked" or said.about != grant.name:
            raise RemoteError("malformed", "The statement is about something else than the chain.")
        if said.by not in [one.issuer for one in grant.chain]:
            raise RemoteError("not_permitted", "A promise is revoked by its issuer, or by one before it.")
        self._concerns_us(grant)
        self._ledger.room_for_end(grant, said.by)
        await state.verdicts.check(grant.chain)
        await statement.verify(data)
        writes = self._ledger.revoke(said, Block(Cid.of(data), data), grant)
        self.tell("revoked", str(grant.name), said.by)
        return (*writes, *self._fall_back())

    def _concerns_us(self, grant: Grant) -> None:
        founder = self._state.genesis.founder if self._state.genesis is not None else ""
        of_grid = grant.what == ("ability", MEMBER) and grant.root == founder
        if not of_grid and not self._ledger.known.rests_on(grant.name):
            raise RemoteError("not_found", "The promise does not concern this node.")

    def chain(self, chain: tuple[bytes, ...], root: str | None = None) -> Grant:
        """A chain that somebody shows without holding it; it need not have begun."""
        state = self._state
        assert state.grid is not None
        shown = [capability.read(raw, state.limits) for raw in chain[: capability.CHAIN_MAX]]
        holder = shown[-1].holder if shown else ""
        at_ms = max([state.now_ms, *(one.starts * 1000 for one in shown)])
        return capability.check(chain, state.grid, holder, at_ms, state.limits, root)

    # -- state and await -----------------------------------------------------------------------------

    def _status(self, iss: str, name: Cid) -> dict[str, Any]:
        call, known = self._ledger.calls.get(name), self._ledger.known.get(name)
        if call is not None and call.holder == iss:
            return {"state": call_state(call, self._state.now_ms), "used": 0}
        if known is not None:
            parties = {one.issuer for one in known.grant.chain} | {one.holder for one in known.grant.chain}
            if iss in parties:
                answer: dict[str, Any] = {
                    "state": self._ledger.state_of(known.grant), "used": self._ledger.used(name)
                }  # fmt: skip
                gone = self._ledger.gone.get(name)
                return answer if gone is None else {**answer, "statement": gone.data}
        raise _unknown(name)

    async def _await(self, iss: str, name: Cid, wait_ms: int) -> Answer:
        call = self._ledger.calls.get(name)
        if call is None or call.holder != iss:
            raise _unknown(name)
        if call.state == "deferred":
            with suppress(Late):
                await Pause(self._ledger.news(name), min(max(wait_ms, 0), self._state.limits.await_ms))
            call = self._ledger.calls.get(name, call)
        if call.state == "deferred" and self._ledger.is_revoked(call.promise):
            raise RemoteError("revoked", f"The promise under which {name} was to be kept was taken back.")
        if call_state(call, self._state.now_ms) == "expired":
            raise RemoteError("expired", f"The promise under which {name} was to be kept has expired.")
        if call.state == "deferred" or call.statement is None:
            return Answer({"state": "deferred"})
        (said,) = await Load("blocks", (bytes(call.statement),))
        body: dict[str, Any] = {"state": call.state, "statement": said or b""}
        if call.state == "kept":
            body["reply"] = await self._replies.body(await self._result(call))
        return Answer(body)

    async def _result(self, call: Call) -> RunResult:
        """What a kept call gave, from the store."""
        assert call.receipt is not None and call.result is not None
        (data,) = await Load("blocks", (bytes(call.result),))
        if data is None or not call.result.holds(data):
            raise RemoteError("not_found", f"The result {call.result} has been lost here.")
        task = call.task.block(self._state.limits).cid
        return RunResult(task, call.result, call.receipt, read_result(data), self._state.me, True, None)

    # -- revoke --------------------------------------------------------------------------------------

    async def _revoke(self, iss: str, chain: tuple[bytes, ...], reason: str) -> Answer:
        state = self._state
        grant = self.chain(chain, state.me)
        if iss not in [one.issuer for one in grant.chain]:
            raise RemoteError("not_permitted", "A promise is revoked by its issuer, or by one before it.")
        gone = self._ledger.gone.get(grant.name)
        if gone is not None:
            written = partial(self._ledger.written, grant.name)
            return Answer({"statement": gone.data}, self._ledger.unwritten(grant.name), written)
        self._ledger.room_for_end(grant, iss)
        await state.verdicts.check(grant.chain)
        why = reason[: statement.REASON_MAX] or None
        said = Statement(grant.name, "revoked", state.me, state.now_ms // 1000, reason=why)
        block = await statement.seal(said)
        writes = self._ledger.revoke(said, block, grant)
        self.tell("revoked", str(grant.name), iss)
        return Answer({"statement": block.data}, writes, partial(self._ledger.written, grant.name))

    def tell(self, event: str, promise: str, peer: str) -> None:
        """Let the owner see what became of a promise."""
        self._state.scheduler.emit(Notify("promise", {"event": event, "promise": promise, "with": peer}))


def call_state(call: Call, now_ms: int) -> str:
    """deferred, kept, broken, or expired."""
    return "expired" if call.state == "deferred" and call.until * 1000 < now_ms else call.state


def _unknown(name: Cid) -> RemoteError:
    return RemoteError("not_found", f"This node knows nothing of {name} that is yours to hear.")
