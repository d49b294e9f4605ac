"""Two ways to one thing: the second is tried when the first failed, or has let a while pass.

Promises: whichever comes first is taken and the other is given up; when both fail, a lie is told before a
mere absence, else what the later one says. Does not know what is fetched, nor from where.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from promisegrid.errors import RemoteError
from promisegrid.strand import Late, Pause, Scheduler, Signal, Strand

T = TypeVar("T")


async def either(
    scheduler: Scheduler,
    first: Coroutine[Any, Any, T],
    later: Callable[[], Coroutine[Any, Any, T]],
    hedge_ms: int,
) -> T:
    """What the quicker of two ways gives. RemoteError when both failed: `bad_block` if one was that."""
    got: Signal[T] = scheduler.signal()
    wrong: list[RemoteError] = []
    ways = [scheduler.spawn(_way(first, got, wrong))]
    try:
        await _over(ways[0], hedge_ms)
        if not got.is_set:
            ways.append(scheduler.spawn(_way(later(), got, wrong)))
        return await got
    finally:
        for way in ways:
            scheduler.cancel(way)


async def _way(asked: Coroutine[Any, Any, T], got: Signal[T], wrong: list[RemoteError]) -> None:
    """One of two ways; the second that fails ends the wait."""
    try:
        got.set(await asked)
    except RemoteError as refused:
        wrong.append(refused)
        if len(wrong) == 2:
            got.fail(next((one for one in wrong if one.code == "bad_block"), wrong[-1]))


async def _over(strand: Strand[None], wait_ms: int) -> None:
    """Wait until a way is at its end, or time is up."""
    try:
        await Pause(strand.done, wait_ms)
    except Late:
        return
