"""The line before the disk: what waits for the store's thread, what need not, and what is written behind.

Promises: effects are performed in order, as many together as have gathered; a `Commit` is durable before it
is answered; nothing here blocks the loop. Small saves are answered at once (`behind.py`); when one is lost,
the next who writes is told, and his write is not performed. A look-up among small rows has a connection of
its own, because it costs less than the way to a thread and back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from promisegrid.effects import Commit, Failure, Load, Save, Scan
from promisegrid_node.behind import Behind
from promisegrid_node.ports import Store, StoreEffect

BATCH: Final = 256
"""Effects performed together at most: one transaction's worth, so that readers are not kept waiting."""
WAITING_BYTES: Final = 64 * 1024 * 1024
"""Bytes waiting for the disk above which there is no `room`."""
BEHIND_BYTES: Final = 16 * 1024
"""The largest `Save` that is answered before it is written: receipts, tasks and small results."""
GATHER_S: Final = 0.05
"""How long writes that nobody waits for gather into one transaction."""
LATER: Final = object()
"""The answer of `at_once` to an effect that takes its time."""

log = logging.getLogger("promisegrid")
Answer = Callable[[list[tuple[int, object]]], None]


class Disk:
    """A store's line and its thread. `answer` is called, on the loop, with (ticket, value) of what is done.

    room: set while the line is short; whoever brings more should wait for it.
    """

    def __init__(self, store: Store, answer: Answer) -> None:
        self._store, self._answer = store, answer
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "store")
        self._line: deque[tuple[int, StoreEffect]] = deque()
        self._bytes = 0
        self._task: asyncio.Task[None] | None = None
        self._behind = Behind()
        self._hurry = asyncio.Event()
        self._closed = False
        self.room = asyncio.Event()
        self.room.set()

    def at_once(self, effect: StoreEffect) -> object:
        """The answer, where that takes no trip to the thread; else LATER: `take` it."""
        if isinstance(effect, Save):
            return self._save_behind(effect)
        if isinstance(effect, Load):
            known = self._behind.load(effect)
            return LATER if known is None else known
        if isinstance(effect, Scan) and effect.table == "memo":
            stored = self._store.glance(effect)
            if stored is None:
                return LATER
            return stored if isinstance(stored, Failure) else self._behind.scan(effect, stored)
        return LATER

    def take(self, ticket: int, effect: StoreEffect) -> None:
        """In line for the thread; with ticket 0 nobody waits for it."""
        self._line.append((ticket, effect))
        self._bytes += _weight(effect)
        if ticket or len(self._line) >= BATCH:
            self._hurry.set()
        if self._bytes > WAITING_BYTES:
            self.room.clear()
        if self._task is None:
            self._task = self._loop.create_task(self._carry())

    @property
    def waits(self) -> dict[str, int]:
        """What is in line: {"disk", "disk_bytes"}, effects and the bytes they write."""
        return {"disk": len(self._line), "disk_bytes": self._bytes}

    async def stat(self) -> dict[str, int]:
        """What the store holds: {"blocks", "bytes"}."""
        return await self._loop.run_in_executor(self._thread, self._store.stat)

    async def check(self) -> list[str]:
        """What is wrong with how the store keeps things, a sentence each. The line goes on meanwhile."""
        return await asyncio.to_thread(self._store.check)

    async def close(self) -> None:
        """Write down whatever waits, and close the store."""
        self._closed = True
        self._hurry.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)
        await self._loop.run_in_executor(self._thread, self._store.close)
        self._thread.shutdown(wait=True)

    # -- inside --------------------------------------------------------------------------------------

    def _save_behind(self, effect: Save) -> object:
        """Answer a small save before it is written; LATER when it is large, or an earlier one was lost."""
        if self._behind.lost is not None or self._bytes > WAITING_BYTES:
            return LATER
        if _weight(effect) > BEHIND_BYTES or any(write.value is None for write in effect.writes):
            return LATER
        self._behind.put(effect.writes)
        self.take(0, effect)
        return None

    async def _carry(self) -> None:
        """Carry the line to the thread, as much at once as has gathered."""
        while self._line:
            await self._gather()
            self._hurry.clear()
            batch = self._batch()
            effects = [effect for _, effect in batch]
            answers = await self._loop.run_in_executor(self._thread, self._perform, effects)
            self._bytes -= sum(map(_weight, effects))
            if self._bytes <= WAITING_BYTES:
                self.room.set()
            self._answer(list(self._settled(batch, answers)))
        self._task = None

    def _batch(self) -> list[tuple[int, StoreEffect]]:
        """What goes together. A `Commit` waits until what was written behind is known to be there."""
        batch: list[tuple[int, StoreEffect]] = []
        while self._line and len(batch) < BATCH:
            ticket, effect = self._line[0]
            if isinstance(effect, Commit) and any(not before for before, _ in batch):
                break
            self._line.popleft()
            if self._behind.lost is not None and ticket and isinstance(effect, Save | Commit):
                self._bytes -= _weight(effect)
                self._answer([(ticket, self._behind.lost)])
                self._behind.lost = None
            else:
                batch.append((ticket, effect))
        return batch

    async def _gather(self) -> None:
        """Let writes gather while nobody waits for them."""
        if not self._closed and not any(ticket for ticket, _ in self._line):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_S):
                    await self._hurry.wait()

    def _settled(
        self, batch: list[tuple[int, StoreEffect]], answers: list[object]
    ) -> Iterator[tuple[int, object]]:
        """What those who wait are told; what was written behind is in the store now, or lost."""
        for (ticket, effect), answer in zip(batch, answers, strict=True):
            if not ticket and isinstance(effect, Save):
                self._behind.written(effect.writes)
                if isinstance(answer, Failure):
                    self._behind.lost = answer
            else:
                yield ticket, answer

    def _perform(self, effects: list[StoreEffect]) -> list[object]:
        """In the thread."""
        try:
            return list(self._store.perform(effects))
        except Exception as fault:
            log.error("the store failed: %s", fault, exc_info=log.isEnabledFor(logging.DEBUG))
            failure = Failure("internal", f"The store of this node failed: {type(fault).__name__}.")
            return [failure] * len(effects)


def _weight(effect: StoreEffect) -> int:
    """Bytes a waiting store effect keeps in memory."""
    if isinstance(effect, Save | Commit):
        return sum(len(write.value or b"") for write in effect.writes)
    return 0
