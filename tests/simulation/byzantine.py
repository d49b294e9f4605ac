"""Hosts that do not keep to the protocol. Each behaves in one way; the way is its name.

They sign with their own key only: everything else is in their power.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.simulation.stand_ins import stand_in
from tests.simulation.world import Host, Wire, World

from promisegrid import cose, dagcbor, frames
from promisegrid.cid import Cid
from promisegrid.effects import Job, Outcome
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

_MAX: Final = 4 * 1024 * 1024


class Byzantine(Host):
    """A host with a sound kernel whose frames are changed on their way out."""

    def __init__(self, world: World, name: str, limits: Limits, way: str, is_tab: bool = False) -> None:
        self.way, self.is_mute = way, False
        super().__init__(world, name, limits, is_tab=is_tab)
        self.honest = False

    def send(self, link: int, frame: bytes) -> None:
        if self.is_mute:
            return
        wire = self.wires[link]
        for one in self._changed(frame):
            wire.send(self, one)
        if self.way == "flood":
            self.flood(wire)

    def _changed(self, raw: bytes) -> list[bytes]:
        random = self.world.random
        try:
            frame = frames.decode(raw, _MAX)
        except RemoteError:
            return [raw]
        match self.way, frame:
            case "wrong blocks", frames.BlockFrame(cid, bytes(data)):
                other = bytearray(data or b"x")
                other[random.randrange(len(other))] ^= 1 << random.randrange(8)
                return [frames.encode(frames.BlockFrame(cid, bytes(other)))]
            case "silence", frames.BlockFrame() | frames.Message() | frames.Refusal() | frames.Pong():
                return []
            case "silence", frames.Sought():
                return []
            case "eclipse", frames.BlockFrame(cid, _):
                return [frames.encode(frames.BlockFrame(cid, None))]
            case "eclipse", frames.Sought(number, _):  # everybody near is one of its own
                return [frames.encode(frames.Sought(number, self.own))]
            case "eclipse", frames.Near():
                minted = [[f"did:key:zMinted{random.randrange(99)}", True, "browser"] for _ in range(9)]
                return [frames.encode(frames.Near(dagcbor.encode(minted)))]
            case "forged receipts", frames.Message(message):
                at = random.randrange(len(message))
                forged = message[:at] + bytes([message[at] ^ 1 << random.randrange(8)]) + message[at + 1 :]
                return [frames.encode(frames.Message(forged)), raw]
            case "garbage", _ if random.random() < 0.2:
                cut = raw[: random.randrange(len(raw))]
                return [raw, random.choice((cut, random.randbytes(40), raw + b"\0", b""))]
            case "replay", frames.Message():
                return [raw] * 3
        return [raw]

    @property
    def own(self) -> bytes:
        """Its address, as it signs it: it listens where the first host does."""
        said = {
            "grid": self.kernel.grid or Cid.of(b"no grid"),
            "by": self.did,
            "urls": ["ws://host0.example:8420/grid"],
            "until": self.now_ms // 1000 + 3600,
        }
        protected, payload = cose.protected_header("grid-address"), dagcbor.encode(said)
        signature = stand_in(self.key, cose.to_be_signed(protected, payload))
        return cose.assemble(protected, payload, signature)

    def flood(self, wire: Wire) -> None:
        random = self.world.random
        if random.random() < 0.9:
            return
        for _ in range(random.choice((10, 200))):
            name = Cid.of(random.randbytes(8))
            seek = frames.Seek(random.randrange(1 << 20), random.randbytes(16), 8, self.did)
            frame = random.choice((frames.Want(name, 1), frames.BlockFrame(name, b""), seek))
            wire.send(self, frames.encode(frame))

    def outcome(self, job: Job) -> Outcome:
        """Who lies about results signs them."""
        truth = super().outcome(job)
        if self.way != "liar":
            return truth
        return replace(truth, values=stand_in(self.key, job.params)[:4] + bytes(4))


WAYS: Final = ("wrong blocks", "silence", "eclipse", "forged receipts", "garbage", "replay", "flood", "liar")
