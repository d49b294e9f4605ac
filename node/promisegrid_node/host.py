"""The loop that lets the kernel live on CPython: it performs effects and brings back the answers.

Promises: effects of one list that can go together do (one store transaction); a `Commit` is durable before it
is answered; store, hashing and programs never block the loop; a fault of one effect becomes its `Failure`.
It does not know what a frame means, nor what an HTTP request is. One `Host` owns one kernel, on one loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Literal, TypeVar

from promisegrid.cid import Cid
from promisegrid.effects import (
    Abandon,
    Approach,
    Cancel,
    Close,
    Describe,
    Digest,
    Effect,
    Establish,
    Failure,
    Gateway,
    Notify,
    Prepare,
    Providers,
    Push,
    Reply,
    Run,
    Send,
    Sign,
    Verify,
)
from promisegrid.errors import RemoteError
from promisegrid.kernel import Kernel
from promisegrid.limits import Limits
from promisegrid_node import ports
from promisegrid_node.disk import LATER, Disk
from promisegrid_node.fetching import GatewayClient
from promisegrid_node.ports import Fetcher, Keys, Runtime, Store, StoreEffect, Transport, no_dials

T = TypeVar("T")
Work = Run | Prepare | Digest | Push | Gateway | Providers | Approach | Describe
Issued = list[tuple[int, Effect]]
Progress = Callable[[Mapping[str, Any]], None]
Listener = Callable[[str, Mapping[str, Any]], None]

FRAMES_A_TURN = 64
"""Frames that go into the kernel together at most, so that nothing else waits long."""

HASH_HERE = 2 * 1024 * 1024  # a block: the way to a thread and back costs a third of hashing one
HANG_UP_S, HANG_UP_STEPS = 1.0, 20

log = logging.getLogger("promisegrid")


@dataclass(slots=True)
class _Ask:
    future: asyncio.Future[Any]
    on_progress: Progress | None


def clock_ms() -> int:
    """The wall clock, milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Host:
    """A kernel with a disk, a key, an engine and connections.

    Make it inside a running loop, `await start()`, then `ask`, `connect`, `receive`; at last `await close()`.
    """

    def __init__(
        self,
        kernel: Kernel,
        store: Store,
        keys: Keys,
        runtime: Runtime,
        clock: Callable[[], int] = clock_ms,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.kernel = kernel
        self.store = store
        self._keys, self._runtime, self.clock = keys, runtime, clock
        self._fetcher = fetcher or GatewayClient(Limits())
        self._loop = asyncio.get_running_loop()
        self._links: dict[int, Transport] = {}
        self._frames: list[tuple[int, bytes]] = []
        self._link_numbers, self._ask_numbers = count(1), count(1)
        self._asks: dict[int, _Ask] = {}
        self._listeners: list[Listener] = []
        self._work: dict[int, asyncio.Task[None]] = {}
        self._disk = Disk(store, self._answer)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms: int | None = None
        self._closed = False
        self.approach: Callable[[Approach], Awaitable[object]] = no_dials
        self.channels: ports.Channels = ports.NoChannels()
        self.runs = 0
        """Programs run here since the start."""

    # -- for the command line and the page -----------------------------------------------------------

    async def start(self) -> dict[str, Any]:
        """Boot the kernel from what the store holds. Answer: `{"did", "grid"}`."""
        booted: dict[str, Any] = await self.ask(self.kernel.owner.boot())
        return booted

    async def ask(self, verb: Coroutine[Any, Any, T], on_progress: Progress | None = None) -> T:
        """Have the kernel carry out one of its verbs, and wait for the end.

        Raises RemoteError or LocalError. Cancelling the waiting task cancels the verb.
        """
        if self._closed:
            verb.close()
            raise asyncio.CancelledError
        number = next(self._ask_numbers)
        future: asyncio.Future[T] = self._loop.create_future()
        self._asks[number] = _Ask(future, on_progress)
        try:
            self._enter(lambda now: self.kernel.ask(number, verb, now))
            return await future
        except asyncio.CancelledError:
            self._asks.pop(number, None)
            if not self._closed:
                self._enter(lambda now: self.kernel.cancel(number, now))
            raise
        finally:
            self._asks.pop(number, None)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(kind, detail)` for every Notify; the returned function ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def stat(self) -> dict[str, int]:
        """What the store holds: {"blocks", "bytes"}."""
        return await self._disk.stat()

    async def check(self) -> list[str]:
        """What is wrong with the store's file, a sentence each; blocks are not hashed."""
        return await self._disk.check()

    async def hang_up(self) -> None:
        """Close every link, and give each a moment to say so."""
        for transport in list(self._links.values()):
            transport.close("closed", "The node is stopping.")
        for _ in range(HANG_UP_STEPS):
            if not self._links:
                return
            await asyncio.sleep(HANG_UP_S / HANG_UP_STEPS)

    async def close(self) -> None:
        """Stop programs, finish what waits for the disk. Closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for ask in list(self._asks.values()):
            ask.future.cancel()
        for work in list(self._work.values()):
            work.cancel()
        await asyncio.gather(*self._work.values(), return_exceptions=True)
        await self._runtime.close()
        await self._fetcher.close()
        await self._disk.close()

    # -- for the wire --------------------------------------------------------------------------------

    def connect(
        self,
        transport: Transport,
        role: Literal["initiator", "responder"],
        channel: str,
        via: str = "ws",
        invite: bytes | None = None,
        grid: Cid | None = None,
    ) -> int:
        """A connection is open. Answer: its link number, for `receive` and `disconnect`."""
        link = next(self._link_numbers)
        self._links[link] = transport
        self._enter(lambda now: self.kernel.connect(link, role, channel, via, now, invite=invite, grid=grid))
        return link

    def receive(self, link: int, frame: bytes) -> None:
        """A whole frame arrived. Those of one turn of the loop go into the kernel together."""
        if link in self._links:
            self._frames.append((link, frame))
            if len(self._frames) == 1:
                self._loop.call_soon(self._turn)

    def disconnect(self, link: int) -> None:
        """The connection is down, whoever closed it."""
        while any(number == link for number, _ in self._frames):
            self._turn()
        if self._links.pop(link, None) is not None and not self._closed:
            self._enter(lambda now: self.kernel.disconnect(link, now))

    async def room(self) -> None:
        """Wait until the disk has caught up; called between frames, so that a flood meets back-pressure."""
        await self._disk.room.wait()

    @property
    def link_count(self) -> int:
        """Open connections, proved or not."""
        return len(self._links)

    @property
    def waits(self) -> dict[str, int]:
        """What stands in line: effects for the disk and the bytes they write, verbs that go on."""
        return {**self._disk.waits, "asks": len(self._asks)}

    # -- the loop ------------------------------------------------------------------------------------

    def _enter(self, *steps: Callable[[int], Issued]) -> None:
        """Entries into the kernel, and everything that can be done at once for them.

        Effects are performed in order, and what their answers lead to behind them, a round at a time. A fault
        is a bug of ours: it costs whoever met it, not those whose frames came in the same turn.
        """
        todo: Issued = []
        for step in steps:
            todo += self._led_to(step)
        while todo:
            answers: list[tuple[int, object]] = []
            for ticket, effect in todo:
                try:
                    if not ticket:
                        self._tell(effect)
                    elif (value := self._at_once(effect)) is not LATER:
                        answers.append((ticket, value))
                    else:
                        self._begin(ticket, effect)
                except Exception as fault:  # noqa: BLE001  nobody may be left waiting for what it lost
                    self._give_up(fault)
            todo = self._led_to(partial(self.kernel.answers, answers)) if answers else []
        self._arm()

    def _led_to(self, step: Callable[[int], Issued]) -> Issued:
        """What an entry into the kernel led to. After a fault those that were due in the same entry go on."""
        for _ in range(FRAMES_A_TURN):
            try:
                return step(self.clock())
            except Exception as fault:  # noqa: BLE001  nobody may be left waiting for what it lost
                self._give_up(fault)
                step = self.kernel.tick
        return []

    def _turn(self) -> None:
        """The frames of one turn, a bounded number: like steps of all go together, which keeps them quick."""
        frames, self._frames = self._frames[:FRAMES_A_TURN], self._frames[FRAMES_A_TURN:]
        if self._frames:
            self._loop.call_soon(self._turn)
        self._enter(*(partial(self.kernel.receive, link, data) for link, data in frames))

    def _give_up(self, fault: Exception) -> None:
        """The kernel failed where it must not: whoever waits is told, loudly, rather than left hanging."""
        log.error("a fault in the kernel: %s: %s", type(fault).__name__, fault, exc_info=fault)
        for asked in list(self._asks.values()):
            if not asked.future.done():
                text = f"This node failed ({type(fault).__name__}: {fault}); its log says where."
                asked.future.set_exception(RemoteError("internal", text))

    def _tell(self, effect: Effect) -> None:
        """Effects that nobody waits for."""
        if isinstance(effect, Send):
            if effect.link in self._links:
                self._links[effect.link].send(effect.frame)
        elif isinstance(effect, Notify):
            self._notify(effect)
        elif isinstance(effect, Reply):
            self._reply(effect)
        elif isinstance(effect, Close):
            if effect.link in self._links:
                self._links[effect.link].close(effect.code, effect.text)
        elif isinstance(effect, Cancel):
            if effect.ticket in self._work:
                self._work[effect.ticket].cancel()
        elif isinstance(effect, Establish | Abandon):
            self.channels.told(effect)
        else:
            raise AssertionError(f"{effect!r} was told, not asked")

    def _at_once(self, effect: Effect) -> object:
        """The answer, where that is cheaper than a trip to a thread; else LATER."""
        if type(effect) is Push:
            self._tell(effect)
            transport = self._links.get(effect.link)
            return None if transport is None or transport.room.is_set() else LATER
        if type(effect) is Digest and len(effect.data) <= HASH_HERE:
            return hashlib.sha256(effect.data).digest()
        if type(effect) is Sign:
            return self._keys.sign(effect.message)
        if type(effect) is Verify:
            return self._keys.verify(effect.alg, effect.key, effect.message, effect.signature)
        if isinstance(effect, StoreEffect):
            return self._disk.at_once(effect)
        if isinstance(effect, (Prepare, Run)):
            return self._run_at_once(effect)
        return LATER

    def _run_at_once(self, effect: Prepare | Run) -> object:
        try:
            value = self._runtime.at_once(effect)
        except Exception as fault:  # noqa: BLE001  the engine is not ours
            return _runtime_failed(fault)
        if value is None:
            return LATER
        self.runs += isinstance(effect, Run)
        return value

    def _begin(self, ticket: int, effect: Effect) -> None:
        """Effects that take their time."""
        if isinstance(effect, StoreEffect):
            self._disk.take(ticket, effect)
        elif isinstance(effect, Work):
            task = self._loop.create_task(self._perform(ticket, effect))
            self._work[ticket] = task
            task.add_done_callback(lambda _: self._work.pop(ticket, None))
        else:
            raise AssertionError(f"{effect!r} was asked, not told")

    def _notify(self, effect: Notify) -> None:
        if effect.kind == "progress":
            ask = effect.detail.get("ask")
            asked = self._asks.get(ask) if isinstance(ask, int) else None
            if asked is not None and asked.on_progress is not None:
                asked.on_progress(effect.detail)
        for listener in list(self._listeners):
            listener(effect.kind, effect.detail)

    def _reply(self, effect: Reply) -> None:
        asked = self._asks.pop(effect.ask, None)
        if asked is None or asked.future.done():
            return
        if effect.error is not None:
            asked.future.set_exception(effect.error)
        else:
            asked.future.set_result(effect.value)

    def _answer(self, answers: list[tuple[int, object]]) -> None:
        if answers and not self._closed:
            self._enter(partial(self.kernel.answers, answers))

    def _arm(self) -> None:
        """Set the one timer to the kernel's next. One that is early does no harm: it finds the right time."""
        due = self.kernel.next_timer()
        if self._closed or due is None or (self._timer_ms is not None and self._timer_ms <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = due
        self._timer = self._loop.call_later(max(0, due - self.clock()) / 1000, self._tick)

    def _tick(self) -> None:
        self._timer_ms = self._timer = None
        self._enter(self.kernel.tick)

    # -- work off the loop ---------------------------------------------------------------------------

    async def _perform(self, ticket: int, effect: Work) -> None:
        value: object = None
        try:
            if isinstance(effect, Push):
                await self._links[effect.link].room.wait() if effect.link in self._links else None
            elif isinstance(effect, Digest):
                value = await asyncio.to_thread(lambda: hashlib.sha256(effect.data).digest())
            elif isinstance(effect, Describe):
                value = await self.channels.describe(effect)
            elif isinstance(effect, Approach):
                value = await self.approach(effect)
            elif isinstance(effect, Gateway):
                value = await self._fetcher.block(effect.url, effect.cid, effect.is_found)
            elif isinstance(effect, Providers):
                value = await self._fetcher.providers(effect.url, effect.cid)
            elif isinstance(effect, Prepare):
                value = await self._runtime.prepare(effect)
            else:
                self.runs += 1
                value = await self._runtime.run(effect.job)
        except asyncio.CancelledError:
            value = Failure("cancelled", "The run was stopped.")
        except Exception as fault:  # noqa: BLE001  the engine is not ours
            value = _runtime_failed(fault)
        self._answer([(ticket, value)])


def _runtime_failed(fault: Exception) -> Failure:
    log.error("the runtime failed: %s", fault, exc_info=log.isEnabledFor(logging.DEBUG))
    return Failure("internal", f"The runtime of this node failed: {type(fault).__name__}.")
