"""What has been run already: from a task to the receipts about it, and which of them answers.

Rows of the `memo` table are task CID + receipt CID → executor. Only verified receipts get a row, and only
when the executor's key is trusted or proved itself on the link they came from: a did:key is free, and one
member with many could agree with himself. Which of them spares a run is the owner's `TrustPolicy`; a result
whose content has been lost or has rotted spares nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

from promisegrid import receipt, task
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.effects import Load, Save, Scan, Write
from promisegrid.exchange import Exchange, block_writes
from promisegrid.receipt import Receipt
from promisegrid.state import State
from promisegrid.task import RunResult

_RECEIPTS_READ = 64
Told = tuple[bytes, bytes | None]
"""A receipt's bytes, and its result's where they are few."""
_PAGES = 16
"""So often are so many rows about one task read; no honest work leaves more of them."""


class Memo:
    """Remembers receipts, and answers tasks from them."""

    def __init__(self, state: State, exchange: Exchange) -> None:
        self._state, self._exchange = state, exchange
        self._recent: OrderedDict[bytes, RunResult] = OrderedDict()
        self._disputed: set[Cid] = set()
        self._held: OrderedDict[Cid, None] = OrderedDict()

    def forget(self) -> None:
        """Drop what is remembered in memory: after the policy changed."""
        self._recent.clear()

    async def look_up(self, task_cid: Cid) -> RunResult | None:
        """The answer the policy accepts, with its content here; None when the task has to run."""
        known = self._recent.get(task_cid.encoded)
        if known is not None and (known.exit is None or await self._still_there(known)):
            self._recent.move_to_end(task_cid.encoded)
            return known
        for claim, receipt_cid in await self.elect(task_cid):
            if (answer := await self._answer(claim, receipt_cid)) is not None:
                self._keep(task_cid, *answer)
                return answer[0]
        return None

    async def elect(self, task_cid: Cid) -> list[tuple[Receipt, Cid]]:
        """The receipts for the result that the policy accepts, whether its content is here or not."""
        claims = await self._claims(task_cid)
        receipts = [await self._read(cid, task_cid) for _, cid in claims]
        found = [
            (claim, cid) for claim, (_, cid) in zip(receipts, claims, strict=True) if claim is not None
        ]
        result = self._state.trust.choose(self._state.me, [(r.executor, r.result) for r, _ in found])
        return [(claim, cid) for claim, cid in found if claim.result == result]

    async def told(self, task_cid: Cid) -> list[Told]:
        """What others may be told of a task: one receipt of each executor, this node's first."""
        by: dict[str, Cid] = {}
        prefix, after = bytes(task_cid), bytes(task_cid)
        for _ in range(_PAGES):
            rows: tuple[tuple[bytes, bytes], ...] = await Scan("memo", prefix, after, _RECEIPTS_READ)
            for key, executor in rows:
                by.setdefault(executor.decode(), Cid.decode(key[len(prefix) :]))
            if len(rows) < _RECEIPTS_READ:
                break
            after = rows[-1][0]
        told: list[Told] = []
        for who in sorted(by, key=lambda did: did != self._state.me)[: self._state.limits.receipts_told]:
            data = await self._exchange.stored(by[who])
            if data is not None:
                result = await self._exchange.stored(receipt.read(data)[0].result)
                small = result is not None and len(result) <= self._state.limits.memo_recent_bytes
                told.append((data, result if small else None))
        return told

    async def _claims(self, task_cid: Cid) -> list[tuple[str, Cid]]:
        """Who says something about a task, and in which receipt, as far as the policy wants to know.

        Whoever leaves many receipts about one task hides nobody else's: rows are read on until enough count.
        """
        prefix, after, claims = bytes(task_cid), bytes(task_cid), list[tuple[str, Cid]]()
        wanted = {self._state.me, *self._state.trust.executors}
        if task_cid in self._disputed:
            wanted = {self._state.me}
        elif self._state.trust.mode == "agree":
            wanted = set()
        for _ in range(_PAGES):
            rows: tuple[tuple[bytes, bytes], ...] = await Scan("memo", prefix, after, _RECEIPTS_READ)
            for key, executor in rows:
                who = executor.decode()
                if who not in self._state.banned and (not wanted or who in wanted):
                    claims.append((who, Cid.decode(key[len(prefix) :])))
            if len(rows) < _RECEIPTS_READ or len(claims) >= _RECEIPTS_READ:
                break
            after = rows[-1][0]
        return claims[:_RECEIPTS_READ]

    async def remember(self, claim: Receipt, block: Block, blocks: list[Block], source: str) -> None:
        """Keep a verified receipt and what it names, written behind: losing them costs a run, no more.

        `source`: the did:key that proved itself and handed the receipt over; this node's own for a run here.
        """
        self._held[block.cid] = None
        if len(self._held) > self._state.limits.verdicts:
            self._held.popitem(last=False)
        row = self._row(claim.task, block.cid, claim.executor, source)
        await Save((*block_writes([*blocks, block]), *row))

    async def index(self, done: RunResult, source: str) -> None:
        """Let a verified receipt that is already stored count, as `remember` would."""
        await Save(self._row(done.task, done.receipt, done.by, source))

    def _row(self, task_cid: Cid, receipt_cid: Cid, executor: str, source: str) -> tuple[Write, ...]:
        if executor not in {source, self._state.me, *self._state.trust.executors}:
            return ()
        return (Write("memo", bytes(task_cid) + bytes(receipt_cid), executor.encode()),)

    def dispute(self, task_cid: Cid) -> None:
        """Peers disagree about a task: from now on only this node's own receipts answer it."""
        self._disputed.add(task_cid)
        self._recent.pop(task_cid.encoded, None)

    async def block(self, cid: Cid) -> bytes | None:
        """A block of this node's store."""
        return await self._exchange.stored(cid)

    def note(self, done: RunResult, size: int) -> None:
        """A value that was just computed here, `size` bytes long, answers a repeat from memory."""
        if not done.content.parts():
            self._keep(done.task, done, size)

    async def _still_there(self, known: RunResult) -> bool:
        """Whether the content of a command's result is still in the store, by its roots."""
        roots = known.content.parts()
        found = await Load("blocks", tuple(bytes(root) for root in roots))
        if None in found:
            del self._recent[known.task.encoded]
        return None not in found

    async def _read(self, receipt_cid: Cid, task_cid: Cid) -> Receipt | None:
        data = await self._exchange.stored(receipt_cid)
        if data is None:
            return None
        held = receipt_cid in self._held  # then the signature was checked, or made, by this very process
        claim = receipt.read(data)[0] if held else await receipt.verify(data)
        return claim if claim is not None and claim.task == task_cid else None

    async def _answer(self, claim: Receipt, receipt_cid: Cid) -> tuple[RunResult, int] | None:
        """The answer, and the bytes of its result."""
        data = await self._exchange.stored(claim.result)
        if data is None:
            return None
        content = task.read_result(data)
        for part in content.parts():
            if not await self._exchange.stored_dag(part):
                return None
        answer = RunResult(
            claim.task,
            claim.result,
            receipt_cid,
            content,
            claim.executor,
            cached=True,
            fuel=claim.fuel,
            engine=claim.engine,
        )
        return answer, len(data)

    def _keep(self, task_cid: Cid, answer: RunResult, size: int) -> None:
        if size > self._state.limits.memo_recent_bytes:
            return
        self._recent[task_cid.encoded] = answer if answer.cached else replace(answer, cached=True)
        if len(self._recent) > self._state.limits.memo_recent:
            self._recent.popitem(last=False)
