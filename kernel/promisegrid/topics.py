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
from typing import Any, Final

from promisegrid import entry
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.comparison import Comparison, batch
from promisegrid.effects import Commit, Load, Scan, Write
from promisegrid.entry import Entry
from promisegrid.errors import LocalError, RemoteError
from promisegrid.link import Link
from promisegrid.reconcile import KEY_BYTES, TIME_BYTES, Index, key_of
from promisegrid.state import State

TOPIC: Final = Cid.parse("bafkreigmba6i2qnt7jzzssf4k47cbv7mdbmlzjion6aagswozgzr5odkda")
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
        self._carried_bytes = 0
        self._waiting: dict[tuple[int, str], list[Entry]] = {}
        self._telling: set[int] = set()
        self.heard: list[Callable[[Entry], None]] = []

    # -- the owner's verbs -----------------------------------------------------------------------------

    async def load(self) -> None:
        """Which topics are followed, from the store."""
        rows = await Scan("grid", _FOLLOWED, _FOLLOWED, self._state.limits.topics, keys_only=True)
        self._followed = {key[len(_FOLLOWED) :].decode() for key, _ in rows}

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
                self._state.scheduler.spawn(self._meet(link, topic))

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
        made = await entry.seal(topic, self._state.me, self._state.now_ms, self._state.entropy.take(8), body)
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
        if link.topics:
            self._changed()

    def following(self, link: Link, topics: dict[str, int]) -> None:
        """A peer says what it follows. New ones both follow are compared, by whoever dialled."""
        new = topics.keys() - link.topics.keys()
        if topics != link.topics:
            link.topics = topics
            self._changed()
        if link.role == "initiator":
            for topic in new:
                if self._is_wanted(topic):
                    self._state.scheduler.spawn(self._meet(link, topic))

    def _changed(self) -> None:
        for link in self._state.open_links():
            self._tell_soon(link)

    def _tell_soon(self, link: Link) -> None:
        if link.number not in self._telling:
            self._telling.add(link.number)
            self._state.scheduler.spawn(self._tell(link))

    async def _tell(self, link: Link) -> None:
        """Say what is followed, if it is not what was said before."""
        try:
            wanted = self._wanted_of(link)
            if wanted != link.topics_told and not link.is_closed:
                link.topics_told = wanted
                await self._ask(link, "follow", tuple(map(list, sorted(wanted.items()))))
        except (RemoteError, LocalError):
            return
        finally:
            self._telling.discard(link.number)
        if self._wanted_of(link) != link.topics_told and not link.is_closed:
            self._tell_soon(link)

    def _wanted_of(self, link: Link) -> dict[str, int]:
        """What to ask a peer for: our own topics, and those of others, a link farther."""
        wanted = dict.fromkeys(self._followed, 0)
        for other in self._state.open_links():
            if other is link or other.did == link.did:
                continue
            for topic, distance in other.topics.items():
                if distance < FAR and distance + 1 < wanted.get(topic, FAR + 1):
                    wanted[topic] = distance + 1
        return dict(sorted(wanted.items(), key=lambda row: row[1])[: self._state.limits.topics])

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
        much of goes, the oldest first."""
        kept: list[Entry] = []
        writes: list[Write] = []
        for one in entries:
            index = await self.index(one.topic)
            size = 0 if one.topic in self._followed or one.by == self._state.me else len(one.data)
            if size and self._carried_bytes + size > self._state.limits.topics_carried_bytes:
                continue
            if not index.add(one.key):
                continue
            self._carried_bytes += size
            kept.append(one)
            writes += [Write("kv", _row(one.topic, one.key), b""), Write("blocks", bytes(one.cid), one.data)]
            excess = len(index) - self._state.limits.topic_entries
            if excess > 0:
                for key in index.drop_first(max(excess, self._state.limits.topic_entries // 16)):
                    writes.append(Write("kv", _row(one.topic, key), None))
        return kept, writes

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
                    del queue[: -self._state.limits.topic_queue]  # the rest is found when they next compare

    async def _give_waiting(self, link: Link, topic: str, queue: list[Entry]) -> None:
        try:
            while queue and not link.is_closed:
                some = batch(queue)
                del queue[: len(some)]
                await self._ask(link, "give", (topic, [one.data for one in some]))
        except (RemoteError, LocalError):
            return
        finally:
            if self._waiting.get((link.number, topic)) is queue:
                del self._waiting[link.number, topic]

    async def _meet(self, link: Link, topic: str) -> None:
        try:
            await self.compare_with(link, topic)
        except (RemoteError, LocalError):
            return  # the link is gone or the peer is; they compare again when they next meet

    async def compare_with(self, link: Link, topic: str) -> tuple[int, int]:
        """Compare a topic with a peer and exchange what differs: (entries taken, entries given)."""
        index = await self.index(topic)
        comparison = Comparison(link, topic, index, self.read, self._ask, self.take)
        await comparison.run()
        return comparison.taken, comparison.given

    async def _ask(self, link: Link, op: str, args: tuple[object, ...]) -> Any:
        return await self._caller.ask_on(link, TOPIC, op, args, _TELL_MS)

    # -- the store -------------------------------------------------------------------------------------

    async def index(self, topic: str) -> Index:
        """The keys of a topic."""
        known = self._indexes.get(topic)
        if known is not None:
            return known
        prefix = _row(topic, b"")
        keys: list[bytes] = []
        after = prefix
        while rows := await Scan("kv", prefix, after, _PAGE, keys_only=True):
            after = rows[-1][0]
            keys += [_key(key[len(prefix) :]) for key, _ in rows]
        return self._indexes.setdefault(topic, Index(keys))

    async def read(self, keys: Sequence[bytes]) -> list[Entry]:
        """Entries by their keys; those whose block is gone are left out."""
        found: list[Entry] = []
        for at in range(0, len(keys), _PAGE):
            names = tuple(_cid_of(key) for key in keys[at : at + _PAGE])
            for name, data in zip(names, await Load("blocks", names), strict=True):
                if data is not None and Cid.decode(name).holds(data):
                    found.append(entry.read(data)[0])
        return found


def _row(topic: str, key: bytes) -> bytes:
    """Where an entry is noted: the whole CID stands there, so that a collection finds it."""
    name = key[:TIME_BYTES] + _cid_of(key) if key else b""
    return _ROWS + topic.encode() + b"\0" + name


def _key(name: bytes) -> bytes:
    return key_of(int.from_bytes(name[:TIME_BYTES]), name[-32:])


def _cid_of(key: bytes) -> bytes:
    return b"\x01\x55\x12\x20" + key[TIME_BYTES:KEY_BYTES]
