"""The path of a message that came in, each stage's output the next one's only input.

    bytes → Envelope → Claims → Verified → Authorised → RunResult → reply bytes

    structure → tag → grid → CIDs → claims → signature → replay → capability → cache → run → receipt → reply

Until the signature holds, nothing is fetched, stored or compiled for the sender, and a refusal is an
unsigned, rate-limited frame. From then on every refusal is a signed reply.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from promisegrid import claims, cose, envelope, frames
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.envelope import Envelope
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.link import Link
from promisegrid.replay import Entry, Replay
from promisegrid.reply import Replies
from promisegrid.runner import Runner
from promisegrid.state import State
from promisegrid.task import RunResult, Task

_REPLY_LIFE_S = 600
Seen = Callable[[str, Task, RunResult | None, RemoteError | None, int], None]
"""Called after a call was dealt with: (for whom, task, result, refusal, milliseconds)."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A message whose signature holds: `claims.iss` wrote it, to this node, now."""

    envelope: Envelope
    claims: Claims
    name: Cid


@dataclass(frozen=True, slots=True)
class Authorised:
    """A call its sender may make, as a settled task."""

    verified: Verified
    task: Task


class Dispatcher:
    """Deals with messages of open links."""

    def __init__(
        self, state: State, exchange: Exchange, runner: Runner, caller: Caller, seen: Seen
    ) -> None:
        self._state, self._exchange, self._runner, self._caller = state, exchange, runner, caller
        self._replay = Replay(state.scheduler, state.limits)
        self._replies = Replies(state)
        self._seen = seen

    async def message(self, link: Link, raw: bytes) -> None:
        """Take one message from a link through all stages, in a strand of its own."""
        try:
            verified = await self._verify(link, self._open(raw))
            if verified.claims.reply_to is not None:
                self._caller.replied(verified.claims)
            else:
                await self._answer(link, verified)
        except RemoteError as wrong:
            link.refuse(wrong, Cid.of(raw))
        finally:
            link.send(frames.Credit(1))

    # -- before the signature ------------------------------------------------------------------------

    def _open(self, raw: bytes) -> tuple[Envelope, Claims]:
        assert self._state.grid is not None
        opened = envelope.open_message(raw, self._state.grid, self._state.limits.message_bytes)
        limits, now_ms = self._state.limits, self._state.now_ms
        return opened, claims.read(opened.claims, self._state.me, now_ms, limits)

    async def _verify(self, link: Link, opened: tuple[Envelope, Claims]) -> Verified:
        message, content = opened
        if link.verifying >= self._state.limits.link_verifies:
            raise RemoteError("busy", "Too many signatures of this link are being checked; try again later.")
        link.verifying += 1
        try:
            holds = await cose.holds(message.sign1, message.signed, content.iss)
        finally:
            link.verifying -= 1
        if not holds:
            link.count_bad_signature()
            raise RemoteError("bad_signature", f"The signature is not by {content.iss} over this message.")
        return Verified(message, content, message.name)

    # -- after it ------------------------------------------------------------------------------------

    async def _answer(self, link: Link, verified: Verified) -> None:
        entry, new = self._replay.admit(verified.claims, verified.name)
        reply = await self._deal(link, verified, entry) if new else await entry.reply
        if reply is not None:
            link.send_message(reply)

    async def _deal(self, link: Link, verified: Verified, entry: Entry) -> bytes | None:
        reply: bytes | None = None
        try:
            reply = await self._reply(link, verified)
        finally:
            self._replay.settle(entry, reply)
        return reply

    async def _reply(self, link: Link, verified: Verified) -> bytes:
        started_ms = self._state.now_ms
        sender = verified.claims.iss
        task = _task_of(verified)
        done: RunResult | None = None
        body: object = None
        refusal: RemoteError | None = None
        try:
            done = await self._run(link, self._authorise(link, verified, task))
            body = await self._replies.body(done)
        except RemoteError as wrong:
            if link.is_closed:
                raise
            refusal = wrong
        except LocalError as wrong:
            refusal = RemoteError("bad_args", wrong.text)
        self._seen(sender, task, done, refusal, self._state.now_ms - started_ms)
        chars = self._state.limits.text_chars
        return await self._caller.seal(
            verified.envelope.protocol,
            sender,
            _REPLY_LIFE_S,
            reply_to=verified.name,
            body=body,
            refusal=None if refusal is None else (refusal.code, refusal.text[:chars]),
        )

    def _authorise(self, link: Link, verified: Verified, task: Task) -> Authorised:
        """The capability check: a member may call a node that serves. Promises will be looked at here."""
        if verified.claims.iss != link.did:
            raise RemoteError("not_member", "A message is accepted only from its own signer's link.")
        if verified.claims.call is None:
            raise RemoteError("no_such_protocol", "The message carries no call.")
        if self._state.serving is None:
            raise RemoteError("not_serving")
        return Authorised(verified, task)

    async def _run(self, link: Link, call: Authorised) -> RunResult:
        name = call.verified.name

        def watch(phase: str, done: int, total: int | None) -> None:
            link.send(frames.Progress(name, phase, done, total))

        content = call.verified.claims
        return await self._runner.execute(
            call.task, content.budget, content.iss, watch, link, content.fresh
        )


def _task_of(verified: Verified) -> Task:
    content = verified.claims
    func, args = content.call or ("", ())
    return Task(verified.envelope.protocol, func, args, content.files, content.stdin)
