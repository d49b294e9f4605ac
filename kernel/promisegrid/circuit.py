"""The wire of a link that runs through other nodes: its frames, within a window, on the link below.

Promises: no more is under way than the window; what is said before a circuit ends arrives before its end; a
block lets pass what does not carry one, here and on every link on the way (`outbox.py`).
Does not know: how circuits are found (`relay.py`), nor what the frames say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from promisegrid import frames
from promisegrid.frames import HangUp, Relayed, Window
from promisegrid.link import Link
from promisegrid.outbox import FRAME_COST
from promisegrid.strand import Scheduler, Signal


class Circuit:
    """The wire of a relayed link: what it sends goes through the link below, within the window.

    Blocks leave a quarter of the window to what must not wait for them.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        below: Link,
        number: int,
        window: int,
        waiting_max: int,
        end: Callable[[Circuit], None],
    ) -> None:
        self._scheduler, self.below, self.number, self._end = scheduler, below, number, end
        self._window = self._left = window
        self._taken = 0
        self._waiting: deque[bytes] = deque()
        self._waits, self._waiting_max = 0, waiting_max
        self.crowded: Callable[[], None] = lambda: None
        """Called when more waits here than may: the far end does not take what it asked for."""
        self._room: Signal[None] = scheduler.signal()

    def send(self, data: bytes) -> None:
        """Send a frame, in order, when the window allows."""
        self._waiting.append(data)
        self._waits += len(data) + FRAME_COST
        self._flow()
        if self._waits > self._waiting_max:
            self.crowded()

    async def push(self, data: bytes) -> None:
        """As `send`, once there is room for it."""
        while self._waiting or self._left <= self._window // 4:
            self._room = self._scheduler.signal()
            await self._room
        self.send(data)

    def close(self, code: str, text: str) -> None:
        """Hang up."""
        self._end(self)
        hang_up(self.below, self.number, code, text)

    def opened(self, size: int) -> None:
        """The far end took so many bytes."""
        self._left = min(self._left + max(size, 0), self._window)
        self._flow()
        self._room.set(None)

    def took(self, size: int) -> None:
        """So many bytes came out here; the far end hears of it now and then."""
        self._taken += size
        if self._taken >= self._window // 4:
            self.below.send(Window(self.number, self._taken))
            self._taken = 0

    def _flow(self) -> None:
        """The last frame of a window may be larger than what is left of it."""
        while self._waiting and self._left > 0:
            data = self._waiting.popleft()
            self._left -= len(data)
            self._waits -= len(data) + FRAME_COST
            carry(self.below, self.number, data)


def carry(link: Link, circuit: int, data: bytes) -> int:
    """Have a circuit's frame go over a link when its turn comes; bytes that wait there now."""
    return link.outbox.carry(circuit, frames.encode(Relayed(circuit, data)), data)


def hang_up(link: Link, circuit: int, code: str, text: str) -> None:
    """Tell a neighbour that a circuit is over, behind what was said on it."""
    link.outbox.end(circuit, frames.encode(HangUp(circuit, code, text)))
