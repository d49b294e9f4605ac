"""Blocking reads beside the loop that Ctrl-C can leave behind: a pipe nobody writes to, for one.

The loop's own threads are waited for when the process ends, so a read that never returns would keep it alive;
nobody waits for those here. For reads on behalf of a verb, never for writes: what is left behind is not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from io import FileIO
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in a thread of its own; when this is cancelled, the thread is left."""
    answer: Future[T] = Future()

    def run() -> None:
        try:
            done = work()
        except BaseException as wrong:  # noqa: BLE001  it is the awaiting side's to handle
            with contextlib.suppress(RuntimeError):  # nobody waits any more: the loop is closed
                answer.set_exception(wrong)
        else:
            with contextlib.suppress(RuntimeError):
                answer.set_result(done)

    answer.set_running_or_notify_cancel()
    threading.Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(answer)


def standard_input() -> FileIO:
    """Standard input without a buffer, whose lock a thread left behind would still hold at the end."""
    return FileIO(0, "rb", closefd=False)
