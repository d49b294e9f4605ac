"""The scheduler's laws: every wait ends, nothing is resumed for a wait that is over, order is kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Cancel, Effect, Failure, Job, Load, Prepare, Run, Sign
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.strand import Late, Pause, Scheduler, Signal, Slots

LIMITS = Limits()


class Told:
    """A scheduler, what its strands said, and the effects it issued."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(LIMITS)
        self.said: list[object] = []
        self.issued: list[tuple[int, Effect]] = []

    def go(self, at_ms: int | None = None) -> None:
        if at_ms is not None:
            self.scheduler.advance(at_ms)
            self.scheduler.fire()
        self.issued += self.scheduler.run()

    async def say(self, wait: Coroutine[Any, Any, Any]) -> None:
        try:
            self.said.append(await wait)
        except (RemoteError, Late) as error:
            self.said.append(getattr(error, "code", "late"))


async def effect(wanted: Effect) -> Any:
    return await wanted


async def pause(signal: Signal[Any] | None, wait_ms: int | None) -> Any:
    return await Pause(signal, wait_ms)


def test_an_effect_goes_out_with_a_ticket_and_comes_back_with_its_answer() -> None:
    told = Told()
    for number in range(2):
        told.scheduler.spawn(told.say(effect(Sign(b"%d" % number))))
    told.go()
    assert told.issued == [(1, Sign(b"0")), (2, Sign(b"1"))]
    told.scheduler.answer(2, "second")
    told.scheduler.answer(1, "first")
    told.go()
    assert told.said == ["second", "first"]


def test_a_failure_is_raised_where_the_effect_was_awaited() -> None:
    told = Told()
    told.scheduler.spawn(told.say(effect(Sign(b""))))
    told.go()
    told.scheduler.answer(1, Failure("disk_full", "Full."))
    told.go()
    assert told.said == ["disk_full"]


@pytest.mark.parametrize("ticket", [0, 1, 7, -1])
def test_an_answer_nobody_waits_for_is_dropped(ticket: int) -> None:
    told = Told()
    told.scheduler.spawn(told.say(effect(Sign(b""))))
    told.go()
    told.scheduler.answer(1, "one")
    told.scheduler.answer(ticket, "again")
    told.go()
    assert told.said == ["one"]


JOB = Job(Cid.of(b""), "plain", "f", b"", b"", None, 1, 5_000, 1)


@pytest.mark.parametrize(
    ("wanted", "wait_ms"),
    [
        (Sign(b""), LIMITS.effect_ms),
        (Load("blocks", ()), LIMITS.effect_ms),
        (Prepare(Cid.of(b""), None, Budget()), LIMITS.prepare_ms),
        (Run(JOB), 5_000 + LIMITS.effect_ms),
    ],
)
def test_every_effect_has_a_deadline(wanted: Effect, wait_ms: int) -> None:
    told = Told()
    told.scheduler.spawn(told.say(effect(wanted)))
    told.go()
    assert told.scheduler.next_timer() == wait_ms
    told.go(wait_ms - 1)
    assert told.said == []
    told.go(wait_ms)
    assert told.said == ["internal"] and told.issued[-1] == (0, Cancel(1))
    told.scheduler.answer(1, "too late")
    told.go()
    assert told.said == ["internal"] and told.scheduler.next_timer() is None


def test_a_pause_ends_in_time_or_by_its_signal_whichever_is_first() -> None:
    told = Told()
    signal = told.scheduler.signal()
    for wait_ms in (10, 30, None):
        told.scheduler.spawn(told.say(pause(signal, wait_ms)))
    told.scheduler.spawn(told.say(pause(None, 5)))
    told.go()
    told.go(5)
    told.go(10)
    assert told.said == [None, "late"]
    signal.set("now")
    told.go()
    told.go(30)
    assert told.said == [None, "late", "now", "now"]


def test_deadlines_of_waits_that_are_over_are_not_kept() -> None:
    told = Told()
    forever = told.scheduler.spawn(told.say(pause(told.scheduler.signal(), 1000)))
    for number in range(10_000):
        signal = told.scheduler.signal()
        told.scheduler.spawn(told.say(pause(signal, 1_000_000 + number)))
        told.go()
        signal.set(number)
        told.go()
    assert len(told.scheduler._timers) < 3000 and not forever.done.is_set
    told.go(1000)
    assert told.said[-1] == "late", "the one that was still due was kept"


