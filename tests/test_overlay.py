"""A node chooses its links by the distance of keys: what it wants, whom it finds, and who cannot lead it astray."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import address, frames
from promisegrid.effects import Approach, Send
from promisegrid.errors import RemoteError
from promisegrid.frames import Seek, Sought
from promisegrid.limits import Limits
from promisegrid.nearness import PLACE_BITS, half, leads, onward, place_of, point_in
from promisegrid.overlay import CHANCE, Tie, spare, wanted

MINUTE_MS = 60_000
FEW = Limits(overlay_chance=1, overlay_most=6)


def url(name: str) -> str:
    return f"ws://{name}.example:8420/grid"


def grid(names: str, limits: Limits | None = None, listening: str | None = None) -> list[Node]:
    """A star: all are linked to the first and to nobody else, and all choose."""
    world = World()
    nodes = world.grid(*names, limits=limits)
    for node in nodes:
        listens = listening is None or node.name in listening
        if listens:
            world.listening[url(node.name)] = node
        node.kernel.overlay.use((url(node.name),) if listens else (), dials=True)
    return nodes


def linked(node: Node) -> set[str]:
    return {node.kernel.me, *(str(peer["did"]) for peer in node.kernel.peers())}


def sent(node: Node, kind: type[Any]) -> list[Any]:
    frames_ = [frames.decode(e.frame, 1 << 22) for e in node.log if isinstance(e, Send)]
    return [frame for frame in frames_ if isinstance(frame, kind)]


def link_of(node: Node, peer: Node) -> Any:
    return next(link for link in node.kernel._state.open_links() if link.did == peer.did)


def say(node: Node, peer: Node, frame: Any) -> None:
    """A frame of `node`'s own making."""
    link_of(node, peer).send(frame)
    node.perform(node.kernel.tick(node.world.now_ms))
    node.world.run()


# -- the key space -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 7, 63, 126, 127])
def test_a_point_of_a_half_is_in_it(number: int) -> None:
    mine = place_of("did:key:zme")
    for n in range(20):
        chance = hashlib.sha256(bytes([n])).digest()[:16]
        assert half(mine, point_in(mine, number, chance)) == number


def test_one_is_in_no_half_of_ones_own() -> None:
    assert half(5, 5) == PLACE_BITS and half(0, 1 << 127) == 0 and half(0, 1) == 127


class Way:
    def __init__(self, place: int, *near: int) -> None:
        self.place, self.near_places = place, near


def test_a_question_goes_on_to_who_leads_nearer_and_to_nobody_else() -> None:
    far, middle, ahead = Way(0b1000), Way(0b0110), Way(0b1111, 0b0101)
    assert onward(0b0111, 0b0100, [far, middle, ahead]) == [ahead, middle]
    assert onward(0b0100, 0b0100, [far, middle, ahead]) == []
    assert leads(ahead, 0b0100, but=0b0101) == 0b1011, "who asks is not looked for"
    assert leads(Way(3), 0, but=3) > leads(Way(5), 0, but=3)


# -- what is wanted ------------------------------------------------------------------------------------------


def tie(link: int, place: int, wish: int | None = None, dialled: bool = True, did: str = "") -> Tie:
    return Tie(link, did or f"did{link}", place, wish, dialled)


TOP = 1 << (PLACE_BITS - 1)


def test_the_farthest_half_is_wanted_first_and_one_beyond_the_known() -> None:
    limits = Limits()
    assert wanted(0, [], [TOP], limits) == [0, 1, CHANCE]
    assert wanted(0, [tie(1, TOP)], [TOP, TOP >> 2], limits) == [1, 2, 3, CHANCE]
    assert wanted(0, [], [], limits) == [0, CHANCE]


def test_halves_have_an_end_however_near_somebody_mints_keys() -> None:
    limits = Limits()
    minted = [TOP >> n for n in range(100)]
    assert len(wanted(0, [], minted, limits)) == limits.overlay_halves + 1


def test_enough_by_chance_is_enough() -> None:
    limits = Limits(overlay_chance=2, overlay_most=4)
    ties = [tie(1, TOP, CHANCE), tie(2, TOP | 1, CHANCE)]
    assert CHANCE not in wanted(0, ties, [], limits)
    assert CHANCE in wanted(0, ties[:1], [], limits)
    assert CHANCE not in wanted(0, [tie(n, TOP | n) for n in range(4)], [], limits)


def test_what_the_owner_wants_is_never_given_up() -> None:
    limits = Limits(overlay_most=2)
    assert spare("me", 0, [tie(n, TOP | n) for n in range(9)], limits) is None
    assert spare("me", 0, [tie(n, TOP | n, did="twin") for n in range(3)], limits) is None


def test_too_many_links_give_up_the_youngest_that_an_older_one_can_replace() -> None:
    limits = Limits(overlay_most=3)
    ties = [tie(1, TOP, 0), tie(2, TOP | 1, 0), tie(3, TOP | 2, CHANCE), tie(4, TOP >> 1, 1)]
    assert spare("me", 0, ties, limits) == ties[1], "not the oldest, not one by chance, not the only one"
    assert spare("me", 0, ties[:3], limits) is None, "not too many"


def test_of_two_links_to_one_peer_one_side_gives_up_its_own() -> None:
    limits = Limits()
    mine, theirs = tie(1, TOP, 0, did="m"), tie(2, TOP, None, dialled=False, did="m")
    assert spare("z", 0, [mine, theirs], limits) == mine
    assert spare("a", 0, [mine, theirs], limits) is None, "the other side gives up its own"
    asked = tie(2, TOP, None, dialled=True, did="m")
    assert spare("a", 0, [mine, asked], limits) == mine, "the owner's stays"
