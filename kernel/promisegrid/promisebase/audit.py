"""Everything hashed once more, and everything the base keeps looked for: what is wrong, by name.

First each block is hashed. Then what pins, streams with their history, and published apps name is walked, so
that a block which is missing is told together with what needs it. Remembered results must have their
receipts. A damaged block is as good as missing: to mend is to fetch both anew, from whoever has them.

Reads a little at a time and holds nothing up; what is stored or removed meanwhile may be told wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from promisegrid import receipt
from promisegrid.cid import IDENTITY, RAW, Cid, CidError
from promisegrid.effects import Load
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange, links_of
from promisegrid.promisebase import streams
from promisegrid.promisebase.collect import mark_of
from promisegrid.promisebase.pins import Pin
from promisegrid.scan import batches, rows
from promisegrid.state import State

_TOGETHER: Final = 16
"""Blocks loaded together: with the largest, 32 MiB."""
_TOLD: Final = 1000
"""Names and sentences told of each kind; whoever has more needs a backup, not a list."""
Watch = Callable[[str, int, int | None], None]


@dataclass(slots=True)
class Audited:
    """Blocks hashed; those that are damaged; what else is wrong, a sentence each; what was fetched anew."""

    checked: int = 0
    bad: list[Cid] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    mended: list[Cid] = field(default_factory=list)


class Audit:
    """One audit of a base; `total` is how many blocks it holds, if that is known."""

    def __init__(
        self, state: State, exchange: Exchange, watch: Watch, mend: bool = False, total: int | None = None
    ) -> None:
        self._state, self._exchange, self._watch, self._mending = state, exchange, watch, mend
        self._total = total
        self._whole: set[bytes] = set()
        self._walked: set[bytes] = set()
        self._found = Audited()

    async def run(self) -> Audited:
        """What is wrong. LocalError("too_large") when there are more blocks than can be told apart."""
        await self._blocks()
        await self._pins()
        await self._streams()
        async for key, _ in rows("apps"):
            await self._below(f"The app {_name(key)}", key)
        await self._memo()
        return self._found

    # -- blocks --------------------------------------------------------------------------------------

    async def _blocks(self) -> None:
        async for found in batches("blocks", size=_TOGETHER, keys_only=True):
            keys = tuple(key for key, _ in found)
            for key, data in zip(keys, await Load("blocks", keys), strict=True):
                await self._block(key, data)
            if len(self._whole) > self._state.limits.collect_blocks:
                raise LocalError("The base holds too many blocks to be told apart here.", "too_large")
            self._watch("verify", self._found.checked, self._total)

    async def _block(self, key: bytes, data: bytes | None) -> None:
        self._found.checked += 1
        try:
            cid = Cid.decode(key)
        except CidError:
            self._say(f"The block {key.hex()[:100]} has no CID for its name.")
            return
        if data is not None and await self._exchange.holds(cid, data):
            self._whole.add(mark_of(key))
        elif await self._fetch(cid) is None and len(self._found.bad) < _TOLD:
            self._found.bad.append(cid)

    async def _fetch(self, cid: Cid) -> bytes | None:
        """A damaged or missing block from whoever has it, if this is to mend; None: nobody has."""
        if not self._mending:
            return None
        try:
            data = await self._exchange.fetch(cid)
        except RemoteError:
            return None
        self._whole.add(mark_of(bytes(cid)))
        self._found.mended.append(cid)
        return data

    # -- what is kept --------------------------------------------------------------------------------

    async def _pins(self) -> None:
        async for key, value in rows("pins"):
            try:
                pin = Pin.read(key, value)
            except (ValueError, TypeError):
                self._say(f"The pin {_name(key)} cannot be read: unpin it, and pin it again.")
                continue
            who = f"The pin “{pin.name}” ({pin.cid})" if pin.name else f"The pin {pin.cid}"
            await self._below(who, key, pin.kind == "recursive")

    async def _streams(self) -> None:
        async for key, _ in rows("streams"):
            name, _, head = key.partition(b"\0")
            who = f"The stream “{name.decode(errors='replace')}”"
            await self._below(who, head)
            (data,) = await Load("blocks", (head,))
            try:
                moved = None if data is None else await streams.verify(Cid.decode(head), data)
                if moved is not None and moved.stream.encode() != name:
                    self._say(f"{who} has a head of the stream “{moved.stream}”: `promisegrid rebuild`.")
            except (RemoteError, CidError) as error:
                self._say(f"{who} has a head that does not hold: {error} Try `promisegrid rebuild`.")

    async def _memo(self) -> None:
        async for key, _ in rows("memo"):
            task, name = key[: len(key) // 2], key[len(key) // 2 :]
            (data,) = await Load("blocks", (name,))
            try:
                if data is None:
                    text = f"A result of {_name(task)} is remembered, but its receipt {_name(name)} is gone"
                    self._say(f"{text}: `promisegrid rebuild` forgets it.")
                elif bytes(receipt.read(data)[0].task) != task:
                    text = f"The receipt {_name(name)} is remembered for another task"
                    self._say(f"{text}: try `promisegrid rebuild`.")
            except RemoteError as error:
                self._say(f"The receipt {_name(name)} cannot be read: {error}")

    async def _below(self, who: str, root: bytes, all_of_it: bool = True) -> None:
        """Say what `who` needs and is not here; each block is looked for once."""
        lost: list[Cid] = []
        waiting = [root]
        while waiting:
            key = waiting.pop()
            if mark_of(key) in self._walked:
                continue
            if all_of_it:
                self._walked.add(mark_of(key))
            try:
                cid = Cid.decode(key)
                data = await self._data(cid)
                if data is None:
                    lost.append(cid)
                elif all_of_it:
                    waiting += [bytes(link) for link in links_of(cid, data)]
            except (RemoteError, CidError) as error:
                self._say(f"{who} names what cannot be read: {error}")
        if lost:
            more = f" and {len(lost) - 1} other blocks that are" if len(lost) > 1 else ", which is"
            self._say(f"{who} needs {lost[0]}{more} not here.")

    async def _data(self, cid: Cid) -> bytes | None:
        """A block for its links (so b"" will do for a leaf); None when it is damaged or missing."""
        if cid.hash_code == IDENTITY:
            return cid.digest
        if mark_of(bytes(cid)) not in self._whole:
            return await self._fetch(cid)
        if cid.codec == RAW:
            return b""
        (data,) = await Load("blocks", (bytes(cid),))
        return data if isinstance(data, bytes) else None

    def _say(self, text: str) -> None:
        if len(self._found.wrong) < _TOLD:
            self._found.wrong.append(text)


def _name(key: bytes) -> str:
    """A CID as text, or what there is instead."""
    try:
        return str(Cid.decode(key))
    except CidError:
        return key.hex()[:100]
