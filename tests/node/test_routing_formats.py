"""What routers say and are told, as bytes and texts: addresses, Peer IDs, records, announcements."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.node.hosting import TestKeys

from promisegrid.cid import Cid
from promisegrid.effects import Sign, Verify
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid_node import announcement, guarded, multiaddr, peerid, providers
from promisegrid_node.providers import GATEWAY, Filters, Provider

ROOT = Cid.of(b"published")
NOW_MS = 1_795_000_000_123
ADDRESS = "/dns/far.example/tcp/443/https"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("/ip4/203.0.113.7/tcp/8080/http", "http://203.0.113.7:8080"),
        ("/ip6/2001:db8::7/tcp/443/https", "https://[2001:db8::7]"),
        ("/dns4/far.example/tcp/443/tls/http", "https://far.example"),
        ("/dns/far.example/tcp/443/tls/sni/far.example/http/p2p/QmPeer", "https://far.example"),
        ("/dns6/far.example/tcp/80/http/http-path/a%2Fb", "http://far.example/a/b"),
        ("https://far.example/", "https://far.example"),
    ],
)
def test_addresses_of_web_servers_are_read(text: str, url: str) -> None:
    assert multiaddr.url_of(text) == url
    assert multiaddr.url_of(multiaddr.of_url(url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "//", "/ip4", "/ip4/203.0.113.7", "/ip4/203.0.113.7/tcp/4001",
        "/ip4/203.0.113.7/udp/443/quic-v1",
        "/ip4/203.0.113.7/tcp/443/tls/ws", "/ip4/203.0.113.7/tcp/443/tls/sni/far.example/http",
        "/ip4/2001:db8::7/tcp/443/https", "/ip6/203.0.113.7/tcp/443/https", "/ip4/1.2.3/tcp/80/http",
        "/dns/far.example/tcp/0x50/http", "/dns/far.example/tcp/99999/http", "/dns/a@b/tcp/80/http",
        "/dns/far.example:1/tcp/80/http", "/dns/far.example?x/tcp/80/http", "/dns//tcp/80/http", "ftp://far.example",
        "http://user@far.example", "/dns/far.example/tcp/80/http/http-path/..%2F..", "/unix/a/http",
        "/dns/" + "a" * 600 + "/tcp/80/http",
    ],
)  # fmt: skip
def test_other_addresses_are_not(text: str) -> None:
    assert multiaddr.url_of(text) is None


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_none(text: str) -> None:
    for said in (text, f"/ip4/{text}", f"/dns/{text}/tcp/80/http", f"/dns/a/tcp/{text}/http", f"http://{text}"):
        multiaddr.url_of(said)
        multiaddr.names_of(said)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_the_public_network(address: str) -> None:
    assert guarded.is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fec0::1", "ff02::1", "2001:db8::1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::", "localhost", "", "1", "127.1",
    ],
)  # fmt: skip
def test_networks_of_their_owners_only(address: str) -> None:
    assert not guarded.is_public(address)


def test_ports_of_other_services_are_left_alone() -> None:
    asked = (0, 22, 25, 80, 443, 445, 1023, 1024, 8080, 65_535, 65_536)
    assert [port for port in asked if guarded.is_open_port(port)] == [80, 443, 1024, 8080, 65_535]


def test_a_peer_id_is_that_of_the_standards_own_key() -> None:
    """The ECDSA test vector of libp2p/specs, peer-ids/peer-ids.md: its point, in its protobuf."""
    point = bytes.fromhex(
        "04de3d300fa36ae0e8f5d530899d83abab44abf3161f162a4bc901d8e6ecda020e"
        "8b6d5f8da30525e71d6851510c098e5c47c646a597fb4dcec034e9f77c409e62"
    )
    key = bytes.fromhex("0803125b3059301306072a8648ce3d020106082a8648ce3d030107034200") + point
    name = peerid.did_of(key)
    assert peerid.key_of(name) == key
    peer = peerid.of_did(name)
    assert peerid.text_of(peer).startswith("Qm")
    for text in (peerid.text_of(peer), str(peer)):
        assert peerid.read(text) == peer
    for bad in (key[:-1], key + b"\0", b"", bytes(100), key[:-65] + b"\4" + bytes(64)):
        with pytest.raises((ValueError, RemoteError)):
            peerid.did_of(bad)


def test_peer_ids_of_other_kinds_are_read_and_other_texts_are_not() -> None:
    ed25519 = "12D3KooWKcTtoUYcQVfURdwUZtPsanm97SdEf7DkesyxTz7kkD2z"
    assert peerid.text_of(peerid.read(ed25519)) == ed25519
    for bad in ("", "Qm", "x" * 500, str(ROOT), "12D3!", "é" * 20, "1" * 128):
        with pytest.raises(ValueError, match="is not a Peer ID"):
            peerid.read(bad)


def test_records_of_strangers_are_read_within_bounds() -> None:
    one = providers.read({"Schema": "peer", "ID": "12D3", "Addrs": [ADDRESS, 7, "x" * 600]})
    assert one == Provider("12D3", (ADDRESS,), ())
    assert one.gateways() == ["https://far.example"], "a router that knows no protocols"
    old = providers.read({"Protocol": "transport-bitswap", "ID": "12D3", "Addrs": [ADDRESS]})
    assert old is not None and old.gateways() == []
    many = providers.read({"ID": "1", "Addrs": [ADDRESS] * 1000, "Protocols": [GATEWAY] * 1000})
    assert many is not None and len(many.addresses) == providers.ADDRESSES_MAX
    plain_first = Provider("1", ("/dns/a.example/tcp/80/http", ADDRESS), (GATEWAY,))
    assert plain_first.gateways() == ["https://far.example", "http://a.example"]
    for nonsense in (None, 7, [], "peer", {}, {"ID": 7}):
        assert providers.read(nonsense) is None
    with pytest.raises(ValueError, match="nested too deeply"):
        providers.parsed(b"[" * 100_000)


QUIC = "/ip4/203.0.113.7/udp/1/quic-v1"


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ({}, {"known": [ADDRESS, QUIC], "unknown": []}),
        ({"filter-addrs": "https"}, {"known": [ADDRESS]}),
        ({"filter-addrs": "HTTPS,unknown"}, {"known": [ADDRESS], "unknown": []}),
        ({"filter-addrs": "!tcp"}, {"known": [QUIC]}),
        ({"filter-addrs": "!quic-v1,https"}, {"known": [ADDRESS]}),
        ({"filter-addrs": "webrtc"}, {}),
        ({"filter-protocols": "Transport-IPFS-Gateway-HTTP"}, {"known": [ADDRESS, QUIC]}),
        ({"filter-protocols": "unknown"}, {"unknown": []}),
        ({"filter-protocols": "transport-bitswap"}, {}),
    ],
)
def test_filters_of_the_standard(query: dict[str, str], kept: dict[str, list[str]]) -> None:
    told = [Provider("known", (ADDRESS, QUIC), (GATEWAY,)), Provider("unknown", (), ())]
    assert {one.peer: list(one.addresses) for one in Filters.of(query).pass_on(told)} == kept


class Announcing:
    """One node's announcements, made and read."""

    def __init__(self, name: str) -> None:
        self.keys = TestKeys(name)

    def run(self, verb: Coroutine[Any, Any, Any]) -> Any:
        """What a verb that signs and verifies gives."""
        answer: object = None
        try:
            while True:
                wish = verb.send(answer)
                if isinstance(wish, Sign):
                    answer = self.keys.sign(wish.message)
                else:
                    assert isinstance(wish, Verify)
                    answer = self.keys.verify(wish.alg, wish.key, wish.message, wish.signature)
        except StopIteration as end:
            return end.value

    def made(self, ttl_ms: int = 3_600_000, addresses: tuple[str, ...] = (ADDRESS,)) -> dict[str, Any]:
        made: dict[str, Any] = self.run(
            announcement.make(ROOT, self.keys.did, list(addresses), ttl_ms, NOW_MS)
        )
        return made

    def taken(self, record: object, now_ms: int = NOW_MS) -> announcement.Announced:
        one, signed, signature = announcement.read(record, now_ms, Limits())
        self.run(announcement.check(one.did, signed, signature))
        return one


