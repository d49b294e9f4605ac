"""The topic protocol (docs/protocols/topic.md): follow, give, compare, list, get.

Entries are written by `Topics.take`, durably, before the reply; taking one twice changes nothing, so no
record of the message is kept.
"""

from __future__ import annotations

from typing import Any, Final

from promisegrid import entry
from promisegrid.comparison import RANGES_MAX, batch, names_of
from promisegrid.dispatch import Verified
from promisegrid.errors import RemoteError
from promisegrid.link import Link
from promisegrid.protocols import Answer
from promisegrid.reconcile import SHORT_BYTES, Index, is_range, short
from promisegrid.topics import FAR, Topics

LISTED_MAX: Final = 16_384
_GIVEN_MAX: Final = 1024


class TopicProtocol:
    """Answers peers."""

    def __init__(self, topics: Topics, topics_max: int) -> None:
        self._topics, self._topics_max = topics, topics_max

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        op, args = verified.claims.call or ("", ())
        if op == "follow" and len(args) <= self._topics_max and all(map(_is_followed, args)):
            self._topics.following(link, dict(_row(row) for row in args))
            return Answer({"following": len(args)})
        if len(args) == 2 and entry.is_topic(args[0]) and isinstance(args[1], list):
            topic, items = str(args[0]), args[1]
            if op == "give" and len(items) <= _GIVEN_MAX and all(isinstance(item, bytes) for item in items):
                return Answer({"taken": await self._topics.take(link, topic, items)})
            index = await self._topics.index(topic)
            if op in ("compare", "list") and len(items) <= RANGES_MAX and all(map(is_range, items)):
                return Answer(_compared(index, items) if op == "compare" else _listed(index, items))
            if op == "get" and len(items) <= RANGES_MAX and _are_wishes(items):
                return Answer(await self._got(index, items))
        raise RemoteError("bad_args", "The topic protocol has follow, give, compare, list and get.")

    async def _got(self, index: Index, wishes: list[list[Any]]) -> dict[str, Any]:
        keys: list[bytes] = []
        more = False
        for lower, upper, names in wishes:
            wanted = None if names is None else set(names_of(names))
            for key in index.within((lower, upper)):
                if wanted is None or short(key) in wanted:
                    more = more or len(keys) >= _GIVEN_MAX
                    if more:
                        break
                    keys.append(key)
        entries = await self._topics.read(keys)
        some = batch(entries)
        return {"entries": [one.data for one in some], "more": more or len(some) < len(entries)}


def _compared(index: Index, ranges: list[list[bytes]]) -> list[list[object]]:
    return [list(index.fingerprint((lower, upper))) for lower, upper in ranges]


def _listed(index: Index, ranges: list[list[bytes]]) -> list[bytes]:
    left, lists = LISTED_MAX, []
    for lower, upper in ranges:
        keys = index.within((lower, upper))
        left -= len(keys)
        if left < 0:
            raise RemoteError("too_large", f"More than {LISTED_MAX} entries to list: ask for shorter ranges.")
        lists.append(b"".join(map(short, keys)))
    return lists


def _is_followed(row: object) -> bool:
    if not isinstance(row, list) or len(row) != 2:
        return False
    return entry.is_topic(row[0]) and type(row[1]) is int and 0 <= row[1] <= FAR


def _row(row: object) -> tuple[str, int]:
    assert isinstance(row, list)
    return row[0], row[1]


def _are_wishes(items: list[object]) -> bool:
    """One behind the other, so that all of them together cost one look through a topic."""
    at: bytes | None = b""
    for item in items:
        if not isinstance(item, list) or not _is_wish(item) or at is None or item[0] < at:
            return False
        at = max(item[0], item[1]) if item[1] else None
    return True


def _is_wish(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3 or not is_range(value[:2]):
        return False
    names = value[2]
    return names is None or (isinstance(names, bytes) and len(names) <= SHORT_BYTES * LISTED_MAX)
