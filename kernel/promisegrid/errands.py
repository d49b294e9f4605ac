"""Things to do one after another, the latest first; what failed is tried again, more and more rarely.

Promises: one at a time; so many wait at most, the oldest make room; what is not wanted any more is forgotten.
Does not know: what is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from promisegrid.errors import LocalError, RemoteError
from promisegrid.strand import Late, Pause, Scheduler, Signal

T = TypeVar("T")
_RARELY: Final = 5
"""How often the time until the next try doubles."""


class Errands(Generic[T]):
    """One line of them. do: does one; it fails with RemoteError or LocalError. wanted: is it still?"""

    def __init__(
        self,
        scheduler: Scheduler,
        again_ms: int,
        most: int,
        do: Callable[[T], Awaitable[object]],
        wanted: Callable[[T], bool],
    ) -> None:
        self._scheduler, self._again_ms, self._most = scheduler, again_ms, most
        self._do, self._wanted = do, wanted
        self._waiting: dict[T, None] = {}
        self._failed: dict[T, None] = {}
        self._more: Signal[None] = scheduler.signal()
        self._runs = False

    def add(self, item: T) -> None:
        """Do this, soon."""
        for items in (self._failed, self._waiting):
            items.pop(item, None)
        self._waiting[item] = None
        while len(self._failed) + len(self._waiting) > self._most:
            items = self._failed or self._waiting
            del items[next(iter(items))]
        self._more.set(None)
        if not self._runs:
            self._runs = True
            self._scheduler.spawn(self._run())

    def prune(self) -> None:
        """Forget what is not wanted any more."""
        for items in (self._waiting, self._failed):
            for item in [item for item in items if not self._wanted(item)]:
                del items[item]

    async def _run(self) -> None:
        tries = 0
        while self._waiting or self._failed:
            if self._waiting:
                item, _ = self._waiting.popitem()
                try:
                    await self._do(item)
                    tries = 0
                except (RemoteError, LocalError):
                    self._failed[item] = None
            else:
                self._more = self._scheduler.signal()
                try:
                    await Pause(self._more, self._again_ms << min(tries, _RARELY))
                except Late:
                    tries += 1
                    self._waiting, self._failed = self._failed, {}
            self.prune()
        self._runs = False
