"""The path of a message that came in, each stage's output the next one's only input.

    bytes → Envelope → Claims → Verified → Authorised → RunResult → reply bytes

    structure → tag → grid → CIDs → claims → signature → replay → capability → cache → run → receipt → reply

Until the signature holds, nothing is fetched, stored or compiled for the sender, and a refusal is an
unsigned, rate-limited frame. From then on every refusal is a signed reply.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace

from promisegrid import claims, cose, envelope, forms, frames, gridtag, nested
from promisegrid.caller import Caller
from promisegrid.carriage import Carriage
from promisegrid.cbor import Encoded
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Commit, Write
from promisegrid.envelope import Envelope
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.frozen import frozen
from promisegrid.link import Link
from promisegrid.nested import Tally
from promisegrid.protocols import TAGGED, Answer
from promisegrid.recall import Recall
from promisegrid.redeem import Redeemed, Redeemer
from promisegrid.replay import Entry, Replay
from promisegrid.reply import Replies
from promisegrid.runner import Runner
from promisegrid.state import State
from promisegrid.strand import Slots
from promisegrid.task import RunResult, Task

_REPLY_LIFE_S = 600
Seen = Callable[[str, Task, RunResult | None, RemoteError | None, int], None]
"""Called after a call was dealt with: (for whom, task, result, refusal, milliseconds)."""


@frozen
class Verified:
    """A message whose signature holds: `claims.iss` wrote it, to this node, now."""

    envelope: Envelope
    claims: Claims
    name: Cid


@frozen
class Authorised:
    """A call its sender may make, as a settled task; `redeemed`: when a promise is what allows it."""

    verified: Verified
    task: Task
    redeemed: Redeemed | None = None


Handler = Callable[[Verified, Link], Awaitable[Answer]]
"""A built-in protocol. It raises RemoteError to refuse; it writes nothing itself, see `Answer`."""


class Dispatcher:
    """Deals with messages of open links. `handlers`: the protocols spoken here without a module."""

    def __init__(
        self,
        state: State,
        exchange: Exchange,
        runner: Runner,
        caller: Caller,
        replay: Replay,
        redeemer: Redeemer,
        carriage: Carriage,
        seen: Seen,
    ) -> None:
        self._state, self._exchange, self._runner, self._caller = state, exchange, runner, caller
        self._replay, self._redeemer = replay, redeemer
        self._replies = Replies(state)
        self._recall = Recall(state.limits)
        self._seen = seen
        self._carriage = carriage
        self._one_at_a_time = Slots(state.scheduler, 1, state.limits.link_credit * state.limits.links)
        self.handlers: dict[Cid, Handler] = {}
        self.exclusive: set[Cid] = set()
        """Protocols whose handler reads, decides and writes as one step."""

    def again(self, link: Link, name: Cid) -> bool:
        """Whether a message was one this peer had sent before, and got the same reply once more."""
        reply = self._replay.again(name, link.did)
        if reply is None:
            return False
        try:
            link.send_message(reply)
        except RemoteError as wrong:
            link.refuse(wrong, name)
        link.took()
        return True

    async def message(self, link: Link, raw: bytes, name: Cid) -> None:
        """Take one message, named by its bytes, through all stages, in a strand of its own."""
        try:
            if gridtag.is_tagged(raw):
                tagged = gridtag.open_tagged(raw, self._state.limits.message_bytes)
                if tagged.protocol not in TAGGED:
                    await self._carriage.take(link, tagged, name)
                    return
            opened = self._open(raw)
            if opened[1].reply_to is not None and not self._caller.awaits(link, opened[1].reply_to):
                return  # too late, or never asked for: not worth a curve
            verified = await self._verify(link, opened, name)
            if verified.claims.reply_to is not None:
                self._caller.replied(verified.claims)
            else:
                await self._answer(link, verified)
        except RemoteError as wrong:
            self._state.totals.refused(wrong)
            link.refuse(wrong, name)
        finally:
            link.took()

    # -- before the signature ------------------------------------------------------------------------

    def _open(self, raw: bytes) -> tuple[Envelope, Claims]:
        """Either form, in the same words."""
        assert self._state.grid is not None
        limits, now_ms = self._state.limits, self._state.now_ms
        if not gridtag.is_tagged(raw):
            opened = envelope.open_message(raw, self._state.grid, limits.message_bytes)
            content = self._recall.claims(opened.claims)
            claims.check(content, self._state.me, now_ms, limits)
            return opened, content
        tagged = gridtag.open_tagged(raw, limits.message_bytes)
        if tagged.protocol not in TAGGED:
            raise RemoteError("no_such_protocol", f"The protocol {tagged.protocol} is not known here.")
        opened, content = forms.open_known(tagged, self._state.grid, limits)
        claims.check(content, self._state.me, now_ms, limits)
        return opened, content

    async def _verify(self, link: Link, opened: tuple[Envelope, Claims], name: Cid) -> Verified:
        message, content = opened
        if content.iss in self._state.banned:
            raise RemoteError("banned", f"{content.iss} is banned here.")
        if not link.verifying.take_now():
            await link.verifying.take()
        try:
            holds = await cose.holds(message.sign1, message.signed, content.iss)
        except RemoteError:
            link.count_bad_signature()  # a name that is no key: reading it costs as much as a curve
            raise
        finally:
            link.verifying.give()
        if not holds:
            link.count_bad_signature()
            raise RemoteError("bad_signature", f"The signature is not by {content.iss} over this message.")
        return Verified(message, content, name)

    # -- after it ------------------------------------------------------------------------------------

    async def _answer(self, link: Link, verified: Verified) -> None:
        try:
            if verified.claims.iss != link.did:  # before the replay rule: nobody may use up another's number
                raise RemoteError("not_member", "A message is accepted only from its own signer's link.")
            entry, new = self._replay.admit(verified.claims, verified.name, link.did)
        except RemoteError as wrong:
            self._state.totals.dealt(link.traffic, wrong)
            link.send_message(await self._seal(verified, None, wrong))
            return
        reply = await self._deal(link, verified, entry) if new else await entry.reply
        if reply is not None:
            link.send_message(reply)

    async def _deal(self, link: Link, verified: Verified, entry: Entry) -> bytes | None:
        handler = self.handlers.get(verified.envelope.protocol)
        reply: bytes | None = None
        try:
            if handler is None:
                reply = await self._call(link, verified, entry)
            else:
                reply = await self._speak(handler, link, verified, entry)
                self._state.totals.dealt(link.traffic, None)
        except (RemoteError, LocalError) as wrong:
            if self._nobody_waits(link):
                raise
            refusal = wrong if isinstance(wrong, RemoteError) else RemoteError("too_large", wrong.text)
            self._state.totals.dealt(link.traffic, refusal)
            reply = await self._seal(verified, None, refusal)
        finally:
            self._replay.settle(entry, reply)
        return reply

    def _nobody_waits(self, link: Link) -> bool:
        """Whether the link is gone, or the peer gave this message up."""
        strand = self._state.scheduler.current
        return link.is_closed or (strand is not None and strand.cancelled)

    async def _speak(self, handler: Handler, link: Link, verified: Verified, entry: Entry) -> bytes:
        """A built-in protocol: what it changes is durable, once, before anybody hears of it."""
        self._replay.check_room(verified.claims)
        exclusive = verified.envelope.protocol in self.exclusive
        if exclusive:
            await self._one_at_a_time.take()
        try:
            answer = await handler(verified, link)
        except BaseException:
            if exclusive:
                self._one_at_a_time.give()
            raise
        # What the handler has decided is carried out, whatever becomes of the link and of who asked.
        return await self._state.scheduler.spawn(self._carry_out(verified, entry, answer, exclusive)).done

    async def _carry_out(self, verified: Verified, entry: Entry, answer: Answer, exclusive: bool) -> bytes:
        try:
            reply = await self._seal(verified, answer.body, None)
            if answer.writes:
                await Commit((*answer.writes, *self._replay.record(entry, reply)))
                self._replay.keep(entry)
        except RemoteError:
            if answer.failed is not None:
                answer.failed()
            raise
        finally:
            if exclusive:
                self._one_at_a_time.give()
        if answer.after is not None:
            answer.after()
        return reply

    async def _call(self, link: Link, verified: Verified, entry: Entry) -> bytes:
        """Any other protocol is the CID of code to run."""
        started_ms = self._state.steady_ms
        task = self._recall.task(verified.envelope.protocol, verified.claims)
        done: RunResult | None = None
        body: object = None
        refusal: RemoteError | None = None
        redeemed: Redeemed | None = None
        try:
            task = await self._evaluated(link, verified, task, Tally.of(self._state.limits))
            call = await self._authorise(link, verified, task)
            redeemed = call.redeemed
            if redeemed is not None and redeemed.later is not None:
                reply = await self._later(verified, entry, redeemed, redeemed.later)
                self._state.totals.dealt(link.traffic, None)
                return reply
            task = call.task
            done = await self._run(link, call)
            body = await self._replies.body(done)
        except RemoteError as wrong:
            if self._nobody_waits(link):
                raise
            refusal = wrong
        except LocalError as wrong:
            refusal = RemoteError("bad_args", wrong.text)
        self._seen(verified.claims.iss, task, done, refusal, self._state.steady_ms - started_ms)
        self._state.totals.dealt(link.traffic, refusal)
        reply = await self._seal(verified, body, refusal)
        if redeemed is not None and redeemed.counted:
            await self._remember(verified, entry, reply)
        return reply

    async def _later(self, verified: Verified, entry: Entry, redeemed: Redeemed, later: Answer) -> bytes:
        """A promise that is kept later: the statement, the call and the reply are written down together."""
        try:
            self._replay.check_room(verified.claims)
            reply = await self._seal(verified, later.body, None)
            writes = (*later.writes, *self._replay.record(entry, reply))
        except RemoteError:
            self._redeemer.undo(redeemed)
            raise
        await self._state.scheduler.spawn(self._put_off(entry, redeemed, writes)).done
        return reply

    async def _put_off(self, entry: Entry, redeemed: Redeemed, writes: tuple[Write, ...]) -> None:
        """Carried out, whatever becomes of who asked."""
        try:
            await Commit(writes)
        except RemoteError:
            self._redeemer.undo(redeemed)
            raise
        self._replay.keep(entry)

    async def _remember(self, verified: Verified, entry: Entry, reply: bytes) -> None:
        """A counted use gets the same reply after a restart too, while there is room to keep replies."""
        try:
            self._replay.check_room(verified.claims)
            record = self._replay.record(entry, reply)
        except RemoteError:
            return
        await Commit(record)
        self._replay.keep(entry)

    async def _seal(self, verified: Verified, body: object, refusal: RemoteError | None) -> bytes:
        """The signed reply; it holds as long as the message may be repeated."""
        chars, content = self._state.limits.text_chars, verified.claims
        life_s = max(_REPLY_LIFE_S, content.exp - self._state.now_ms // 1000)
        protocol, pcid = verified.envelope.protocol, verified.envelope.pcid
        if type(body) is Encoded and pcid is None and refusal is None:
            return await self._caller.seal_body(protocol, content.iss, life_s, verified.name, body)
        return await self._caller.seal(
            protocol,
            content.iss,
            life_s,
            pcid=pcid,
            reply_to=verified.name,
            body=body,
            refusal=None if refusal is None else (refusal.code, refusal.text[:chars]),
        )

    # -- messages inside messages ----------------------------------------------------------------------

    async def _evaluated(self, link: Link, outer: Verified, task: Task, tally: Tally) -> Task:
        """The task with the values of messages among its arguments in their place."""
        if task.named is not None or not nested.has_any(task.args):
            return task

        async def evaluate(raw: bytes, inside: Tally) -> object:
            return await self._value(link, outer, raw, inside)

        args = await nested.replaced(task.args, evaluate, tally)
        return replace(task, args=args, named=None)

    async def _value(self, link: Link, outer: Verified, raw: bytes, tally: Tally) -> object:
        """A message inside another: verified, then evaluated with its own signer's authority."""
        name = Cid.of(raw)
        opened = self._open(raw)
        nested.check_presenter(opened[1], outer.claims)
        verified = await self._verify(link, opened, name)
        iss = verified.claims.iss
        if iss != link.did and not verified.claims.proofs and self._state.link_to(iss) is None:
            raise RemoteError("not_member", f"{iss} is no connected member, and presents no capability.")
        seen = self._replay.knows(verified.claims)
        if seen:
            verified = replace(verified, claims=replace(verified.claims, fresh=False))
        entry, new = self._replay.admit(verified.claims, name, link.did)
        try:
            task = self._recall.task(verified.envelope.protocol, verified.claims)
            task = await self._evaluated(link, verified, task, tally)
            call = await self._authorise(link, verified, task, now=True)
            if seen and call.redeemed is not None:  # one use is one run, however often it is presented
                return await self._remembered(call.task)
            done = await self._run(link, call)
        finally:
            if new:
                self._replay.settle(entry, None)
        return done.value if done.exit is None else done.result

    async def _remembered(self, task: Task) -> object:
        """The value of a message that was evaluated before."""
        done = await self._runner.remembered(task)
        if done is None:
            raise RemoteError("bad_claims", "This message was evaluated before, and has no result to show.")
        return done.value if done.exit is None else done.result

    # -- authority and running -------------------------------------------------------------------------

    async def reply_again(self, link: Link, verified: Verified, body: object) -> None:
        """One more reply to a message that asked for several; one that finds no room is left out."""
        with suppress(RemoteError):
            link.send_message(await self._seal(verified, body, None))

    async def _authorise(
        self, link: Link, verified: Verified, task: Task, now: bool = False
    ) -> Authorised:
        """The capability check: a promise that is presented has to hold; else a member needs us to serve."""
        if verified.claims.call is None:
            raise RemoteError("no_such_protocol", "The message carries no call.")
        if verified.claims.proofs:
            if not task.func:
                raise RemoteError("bad_claims", "A call that presents a capability names its function.")
            redeemed = await self._redeemer.redeem(verified.claims, verified.name, task, now)
            return Authorised(verified, task, redeemed)
        if self._state.serving is None:
            raise RemoteError("not_serving")
        if not task.func:
            func = await self._runner.entry_of(task.code, lambda phase, done, total: None, link)
            task = replace(task, func=func, named=None)
        return Authorised(verified, task)

    async def _run(self, link: Link, call: Authorised) -> RunResult:
        name = call.verified.name

        def watch(phase: str, done: int, total: int | None) -> None:
            link.hint(frames.Progress(name, phase, done, total))

        content, redeemed = call.verified.claims, call.redeemed
        budget = content.budget if redeemed is None else redeemed.budget
        return await self._runner.execute(
            call.task, budget, content.iss, watch, link, content.fresh, redeemed is not None
        )
