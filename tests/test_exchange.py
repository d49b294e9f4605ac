"""Blocks by CID: verified before use, from whoever has them, in bounded time and memory."""

from __future__ import annotations

import pytest
from tests.scenes import hand_frame, link_from, sent
from tests.sim import Node, World

from promisegrid import dagcbor, frames, unixfs
from promisegrid.cid import Cid
from promisegrid.effects import Digest, Failure, Save
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

DATA = b"a block of bytes"
NAME = Cid.of(DATA)


def star(*names: str, limits: Limits | None = None) -> list[Node]:
    """Nodes of one grid, each linked to the first."""
    return World().grid(*names, limits=limits)


def give(node: Node, data: bytes = DATA) -> Cid:
    cid = Cid.of(data)
    node.tables["blocks"][bytes(cid)] = data
    return cid


def block(node: Node, cid: Cid) -> bytes:
    data = node.do(node.kernel.block(cid))
    assert isinstance(data, bytes)
    return data


def wants(node: Node) -> list[Cid]:
    return [frame.cid for frame in sent(node.log) if isinstance(frame, frames.Want)]


def refused(node: Node, cid: Cid) -> tuple[str, int]:
    """The code of a fetch that fails, and the virtual milliseconds it took."""
    began = node.world.now_ms
    with pytest.raises(RemoteError) as wrong:
        block(node, cid)
    assert str(cid) in wrong.value.text
    return wrong.value.code, node.world.now_ms - began


def test_a_block_comes_from_a_peer_once_and_then_from_the_store() -> None:
    ann, bob = star("ann", "bob")
    give(bob)
    assert block(ann, NAME) == DATA and block(ann, NAME) == DATA
    assert wants(ann) == [NAME] and ann.tables["blocks"][bytes(NAME)] == DATA


def test_two_who_want_it_at_once_ask_once() -> None:
    ann, bob = star("ann", "bob")
    give(bob)
    asks = [ann.start(ann.kernel.block(NAME)) for _ in range(3)]
    assert [ann.end(ask) for ask in asks] == [DATA] * 3
    assert wants(ann) == [NAME]


def test_nobody_has_it() -> None:
    ann, *_ = star("ann", "bob", "carol")
    assert refused(ann, NAME) == ("not_found", 0), "they all said no, so nobody waits"


def test_nobody_is_there() -> None:
    (ann,) = star("ann")
    assert refused(ann, NAME) == ("not_found", 0)


def test_silent_peers_hold_nobody_up_for_long() -> None:
    ann, bob, carol = star("ann", "bob", "carol")
    bob.peer_drops = carol.peer_drops = True
    code, took = refused(ann, NAME)
    limits = ann.limits
    assert code == "not_found" and took <= limits.fetch_ms + 2 * limits.hedge_ms


def test_a_second_peer_is_asked_when_the_first_is_slow() -> None:
    ann, bob, carol = star("ann", "bob", "carol")
    give(carol)
    bob.peer_drops = True
    began = ann.world.now_ms
    assert block(ann, NAME) == DATA
    assert ann.world.now_ms - began <= ann.limits.hedge_ms


def test_wrong_bytes_are_no_block_and_are_blamed_on_their_sender() -> None:
    ann, bob = star("ann", "bob")
    bob.peer_drops = True
    ask = ann.start(ann.kernel.block(NAME))
    ann.world.run()
    hand_frame(ann, bob, frames.encode(frames.BlockFrame(NAME, b"other bytes")))
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code == "bad_block" and bob.did in wrong.value.text
    assert bytes(NAME) not in ann.tables["blocks"]
    assert ann.kernel._state.links[link_from(ann, bob)].bad_signatures == 1


def test_after_wrong_bytes_the_next_peer_is_asked() -> None:
    ann, bob, carol = star("ann", "bob", "carol")
    give(carol)
    bob.peer_drops = True
    ask = ann.start(ann.kernel.block(NAME))
    ann.world.run()
    began = ann.world.now_ms
    hand_frame(ann, bob, frames.encode(frames.BlockFrame(NAME, b"other bytes")))
    assert ann.end(ask) == DATA and ann.world.now_ms == began, "at once, not after a wait"


def test_a_liar_about_blocks_is_cut_off() -> None:
    ann, bob = star("ann", "bob")
    bob.peer_drops = True
    for number in range(ann.limits.link_bad_signatures):
        cid = Cid.of(b"%d" % number)
        ask = ann.start(ann.kernel.block(cid))
        ann.world.run()
        hand_frame(ann, bob, frames.encode(frames.BlockFrame(cid, b"other bytes")))
        with pytest.raises(RemoteError):
            ann.end(ask)
    assert not ann.peers()


