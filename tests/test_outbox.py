"""Bulk and calls on one link: blocks go in pieces that take turns, and a call never stands behind many."""

from __future__ import annotations

from sys import getsizeof

import pytest
from tests.scenes import add_one, hand_frame, link_from, module, sent
from tests.sim import Node, World
from tests.test_relay import chain, link_of

from promisegrid import dagcbor, frames
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Close, Effect, Push
from promisegrid.errors import RemoteError
from promisegrid.frames import BlockFrame, Cancel, HangUp, Message, Piece, Ping, Relayed, Want
from promisegrid.limits import Limits
from promisegrid.link import Link
from promisegrid.outbox import PIECES, WHOLE, Outbox
from promisegrid.strand import Scheduler
from promisegrid.task import Task

KIB = 1024
LARGE = bytes(range(256)) * (4 * KIB)
NAME = Cid.of(LARGE)
FILE = b"".join(bytes([number]) + LARGE[1:] for number in range(8))
SMALL = Limits(piece_bytes=64 * KIB)


class Bench:
    """A link whose host has room for one frame at a time, by word of the test."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(SMALL)
        self.link = Link(1, "initiator", "b/grid", "ws", self.scheduler, SMALL)
        self.tickets: list[int] = []

    def run(self) -> list[frames.Frame]:
        """What the link hands to the host now."""
        effects = self.scheduler.run()
        self.tickets += [ticket for ticket, effect in effects if isinstance(effect, Push)]
        return sent([effect for _, effect in effects])

    def room(self) -> list[frames.Frame]:
        """The host has room; what it is handed then."""
        self.scheduler.answer(self.tickets.pop(0), None)
        return self.run()


def shape(frame: frames.Frame) -> tuple[str, int]:
    """A frame's kind, and whose it is."""
    if isinstance(frame, Piece):
        return "piece", frame.at // SMALL.piece_bytes
    return ("circuit", frame.circuit) if isinstance(frame, Relayed | HangUp) else (type(frame).__name__, 0)


def serve(node: Node) -> Cid:
    node.do(node.kernel.owner.set_serving(2, KIB * KIB))
    return module(node, add_one)


def pieces_of(effects: list[Effect]) -> list[Piece]:
    return [frame for frame in sent(effects) if isinstance(frame, Piece)]


# -- one link, frame by frame --------------------------------------------------------------------------------


def test_a_word_stands_behind_one_piece_at_most() -> None:
    bench = Bench()
    for _ in range(3):
        bench.link.outbox.blocks(PIECES, frames.pieces(NAME, LARGE, SMALL.piece_bytes))
    first = bench.run()
    assert list(map(shape, first)) == [("piece", 0)] and len(frames.encode(first[0])) < 65 * KIB
    bench.link.send(Ping(1))
    bench.link.send_message(b"a call that is as long as one may be")
    assert [type(frame) for frame in bench.run()] == [Ping, Message], "before 3 MiB less a piece"
    assert list(map(shape, bench.room())) == [("piece", 1)]


def test_streams_take_turns() -> None:
    bench = Bench()
    box = bench.link.outbox
    box.blocks(PIECES, frames.pieces(NAME, LARGE, SMALL.piece_bytes))
    for circuit in (2, 4):
        for number in range(2):
            inner = frames.encode(BlockFrame(Cid.of(b"%d" % number), b"%d" % number))
            box.carry(circuit, frames.encode(Relayed(circuit, inner)), inner)
    for number in range(2):
        data = b"small %d" % number
        box.blocks(WHOLE, frames.pieces(Cid.of(data), data, SMALL.piece_bytes))
    seen = [shape(frame) for frame in bench.run()]
    for _ in range(8):
        seen += map(shape, bench.room())
    one_round = [("circuit", 2), ("circuit", 4), ("BlockFrame", 0)]
    assert seen == [("piece", 0), *one_round, ("piece", 1), *one_round, ("piece", 2)]


def test_in_a_circuit_too_blocks_let_pass_what_carries_none() -> None:
    bench = Bench()
    box = bench.link.outbox
    for number in range(3):
        inner = frames.encode(Piece(NAME, len(LARGE), number, b"a part of the block"))
        box.carry(2, frames.encode(Relayed(2, inner)), inner)
    bench.run()
    for word in (b"one", b"two"):
        inner = frames.encode(Message(word))
        box.carry(2, frames.encode(Relayed(2, inner)), inner)
    came = [*bench.room(), *bench.room()]
    inside = [frames.decode(frame.data, KIB) for frame in came if isinstance(frame, Relayed)]
    assert inside == [Message(b"one"), Message(b"two")]
    box.end(2, frames.encode(HangUp(2, "closed", "over")))
    assert list(map(type, bench.room())) == [HangUp] and not bench.room(), "blocks that waited do not go"


