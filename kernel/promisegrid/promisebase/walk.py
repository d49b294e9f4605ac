"""Walks over what hangs together: blocks depth first, out of this node's store, several leaves at a time.

Whoever made the blocks may be hostile: a few blocks can unfold to more than any disk holds. So a walk meets
each block once, or, where every meeting counts, ends after so many; and it remembers and awaits a bounded
number of links. Everything too large is a RemoteError, as is everything missing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from promisegrid.block import Block
from promisegrid.cid import IDENTITY, RAW, Cid
from promisegrid.effects import Load
from promisegrid.errors import RemoteError
from promisegrid.exchange import Exchange, links_of

_AHEAD: Final = 8
"""Leaves read together: with the largest blocks 16 MiB."""
Missing = Callable[[Cid], Awaitable[bytes]]
"""Where a block comes from that is not in the store, verified; or the RemoteError that says it is nowhere."""


async def nowhere(cid: Cid) -> bytes:
    """A `Missing` that asks nobody."""
    raise RemoteError("not_found", f"{cid} is not on this node.")


class Walk:
    """One walk. `most`: blocks met and links remembered, in all."""

    def __init__(
        self, exchange: Exchange, most: int, missing: Missing = nowhere, repeats: bool = False
    ) -> None:
        self._exchange, self._missing, self._most, self._repeats = exchange, missing, most, repeats
        self._ahead: dict[Cid, bytes] = {}
        self._met = 0
        self.seen: set[bytes] = set()
        """What was met, as bytes; add to it what need not be met again."""

    async def below(self, *roots: Cid) -> AsyncIterator[Block]:
        """The roots and everything they link to, a parent before its children, in the order of the links.

        Identity CIDs hold their content themselves: they are followed, and not told.
        """
        waiting = list(reversed(roots))
        while waiting:
            cid = waiting.pop()
            if not self._repeats and cid.encoded in self.seen:
                continue
            data = await self.load(cid, waiting)
            self._met += 1
            if not self._repeats:
                self.seen.add(cid.encoded)
            if cid.hash_code != IDENTITY:
                yield Block(cid, data)
            links = links_of(cid, data)
            waiting.extend(link for link in reversed(links) if link.encoded not in self.seen)
            if self._met + len(waiting) > self._most:
                text = f"{roots[0]} unfolds to more than {self._most} blocks and links."
                raise RemoteError("too_large", text)

    async def load(self, cid: Cid, waiting: list[Cid]) -> bytes:
        """One block, verified; the leaves at the end of `waiting` are read along."""
        if cid.hash_code == IDENTITY:
            return cid.digest
        data = self._ahead.pop(cid, None)
        if data is None:
            wanted = [cid, *self._leaves(waiting)] if cid.encoded[1] == RAW else [cid]
            found = await Load("blocks", tuple(map(bytes, wanted)))
            self._ahead.update(
                (one, block) for one, block in zip(wanted, found, strict=True) if block is not None
            )
            data = self._ahead.pop(cid, None)
        if data is None or not await self._exchange.holds(cid, data):
            return await self._missing(cid)
        return data

    def _leaves(self, waiting: list[Cid]) -> list[Cid]:
        """The next leaves, while nothing but leaves comes."""
        self._ahead.clear()
        leaves: list[Cid] = []
        for cid in reversed(waiting[-_AHEAD + 1 :]):
            if cid.encoded[1] != RAW:
                break
            if cid.encoded not in self.seen and cid not in leaves:
                leaves.append(cid)
        return leaves
