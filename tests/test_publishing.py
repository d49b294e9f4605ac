"""What is published is public with all below it, until it is taken back; nothing else is."""

from __future__ import annotations

import pytest
from tests.sim import Node, World
from tests.test_archive import tree

from promisegrid import dagcbor, dagpb, unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError
from promisegrid.exchange import links_of


@pytest.fixture
def ann() -> Node:
    return World().node("ann")


def public(node: Node) -> set[Cid]:
    """Every stored block that anybody may read."""
    names = [Cid.decode(key) for key in node.tables["blocks"]]
    return {cid for cid in names if node.do(node.kernel.publishing.has(cid))}


def below(node: Node, root: Cid) -> set[Cid]:
    found: set[Cid] = set()
    waiting = [root]
    while waiting:
        cid = waiting.pop()
        found.add(cid)
        waiting += links_of(cid, node.tables["blocks"][bytes(cid)])
    return found


def test_a_root_is_public_with_all_below_it_and_nothing_else(ann: Node) -> None:
    root = tree(ann)
    ann.put(b"mine")
    assert public(ann) == set()
    ann.do(ann.kernel.publishing.publish(root, "site"))
    assert public(ann) == below(ann, root)
    (told,) = ann.do(ann.kernel.publishing.page())
    assert (told.cid, told.name) == (root, "site")


def test_taken_back_it_is_private_again_but_for_what_others_share(ann: Node) -> None:
    one, two = tree(ann, [("a", 1, b"shared"), ("b", 1, b"one")]), tree(ann, [("a", 1, b"shared")])
    for root in (one, two):
        ann.do(ann.kernel.publishing.publish(root))
    assert ann.do(ann.kernel.publishing.withdraw(one))
    assert public(ann) == below(ann, two)
    assert not ann.do(ann.kernel.publishing.withdraw(one))
    assert ann.do(ann.kernel.publishing.withdraw(two))
    assert public(ann) == set()
    assert not any(key.startswith(b"public/") for key in ann.tables["grid"])


def test_the_same_bytes_under_another_name_are_not_public(ann: Node) -> None:
    root = tree(ann)
    ann.do(ann.kernel.publishing.publish(root))
    assert not ann.do(ann.kernel.publishing.has(Cid.of_digest(root.digest, "raw")))


def test_the_empty_identity_cid_is_public(ann: Node) -> None:
    assert ann.do(ann.kernel.publishing.has(Cid.parse("bafkqaaa")))


def test_what_is_not_whole_is_not_published(ann: Node) -> None:
    root = tree(ann)
    ann.tables["blocks"].pop(bytes(Cid.of(b"one")))
    with pytest.raises(RemoteError) as refused:
        ann.do(ann.kernel.publishing.publish(root))
    assert refused.value.code == "not_found"
    assert public(ann) == set()
    assert ann.do(ann.kernel.publishing.page()) == []


def test_what_is_missing_is_fetched() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    root = tree(bob)
    ann.do(ann.kernel.publishing.publish(root))
    assert public(ann) == below(bob, root)


def test_what_is_published_is_not_collected(ann: Node) -> None:
    root = tree(ann)
    ann.do(ann.kernel.publishing.publish(root))
    ann.put(b"garbage")
    ann.world.pass_time(ann.limits.fresh_ms + 1)
    ann.do(ann.kernel.base.collect())
    assert below(ann, root) == {Cid.decode(key) for key in ann.tables["blocks"]}


def test_the_index_is_made_anew_and_apps_are_in_it(ann: Node) -> None:
    root, app = tree(ann), tree(ann, [("index.html", 1, b"app")])
    ann.do(ann.kernel.publishing.publish(root))
    ann.do(ann.kernel.owner.publish(app, "App", ""))
    wanted = below(ann, root) | below(ann, app)
    ann.do(ann.kernel.publishing.catch_up())
    assert public(ann) == wanted
    for key in list(ann.tables["grid"]):
        if key.startswith(b"public/block/"):
            del ann.tables["grid"][key]
    ann.tables["grid"][b"public/block/" + bytes(Cid.of(b"x")) + bytes(root)] = b""
    assert ann.do(ann.kernel.publishing.rebuild()) == 2
    assert public(ann) == wanted
    assert not ann.do(ann.kernel.publishing.has(Cid.of(b"x")))


@pytest.mark.parametrize("codec", [0x70, 0x71])
def test_a_name_that_holds_its_content_does_not_lead_to_what_is_private(ann: Node, codec: int) -> None:
    """Anybody can make one that links to anything."""
    private = ann.put(b"private")
    folder = dagpb.Node(b"\x08\x01", (dagpb.Link(private, "x", 7),))
    inner = dagcbor.encode([private]) if codec == 0x71 else dagpb.encode(folder)
    leads = Cid.decode(bytes([1, codec, 0, len(inner)]) + inner)
    assert not ann.do(ann.kernel.publishing.has(leads))
    assert ann.do(ann.kernel.publishing.has(Cid.parse("bafkqaaa")))


def test_two_names_of_one_content_are_published_apart(ann: Node) -> None:
    _, blocks = unixfs.import_tree([("a", 1, b"file a")])
    folder = next(block for block in blocks if block.cid.codec == 0x70)
    old = Cid.decode(bytes(folder.cid)[2:])
    ann.do(ann.kernel.save([*blocks, Block(old, folder.data)]))
    for cid in (folder.cid, old):
        ann.do(ann.kernel.publishing.publish(cid))
    ann.do(ann.kernel.publishing.withdraw(old))
    assert ann.do(ann.kernel.publishing.has(folder.cid)) and not ann.do(ann.kernel.publishing.has(old))
