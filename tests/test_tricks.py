"""What a hostile file or folder tries: names that lead out, names twice, CIDs and headers too large, and a
few blocks that unfold to more than any disk holds. Each is refused by name, or stays as small as it is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.sim import Node, World
from tests.test_archive import brought, drained, file_of, other
from tests.test_selection import doubling

from promisegrid import car, dagcbor, dagpb, protobuf, varint
from promisegrid.block import Block
from promisegrid.cid import DAG_PB, Cid, CidError
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.unixfs.node import Entry, write_directory

LEAF = Block.of(b"leaf")
FOLDER = protobuf.number(1, 1)


def folder(*names: str) -> Block:
    """A folder of these names, whatever they are: what `write_directory` would not write."""
    return Block.of(
        dagpb.encode(dagpb.Node(FOLDER, tuple(dagpb.Link(LEAF.cid, name, 4) for name in names))), DAG_PB
    )


def imported(*blocks: Block) -> Node:
    """A node that took in a CAR of these blocks; the first is its root."""
    node = other()
    assert brought(node, file_of([blocks[0].cid], *blocks)).pinned == 1
    return node


WAYS: list[Callable[[Node, Cid], object]] = [
    lambda node, cid: node.do(node.kernel.ls(cid)),
    lambda node, cid: node.do(node.kernel.tree(cid)),
    lambda node, cid: node.do(node.kernel.resolve(cid, "leaf")),
    lambda node, cid: node.do(node.kernel.selection.path(cid, "leaf")),
]


@pytest.mark.parametrize("way", WAYS, ids=["ls", "tree", "resolve", "gateway"])
@pytest.mark.parametrize("name", ["..", ".", "", "/etc/passwd", "../../x", "a/../b", "a\0b", "a/"])
def test_a_name_that_leads_out_is_refused_wherever_it_is_read(name: str, way: object) -> None:
    assert callable(way)
    block = folder("leaf", name)
    node = imported(block, LEAF)
    with pytest.raises(RemoteError) as refused:
        way(node, block.cid)
    assert repr(name) in refused.value.text
    assert refused.value.code in ("bad_file", "not_found")


@pytest.mark.parametrize("way", WAYS, ids=["ls", "tree", "resolve", "gateway"])
def test_a_name_twice_is_refused_wherever_it_is_read(way: object) -> None:
    assert callable(way)
    block = folder("leaf", "twice", "twice")
    node = imported(block, LEAF)
    with pytest.raises(RemoteError, match="'twice' is there twice"):
        way(node, block.cid)


@pytest.mark.parametrize("path", ["..", "../x", "a/../../b", "./leaf", "leaf/\0"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    block = folder("leaf")
    node = imported(block, LEAF)
    for ask in (node.kernel.resolve, node.kernel.selection.path):
        with pytest.raises(RemoteError):
            node.do(ask(block.cid, path))


def identity(size: int) -> bytes:
    """An identity CID that holds so many bytes itself."""
    return b"\x01\x55\x00" + varint.encode(size) + bytes(size)


def test_an_identity_cid_holds_128_bytes_and_not_one_more() -> None:
    Cid(identity(128))
    for size in (129, 4096, 1 << 20):
        with pytest.raises(CidError):
            Cid(identity(size))
    large = identity(129)
    link = protobuf.run(2, protobuf.run(1, large) + protobuf.run(2, b"x"))
    in_pb = Block.of(link + protobuf.run(1, FOLDER), DAG_PB)
    with pytest.raises(RemoteError) as refused:
        imported(in_pb)
    assert refused.value.code == "malformed"
    header = b"\xa2\x65roots\x81\xd8\x2a" + dagcbor.encode(b"\0" + large) + b"\x67version\x01"
    with pytest.raises(RemoteError, match="header") as refused:
        brought(other(), varint.encode(len(header)) + header)
    frame = large + bytes(129)
    with pytest.raises(RemoteError, match="no name"):
        brought(other(), car.header([]) + varint.encode(len(frame)) + frame)


def test_what_an_identity_cid_links_to_is_followed() -> None:
    inner = dagpb.encode(dagpb.Node(FOLDER, (dagpb.Link(LEAF.cid, "x", 4),)))
    held = Cid(b"\x01\x70\x00" + varint.encode(len(inner)) + inner)
    outer = write_directory([Entry("in", held, 4)])
    node = imported(outer, LEAF)
    reader = car.CarReader()
    blocks = reader.feed(drained(node, node.kernel.base.archive.export([outer.cid])))
    assert [block.cid for block in blocks] == [outer.cid, LEAF.cid]
    with pytest.raises(RemoteError, match="not pinned"):
        imported(outer)


def test_more_links_than_a_node_may_have_are_refused_soon() -> None:
    empty = protobuf.run(2, protobuf.run(1, Cid.parse("bafkqaaa").encoded))
    block = Block.of(empty * ((2 * 1024 * 1024 - 10) // len(empty)), DAG_PB)
    start = time.process_time()
    with pytest.raises(RemoteError, match="links"):
        imported(block)
    assert time.process_time() - start < 100


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (varint.encode(1 << 62), "possible"),
        (varint.encode(65_537), "possible"),
        (varint.encode(60_000) + b"\x81" * 60_000, "header"),
        (varint.encode(60_000) + b"\x9f" * 60_000, "header"),
        (varint.encode(12) + b"\x9b" + b"\xff" * 8 + b"abc", "header"),
        (varint.encode(12) + b"\xbb" + b"\xff" * 8 + b"abc", "header"),
        (b"\x0a\xa1gversion\x02" + bytes(16) + b"\xff" * 24, "CARv2"),
        (b"\x0a\xa1gversion\x02" + bytes(40), "CARv2"),
        (b"\x0a\xa1gversion\x02" + bytes(30), "cut off"),
        (b"", "cut off"),
    ],
    ids=range(10),
)
def test_a_header_that_is_a_bomb_is_refused_at_once(data: bytes, said: str) -> None:
    start = time.process_time()
    with pytest.raises(RemoteError, match=said) as refused:
        brought(other(), data)
    assert refused.value.code == "malformed"
    assert time.process_time() - start < 10


def test_of_a_carv2_its_carv1_is_read_and_nothing_else() -> None:
    inner = file_of([LEAF.cid], LEAF)
    for pad, index in ((0, b""), (7, b"index" * 1000)):
        at = 51 + pad
        fixed = bytes(16) + b"".join(n.to_bytes(8, "little") for n in (at, len(inner), at + len(inner)))
        whole = b"\x0a\xa1gversion\x02" + fixed + bytes(pad) + inner + index
        for step in (1, 13, 5000):
            assert brought(other(), whole, step).roots == (LEAF.cid,)
        between = at + len(car.header([LEAF.cid]))  # where a CARv1 alone would look whole
        for end in (20, 51 + pad, between, at + len(inner) - 1):
            with pytest.raises(RemoteError, match="cut off"):
                brought(other(), whole[:end])


# -- a few blocks that unfold to petabytes ---------------------------------------------------------------


def folders(at: Node, levels: int) -> Cid:
    """A folder of 2 ** levels files, in as many blocks as it has levels."""
    blocks = [LEAF]
    for _ in range(levels):
        cid = blocks[-1].cid
        blocks.append(write_directory([Entry("a", cid, 4), Entry("b", cid, 4)]))
    at.do(at.kernel.save(blocks))
    return blocks[-1].cid


@pytest.mark.parametrize("make", [doubling, folders], ids=["file", "folder"])
def test_what_unfolds_to_petabytes_is_kept_as_small_as_it_is(make: Callable[[Node, int], Cid]) -> None:
    node = World().node("ann")
    root = make(node, 40 if make is folders else 30)
    before = len(node.log)
    node.do(node.kernel.base.pin(root, "bomb"))
    data = drained(node, node.kernel.base.archive.export([root]))
    assert len(data) < 10_000
    node.do(node.kernel.fetch(root))
    node.do(node.kernel.publishing.publish(root))
    node.world.pass_time(node.limits.fresh_ms + 1)
    kept = node.do(node.kernel.base.collect()).kept
    assert kept <= 45
    assert len(node.log) - before < 2000
    assert brought(other(), data).pinned == 1


def test_a_file_of_petabytes_is_read_no_further_than_asked() -> None:
    node = World().node("ann")
    root = doubling(node, 30)
    before = len(node.log)
    pieces = node.kernel.read(root)
    assert len(node.do(node.kernel.piece(pieces))) == 1024
    assert len(node.log) - before < 200


def test_a_folder_of_petabytes_is_listed_and_not_gathered() -> None:
    node = World().node("ann", Limits(tree_nodes=500))
    root = folders(node, 40)
    assert [entry.name for entry in node.do(node.kernel.ls(root))] == ["a", "b"]
    assert node.do(node.kernel.resolve(root, "a/" * 40)) == LEAF.cid
    with pytest.raises((RemoteError, LocalError), match="more than"):
        node.do(node.kernel.tree(root))
