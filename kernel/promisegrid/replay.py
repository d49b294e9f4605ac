"""The replay rule: a message counts once.

The key is (iss, cti). A repeat of the same message before it expires gets the same reply, and is neither run
nor counted again; another message with a used cti is refused. Entries live until the message expires. A full
table refuses with `busy` rather than forget one that still counts, and no sender can fill it alone.

Replies are kept while they fit `replay_reply_bytes`, the oldest dropped first: a repeat whose reply was
dropped, or that never got one, is dealt with again. Calls are pure, so that costs work and nothing else.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.strand import Scheduler, Signal

Key = tuple[str, bytes]


@dataclass(slots=True)
class Entry:
    """A message that was accepted: its key and name, and its reply once there is one."""

    key: Key
    name: Cid
    reply: Signal[bytes | None]
    reply_bytes: int = 0


class Replay:
    """Remembers accepted messages until they expire."""

    def __init__(self, scheduler: Scheduler, limits: Limits) -> None:
        self._scheduler, self._limits = scheduler, limits
        self._entries: dict[Key, Entry] = {}
        self._by_sender: dict[str, int] = {}
        self._expiry: list[tuple[int, str, bytes]] = []
        self._replies: deque[Entry] = deque()
        self._bytes = 0

    def admit(self, claims: Claims, name: Cid) -> tuple[Entry, bool]:
        """The entry of a verified message, and whether it has to be dealt with.

        RemoteError: bad_claims when the cti was used for another message, busy when the table is full.
        """
        self._forget()
        key = (claims.iss, claims.cti)
        entry = self._entries.get(key)
        if entry is not None and entry.name != name:
            raise RemoteError("bad_claims", "This cti was used for another message; each needs its own.")
        if entry is not None:
            dropped = entry.reply.is_set and entry.reply.value is None
            if dropped:
                entry.reply = self._scheduler.signal()
            return entry, dropped
        mine = self._by_sender.get(claims.iss, 0)
        if len(self._entries) >= self._limits.replay_entries or mine >= self._limits.replay_per_sender:
            raise RemoteError("busy", "Too many recent messages to remember; try again later.")
        entry = Entry(key, name, self._scheduler.signal())
        self._entries[key] = entry
        self._by_sender[claims.iss] = mine + 1
        heapq.heappush(self._expiry, (claims.exp * 1000 + self._limits.clock_skew_ms, *key))
        return entry, True

    def settle(self, entry: Entry, reply: bytes | None) -> None:
        """The message has been dealt with; a repeat gets this reply. None: it got none, and may try again."""
        entry.reply.set(reply)
        if reply is None or self._entries.get(entry.key) is not entry:
            return
        entry.reply_bytes = len(reply)
        self._bytes += len(reply)
        self._replies.append(entry)
        while self._bytes > self._limits.replay_reply_bytes:
            self._drop_reply(self._replies.popleft())

    def _drop_reply(self, entry: Entry) -> None:
        self._bytes -= entry.reply_bytes
        entry.reply_bytes = 0
        entry.reply = self._scheduler.signal()
        entry.reply.set(None)

    def _forget(self) -> None:
        """Let go of what has expired."""
        while self._expiry and self._expiry[0][0] < self._scheduler.now_ms:
            _, iss, cti = heapq.heappop(self._expiry)
            entry = self._entries.pop((iss, cti))
            self._by_sender[iss] -= 1
            if not self._by_sender[iss]:
                del self._by_sender[iss]
            if entry.reply_bytes:
                self._replies.remove(entry)
                self._bytes -= entry.reply_bytes
