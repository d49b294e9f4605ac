"""Blocks by CID: from the store, else from peers, verified before anybody uses them.

A block asked for twice is fetched once. Peers are asked one after another, the likeliest first, the next
one as soon as one says no or lets `hedge_ms` pass, and never beyond `fetch_ms` of silence; a peer that is
sending what was asked before is not silent. Bytes that do not
hash to their CID are not a block: they count against the link that sent them. A block in our own store
whose bytes have rotted is a missing block, and is fetched again.

Gateways that the owner named, and those that the routers he named know of, are asked as well when no peer has
it, or none has sent it soon; for this node only, never on a peer's behalf.

Who may ask: peers whose link is open, so members only. A request we cannot fill is passed on once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from promisegrid import dagcbor, dagpb
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, DAG_PB, IDENTITY, Cid
from promisegrid.effects import Digest, Load, Save, Write
from promisegrid.errors import RemoteError
from promisegrid.frames import BlockFrame, Cancel, Piece, Want, pieces
from promisegrid.hedging import either
from promisegrid.link import Link
from promisegrid.outbox import PIECES, WHOLE
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal, Strand

_HASH_HERE_MAX = 64 * 1024
_FETCHES = 32
"""Blocks of one fetch at once: so many as may be wanted of a peer, and as many being hashed and stored."""
_SHA2_256 = 0x12
_PART_BYTES = 16 * 1024
"""Pieces shorter than this are joined as they come: each costs more than its bytes, and they are counted."""
Watch = Callable[[int, int], None]
"""Called with (blocks, bytes) as a fetch goes on."""


class Afar(Protocol):
    """Who has blocks without being a peer: gateways the owner named, and those his routers know of."""

    @property
    def any(self) -> bool:
        """Whether there is anybody to ask now."""

    async def ask(self, cid: Cid) -> bytes:
        """A verified block. RemoteError: not_found, bad_block."""


class Exchange:
    """Fetches blocks and serves them."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._flights: dict[Cid, Signal[bytes]] = {}
        self.on_stored: Callable[[list[bytes]], None] = lambda _: None
        """Told the CIDs, as bytes, of blocks that were fetched and stored."""
        self.afar: Afar | None = None
        """Asked for what peers have not."""
        self._withheld: dict[Cid, Signal[None]] = {}

    # -- ours ----------------------------------------------------------------------------------------

    async def stored(self, cid: Cid) -> bytes | None:
        """A block from this node's store, verified; None when it is missing or rotten."""
        if cid.hash_code == IDENTITY:
            return cid.digest
        (data,) = await Load("blocks", (bytes(cid),))
        return data if data is not None and await self.holds(cid, data) else None

    async def stored_dag(self, root: Cid) -> bool:
        """Whether everything a CID links to is in this node's store, whole."""
        seen, waiting = {root}, [root]
        while waiting:
            cid = waiting.pop()
            data = await self.stored(cid)
            if data is None:
                return False
            fresh = [link for link in links_of(cid, data) if link not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return True

    async def block(self, cid: Cid, hint: Link | None = None, lane: str = "") -> bytes:
        """A verified block, from the store or from peers, `hint` first. Lanes take turns to ask a peer.

        RemoteError: not_found when nobody has it in time, bad_block when somebody sent wrong bytes for it.
        """
        data = await self.stored(cid)
        return data if data is not None else await self.fetch(cid, hint, lane)

    async def fetch(self, cid: Cid, hint: Link | None = None, lane: str = "") -> bytes:
        """A verified block from peers, saved to the store. Errors as `block`."""
        flight = self._flights.get(cid)
        if flight is None:
            flight = self._state.scheduler.signal()
            self._flights[cid] = flight
            self._state.scheduler.spawn(self._fly(cid, hint, lane, flight))
        return await flight

    async def holds(self, cid: Cid, data: bytes) -> bool:
        """Whether bytes hash to a CID; large ones are hashed by the host."""
        if len(data) > _HASH_HERE_MAX and cid.hash_code == _SHA2_256:
            return bool(cid.digest == await Digest(data))
        return cid.verifiable and cid.holds(data)

    async def fetch_dag(self, root: Cid, bytes_max: int, watch: Watch, hint: Link | None = None) -> None:
        """Bring everything a CID links to into the store, several blocks at a time, in bounded memory.

        RemoteError as `block`; too_large beyond `bytes_max` or `fetch_blocks`.
        """
        seen, waiting = {root}, deque([root])
        active: dict[Cid, Strand[bytes]] = {}
        blocks, size, lane = 0, 0, str(root)
        try:
            while waiting or active:
                while waiting and len(active) < _FETCHES:
                    cid = waiting.popleft()
                    active[cid] = self._state.scheduler.spawn(self.block(cid, hint, lane))
                cid, strand = next(iter(active.items()))
                data = await strand.done
                del active[cid]
                blocks, size = blocks + 1, size + len(data)
                fresh = [link for link in links_of(cid, data) if link not in seen]
                seen.update(fresh)
                if size > bytes_max or len(seen) > self._state.limits.fetch_blocks:
                    text = f"{root} holds more than {bytes_max} bytes, or too many blocks."
                    raise RemoteError("too_large", text)
                watch(blocks, size)
                waiting.extend(fresh)
        finally:
            for strand in active.values():
                self._state.scheduler.cancel(strand)

    # -- asking peers --------------------------------------------------------------------------------

    async def _fly(self, cid: Cid, hint: Link | None, lane: str, flight: Signal[bytes]) -> None:
        try:
            data = await self._from_anywhere(cid, hint, lane)
            self.on_stored([bytes(cid)])
            await Save((Write("blocks", bytes(cid), data),))
            flight.set(data)
        except RemoteError as wrong:
            flight.fail(wrong)
        finally:
            self._flights.pop(cid, None)

    async def _from_anywhere(self, cid: Cid, hint: Link | None, lane: str) -> bytes:
        """A verified block from peers; from afar too, once peers have none or let `hedge_ms` pass."""
        limits, afar = self._state.limits, self.afar
        if afar is None or not afar.any or not cid.verifiable:
            return await self.ask_peers(cid, hint, limits.want_hops, lane=lane)
        asked = self.ask_peers(cid, hint, limits.want_hops, lane=lane)
        return await either(self._state.scheduler, asked, lambda: afar.ask(cid), limits.hedge_ms)

    async def ask_peers(
        self, cid: Cid, hint: Link | None, hops: int, but: Link | None = None, lane: str = ""
    ) -> bytes:
        """A verified block from peers other than `but`, not saved. Errors as `block`."""
        if not cid.verifiable:
            raise RemoteError("bad_cid", f"{cid} uses a hash that this node cannot check.")
        links = [link for link in self._state.open_links() if link is not but]
        links.sort(key=lambda link: (link is not hint, link.rtt_ms is None, link.rtt_ms or 0))
        first: Signal[bytes] = self._state.scheduler.signal()
        tries: list[Strand[bool]] = []
        wrong: list[Link] = []
        try:
            for link in links:
                tries.append(self._state.scheduler.spawn(self._try(link, cid, hops, first, wrong, lane)))
                if await self._settled(first, tries[-1], self._state.limits.hedge_ms, link):
                    return first.get()
            deadline = self._state.steady_ms + self._state.limits.fetch_ms
            for link, strand in zip(links, tries, strict=True):
                left = max(1, deadline - self._state.steady_ms)
                if await self._settled(first, strand, left, link):
                    return first.get()
        finally:
            for strand in tries:
                self._state.scheduler.cancel(strand)
        if wrong:
            raise RemoteError("bad_block", f"{wrong[0].did} sent bytes that do not hash to {cid}.")
        asked = f"none of the {len(links)} peers asked has it" if links else "no peer is connected"
        raise RemoteError("not_found", f"{cid} is not stored here, and {asked}.")

    async def _settled(
        self, first: Signal[bytes], strand: Strand[bool], wait_ms: int, link: Link | None = None
    ) -> bool:
        """Wait until that try is over or time is up; whether the block is here.

        While the link moves time is not up: what was asked before comes first.
        """
        state, left_ms = self._state, wait_ms
        last_ms = state.steady_ms + state.limits.fetch_most_ms
        while True:
            try:
                await Pause(strand.done, left_ms)
                return first.is_set
            except Late:
                left_ms = 0 if link is None else link.moved_ms + wait_ms - state.steady_ms
                if left_ms <= 0 or state.steady_ms >= last_ms:
                    return first.is_set
            except RemoteError as wrong:
                if wrong.code == "cancelled":
                    raise
                return first.is_set

    async def ask_one(self, link: Link, cid: Cid, wait_ms: int) -> bool:
        """Whether one peer sends a block of its own store within that time. Nobody gets it from here
        meanwhile: else who keeps nothing could ask for whatever he is asked for."""
        while cid in self._withheld:
            await self._withheld[cid]
        withheld = self._withheld[cid] = self._state.scheduler.signal()
        first: Signal[bytes] = self._state.scheduler.signal()
        strand = self._state.scheduler.spawn(self._try(link, cid, 0, first, []))
        try:
            return await self._settled(first, strand, wait_ms)
        finally:
            self._state.scheduler.cancel(strand)
            del self._withheld[cid]
            withheld.set(None)

    async def _try(
        self, link: Link, cid: Cid, hops: int, first: Signal[bytes], wrong: list[Link], lane: str = ""
    ) -> bool:
        """Ask one peer; sets `first` when it sends the block."""
        await link.want_slots.take(sender=lane)
        asked_ms = self._state.steady_ms
        answer: Signal[bytes | None] = self._state.scheduler.signal()
        waiting = link.wants.setdefault(cid, [])
        waiting.append(answer)
        if len(waiting) == 1:
            link.send(Want(cid, hops))
        try:
            data = await self._answered(link, answer)
        except Late:
            return False
        finally:
            link.want_slots.give()
            waiting.remove(answer)
            if not waiting and link.wants.get(cid) is waiting:
                del link.wants[cid]
                link.parts.pop(cid, None)
                link.send(Cancel(cid))
        if data is None:
            return False
        link.pace(self._state.steady_ms - asked_ms)
        if not await self.holds(cid, data):
            wrong.append(link)
            link.count_bad_signature()
            return False
        first.set(data)
        return True

    async def _answered(self, link: Link, answer: Signal[bytes | None]) -> bytes | None:
        """What a peer says to a want. Late when it is silent for `fetch_ms`, about other blocks as well."""
        state = self._state
        left_ms, last_ms = state.limits.fetch_ms, state.steady_ms + state.limits.fetch_most_ms
        while True:
            try:
                await Pause(answer, left_ms)
                return answer.get()
            except Late:
                left_ms = link.moved_ms + state.limits.fetch_ms - state.steady_ms
                if left_ms <= 0 or state.steady_ms >= last_ms:
                    raise

    # -- answering peers -------------------------------------------------------------------------------

    def arrived(self, link: Link, frame: BlockFrame | Piece) -> None:
        """A block came in, or part of one, or the word that there is none. What nobody asked for is dropped.

        RemoteError: malformed, too_large: the link is closed.
        """
        if frame.cid not in link.wants:
            return
        data = frame.data if isinstance(frame, BlockFrame) else self._pieced(link, frame)
        if data is not None:
            link.moved_ms = self._state.steady_ms
            link.traffic.blocks_in += 1
        elif isinstance(frame, Piece):
            return
        link.parts.pop(frame.cid, None)
        for answer in link.wants.pop(frame.cid):
            answer.set(data)

    def _pieced(self, link: Link, frame: Piece) -> bytes | None:
        """The block that this piece makes whole; None while pieces are missing, or this one does not fit."""
        if frame.size > self._state.limits.block_bytes:
            raise RemoteError("too_large", f"A block of {frame.size} bytes is more than one may have.")
        if not frame.data or not 0 <= frame.at <= frame.size - len(frame.data):
            raise RemoteError("malformed", "A piece that is not within its block.")
        parts = link.parts.get(frame.cid, [])
        if frame.at == 0:
            parts = link.parts[frame.cid] = []
        if frame.at != sum(map(len, parts)):
            return None  # of an answer to a want that was given up
        link.moved_ms = self._state.steady_ms
        if parts and len(parts[-1]) < _PART_BYTES:
            parts[-1] += frame.data
        else:
            parts.append(frame.data)
        return b"".join(parts) if frame.at + len(frame.data) == frame.size else None

    def wanted(self, link: Link, want: Want) -> None:
        """A peer wants a block. RemoteError("busy") when it has asked for too many: the link is closed."""
        if len(link.serving) >= self._state.limits.wants_served_per_link:
            raise RemoteError("busy", "More blocks asked for at once than this node sends.")
        link.serving[self._state.scheduler.spawn(self._serve(link, want))] = want.cid

    async def _serve(self, link: Link, want: Want) -> None:
        """Answer a peer's want. It is over when the block has left, so that few are in memory."""
        strand = self._state.scheduler.current
        assert strand is not None
        try:
            while want.cid in self._withheld:
                await self._withheld[want.cid]
            await link.serve_slots.take()
            try:
                data = await self.stored(want.cid)
                if data is not None:
                    await self._send(link, want.cid, data)
                    return
            finally:
                link.serve_slots.give()
            if not 0 < want.hops <= self._state.limits.want_hops or not await self._pass_on(link, want):
                link.send(BlockFrame(want.cid, None))
        finally:
            link.serving.pop(strand, None)

    async def _pass_on(self, link: Link, want: Want) -> bool:
        """Answer a peer's want with a block of others; whether they have it. Few are in memory here too."""
        await link.pass_slots.take()
        try:
            data = await self._from_others(link, want)
            if data is not None:
                await self._send(link, want.cid, data)
            return data is not None
        finally:
            link.pass_slots.give()

    async def _from_others(self, link: Link, want: Want) -> bytes | None:
        """A block for a peer from peers of ours, if it may ask us to."""
        if not link.may_miss():
            return None
        try:
            return await self.ask_peers(want.cid, None, want.hops - 1, but=link)
        except RemoteError as wrong:
            if wrong.code == "cancelled":
                raise
            link.count_miss()
            return None

    async def _send(self, link: Link, cid: Cid, data: bytes) -> None:
        """Send a block and wait until it has left; one that is not wanted any more is not sent to the end."""
        frames = pieces(cid, data, self._state.limits.piece_bytes)
        lane = WHOLE if len(data) <= self._state.limits.piece_bytes else PIECES
        sent = link.outbox.blocks(lane, frames)
        try:
            await sent
            link.traffic.blocks_out += not link.is_closed
        finally:
            frames.close()
            link.outbox.recall(lane, sent)


def links_of(cid: Cid, data: bytes) -> list[Cid]:
    """What a verified block links to. RemoteError("malformed") when it is not of its own codec."""
    try:
        if cid.codec == DAG_CBOR:
            return list(dagcbor.links(dagcbor.decode(data)))
        if cid.codec == DAG_PB:
            return [link.cid for link in dagpb.decode(data).links]
    except ValueError as error:
        raise RemoteError("malformed", f"The block {cid} is not what its CID says: {error}.") from error
    return []


def block_writes(blocks: list[Block]) -> tuple[Write, ...]:
    """Blocks as changes of the store."""
    return tuple(Write("blocks", bytes(block.cid), block.data) for block in blocks)
