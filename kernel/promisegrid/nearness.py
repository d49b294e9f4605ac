"""How near keys are to each other, and which link leads nearest to a point of the key space.

Each member has a *place*: 128 bits of the hash of its name. How far two places are is their exclusive or
(Kademlia: Maymounkov and Mazières, 2002). From any place the others fall into *halves*: half 0 is the other
half of the space, half 1 the other half of what is left, and so on; who has a link into each half halves the
distance to anybody with one step (Kleinberg, 2000). A node that knows who is near its neighbours looks one
step ahead (Manku, Naor and Wieder, "Know thy neighbor's neighbor", 2004).

Does not know: what a link is made of, nor how one comes about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

PLACE_BITS: Final = 128
PLACE_BYTES: Final = PLACE_BITS // 8


class Way(Protocol):
    """What counts of a link here. place: its peer's; near_places: of those whom the peer says are near it."""

    place: int
    near_places: tuple[int, ...]


W = TypeVar("W", bound=Way)


def place_of(did: str) -> int:
    """Where a member is."""
    return int.from_bytes(hashlib.sha256(did.encode()).digest()[:PLACE_BYTES])


def half(mine: int, other: int) -> int:
    """In which half, seen from a place, another one is; `PLACE_BITS` when they are the same."""
    return PLACE_BITS - (mine ^ other).bit_length()


def point_in(mine: int, number: int, chance: bytes) -> int:
    """A point by chance in a half; `chance` is `PLACE_BYTES` fresh bytes."""
    low = PLACE_BITS - 1 - number
    return (mine >> low ^ 1) << low | int.from_bytes(chance) & (1 << low) - 1


def leads(way: Way, point: int, but: int | None = None) -> int:
    """How near to a point a link leads, one step ahead looked at; `but`: whose place does not count."""
    far = way.place ^ point
    ahead = min([place ^ point for place in way.near_places], default=far)
    if but is None or but ^ point not in (far, ahead):
        return min(far, ahead)
    others = [place ^ point for place in (way.place, *way.near_places) if place != but]
    return min(others, default=1 << PLACE_BITS)


def onward(mine: int, point: int, ways: Iterable[W], but: int | None = None) -> list[W]:
    """The links that lead nearer to a point than one is oneself, the nearest first."""
    found = [(leads(way, point, but), number, way) for number, way in enumerate(ways)]
    return [way for far, _, way in sorted(found, key=lambda one: one[:2]) if far < mine ^ point]