def test_a_signal_forgets_who_waits_no_more() -> None:
    told = Told()
    never = told.scheduler.signal()
    for _ in range(3):
        told.scheduler.spawn(told.say(pause(never, 5)))
    given_up = told.scheduler.spawn(told.say(pause(never, None)))
    told.go()
    assert len(never.waiting) == 4
    told.scheduler.cancel(given_up)
    told.go(5)
    assert not never.waiting and told.said == ["cancelled", "late", "late", "late"]


def test_the_deadline_of_a_wait_that_is_over_does_not_end_the_next() -> None:
    told = Told()
    first, second = told.scheduler.signal(), told.scheduler.signal()

    async def both() -> object:
        return [await Pause(first, 10), await Pause(second, 100)]

    told.scheduler.spawn(told.say(both()))
    told.go()
    first.set(1)
    told.go()
    told.go(10)
    assert told.said == [] and told.scheduler.next_timer() == 100
    second.set(2)
    told.go()
    assert told.said == [[1, 2]] and told.scheduler.next_timer() is None


def test_a_signal_is_set_once() -> None:
    told = Told()
    signal = told.scheduler.signal()
    signal.set(1)
    signal.set(2)
    signal.fail(RemoteError("trap"))
    told.scheduler.spawn(told.say(pause(signal, None)))
    told.go()
    assert told.said == [1]
    failed = told.scheduler.signal()
    failed.fail(RemoteError("trap"))
    failed.set(1)
    told.scheduler.spawn(told.say(pause(failed, 1)))
    told.go()
    assert told.said == [1, "trap"]


def test_dates_follow_the_clock_and_waits_do_not_stand_still_when_it_is_set_back() -> None:
    told = Told()
    scheduler, day_ms = told.scheduler, 86_400_000
    told.go(day_ms)
    scheduler.spawn(told.say(pause(None, 1_000)))
    told.go()
    told.go(day_ms + 400)
    told.go(7)  # somebody sets the clock right
    assert scheduler.now_ms == 7 and scheduler.next_timer() == 607
    told.go(606)
    assert told.said == []
    told.go(607)
    assert told.said == [None] and scheduler.next_timer() is None


@given(st.lists(st.integers(0, 10_000), max_size=20))
def test_how_long_something_takes_never_goes_backwards(clocks: list[int]) -> None:
    scheduler, before = Scheduler(LIMITS), 0
    for now_ms in clocks:
        scheduler.advance(now_ms)
        assert scheduler.now_ms == now_ms and scheduler.steady_ms >= before
        before = scheduler.steady_ms


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(-100, 100)), min_size=1, max_size=20))
def test_waits_end_in_the_order_they_fall_due_however_the_clock_is_set(steps: list[tuple[int, int]]) -> None:
    """Each step begins a wait and then moves the clock; waits of one length end in the order they began."""
    told, now_ms = Told(), 1_000_000
    told.go(now_ms)

    async def wait(number: int, wait_ms: int) -> int:
        await Pause(None, wait_ms)
        return number

    for number, (wait_ms, by_ms) in enumerate(steps):
        told.scheduler.spawn(told.say(wait(number, wait_ms)))
        told.go()
        now_ms += by_ms
        told.go(now_ms)
    told.go(now_ms + 50)
    assert sorted(told.said, key=str) == sorted(range(len(steps)), key=str)
    assert told.scheduler.next_timer() is None


def test_who_waits_for_a_strand_gets_its_value_or_its_error() -> None:
    told = Told()

    async def one() -> int:
        return 1

    async def wrong() -> int:
        raise RemoteError("trap")

    for strand in (told.scheduler.spawn(one()), told.scheduler.spawn(wrong())):
        told.scheduler.spawn(told.say(pause(strand.done, None)))
    told.go()
    assert told.said == [1, "trap"]


def test_a_fault_of_ours_is_not_swallowed() -> None:
    scheduler = Scheduler(LIMITS)

    async def fault() -> None:
        raise ZeroDivisionError

    scheduler.spawn(fault())
    with pytest.raises(ZeroDivisionError):
        scheduler.run()
    assert scheduler.run() == [], "and the others go on"


