"""The kernel's scheduler: straight-line coroutines that await effects and signals, and nothing else.

A *strand* is one such coroutine. It runs until it awaits an `Effect` (which gets a ticket and goes to the
host), a `Signal` that is not yet set, or a `Pause`; then the next ready strand runs, until none is.
There is no asyncio here: one step costs about a microsecond on every host, and a run of the whole kernel
is exact and repeatable.

Laws:
1. Every wait has a deadline. An effect that the host does not answer in time ends as `RemoteError`.
2. A strand that ends wakes whoever awaits its `done` signal; an exception nobody awaits is our bug
   unless it is a `RemoteError` or `LocalError`.
3. Time is handed in. Dates follow the host's clock wherever it is set; waits go by `steady_ms`, which stands
   still for a moment when that clock is set back, and never goes backwards.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Generic, TypeVar, cast

from promisegrid.effects import Cancel, Commit, Effect, Failure, Prepare, Run, Save, Sign, Verify
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frozen import frozen
from promisegrid.limits import Limits
from promisegrid.turns import Turns

T = TypeVar("T")
Issued = list[tuple[int, Effect]]
Timer = tuple[int, int, "Wait"]
"""Due when, in which order it was set, whose wait."""


_TIMERS: Final = 1024
"""Deadlines kept before those that have become pointless are looked for."""


class Late(Exception):
    """A wait's own deadline passed. Never leaves the kernel: whoever sets a deadline catches it."""


class Signal(Generic[T]):
    """A value, or an error, that arrives once. Awaiting it after it is set returns at once."""

    __slots__ = ("_scheduler", "error", "is_set", "value", "waiting")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.is_set = False
        self.value: T | None = None
        self.error: Exception | None = None
        self.waiting: dict[Strand[Any], None] = {}

    def set(self, value: T) -> None:
        """Give the value; later calls of `set` and `fail` change nothing."""
        if not self.is_set:
            self.is_set, self.value = True, value
            self._scheduler.wake(self)

    def fail(self, error: Exception) -> None:
        """Give an error, raised in whoever awaits."""
        if not self.is_set:
            self.is_set, self.error = True, error
            self._scheduler.wake(self)

    def __await__(self) -> Generator[Pause, Any, T]:
        if not self.is_set:
            yield Pause(self, None)
        return self.get()

    def get(self) -> T:
        """The value of a set signal, or its error raised."""
        assert self.is_set
        if self.error is not None:
            raise self.error
        return cast(T, self.value)


@frozen
class Pause:
    """What a strand yields to wait: for a signal, for at most `wait_ms`, or both (Late when time is up)."""

    signal: Signal[Any] | None
    wait_ms: int | None

    def __await__(self) -> Generator[Pause, Any, Any]:
        if self.signal is None or not self.signal.is_set:
            yield self
        return None if self.signal is None else self.signal.get()


class Wait:
    """One wait with a deadline. `strand` is None once it is over: a timer must not keep what came of it."""

    __slots__ = ("strand",)

    def __init__(self, strand: Strand[Any]) -> None:
        self.strand: Strand[Any] | None = strand


class Strand(Generic[T]):
    """One running coroutine; `done` is set with its value or its error."""

    __slots__ = ("_coroutine", "cancelled", "done", "signal", "ticket", "wait")

    def __init__(self, coroutine: Coroutine[Any, Any, T], done: Signal[T]) -> None:
        self._coroutine = coroutine
        self.done = done
        self.cancelled = False
        self.wait: Wait | None = None  # the deadline it has, if it waits with one
        self.ticket = 0  # the effect it waits for, or 0
        self.signal: Signal[Any] | None = None

    def step(self, value: object, error: BaseException | None) -> Effect | Pause:
        """Run to the next wait; StopIteration when it ends."""
        wish: Effect | Pause
        wish = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
        return wish

    def close(self) -> None:
        """Drop a coroutine that will never run again."""
        self._coroutine.close()


