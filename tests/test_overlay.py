"""A node chooses its links by the distance of keys: what it wants, whom it finds, whom it believes."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import address, frames
from promisegrid.cid import Cid
from promisegrid.effects import Approach, Send
from promisegrid.errors import RemoteError
from promisegrid.frames import Seek, Sought
from promisegrid.limits import Limits
from promisegrid.nearness import PLACE_BITS, half, leads, onward, place_of, point_in
from promisegrid.overlay import CHANCE, Tie, spare, wanted

MINUTE_MS = 60_000


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
        use(node, (url(node.name),) if listens else ())
    return nodes


def use(node: Node, urls: tuple[str, ...]) -> None:
    async def used() -> None:
        node.kernel.overlay.use(urls, dials=True)

    node.do(used())


def linked(node: Node) -> set[str]:
    return {node.name, *node.peers()}


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


# -- whole kernels -------------------------------------------------------------------------------------------


def test_members_that_joined_through_one_know_many_and_need_it_no_more() -> None:
    hub, *others = nodes = grid("abcdefgh", Limits(overlay_chance=3))
    assert all(linked(node) == {node.name, hub.name} for node in others)
    hub.world.pass_time(2 * MINUTE_MS)
    assert all(len(linked(node)) >= 4 for node in others)
    for node in nodes:
        assert sum(wish == CHANCE for wish in node.kernel.overlay.chosen.values()) <= 3
        assert node.kernel.overlay.sought >= node.kernel.overlay.made
    for link in list(hub.links):
        hub.world.cut(hub, link)
    hub.world.run()
    there, frontier = {others[0].name}, [others[0]]
    while frontier:
        reached = linked(frontier.pop()) - there
        new = [node for node in others if node.name in reached]
        there |= {node.name for node in new}
        frontier += new
    assert there == {node.name for node in others}, "one grid still"


def test_who_looks_ever_more_rarely_costs_little() -> None:
    ann, _bob = grid("ab")
    ann.world.pass_time(30 * MINUTE_MS)
    before = ann.kernel.overlay.sought
    ann.world.pass_time(60 * MINUTE_MS)
    assert 0 < ann.kernel.overlay.sought - before <= 40 and not ann.kernel.overlay.chosen


def test_a_node_that_takes_no_part_is_not_found_and_dials_nobody() -> None:
    hub, ann, bob, eve = grid("habe")
    eve.kernel.overlay._seeking.shown = False
    eve.kernel.overlay.ties = list  # type: ignore[method-assign]
    hub.world.pass_time(5 * MINUTE_MS)
    assert linked(eve) == {eve.name, hub.name}
    assert linked(ann) == {ann.name, bob.name, hub.name}


def test_who_cannot_be_dialled_dials_and_is_left_alone_otherwise() -> None:
    hub, ann, bob, eve = grid("habe", listening="hab")
    hub.world.pass_time(5 * MINUTE_MS)
    assert linked(eve) == set("habe"), "eve dialled"
    assert all(urls != (url("e"),) for node in (ann, bob) for urls in asked(node))


def asked(node: Node) -> list[tuple[str, ...]]:
    return [effect.urls for effect in node.log if isinstance(effect, Approach)]


def test_a_lost_link_is_made_good() -> None:
    _hub, *others = grid("abcdef")
    ann = others[0]
    ann.world.pass_time(3 * MINUTE_MS)
    number = next(iter(ann.kernel.overlay.chosen))
    gone = ann.links[number][0].name
    ann.world.cut(ann, number)
    ann.world.run()
    assert number not in ann.kernel.overlay.chosen
    ann.world.pass_time(2 * MINUTE_MS)
    assert gone in linked(ann)


def test_at_an_address_somebody_else_answers() -> None:
    hub, ann, bob = grid("hab")
    ann.world.listening[url("a")] = ann.world.listening[url("b")] = hub
    ann.world.pass_time(2 * MINUTE_MS)
    assert linked(ann) == {"a", "h"} and linked(bob) == {"b", "h"} and linked(hub) == {"h", "a", "b"}
    assert len(ann.kernel.peers()) == 1, "the link there was gave way to the new one, and both ends agree"
    assert len(asked(ann)) <= 2, "left alone for a while"


def test_tabs_make_a_channel_instead() -> None:
    limits = Limits(near=1)
    nodes = grid("habc", limits, listening="h")
    for node in nodes[1:]:
        node.kernel._state.engine = "Chromium/1"
        node.kernel.signalling.enabled = True
    nodes[0].world.pass_time(5 * MINUTE_MS)
    kinds = {str(peer["via"]) for node in nodes[1:] for peer in node.kernel.peers()}
    assert kinds == {"ws", "relay", "webrtc"} and not any(asked(node) for node in nodes[1:])


# -- who lies ------------------------------------------------------------------------------------------------


def answering(node: Node, answer: Callable[[Seek], bytes]) -> None:
    """A node that answers every question in its own way."""
    seeking = node.kernel._peering.seeking

    def take(link: Any, frame: Any) -> None:
        if isinstance(frame, Seek):
            link.send(Sought(frame.number, answer(frame)))

    seeking.take = take  # type: ignore[method-assign]


def signed(node: Node, by: Node | None = None, hours: int = 0, **other: Any) -> bytes:
    now_ms = node.world.now_ms + hours * 3_600_000
    grid_ = other.get("grid") or node.kernel.grid
    asked = node.start(address.seal(grid_, (by or node).did, (url((by or node).name),), now_ms))
    value = node.end(asked)
    assert isinstance(value, bytes)
    return value


def test_an_answer_that_its_member_did_not_sign_is_not_believed() -> None:
    hub, ann, bob = grid("hab")
    forged = signed(hub, by=bob)
    answering(hub, lambda seek: forged)
    ann.world.pass_time(2 * MINUTE_MS)
    assert linked(ann) == {"a", "h"} or linked(ann) == {"a"}
    assert asked(ann) == [] and link_bad(ann) > 0


def link_bad(node: Node) -> int:
    """Bad signatures counted, or a link closed over them."""
    closed = sum(close.code == "bad_signature" for close in node.closed)
    return closed + sum(link.bad_signatures for link in node.kernel._state.open_links())


@pytest.mark.parametrize("what", [b"", b"rubbish", bytes(4000)])
def test_answers_that_say_nothing_lead_nowhere(what: bytes) -> None:
    hub, ann, _bob = grid("hab")
    answering(hub, lambda seek: what)
    ann.world.pass_time(2 * MINUTE_MS)
    assert linked(ann) == {"a", "h"} and asked(ann) == []


@pytest.mark.parametrize("hours", [-2, 2])
def test_an_address_of_another_time_is_none(hours: int) -> None:
    hub, ann, bob = grid("hab")
    stale = signed(bob, hours=hours)
    answering(hub, lambda seek: stale)
    ann.world.pass_time(2 * MINUTE_MS)
    assert asked(ann) == []


def test_silence_costs_the_time_of_one_question() -> None:
    hub, ann, _bob = grid("hab")
    hub.kernel._peering.seeking.take = lambda link, frame: None  # type: ignore[method-assign]
    ann.world.pass_time(5 * MINUTE_MS)
    assert linked(ann) == {"a", "h"} and ann.kernel.overlay.sought > 2
    assert len(ann.kernel._peering.seeking._asked) <= 1


def test_who_passes_on_gives_no_farther_answer_than_itself() -> None:
    """A liar behind an honest node leads nobody to an accomplice that is farther than the honest one."""
    hub, *others = grid("hale")
    place = {node.name: place_of(node.did) for node in (hub, *others)}
    liar, accomplice, ann = next(
        (liar, other, third)
        for liar, other, third in itertools.permutations(others)
        if place[liar.name] ^ place[other.name] > place[liar.name] ^ place["h"]
    )
    farther, asked_ = signed(accomplice), []
    answering(liar, lambda seek: asked_.append(seek) or farther)
    seeking = hub.kernel._peering.seeking
    answer = hub.do(seeking.nearest(place[liar.name], 3, ann.did, ann.did))
    assert asked_ and address.read(answer, hub.kernel.grid)[0].by == hub.did


@pytest.mark.parametrize("limits", [Limits(seeks_per_link=1000), Limits(seeks_per_second=1000)])
def test_a_flood_of_questions_is_told_nothing_and_closes_nothing(limits: Limits) -> None:
    hub, ann, _bob = grid("hab", limits)
    before = hub.kernel._peering.seeking.passed
    for number in range(200):
        link_of(ann, hub).send(Seek(1000 + number, bytes(16), 8, ann.did))
    ann.perform(ann.kernel.tick(ann.world.now_ms))
    ann.world.run()
    assert hub.kernel._peering.seeking.passed - before == 16
    assert sum(not frame.address for frame in sent(hub, Sought)) >= 180
    assert linked(hub) == {"h", "a", "b"}


BROKEN = (Seek(1, b"short", 1, ""), Seek(1, bytes(16), -1, ""), Seek(1, bytes(16), 99, ""))


@pytest.mark.parametrize("frame", BROKEN)
def test_a_question_that_breaks_the_rules_closes_its_link(frame: Seek) -> None:
    hub, ann = grid("ha")
    say(ann, hub, frame)
    assert linked(hub) == {"h"}


def test_a_circuit_carries_no_questions() -> None:
    hub, ann, bob = grid("hab", listening="")
    ann.do(ann.kernel._peering.relay.reach(bob.did))
    assert linked(bob) == {"h", "a", "b"}
    say(ann, bob, Seek(5, bytes(16), 1, ann.did))
    assert linked(bob) == {"h", "b"} and linked(hub) == {"h", "a", "b"}


def test_surrounded_by_minted_keys_a_node_keeps_its_old_links() -> None:
    """Keys of one owner, the nearest of many to the target, take nobody's place."""
    hub, ann, *_ = grid("habe", Limits(overlay_chance=2))
    world = ann.world
    world.pass_time(2 * MINUTE_MS)
    old = linked(ann)
    minted = sorted(
        (world.node(f"mint{n}") for n in range(12)), key=lambda n: place_of(n.did) ^ place_of(ann.did)
    )
    for node in minted[:5]:
        world.link(node, hub, hub.do(hub.kernel.owner.invite()))
        world.listening[url(node.name)] = node
        use(node, (url(node.name),))
    world.pass_time(2 * MINUTE_MS)
    assert old <= linked(ann)
    chosen = ann.kernel.overlay.chosen
    assert sum(wish == CHANCE for wish in chosen.values()) <= 2
    halves = [wish for wish in chosen.values() if wish != CHANCE]
    assert len(halves) == len(set(halves)), "one link for each half"


