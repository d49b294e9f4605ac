"""Direct channels: two members make one through others, who can neither read along nor step in between."""

from __future__ import annotations

from typing import Any

import pytest
from tests.sim import Node, World
from tests.test_relay import link_of, run, serve

from promisegrid import description
from promisegrid.effects import Describe, Failure
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.signalling import SIGNAL

SDP = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fingerprint:sha-256 {}\r\n"
PRINT = ":".join(["AB"] * 32)


def tabs(
    *names: str, limits: Limits | None = None, world: World | None = None, engine: str = "Chromium/1"
) -> list[Node]:
    """A node, and tabs that are linked to it only; the tabs in the order in which they offer."""
    world = world or World()
    hub, *others = world.grid("hub", *names, limits=limits)
    for other in others:
        other.kernel._state.engine = engine
        other.kernel.signalling.enabled = True
        for link in list(other.links):
            world.cut(other, link)
    world.run()
    for other in others:
        world.link(other, hub)
    return [hub, *sorted(others, key=lambda node: node.did)]


def direct(node: Node) -> list[str]:
    """To whom it has a channel."""
    return sorted(str(peer["did"]) for peer in node.kernel.peers() if peer["via"] == "webrtc")


def ask(node: Node, to: Node, *args: Any, op: str = "offer") -> Any:
    return node.do(node.kernel._caller.ask(to.did, SIGNAL, op, args, 5_000))


def test_two_tabs_find_each_other_and_go_on_without_the_node() -> None:
    hub, ann, bob = tabs("ann", "bob")
    serve(bob)
    ann.world.pass_time(3_000)
    assert direct(ann) == [bob.did] and direct(bob) == [ann.did] and direct(hub) == []
    assert len(ann.described) == len(bob.described) == 1 and hub.described == {}
    assert run(ann, bob).value == 42
    assert link_of(ann, bob).via == "webrtc"
    for link in list(hub.links):
        hub.world.cut(hub, link)
    hub.world.run()
    assert run(ann, bob, 1).value == 2
    cid = bob.put(bytes(3_000_000))
    assert len(ann.get(cid)) == 3_000_000


def test_nodes_that_make_channels_say_so_and_others_are_not_asked() -> None:
    hub, ann, bob = tabs("ann", "bob", engine="wasmtime 50")
    ann.world.pass_time(3_000)
    assert direct(ann) == [bob.did] and direct(bob) == [ann.did]
    told = {str(peer["did"]): peer["engine"] for peer in hub.kernel.peers()}
    assert told == {ann.did: "wasmtime 50+webrtc", bob.did: "wasmtime 50+webrtc"}
    assert ann.kernel._state.engine == "wasmtime 50", "receipts say what ran it"
    _, cat, dan = tabs("cat", "dan")
    for node in (cat, dan):
        node.kernel.signalling.enabled = False
    cat.world.pass_time(3_000)
    assert direct(cat) == []


def test_nothing_is_described_before_there_is_a_peer() -> None:
    hub, ann = tabs("ann")
    ann.world.pass_time(60_000)
    assert ann.described == {} and hub.described == {}


def test_a_channel_that_dies_is_made_again_and_calls_go_over_the_node_meanwhile() -> None:
    _, ann, bob = tabs("ann", "bob")
    serve(bob)
    ann.world.pass_time(3_000)
    ann.world.direct = False
    ann.world.cut(ann, link_of(ann, bob).number)
    ann.world.run()
    assert run(ann, bob).value == 42 and link_of(ann, bob).via == "relay"
    ann.world.direct = True
    ann.world.pass_time(120_000)
    assert link_of(ann, bob).via == "webrtc" and direct(bob) == [ann.did]


def test_where_no_channel_comes_about_the_attempts_grow_rare() -> None:
    world = World()
    world.direct = False
    _, ann, bob = tabs("ann", "bob", world=world)
    world.pass_time(3600_000)
    assert 6 <= len(ann.described) <= 14
    assert len(bob.described) <= len(ann.described)
    assert len(ann.abandoned) >= len(ann.described) - 1, "what did not open is let go"
    assert len(bob.abandoned) >= len(bob.described) - 1


def test_whoever_changes_a_description_on_the_way_is_found_out() -> None:
    """The two ends sign different names of the channel: the greeting fails, and no link comes of it."""

    class Changed(World):
        def establish(self, node: Node, effect: Any) -> None:
            peer, number = self.descriptions[effect.answer] if effect.answer else (None, 0)
            if peer is not None:  # as if the responder had been told of another certificate
                self.answering[peer, number] = "webrtc " + "00" * 32 + effect.channel[-65:]
            super().establish(node, effect)

    _, ann, bob = tabs("ann", "bob", world=Changed())
    ann.world.pass_time(3_000)
    assert len(ann.described) == 1 and direct(ann) == direct(bob) == []
    down = [note.detail for note in ann.notes if note.detail.get("via") == "webrtc"]
    assert down and down[0]["code"] == "hello" and "between the two" in str(down[0]["reason"])


