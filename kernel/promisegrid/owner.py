"""What the owner of a node decides and looks at: founding, inviting, serving, trusting, looking back.

These are verbs, coroutines for `Kernel.ask`, kept apart from the path of a message. Nothing here is
reachable for a peer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Literal

from promisegrid import dagcbor, did, frames, membership, receipt, settings, units
from promisegrid.cid import Cid
from promisegrid.dealt import Dealt
from promisegrid.effects import Commit, Load, Notify, Scan, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.genesis import NAME_MAX, Genesis
from promisegrid.handshake import admit
from promisegrid.ledger import Ledger
from promisegrid.link import Link
from promisegrid.memo import Memo
from promisegrid.promisebase.base import Base
from promisegrid.receipt import TrustPolicy
from promisegrid.replay import Replay
from promisegrid.runner import Runner
from promisegrid.scan import rows
from promisegrid.state import Serving, State
from promisegrid.task import RunResult, Task
from promisegrid.verifying import Verifier

_HISTORY = 200


class Owner:
    """The owner's verbs."""

    def __init__(
        self,
        state: State,
        exchange: Exchange,
        memo: Memo,
        runner: Runner,
        verifier: Verifier,
        replay: Replay,
        ledger: Ledger,
        base: Base,
    ) -> None:
        self._state, self._exchange, self._memo, self._runner = state, exchange, memo, runner
        self._verifier, self._replay, self._ledger, self._base = verifier, replay, ledger, base
        self.at_boot: list[Callable[[], Awaitable[None]]] = []
        self.at_leave: list[Callable[[], Awaitable[None]]] = []
        """What else reads what is kept."""
        self._history: deque[Dealt] = deque(maxlen=_HISTORY)

    # -- belonging -------------------------------------------------------------------------------------

    async def boot(self) -> dict[str, str | None]:
        """First of all: read what is kept. {"did", "grid" (None when in none)}."""
        await self._ledger.load()
        await settings.load(self._state)
        await self._verifier.load()
        await self._replay.load()
        for load in self.at_boot:
            await load()
        if self._state.serving is not None:
            self._runner.guests.resize(self._state.serving.cpu)
        grid = None if self._state.grid is None else str(self._state.grid)
        return {"did": self._state.me, "grid": grid}

    async def found(self, name: str) -> Cid:
        """Found a grid with this node's key as its founder."""
        if self._state.grid is not None:
            raise LocalError(f"This node is in grid {self._state.grid}; use another home to found one.")
        if not name or len(name) > NAME_MAX:
            raise LocalError(f"A grid's name has 1 to {NAME_MAX} characters, not {len(name)}.")
        founded = Genesis(self._state.me, name, self._state.entropy.take(16), {})
        block = founded.block()
        await Commit(
            (
                Write("grid", b"genesis", block.data),
                Write("blocks", bytes(block.cid), block.data),
            )
        )
        self._state.grid, self._state.genesis, self._state.genesis_data = block.cid, founded, block.data
        return block.cid

    async def leave(self) -> None:
        """Leave the grid, to join another; or this one anew after a restart. Its founder cannot leave it."""
        if self._state.is_founder:
            raise LocalError("The founder's node cannot leave its grid; use another home for another grid.")
        for link in list(self._state.links.values()):
            link.close("closed", "The peer left the grid.")
        if self._state.serving is not None:
            self._runner.guests.resize(-self._state.serving.cpu)
            self._runner.guests.turn_away(RemoteError("not_serving"))
        if self._state.grid is not None:
            self._state.left.add(self._state.grid)
        for forget in (self._ledger.leave, *self.at_leave):
            await forget()
        await settings.leave(self._state)
        self._memo.forget()

    async def invite(self, uses: int = 1, days: int = 7) -> bytes:
        """A fresh invitation, for a join URL. Only on the node of one who may admit."""
        self._must_admit()
        kept = await Scan("grid", b"invitation/", b"invitation/", self._state.limits.invitations)
        if len(kept) >= self._state.limits.invitations:
            raise LocalError("Too many open invitations; wait until some are used or expire.")
        secret = self._state.entropy.take(membership.INVITATION_BYTES)
        record = membership.Invitation(uses, self._state.now_ms // 1000 + days * 86_400).record()
        stale = [
            Write("grid", key, None)
            for key, value in kept
            if membership.read_invitation(value).until * 1000 < self._state.now_ms
        ]
        await Commit((*stale, Write("grid", membership.invitation_key(secret), record)))
        return secret

    async def admit(self, member: str) -> None:
        """Admit a key in person: its next connection needs no invitation. Only where one may admit."""
        self._must_admit()
        try:
            did.decode(member)
        except RemoteError as error:
            raise LocalError(error.text) from error
        if member in self._state.banned:
            raise LocalError(f"{member} is banned here; `promisegrid unban` ends that.", "banned")
        await admit(self._state, member)

    async def members(self) -> list[str]:
        """The did:keys this node has admitted."""
        prefix = b"member/"
        return [key[len(prefix) :].decode() async for key, _ in rows("grid", prefix, keys_only=True)]

    async def has_met(self, name: str) -> bool:
        """Whether a key is a member's as far as this node knows: admitted here, linked, or the founder's."""
        state = self._state
        if name in state.banned:
            return False
        if state.genesis is not None and state.genesis.founder == name:
            return True
        if any(link.did == name for link in state.open_links()):
            return True
        (admitted,) = await Load("grid", (b"member/" + name.encode(),))
        return admitted is not None

    async def renewed(self, link: Link, proof: bytes) -> None:
        """A peer that may admit sent a fresh membership on an open link. A better one is kept."""
        state = self._state
        if state.genesis is None or state.grid is None or state.is_founder:
            return
        mine = await membership.verify(
            proof, state.grid, state.genesis.founder, state.me, state.now_ms, state.limits, state.verdicts,
            state.revoked,
        )  # fmt: skip
        if not mine.is_better_than(state.membership, state.now_ms):
            return
        await Commit((Write("grid", b"membership", proof),))
        state.membership = mine

    def _must_admit(self) -> None:
        if not self._state.may_admit:
            raise LocalError(
                "This node may not admit members: run this on the founder's, or on one whose membership may "
                "be passed on (`promisegrid cap grant DID --ability member --delegate 1` on the founder's)."
            )

    # -- serving and trusting --------------------------------------------------------------------------

    async def set_serving(self, cpu: int, memory_bytes: int) -> None:
        """Promise to run programs for members: so many at once, so much memory each; cpu 0 ends it."""
        limits = self._state.limits
        if not 0 <= cpu <= limits.runs or (cpu and not 65_536 <= memory_bytes <= limits.memory_bytes):
            most = units.size(limits.memory_bytes)
            text = f"Serve 1 to {limits.runs} programs at once, with 64 KiB to {most} of memory each."
            raise LocalError(text, "bad_args")
        before = self._state.serving.cpu if self._state.serving else 0
        await settings.set_serving(self._state, Serving(cpu, memory_bytes) if cpu else None)
        self._runner.guests.resize(cpu - before)
        if not cpu:
            self._runner.guests.turn_away(RemoteError("not_serving"))
        for link in self._state.open_links():
            link.send(frames.Status(cpu > 0, self._state.engine_told))

    async def serving(self) -> dict[str, int] | None:
        """{"cpu", "memory"}, or None while this node runs nothing for others."""
        kept = self._state.serving
        return None if kept is None else {"cpu": kept.cpu, "memory": kept.memory_bytes}

    async def set_trust(
        self, mode: Literal["own", "peers", "agree"], executors: list[str], agree: int = 2
    ) -> None:
        """Whose receipts answer from the cache; see `receipt.TrustPolicy`."""
        if mode not in ("own", "peers", "agree") or agree < 2:
            raise LocalError('Trust is "own", "peers" with DIDs, or "agree" with 2 or more.', "bad_args")
        for executor in executors:
            try:
                did.decode(executor)
            except RemoteError as error:
                raise LocalError(error.text, "bad_args") from error
        await settings.set_trust(self._state, TrustPolicy(mode, frozenset(executors), agree))
        self._memo.forget()

    async def trust(self) -> dict[str, Any]:
        """{"mode", "dids", "agree"}."""
        kept = self._state.trust
        return {"mode": kept.mode, "dids": sorted(kept.executors), "agree": kept.agree}

    # -- looking back ----------------------------------------------------------------------------------

    def saw(
        self, asker: str, task: Task, done: RunResult | None, refusal: RemoteError | None, ms: int
    ) -> None:
        """Note a call that was dealt with, and tell who is watching."""
        detail = Dealt(self._state.now_ms, ms, asker, task, done, refusal)
        self._history.appendleft(detail)
        if done is not None:
            self._state.totals.answers[_source(done, self._state.me)] += 1
        self._state.scheduler.emit(Notify("receipt" if done is not None else "message", detail))

    async def evidence(self) -> list[dict[str, Any]]:
        """Disagreements kept by `Verifier`: {"evidence", "task", "at", "said"}, CIDs as text."""
        return await self._verifier.evidence()

    async def history(self, limit: int = 50) -> list[dict[str, Any]]:
        """The latest calls, newest first, since this node started."""
        return [dict(dealt) for dealt in islice(self._history, max(0, limit))]

    async def running(self) -> list[dict[str, Any]]:
        """What is running now, for whom, since when; `stop` takes the task."""
        return [
            {
                "task": str(cid),
                "code": str(f.task.code),
                "func": f.task.func,
                "for": f.asker,
                "since_ms": f.since_ms,
            }
            for cid, f in self._runner.flights.items()
        ]

    async def stop(self, task: Cid) -> bool:
        """End a running task, whoever asked for it; whether it was running."""
        return self._runner.stop(task)

    async def receipt(self, cid: Cid) -> dict[str, Any]:
        """A receipt, read and verified: its fields as text and numbers, and "valid"."""
        data = await self._exchange.block(cid)
        claim, _ = receipt.read(data)
        valid = await receipt.verify(data) is not None
        return {
            "receipt": str(cid),
            "task": str(claim.task),
            "result": str(claim.result),
            "executor": claim.executor,
            "engine": claim.engine,
            "fuel": claim.fuel,
            "meter": None if claim.meter is None else str(claim.meter),
            "memory": claim.memory,
            "wasi": None if claim.wasi is None else str(claim.wasi),
            "valid": valid,
        }

    # -- keeping ---------------------------------------------------------------------------------------

    async def publish(self, app: Cid, name: str, description: str) -> None:
        """Note an app as published by this node."""
        record = dagcbor.encode({"name": name, "description": description, "at": self._state.now_ms // 1000})
        await self._base.name(app, (Write("apps", bytes(app), record),))

    async def published(self) -> list[dict[str, Any]]:
        """What this node has published: cid, name, description, at."""
        found = rows("apps")
        return [{"cid": str(Cid.decode(key)), **dagcbor.decode(value)} async for key, value in found]


def _source(done: RunResult, me: str) -> str:
    """Where a result came from, as `Totals.answers` counts it: out of the cache, or run, and by whom."""
    mine = done.by == me
    if done.cached:
        return "remembered" if mine else "remembered_of_peer"
    return "here" if mine else "there"
