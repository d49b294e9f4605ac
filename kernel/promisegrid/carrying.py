"""What a node keeps of topics that others follow, within a quota: what has been kept longest makes room.

So nobody who floods keeps what others say afterwards from being passed on. Does not know: entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator


class Carrying:
    """Entries kept for others, in the order in which they came. bytes: of all of them."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes, self._bytes_max = 0, bytes_max
        self._kept: deque[tuple[str, bytes, int]] = deque()

    def add(self, topic: str, key: bytes, size: int) -> None:
        """An entry of that topic and key is kept; size: of its bytes."""
        self._kept.append((topic, key, size))
        self.bytes += size

    def excess(self) -> Iterator[tuple[str, bytes]]:
        """What has to go, by topic and key; it counts no more."""
        while self.bytes > self._bytes_max:
            topic, key, size = self._kept.popleft()
            self.bytes -= size
            yield topic, key

    def clear(self) -> None:
        """Nothing is kept for anybody."""
        self._kept.clear()
        self.bytes = 0