class Scheduler:
    """Runs strands, numbers effects, keeps deadlines. Its owner drains `effects` after each entry."""

    def __init__(self, limits: Limits) -> None:
        self.now_ms = 0
        self._back_ms = 0  # how far the clock was set back in all
        self.effects: Issued = []
        self._limits = limits
        self._next_ticket = 1
        self._next_order = 1
        self._waiting: dict[int, Strand[Any]] = {}
        self._timers: list[Timer] = []
        self._timers_most = self._usual_most = _TIMERS
        self._usual: deque[Timer] = deque()
        self._ready: deque[tuple[Strand[Any], object, BaseException | None]] = deque()
        self._running = False
        self.current: Strand[Any] | None = None
        self._watcher: Callable[[Save | Commit], None] | None = None

    # -- for the kernel's parts ----------------------------------------------------------------------

    def emit(self, effect: Effect) -> None:
        """Tell the host something that needs no answer."""
        self.effects.append((0, effect))

    def watch_writes(self, watcher: Callable[[Save | Commit], None] | None) -> None:
        """Have every write told as it is asked for, or no longer."""
        self._watcher = watcher

    def signal(self) -> Signal[Any]:
        """A fresh signal of this scheduler."""
        return Signal(self)

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> Strand[T]:
        """Start a strand; it first runs when the current one waits."""
        strand: Strand[T] = Strand(coroutine, Signal(self))
        self._ready.append((strand, None, None))
        return strand

    def cancel(self, strand: Strand[Any]) -> None:
        """End a strand where it waits, with RemoteError("cancelled"); its host effect is cancelled too."""
        if strand.done.is_set or strand.cancelled:
            return
        strand.cancelled = True
        self._leave(strand)
        self._resume(strand, None, RemoteError("cancelled", "The call was cancelled."))

    def wake(self, signal: Signal[Any]) -> None:
        """A signal was set: everybody who waits for it is ready."""
        waiting, signal.waiting = signal.waiting, {}
        for strand in waiting:
            if strand.signal is signal:
                self._resume(strand, None, None)

    # -- for the kernel's entry points ---------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Take the host's clock, also when it was set back: who waits then waits no longer than before."""
        if now_ms < self.now_ms:
            self._back_ms += self.now_ms - now_ms
        self.now_ms = now_ms

    @property
    def steady_ms(self) -> int:
        """A clock for how long something takes: it is no date, and never goes backwards."""
        return self.now_ms + self._back_ms

    def answer(self, ticket: int, value: object) -> None:
        """The host finished an effect. An answer nobody waits for any more is dropped."""
        strand = self._waiting.pop(ticket, None)
        if strand is None:
            return
        strand.ticket = 0
        if isinstance(value, Failure):
            self._resume(strand, None, RemoteError(value.code, value.text))
        else:
            self._resume(strand, value, None)

    def fire(self) -> None:
        """Resume every strand whose deadline has passed."""
        while (due := self.next_timer()) is not None and due <= self.now_ms:
            usual = self._usual and (not self._timers or self._usual[0] < self._timers[0])
            strand = (self._usual.popleft() if usual else heapq.heappop(self._timers))[2].strand
            assert strand is not None, "next_timer lets go of waits that are over"
            if strand.ticket:
                self._leave(strand)
                self._resume(strand, None, RemoteError("internal", "The host did not finish in time."))
            elif strand.signal is None:
                self._resume(strand, None, None)
            else:
                self._resume(strand, None, Late())

    def next_timer(self) -> int | None:
        """When `tick` is next due, in the host's milliseconds; None when nothing waits for time."""
        while self._timers and self._timers[0][2].strand is None:
            heapq.heappop(self._timers)
        while self._usual and self._usual[0][2].strand is None:
            self._usual.popleft()
        if self._usual and (not self._timers or self._usual[0] < self._timers[0]):
            return self._usual[0][0] - self._back_ms
        return self._timers[0][0] - self._back_ms if self._timers else None

    def run(self) -> Issued:
        """Run every ready strand until all wait; the effects they asked for, in order."""
        if not self._running:
            self._running = True
            try:
                while self._ready:
                    self._step(*self._ready.popleft())
            finally:
                self._running, self.current = False, None
        effects, self.effects = self.effects, []
        return effects

    # -- inside --------------------------------------------------------------------------------------

    def _leave(self, strand: Strand[Any]) -> None:
        """The strand waits for its effect no more, nor for anything else; the host may stop."""
        if strand.ticket and self._waiting.pop(strand.ticket, None) is strand:
            self.emit(Cancel(strand.ticket))
        strand.ticket = 0
        self._part(strand)

    def _resume(self, strand: Strand[Any], value: object, error: BaseException | None) -> None:
        self._part(strand)
        self._ready.append((strand, value, error))

    def _part(self, strand: Strand[Any]) -> None:
        """The strand's wait is over; its deadline and the signal it waited for need not know it any more."""
        if strand.wait is not None:
            strand.wait.strand = None
            strand.wait = None
        if strand.signal is not None:
            strand.signal.waiting.pop(strand, None)
            strand.signal = None

    def _step(self, strand: Strand[Any], value: object, error: BaseException | None) -> None:
        if strand.done.is_set:
            return
        if error is not None:
            self._leave(strand)  # cancelled while it was about to go on: it has gone on, and waits again
        self.current = strand
        try:
            wish = strand.step(value, error)
        except StopIteration as end:
            strand.done.set(end.value)
        except (RemoteError, LocalError, Late) as wrong:
            strand.done.fail(wrong)
        else:
            self._park(strand, wish)

    def _park(self, strand: Strand[Any], wish: Effect | Pause) -> None:
        if isinstance(wish, Effect):
            strand.ticket, self._next_ticket = self._next_ticket, self._next_ticket + 1
            self._waiting[strand.ticket] = strand
            self.effects.append((strand.ticket, wish))
            self._timer(strand, self._deadline_of(wish))
            if self._watcher is not None and isinstance(wish, (Save, Commit)):
                self._watcher(wish)
            return
        assert isinstance(wish, Pause), f"a strand awaited {wish!r}"
        strand.signal = wish.signal
        if wish.signal is not None:
            wish.signal.waiting[strand] = None
        if wish.wait_ms is not None:
            self._timer(strand, wish.wait_ms)

    def _deadline_of(self, effect: Effect) -> int:
        kind = type(effect)
        if kind is Verify or kind is Sign:
            return self._limits.effect_ms
        if isinstance(effect, Run):
            return effect.job.time_ms + self._limits.effect_ms
        return self._limits.prepare_ms if isinstance(effect, Prepare) else self._limits.effect_ms

    def _timer(self, strand: Strand[Any], wait_ms: int) -> None:
        """Nearly all waits are for an effect and equally long: they fall due in the order they were set."""
        strand.wait = Wait(strand)
        timer = (self.now_ms + self._back_ms + wait_ms, self._next_order, strand.wait)
        self._next_order += 1
        if wait_ms == self._limits.effect_ms:
            self._usual.append(timer)
        else:
            heapq.heappush(self._timers, timer)
        if len(self._timers) > self._timers_most or len(self._usual) > self._usual_most:
            self._sweep()

    def _sweep(self) -> None:
        """Let go of deadlines of waits that are over: long ones would otherwise be kept until they pass."""
        self._timers = [timer for timer in self._timers if timer[2].strand is not None]
        heapq.heapify(self._timers)
        self._usual = deque(timer for timer in self._usual if timer[2].strand is not None)
        self._timers_most = max(_TIMERS, 2 * len(self._timers))
        self._usual_most = max(_TIMERS, 2 * len(self._usual))


