"""CAR files of a base: out and in again is the same; what is cut off, lies or unfolds changes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import car, dagpb, unixfs
from promisegrid.block import Block
from promisegrid.cid import DAG_PB, Cid
from promisegrid.effects import Commit, Failure
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promisebase.archive import Brought, Export

TREE: list[unixfs.TreeNode] = [
    ("a/one.txt", 1, b"one"),
    ("a/same.txt", 1, b"same" * 9000),
    ("b/same.txt", 1, b"same" * 9000),
    ("b/large.bin", 1, bytes(range(256)) * 12_000),
]


def drained(node: Node, export: Export) -> bytes:
    """The whole CAR."""
    pieces = []
    while (piece := node.do(export.next())) is not None:
        pieces.append(piece)
    return b"".join(pieces)


def exported(node: Node, *roots: Cid) -> bytes:
    return drained(node, node.kernel.base.archive.export(roots))


def brought(node: Node, data: bytes, step: int = 70_000, **how: Any) -> Brought:
    """A CAR taken in, piece by piece."""
    bring = node.kernel.base.archive.bring(**how)
    try:
        for at in range(0, len(data), step):
            node.do(bring.take(data[at : at + step]))
        done: Brought = node.do(bring.finish())
        return done
    finally:
        bring.close()


def tree(node: Node, nodes: list[unixfs.TreeNode] = TREE) -> Cid:
    root, blocks = unixfs.import_tree(nodes)
    node.do(node.kernel.save(blocks))
    return root


def blocks_of(data: bytes) -> list[Block]:
    reader = car.CarReader()
    blocks = reader.feed(data)
    reader.finish()
    return blocks


def file_of(roots: Iterable[Cid], *blocks: Block) -> bytes:
    return car.header(list(roots)) + b"".join(map(car.frame, blocks))


@pytest.fixture
def ann() -> Node:
    return World().node("ann")


def other(name: str = "bob") -> Node:
    return World().node(name)


def test_out_and_in_again(ann: Node) -> None:
    root = tree(ann)
    data = exported(ann, root)
    blocks = blocks_of(data)
    assert blocks[0].cid == root
    assert len({block.cid for block in blocks}) == len(blocks)
    bob = other()
    done = brought(bob, data, name="backup.car")
    assert (done.roots, done.blocks, done.pinned) == ((root,), len(blocks), 1)
    assert bob.do(bob.kernel.tree(root)) == ann.do(ann.kernel.tree(root))
    assert bob.do(bob.kernel.base.pinned(root)).name == "backup.car"
    assert exported(bob, root) == data


def test_a_parent_comes_before_its_children_in_the_order_of_links(ann: Node) -> None:
    root = tree(ann)
    order = [block.cid for block in blocks_of(exported(ann, root))]
    expected: list[Cid] = []

    def visit(cid: Cid) -> None:
        if cid in expected:
            return
        expected.append(cid)
        if cid.codec == DAG_PB:
            for link in dagpb.decode(ann.tables["blocks"][bytes(cid)]).links:
                visit(link.cid)

    visit(root)
    assert order == expected


def test_several_roots_share_their_blocks(ann: Node) -> None:
    one, two = ann.put(b"x" * 3_000_000), tree(ann)
    data = exported(ann, two, one, two)
    reader = car.CarReader()
    blocks = reader.feed(data)
    assert reader.roots == (two, one, two)
    assert len({block.cid for block in blocks}) == len(blocks)
    assert brought(other(), data).pinned == 2


def test_nothing_is_pinned_unless_asked(ann: Node) -> None:
    data = exported(ann, root := tree(ann))
    bob = other()
    assert brought(bob, data, pin=False).pinned == 0
    assert bob.do(bob.kernel.base.pins()) == []
    assert bob.do(bob.kernel.has(root))


def test_a_pin_that_is_there_keeps_its_name(ann: Node) -> None:
    root = tree(ann)
    data = exported(ann, root)
    ann.do(ann.kernel.base.pin(root, "mine"))
    assert brought(ann, data, name="theirs").pinned == 0
    assert ann.do(ann.kernel.base.pinned(root)).name == "mine"


def test_wherever_it_is_cut_off_nothing_is_pinned(ann: Node) -> None:
    data = exported(ann, tree(ann, TREE[:3]))
    ends = {len(data)}
    for end in [*range(1, len(data), 997), len(data) - 1]:
        assert end not in ends
        bob = other()
        with pytest.raises(RemoteError) as refused:
            brought(bob, data[:end])
        assert refused.value.code in ("malformed", "not_found"), end
        assert bob.do(bob.kernel.base.pins()) == []
        assert not bob.tables["streams"]


def test_a_lie_is_named(ann: Node) -> None:
    root = tree(ann, TREE[:3])
    blocks = blocks_of(exported(ann, root))
    for place, block in enumerate(blocks):
        lie = Block(block.cid, block.data[:-1] + bytes([block.data[-1] ^ 1]))
        bob = other()
        with pytest.raises(RemoteError, match=str(block.cid)) as refused:
            brought(bob, file_of([root], *blocks[:place], lie, *blocks[place + 1 :]))
        assert refused.value.code == "bad_block"
        assert bob.do(bob.kernel.base.pins()) == []
        assert not bob.do(bob.kernel.has(block.cid))


def test_a_root_that_is_not_all_there_is_not_pinned(ann: Node) -> None:
    root = tree(ann)
    blocks = blocks_of(exported(ann, root))
    for missing in (blocks[0], blocks[-1]):
        bob = other()
        with pytest.raises(RemoteError, match="not pinned") as refused:
            brought(bob, file_of([root], *(block for block in blocks if block is not missing)))
        assert refused.value.code == "not_found"
        assert bob.do(bob.kernel.base.pins()) == []


def test_what_a_car_lacks_may_be_here_already(ann: Node) -> None:
    root = tree(ann)
    blocks = blocks_of(exported(ann, root))
    bob = other()
    bob.do(bob.kernel.save(blocks[3:]))
    assert brought(bob, file_of([root], *blocks[:3])).pinned == 1


def test_a_full_disk_is_a_refusal(ann: Node) -> None:
    data = exported(ann, tree(ann))
    bob = other()
    bob.failing[Commit] = Failure("disk_full", "The disk is full.")
    with pytest.raises(RemoteError, match="full"):
        brought(bob, data)
    assert not bob.tables["pins"]


def test_collecting_waits_for_an_import(ann: Node) -> None:
    data = exported(ann, tree(ann))
    bob = other()
    bring = bob.kernel.base.archive.bring()
    bob.do(bring.take(data))
    with pytest.raises(RemoteError, match="imported"):
        bob.do(bob.kernel.base.collect())
    bob.do(bring.finish())
    bring.close()
    bring.close()
    bob.do(bob.kernel.base.collect())
    assert exported(bob, bring_root(data)) == data


def bring_root(data: bytes) -> Cid:
    reader = car.CarReader()
    reader.feed(data)
    assert reader.roots is not None
    return reader.roots[0]


def test_an_export_needs_a_root(ann: Node) -> None:
    with pytest.raises(LocalError, match="what to export"):
        ann.kernel.base.archive.export([])


def test_what_is_missing_ends_the_export(ann: Node) -> None:
    root = tree(ann)
    ann.tables["blocks"].pop(bytes(Cid.of(b"one")))
    with pytest.raises(RemoteError, match=str(Cid.of(b"one"))):
        exported(ann, root)
