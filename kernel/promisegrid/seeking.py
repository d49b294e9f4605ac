"""Seeking: who is nearest to a point of the key space, asked over the links there are.

`Seek` goes from node to node, each time over the link that leads nearest to the point, until nobody knows a
nearer one; that one answers with its signed address, and it comes back the way the question went. It costs a
message and an answer a hop, `seek_hops` at most, and nothing is kept of it.

Laws:
1. A question only goes on nearer to its point; and whoever passes an answer back sees to it that it is not
   farther from the point than it is itself. So who lies can send an asker to an accomplice only if that
   one is nearer than everybody on the way.
2. One link has so many questions under way, and so many a second; past that it is told at once that nobody
   was found.
3. Whoever passes an answer on has not verified it; the asker does.

Does not know: what an asker wants with the one it found (`overlay.py`).
"""

from __future__ import annotations

from promisegrid import address
from promisegrid.address import LIFE_S, Address
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError
from promisegrid.frames import Seek, Sought
from promisegrid.link import Link
from promisegrid.nearness import PLACE_BYTES, onward, place_of
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal


class Seeking:
    """What one node seeks, and passes on. urls: where this node itself can be dialled; the host sets it.

    shown: whether others may find this node at all; its owner's to say.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._place = place_of(state.me)
        self._asked: dict[tuple[int, int], Signal[bytes]] = {}
        self._passing: dict[int, int] = {}
        self._second: dict[int, tuple[int, int]] = {}
        self._number = 0
        self._own = b""
        self._own_says: tuple[int, tuple[str, ...], Cid | None] = (0, (), None)
        self.urls: tuple[str, ...] = ()
        self.shown = False
        self.passed = 0
        """Questions answered or passed on for others, since the start."""

    # -- for those who seek ----------------------------------------------------------------------------

    def ways(self) -> list[Link]:
        """The links that questions may go over: not circuits, whose nodes would be asked twice."""
        return [link for link in self._state.open_links() if link.via != "relay"]

    async def find(self, point: int, first: Link) -> Address | None:
        """Who is nearest to a point as far as that neighbour leads; None: nobody, or no answer that holds.

        An answer that breaks the rules counts as a bad signature of the link it came over.
        """
        state = self._state
        raw = await self._ask(first, point, state.limits.seek_hops, state.me)
        try:
            found = await self._verified(raw) if raw else None
        except RemoteError as wrong:
            if wrong.code == "bad_signature":
                first.count_bad_signature()
            return None
        if found is None or found.by == state.me or place_of(found.by) ^ point > first.place ^ point:
            return None
        return found

    # -- what happens on links -------------------------------------------------------------------------

    def take(self, link: Link, frame: Seek | Sought) -> None:
        """A frame of an open link. RemoteError("malformed") when it breaks the rules."""
        if isinstance(frame, Sought):
            asked = self._asked.get((link.number, frame.number))
            if asked is not None:
                asked.set(frame.address)
            return
        if link.via == "relay":
            raise RemoteError("malformed", "Questions for a point do not run through circuits.")
        if len(frame.point) != PLACE_BYTES or not 0 <= frame.hops <= self._state.limits.seek_hops:
            raise RemoteError("malformed", f"A point has {PLACE_BYTES} bytes, and hops have their bound.")
        if not self._may_ask(link):
            link.send(Sought(frame.number, b""))
            return
        self._passing[link.number] = self._passing.get(link.number, 0) + 1
        self._state.scheduler.spawn(self._answer(link, frame))

    def link_down(self, link: Link) -> None:
        """A link is gone, and all that was asked over it."""
        self._passing.pop(link.number, None)
        self._second.pop(link.number, None)
        for key, asked in self._asked.items():
            if key[0] == link.number:
                asked.set(b"")

    # -- steps -----------------------------------------------------------------------------------------

    def _may_ask(self, link: Link) -> bool:
        """A word of a neighbour's costs one on each node of the way, so it has a bound."""
        limits, now_s = self._state.limits, self._state.steady_ms // 1000
        second, count = self._second.get(link.number, (now_s, 0))
        count = count + 1 if second == now_s else 1
        self._second[link.number] = now_s, count
        return count <= limits.seeks_per_second and self._passing.get(link.number, 0) < limits.seeks_per_link

    async def _answer(self, link: Link, frame: Seek) -> None:
        found = await self.nearest(int.from_bytes(frame.point), frame.hops, link.did, frame.asker)
        link.send(Sought(frame.number, found))
        if link.number in self._passing:
            self._passing[link.number] -= 1

    async def nearest(self, point: int, hops: int, source: str, asker: str) -> bytes:
        """The address of who is nearest, of those beyond this node, or of this node itself.

        One way is tried: an asker that doubts it asks another neighbour, and pays for that.
        """
        self.passed += 1
        if hops > 0:
            others = [way for way in self.ways() if way.did not in (source, asker)]
            for way in onward(self._place, point, others, place_of(asker))[:1]:
                found = await self._ask(way, point, hops - 1, asker)
                if self._is_nearer(found, point, asker):
                    return found
        return await self._mine()

    def _is_nearer(self, raw: bytes, point: int, asker: str) -> bool:
        """Whether an answer names a member nearer than this node (not whether it is true)."""
        by = self._claimed(raw)
        return by is not None and by != asker and place_of(by) ^ point < self._place ^ point

    def _claimed(self, raw: bytes) -> str | None:
        """Whose address it says it is."""
        if not raw or self._state.grid is None:
            return None
        try:
            return address.read(raw, self._state.grid)[0].by
        except RemoteError:
            return None

    async def _verified(self, raw: bytes) -> Address | None:
        """RemoteError when it does not hold."""
        state = self._state
        if state.grid is None:
            return None
        return await address.verify(raw, state.grid, state.now_ms, state.limits.clock_skew_ms)

    async def _ask(self, link: Link, point: int, hops: int, asker: str) -> bytes:
        """One question over one link; b"" when nobody was found, or no answer came in time."""
        self._number += 1
        key, answer = (link.number, self._number), self._state.scheduler.signal()
        self._asked[key] = answer
        try:
            link.send(Seek(key[1], point.to_bytes(PLACE_BYTES), hops, asker))
            found: bytes = await Pause(answer, self._state.limits.seek_ms * (hops + 1))
            return found
        except Late:
            return b""
        finally:
            del self._asked[key]

    async def _mine(self) -> bytes:
        """This node's own address; signed anew in the second half of its time."""
        state = self._state
        if not self.shown or state.grid is None:
            return b""
        signed_ms, urls, grid = self._own_says
        fresh = 0 <= state.now_ms - signed_ms < LIFE_S * 500
        if not fresh or (urls, grid) != (self.urls, state.grid):
            says = state.now_ms, self.urls, state.grid
            self._own = await address.seal(state.grid, state.me, self.urls, state.now_ms)
            self._own_says = says
        return self._own