def test_what_is_said_last_on_a_circuit_arrives_before_its_end() -> None:
    bench = Bench()
    box = bench.link.outbox
    box.blocks(PIECES, frames.pieces(NAME, LARGE, SMALL.piece_bytes))
    bench.run()
    inner = frames.encode(Message(b"why"))
    box.carry(2, frames.encode(Relayed(2, inner)), inner)
    box.end(2, frames.encode(HangUp(2, "closed", "over")))
    order = [type(frame) for _ in range(4) for frame in bench.room()]
    assert order == [Relayed, Piece, HangUp, Piece]


def test_a_host_that_has_no_room_for_ever_ends_the_link() -> None:
    bench = Bench()
    gone = bench.link.outbox.blocks(PIECES, frames.pieces(NAME, LARGE, SMALL.piece_bytes))
    bench.run()
    bench.scheduler.advance(SMALL.effect_ms)
    bench.scheduler.fire()
    effects = [effect for _, effect in bench.scheduler.run()]
    assert any(isinstance(effect, Close) for effect in effects) and gone.is_set
    bench.link.outbox.blocks(PIECES, frames.pieces(NAME, LARGE, SMALL.piece_bytes))
    assert bench.run() == [], "nothing is sent on a closed link"


def test_who_waits_is_told_when_a_link_goes() -> None:
    scheduler = Scheduler(SMALL)

    async def push(_: bytes) -> None:
        await scheduler.signal()

    box = Outbox(scheduler, push, lambda wrong: pytest.fail(str(wrong)))
    waits = [box.blocks(PIECES, frames.pieces(NAME, LARGE, KIB)) for _ in range(2)]
    scheduler.run()
    box.close()
    scheduler.run()
    assert all(signal.is_set for signal in waits)


# -- nodes ---------------------------------------------------------------------------------------------------


def test_a_call_is_answered_while_a_transfer_waits_for_room() -> None:
    ann, bob = World().grid("ann", "bob", limits=SMALL)
    code, large = serve(bob), bob.put(FILE)
    bob.crowded = []
    before = len(bob.log)
    fetching = ann.start(ann.kernel.fetch(large))
    ann.world.run()
    assert fetching not in ann.replies and len(bob.crowded) == 1, "the wire is full"
    done = ann.do(ann.kernel.run(Task(code, "add_one", (41,)), Budget(), on=bob.did))
    assert done.value == 42 and fetching not in ann.replies
    assert len(pieces_of(bob.log[before:])) <= 1, "a piece at most went before the answer"
    while fetching not in ann.replies:
        bob.answer(bob.crowded.pop(0), None)
        ann.world.run()
    assert ann.end(fetching)[1] > len(FILE)


def test_a_call_passes_a_transfer_at_the_node_between() -> None:
    ann, bob, eve = chain("ann", "bob", "eve", limits=SMALL)
    code, large = serve(eve), eve.put(FILE)
    ann.do(ann.kernel.run(Task(code, "add_one", (1,)), Budget(), on=eve.did))
    bob.crowded = []
    fetching = ann.start(ann.kernel._exchange.fetch(Cid.of(LARGE), link_of(ann, eve)))
    eve.put(LARGE)
    more = ann.start(ann.kernel.fetch(large))
    ann.world.run()
    assert fetching not in ann.replies and more not in ann.replies
    calling = ann.start(ann.kernel.run(Task(code, "add_one", (41,)), Budget(), on=eve.did))
    rooms = 0
    while calling not in ann.replies:
        bob.answer(bob.crowded.pop(0), None)
        rooms += 1
        ann.world.run()
    assert ann.end(calling).value == 42 and more not in ann.replies
    assert rooms <= 12, "a few frames of the call's own, and none of the pieces before them"
    bob.crowded, waiting = None, bob.crowded
    for ticket in waiting:
        bob.answer(ticket, None)
    assert ann.end(more)[1] > len(FILE)


def test_two_transfers_of_one_link_share_it() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(wants_per_link=2))
    files = [bob.put(b"".join(bytes([n, m]) * (512 * KIB) for m in range(40))) for n in range(2)]
    asks = [ann.start(ann.kernel.fetch(cid)) for cid in files]
    ann.world.run(lambda: any(ask in ann.replies for ask in asks))
    firsts = [data[0] for data in ann.tables["blocks"].values() if len(data) > 900 * KIB]
    assert abs(firsts.count(0) - firsts.count(1)) <= 8, "neither waited for the end of the other"
    for ask in asks:
        ann.end(ask)


