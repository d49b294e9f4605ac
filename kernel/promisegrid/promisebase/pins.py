"""Pins: what the owner of a base wants kept. A pin names a CID, and everything below it stays.

A pin is durable, and made only when all it keeps is here. It is the base's: nodes that share a base share
its pins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from promisegrid import dagcbor
from promisegrid.cid import IDENTITY, RAW, Cid
from promisegrid.effects import Commit, Load, Read, Scan, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange, links_of
from promisegrid.promisebase.collect import Collector
from promisegrid.state import State

Kind = Literal["recursive", "direct"]
NAME_MAX: Final = 1024
_AT_ONCE: Final = 256
Watch = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Pin:
    """A kept CID: with all below it (recursive) or alone (direct). at: seconds since 1970."""

    cid: Cid
    name: str
    at: int
    kind: Kind

    def record(self) -> bytes:
        """What is stored."""
        return dagcbor.encode({"name": self.name, "at": self.at, "kind": self.kind})

    @classmethod
    def read(cls, key: bytes, record: bytes) -> Pin:
        """From a row of the table `pins`."""
        return cls(Cid.decode(key), **dagcbor.decode(record))


class Pins:
    """The pins of one base."""

    def __init__(self, state: State, exchange: Exchange, collector: Collector) -> None:
        self._state, self._exchange, self._collector = state, exchange, collector

    async def pin(self, cid: Cid, name: str, watch: Watch, kind: Kind = "recursive") -> Pin:
        """Keep a CID, durably; what is missing of it is fetched first. A second pin of a CID renames it.

        `watch` is called with (blocks, bytes). RemoteError: not_found, too_large; LocalError: bad_args.
        """
        if len(name) > NAME_MAX:
            raise LocalError(f"A pin's name has at most {NAME_MAX} characters.", "bad_args")
        made = Pin(cid, name, self._state.now_ms // 1000, kind)

        async def bring() -> None:
            if kind == "recursive":
                await self.bring(cid, watch)
            else:
                self._collector.protect(cid)
                await self._exchange.block(cid)

        async def writes() -> tuple[Write, ...]:
            return (Write("pins", bytes(cid), made.record()),)

        await self._collector.keep(bring, writes)
        return made

    async def bring(self, cid: Cid, watch: Watch) -> None:
        """Have a CID and all below it here, and not collected before it can be kept. Errors as `pin`."""
        self._collector.protect(cid)
        if not await self.is_here(cid):
            await self._exchange.fetch_dag(cid, self._state.limits.fetch_bytes, watch)

    async def is_here(self, root: Cid) -> bool:
        """Whether everything below a CID is here. Leaves are not read: only `verify` reads everything."""
        seen, waiting = {root}, [root]
        while waiting:
            cid = waiting.pop()
            data = await self._exchange.stored(cid)
            if data is None:
                return False
            fresh = [link for link in links_of(cid, data) if link not in seen]
            seen.update(fresh)
            if len(seen) > self._state.limits.collect_blocks:
                raise RemoteError("too_large", f"{root} holds more than {len(seen)} blocks.")
            leaves = [link for link in fresh if link.codec == RAW and link.hash_code != IDENTITY]
            for at in range(0, len(leaves), _AT_ONCE):
                names = [bytes(leaf) for leaf in leaves[at : at + _AT_ONCE]]
                found = await Read(tuple(Scan("blocks", name, b"", 1, keys_only=True) for name in names))
                if () in found:
                    return False
            waiting += [link for link in fresh if link.codec != RAW]
        return True

    async def unpin(self, cid: Cid) -> bool:
        """Let a CID go: its blocks stay until they are collected. False when it was not pinned."""
        (record,) = await Load("pins", (bytes(cid),))
        await Commit((Write("pins", bytes(cid), None),))
        return record is not None

    async def find(self, cid: Cid) -> Pin | None:
        """The pin of a CID."""
        (record,) = await Load("pins", (bytes(cid),))
        return None if record is None else Pin.read(bytes(cid), record)

    async def page(self, after: bytes = b"", limit: int = 256) -> list[Pin]:
        """Pins in the order of their CIDs' bytes, from the one behind `after`."""
        return [Pin.read(key, record) for key, record in await Scan("pins", b"", after, limit)]
