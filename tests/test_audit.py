"""An audit names what is damaged, what is missing and what needs it; and mends what somebody still has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.sim import Node, World

from promisegrid import unixfs
from promisegrid.cid import Cid

BIG = bytes(range(256)) * 12_000


def alone() -> Node:
    node = World().node("ann")
    node.do(node.kernel.owner.found("test"))
    return node


def audit(node: Node, mend: bool = False) -> Any:
    return node.do(node.kernel.base.audit(mend))


def leaf(data: bytes) -> Cid:
    """A CID below a file's."""
    _, blocks = unixfs.import_bytes(data)
    return blocks[1].cid


def keeping(node: Node) -> Cid:
    """A base with a pin, a stream and an app: nothing is wrong."""
    cid = node.put(BIG)
    node.do(node.kernel.base.pin(cid, "big"))
    node.do(node.kernel.base.move("news", node.put(b"first")))
    node.do(node.kernel.base.move("news", node.put(b"second")))
    node.do(node.kernel.owner.publish(node.put(b"an app"), "app", ""))
    found = audit(node)
    assert (found.bad, found.wrong, found.mended) == ([], [], [])
    assert found.checked == len(node.tables["blocks"])
    return cid


def test_all_is_well_with_a_base_that_is_whole() -> None:
    keeping(alone())


def test_a_damaged_block_is_named_and_so_is_what_needs_it() -> None:
    ann = alone()
    keeping(ann)
    lost = leaf(BIG)
    ann.tables["blocks"][bytes(lost)] = b"rotten"
    found = audit(ann)
    assert found.bad == [lost]
    assert len(found.wrong) == 1 and "“big”" in found.wrong[0] and str(lost) in found.wrong[0]


@pytest.mark.parametrize(
    ("who", "data"), [("“big”", None), ("stream “news”", b"first"), ("The app", b"an app")]
)
def test_a_missing_block_is_named_with_what_needs_it(who: str, data: bytes | None) -> None:
    ann = alone()
    keeping(ann)
    lost = leaf(BIG) if data is None else unixfs.import_bytes(data)[0]
    del ann.tables["blocks"][bytes(lost)]
    found = audit(ann)
    assert found.bad == [] and len(found.wrong) == 1, found.wrong
    assert who in found.wrong[0] and str(lost) in found.wrong[0]


def pin_row(node: Node, row: bytes) -> None:
    node.tables["pins"][bytes(node.put(b"pinned"))] = row


def memo_row(node: Node, row: bytes) -> None:
    node.tables["memo"][bytes(node.put(b"task")) + bytes(node.put(b"receipt"))] = row


def memo_gone(node: Node, row: bytes) -> None:
    node.tables["memo"][bytes(node.put(b"task")) + bytes(unixfs.import_bytes(b"gone")[0])] = row


def stream_row(node: Node, row: bytes) -> None:
    node.tables["streams"][b"news\0" + bytes(node.put(b"no head"))] = row


def no_cid(node: Node, row: bytes) -> None:
    node.tables["blocks"][b"no cid"] = row


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (pin_row, "cannot be read: unpin it"),
        (memo_row, "cannot be read"),
        (memo_gone, "its receipt"),
        (stream_row, "a head that does not hold"),
        (no_cid, "no CID for its name"),
    ],
)
def test_rows_that_make_no_sense_are_told(spoil: Callable[[Node, bytes], None], said: str) -> None:
    ann = alone()
    spoil(ann, b"\xff")
    found = audit(ann)
    assert len(found.wrong) == 1 and said in found.wrong[0], found.wrong


def test_what_a_peer_has_is_mended() -> None:
    ann, bob = World().grid("ann", "bob")
    cid = ann.put(BIG)
    bob.put(BIG)
    ann.do(ann.kernel.base.pin(cid, "big"))
    lost, gone = leaf(BIG), cid
    ann.tables["blocks"][bytes(lost)] = b"rotten"
    del ann.tables["blocks"][bytes(gone)]
    found = audit(ann)
    assert found.bad == [lost] and str(gone) in found.wrong[0]
    found = audit(ann, mend=True)
    assert (found.bad, found.wrong) == ([], []) and set(found.mended) == {lost, gone}
    assert audit(ann).mended == [] and audit(ann).wrong == []


def test_what_nobody_has_stays_wrong() -> None:
    ann = alone()
    keeping(ann)
    lost = leaf(BIG)
    ann.tables["blocks"][bytes(lost)] = b"rotten"
    assert audit(ann, mend=True).bad == [lost]