# -- addresses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "ws://node.example/grid",
        "wss://node.example:8420/grid",
        "ws://10.0.0.1:1/grid",
        "wss://[2001:db8::1]:8420/grid",
    ],
)
def test_what_is_an_address(text: str) -> None:
    assert address.is_url(text)


@pytest.mark.parametrize(
    "text",
    ["", 3, None, "http://a/grid", "ws://a/other", "ws://a/grid?x", "ws://a/grid#x", "ws://u:p@a/grid", "ws://A/grid",
     "ws://a:0/grid", "ws://a:123456/grid", "ws://a b/grid", "ws://-a/grid", "ws:///grid", "ws://a/grid\n", "ws://[::1/grid",
     "ws://" + "a" * 300 + "/grid"],
)  # fmt: skip
def test_what_is_none(text: object) -> None:
    assert not address.is_url(text)


def test_an_address_is_read_as_it_was_signed_and_for_its_grid_alone() -> None:
    (ann,) = grid("a")
    data = signed(ann)
    found, _ = address.read(data, ann.kernel.grid)
    assert found.by == ann.did and found.urls == (url("a"),)
    with pytest.raises(RemoteError, match="of this grid"):
        address.read(data, Cid.of(b"another grid", "dag-cbor"))
    with pytest.raises(RemoteError):
        address.read(data[:-1], ann.kernel.grid)
