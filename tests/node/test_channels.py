"""A node's data channels: frames in pieces, bounded; what is said of them. Real ones are met in e2e."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest
from tests.node.hosting import hosted, on_loop

from promisegrid import description
from promisegrid.effects import Abandon, Describe, Establish, Failure
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid_node import up


@on_loop
async def test_without_aiortc_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiortc", None)
    monkeypatch.delitem(sys.modules, "promisegrid_node.channels", raising=False)
    async with hosted() as node:
        with pytest.raises(LocalError, match=re.escape("pip install 'promisegrid[webrtc]'")):
            async with up._channelling(node.host, argparse.Namespace(webrtc=True), Limits()):
                raise AssertionError
        async with up._channelling(node.host, argparse.Namespace(webrtc=False), Limits()):
            assert not node.kernel.signalling.enabled
        assert isinstance(await node.host.channels.describe(Describe(1, None)), Failure)
        node.host.channels.told(Abandon(1))


pytest.importorskip("aiortc", reason="aiortc is not installed: pip install -r requirements-webrtc.txt")
channels = pytest.importorskip("promisegrid_node.channels")
AS = Establish(1, "responder", "webrtc a b", None)


class Channel:
    """A data channel as the library has it, with nobody at the other end."""

    def __init__(self) -> None:
        self.readyState, self.bufferedAmount, self.bufferedAmountLowThreshold = "connecting", 0, 0
        self.sent: list[bytes] = []
        self.heard: dict[str, Callable[..., None]] = {}
        self.takes = 2**40

    def on(self, event: str, heard: Callable[..., None]) -> None:
        self.heard[event] = heard

    def send(self, piece: bytes) -> None:
        assert self.readyState == "open"
        self.sent.append(piece)
        self.bufferedAmount += len(piece)

    def close(self) -> None:
        self.readyState = "closed"

    def opens(self) -> None:
        self.readyState = "open"
        self.heard["open"]()

    def drains(self) -> None:
        self.bufferedAmount = 0
        self.heard["bufferedamountlow"]()


class Listening:
    """The host's side of it."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.opened: list[tuple[str, str, str]] = []
        self.downs = 0

    def connect(self, transport: Any, role: str, channel: str, via: str) -> int:
        self.opened.append((role, channel, via))
        return 7

    def receive(self, link: int, frame: bytes) -> None:
        assert link == 7
        self.frames.append(frame)

    def disconnect(self, link: int) -> None:
        self.downs += 1


async def made(is_open: bool = True) -> tuple[Any, Channel, Listening, list[str]]:
    channel, host, ended = Channel(), Listening(), list[str]()
    piecewise = channels.Piecewise(channel, 200_000, host, lambda: ended.append("ended"))
    if is_open:
        piecewise.may_open(AS)
        channel.opens()
    return piecewise, channel, host, ended


@on_loop
async def test_frames_go_in_pieces_and_come_out_whole() -> None:
    piecewise, channel, host, _ = await made(is_open=False)
    frames = [b"", b"a", bytes(range(256)) * 600, b"z" * 65_535]
    for frame in frames:
        piecewise.send(frame)
    assert not channel.sent, "before it is open"
    piecewise.may_open(AS)
    channel.opens()
    channel.opens()
    assert host.opened == [("responder", "webrtc a b", "webrtc")]
    assert all(len(piece) <= 65_536 for piece in channel.sent)
    assert [piece[0] for piece in channel.sent] == [0, 0, 1, 1, 0, 0]
    for piece in channel.sent:
        channel.heard["message"](piece)
    assert host.frames == frames


@on_loop
async def test_a_channel_may_speak_before_it_says_that_it_is_open() -> None:
    piecewise, channel, host, _ = await made(is_open=False)
    piecewise.may_open(AS)
    channel.heard["message"](b"\0hello")
    channel.opens()
    assert (host.frames, len(host.opened)) == ([b"hello"], 1)


@pytest.mark.parametrize(
    "pieces",
    [
        [b""], ["text"], [b"\2x"], [b"\1"], [b"\1" + bytes(1023)],
        [b"\0" + bytes(65_536)], [b"\1" + bytes(60_000)] * 4,
        [b"\1x", b"\2"],
    ],
)  # fmt: skip
def test_a_piece_that_breaks_the_rules_ends_the_link_once(pieces: list[bytes | str]) -> None:
    async def run() -> None:
        _, channel, host, ended = await made()
        for piece in pieces:
            channel.heard["message"](piece)
        channel.heard["message"](b"\0more")
        channel.heard["close"]()
        await asyncio.sleep(0)
        assert (ended, host.downs, host.frames, channel.readyState) == (["ended"], 1, [], "closed")

    asyncio.run(run())


