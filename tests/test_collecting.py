"""Collecting and rebuilding beside everything else: what was acknowledged is there, whoever did it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import cose, dagcbor, dagpb, unixfs
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, DAG_PB, Cid
from promisegrid.effects import Commit, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promisebase.collect import names_in
from promisegrid.promisebase.transaction import Conflicted, Transaction

DATA = b"precious" * 100
LEAF = Block.of(DATA)


def stored(node: Node, cid: Cid) -> bool:
    return bytes(cid) in node.tables["blocks"]


def scene(shared: bool) -> tuple[World, Node, Node]:
    """ann collects; who acts is she herself, or bob, whose kernel shares her base and knows nothing of it."""
    world = World()
    ann = world.grid("ann")[0]
    bob = ann
    if shared:
        bob = world.node("bob")
        bob.tables = ann.tables
    ann.do(ann.kernel.save([LEAF]))
    for n in range(80):
        ann.put(b"garbage %d" % n)
    world.now_ms += ann.limits.fresh_ms + 1
    return world, ann, bob


def naming(node: Node) -> None:
    async def work(t: Transaction) -> None:
        if await node.kernel.base._exchange.stored(LEAF.cid) is None:
            raise LocalError("It is gone.", "not_found")
        t.put(b"see", bytes(LEAF.cid))

    if isinstance(node.do(node.kernel.base.transact("notes", work)), Conflicted):
        raise LocalError("Others were quicker.", "busy")


def keeping(node: Node) -> None:
    async def work(t: Transaction) -> None:
        t.put(b"see", bytes(LEAF.cid))
        t.keep(LEAF)

    if isinstance(node.do(node.kernel.base.transact("notes", work)), Conflicted):
        raise LocalError("Others were quicker.", "busy")


ACTS: dict[str, Callable[[Node], Any]] = {
    "pin": lambda node: node.do(node.kernel.base.pin(LEAF.cid)),
    "move": lambda node: node.do(node.kernel.base.move("s", LEAF.cid)),
    "publish": lambda node: node.do(node.kernel.publishing.publish(LEAF.cid)),
    "app": lambda node: node.do(node.kernel.owner.publish(LEAF.cid, "app", "")),
    "transaction that names": naming,
    "transaction that keeps": keeping,
}


@pytest.mark.parametrize("shared", [False, True], ids=["one node", "two nodes"])
@pytest.mark.parametrize("act", ACTS)
def test_what_is_acknowledged_beside_a_collection_is_there(act: str, shared: bool) -> None:
    """At whichever step of the collection it comes; where it is refused, it is told."""
    acknowledged = 0
    for step in range(48):
        world, ann, bob = scene(shared)
        asked = ann.start(ann.kernel.base.collect())
        for _ in range(step):
            world.step()
        try:
            ACTS[act](bob)
        except (RemoteError, LocalError):
            continue
        ann.end(asked)
        assert stored(ann, LEAF.cid), step
        acknowledged += 1
    assert acknowledged > 3


# -- names of every kind -------------------------------------------------------------------------------


def cids(data: bytes) -> list[Cid]:
    """The same bytes under every kind of name this kernel reads."""
    sha2, sha3 = hashlib.sha256(data).digest(), hashlib.sha3_256(data).digest()
    wide, blake = hashlib.sha512(data).digest(), hashlib.blake2b(data, digest_size=32).digest()
    return [
        Cid.decode(b"\x01\x55\x12\x20" + sha2),
        Cid.decode(b"\x01\x55\x16\x20" + sha3),
        Cid.decode(b"\x01\x55\x13\x40" + wide),
        Cid.decode(b"\x01\x55\xa0\xe4\x02\x20" + blake),
        Cid.decode(b"\x01\xa9\x02\x12\x20" + sha2),
    ]


def test_pins_keep_content_under_every_kind_of_name() -> None:
    ann = World().grid("ann")[0]
    node = unixfs.import_tree([("a", 1, b"a file")])[1]
    folder = next(block for block in node if block.cid.codec == 0x70)
    old = Cid.decode(bytes(folder.cid)[2:])
    named = [*cids(b"content"), old]
    blocks = [*(Block(cid, b"content") for cid in named[:-1]), Block(old, folder.data), *node]
    ann.do(ann.kernel.save(blocks))
    for cid in named:
        ann.do(ann.kernel.base.pin(cid))
    ann.world.now_ms += ann.limits.fresh_ms + 1
    ann.do(ann.kernel.base.collect())
    assert all(stored(ann, cid) for cid in named)
    assert all(stored(ann, block.cid) for block in node if block is not folder), "what the old name holds too"


@pytest.mark.parametrize("raw_first", [False, True])
def test_the_same_bytes_under_two_names_are_two_blocks(raw_first: bool) -> None:
    """A folder's own block, put as a file too: what is below is kept, and missed when it is gone."""
    ann = World().grid("ann")[0]
    folder, blocks = unixfs.import_tree([("a", 1, b"file a")])
    data = next(block.data for block in blocks if block.cid == folder)
    raw = Block.of(data)
    ann.do(ann.kernel.save([*blocks, raw]))
    for cid in (raw.cid, folder) if raw_first else (folder, raw.cid):
        ann.do(ann.kernel.base.move(f"s{cid.codec}", cid))
    ann.do(ann.kernel.base.pin(raw.cid))
    ann.world.now_ms += ann.limits.fresh_ms + 1
    ann.do(ann.kernel.base.collect())
    leaf = next(block.cid for block in blocks if block.cid != folder)
    assert stored(ann, leaf) and not ann.do(ann.kernel.base.audit()).wrong
    del ann.tables["blocks"][bytes(leaf)]
    assert ann.do(ann.kernel.base.audit()).wrong


