"""A backup brings pins, streams, keys and blocks back on an empty base, and changes nothing on one in use."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim import Node, World
from tests.test_archive import brought, drained, file_of, other, tree

from promisegrid import dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits


def backup(node: Node) -> bytes:
    return drained(node, node.do(node.kernel.base.archive.backup()))


def put(node: Node, key: bytes, value: bytes) -> None:
    async def work(transaction: Any) -> None:
        transaction.put(key, value)

    node.do(node.kernel.base.transact("notes", work))


def get(node: Node, key: bytes) -> Any:
    async def work(transaction: Any) -> Any:
        return await transaction.get(key)

    return node.do(node.kernel.base.transact("notes", work)).value


@pytest.fixture
def ann() -> Node:
    """A base with something of everything."""
    node = World().node("ann")
    root = tree(node)
    node.do(node.kernel.base.pin(root, "the tree"))
    node.do(node.kernel.base.pin(node.put(b"alone"), "alone", "direct"))
    for text in (b"one", b"two", b"three"):
        node.do(node.kernel.base.move("diary", node.put(text)))
    put(node, b"key", b"value")
    node.put(b"kept by nobody")
    return node


def test_an_empty_base_has_it_all_again(ann: Node) -> None:
    bob = other()
    done = brought(bob, backup(ann))
    assert done.is_backup
    assert (done.pinned, done.streams, done.values, done.lost) == (2, 1, 1, ())
    assert bob.do(bob.kernel.base.pins()) == ann.do(ann.kernel.base.pins())
    assert bob.do(bob.kernel.base.heads("diary")) == ann.do(ann.kernel.base.heads("diary"))
    assert get(bob, b"key") == b"value"
    assert ann.tables["blocks"].items() <= bob.tables["blocks"].items()
    assert bob.get(Cid.of(b"kept by nobody")) == b"kept by nobody"


def test_bringing_it_back_twice_changes_nothing(ann: Node) -> None:
    data = backup(ann)
    before = {name: dict(rows) for name, rows in ann.tables.items() if name in ("pins", "streams")}
    done = brought(ann, data, restore=True)
    assert (done.pinned, done.streams, done.values) == (0, 1, 0)
    assert {name: dict(rows) for name, rows in ann.tables.items() if name in before} == before


def test_what_was_changed_since_stays(ann: Node) -> None:
    data = backup(ann)
    later = ann.do(ann.kernel.base.move("diary", ann.put(b"four")))
    put(ann, b"key", b"newer")
    brought(ann, data, restore=True)
    assert ann.do(ann.kernel.base.heads("diary")) == [later]
    assert get(ann, b"key") == b"newer"


def test_what_has_rotted_is_left_out_and_said(ann: Node) -> None:
    rotten = Cid.of(b"one", "raw")
    ann.tables["blocks"][bytes(rotten)] = b"0ne"
    export = ann.do(ann.kernel.base.archive.backup())
    data = drained(ann, export)
    assert export.bad == 1
    bob = other()
    done = brought(bob, data)
    (head,) = ann.do(ann.kernel.base.heads("diary"))
    assert head.cid in done.lost
    assert not bob.do(bob.kernel.has(rotten))
    assert bob.do(bob.kernel.base.pinned(Cid.of(b"alone"))) is not None


def test_cut_off_it_changes_no_pin_and_no_stream(ann: Node) -> None:
    data = backup(ann)
    bob = other()
    with pytest.raises(RemoteError, match="cut off"):
        brought(bob, data[:-1])
    assert not bob.tables["pins"]
    assert not bob.tables["streams"]
    assert not bob.tables["kv"]


def test_too_many_pins_for_one_backup_are_a_refusal() -> None:
    node = World().node("ann", Limits(backup_bytes=200))
    for number in range(4):
        node.do(node.kernel.base.pin(node.put(b"%d" % number), f"number {number}"))
    with pytest.raises(LocalError, match="export them by CID"):
        backup(node)


@pytest.mark.parametrize(
    ("top", "page"),
    [
        ({"backup": 2}, {}),
        ({"pages": 7}, {}),
        ({"pages": ["no link"]}, {}),
        ({}, []),
        ({}, {"keys": []}),
        ({}, {"pins": {}}),
        ({}, {"pins": [["no cid", "name", 0, "recursive"]]}),
        ({}, {"pins": [[Cid.of(b""), "name", 0, "forever"]]}),
        ({}, {"pins": [[Cid.of(b""), "n" * 2000, 0, "recursive"]]}),
        ({}, {"streams": [["name"]]}),
        ({}, {"values": [[b"\0collect/turn", b"mine"]]}),
        ({}, {"values": [[b"", b"mine"]]}),
    ],
    ids=range(12),
)
def test_a_page_that_is_none_is_refused(top: dict[str, Any], page: Any) -> None:
    inner = Block.of(dagcbor.encode(page), "dag-cbor")
    made = {"backup": 1, "at": 0, "by": "did:key:z", "pages": [inner.cid]} | top
    outer = Block.of(dagcbor.encode(made), "dag-cbor")
    bob = other()
    before = {name: dict(bob.tables[name]) for name in ("pins", "streams", "kv")}
    with pytest.raises(RemoteError) as refused:
        brought(bob, file_of([outer.cid], outer, inner, Block.of(b"")))
    assert refused.value.code == "malformed"
    assert {name: dict(bob.tables[name]) for name in before} == before


def test_a_head_nobody_signed_is_refused(ann: Node) -> None:
    (head,) = ann.do(ann.kernel.base.heads("diary"))
    forged = dagcbor.decode(ann.tables["blocks"][bytes(head.cid)]) | {"at": 1}
    block = Block.of(dagcbor.encode(forged), "dag-cbor")
    page = Block.of(dagcbor.encode({"streams": [["diary", block.cid]]}), "dag-cbor")
    top = {"backup": 1, "at": 0, "by": "did:key:z", "pages": [page.cid]}
    outer = Block.of(dagcbor.encode(top), "dag-cbor")
    blocks = [Block(Cid.decode(key), data) for key, data in ann.tables["blocks"].items()]
    bob = other()
    with pytest.raises(RemoteError) as refused:
        brought(bob, file_of([outer.cid], outer, page, block, *blocks))
    assert refused.value.code == "bad_signature"
    assert not bob.tables["streams"]


def test_a_stranger_s_backup_moves_no_stream_and_sets_no_key_unless_told_to(ann: Node) -> None:
    """Anybody can write into a file that it is a backup."""
    eve = other()
    head = ann.do(ann.kernel.base.heads("diary"))[0]
    for key in (bytes(head.cid), bytes(head.value)):
        eve.tables["blocks"][key] = ann.tables["blocks"][key]
    eve.do(eve.kernel.save([Block(head.cid, ann.tables["blocks"][bytes(head.cid)])]))
    eve.do(eve.kernel.base.move("diary", eve.put(b"eve's"), []))
    put(eve, b"other", b"eve's")
    data = backup(eve)
    before = {name: dict(ann.tables[name]) for name in ("streams", "kv", "pins")}
    done = brought(ann, data, pin=False)
    assert done.left and not done.is_backup
    after = {name: dict(ann.tables[name]) for name in before}
    assert {**after, "kv": rows_of(after["kv"])} == {**before, "kv": rows_of(before["kv"])}
    assert brought(ann, data, restore=True).is_backup
    assert get(ann, b"other") == b"eve's" and len(ann.do(ann.kernel.base.heads("diary"))) == 2


def rows_of(kv: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Without the base's own keys."""
    return {key: value for key, value in kv.items() if not key.startswith(b"\0")}


def test_what_was_published_comes_back_as_pins(ann: Node) -> None:
    app = ann.put(b"an app")
    ann.do(ann.kernel.owner.publish(app, "app", ""))
    shown = ann.put(b"shown")
    ann.do(ann.kernel.publishing.publish(shown))
    bob = other()
    brought(bob, backup(ann))
    bob.world.now_ms += bob.limits.fresh_ms + 1
    bob.do(bob.kernel.base.collect())
    assert bob.get(app) == b"an app" and bob.get(shown) == b"shown"
