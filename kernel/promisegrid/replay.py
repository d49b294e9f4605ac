"""The replay rule: a message counts once.

The key is (iss, cti). A repeat of the same message before it expires gets the same reply, and is neither run
nor counted again; another message with a used cti is refused. Entries live until the message expires. A full
table refuses with `busy` rather than forget one that still counts, and no sender can fill it alone.

The very same bytes, again from the peer that brought them, were found good once and need not be checked
again: `again` answers them with the reply they got. Bytes that were not good leave no trace here.

Replies are kept while they fit `replay_reply_bytes`, the oldest dropped first: a repeat whose reply was
dropped, or that never got one, is dealt with again. Calls are pure, so that costs work and nothing else.
A call that is not, that changed something here, is *kept*: its reply is written down together with the change
(`record`), is never dropped, and is known again after a restart (`load`).
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Write
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.scan import rows
from promisegrid.strand import Scheduler, Signal

Key = tuple[str, bytes]
_DONE: Final = b"done/"


@dataclass(slots=True, eq=False)
class Entry:
    """A message that was accepted: its key and name, who brought it, and its reply once there is one."""

    key: Key
    name: Cid
    by: str
    until_ms: int
    reply: Signal[bytes | None]
    reply_bytes: int = 0
    kept: bool = False


class Replay:
    """Remembers accepted messages until they expire."""

    def __init__(self, scheduler: Scheduler, limits: Limits) -> None:
        self._scheduler, self._limits = scheduler, limits
        self._entries: dict[Key, Entry] = {}
        self._by_name: dict[bytes, Entry] = {}
        self._by_sender: dict[str, int] = {}
        self._kept_by_sender: dict[str, int] = {}
        self._kept = 0
        self._expiry: list[tuple[int, str, bytes]] = []
        self._replies: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = 0
        self._stale: list[Write] = []
        self._forgotten_ms = 0  # the latest expiry among the changes that were forgotten

    def again(self, name: Cid, by: str) -> bytes | None:
        """The reply to bytes that this peer brought before and that still count; None for all others."""
        entry = self._by_name.get(name.encoded)
        if entry is None or entry.by != by or entry.until_ms < self._scheduler.now_ms:
            return None
        return entry.reply.value if entry.reply.error is None else None

    def knows(self, claims: Claims) -> bool:
        """Whether a message of this sender and number was accepted, and still counts."""
        return (claims.iss, claims.cti) in self._entries

    def admit(self, claims: Claims, name: Cid, by: str) -> tuple[Entry, bool]:
        """The entry of a verified message, and whether it has to be dealt with.

        RemoteError: bad_claims when the cti was used for another message, busy when the table is full.
        """
        if self._expiry and self._expiry[0][0] < self._scheduler.now_ms:
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
        entry = Entry(key, name, by, self._until_ms(claims), self._scheduler.signal())
        self._add(entry)
        return entry, True

    def settle(self, entry: Entry, reply: bytes | None) -> None:
        """The message has been dealt with; a repeat gets this reply. None: it got none, and may try again."""
        entry.reply.set(reply)
        if reply is None or self._entries.get(entry.key) is not entry or entry.kept:
            return
        entry.reply_bytes = len(reply)
        self._bytes += len(reply)
        self._replies[entry.key] = entry
        while self._bytes > self._limits.replay_reply_bytes:
            self._drop_reply(self._replies.popitem(last=False)[1])

    # -- calls that change something -----------------------------------------------------------------

    def check_room(self, claims: Claims) -> None:
        """Before dealing with a call that may change something. RemoteError("busy") when none can be kept.

        So is one that could have been kept and forgotten before the clock was set back.
        """
        self._forget()
        sender = claims.iss
        if self._until_ms(claims) <= self._forgotten_ms:
            raise RemoteError("busy", "This node's clock was set back; try again in a while.")
        mine = self._kept_by_sender.get(sender, 0)
        if self._kept >= self._limits.replay_kept or mine >= self._limits.replay_kept // 4:
            raise RemoteError("busy", "Too many recent changes to remember; try again later.")

    def record(self, entry: Entry, reply: bytes) -> tuple[Write, ...]:
        """What has to be committed together with the change, so that a repeat never changes it twice.

        RemoteError("too_large") when the reply is too long to be kept.
        """
        if len(reply) > self._limits.replay_kept_bytes:
            text = f"The reply to a call that changes something takes {len(reply)} bytes, too many to keep."
            raise RemoteError("too_large", text)
        iss, cti = entry.key
        value = dagcbor.encode([iss, cti, entry.name, entry.by, entry.until_ms, reply])
        stale, self._stale = self._stale, []
        return (*stale, Write("grid", _row(entry), value))

    def keep(self, entry: Entry) -> None:
        """The record of this entry is durable."""
        entry.kept = True
        self._kept += 1
        sender = entry.key[0]
        self._kept_by_sender[sender] = self._kept_by_sender.get(sender, 0) + 1

    async def load(self) -> None:
        """At boot: what was kept and still counts; the rest goes with the next `record`."""
        async for row, value in rows("grid", _DONE):
            entry, reply = self._read(value)
            if entry.until_ms < self._scheduler.now_ms:
                self._stale.append(Write("grid", row, None))
                self._forgotten_ms = max(self._forgotten_ms, entry.until_ms)
            elif entry.key not in self._entries:
                entry.reply.set(reply)
                self._add(entry)
                self.keep(entry)

    def _read(self, value: bytes) -> tuple[Entry, bytes]:
        iss, cti, name, by, until_ms, reply = dagcbor.decode(value)
        return Entry((iss, cti), name, by, until_ms, self._scheduler.signal()), reply

    # -- coming and going ----------------------------------------------------------------------------

    def _until_ms(self, claims: Claims) -> int:
        """Until when a message counts."""
        return claims.exp * 1000 + self._limits.clock_skew_ms

    def _add(self, entry: Entry) -> None:
        sender = entry.key[0]
        self._entries[entry.key] = self._by_name[entry.name.encoded] = entry
        self._by_sender[sender] = self._by_sender.get(sender, 0) + 1
        heapq.heappush(self._expiry, (entry.until_ms, *entry.key))

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
            del self._by_name[entry.name.encoded]
            _count_down(self._by_sender, iss)
            if entry.reply_bytes:
                del self._replies[entry.key]
                self._bytes -= entry.reply_bytes
            if entry.kept:
                self._kept -= 1
                self._forgotten_ms = max(self._forgotten_ms, entry.until_ms)
                _count_down(self._kept_by_sender, iss)
                self._stale.append(Write("grid", _row(entry), None))


def _row(entry: Entry) -> bytes:
    """The key of a kept entry: in the order of expiry, one for each (iss, cti)."""
    iss, cti = entry.key
    return _DONE + entry.until_ms.to_bytes(8, "big") + sha256(cti + iss.encode()).digest()


def _count_down(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
