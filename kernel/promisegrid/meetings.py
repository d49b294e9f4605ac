"""Topics to compare with one peer, one after another, for as long as its link is open.

Promises: a topic is compared until that has come to an end once; what failed is tried again after a while, so
that nothing is lost on a link that stays open. What the peer does not follow any more is forgotten.
Does not know: how topics are compared (`comparison.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from promisegrid.errors import LocalError, RemoteError
from promisegrid.link import Link
from promisegrid.strand import Late, Pause, Scheduler, Signal


class Meetings:
    """The comparisons of one link. compare: compares one topic. RemoteError or LocalError when it cannot."""

    def __init__(
        self,
        scheduler: Scheduler,
        link: Link,
        again_ms: int,
        compare: Callable[[Link, str], Awaitable[object]],
    ) -> None:
        self._scheduler, self._link, self._again_ms, self._compare = scheduler, link, again_ms, compare
        self._waiting: dict[str, None] = {}
        self._failed: dict[str, None] = {}
        self._more: Signal[None] = scheduler.signal()
        self._runs = False

    def add(self, topic: str) -> None:
        """Compare a topic, soon."""
        self._waiting[topic] = None
        self._more.set(None)
        if not self._runs:
            self._runs = True
            self._scheduler.spawn(self._run())

    def prune(self) -> None:
        """The peer follows other topics now."""
        for topics in (self._waiting, self._failed):
            for topic in [topic for topic in topics if topic not in self._link.topics]:
                del topics[topic]

    async def _run(self) -> None:
        while (self._waiting or self._failed) and not self._link.is_closed:
            if not self._waiting:
                self._more = self._scheduler.signal()
                try:
                    await Pause(self._more, self._again_ms)
                except Late:
                    self._waiting, self._failed = self._failed, {}
                continue
            topic = next(iter(self._waiting))
            del self._waiting[topic]
            try:
                await self._compare(self._link, topic)
            except (RemoteError, LocalError):
                if topic in self._link.topics:
                    self._failed[topic] = None
        self._runs = False