@pytest.mark.parametrize("codec", [0x70, 0x71])
def test_what_lies_below_a_node_that_is_its_own_name_is_kept(codec: int) -> None:
    ann = World().grid("ann")[0]
    leaf = ann.put(b"below")
    folder = dagpb.Node(b"\x08\x01", (dagpb.Link(leaf, "x", 5),))
    inner = dagcbor.encode([leaf]) if codec == 0x71 else dagpb.encode(folder)
    inline = Cid.decode(bytes([1, codec, 0, len(inner)]) + inner)
    top = Block.of(dagcbor.encode([inline]), DAG_CBOR)
    ann.do(ann.kernel.save([top]))
    ann.do(ann.kernel.base.pin(top.cid))
    ann.world.now_ms += ann.limits.fresh_ms + 1
    ann.do(ann.kernel.base.collect())
    assert stored(ann, leaf)


def test_a_signed_block_that_a_file_s_tree_names_too_is_followed() -> None:
    """What a statement names is kept, though a stranger's folder lists the statement as one of its files."""
    ann = World().grid("ann")[0]
    named = ann.put(b"a result")
    signed = Block.of(b"\xd2\x84" + bytes(named))
    folder = Block.of(dagpb.encode(dagpb.Node(b"\x08\x01", (dagpb.Link(signed.cid, "x", 5),))), DAG_PB)
    ann.do(ann.kernel.save([signed, folder]))
    ann.do(ann.kernel.base.pin(folder.cid))

    async def work(t: Transaction) -> None:
        t.put(b"see", bytes(signed.cid))

    ann.do(ann.kernel.base.transact("notes", work))
    ann.world.now_ms += ann.limits.fresh_ms + 1
    ann.do(ann.kernel.base.collect())
    assert stored(ann, named)


def test_names_are_found_wherever_they_stand() -> None:
    for cid in cids(b"x"):
        for around in (b"", b"\x01", b"\x12\x20", b"\x01\x55"):
            assert bytes(cid) in names_in(around + bytes(cid) + around)
    assert names_in(b"\x12\x20" + bytes(31)) == [] and names_in(b"") == []


# -- rebuilding ------------------------------------------------------------------------------------------


def sealed(node: Node, stream: str, previous: list[Cid], height: int) -> Block:
    """A head by that node's key, as anybody could make it."""

    async def make() -> Block:
        claim: dict[str, Any] = {
            "stream": stream,
            "value": LEAF.cid,
            "previous": previous,
            "height": height,
            "by": node.did,
            "at": 1,
        }
        claim["signature"] = await cose.sign("grid-head", dagcbor.encode(claim), detached=True)
        return Block.of(dagcbor.encode(claim), DAG_CBOR)

    block = node.do(make())
    assert isinstance(block, Block)
    return block


@pytest.mark.parametrize("stream", ["main", "other"])
def test_a_stranger_s_head_that_nobody_took_in_is_only_a_block(stream: str) -> None:
    ann, eve = World().grid("ann", "eve")
    mine = ann.do(ann.kernel.base.move("main", ann.put(b"v")))
    ann.do(ann.kernel.save([sealed(eve, stream, [mine.cid], 1), sealed(eve, stream, [], 0)]))
    ann.do(ann.kernel.base.rebuild())
    assert ann.do(ann.kernel.base.streams()) == ["main"]
    assert ann.do(ann.kernel.base.heads("main")) == [mine]


def test_a_head_that_was_taken_in_stays_and_what_it_rests_on_is_no_head() -> None:
    ann, eve = World().grid("ann", "eve")
    mine = ann.do(ann.kernel.base.move("main", ann.put(b"v")))
    theirs = sealed(eve, "main", [mine.cid], 1)
    ann.do(ann.kernel.save([LEAF, theirs]))
    ann.do(ann.kernel.base.adopt(theirs.cid))
    ann.do(ann.kernel.base.rebuild())
    assert [head.cid for head in ann.do(ann.kernel.base.heads("main"))] == [theirs.cid]


@pytest.mark.parametrize("new", [False, True], ids=["moved", "begun"])
def test_a_stream_that_moves_while_it_is_rebuilt_has_moved(new: bool) -> None:
    for step in range(0, 60, 2):
        world = World()
        ann = world.grid("ann")[0]
        first, second = ann.put(b"1"), ann.put(b"2")
        if not new:
            ann.do(ann.kernel.base.move("main", first))
        for n in range(40):
            ann.put(b"block %d" % n)
        asked = ann.start(ann.kernel.base.rebuild())
        for _ in range(step):
            world.step()
        moved = ann.do(ann.kernel.base.move("main", second))
        ann.end(asked)
        assert ann.do(ann.kernel.base.heads("main")) == [moved], step


def test_results_remembered_meanwhile_stay_and_rows_without_a_receipt_go() -> None:
    ann = World().grid("ann")[0]
    row = bytes(Cid.of(b"task", DAG_CBOR)) + bytes(Cid.of(b"no receipt"))
    ann.perform([(0, Commit((Write("memo", row, b"did"), Write("memo", b"\1", b"did"))))])
    ann.world.run()
    found = ann.do(ann.kernel.base.rebuild())
    assert found.removed == 2 and not len(ann.tables["memo"])


def test_a_block_that_a_direct_pin_names_is_missed_by_a_recursive_one_too() -> None:
    ann = World().grid("ann")[0]
    folder, blocks = unixfs.import_tree([("a", 1, b"file a")])
    ann.do(ann.kernel.save(blocks))
    ann.do(ann.kernel.base.move("s", folder))
    ann.do(ann.kernel.base.pin(folder, "itself", "direct"))
    leaf = next(block.cid for block in blocks if block.cid != folder)
    del ann.tables["blocks"][bytes(leaf)]
    assert ann.do(ann.kernel.base.audit()).wrong
