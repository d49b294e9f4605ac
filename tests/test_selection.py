"""What a gateway's reader gets: the path, the scope, the range, and no block more."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from tests.sim import Node, World

from promisegrid import car, dagcbor, dagpb, unixfs
from promisegrid.block import Block
from promisegrid.chunker import Sized
from promisegrid.cid import DAG_PB, Cid
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.selection import Span, Wanted
from promisegrid.unixfs.node import Entry, write_directory, write_file

CHUNK = 256


def node(limits: Limits | None = None) -> Node:
    return World().node("ann", limits)


def save(at: Node, blocks: Iterable[Block]) -> None:
    at.do(at.kernel.save(list(blocks)))


def file(at: Node, size: int, links: int = 1024) -> Cid:
    """A file in chunks of 256 different bytes, in a tree of so many links a node."""
    importer = unixfs.FileImporter(Sized(CHUNK), links)
    blocks = importer.feed(b"".join(bytes([n % 256]) * CHUNK for n in range(size // CHUNK + 1))[:size])
    cid, _, rest = importer.finish()
    save(at, [*blocks, *rest])
    return cid


def selected(at: Node, root: Cid, path: str = "", wanted: Wanted | None = None) -> list[Cid]:
    found = at.do(at.kernel.selection.path(root, path))
    export = at.kernel.selection.car(found, wanted or Wanted())
    reader, cids = car.CarReader(), list[Cid]()
    while (piece := at.do(export.next())) is not None:
        cids += [block.cid for block in reader.feed(piece)]
    reader.finish()
    assert reader.roots == (found.end.cid,)
    return cids


def leaves(at: Node, cid: Cid) -> list[Cid]:
    return [link.cid for link in dagpb.decode(at.tables["blocks"][bytes(cid)]).links]


@pytest.fixture
def ann() -> Node:
    return node()


def test_a_path_brings_its_blocks_along(ann: Node) -> None:
    root, blocks = unixfs.import_tree(
        [("sub/ascii.txt", 1, b"hello"), ("sub/other", 1, b"x"), ("y", 1, b"y")]
    )
    save(ann, blocks)
    sub = ann.do(ann.kernel.resolve(root, "sub"))
    assert selected(ann, root, "/sub/ascii.txt/") == [root, sub, Cid.of(b"hello")]
    assert selected(ann, root, "sub", Wanted("block")) == [root, sub]
    assert selected(ann, root, "sub", Wanted("entity")) == [root, sub]
    assert selected(ann, root, "sub") == [root, sub, Cid.of(b"hello"), Cid.of(b"x")]
    with pytest.raises(RemoteError, match="nothing") as refused:
        selected(ann, root, "sub/nothing")
    assert refused.value.code == "not_found"


def test_a_path_leads_through_shards_and_brings_those_it_needs(ann: Node) -> None:
    root, blocks = unixfs.import_tree([(f"file number {n}", 1, b"%d" % n) for n in range(6000)])
    save(ann, blocks)
    path = selected(ann, root, "file number 685", Wanted("block"))
    assert path[0] == root
    assert path[-1] == Cid.of(b"685")
    assert 2 < len(path) < 6
    listing = selected(ann, root, "", Wanted("entity"))
    shards = {block.cid for block in blocks if block.cid.codec == DAG_PB}
    assert set(listing) == shards
    assert len(listing) == len(shards)


def test_a_path_leads_through_dag_cbor(ann: Node) -> None:
    inner = file(ann, 3 * CHUNK)
    document = Block.of(
        dagcbor.encode({"files": {"single": inner, "list": [1, inner]}, "name": "x"}), "dag-cbor"
    )
    folder = write_directory([Entry("document", document.cid, 0)])
    save(ann, [document, folder])
    assert selected(ann, document.cid, "files/single", Wanted("block")) == [document.cid, inner]
    assert selected(ann, folder.cid, "document/files/list/1", Wanted("block"))[-1] == inner
    assert selected(ann, folder.cid, "document", Wanted("entity")) == [folder.cid, document.cid]
    assert selected(ann, document.cid) == [document.cid, inner, *leaves(ann, inner)]
    for path in ("files", "name", "files/none", "files/list/7", "files/list/-1", "name/x"):
        with pytest.raises(RemoteError) as refused:
            selected(ann, document.cid, path)
        assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    ("span", "parts"),
    [
        (Span(0, None), [0, 1, 2, 3, 4]),
        (Span(512, None), [2, 3, 4]),
        (Span(512, 1023), [2, 3]),
        (Span(512, -256), [2, 3]),
        (Span(-5, None), [3, 4]),
        (Span(-9999, None), [0, 1, 2, 3, 4]),
        (Span(-9999, -3), [0, 1, 2, 3]),
        (Span(0, 0), [0]),
        (Span(255, 256), [0, 1]),
        (Span(5000, None), []),
        (Span(600, 500), []),
        (Span(1025, 9999), [4]),
    ],
)
def test_a_range_of_bytes_brings_only_what_holds_them(ann: Node, span: Span, parts: list[int]) -> None:
    cid = file(ann, 4 * CHUNK + 2)
    chunks = leaves(ann, cid)
    assert selected(ann, cid, "", Wanted("entity", span)) == [cid, *(chunks[part] for part in parts)]


def test_ranges_of_a_tall_file_agree_with_its_bytes(ann: Node) -> None:
    cid = file(ann, 40 * CHUNK + 17, links=3)
    whole = selected(ann, cid)
    for first, last in ((0, 0), (300, 4000), (5 * CHUNK, 6 * CHUNK - 1), (40 * CHUNK, 40 * CHUNK + 16)):
        part = set(selected(ann, cid, "", Wanted("entity", Span(first, last))))
        other = node()
        other.tables["blocks"].update({bytes(one): ann.tables["blocks"][bytes(one)] for one in part})

        async def load(one: Cid, store: Node = other) -> bytes:
            return store.tables["blocks"][bytes(one)]

        async def read(first: int = first, last: int = last) -> bytes:
            pieces = unixfs.read_file(load, cid, first, last + 1)
            return b"".join([piece async for piece in pieces])

        assert other.do(read()) == ann.get(cid)[first : last + 1]
        assert part < set(whole)


def test_a_range_works_though_other_parts_are_missing(ann: Node) -> None:
    cid = file(ann, 3 * CHUNK)
    chunks = leaves(ann, cid)
    del ann.tables["blocks"][bytes(chunks[1])]
    assert selected(ann, cid, "", Wanted("entity", Span(0, 200))) == [cid, chunks[0]]
    assert selected(ann, cid, "", Wanted("entity", Span(600, None))) == [cid, chunks[2]]
    with pytest.raises(RemoteError, match=str(chunks[1])):
        selected(ann, cid, "", Wanted("entity", Span(0, 300)))


def test_of_a_folder_a_range_is_its_listing(ann: Node) -> None:
    root, blocks = unixfs.import_tree([("a", 1, b"x")])
    save(ann, blocks)
    assert selected(ann, root, "", Wanted("entity", Span(0, None))) == [root]


def test_repeats_are_sent_when_wanted_and_only_then(ann: Node) -> None:
    root, blocks = unixfs.import_tree([("a", 1, b"same"), ("b", 1, b"same"), ("c", 1, b"other")])
    save(ann, blocks)
    same, rest = Cid.of(b"same"), Cid.of(b"other")
    assert selected(ann, root) == [root, same, rest]
    assert selected(ann, root, "", Wanted("all", None, True)) == [root, same, same, rest]


def test_identity_cids_are_followed_and_never_sent(ann: Node) -> None:
    text = Cid.parse("bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa")
    folder = write_directory([Entry("a", text, 0), Entry("b", Cid.of(b"b"), 0)])
    save(ann, [folder, Block.of(b"b")])
    for repeats in (False, True):
        assert selected(ann, folder.cid, "", Wanted("all", None, repeats)) == [folder.cid, Cid.of(b"b")]
        assert selected(ann, text, "", Wanted("all", None, repeats)) == []
    assert selected(ann, folder.cid, "a") == [folder.cid]


def doubling(at: Node, levels: int) -> Cid:
    """A file of 2 ** levels times one block: a few kilobytes that unfold to petabytes."""
    leaf = Block.of(b"x" * 1024)
    blocks, size, cid = [leaf], 1024, leaf.cid
    for _ in range(levels):
        blocks.append(write_file([(cid, size, size)] * 2))
        cid, size = blocks[-1].cid, 2 * size
    save(at, blocks)
    return cid


@pytest.mark.parametrize("scope", ["all", "entity"])
def test_what_unfolds_to_petabytes_is_sent_folded(ann: Node, scope: str) -> None:
    cid = doubling(ann, 30)
    assert len(selected(ann, cid, "", Wanted(scope))) == 31  # type: ignore[arg-type]


@pytest.mark.parametrize("scope", ["all", "entity"])
def test_with_repeats_it_ends_at_the_bound(scope: str) -> None:
    ann = node(Limits(walk_blocks=1000))
    cid = doubling(ann, 30)
    with pytest.raises(RemoteError) as refused:
        selected(ann, cid, "", Wanted(scope, None, True))  # type: ignore[arg-type]
    assert refused.value.code == "too_large"


def test_a_range_of_it_costs_two_ways_down(ann: Node) -> None:
    cid = doubling(ann, 30)
    before = len(ann.log)
    assert len(selected(ann, cid, "", Wanted("entity", Span(1, -2)))) == 31
    assert len(ann.log) - before < 200


def test_a_part_that_lies_about_its_size_is_refused(ann: Node) -> None:
    leaf = Block.of(b"x" * 10)
    top = write_file([(leaf.cid, 20, 20)])
    save(ann, [leaf, top])
    with pytest.raises(RemoteError, match="not the part of a file"):
        selected(ann, top.cid, "", Wanted("entity"))
