"""Who can be dialled, and who only makes channels: how the hosts of a world come by their connections.

A host listens at an address, or is a tab: then nobody dials it, and it makes data channels to other tabs.
Dials and channels take a while, and come to nothing when the two are parted or one of them is down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tests.simulation.world import Host, Weather, Wire, World

from promisegrid.effects import Abandon, Approach, Describe, Effect, Establish, Failure


@dataclass(frozen=True)
class _End:
    """One side of a data channel that is being made."""

    host: Host
    life: int
    number: int


class Network:
    """The wires of one world."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.world, self.weather = world, weather
        self._described: dict[str, _End] = {}
        self._answering: dict[tuple[str, int, int], str] = {}
        world.began, world.meet = self.began, self.meet

    def began(self, host: Host) -> None:
        """A host was started: it takes part in the overlay, each in its way."""

        async def use() -> None:
            host.kernel.signalling.enabled = host.is_tab
            host.kernel.overlay.use(() if host.is_tab else (url(host),), dials=not host.is_tab)

        host.ask(use(), lambda reply: None)

    def dial(self, a: Host, b: Host, invite: bytes | None = None) -> int | None:
        """Connect two hosts; the number of the link at the first. None when nobody answers there."""
        if not a.is_up or not b.is_up or b.is_tab or self.world.is_parted(a, b):
            return None
        wire = Wire(self.world, a, b, self.weather, "sim/grid")
        near, far = wire.numbers
        a.enter(lambda: a.kernel.connect(near, "initiator", wire.channel, "ws", a.now_ms, invite=invite))
        b.enter(lambda: b.kernel.connect(far, "responder", wire.channel, "ws", b.now_ms))
        return near

    def meet(self, host: Host, ticket: int, effect: Effect) -> None:
        """Do what a kernel asks for to have a link."""
        wait_ms = self.world.random.randint(1, 300)
        if isinstance(effect, Describe):
            host.answer(ticket, self._describe(host, effect.number), wait_ms)
        elif isinstance(effect, Approach):
            self._later(host, wait_ms, lambda: self._approach(host, ticket, effect))
        elif isinstance(effect, Establish):
            self._establish(host, effect, wait_ms)
        else:
            assert isinstance(effect, Abandon)

    def _later(self, host: Host, wait_ms: int, act: object) -> None:
        life = host.life

        def then() -> None:
            if host.is_up and host.life == life and callable(act):
                act()

        self.world.later(wait_ms, then)

    def _approach(self, host: Host, ticket: int, effect: Approach) -> None:
        found = [other for other in self.world.hosts if other is not host and url(other) in effect.urls]
        link = self.dial(host, found[0]) if found else None
        answer = Failure("closed", "Nobody answers there.") if link is None else link
        host.enter(lambda: host.kernel.answer(ticket, answer, host.now_ms))

    def _describe(self, host: Host, number: int) -> str:
        digest = hashlib.sha256(f"{host.name} {host.life} {number}".encode()).hexdigest()
        pairs = ":".join(digest[at : at + 2] for at in range(0, 64, 2))
        text = f"v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fingerprint:sha-256 {pairs}\r\n"
        self._described[text] = _End(host, host.life, number)
        return text

    def _establish(self, host: Host, effect: Establish, wait_ms: int) -> None:
        if effect.answer is None:
            self._answering[host.name, host.life, effect.number] = effect.channel
            return
        far = self._described.get(effect.answer)
        if far is None or self.world.random.random() < 0.2:  # made up by a liar; or no way through
            return
        channel = self._answering.pop((far.host.name, far.life, far.number), None)
        life = host.life

        def opened() -> None:
            other = far.host
            up = host.is_up and other.is_up and (host.life, other.life) == (life, far.life)
            if channel is None or not up or self.world.is_parted(host, other):
                return
            wire = Wire(self.world, host, other, self.weather, effect.channel)
            near, there = wire.numbers
            host.enter(lambda: host.kernel.connect(near, "initiator", effect.channel, "webrtc", host.now_ms))
            other.enter(lambda: other.kernel.connect(there, "responder", channel, "webrtc", other.now_ms))

        self.world.later(wait_ms, opened)


def url(host: Host) -> str:
    """Where a host listens."""
    return f"ws://{host.name}.example:8420/grid"
