"""dag-pb: canonical when written, strict when read, tolerant only of the orders found in the wild."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promisegrid import dagpb, protobuf
from promisegrid.cid import Cid
from promisegrid.dagpb import DagPbError, Link, Node

CID = Cid.of(b"x")
LINK = "0a24" + bytes(CID).hex()

links = st.builds(
    Link,
    st.binary(max_size=8).map(Cid.of),
    st.none() | st.text(max_size=8),
    st.none() | st.integers(0, 2**64 - 1),
)


@given(st.none() | st.binary(max_size=300), st.lists(links, max_size=5))
def test_decode_after_encode_is_the_sorted_node(data: bytes | None, given_links: list[Link]) -> None:
    encoded = dagpb.encode(Node(data, tuple(given_links)))
    node = dagpb.decode(encoded)
    assert node.data == data
    assert node.links == tuple(sorted(given_links, key=lambda link: (link.name or "").encode()))
    assert dagpb.encode(node) == encoded


@pytest.mark.parametrize(
    ("node", "data"),
    [
        (Node(), ""),
        (Node(b""), "0a00"),
        (Node(b"\x08\x01"), "0a020801"),
        (Node(None, (Link(CID),)), "1226" + LINK),
        (Node(b"d", (Link(CID, "", 0),)), "122a" + LINK + "1200" + "1800" + "0a0164"),
        (
            Node(None, (Link(CID, "b"), Link(CID, "a", 300))),
            "122c" + LINK + "120161" + "18ac02" + "1229" + LINK + "120162",
        ),
    ],
)
def test_the_bytes(node: Node, data: str) -> None:
    assert dagpb.encode(node).hex() == data
    assert dagpb.encode(dagpb.decode(bytes.fromhex(data))).hex() == data


def test_old_orders_are_read() -> None:
    before = dagpb.decode(bytes.fromhex("0a0164" + "1226" + LINK))
    assert before == Node(b"d", (Link(CID),))
    unsorted = dagpb.decode(bytes.fromhex("1229" + LINK + "120162" + "1229" + LINK + "120161"))
    assert [link.name for link in unsorted.links] == ["b", "a"]


@pytest.mark.parametrize(
    "data",
    [
        "0a",  # cut off
        "0a05",
        "0a01640a0164",  # data twice
        "1226" + LINK + "0a0164" + "1226" + LINK,  # links in two places
        "1a00",  # an unknown field
        "0801",  # a number where bytes are due
        "1001",
        "0d00000000",  # other wire types
        "0900",
        "8a0000",  # a varint with two spellings
        "1200",  # a link without a CID
        "1203120161",
        "1228" + LINK + "0a00",  # a CID twice
        "1229" + "120161" + LINK,  # the name before the CID
        "1228" + LINK + "2000",  # an unknown field of a link
        "1229" + LINK + "1201ff",  # a name that is not UTF-8
        "12260a24" + "02" + bytes(CID).hex()[2:],  # a CID that is none
        "ff" * 20,
    ],
)
def test_other_bytes_are_refused(data: str) -> None:
    with pytest.raises(DagPbError, match="not dag-pb"):
        dagpb.decode(bytes.fromhex(data))


@given(st.binary(max_size=100))
def test_any_bytes_are_a_node_or_a_refusal(data: bytes) -> None:
    try:
        node = dagpb.decode(data)
    except DagPbError:
        return
    assert dagpb.decode(dagpb.encode(node)).data == node.data


def test_fields_of_protobuf() -> None:
    data = protobuf.number(1, 300) + protobuf.run(2, b"ab") + protobuf.number(1, 0)
    assert list(protobuf.fields(data)) == [(1, 300), (2, b"ab"), (1, 0)]
