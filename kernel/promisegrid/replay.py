"""The replay rule: a message counts once.

The key is (iss, cti). A repeat of the same message before it expires gets the same reply, and is neither run
nor counted again; another message with a used cti is refused. Entries live until the message expires; a
full table refuses with `busy` rather than forget one that still counts.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.strand import Scheduler, Signal


@dataclass(slots=True)
class Entry:
    """A message that was accepted: its name, and its reply once there is one (None: it needs none)."""

    name: Cid
    reply: Signal[bytes | None]
    reply_bytes: int = 0


class Replay:
    """Remembers accepted messages until they expire."""

    def __init__(self, scheduler: Scheduler, limits: Limits) -> None:
        self._scheduler, self._limits = scheduler, limits
        self._entries: dict[tuple[str, bytes], Entry] = {}
        self._expiry: list[tuple[int, str, bytes]] = []
        self._bytes = 0

    def admit(self, claims: Claims, name: Cid) -> tuple[Entry, bool]:
        """The entry of a verified message, and whether it is new.

        RemoteError: bad_claims when the cti was used for another message, busy when the table is full.
        """
        self._forget()
        key = (claims.iss, claims.cti)
        entry = self._entries.get(key)
        if entry is not None:
            if entry.name != name:
                raise RemoteError("bad_claims", "This cti was used for another message; each needs its own.")
            return entry, False
        limits = self._limits
        if len(self._entries) >= limits.replay_entries or self._bytes >= limits.replay_reply_bytes:
            raise RemoteError("busy", "Too many recent messages to remember; try again later.")
        entry = Entry(name, self._scheduler.signal())
        self._entries[key] = entry
        heapq.heappush(self._expiry, (claims.exp * 1000 + self._limits.clock_skew_ms, *key))
        return entry, True

    def settle(self, entry: Entry, reply: bytes | None) -> None:
        """The message has been dealt with; a repeat will get this reply."""
        entry.reply_bytes = len(reply or b"")
        self._bytes += entry.reply_bytes
        entry.reply.set(reply)

    def _forget(self) -> None:
        while self._expiry and self._expiry[0][0] < self._scheduler.now_ms:
            _, iss, cti = heapq.heappop(self._expiry)
            entry = self._entries.pop((iss, cti), None)
            if entry is not None:
                self._bytes -= entry.reply_bytes
