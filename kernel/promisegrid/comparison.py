"""Finding what was missed of a topic: two nodes compare what they have, and exchange the difference.

Whoever asks does the work: it compares the whole, then the parts that differ, lists the short ones, gets what
it lacks and gives what the other lacks. What comes is verified like anything else (`Topics.take`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from promisegrid import entry
from promisegrid.entry import Entry
from promisegrid.errors import RemoteError
from promisegrid.link import Link
from promisegrid.reconcile import ALL, SHORT_BYTES, Index, Print, Range, short

LEAF: Final = 64
"""Entries of a range that is listed rather than parted."""
RANGES_MAX: Final = 512
_PARTS: Final = 16
_BATCH: Final = 512
_QUESTIONS_MAX: Final = 16_384
"""Twice what a full topic of the largest entries takes."""
_BATCH_BYTES: Final = 256 * 1024
Ask = Callable[[Link, str, tuple[object, ...]], Awaitable[Any]]
"""Asks a peer one operation of the topic protocol; the body of its reply."""
Take = Callable[[Link, str, Sequence[bytes]], Awaitable[int]]
"""What takes entries that came."""


class Comparison:
    """One topic, compared with one peer. taken, given: entries so far."""

    def __init__(
        self,
        link: Link,
        topic: str,
        index: Index,
        read: Callable[[Sequence[bytes]], Awaitable[list[Entry]]],
        ask: Ask,
        take: Take,
    ) -> None:
        self._link, self._topic, self._index = link, topic, index
        self._read, self._ask_link, self._take = read, ask, take
        self.taken = self.given = 0

    async def run(self) -> None:
        """Compare and exchange. RemoteError when the peer is gone, or answers what was not asked."""
        waiting: list[Range] = [ALL]
        short_ones: list[Range] = []
        while waiting:
            ranges, waiting = waiting[:RANGES_MAX], waiting[RANGES_MAX:]
            for between, theirs in zip(ranges, await self._compared(ranges), strict=True):
                mine = self._index.fingerprint(between)
                if mine == theirs:
                    continue
                if not mine[0]:
                    await self._get([[*between, None]])
                elif max(mine[0], theirs[0]) <= LEAF or not theirs[0]:
                    short_ones.append(between)
                else:
                    parts = max(mine[0], theirs[0]) // (LEAF // 2)
                    parted = self._index.split(between, min(_PARTS, parts))
                    (waiting if len(parted) > 1 else short_ones).extend(parted)
        for at in range(0, len(short_ones), RANGES_MAX // 2):
            await self._settle(short_ones[at : at + RANGES_MAX // 2])

    async def _compared(self, ranges: list[Range]) -> list[Print]:
        answer = await self._ask("compare", [list(one) for one in ranges])
        if not isinstance(answer, list) or len(answer) != len(ranges) or not all(map(_is_print, answer)):
            raise self._odd("compared")
        return [(count, total) for count, total in answer]

    async def _settle(self, ranges: list[Range]) -> None:
        """Exchange what differs in short ranges: names first, then entries."""
        listed = await self._ask("list", [list(one) for one in ranges])
        if not isinstance(listed, list) or len(listed) != len(ranges):
            raise self._odd("listed")
        lacking: list[bytes] = []
        extra: list[bytes] = []
        for between, names in zip(ranges, listed, strict=True):
            if not isinstance(names, bytes) or len(names) > SHORT_BYTES * 4 * LEAF:
                raise self._odd("listed")
            mine = {short(key): key for key in self._index.within(between)}
            theirs = names_of(names)
            lacking += [name for name in theirs if name not in mine]
            there = set(theirs)
            extra += [key for name, key in mine.items() if name not in there]
        if lacking:
            ends = [upper for _, upper in ranges]
            upper = b"" if b"" in ends else max(ends)
            await self._get([[min(lower for lower, _ in ranges), upper, b"".join(lacking)]])
        entries = await self._read(extra)
        self.given += len(entries)
        while entries:
            some = batch(entries)
            del entries[: len(some)]
            await self._ask("give", [one.data for one in some])

    async def _get(self, wanted: list[list[bytes | None]]) -> None:
        """Fetch entries, with as many questions as it takes; each brings us farther."""
        last = b""
        for _ in range(_QUESTIONS_MAX):
            if not wanted:
                return
            answer = await self._ask("get", wanted)
            items = answer.get("entries") if isinstance(answer, dict) else None
            if not isinstance(items, list) or not all(isinstance(item, bytes) for item in items):
                raise self._odd("answered")
            self.taken += await self._take(self._link, self._topic, items)
            if not items or not isinstance(answer, dict) or answer.get("more") is not True:
                return
            before, last = last, entry.read(items[-1])[0].key + b"\0"
            if last <= before:
                raise self._odd("answered")
            rest = [one for one in wanted if not one[1] or one[1] > last]
            wanted = [[max(lower or b"", last), *more] for lower, *more in rest]

    async def _ask(self, op: str, args: object) -> Any:
        return await self._ask_link(self._link, op, (self._topic, args))

    def _odd(self, did: str) -> RemoteError:
        return RemoteError("malformed", f"{self._link.did} {did} something other than it was asked to.")


def _is_print(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return type(value[0]) is int and value[0] >= 0 and isinstance(value[1], bytes)


def names_of(data: bytes) -> list[bytes]:
    """The short names in a list."""
    return [data[at : at + SHORT_BYTES] for at in range(0, len(data), SHORT_BYTES)]


def batch(entries: Sequence[Entry]) -> list[Entry]:
    """As many of the first entries as one message takes; at least one."""
    some: list[Entry] = []
    size = 0
    for one in entries[:_BATCH]:
        size += len(one.data) + 8
        if some and size > _BATCH_BYTES:
            break
        some.append(one)
    return some
