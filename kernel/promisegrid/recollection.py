"""What others remember of a task: asked for before it is run, told to who may know (docs/protocols/memo.md).

Nobody is asked unless the owner's policy lets others' receipts count. A few neighbours are asked at once, the
nearest first, and pass the question on when they have nothing to tell. What comes back is verified as far as
the policy may let it count, kept, and answers from then on like what was run here; the rest is dropped.

Laws:
1. A node tells what it remembers only while it serves: whoever may ask could have had it run here.
2. Nothing that is told here runs anything, and the policy alone decides what answers a task.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Coroutine, Mapping
from itertools import zip_longest
from typing import Any

from promisegrid import reasons, receipt
from promisegrid.block import Block
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.link import Link
from promisegrid.memo import Memo, Told
from promisegrid.protocols import MEMO
from promisegrid.receipt import Receipt
from promisegrid.runner import Watch
from promisegrid.state import State
from promisegrid.strand import Scheduler, Signal
from promisegrid.task import RunResult, read_result


class _Asked:
    """Several peers that are asked at once: their answers as they come."""

    def __init__(self, scheduler: Scheduler, asked: Mapping[Link, Coroutine[Any, Any, list[Told]]]) -> None:
        self._scheduler = scheduler
        self._came: deque[tuple[Link, list[Told]]] = deque()
        self._news: Signal[None] = scheduler.signal()
        self._strands = [scheduler.spawn(self._hear(link, answer)) for link, answer in asked.items()]

    async def _hear(self, link: Link, answer: Coroutine[Any, Any, list[Told]]) -> None:
        self._came.append((link, await answer))
        self._news.set(None)

    async def answers(self) -> AsyncIterator[tuple[Link, list[Told]]]:
        """One of each peer; whoever answers nothing in time answered with nothing."""
        for _ in self._strands:
            if not self._came:
                self._news = self._scheduler.signal()
                await self._news
            yield self._came.popleft()

    def end(self) -> None:
        """Wait for no more."""
        for strand in self._strands:
            self._scheduler.cancel(strand)


class Recollection:
    """Asks and answers for one node."""

    def __init__(self, state: State, exchange: Exchange, memo: Memo, caller: Caller) -> None:
        self._state, self._exchange, self._memo, self._caller = state, exchange, memo, caller

    async def ask(self, task: Cid, watch: Watch) -> RunResult | None:
        """The result of a task by receipts of others, if the policy accepts one; nothing is run."""
        if self._state.trust.mode == "own":
            return None
        asked = self._ask_around(task, self._state.limits.recollect_hops, None)
        try:
            async for link, told in asked.answers():
                await self._take(task, told, link)
                for claim, _ in await self._memo.elect(task):
                    if await self._bring(claim, link, watch):
                        return await self._memo.look_up(task)
        finally:
            asked.end()
        return None

    def why(self, done: RunResult, on: str | None = None) -> str:
        """Why a result came from where it came from; `on`: the peer that was told to run it."""
        return reasons.why(self._state, done, on)

    async def tell(self, link: Link, task: Cid, hops: int) -> list[Told]:
        """What a peer is told of a task, our own receipts or those our other neighbours have."""
        told = [] if self._state.serving is None else await self._memo.told(task)
        if told or not 0 < hops <= self._state.limits.recollect_hops or not link.may_miss():
            return told
        link.count_miss()  # found or not, it costs a word to each of them
        asked, by = self._ask_around(task, hops - 1, link), list[list[Told]]()
        try:
            async for other, answer in asked.answers():
                by.append([one for one in answer if not self._is_ours(one)])
                await self._take(task, by[-1], other)
        finally:
            asked.end()
        in_turn = [one for row in zip_longest(*by) for one in row if one is not None]
        return in_turn[: self._state.limits.receipts_told]  # so that who tells much hides nobody else

    def _ask_around(self, task: Cid, hops: int, but: Link | None) -> _Asked:
        links = [link for link in self._state.open_links() if link.via != "relay"]
        avoided = "" if but is None else but.did
        links = [link for link in links if link.did != avoided and self._state.link_to(link.did) is link]
        links.sort(key=lambda link: (not link.serves, link.rtt_ms is None, link.rtt_ms or 0))
        few = links[: self._state.limits.recollect_breadth]
        return _Asked(self._state.scheduler, {link: self._answered(link, task, hops) for link in few})

    async def _answered(self, link: Link, task: Cid, hops: int) -> list[Told]:
        """What one peer answers in time; nothing, where it is anything but an answer."""
        wait_ms = self._state.limits.recollect_ms * (hops + 1)
        try:
            body = await self._caller.ask_on(link, MEMO, "receipts", (task, hops), wait_ms)
        except (RemoteError, LocalError) as wrong:
            if wrong.code == "cancelled":
                raise
            return []
        rows = body.get("receipts") if isinstance(body, dict) else None
        if not isinstance(rows, list) or len(rows) > self._state.limits.receipts_told:
            return []
        most = self._state.limits.memo_recent_bytes
        return [
            (row[0], row[1] if row[1] is not None and len(row[1]) <= most else None)
            for row in rows
            if _is_told(row) and len(row[0]) <= most
        ]

    async def _take(self, task: Cid, told: list[Told], link: Link) -> None:
        """Keep what the policy may let count."""
        for data, result in told:
            claim = await self._verified(task, data, link)
            if claim is None:
                continue
            blocks = [Block(claim.result, result)] if result and claim.result.holds(result) else []
            await self._memo.remember(claim, Block.of(data), blocks, link.did)

    async def _verified(self, task: Cid, data: bytes, link: Link) -> Receipt | None:
        trust = self._state.trust
        try:
            claimed, _ = receipt.read(data)
        except RemoteError:
            return None
        counts = claimed.executor in trust.executors
        counts = counts or (trust.mode == "agree" and claimed.executor == link.did)
        if not counts or claimed.task != task or claimed.executor in self._state.banned:
            return None
        claim = await receipt.verify(data)
        if claim is None and claimed.executor == link.did:
            link.count_bad_signature()
        return claim

    async def _bring(self, claim: Receipt, link: Link, watch: Watch) -> bool:
        """Whether all that a result names is here."""
        most = self._state.limits.output_bytes * 2
        try:
            content = read_result(await self._exchange.block(claim.result, link))
            for part in content.parts():
                await self._exchange.fetch_dag(part, most, lambda _, size: watch("fetch", size, None), link)
        except RemoteError as wrong:
            if wrong.code == "cancelled":
                raise
            return False
        return True

    def _is_ours(self, told: Told) -> bool:
        """Whether it claims to be this node's own, or nobody's."""
        try:
            return receipt.read(told[0])[0].executor == self._state.me
        except RemoteError:
            return True


def _is_told(row: object) -> bool:
    if not isinstance(row, list) or len(row) != 2:
        return False
    return isinstance(row[0], bytes) and (row[1] is None or isinstance(row[1], bytes))
