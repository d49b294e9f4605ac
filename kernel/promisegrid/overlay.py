"""Which links a node makes by itself, so that everybody is found in few steps.

It keeps a link into each half of the key space as seen from its own place (`nearness.py`), the farthest
first, and some to members found by chance; what is linked already for whatever reason counts. It finds whom
to link to by seeking points (`seeking.py`), one at a time, ever more rarely while it finds nobody new; and
then asks its host to dial the addresses that member signed, or, between tabs, for a data channel. Who can
be linked to in neither way stays within reach of a circuit, which is made when there is a call: a standing
one would not help others to find anybody.

A did:key is free, so somebody may mint thousands of them near a place to surround it. Therefore: a link that
is open is never given up for a newer one; only the first `overlay_halves` halves have a link of their own,
however near to this place keys are minted; the ones by chance are sought by way of neighbours by chance;
this node dials them, at points of its own choosing; and each further try for the same half begins with
another neighbour. Links that the owner wants are none of this file's: they are neither counted
against its bounds nor dropped.

Does not know: whether an address may be dialled (the host does), nor how to pass questions on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from promisegrid.address import Address
from promisegrid.effects import Approach
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frozen import frozen
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.nearness import PLACE_BITS, PLACE_BYTES, half, onward, place_of, point_in
from promisegrid.seeking import Seeking
from promisegrid.signalling import Signalling
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal

CHANCE: Final = -1
"""Instead of a half: anywhere."""


@frozen
class Tie:
    """A neighbour, as the choice sees it. wish: what this node chose it for; None: it did not."""

    link: int
    did: str
    place: int
    wish: int | None
    dialled: bool


def wanted(mine: int, ties: Sequence[Tie], known: Iterable[int], limits: Limits) -> list[int]:
    """What a node lacks, the farthest half first, `CHANCE` last. known: places it has heard of.

    Halves are wanted as far as somebody is known in them, and one beyond.
    """
    linked = {half(mine, tie.place) for tie in ties}
    deepest = half(0, min(filter(None, map(mine.__xor__, known)), default=1 << PLACE_BITS))
    found = [number for number in range(min(deepest + 2, limits.overlay_halves)) if number not in linked]
    made = sum(tie.wish == CHANCE for tie in ties)
    if made < limits.overlay_chance and len(ties) < limits.overlay_most:
        found.append(CHANCE)
    return found


def spare(me: str, mine: int, ties: Sequence[Tie], limits: Limits) -> Tie | None:
    """A link to give up: one this node chose, to a peer it has another link to; or, with too many, for a half
    into which there is an older one. ties: oldest first."""
    twins = ties if len({tie.did for tie in ties}) < len(ties) else ()
    for tie in twins:
        others = [other for other in ties if other.did == tie.did and other is not tie]
        if tie.wish is not None and any(other.dialled or me > other.did for other in others):
            return tie
    if len(ties) > limits.overlay_most:
        for number, tie in reversed(list(enumerate(ties))):
            older = {half(mine, other.place) for other in ties[:number]}
            if tie.wish not in (None, CHANCE) and half(mine, tie.place) in older:
                return tie
    return None


class Overlay:
    """The links one node chooses. The host calls `use` when it can dial, or make channels."""

    def __init__(self, state: State, seeking: Seeking, signalling: Signalling) -> None:
        self._state, self._seeking, self._signalling = state, seeking, signalling
        self._place = place_of(state.me)
        self._wish: dict[int, int] = {}
        self._after: dict[int, tuple[int, int]] = {}
        self._vain: dict[str, int] = {}
        self._stirred: Signal[None] = state.scheduler.signal()
        self._dials = self._running = False
        self.sought = self.made = 0
        """Points sought, and links made, since the start."""

    def use(self, urls: tuple[str, ...], dials: bool) -> None:
        """Take part: be found, with these addresses (none: a channel or nothing), and choose."""
        self._seeking.urls, self._seeking.shown, self._dials = urls, True, dials
        if not self._running:
            self._running = True
            self._state.scheduler.spawn(self._go())

    @property
    def chosen(self) -> dict[int, int]:
        """The links made by choice: number of the link → half, or `CHANCE`."""
        return dict(self._wish)

    def opened(self, link: Link) -> None:
        """A peer is in."""
        link.place = place_of(link.did)
        self._stirred.set(None)

    def closed(self, link: Link) -> None:
        """A peer is gone: what it was good for is sought anew, at once."""
        self._wish.pop(link.number, None)
        if link.did and link.via != "relay":
            self._after.pop(half(self._place, link.place), None)
            self._after.pop(CHANCE, None)
            self._stirred.set(None)

    # -- one after the other ---------------------------------------------------------------------------

    async def _go(self) -> None:
        """A turn every `overlay_ms` while something is wanted; else when it is time to look again."""
        while True:
            await Pause(None, self._jitter(self._state.limits.overlay_ms))
            self._stirred = self._state.scheduler.signal()
            if await self.turn():
                continue
            try:
                await Pause(self._stirred, self._jitter(self._idle_ms()))
            except Late:
                continue

    def _jitter(self, wait_ms: int) -> int:
        """Half to one and a half of it, so that a grid that starts at once does not seek at once."""
        return wait_ms // 2 + wait_ms * int.from_bytes(self._state.entropy.take(2)) // 65536

    def _idle_ms(self) -> int:
        limits, now_ms = self._state.limits, self._state.steady_ms
        due = min((after for after, _ in self._after.values()), default=now_ms + limits.overlay_idle_ms)
        return max(limits.overlay_ms, min(due - now_ms, limits.overlay_idle_ms))

    async def turn(self) -> bool:
        """Give one link up, or seek one point and link to who is there; whether there was anything to do."""
        ties = self.ties()
        extra = spare(self._state.me, self._place, ties, self._state.limits)
        if extra is not None:
            self._state.links[extra.link].close("closed", "This node has another link instead of this one.")
            return True
        if not ties or self._state.grid is None:
            return False
        wish = next((one for one in self._wanted(ties) if self._is_due(one)), None)
        if wish is None:
            return False
        self.sought += 1
        found = await self._seek(wish)
        if found is None or not await self._link(found, wish):
            self._put_off(wish)
        else:
            self._after.pop(wish, None)
            self.made += 1
        return True

    def ties(self) -> list[Tie]:
        """The neighbours, the oldest link first."""
        return [
            Tie(way.number, way.did, way.place, self._wish.get(way.number), way.role == "initiator")
            for way in self._seeking.ways()
        ]

    def _wanted(self, ties: Sequence[Tie]) -> list[int]:
        return wanted(self._place, ties, self._known(), self._state.limits)

    def _known(self) -> Iterator[int]:
        """The places of all that neighbours are, or are linked to."""
        for way in self._seeking.ways():
            yield way.place
            yield from way.near_places

    # -- finding ---------------------------------------------------------------------------------------

    async def _seek(self, wish: int) -> Address | None:
        """Somebody new in that half, or anywhere; every other time where neighbours say that somebody is."""
        take = self._state.entropy.take
        ways = self._seeking.ways()
        _, failures = self._after.get(wish, (0, 0))
        named = self._named(wish) if failures % 2 else []
        if named:
            point = named[int.from_bytes(take(4)) % len(named)]
        elif wish == CHANCE:
            point = int.from_bytes(take(PLACE_BYTES))
        else:
            point = point_in(self._place, wish, take(PLACE_BYTES))
        nearest = onward(1 << PLACE_BITS, point, ways, self._place)
        first = nearest[(int.from_bytes(take(4)) if wish == CHANCE else failures // 2) % len(nearest)]
        found = await self._seeking.find(point, first)
        if found is None or not self._is_new(found):
            return None
        there = half(self._place, place_of(found.by))
        return found if wish in (CHANCE, there) else None

    def _named(self, wish: int) -> list[int]:
        """Where neighbours say that somebody is in that half, or anywhere, to whom there is no link yet."""
        linked = {self._place, *(way.place for way in self._seeking.ways())}
        return [
            place
            for place in sorted(set(self._known()) - linked)
            if wish in (CHANCE, half(self._place, place))
        ]

    def _is_new(self, found: Address) -> bool:
        linked = {way.did for way in self._seeking.ways()} | self._state.banned
        return found.by not in linked and self._vain.get(found.by, 0) <= self._state.steady_ms

    def _is_due(self, wish: int) -> bool:
        return self._after.get(wish, (0, 0))[0] <= self._state.steady_ms

    def _put_off(self, wish: int) -> None:
        limits = self._state.limits
        _, failures = self._after.get(wish, (0, 0))
        wait_ms = min(limits.overlay_ms << min(failures, 16), limits.overlay_idle_ms)
        self._after[wish] = self._state.steady_ms + wait_ms, failures + 1

    # -- linking ---------------------------------------------------------------------------------------

    async def _link(self, found: Address, wish: int) -> bool:
        """Have a link to a member that was found; whether there is one."""
        try:
            if found.urls and self._dials:
                await self._dial(found, wish)
                return True
            if not found.urls and self._signalling.invite(found.by):
                return True
        except (RemoteError, LocalError):
            pass
        if len(self._vain) >= self._state.limits.links:
            del self._vain[next(iter(self._vain))]
        self._vain.pop(found.by, None)
        self._vain[found.by] = self._state.steady_ms + self._state.limits.overlay_idle_ms
        return False

    async def _dial(self, found: Address, wish: int) -> None:
        """RemoteError when nobody is there, or somebody else."""
        number = await Approach(found.urls)
        link = self._state.links.get(number) if isinstance(number, int) else None
        if link is None:
            raise RemoteError("closed")
        self._wish[link.number] = wish
        try:
            await Pause(link.opened, self._state.limits.hello_ms)
        except (Late, RemoteError):
            self._wish.pop(link.number, None)
            link.close("hello", "Who was looked for did not answer at this address.")
            raise RemoteError("hello") from None
        if link.did != found.by:
            # A member all the same, and the only link to it perhaps: it took the place of one dialled before.
            self._wish[link.number] = CHANCE
            raise RemoteError("hello")
