"""Copies: content that at least so many other nodes keep, because they promised to.

The owner says how many copies of a CID he wants. Members who promised him to store are asked, until there
are so many; each is asked again and again for a leaf chosen at random. Who misses too often in a row, or
stays away, counts no more, and another takes over. Who comes back and still has it counts again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Scan, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange, links_of
from promisegrid.promises import Promises
from promisegrid.protocols import STORE
from promisegrid.state import State
from promisegrid.strand import Pause
from promisegrid.task import Task

COPIES_MAX: Final = 16
_ROWS: Final = b"copies/"
_MISSES_MAX: Final = 2
_KEEP_MS: Final = 3_600_000


@dataclass(slots=True)
class _Wish:
    """How many copies of a CID are wanted, and who has one: did → how often it missed in a row."""

    copies: int
    holders: dict[str, int] = field(default_factory=dict)

    @property
    def sound(self) -> list[str]:
        """Who counts."""
        return [did for did, misses in self.holders.items() if misses < _MISSES_MAX]

    def record(self) -> bytes:
        """What is stored."""
        return dagcbor.encode({"copies": self.copies, "holders": sorted(self.sound)})


class Replicas:
    """The copies one owner wants."""

    def __init__(self, state: State, caller: Caller, exchange: Exchange, promises: Promises) -> None:
        self._state, self._caller, self._exchange, self._promises = state, caller, exchange, promises
        self._wishes: dict[Cid, _Wish] = {}
        self.told: Callable[[str, Cid, str], None] = lambda event, cid, did: None
        """Told ("kept", "missed" or "lost", what, by whom)."""

    async def load(self) -> None:
        """What is wanted, from the store; and from now on it is looked after."""
        rows = await Scan("grid", _ROWS, _ROWS, self._state.limits.copies)
        for key, value in rows:
            kept = dagcbor.decode(value)
            self._wishes[Cid.decode(key[len(_ROWS) :])] = _Wish(
                kept["copies"], dict.fromkeys(kept["holders"], 0)
            )
        self._state.scheduler.spawn(self._look_after())

    async def forget(self) -> None:
        """The grid is left: its members keep nothing for this node any more."""
        rows = tuple(Write("grid", _ROWS + bytes(cid), None) for cid in self._wishes)
        self._wishes.clear()
        if rows:
            await Commit(rows)

    # -- the owner's verbs -----------------------------------------------------------------------------

    async def want(self, cid: Cid, copies: int) -> list[str]:
        """Have so many other nodes keep something, 0 for none any more; the did:keys of those who do now.

        Fewer than asked for when fewer promised: more are asked as they come. LocalError: bad_args, busy.
        """
        if not 0 <= copies <= COPIES_MAX:
            raise LocalError(f"0 to {COPIES_MAX} copies, not {copies}.", "bad_args")
        wish = self._wishes.get(cid)
        if wish is None:
            if len(self._wishes) >= self._state.limits.copies:
                raise LocalError(f"Copies of {len(self._wishes)} things are wanted; let one go.", "busy")
            wish = self._wishes[cid] = _Wish(copies)
        wish.copies = copies
        await self._save(cid, wish)
        await self._mend(cid, wish)
        for did in wish.sound[copies:]:
            await self._drop(cid, wish, did)
        if not copies:
            self._wishes.pop(cid, None)
            await Commit((Write("grid", _ROWS + bytes(cid), None),))
        return wish.sound

    async def wanted(self) -> list[dict[str, Any]]:
        """What copies are wanted of, and who has one: {"cid", "copies", "holders", "missing"}."""
        return [
            {
                "cid": str(cid),
                "copies": wish.copies,
                "holders": wish.sound,
                "missing": max(0, wish.copies - len(wish.sound)),
            }
            for cid, wish in self._wishes.items()
        ]

    async def check(self, cid: Cid) -> list[str]:
        """Ask everybody who should have it for a leaf, now, and mend what is missing; who counts then."""
        wish = self._wishes.get(cid)
        if wish is None:
            raise LocalError(f"No copies of {cid} are wanted.", "not_found")
        await self._check(cid, wish)
        return wish.sound

    # -- inside ----------------------------------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            every_ms = self._state.limits.copies_check_ms
            some_ms = int.from_bytes(self._state.entropy.take(8)) % (every_ms // 4)
            await Pause(None, every_ms - every_ms // 8 + some_ms)  # not in step with who checks us
            for cid, wish in list(self._wishes.items()):
                try:
                    await self._check(cid, wish)
                except (RemoteError, LocalError):
                    continue  # it is looked at again next time

    async def _check(self, cid: Cid, wish: _Wish) -> None:
        counted = wish.sound
        for did in list(wish.holders):
            if await self._has(await self._leaf(cid), did):
                wish.holders[did] = 0
                continue
            misses = wish.holders[did] = wish.holders.get(did, 0) + 1
            if misses <= _MISSES_MAX:
                self.told("lost" if misses == _MISSES_MAX else "missed", cid, did)
        if wish.sound != counted:
            await self._save(cid, wish)
        await self._mend(cid, wish)

    async def _has(self, leaf: Cid, did: str) -> bool:
        """Whether a node gives us a block within the deadline."""
        try:
            link = await self._caller.reach(did)
            return await self._exchange.ask_one(link, leaf, self._state.limits.copies_answer_ms)
        except (RemoteError, LocalError):
            return False

    async def _leaf(self, cid: Cid) -> Cid:
        """A block far down in something, chosen at random."""
        while True:
            below = links_of(cid, await self._exchange.block(cid))
            if not below:
                return cid
            cid = below[int.from_bytes(self._state.entropy.take(8)) % len(below)]

    async def _mend(self, cid: Cid, wish: _Wish) -> None:
        """Ask those who promised, until there are copies enough. Whoever says that he keeps it shows it."""
        for did in self._candidates(cid, wish):
            if len(wish.sound) >= wish.copies:
                return
            if await self._ask(cid, did):
                if not await self._has(await self._leaf(cid), did):
                    wish.holders[did] = _MISSES_MAX
                    continue
                wish.holders[did] = 0
                await self._save(cid, wish)
                self.told("kept", cid, did)

    def _candidates(self, cid: Cid, wish: _Wish) -> list[str]:
        """Members who promised to store it and can be reached, those who never missed first."""
        linked = [link.did for link in self._state.open_links()]
        near = [did for link in self._state.open_links() for did in link.near]
        known = [did for did in dict.fromkeys([*linked, *near]) if did not in wish.sound]
        able = [did for did in known if self._promises.presentable(did, _task(cid), None) is not None]
        return sorted(able, key=lambda did: did in wish.holders)

    async def _ask(self, cid: Cid, did: str) -> bool:
        grant = self._promises.presentable(did, _task(cid), None)
        if grant is None:
            return False
        try:
            proofs = tuple(one.raw for one in grant.chain)
            body = await self._caller.ask(did, STORE, "keep", (cid,), _KEEP_MS, proofs)
        except (RemoteError, LocalError) as wrong:
            self._promises.is_spent(grant, wrong.code)
            return False
        return isinstance(body, dict) and type(body.get("kept")) is int

    async def _drop(self, cid: Cid, wish: _Wish, did: str) -> None:
        wish.holders.pop(did, None)
        await self._save(cid, wish)
        try:
            await self._caller.ask(did, STORE, "drop", (cid,), self._state.limits.copies_answer_ms)
        except (RemoteError, LocalError):
            return  # it keeps it until its promise ends

    async def _save(self, cid: Cid, wish: _Wish) -> None:
        if self._wishes.get(cid) is wish:  # not let go meanwhile
            await Commit((Write("grid", _ROWS + bytes(cid), wish.record()),))


def _task(cid: Cid) -> Task:
    return Task(STORE, "keep", (cid,))