def test_a_cancelled_effect_is_cancelled_at_the_host_too() -> None:
    told = Told()
    strand = told.scheduler.spawn(told.say(effect(Run(JOB))))
    told.go()
    told.scheduler.cancel(strand)
    told.scheduler.cancel(strand)
    told.go()
    assert told.said == ["cancelled"] and told.issued[1:] == [(0, Cancel(1))]
    told.scheduler.cancel(strand)
    told.go()
    assert len(told.issued) == 2


def test_a_strand_cancelled_before_it_began_or_as_it_goes_on_leaves_no_effect_behind() -> None:
    told = Told()

    async def stubborn() -> object:
        for _ in range(3):
            try:
                return await Sign(b"first")
            except RemoteError:
                return await Sign(b"second")
        return None

    strand = told.scheduler.spawn(told.say(stubborn()))
    told.scheduler.cancel(strand)
    told.go()
    assert told.issued == [(1, Sign(b"first")), (0, Cancel(1)), (2, Sign(b"second"))]
    told.scheduler.answer(1, "of another wait")
    told.go()
    assert told.said == []
    told.scheduler.answer(2, "its own")
    told.go()
    assert told.said == ["its own"]


def test_a_strand_cancelled_just_after_its_signal_does_not_wait_on() -> None:
    told = Told()
    signal = told.scheduler.signal()

    async def then_run() -> object:
        await signal
        return await Run(JOB)

    strand = told.scheduler.spawn(told.say(then_run()))
    told.go()
    signal.set(None)
    told.scheduler.cancel(strand)
    told.go()
    assert told.said == ["cancelled"] and told.issued == [(1, Run(JOB)), (0, Cancel(1))]


# -- slots ---------------------------------------------------------------------------------------------------


def test_slots_are_given_in_order_and_the_queue_is_bounded() -> None:
    told = Told()
    slots = Slots(told.scheduler, 1, 2)
    for _ in range(4):
        told.scheduler.spawn(told.say(slots.take()))
    told.go()
    assert told.said == [None, "busy"]
    slots.give()
    told.go()
    assert told.said == [None, "busy", None] and slots.free == 0
    slots.give()
    slots.give()
    assert slots.free == 1


def test_more_slots_let_more_in_and_fewer_take_none_away() -> None:
    told = Told()
    slots = Slots(told.scheduler, 0, 5)
    for _ in range(3):
        told.scheduler.spawn(told.say(slots.take()))
    told.go()
    slots.resize(2)
    told.go()
    assert told.said == [None, None] and slots.free == 0
    slots.resize(-2)
    slots.give()
    slots.give()
    told.go()
    assert told.said == [None, None] and slots.free == 0, "nobody gets a slot that is no more"
    slots.turn_away(RemoteError("not_serving"))
    told.go()
    assert told.said == [None, None, "not_serving"] and slots.free == 0


@given(st.lists(st.tuples(st.sampled_from(["take", "cancel", "give"]), st.integers(0, 9)), max_size=40))
@settings(max_examples=100, deadline=None)
def test_no_slot_is_ever_lost_or_made(steps: list[tuple[str, int]]) -> None:
    scheduler = Scheduler(LIMITS)
    slots = Slots(scheduler, 2, 3)
    strands: list[Any] = []
    held: set[int] = set()

    async def hold(number: int) -> None:
        await slots.take()
        held.add(number)

    for what, which in steps:
        if what == "take":
            strands.append(scheduler.spawn(hold(len(strands))))
        elif what == "cancel" and strands:
            scheduler.cancel(strands[which % len(strands)])
        elif held:
            held.remove(sorted(held)[which % len(held)])
            slots.give()
        if which % 2:
            scheduler.run()
    scheduler.run()
    assert len(held) + slots.free == 2 and slots.free >= 0


class Big:
    """A value that can be watched."""


def test_a_deadline_does_not_keep_what_its_wait_came_to() -> None:
    """Blocks that were answered at once are not held for as long as they might have taken."""
    scheduler, ends = Scheduler(LIMITS), []

    async def read() -> Big:
        value: Big = await Load("blocks", (b"key",))
        return value

    for _ in range(50):
        strand = scheduler.spawn(read())
        ((ticket, _),) = scheduler.run()
        scheduler.answer(ticket, Big())
        scheduler.run()
        ends.append(weakref.ref(strand.done.get()))
    del strand
    gc.collect()
    assert not any(end() for end in ends)