class Slots:
    """At most `count` holders at once; the others wait in a bounded line, links and senders taking turns."""

    def __init__(self, scheduler: Scheduler, count: int, waiting_max: int) -> None:
        self.free = count
        self._scheduler = scheduler
        self._line: Turns[Signal[None]] = Turns(waiting_max)
        self._busy = f"{waiting_max} others are already waiting; try again later."

    def take_now(self) -> bool:
        """Take a slot if one is free; pair with `give`."""
        if self.free > 0:
            self.free -= 1
            return True
        return False

    async def take(self, link: int = 0, sender: str = "") -> None:
        """Wait for a slot on behalf of a sender on a link. RemoteError("busy") when the line is full.

        Pair with `give`.
        """
        if self.take_now():
            return
        turn: Signal[None] = self._scheduler.signal()
        crowded_out = self._line.add(turn, link, sender)
        if crowded_out is not None:
            crowded_out.fail(RemoteError("busy", self._busy))
        try:
            await turn
        except RemoteError:
            if not self._line.remove(turn) and turn.is_set and turn.error is None:
                self.give()
            raise

    def give(self) -> None:
        """Hand the slot to whose turn it is."""
        if len(self._line):
            self.resize(1)
        else:
            self.free += 1

    def turn_away(self, wrong: RemoteError) -> None:
        """Tell everybody in line that their turn will not come."""
        for turn in self._line.drain():
            turn.fail(wrong)

    def resize(self, by: int) -> None:
        """More or fewer slots; those in use stay with their holders, so `free` may be below zero."""
        self.free += by
        while self.free > 0 and (turn := self._line.next()) is not None:
            self.free -= 1
            turn.set(None)
