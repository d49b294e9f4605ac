"""Garbage collection: removes blocks that nothing keeps. Runs beside writes, can be stopped at any time.

Kept is whatever a row of the base names, and all below it: pins, streams with their whole history, published
apps, the grid's own records (members, promises, statements), keys and values of transactions; and results,
unless they are to go as well. A name is found in a row by its bytes: what looks like a CID is one. So the
worst that can happen is that too much is kept.

First everything kept is marked, then what is not marked is removed, some blocks at a time. Blocks stored in
the last minutes, or while it runs, are left alone: their pin may still be on its way. Nothing that is pinned
or named in a row in between is lost: what this node writes is seen as it is written, and marked; for other
nodes of a shared base each removal rests on `TURN`, a key that every pin, move, transaction and publication
changes, as each of those rests on `SWEPT`, which every removal changes.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from promisegrid.cid import DAG_CBOR, DAG_PB, IDENTITY, RAW, Cid, CidError
from promisegrid.effects import Commit, Conflict, Load, Save, Seen, Table, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import links_of
from promisegrid.scan import batches
from promisegrid.state import State

TURN: Final = b"\0collect/turn"
"""Its value is another after each pin, move, transaction and publication."""
SWEPT: Final = b"\0collect/swept"
"""Its value is another after each removal; it begins with whose removal it was."""
_KEPT: Final[tuple[Table, ...]] = ("pins", "streams", "apps", "grid", "kv")
_HASH: Final = re.compile(
    rb"(?=(\x12\x20.{32}|\x16\x20.{32}|\xa0\xe4\x02\x20.{32}|\x13\x40.{64}))", re.DOTALL
)
"""The multihashes this kernel verifies, wherever they begin: sha2-256, sha3-256, blake2b-256, sha2-512."""
_BARE: Final = b"\x12\x20"
_SIGNED: Final = b"\xd2\x84"
_SIGNED_MAX: Final = 64 * 1024
_ATTEMPTS: Final = 16
_LOADED: Final = 16
_REMOVED: Final = 64
Watch = Callable[[str, int, int | None], None]
"""Called with ("mark" or "sweep", blocks, None) as it goes on."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What went, or on a dry run would go: blocks and bytes; and how many blocks are kept."""

    blocks: int
    bytes: int
    kept: int


