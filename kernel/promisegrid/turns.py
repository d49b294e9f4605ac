"""Whose turn it is: a bounded line in which nobody who brings much keeps out whoever brings little.

What waits stands in the lane of the link it came over, and there in the lane of its sender. Lanes take
turns: link by link, and within a link sender by sender. When the line is full, the last one of the longest
lane has to go, which is the newcomer only if no lane is longer than his own. What is waited for this file
does not know.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
Lanes = OrderedDict[str, deque[T]]


class Turns(Generic[T]):
    """A line of at most `most` distinct items; `len` says how many wait."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._links: OrderedDict[int, Lanes[T]] = OrderedDict()

    def __len__(self) -> int:
        return self._size

    def add(self, item: T, link: int, sender: str) -> T | None:
        """Let an item stand in line. Answer: who has to go for it, itself perhaps; None if nobody."""
        self._links.setdefault(link, OrderedDict()).setdefault(sender, deque()).append(item)
        self._size += 1
        if self._size <= self._most:
            return None
        longest = max(self._links, key=lambda number: (_waiting(self._links[number]), number == link))
        lanes = self._links[longest]
        crowded = max(lanes, key=lambda name: (len(lanes[name]), longest == link and name == sender))
        return self._take(longest, crowded, last=True)

    def next(self) -> T | None:
        """Whose turn it is, no longer in line; None when nobody waits."""
        for link, lanes in self._links.items():
            return self._take(link, next(iter(lanes)), last=False)
        return None

    def remove(self, item: T) -> bool:
        """Let an item leave the line; whether it stood there."""
        for link, lanes in self._links.items():
            for sender, lane in lanes.items():
                if item in lane:
                    lane.remove(item)
                    self._left(link, sender)
                    return True
        return False

    def drain(self) -> Iterator[T]:
        """Everybody in line, who then is no longer."""
        while (item := self.next()) is not None:
            yield item

    def _take(self, link: int, sender: str, last: bool) -> T:
        lanes = self._links[link]
        item = lanes[sender].pop() if last else lanes[sender].popleft()
        if not last:  # it was their turn: the next one is somebody else's
            lanes.move_to_end(sender)
            self._links.move_to_end(link)
        self._left(link, sender)
        return item

    def _left(self, link: int, sender: str) -> None:
        """One less in a lane; a lane in which nobody waits is no lane."""
        self._size -= 1
        lanes = self._links[link]
        if not lanes[sender]:
            del lanes[sender]
        if not lanes:
            del self._links[link]


def _waiting(lanes: Lanes[T]) -> int:
    return sum(map(len, lanes.values()))