@on_loop
async def test_a_slow_peer_is_waited_for_and_then_cut_off() -> None:
    piecewise, channel, host, ended = await made()
    for _ in range(40):
        piecewise.send(bytes(65_535))
    assert channel.bufferedAmount < channels.HIGH_BYTES + channels.PIECE_BYTES
    assert not piecewise.room.is_set()
    for _ in range(3):
        channel.drains()
    assert piecewise.room.is_set()
    assert len(channel.sent) == 40
    for _ in range(channels.WAITING_BYTES // 65_535 + 40):
        piecewise.send(bytes(65_535))
    await asyncio.sleep(0)
    assert (ended, host.downs) == (["ended"], 1)
    assert piecewise.room.is_set(), "nobody waits for what is over"
    piecewise.send(b"more")


@on_loop
async def test_closing_lets_out_what_was_sent_before() -> None:
    piecewise, channel, host, ended = await made()
    for _ in range(20):
        piecewise.send(bytes(65_535))
    piecewise.close("closed", "The node is stopping.")
    piecewise.send(b"too late")
    assert not ended
    channel.drains()
    await asyncio.sleep(0)
    assert (ended, host.downs, len(channel.sent)) == (["ended"], 1, 20)


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of this machine are not gathered, nor spoken from: only loopback is there."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.mark.usefixtures("loopback")
@on_loop
async def test_two_hosts_make_a_channel_and_one_hears_of_the_others_end() -> None:
    ann, bob = Listening(), Listening()
    near, far = channels.DataChannels(ann, Limits()), channels.DataChannels(bob, Limits())
    offer = await near.describe(Describe(1, None))
    answer = await far.describe(Describe(9, offer))
    far.told(Establish(9, "responder", "webrtc a b", None))
    near.told(Establish(1, "initiator", "webrtc a b", answer))
    await until(lambda: ann.opened and bob.opened)
    assert (ann.opened[0][0], bob.opened[0][0]) == ("initiator", "responder")
    frame = bytes(range(256)) * 1_000
    near._made[1][1].send(frame)
    await until(lambda: bob.frames)
    far._made[9][1].send(b"back")
    await until(lambda: ann.frames)
    assert (bob.frames, ann.frames) == ([frame], [b"back"])
    near._made[1][1].close("closed", "")
    await until(lambda: ann.downs and bob.downs)
    assert not near._made and not far._made
    await near.close()
    await far.close()


async def until(seen: Callable[[], object]) -> None:
    """Wait for what the network brings."""
    while not seen():
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("loopback")
@on_loop
async def test_descriptions_are_ones_the_kernel_takes_and_nothing_else_is_read() -> None:
    """One certificate by one hash; a name hidden by a browser is not looked up; nonsense is a refusal."""
    async with hosted() as node:
        made_here = channels.DataChannels(node.host, Limits())
        offer = await made_here.describe(Describe(1, None))
        assert isinstance(offer, str)
        assert len(description.read(offer, Limits().description_bytes).fingerprint) == 64
        hidden = "a=candidate:1 1 udp 2113937151 0a7c1d2e-aaaa.local 54321 typ host generation 0\r\n"
        assert ".local" not in channels._readable(offer + hidden)
        assert "2113937151 127.0.0.1 9 typ host" in channels._readable(offer + hidden)
        assert ".local" not in channels._readable(offer + hidden.replace(" ", "  "))
        answer = await made_here.describe(Describe(2, offer + hidden))
        assert isinstance(answer, str)
        description.read(answer, Limits().description_bytes)
        for number, nonsense in enumerate(("v=0\r\nm=application 9 x\r\n", offer[:200], "m=x" * 2_000)):
            refused = await made_here.describe(Describe(3 + number, nonsense))
            assert isinstance(refused, Failure), nonsense
        made_here.told(Establish(1, "initiator", "webrtc a b", "nonsense"))
        made_here.told(Abandon(2))
        made_here.told(Abandon(99))
        await made_here.close()