def test_an_announcement_says_who_what_where_and_until_when() -> None:
    node = Announcing("ann")
    one = node.taken(node.made())
    assert (one.root, one.did) == (ROOT, node.keys.did)
    assert one.provider == Provider(peerid.text_of(peerid.of_did(one.did)), (ADDRESS,), (GATEWAY,))
    assert (one.since_ms, one.until_ms) == (NOW_MS, NOW_MS + 3_600_000)
    for _ in range(20):  # both r and s with and without a first bit
        node.taken(node.made())


def changed(record: dict[str, Any], **payload: object) -> dict[str, Any]:
    return {**record, "Payload": {**record["Payload"], **payload}}


def test_what_does_not_hold_is_refused_by_name() -> None:
    node, other = Announcing("ann"), Announcing("bob")
    good = node.made()
    others = other.made()
    refused = {
        "bad_signature": [
            changed(good, Addrs=["/dns/elsewhere.example/tcp/443/https"]), changed(good, TTL=7_200_000),
            {**good, "Signature": others["Signature"]},
        ],
        "bad_claims": [
            {**good, "PublicKey": others["PublicKey"]}, changed(good, ID=others["Payload"]["ID"]),
        ],
        "malformed": [
            None, [], {}, {**good, "Schema": "bitswap"}, {**good, "Payload": None},
            {**good, "Signature": "m!"}, {**good, "Signature": "mAAAA"},
            {**good, "PublicKey": "mAAAA"}, {**good, "PublicKey": 7},
            changed(good, CID="bafy"), changed(good, CID=None), changed(good, ID="Qm"),
            changed(good, TTL="1"), changed(good, TTL=True), changed(good, TTL=-5),
            changed(good, Timestamp="yesterday"), changed(good, Timestamp="2026-01-01T00:00:00.é Z"),
            changed(good, Addrs=["/ip4/203.0.113.7/tcp/4001"]), changed(good, Addrs="x"),
            changed(good, Protocols=["transport-bitswap"]), changed(good, X=float("nan")),
        ],
    }  # fmt: skip
    for code, records in refused.items():
        for record in records:
            with pytest.raises(RemoteError) as wrong:
                node.taken(record)
            assert wrong.value.code == code, (record, wrong.value)
    for now_ms, code in ((NOW_MS + 3_600_000, "expired"), (NOW_MS - 60_001, "not_yet_valid")):
        with pytest.raises(RemoteError) as wrong:
            node.taken(good, now_ms)
        assert wrong.value.code == code
    long = node.taken(node.made(ttl_ms=10**15))
    assert long.until_ms == NOW_MS + Limits().announced_max_ms
    unsaid = node.taken(node.made(ttl_ms=0))
    assert unsaid.until_ms == NOW_MS + Limits().announced_ms


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
FIELDS = ("CID", "Scope", "Timestamp", "TTL", "ID", "Addrs", "Protocols", "Metadata")
GOOD = Announcing("ann").made()


@given(st.sampled_from(FIELDS), JSON)
def test_any_payload_is_an_announcement_or_a_refusal(field: str, value: object) -> None:
    inner = changed(GOOD, **{field: value})
    for record in (value, {**GOOD, field: value}, inner, {**GOOD, "Payload": value}):
        try:
            Announcing("ann").taken(record)
        except RemoteError:
            continue
        assert record is not value and (record is not inner or value == GOOD["Payload"].get(field))
    providers.read(value)
    providers.read({"ID": "1", "Addrs": value, "Protocols": value})


@given(JSON)
def test_any_signature_and_key_is_refused(value: object) -> None:
    for name in ("Signature", "PublicKey"):
        for text in (value, f"m{value}"):
            with pytest.raises(RemoteError):
                Announcing("ann").taken({**GOOD, name: text})
