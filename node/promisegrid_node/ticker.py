"""A clock for programs: it moves the engine's epoch while anything runs, and rests otherwise."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

TICK_MS: Final = 10
"""How precisely wall-clock limits and cancellation hold."""


class Ticker:
    """Calls `tick` every `TICK_MS` while somebody is `running`. Its thread starts with the first."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._count = 0
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Tick until this block ends."""
        with self._wake:
            self._count += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="ticker", daemon=True)
                self._thread.start()
            self._wake.notify()
        try:
            yield
        finally:
            with self._wake:
                self._count -= 1

    def close(self) -> None:
        """Stop for good, but only when nothing runs any more."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while not self._count:
                    if self._closed:
                        return
                    self._wake.wait()
            time.sleep(TICK_MS / 1000)
            self._tick()