# -- pieces, at who takes them -------------------------------------------------------------------------------


def wanting(limits: Limits = SMALL) -> tuple[Node, Node, int]:
    """Ann waits for a block that Bob keeps silent about."""
    ann, bob = World().grid("ann", "bob", limits=limits)
    bob.peer_drops = True
    ask = ann.start(ann.kernel.block(NAME))
    ann.world.run()
    return ann, bob, ask


def piece(ann: Node, bob: Node, at: int, data: bytes, size: int = len(LARGE), cid: Cid = NAME) -> None:
    hand_frame(ann, bob, frames.encode(Piece(cid, size, at, data)))


def test_pieces_make_a_block() -> None:
    ann, bob, ask = wanting()
    half = len(LARGE) // 2
    piece(ann, bob, half, LARGE[half:])  # the rest of an answer to an earlier want
    piece(ann, bob, 0, LARGE[:half])
    piece(ann, bob, 0, LARGE[:half])  # it begins again
    piece(ann, bob, half + 1, LARGE[half:-1])
    assert ask not in ann.replies
    piece(ann, bob, half, LARGE[half:])
    assert ann.end(ask) == LARGE
    assert not ann.kernel._state.links[link_from(ann, bob)].parts
    piece(ann, bob, 0, LARGE[:half])
    assert not ann.kernel._state.links[link_from(ann, bob)].parts, "nobody asked for it"


def test_pieces_of_other_bytes_are_no_block() -> None:
    ann, bob, ask = wanting()
    piece(ann, bob, 0, bytes(len(LARGE)))
    ann.world.pass_time(ann.limits.fetch_ms)
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code == "bad_block"
    assert ann.kernel._state.links[link_from(ann, bob)].bad_signatures == 1


@pytest.mark.parametrize(
    ("at", "data", "size", "code"),
    [
        (0, b"x", 3 * KIB * KIB, "too_large"),
        (0, b"", 10, "malformed"),
        (-1, b"x", 10, "malformed"),
        (8, b"xxx", 10, "malformed"),
    ],
)
def test_pieces_that_do_not_fit_end_the_link(at: int, data: bytes, size: int, code: str) -> None:
    ann, bob, _ = wanting()
    piece(ann, bob, at, data, size)
    assert [close.code for close in ann.closed] == [code] and not ann.peers()


def test_a_want_that_is_given_up_is_not_served_to_the_end() -> None:
    ann, bob = World().grid("ann", "bob", limits=SMALL)
    bob.tables["blocks"][bytes(NAME)] = LARGE
    bob.crowded = []
    hand_frame(bob, ann, frames.encode(Want(NAME, 0)))
    link = bob.kernel._state.links[link_from(bob, ann)]
    assert len(link.serving) == 1
    hand_frame(bob, ann, frames.encode(Cancel(NAME)))
    before = len(bob.log)
    bob.answer(bob.crowded.pop(0), None)
    bob.world.run()
    assert not link.serving and not pieces_of(bob.log[before:])
    assert link.serve_slots.free == SMALL.blocks_in_hand


def test_who_gives_up_says_so() -> None:
    ann, _, ask = wanting()
    before = len(ann.log)
    ann.world.pass_time(ann.limits.fetch_ms + ann.limits.hedge_ms)
    assert ask in ann.replies and Cancel(NAME) in sent(ann.log[before:])


def test_a_peer_that_sends_other_blocks_is_not_silent() -> None:
    limits = Limits(piece_bytes=64 * KIB, fetch_most_ms=90_000)
    ann, bob, ask = wanting(limits)
    other = Cid.of(LARGE[1:])
    asked = ann.start(ann.kernel.block(other))
    for number in range(10):
        ann.world.pass_time(5_000)
        piece(ann, bob, 100 * number, LARGE[1 + 100 * number : 101 + 100 * number], len(LARGE) - 1, other)
    ann.world.pass_time(limits.fetch_ms - 1)
    assert ask not in ann.replies, "its turn has not come"
    ann.world.pass_time(20 * limits.fetch_ms)
    for one in (ask, asked):
        with pytest.raises(RemoteError, match="none of the 1 peers"):
            ann.end(one)


