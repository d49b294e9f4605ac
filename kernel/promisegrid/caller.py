"""Calling a peer: a signed message out, a signed reply back, its receipt verified, its content fetched.

A reply is believed no further than this: *this peer* says so, and *this executor* signed a receipt for
exactly the task that was asked. Whether that spares a run later is the owner's policy (`receipt.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from promisegrid import claims, cose, dagcbor, envelope, forms, gridtag, nested, receipt
from promisegrid.block import Block
from promisegrid.capability import Grant
from promisegrid.cbor import Encoded
from promisegrid.cid import DAG_CBOR, Cid
from promisegrid.claims import Claims
from promisegrid.effects import Budget, Save
from promisegrid.errors import OF_THE_PROGRAM, LocalError, RemoteError
from promisegrid.exchange import Exchange, block_writes
from promisegrid.link import Link
from promisegrid.memo import Memo
from promisegrid.protocols import CAPABILITY_CALL
from promisegrid.reply import read_body
from promisegrid.runner import Watch
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal
from promisegrid.task import Deferred, RunResult, Task, read_result

_SLACK_MS = 60_000
"""What a call may take beyond its run: fetching the module, compiling, waiting for a turn."""

_MOVES: Final = 3
"""Links a call may outlive."""


@dataclass(slots=True)
class _Pending:
    raw: bytes
    link: Link
    answer: Signal[Claims]
    watch: Watch
    since_ms: int
    about: tuple[Task, Cid] | None
    """The task it is a call of, and its CID."""
    moves: int = 0


class Caller:
    """Sends calls and matches what comes back."""

    def __init__(self, state: State, exchange: Exchange, memo: Memo) -> None:
        self._state, self._exchange, self._memo = state, exchange, memo
        self._pending: dict[Cid, _Pending] = {}
        self._following: dict[Cid, tuple[Link, Callable[[object], None]]] = {}
        self.reach: Callable[[str], Awaitable[Link]] = self._linked
        """Finds the way to a member; as it is, by the links there are."""
        self.is_near: Callable[[str], bool] = lambda did: False
        """Whether a neighbour says that it is linked to a member."""

    async def call(
        self,
        did: str,
        task: Task,
        budget: Budget,
        watch: Watch,
        fresh: bool = False,
        remember: bool = True,
    ) -> RunResult:
        """Have a peer that serves run a settled task; as `run`, no promise presented."""
        done = await self.run(did, task, budget, watch, fresh, remember)
        if isinstance(done, Deferred):
            raise RemoteError("malformed", f"{did} defers what it was not asked to keep.")
        return done

    async def run(
        self,
        did: str,
        task: Task,
        budget: Budget,
        watch: Watch,
        fresh: bool = False,
        remember: bool = True,
        grant: Grant | None = None,
        tagged: bool = False,
    ) -> RunResult | Deferred:
        """Have a peer run a settled task, presenting a promise it made.

        `fresh`: even if it remembers a result. With `remember` False the receipt is stored and does not
        count yet (`Memo.index`). `tagged`: in the form under the grid's tag. RemoteError is the peer's
        refusal; LocalError when it is not linked.
        """
        link = await self.reach(did)
        block = task.block(self._state.limits)
        wait_ms = (budget.time_ms or self._state.limits.call_ms) + _SLACK_MS
        raw = await self.seal(
            task.code,
            did,
            wait_ms // 1000,
            call=(task.func, task.args),
            files=task.files,
            stdin=task.stdin,
            budget=budget,
            fresh=fresh,
            proofs=() if grant is None else tuple(one.raw for one in grant.chain),
            pcid=CAPABILITY_CALL if tagged else None,
        )
        body = await self._reply_to(raw, link, wait_ms, watch, (task, block.cid))
        later = body.get("promise") if isinstance(body, dict) and set(body) == {"promise"} else None
        if grant is not None and isinstance(later, Cid):
            return Deferred(later, did, grant.name)
        return await self.accept(body, block, link, watch, remember)

    async def ask(
        self,
        did: str,
        protocol: Cid,
        op: str,
        args: tuple[object, ...],
        wait_ms: int,
        proofs: tuple[bytes, ...] = (),
    ) -> object:
        """Say something in a built-in protocol to a peer; the body of its reply. Errors as `run`."""
        return await self.ask_on(await self.reach(did), protocol, op, args, wait_ms, proofs)

    async def ask_on(
        self,
        link: Link,
        protocol: Cid,
        op: str,
        args: tuple[object, ...],
        wait_ms: int,
        proofs: tuple[bytes, ...] = (),
    ) -> object:
        """As `ask`, over that link."""
        raw = await self.seal(protocol, link.did, wait_ms // 1000 + 1, call=(op, args), proofs=proofs)
        return await self._reply_to(raw, link, wait_ms, lambda phase, done, total: None)

    async def say(self, did: str, protocol: Cid, payload: object, wait_ms: int) -> object:
        """Say something in a protocol under the grid's tag; the body of the reply. Errors as `run`."""
        link = await self.reach(did)
        raw = await self.seal(protocol, did, wait_ms // 1000 + 1, body=payload, pcid=protocol)
        return await self._reply_to(raw, link, wait_ms, lambda phase, done, total: None)

    async def follow(
        self, did: str, protocol: Cid, payload: object, life_s: int, heard: Callable[[object], None]
    ) -> object:
        """As `say`, and `heard` is called with the body of every further reply, while the link is open."""
        link = await self.reach(did)
        raw = await self.seal(protocol, did, life_s, body=payload, pcid=protocol)
        self._following[Cid.of(raw)] = (link, heard)
        try:
            return await self._reply_to(raw, link, life_s * 1000, lambda phase, done, total: None)
        except RemoteError:
            self._following.pop(Cid.of(raw), None)
            raise

    @property
    def waiting(self) -> int:
        """Messages of ours that peers have not answered yet."""
        return len(self._pending)

    def away(self) -> list[dict[str, str | int]]:
        """Tasks that peers run for this node: {"task", "code", "func", "by", "since_ms"}, CIDs as text."""
        return [
            {
                "task": str(sent.about[1]),
                "code": str(sent.about[0].code),
                "func": sent.about[0].func,
                "by": sent.link.did,
                "since_ms": sent.since_ms,
            }
            for sent in self._pending.values()
            if sent.about is not None
        ]

    async def _linked(self, did: str) -> Link:
        return self.link_to(did)

    def link_to(self, did: str) -> Link:
        """The open link to a peer. LocalError when there is none."""
        link = self._state.link_to(did)
        if link is None or self._state.grid is None:
            raise LocalError(f"{did} is not connected to this node; `peers` lists who is.", "no_such_peer")
        return link

    async def _reply_to(
        self, raw: bytes, link: Link, wait_ms: int, watch: Watch, about: tuple[Task, Cid] | None = None
    ) -> object:
        """Send a message and wait; the body of the reply. RemoteError: its refusal, out_of_time, closed."""
        name = Cid.of(raw)
        pending = _Pending(raw, link, self._state.scheduler.signal(), watch, self._state.now_ms, about)
        self._pending[name] = pending
        try:
            link.send_message(raw)
            link.traffic.asked += 1
            link.attend()
            reply = await Pause(pending.answer, wait_ms)
        except Late:
            text = f"{pending.link.did} did not answer within {wait_ms // 1000} s."
            raise RemoteError("out_of_time", text) from None
        finally:
            del self._pending[name]
            if not pending.answer.is_set:
                pending.link.recall(raw, name)
        if reply.refusal is not None:
            raise RemoteError.from_wire(*reply.refusal)
        return reply.body

    async def seal(
        self,
        protocol: Cid,
        aud: str,
        life_s: int,
        *,
        call: tuple[str, tuple[object, ...]] | None = None,
        files: Cid | None = None,
        stdin: Cid | None = None,
        budget: Budget | None = None,
        reply_to: Cid | None = None,
        body: object = None,
        refusal: tuple[str, str] | None = None,
        fresh: bool = False,
        proofs: tuple[bytes, ...] = (),
        pcid: Cid | None = None,
    ) -> bytes:
        """A message from this node, signed. Its lifetime is `life_s` seconds, at most the longest.

        pcid: under the grid's tag, as that protocol has it; None: in five elements.
        """
        assert self._state.grid is not None
        now_s = self._state.now_ms // 1000
        content = Claims(
            iss=self._state.me,
            aud=aud,
            exp=now_s + min(life_s, self._state.limits.message_life_ms // 1000),
            cti=self._state.entropy.take(16),
            iat=now_s,
            call=call,
            files=files,
            stdin=stdin,
            budget=budget or Budget(),
            reply_to=reply_to,
            body=body,
            refusal=refusal,
            fresh=fresh,
            proofs=proofs,
        )
        if pcid is None:
            return await self._sealed(protocol, content.encode())
        payload, rest = forms.payload_of(content, protocol)
        return self._sized(await gridtag.write(pcid, payload, replace(rest, grid=self._state.grid)))

    async def seal_body(self, protocol: Cid, aud: str, life_s: int, reply_to: Cid, body: Encoded) -> bytes:
        """As `seal`, of a reply in five elements whose body is written already."""
        state = self._state
        now_s = state.now_ms // 1000
        exp = now_s + min(life_s, state.limits.message_life_ms // 1000)
        assert state.grid is not None
        content = claims.reply(state.me, aud, exp, now_s, state.entropy.take(16), reply_to, body)
        signed = envelope.prepare(protocol, state.grid, content)
        return self._sized(envelope.seal(signed, await cose.sign("grid-message", signed, detached=True)))

    async def _sealed(self, protocol: Cid, content: bytes) -> bytes:
        assert self._state.grid is not None
        signed = envelope.prepare(protocol, self._state.grid, content)
        return self._sized(envelope.seal(signed, await cose.sign("grid-message", signed, detached=True)))

    def _sized(self, raw: bytes) -> bytes:
        """LocalError when a message is longer than any may be."""
        if len(raw) > self._state.limits.message_bytes:
            text = f"The message takes {len(raw)} bytes; put large values as blocks and pass their CID."
            raise LocalError(text, "too_large")
        return raw

    # -- what comes back -------------------------------------------------------------------------------

    def awaits(self, link: Link, name: Cid) -> bool:
        """Whether a reply to that message is awaited from the peer on this link."""
        pending, followed = self._pending.get(name), self._following.get(name)
        expected = pending.link if pending is not None else followed[0] if followed is not None else None
        return expected is not None and expected.did == link.did

    def awaits_any(self, link: Link) -> bool:
        """Whether any reply is awaited on this link."""
        return any(pending.link is link for pending in self._pending.values())

    def replied(self, content: Claims) -> None:
        """A verified reply came in. One nobody waits for, or from somebody else, is dropped."""
        pending = self._pending.get(content.reply_to) if content.reply_to is not None else None
        if pending is not None and pending.link.did == content.iss:
            pending.answer.set(content)
        elif content.reply_to is not None and content.reply_to in self._following:
            link, heard = self._following[content.reply_to]
            if link.did == content.iss and content.refusal is None:
                heard(content.body)

    def refused(self, link: Link, about: Cid | None, code: str, text: str) -> None:
        """An unsigned refusal came in on the link the message was sent on."""
        pending = self._pending.get(about) if about is not None else None
        if pending is not None and pending.link is link:
            unsigned = "closed" if code in OF_THE_PROGRAM else code  # nobody's word about a task
            pending.answer.fail(RemoteError.from_wire(unsigned, text))

    def progress(self, link: Link, about: Cid, phase: str, done: int, total: int | None) -> None:
        """A hint about a call of ours."""
        pending = self._pending.get(about)
        if pending is not None and pending.link is link:
            pending.watch(phase[:20], done, total)

    def link_down(self, link: Link) -> None:
        """A link is gone: the answers due on it will not come. Other links of that peer are whole."""
        for name in [name for name, (followed, _) in self._following.items() if followed is link]:
            del self._following[name]
        for pending in list(self._pending.values()):
            if pending.link is link and not self._moved(pending, self._state.link_to(link.did)):
                self._state.scheduler.spawn(self._move(pending))

    def _moved(self, pending: _Pending, other: Link | None) -> bool:
        """Whether a message went out once more, on another link to the same peer, who deals with it once."""
        lost = pending.link
        if other is None or (lost.is_silent and other.heard_ms <= lost.heard_ms):
            return False
        try:
            other.send_message(pending.raw)
        except RemoteError:
            return False
        pending.link, pending.moves = other, pending.moves + 1
        other.attend()
        return True

    async def _move(self, pending: _Pending) -> None:
        """Find another way to a peer whose only link is gone; whoever waits is told when there is none."""
        lost = pending.link
        with suppress(RemoteError, LocalError):
            if pending.moves < _MOVES and not lost.is_silent and self.is_near(lost.did):
                link = await self.reach(lost.did)
                if pending.answer.is_set or self._moved(pending, link):
                    return
        pending.answer.fail(RemoteError("closed", f"{lost.did} disconnected before it answered."))

    async def accept(
        self, body: object, block: Block, link: Link, watch: Watch, remember: bool = True
    ) -> RunResult:
        """The result of a task, `block`, as a peer's reply tells it: verified, and what it names fetched."""
        receipt_cid, cached, inline = read_body(body)
        sealed = Block(receipt_cid, inline.get(receipt_cid) or await self._exchange.block(receipt_cid, link))
        claim = await receipt.verify(sealed.data)
        if claim is not None and claim.task != block.cid:
            block = await self._with_values(block, claim.task, link)
        if claim is None or claim.task != block.cid:
            raise RemoteError("malformed", f"{link.did} sent a receipt that does not hold for this task.")
        data = inline.get(claim.result) or await self._exchange.block(claim.result, link)
        content = read_result(data)
        kept = [Block(cid, data) for cid, data in inline.items()]
        if remember:
            await self._memo.remember(claim, sealed, [block, *kept], link.did)
        else:
            await Save(block_writes([block, sealed, *kept]))
        for part in content.parts():
            await self._exchange.fetch_dag(
                part, self._state.limits.output_bytes * 2, lambda _, size: watch("fetch", size, None), link
            )
        return RunResult(
            block.cid,
            claim.result,
            receipt_cid,
            content,
            claim.executor,
            cached,
            claim.fuel,
            claim.engine,
        )

    async def _with_values(self, asked: Block, ran: Cid, link: Link) -> Block:
        """The task that ran, if it is the one asked for with values for its messages; else that one."""
        task = dagcbor.decode(asked.data)
        if not nested.has_any(tuple(task["args"])) or ran.codec != DAG_CBOR:
            return asked
        data = await self._exchange.block(ran, link)
        try:
            value = dagcbor.decode(data)
        except ValueError:
            return asked
        return Block(ran, data) if nested.fits(task, value) else asked