class Collector:
    """Collects one base, one collection at a time."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._fresh: OrderedDict[bytes, int] = OrderedDict()
        self._crowded_until_ms = 0
        self._marked: set[bytes] | None = None
        self._waiting: list[bytes] = []
        self._leaves: set[bytes] = set()
        """Kept, and not followed: what a file's tree names raw. Whom a row names is followed all the same."""
        self._named: set[bytes] = set()
        self._roots: tuple[Table, ...] = _KEPT
        self._me = state.entropy.take(8)
        self.on_stored: Callable[[bytes], None] = lambda _: None
        """Told of each block that somebody here stores or is about to keep."""
        self.holds = 0
        """How many are storing what they will name only at the end: there is no collecting meanwhile."""

    # -- what others tell ----------------------------------------------------------------------------

    def stored(self, cids: Iterable[bytes]) -> None:
        """These blocks were just stored: leave them for a while, somebody is about to name them."""
        for cid in (names := list(cids)):
            self.on_stored(cid)
        self._spare(names)

    def _spare(self, cids: Iterable[bytes]) -> None:
        limits, now_ms = self._state.limits, self._state.now_ms
        for cid in cids:
            self._fresh[cid] = now_ms
            self._fresh.move_to_end(cid)
        while self._fresh:
            cid, at_ms = next(iter(self._fresh.items()))
            old = at_ms + limits.fresh_ms <= now_ms
            if not old and len(self._fresh) <= limits.fresh_blocks:
                break
            if not old:
                self._crowded_until_ms = now_ms + limits.fresh_ms
            del self._fresh[cid]

    def wrote(self, effect: Save | Commit) -> None:
        """Writes that were asked for while a collection runs: blocks, and rows that name some."""
        if self._marked is None:
            return
        self._spare(write.key for write in effect.writes if write.table == "blocks" and write.value)
        for write in effect.writes:
            if write.table != "blocks" and write.value is not None:
                names = [*names_in(write.key), *names_in(write.value)]
                self._waiting += names
                self._named.update(names)

    def protect(self, cid: Cid) -> None:
        """This is about to be kept."""
        if self._marked is not None:
            self._waiting.append(bytes(cid))
        self.stored([bytes(cid)])

    def turn(self) -> Write:
        """What every commit that begins to name something changes along."""
        return Write("kv", TURN, self._state.entropy.take(8))

    async def keep(
        self, bring: Callable[[], Awaitable[object]], writes: Callable[[], Awaitable[tuple[Write, ...]]]
    ) -> None:
        """Commit `writes` that keep something, which `bring` has brought here: and it is here, all of it.

        RemoteError("busy") when another node of the base removes so fast that this cannot be told.
        """
        for _ in range(_ATTEMPTS):
            swept = await value_of(SWEPT)
            await bring()
            named = await writes()
            turn = self.turn()
            while isinstance(await Commit((*named, turn), (swept,)), Conflict):
                swept = await value_of(SWEPT)
                (by,) = swept.answer
                if not isinstance(by, bytes) or not by.startswith(self._me):
                    break  # another's: what was brought may be gone again
            else:
                return
        raise RemoteError("busy", "Another node of this base is collecting garbage; try again in a moment.")

    # -- collecting ----------------------------------------------------------------------------------

    async def collect(self, watch: Watch, dry_run: bool = False, results: bool = False) -> Collected:
        """Remove what nothing keeps; `results`: remembered results too. RemoteError("busy") while one runs.

        Giving it up leaves a sound base, less garbage, and the rest for the next time.
        """
        if self._marked is not None:
            raise RemoteError("busy", "The base is being collected already; wait, or stop that.")
        if self.holds:
            raise RemoteError("busy", "Content is being put or imported; collect when that is over.")
        if self._crowded_until_ms > self._state.now_ms:
            text = "So much was stored lately that what is new cannot be told from garbage; try again later."
            raise RemoteError("busy", text)
        self._marked, self._waiting, self._leaves = set(), [], set()
        self._state.scheduler.watch_writes(self.wrote)
        try:
            if results:
                await self._forget_results(dry_run)
            turn = await value_of(TURN)
            self._roots = _KEPT if results else (*_KEPT, "memo")
            await self._mark_roots(self._roots, watch)
            return await self._sweep(turn, watch, dry_run)
        finally:
            self._marked, self._waiting, self._leaves = None, [], set()
            self._state.scheduler.watch_writes(None)

    async def _forget_results(self, dry_run: bool) -> None:
        if dry_run:
            return
        async for found in batches("memo", keys_only=True):
            await Save(tuple(Write("memo", key, None) for key, _ in found))

    async def _mark_roots(self, tables: Iterable[Table], watch: Watch) -> None:
        for table in tables:
            async for found in batches(table, everyone=True):
                for key, value in found:
                    self._waiting += [*names_in(key), *names_in(value)]
                    if table == "grid" and key.endswith(b"genesis"):  # this node's, or another's of the base
                        self._waiting.append(bytes(Cid.of(value, DAG_CBOR)))
                await self._mark(watch)

    async def _mark(self, watch: Watch) -> None:
        """Mark whatever waits, and all below it."""
        marked = self._marked
        assert marked is not None
        while self._waiting:
            batch: list[bytes] = []
            while self._waiting and len(batch) < _LOADED:
                name = self._waiting.pop()
                if mark_of(name) not in marked:
                    marked.add(mark_of(name))
                    batch.append(name)
            if len(marked) + len(self._leaves) > self._state.limits.collect_blocks:
                text = f"The base keeps more than {len(marked)} blocks: too many to tell apart here."
                raise LocalError(text, "too_large")
            watch("mark", len(marked), None)
            for name, data in zip(batch, await Load("blocks", tuple(batch)), strict=True):
                content = _inline(name) if data is None else data
                if content is not None:
                    self._waiting += self._below(name, content)

    async def _sweep(self, turn: Seen, watch: Watch, dry_run: bool) -> Collected:
        blocks = size = kept = 0
        async for found in batches("blocks", size=_REMOVED, keys_only=True):
            batch = [key for key, _ in found]
            gone, freed, turn = await self._remove(batch, turn, watch, dry_run)
            blocks, size, kept = blocks + gone, size + freed, kept + len(batch) - gone
            watch("sweep", blocks + kept, None)
        return Collected(blocks, size, kept)

    async def _remove(
        self, names: list[bytes], turn: Seen, watch: Watch, dry_run: bool
    ) -> tuple[int, int, Seen]:
        """Remove those of some blocks that nothing keeps: how many, their bytes, the turn now."""
        while True:
            await self._mark(watch)
            gone = tuple(name for name in names if not self._is_kept(name))
            if not gone:
                return 0, 0, turn
            found = dict(zip(gone, await Load("blocks", gone), strict=True))
            size = sum(len(data or b"") for data in found.values())
            if self._waiting or any(self._is_kept(name) for name in gone):
                continue  # something was stored or pinned while we looked
            if dry_run:
                return len(gone), size, turn
            swept = Write("kv", SWEPT, self._me + self._state.entropy.take(8))
            self._named.clear()
            answer = await Commit((*(Write("blocks", name, None) for name in gone), swept), (turn,))
            if not isinstance(answer, Conflict):
                await self._put_back(found)
                return len(gone), size, turn
            turn = await value_of(TURN)
            await self._mark_roots(self._roots, watch)

    async def _put_back(self, found: dict[bytes, bytes | None]) -> None:
        """What was named while it was being removed is there again."""
        named = [(name, data) for name, data in found.items() if data is not None and name in self._named]
        if named:
            await Commit(tuple(Write("blocks", name, data) for name, data in named))

    def _below(self, name: bytes, data: bytes) -> list[bytes]:
        """What a block names: its links; of a small signed one, whatever appears in it. Leaves are marked."""
        cid = Cid.decode(name)
        if cid.codec == RAW:
            return names_in(data) if data.startswith(_SIGNED) and len(data) <= _SIGNED_MAX else []
        try:
            links = [bytes(link) for link in links_of(cid, data)]
        except RemoteError:
            return names_in(data)
        if cid.codec != DAG_PB:
            return links
        leaves = [link for link in links if link[1] == RAW]
        self._leaves.update(mark_of(leaf) for leaf in leaves)
        return [link for link in links if link[1] != RAW]

    def _is_kept(self, name: bytes) -> bool:
        assert self._marked is not None
        stored_ms = self._fresh.get(name)
        is_fresh = stored_ms is not None and stored_ms + self._state.limits.fresh_ms > self._state.now_ms
        mark = mark_of(name)
        return is_fresh or mark in self._marked or mark in self._leaves


async def value_of(key: bytes) -> Seen:
    """A key of the base's own, as it is now."""
    read = Load("kv", (key,))
    return Seen(read, await read)


def names_in(data: bytes) -> list[bytes]:
    """Whatever in a row or a signed block looks like a CID, as bytes: CIDv1 of any codec, and CIDv0."""
    found: list[bytes] = []
    for match in _HASH.finditer(data):
        at, hashed = match.start(), match[1]
        if hashed.startswith(_BARE):
            found.append(hashed)
        for width in (1, 2):  # bytes of the codec before it, behind the version
            start = at - width - 1
            if start >= 0 and data[start] == 1 and (data[start + 1] < 0x80) == (width == 1):
                found.append(data[start:at] + hashed)
    return found


def _inline(name: bytes) -> bytes | None:
    """The content of a CID that holds it itself."""
    try:
        cid = Cid.decode(name)
    except CidError:
        return None
    return cid.digest if cid.hash_code == IDENTITY else None


def mark_of(name: bytes) -> bytes:
    """What is remembered of a name, whole as it is: the same content under another is another block."""
    return hashlib.blake2b(name, digest_size=16).digest()