def test_the_channel_is_named_by_both_certificates_in_order() -> None:
    one, two = (description.read(SDP.format(":".join([pair] * 32)), 1000) for pair in ("AB", "12"))
    assert description.channel(one, two) == "webrtc " + "ab" * 32 + " " + "12" * 32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "ASCII text"),
        ("", "ASCII text"),
        (SDP.format(PRINT) + "é", "ASCII text"),
        (SDP.format(PRINT) + "x" * 20_000, "ASCII text"),
        ("v=0\r\na=fingerprint:sha-256 " + PRINT, "one section"),
        (SDP.format(PRINT) + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", "one section"),
        (SDP.format(PRINT) + "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "one section"),
        ("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 111\r\na=fingerprint:sha-256 " + PRINT, "one section"),
        (SDP.format(PRINT).replace("a=fingerprint", "a=print"), "one certificate"),
        (SDP.format(PRINT) + "a=fingerprint:sha-256 " + PRINT.replace("A", "0"), "one certificate"),
        (SDP.format(PRINT) + "a=fingerprint:sha-1 AB:AB", "by SHA-256"),
        (SDP.format(PRINT[:-3]), "by SHA-256"),
        (SDP.format(PRINT + " x"), "by SHA-256"),
        (SDP.format(PRINT) + "a=x\ra=fingerprint:sha-256 " + PRINT, "CRLF"),
        (SDP.format(PRINT) + "a=x\x0bm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n", "CRLF"),
        (SDP.format(PRINT) + "a=x\x1ea=fingerprint:sha-256 " + PRINT.replace("A", "0"), "CRLF"),
        (SDP.format(PRINT) + "a=candidate:1\t1 udp 21 a.local 9 typ host\r\n", "CRLF"),
    ],
)
def test_what_is_no_description_of_one_channel_is_refused(text: object, says: str) -> None:
    with pytest.raises(RemoteError, match=says) as refused:
        description.read(text, 16_384)
    assert refused.value.code == "bad_args"


HOST = "a=candidate:1 1 UDP 2122 {} {} typ host\r\n"


@pytest.mark.parametrize(
    "line",
    [
        HOST.format("192.168.1.2", 50_000),
        HOST.format("fe80::1", 50_000),
        HOST.format("0f2c9a52-9c2a-4b8e-a1c3-2f4f8a4a7b11.local", 50_000),
        "a=candidate:1 1 tcp 1518 10.0.0.1 9 typ host tcptype active\r\n",
        "a=candidate:1 1 UDP 2122 203.0.113.9 50000 typ srflx raddr 0.0.0.0 rport 0\r\n",
    ],
)
def test_candidates_that_browsers_give(line: str) -> None:
    assert description.read(SDP.format(PRINT) + line * 32, 16_384).text.count("candidate") == 32


@pytest.mark.parametrize(
    "lines",
    [
        HOST.format("203.0.113.9", 50_000) * 33,
        HOST.format("victim.example", 50_000),
        HOST.format("x.victim.example.local", 50_000),
        HOST.format("239.255.255.250", 1900),
        HOST.format("255.255.255.255", 50_000),
        HOST.format("ff02::fb", 5353),
        HOST.format("203.0.113.9", 70_000),
        "a=candidate:1 1 UDP 2122 203.0.113.9\r\n",
        "a=candidate 1 1 UDP 2122 203.0.113.9 50000 typ host\r\n",
    ],
)
def test_candidates_that_would_have_us_knock_elsewhere(lines: str) -> None:
    """A browser sends packets to each: so they are few, no names, and none of many machines at once."""
    with pytest.raises(RemoteError, match="candidates") as refused:
        description.read(SDP.format(PRINT) + lines, 16_384)
    assert refused.value.code == "bad_args"


def test_offers_that_are_refused() -> None:
    world = World()
    world.direct = False
    hub, ann, bob = tabs("ann", "bob", world=world)
    ann.kernel.signalling.enabled = False  # it offers what the test says
    good = SDP.format(PRINT)
    for asks, to, args, op, code in (
        (ann, hub, (good,), "offer", "no_such_protocol"),
        (ann, bob, ("v=0",), "offer", "bad_args"),
        (ann, bob, (good, good), "offer", "bad_args"),
        (ann, bob, (good,), "bye", "bad_args"),
    ):
        with pytest.raises(RemoteError) as refused:
            ask(asks, to, *args, op=op)
        assert refused.value.code == code, (op, args)
    ann.kernel.signalling.enabled = True
    with pytest.raises(RemoteError, match="smaller one offers"):
        ask(bob, ann, good)
    ann.kernel.signalling.enabled = False
    assert bob.described == {}
    assert set(ask(ann, bob, good)) == {"answer"}
    with pytest.raises(RemoteError, match="just now"):  # one at a time
        ask(ann, bob, good)
    assert len(bob.described) == 1


def test_a_host_that_cannot_is_asked_again_later() -> None:
    world = World()
    ann, bob = tabs("ann", "bob", world=world)[1:]
    ann.failing[Describe] = Failure("unsupported", "No RTCPeerConnection.")
    world.pass_time(3_000)
    assert direct(ann) == [] and ann.kernel.signalling._making == {}
    del ann.failing[Describe]
    world.pass_time(60_000)
    assert direct(ann) == [bob.did]


def test_no_more_channels_than_it_can_bear() -> None:
    _, *found = tabs(*"abcd", limits=Limits(direct=1))
    found[0].world.pass_time(20_000)
    channels = [len(direct(node)) for node in found]
    assert max(channels) == 1 and sum(channels) >= 2
    assert all(len(node.kernel.signalling._making) <= 1 for node in found)


def test_a_node_that_makes_no_channels_is_not_asked_for_one() -> None:
    hub, ann, bob = tabs("ann", "bob")
    bob.kernel.signalling.enabled = False
    ann.world.pass_time(10 * 60_000)
    assert bob.described == {} and direct(ann) == []
    assert len(ann.described) <= 2, "a peer that does not speak it is left alone for long"
    assert hub.described == {}


def test_of_too_many_addresses_of_our_own_some_are_told() -> None:
    lines = "".join(HOST.format(f"10.0.0.{n}", 50_000) for n in range(40))
    mine = description.own(SDP.format(PRINT) + lines + HOST.format("odd%zone", 1) + "a=end\r\n", 16_384)
    assert mine.text.count("candidate") == 32 and mine.text.endswith("a=end\r\n") and "odd" not in mine.text