def test_less_is_asked_for_at_once_where_it_takes_long() -> None:
    ann, bob = World().grid("ann", "bob")
    link = ann.kernel._state.links[link_from(ann, bob)]
    for _ in range(100):
        link.pace(ann.limits.want_ms + 1)
    assert link.want_slots.free == ann.limits.wants_per_link // 4
    link.pace(ann.limits.want_ms - 1)
    assert link.want_slots.free == ann.limits.wants_per_link // 4
    for _ in range(100):
        link.pace(0)
    assert link.want_slots.free == ann.limits.wants_per_link


def test_a_transfer_that_waits_to_ask_lets_others_ask() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(wants_per_link=2))
    leaves = [b"leaf %d" % number for number in range(20)]
    links = dagcbor.encode([Cid.of(leaf) for leaf in leaves])
    ann.tables["blocks"][bytes(Cid.of(links, "dag-cbor"))] = links
    bob.peer_drops = True
    ann.start(ann.kernel.fetch(Cid.of(links, "dag-cbor")))
    ann.world.run()
    ann.start(ann.kernel.block(NAME))
    ann.world.run()
    before = len(ann.log)
    for leaf in leaves[:2]:
        hand_frame(ann, bob, frames.encode(BlockFrame(Cid.of(leaf), leaf)))
    assert NAME in [frame.cid for frame in sent(ann.log[before:]) if isinstance(frame, Want)]


def test_few_blocks_are_in_memory_for_a_peer_that_asks_for_many() -> None:
    ann, bob = World().grid("ann", "bob", limits=SMALL)
    bob.crowded = []
    for number in range(40):
        data = bytes([number]) * 100 * KIB
        bob.tables["blocks"][bytes(Cid.of(data))] = data
        hand_frame(bob, ann, frames.encode(Want(Cid.of(data), 0)))
    link = bob.kernel._state.links[link_from(bob, ann)]
    assert len(link.serving) == 40 and link.serve_slots.free == 0
    assert sum(len(lane.then) for lane in link.outbox._lanes.values()) == SMALL.blocks_in_hand
    for number in range(40, 65):
        data = bytes([number])
        hand_frame(bob, ann, frames.encode(Want(Cid.of(data), 0)))
    assert [close.code for close in bob.closed] == ["busy"]


@pytest.mark.parametrize("size", [1, 23, 24, 255, 256, 65_535, 65_536, 300_000])
def test_blocks_are_read_the_quick_way_as_the_general_way_writes_them(size: int) -> None:
    data = bytes(size)
    for frame in (BlockFrame(NAME, data), Piece(NAME, 2**21, 2**20, data)):
        raw = frames.encode(frame)
        assert frames.decode(raw, 2**21) == frame
        for at in (2, 3, 7, 8, 43, 44):
            broken = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
            try:
                assert frames.encode(frames.decode(broken, 2**21)) == broken
            except RemoteError as wrong:
                assert wrong.code == "malformed"


def test_what_is_asked_for_and_called_off_again_leaves_nothing_behind() -> None:
    ann, bob = World().grid("ann", "bob", limits=SMALL)
    bob.tables["blocks"][bytes(NAME)] = LARGE
    bob.crowded = []
    hand_frame(bob, ann, frames.encode(Want(NAME, 0)))
    other = Cid.of(LARGE[1:])
    bob.tables["blocks"][bytes(other)] = LARGE[1:]
    link = bob.kernel._state.links[link_from(bob, ann)]
    for _ in range(100):
        hand_frame(bob, ann, frames.encode(Want(other, 0)))
        hand_frame(bob, ann, frames.encode(Cancel(other)))
    assert len(link.serving) == 1 and link.outbox.waiting == 1


def test_few_blocks_of_others_are_in_memory_for_a_peer_that_takes_none() -> None:
    ann, bob, carol = World().grid("bob", "ann", "carol", limits=SMALL)
    ann, bob = bob, ann  # bob is between
    bob.crowded = []
    for number in range(40):
        data = bytes([number]) * 100 * KIB
        carol.tables["blocks"][bytes(Cid.of(data))] = data
        hand_frame(bob, ann, frames.encode(Want(Cid.of(data), 1)))
    bob.world.run()
    link = bob.kernel._state.links[link_from(bob, ann)]
    assert len(link.serving) == 40
    assert link.outbox.waiting == SMALL.blocks_in_hand


def test_many_small_pieces_cost_no_more_than_their_bytes() -> None:
    ann, bob, _ = wanting()
    link = ann.kernel._state.links[link_from(ann, bob)]
    for at in range(0, 4_000, 2):
        piece(ann, bob, at, LARGE[at : at + 2])
    parts = link.parts[NAME]
    held = getsizeof(parts) + (0 if isinstance(parts, bytearray) else sum(map(getsizeof, parts)))
    assert held < 8_000
