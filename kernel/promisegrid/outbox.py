"""What waits to be sent on one link: blocks, and what circuits carry. What a call needs goes past it.

Frames of a link's own (messages, credit, pings) are sent at once. Those that are large or many wait here, in
a lane for each stream: one for blocks small enough for a frame, one for larger ones in pieces, one for each
circuit that passes through the link. Lanes take turns, a frame each, and the next frame is handed over only
when the wire has room again. So whatever is sent at once stands behind a piece or two, not behind megabytes,
and of two bulk transfers neither waits for the end of the other.

Laws:
1. Frames of one lane and kind leave in the order they came. In the lane of a circuit those that carry blocks
   let the others pass: whoever passes them on keeps a call as quick as its ends would.
2. Nothing is dropped but by `recall`, `end` and `close`.

Does not know: what bounds a lane. Blocks are bounded by the wants in service, circuits by their windows.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from promisegrid.errors import RemoteError
from promisegrid.frames import is_bulk
from promisegrid.strand import Scheduler, Signal, Strand

WHOLE: Final = -1
"""The lane of blocks that fit a frame. Circuits have their own numbers, from 1 on."""
PIECES: Final = -2
"""The lane of blocks that go in pieces, one after another."""
FRAME_COST: Final = 64
"""What a frame that waits takes beyond its bytes."""
Load = tuple[Iterator[bytes], Signal[None] | None]
"""Frames, made when their turn comes, and who is told when the last one has left."""


class _Lane:
    """One stream: what goes first, and what lets it pass."""

    __slots__ = ("carried", "first", "then")

    def __init__(self) -> None:
        self.carried = 0  # what a circuit's frames here take
        self.first: deque[bytes] = deque()
        self.then: deque[Load] = deque()

    def next(self) -> bytes | None:
        """The next frame; None when there is none left."""
        if self.first:
            return self._left(self.first.popleft())
        while self.then:
            frames, sent = self.then[0]
            frame = next(frames, None)
            if frame is not None:
                return self._left(frame)
            self.then.popleft()
            if sent is not None:
                sent.set(None)
        return None

    def _left(self, frame: bytes) -> bytes:
        self.carried -= len(frame) + FRAME_COST
        return frame


class Outbox:
    """The lanes of one link. push: hands a frame to the wire, and returns when there is room for another.

    broken: called when the wire takes none, with the reason.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        push: Callable[[bytes], Awaitable[None]],
        broken: Callable[[RemoteError], None],
    ) -> None:
        self._scheduler, self._push, self._broken = scheduler, push, broken
        self._lanes: OrderedDict[int, _Lane] = OrderedDict()
        self._last = 0
        self._pump: Strand[None] | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """How many blocks, and frames of circuits, have not left yet."""
        return sum(len(lane.first) + len(lane.then) for lane in self._lanes.values())

    def blocks(self, lane: int, frames: Iterator[bytes]) -> Signal[None]:
        """Have a block's frames sent; the signal is set when the wire has the last, and asked for more."""
        sent: Signal[None] = self._scheduler.signal()
        if self._closed:
            sent.set(None)
        else:
            self._lane(lane).then.append((frames, sent))
            self._run()
        return sent

    def recall(self, lane: int, sent: Signal[None]) -> None:
        """A block is not wanted any more: what has not left of it does not wait here."""
        if not sent.is_set and (found := self._lanes.get(lane)) is not None:
            found.then = deque(load for load in found.then if load[1] is not sent)

    def carry(self, circuit: int, frame: bytes, inner: bytes) -> int:
        """Have a circuit's frame sent; `inner` is what it carries. Bytes that wait in its lane now."""
        if self._closed:
            return 0
        lane = self._lane(circuit)
        lane.carried += len(frame) + FRAME_COST
        if is_bulk(inner):
            lane.then.append((iter((frame,)), None))
        else:
            lane.first.append(frame)
        self._run()
        return lane.carried

    def end(self, circuit: int, last: bytes) -> None:
        """A circuit is over: blocks that waited in its lane do not go, and this frame is its last."""
        if self._closed:
            return
        lane = self._lane(circuit)
        lane.then.clear()
        lane.first.append(last)
        self._run()

    def close(self) -> None:
        """The link is gone; who waits for something to leave is told."""
        self._closed = True
        lanes, self._lanes = self._lanes, OrderedDict()
        for lane in lanes.values():
            for _, sent in lane.then:
                if sent is not None:
                    sent.set(None)
        pump, self._pump = self._pump, None
        if pump is not None and pump is not self._scheduler.current:
            self._scheduler.cancel(pump)

    def _lane(self, number: int) -> _Lane:
        """The lane of a stream. A new one comes right before that which had the last turn."""
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = _Lane()
            if self._last in self._lanes and self._last != number:
                self._lanes.move_to_end(self._last)
        return lane

    def _run(self) -> None:
        if self._pump is None:
            self._pump = self._scheduler.spawn(self._pump_all())

    async def _pump_all(self) -> None:
        try:
            while (frame := self._next()) is not None:
                await self._push(frame)
        except RemoteError as wrong:
            if not self._closed:
                self._pump = None
                self._broken(wrong)
            return
        self._pump = None

    def _next(self) -> bytes | None:
        """Whose turn it is; a lane in which nothing waits is no lane."""
        while self._lanes:
            number, lane = next(iter(self._lanes.items()))
            frame = lane.next()
            if frame is not None:
                self._lanes.move_to_end(number)
                self._last = number
                return frame
            del self._lanes[number]
        return None
