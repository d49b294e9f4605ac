"""Topics: entries published under a name reach whoever follows it, and what was missed is found afterwards.

A node says to its neighbours which topics it follows, for itself or for somebody a few links on; entries go
only where they are followed. Whoever passes a topic on keeps what it passed, within a quota, and so has it
for those who were away. When two neighbours that follow a topic meet they compare what they have
(`reconcile.py`) and exchange the difference.

Entries are durable before they are acknowledged or told of here, and before their author passes them on; on
their way they are passed on as soon as they are verified. Does not know: what entries mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from typing import Any, Final

from promisegrid import entry
from promisegrid.caller import Caller
from promisegrid.carrying import Carrying
from promisegrid.cid import Cid
from promisegrid.comparison import Comparison, batch
from promisegrid.effects import Commit, Load, Scan, Write
from promisegrid.entry import Entry
from promisegrid.errands import Errands
from promisegrid.errors import LocalError, RemoteError
from promisegrid.link import Link
from promisegrid.reconcile import KEY_BYTES, TIME_BYTES, Index, key_of
from promisegrid.scan import batches
from promisegrid.state import State
from promisegrid.strand import Pause

TOPIC: Final = Cid.parse("bafkreihj73oth65p27na3f245ngsqufw3f7xqk2fbnm2mkilhx2j6mfg5m")
"""The raw CID of docs/protocols/topic.md."""
FAR: Final = 3
_ROWS: Final = b"\0topic\0"
_FOLLOWED: Final = b"topic/"
_PAGE: Final = 256
_TELL_MS: Final = 30_000


class Topics:
    """The topics of one node. `heard`: called with each entry that is new here."""

    def __init__(self, state: State, caller: Caller) -> None:
        self._state, self._caller = state, caller
        self._followed: set[str] = set()
        self._indexes: dict[str, Index] = {}
        self._carrying = Carrying(state.limits.topics_carried_bytes)
        self._waiting: dict[tuple[int, str], list[Entry]] = {}
        self._telling: set[int] = set()
        self._meetings: dict[int, Errands[str]] = {}
        self._missed: set[tuple[int, str]] = set()
        self.heard: list[Callable[[Entry], None]] = []

    # -- the owner's verbs -----------------------------------------------------------------------------

    async def load(self) -> None:
        """Which topics are followed, from the store."""
        rows = await Scan("grid", _FOLLOWED, _FOLLOWED, self._state.limits.topics, keys_only=True)
        self._followed = {key[len(_FOLLOWED) :].decode() for key, _ in rows}
        self._state.scheduler.spawn(self._count_carried())

    async def forget(self) -> None:
        """The grid is left: what was followed there is followed no more, what was kept for others does not
        count. Entries belong to their grid, and are had again by whoever comes back."""
        rows = tuple(Write("grid", _FOLLOWED + topic.encode(), None) for topic in self._followed)
        self._followed.clear()
        self._indexes.clear()
        self._carrying.clear()
        if rows:
            await Commit(rows)

    async def follow(self, topic: str) -> None:
        """Follow a topic, from now on and after a restart; what neighbours have of it is fetched."""
        entry.check_topic(topic)
        if len(self._followed) >= self._state.limits.topics and topic not in self._followed:
            raise LocalError(f"This node follows {len(self._followed)} topics; leave one first.", "busy")
        await Commit((Write("grid", _FOLLOWED + topic.encode(), b""),))
        self._followed.add(topic)
        self._changed()
        for link in self._state.open_links():
            if topic in link.topics:
                self._meet(link, topic)

    async def leave(self, topic: str) -> bool:
        """Follow a topic no more; its entries stay, and age. Whether it was followed."""
        await Commit((Write("grid", _FOLLOWED + topic.encode(), None),))
        was = topic in self._followed
        self._followed.discard(topic)
        self._changed()
        return was

    def counts(self) -> tuple[int, int]:
        """(topics followed, entries of the topics that were looked into since the start)."""
        return len(self._followed), sum(len(index) for index in self._indexes.values())

    async def followed(self) -> list[str]:
        """The topics this node follows."""
        return sorted(self._followed)

    def follows(self, topic: str) -> bool:
        """Whether this node follows a topic itself."""
        return topic in self._followed

    async def publish(self, topic: str, body: object) -> Entry:
        """Say something to all who follow a topic; it is durable here before it is passed on."""
        entry.check_topic(topic)
        state = self._state
        if state.grid is None:
            raise LocalError("This node is in no grid yet; join or found one first.")
        nonce = state.entropy.take(entry.NONCE_BYTES)
        made = await entry.seal(state.grid, topic, state.me, state.now_ms, nonce, body)
        await self._keep([made])
        self._pass_on([made], None)
        return made

    async def entries(self, topic: str, after: bytes = b"", limit: int = 100) -> list[Entry]:
        """Entries in order of time, from the one behind the key `after`."""
        index = await self.index(entry.check_topic(topic))
        keys = index.within((after + b"\0" if after else b"", b""))[:limit]
        return await self.read(keys)

    async def latest(self, topic: str, limit: int = 100) -> list[Entry]:
        """The latest entries, the newest first."""
        index = await self.index(entry.check_topic(topic))
        return (await self.read(index.keys[-limit:] if limit > 0 else []))[::-1]

    # -- links -----------------------------------------------------------------------------------------

    async def opened(self, link: Link) -> None:
        """A peer is in: it is told what is followed here."""
        self._tell_soon(link)

    def closed(self, link: Link) -> None:
        """A peer is gone: nobody follows anything through it any more."""
        for key in [key for key in self._waiting if key[0] == link.number]:
            del self._waiting[key]
        self._missed = {key for key in self._missed if key[0] != link.number}
        self._meetings.pop(link.number, None)
        if link.topics:
            self._changed()

    def following(self, link: Link, topics: dict[str, int]) -> None:
        """A peer says what it follows. New ones both follow are compared, by whoever dialled."""
        new = topics.keys() - link.topics.keys()
        if topics != link.topics:
            link.topics = topics
            self._changed()
            if link.number in self._meetings:
                self._meetings[link.number].prune()
        if link.role == "initiator":
            for topic in new:
                self._meet(link, topic)

    def _changed(self) -> None:
        for link in self._state.open_links():
            self._tell_soon(link)

    def _tell_soon(self, link: Link) -> None:
        if link.number not in self._telling:
            self._telling.add(link.number)
            self._state.scheduler.spawn(self._tell(link))

    async def _tell(self, link: Link) -> None:
        """Say what is followed, while it is not what was said before: changes of a while together, and again
        what the peer could not hear."""
        limits = self._state.limits
        try:
            while not link.is_closed and (wanted := self._wanted_of(link)) != link.topics_told:
                try:
                    await self._ask(link, "follow", tuple(map(list, sorted(wanted.items()))))
                except (RemoteError, LocalError):
                    await Pause(None, limits.topics_again_ms)
                else:
                    link.topics_told = wanted
                    await Pause(None, limits.topics_told_ms)
        finally:
            self._telling.discard(link.number)

    def _wanted_of(self, link: Link) -> dict[str, int]:
        """What to ask a peer for: our own topics, and those of others, a link farther. Where there is no room
        for all the others take turns, each with the nearest first."""
        wanted = dict.fromkeys(self._followed, 0)
        others = [other for other in self._state.open_links() if other.did != link.did and other.topics]
        lines = (sorted(other.topics.items(), key=lambda row: row[1]) for other in others)
        for turn in zip_longest(*lines):
            for topic, distance in filter(None, turn):
                has_room = topic in wanted or len(wanted) < self._state.limits.topics
                if has_room and distance < FAR and distance + 1 < wanted.get(topic, FAR + 1):
                    wanted[topic] = distance + 1
        return wanted

    def _is_wanted(self, topic: str) -> bool:
        return topic in self._followed or any(topic in link.topics for link in self._state.open_links())

    # -- entries that come and go ----------------------------------------------------------------------

    async def take(self, link: Link, topic: str, items: Sequence[bytes]) -> int:
        """Entries a peer gave; how many of them are known now. RemoteError when it sends forgeries."""
        if not self._is_wanted(topic):
            return 0
        index, fresh, known = await self.index(topic), [], 0
        for data in items:
            claimed, signed = entry.read(data)
            if claimed.grid != self._state.grid:
                raise RemoteError("wrong_grid", f"An entry of the grid {claimed.grid} was given.")
            if claimed.topic != topic:
                raise RemoteError("malformed", f"An entry of {claimed.topic!r} was given for {topic!r}.")
            if claimed.by in self._state.banned:
                continue
            if claimed.key in index:
                known += 1
            elif self._is_timely(claimed, index):
                try:
                    fresh.append(await entry.proved(claimed, signed))
                except RemoteError:
                    link.count_bad_signature()
                    raise
        kept, writes = await self._taken(fresh)
        self._pass_on(kept, link)  # whoever is behind us syncs it to disk while we do
        await self._commit(kept, writes)
        for one in kept:
            for heard in self.heard:
                heard(one)
        return known + len(kept)

    def _is_timely(self, claimed: Entry, index: Index) -> bool:
        limits, now_ms = self._state.limits, self._state.now_ms
        if claimed.at > now_ms + limits.clock_skew_ms:
            return False
        return len(index) < limits.topic_entries or claimed.key > index.keys[0]

    async def _keep(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that were new, stored."""
        kept, writes = await self._taken(entries)
        await self._commit(kept, writes)
        return kept

    async def _taken(self, entries: Iterable[Entry]) -> tuple[list[Entry], list[Write]]:
        """Those that are new, known from now on, and what is to be written of them. What a topic holds too
        much of goes, the oldest first; and what was kept longest for others, when that is too much."""
        kept: list[Entry] = []
        writes: list[Write] = []
        for one in entries:
            index = await self.index(one.topic, keep=True)
            if one.grid != self._state.grid or not index.add(one.key):
                continue
            kept.append(one)
            size = 0 if one.topic in self._followed or one.by == self._state.me else len(one.data)
            row = self._row(one.topic, one.key)
            writes.append(Write("kv", row, size.to_bytes(4, "big") if size else b""))
            writes.append(Write("blocks", bytes(one.cid), one.data))
            excess = len(index) - self._state.limits.topic_entries
            if excess > 0:
                for key in index.drop_first(max(excess, self._state.limits.topic_entries // 16)):
                    writes.append(Write("kv", self._row(one.topic, key), None))
            if size:
                self._carrying.add(one.topic, one.key, size)
                writes += self._shed()
        return kept, writes

    def _shed(self) -> list[Write]:
        """What is let go of that was kept for others, unless it is followed here by now."""
        writes = []
        for topic, key in self._carrying.excess():
            if topic not in self._followed:
                writes.append(Write("kv", self._row(topic, key), None))
                if topic in self._indexes:
                    self._indexes[topic].drop(key)
                    if not self._indexes[topic]:
                        del self._indexes[topic]
        return writes

    async def _count_carried(self) -> None:
        """What was kept for others before this node was started counts as well."""
        rows = self._row()
        after = rows
        while found := await Scan("kv", rows, after, 1, keys_only=True):
            topic = found[0][0][len(rows) :].partition(b"\0")[0]
            prefix = at = rows + topic + b"\0"
            while topic.decode() not in self._followed and (page := await Scan("kv", prefix, at, _PAGE)):
                at = page[-1][0]
                for key, size in page:
                    if size:
                        self._carrying.add(topic.decode(), _key(key[len(prefix) :]), int.from_bytes(size))
            after = rows + topic + b"\x01"

    async def _commit(self, kept: list[Entry], writes: list[Write]) -> None:
        if not writes:
            return
        try:
            await Commit(tuple(writes))
        except RemoteError:
            for topic in {one.topic for one in kept}:
                self._indexes.pop(topic, None)  # what is stored is read again
            raise

    def _pass_on(self, entries: list[Entry], source: Link | None) -> None:
        """Give entries to the neighbours that follow their topic, as many together as have gathered."""
        for link in self._state.open_links():
            if link is source or (source is not None and link.did == source.did):
                continue
            if self._state.link_to(link.did) is not link:
                continue  # one of several links to a peer is enough
            for one in entries:
                if one.topic in link.topics:
                    queue = self._waiting.get((link.number, one.topic))
                    if queue is None:
                        queue = self._waiting[link.number, one.topic] = []
                        self._state.scheduler.spawn(self._give_waiting(link, one.topic, queue))
                    queue.append(one)
                    if len(queue) > self._state.limits.topic_queue:
                        del queue[: -self._state.limits.topic_queue]
                        self._missed.add((link.number, one.topic))  # found when they compare, afterwards

    async def _give_waiting(self, link: Link, topic: str, queue: list[Entry]) -> None:
        try:
            while queue and not link.is_closed:
                some = batch(queue)
                del queue[: len(some)]
                await self._ask(link, "give", (topic, [one.data for one in some]))
        except (RemoteError, LocalError):
            self._missed.add((link.number, topic))
        finally:
            if self._waiting.get((link.number, topic)) is queue:
                del self._waiting[link.number, topic]
        if (link.number, topic) in self._missed:
            self._missed.discard((link.number, topic))
            self._meet(link, topic)

    def _meet(self, link: Link, topic: str) -> None:
        """Compare a topic with a peer, soon."""
        if link.is_open:
            meetings = self._meetings.get(link.number)
            if meetings is None:
                limits = self._state.limits
                meetings = self._meetings[link.number] = Errands(
                    self._state.scheduler,
                    limits.topics_again_ms,
                    limits.topics,
                    lambda one: self.compare_with(link, one),
                    lambda one: link.is_open and one in link.topics,
                )
            meetings.add(topic)

    async def compare_with(self, link: Link, topic: str) -> tuple[int, int]:
        """Compare a topic with a peer and exchange what differs: (entries taken, entries given)."""
        index = await self.index(topic)
        comparison = Comparison(link, topic, index, self.read, self._ask, self.take)
        await comparison.run()
        return comparison.taken, comparison.given

    async def _ask(self, link: Link, op: str, args: tuple[object, ...]) -> Any:
        return await self._caller.ask_on(link, TOPIC, op, args, _TELL_MS)

    # -- the store -------------------------------------------------------------------------------------

    def _row(self, topic: str = "", key: bytes = b"") -> bytes:
        """Where an entry is noted: under its grid, and its whole CID, so that a collection finds it."""
        rows = _ROWS + (b"" if self._state.grid is None else bytes(self._state.grid))
        name = key[:TIME_BYTES] + _cid_of(key) if key else b""
        return rows + topic.encode() + b"\0" + name if topic else rows

    async def index(self, topic: str, keep: bool = False) -> Index:
        """The keys of a topic. keep: it is to be added to; else nothing is remembered of one without any,
        because peers may ask for whatever they like."""
        known = self._indexes.get(topic)
        if known is not None:
            return known
        prefix = self._row(topic)
        keys: list[bytes] = []
        async for found in batches("kv", prefix, keys_only=True):
            keys += [_key(key[len(prefix) :]) for key, _ in found]
        return self._indexes.setdefault(topic, Index(keys)) if keys or keep else Index()

    async def read(self, keys: Sequence[bytes]) -> list[Entry]:
        """Entries by their keys; those whose block is gone are left out."""
        found: list[Entry] = []
        for at in range(0, len(keys), _PAGE):
            names = tuple(_cid_of(key) for key in keys[at : at + _PAGE])
            for name, data in zip(names, await Load("blocks", names), strict=True):
                if data is not None and Cid.decode(name).holds(data):
                    found.append(entry.read(data)[0])
        return found


def _key(name: bytes) -> bytes:
    return key_of(int.from_bytes(name[:TIME_BYTES]), name[-32:])


def _cid_of(key: bytes) -> bytes:
    return b"\x01\x55\x12\x20" + key[TIME_BYTES:KEY_BYTES]