def test_one_hop_and_no_more() -> None:
    ann, bob, carol = star("ann", "bob", "carol")
    give(carol)
    assert block(bob, NAME) == DATA, "bob asks ann, who asks carol"
    assert bytes(NAME) not in ann.tables["blocks"], "ann passed it on and kept nothing"
    dan = ann.world.node("dan")
    ann.world.link(dan, ann, ann.do(ann.kernel.owner.invite()))
    eve = ann.world.node("eve")
    ann.world.link(eve, ann, ann.do(ann.kernel.owner.invite()))
    ann.world.link(eve, dan)
    ann.world.cut(eve, link_from(eve, ann))
    ann.world.run()
    other = give(carol, b"two hops away")
    assert refused(eve, other)[0] == "not_found"


def test_a_want_is_not_passed_on_beyond_what_this_node_allows() -> None:
    ann, bob, carol = star("ann", "bob", "carol")
    give(carol)
    for hops in (0, 2, 10**9, -1):
        effects = hand_frame(ann, bob, frames.encode(frames.Want(NAME, hops)))
        assert sent(effects) == [frames.BlockFrame(NAME, None)]


def test_a_peer_who_wants_what_nobody_has_does_not_make_us_ask_everybody_for_ever() -> None:
    ann, bob, carol = star("ann", "bob", "carol", limits=Limits(link_misses_per_second=3))
    for number in range(10):
        hand_frame(ann, bob, frames.encode(frames.Want(Cid.of(b"nothing %d" % number), 1)))
    assert len(wants(ann)) == 3, "each cost a question to Carol, and to everybody else"
    hand_frame(ann, carol, frames.encode(frames.Want(Cid.of(b"hers"), 1)))
    assert len(wants(ann)) == 4, "others are not held to account for Bob"
    ann.world.now_ms += 1000
    hand_frame(ann, bob, frames.encode(frames.Want(Cid.of(b"later"), 1)))
    assert len(wants(ann)) == 5


def test_a_want_is_not_passed_back() -> None:
    ann, bob = star("ann", "bob")
    effects = hand_frame(ann, bob, frames.encode(frames.Want(NAME, 1)))
    assert sent(effects) == [frames.BlockFrame(NAME, None)]


def test_a_rotten_block_of_ours_is_fetched_again() -> None:
    ann, bob = star("ann", "bob")
    give(bob)
    give(ann)
    ann.tables["blocks"][bytes(NAME)] = b"a block of byteS"
    assert not ann.do(ann.kernel.has(NAME))
    assert block(ann, NAME) == DATA and ann.tables["blocks"][bytes(NAME)] == DATA


def test_a_rotten_block_is_not_served() -> None:
    ann, bob = star("ann", "bob")
    give(bob)
    bob.tables["blocks"][bytes(NAME)] = b"a block of byteS"
    assert refused(ann, NAME)[0] == "not_found"


def test_large_blocks_are_hashed_by_the_host() -> None:
    ann, bob = star("ann", "bob")
    cid = give(bob, bytes(100_000))
    assert block(ann, cid) == bytes(100_000)
    assert any(isinstance(effect, Digest) for effect in ann.log)


def test_an_identity_cid_needs_nobody() -> None:
    (ann,) = star("ann")
    cid = Cid.parse("bafkqaaa")
    assert block(ann, cid) == b""


def test_a_hash_that_cannot_be_checked_is_not_fetched() -> None:
    ann, bob = star("ann", "bob")
    cid = Cid.decode(b"\x01\x55\x11\x14" + bytes(20))
    assert refused(ann, cid)[0] == "bad_cid" and not wants(ann) and bob


def test_a_full_disk_is_said() -> None:
    ann, bob = star("ann", "bob")
    give(bob)
    ann.failing[Save] = Failure("disk_full", "No space is left.")
    with pytest.raises(RemoteError) as wrong:
        block(ann, NAME)
    assert wrong.value.code == "disk_full"


def test_an_asker_who_gives_up_leaves_nothing_behind() -> None:
    ann, bob = star("ann", "bob")
    bob.peer_drops = True
    ask = ann.start(ann.kernel.block(NAME))
    ann.world.run()
    ann.perform(ann.kernel.cancel(ask, ann.world.now_ms))
    with pytest.raises(RemoteError, match="cancelled"):
        ann.end(ask)
    ann.world.pass_time(ann.limits.fetch_ms + ann.limits.hedge_ms)
    link = ann.kernel._state.links[link_from(ann, bob)]
    assert not link.wants and link.want_slots.free == ann.limits.wants_per_link
    assert not ann.kernel._exchange._flights


# -- whole files and folders ---------------------------------------------------------------------------------


def folder(node: Node) -> tuple[Cid, int]:
    """A folder with a file of three leaves; its CID and how many blocks it has."""
    content = bytes(range(256)) * 10_000
    root, blocks = unixfs.import_tree([("a", 0, b""), ("a/large", 1, content), ("small", 1, b"x")])
    node.do(node.kernel.save(blocks))
    return root, len({one.cid for one in blocks})


def test_a_folder_is_fetched_whole_with_progress() -> None:
    ann, bob = star("ann", "bob")
    root, count = folder(bob)
    blocks, size = ann.do(ann.kernel.fetch(root))
    assert blocks == count and size > 1_500_000
    assert set(bob.tables["blocks"]) <= set(ann.tables["blocks"])
    done = [n.detail["done"] for n in ann.notes if n.kind == "progress"]
    assert len(done) == count and done == sorted(done)
    assert ann.do(ann.kernel.tree(root)) == bob.do(bob.kernel.tree(root))


def test_a_fetch_is_bounded_in_bytes() -> None:
    ann, bob = star("ann", "bob", limits=Limits(fetch_bytes=1_500_000))
    root, _ = folder(bob)
    with pytest.raises(RemoteError) as wrong:
        ann.do(ann.kernel.fetch(root))
    assert wrong.value.code == "too_large"
    link = ann.kernel._state.links[link_from(ann, bob)]
    ann.world.pass_time(ann.limits.fetch_ms)
    assert not link.wants and link.want_slots.free == ann.limits.wants_per_link


def test_a_fetch_is_bounded_in_blocks() -> None:
    ann, bob = star("ann", "bob", limits=Limits(fetch_blocks=10))
    leaves = [give(bob, b"leaf %d" % n) for n in range(50)]
    data = dagcbor.encode(leaves)
    root = Cid.of(data, "dag-cbor")
    bob.tables["blocks"][bytes(root)] = data
    with pytest.raises(RemoteError) as wrong:
        ann.do(ann.kernel.fetch(root))
    assert wrong.value.code == "too_large" and len(wants(ann)) <= 10


def test_only_a_few_blocks_are_asked_for_at_once() -> None:
    ann, bob = star("ann", "bob")
    leaves = [Cid.of(b"leaf %d" % n) for n in range(50)]
    data = dagcbor.encode(leaves)
    root = Cid.of(data, "dag-cbor")
    ann.tables["blocks"][bytes(root)] = data
    bob.peer_drops = True
    ann.start(ann.kernel.fetch(root))
    ann.world.run()
    assert 1 < len(wants(ann)) <= ann.limits.wants_per_link


def test_one_block_that_is_missing_fails_the_fetch() -> None:
    ann, bob = star("ann", "bob")
    root, _ = folder(bob)
    del bob.tables["blocks"][max(bob.tables["blocks"], key=lambda key: len(bob.tables["blocks"][key]))]
    with pytest.raises(RemoteError) as wrong:
        ann.do(ann.kernel.fetch(root))
    assert wrong.value.code == "not_found"


def test_a_block_that_is_not_of_its_codec() -> None:
    ann, bob = star("ann", "bob")
    for codec in ("dag-cbor", "dag-pb"):
        cid = Cid.of(b"\xff\xff", codec)
        bob.tables["blocks"][bytes(cid)] = b"\xff\xff"
        with pytest.raises(RemoteError) as wrong:
            ann.do(ann.kernel.fetch(cid))
        assert wrong.value.code == "malformed"


def test_what_is_no_folder_is_said() -> None:
    (ann,) = star("ann")
    cid = ann.put(b"a file")
    for verb in (ann.kernel.ls(cid), ann.kernel.tree(cid), ann.kernel.resolve(cid, "a/b")):
        with pytest.raises(RemoteError) as wrong:
            ann.do(verb)
        assert wrong.value.code == "bad_file"
    odd = Cid.of(b"\xff\xff", "dag-pb")
    ann.tables["blocks"][bytes(odd)] = b"\xff\xff"
    with pytest.raises(RemoteError) as wrong:
        ann.get(odd)
    assert wrong.value.code == "bad_file"


def test_a_folder_is_listed_and_walked_from_afar() -> None:
    ann, bob = star("ann", "bob")
    root, _ = folder(bob)
    assert [entry.name for entry in ann.do(ann.kernel.ls(root))] == ["a", "small"]
    assert ann.get(ann.do(ann.kernel.resolve(root, "a/large"))) == bytes(range(256)) * 10_000
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.resolve(root, "a/none"))
