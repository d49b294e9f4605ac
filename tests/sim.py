"""A world of real kernels on a fake wire with a virtual clock. No sleeping, no threads, repeatable.

Each `Node` is a whole host in memory: store, key (real P-256, `p256.py`), and an engine that runs Python
functions registered under a code CID. The `World` carries frames, answers effects and moves time only when
nothing else is left to do.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from tests import edges, p256

from promisegrid import did, unixfs
from promisegrid.cid import Cid
from promisegrid.effects import (
    Abandon,
    Approach,
    Cancel,
    Close,
    Commit,
    Describe,
    Digest,
    Effect,
    Establish,
    Failure,
    Gateway,
    Job,
    Load,
    Notify,
    Outcome,
    Prepare,
    Providers,
    Read,
    Reply,
    Run,
    Save,
    Scan,
    Send,
    Sign,
    Verify,
)
from promisegrid.kernel import Kernel
from promisegrid.limits import Limits
from promisegrid.promisebase.memory import MemoryBase, Rows
from promisegrid.state import Identity
from promisegrid.wasm.module import ModuleInfo

START_MS = 1_795_000_000_000
Program = Callable[[Job], "Outcome | Failure | None"]
"""Runs a job; None leaves it running until it is cancelled."""


class Node:
    """One kernel and its host. `life`: how often it was started before; what is random differs."""

    def __init__(self, world: World, name: str, limits: Limits | None = None, life: int = 0) -> None:
        self.world, self.name, self.life = world, name, life
        self.limits = limits or Limits()
        self.secret = p256.secret_of(name)
        key = p256.public_key(self.secret)
        self.did = did.encode_p256(key)
        self.base = MemoryBase()
        self.programs: dict[bytes, tuple[ModuleInfo, Program]] = {}
        self.prepared: dict[Cid, tuple[ModuleInfo, Program]] = {}
        self.replies: dict[int, Reply] = {}
        self.notes: list[Notify] = []
        self.log: list[Effect] = []
        self.runs: list[Job] = []
        self.closed: list[Close] = []
        self.described: dict[int, str | None] = {}
        self.abandoned: list[int] = []
        self.failing: dict[type[Effect], Failure] = {}
        self.links: dict[int, tuple[Node, int]] = {}
        self.peer_drops = False
        self.crowded: list[int] | None = None
        """Of links without room: who waits for it; None while there is room."""
        self.next_ask = self.next_link = 1
        seed = hashlib.sha256(b"entropy of " + name.encode() + bytes(life)).digest()
        self.kernel = Kernel(Identity(self.did, key), seed, limits, engine="python")

    @property
    def tables(self) -> dict[str, Rows]:
        """What is stored."""
        return self.base.tables

    @tables.setter
    def tables(self, tables: dict[str, Rows]) -> None:
        self.base.tables = tables

    # -- the owner's side ------------------------------------------------------------------------------

    def start(self, verb: Coroutine[Any, Any, Any]) -> int:
        """Ask without waiting; the ask's number."""
        ask, self.next_ask = self.next_ask, self.next_ask + 1
        self.perform(self.kernel.ask(ask, verb, self.world.now_ms))
        return ask

    def end(self, ask: int) -> Any:
        """Let the world go on until that ask is over; its value, or its error raised."""
        self.world.run(lambda: ask in self.replies)
        reply = self.replies.pop(ask)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def do(self, verb: Coroutine[Any, Any, Any]) -> Any:
        """Ask and wait."""
        return self.end(self.start(verb))

    def put(self, data: bytes) -> Cid:
        """Store a file."""
        cid, blocks = unixfs.import_bytes(data)
        self.do(self.kernel.save(blocks))
        return cid

    def get(self, cid: Cid) -> bytes:
        """Read a file."""
        pieces, out = self.kernel.read(cid), []
        while (piece := self.do(self.kernel.piece(pieces))) is not None:
            out.append(piece)
        return b"".join(out)

    def peers(self) -> list[str]:
        """The names of the open peers."""
        names = {node.did: node.name for node in self.world.nodes}
        return [names[str(peer["did"])] for peer in self.kernel.peers()]

    # -- the host's side -------------------------------------------------------------------------------

    def perform(self, effects: list[tuple[int, Effect]]) -> None:
        """Do what the kernel asks; answers go through the world's queue, as on a real host."""
        for ticket, effect in effects:
            self.log.append(effect)
            failure = self.failing.get(type(effect))
            if failure is not None:
                self.answer(ticket, failure)
            elif isinstance(effect, Reply):
                self.replies[effect.ask] = effect
            elif isinstance(effect, Notify):
                self.notes.append(effect)
            elif isinstance(effect, Send):
                self.world.carry(self, effect)
                if ticket and self.crowded is not None:
                    self.crowded.append(ticket)
                elif ticket:
                    self.answer(ticket, None)
            elif isinstance(effect, Establish):
                self.world.establish(self, effect)
            elif isinstance(effect, Abandon):
                self.abandoned.append(effect.number)
            elif isinstance(effect, Close):
                self.closed.append(effect)
                self.world.cut(self, effect.link)
            elif isinstance(effect, Cancel):
                self.answer(effect.ticket, Failure("cancelled", "The call was cancelled."))
            else:
                self._answered(ticket, effect)

    def answer(self, ticket: int, value: object) -> None:
        """Answer an effect, later."""
        self.world.later(lambda: self.perform(self.kernel.answer(ticket, value, self.world.now_ms)))

    def _answered(self, ticket: int, effect: Effect) -> None:
        match effect:
            case Load() | Scan() | Read() | Save() | Commit():
                self.answer(ticket, self.base.answer(effect))
            case Sign(message):
                self.answer(ticket, p256.sign(self.secret, message))
            case Verify():
                self.answer(ticket, edges.pure(effect))
            case Digest(data):
                self.answer(ticket, hashlib.sha256(data).digest())
            case Approach(urls):
                self.answer(ticket, self.world.approach(self, urls))
            case Describe(number, offer):
                self.described[number] = offer
                self.answer(ticket, self.world.describe(self, number))
            case Gateway(url, cid):
                answer = self.world.gateways[url](cid)
                if answer is not ...:
                    self.answer(ticket, answer)
            case Providers(url, cid):
                answer = self.world.routers[url](cid)
                if answer is not ...:
                    self.answer(ticket, answer)
            case Prepare(code, data, _):
                self._prepare(ticket, code, data)
            case Run(job):
                self.runs.append(job)
                outcome = self.prepared[job.code][1](job)
                if outcome is not None:
                    self.answer(ticket, outcome)
            case _:
                raise AssertionError(f"an effect no host knows: {effect!r}")

    def _prepare(self, ticket: int, code: Cid, data: bytes | None) -> None:
        if data is not None and data not in self.world.programs:
            self.answer(ticket, Failure("not_wasm", "Not a WebAssembly module."))
            return
        if data is not None:
            self.prepared[code] = self.world.programs[data]
        self.answer(ticket, self.prepared[code][0] if code in self.prepared else None)


class World:
    """Nodes, the wires between them, and time."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.nodes: list[Node] = []
        self.programs: dict[bytes, tuple[ModuleInfo, Program]] = {}
        self.gateways: dict[str, Callable[[Cid], object]] = {}
        """By address: what a gateway answers about a CID; ... leaves it silent."""
        self.routers: dict[str, Callable[[Cid], object]] = {}
        """By address: the gateways that a router names for a CID, a Failure, or ..."""
        self.listening: dict[str, Node] = {}
        """By address: who answers there when a node chooses to dial it."""
        self.direct = True
        """Whether data channels come about."""
        self.descriptions: dict[str, tuple[Node, int]] = {}
        self.answering: dict[tuple[Node, int], str] = {}
        self._queue: deque[Callable[[], None]] = deque()

    def node(self, name: str, limits: Limits | None = None) -> Node:
        """A node that is in no grid yet."""
        node = Node(self, name, limits)
        self.nodes.append(node)
        node.do(node.kernel.owner.boot())
        return node

    def grid(self, *names: str, limits: Limits | None = None) -> list[Node]:
        """Nodes in one grid: the first founds it, the others join by invitation and are linked to it."""
        first, *others = [self.node(name, limits) for name in names]
        first.do(first.kernel.owner.found("test"))
        for other in others:
            self.link(other, first, first.do(first.kernel.owner.invite()))
        return [first, *others]

    def link(
        self,
        a: Node,
        b: Node,
        invite: bytes | None = None,
        channels: tuple[str, str] = ("b/grid",) * 2,
        via: str = "ws",
    ) -> None:
        """Connect two nodes, `a` as the initiator, and let the handshake run."""
        self.begin(a, b, invite, channels, via)
        self.run()

    def begin(
        self,
        a: Node,
        b: Node,
        invite: bytes | None = None,
        channels: tuple[str, str] = ("b/grid",) * 2,
        via: str = "ws",
    ) -> None:
        """Connect two nodes, and leave the handshake for later."""
        near, a.next_link = a.next_link, a.next_link + 1
        far, b.next_link = b.next_link, b.next_link + 1
        a.links[near], b.links[far] = (b, far), (a, near)
        a.perform(a.kernel.connect(near, "initiator", channels[0], via, self.now_ms, invite=invite))
        b.perform(b.kernel.connect(far, "responder", channels[1], via, self.now_ms))

    def approach(self, node: Node, urls: tuple[str, ...]) -> object:
        """Dial the first address at which somebody listens; the number of the link."""
        peer = next((self.listening[url] for url in urls if url in self.listening), None)
        if peer is None:
            return Failure("closed", "Nobody answers at these addresses.")
        number = node.next_link
        self.begin(node, peer)
        return number

    def carry(self, node: Node, send: Send) -> None:
        """A frame on its way."""
        if send.link not in node.links or node.peer_drops:
            return
        peer, far = node.links[send.link]
        self.later(lambda: peer.perform(peer.kernel.receive(far, send.frame, self.now_ms)))

    def cut(self, node: Node, link: int) -> None:
        """A connection ends, on both sides."""
        peer = node.links.pop(link, None)
        if peer is not None:
            other, far = peer
            self.later(lambda: node.perform(node.kernel.disconnect(link, self.now_ms)))
            self.later(lambda: self.cut(other, far))

    def describe(self, node: Node, number: int) -> object:
        """A session description, with a certificate of its own."""
        print_ = hashlib.sha256(f"{node.name} {node.life} {number}".encode()).hexdigest()
        pairs = ":".join(print_[at : at + 2] for at in range(0, 64, 2))
        text = f"v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=fingerprint:sha-256 {pairs}\r\n"
        self.descriptions[text] = node, number
        return text

    def establish(self, node: Node, effect: Establish) -> None:
        """Two sides that have each other's description are connected, if the network lets them."""
        if effect.answer is None:
            self.answering[node, effect.number] = effect.channel
            return
        peer, number = self.descriptions[effect.answer]
        channel = self.answering.pop((peer, number), None)
        if self.direct and channel is not None:
            self.later(lambda: self.link(node, peer, channels=(effect.channel, channel), via="webrtc"))

    def later(self, step: Callable[[], None]) -> None:
        """Do something after what is already waiting."""
        self._queue.append(step)

    def step(self) -> None:
        """Do the next thing that waits, if any does."""
        if self._queue:
            self._queue.popleft()()

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Go on until nothing is left to do or `until` holds; time moves only for `until`."""
        while True:
            while self._queue:
                self._queue.popleft()()
            if until is None or until():
                return
            due = self._next_timer()
            assert due is not None, "nothing is left to do and nobody waits for time: the ask will never end"
            self.now_ms = max(self.now_ms, due)
            self.tick()

    def pass_time(self, ms: int) -> None:
        """Let time pass, every timer in between at its moment."""
        end = self.now_ms + ms
        self.run()
        while (due := self._next_timer()) is not None and due <= end:
            self.now_ms = max(self.now_ms, due)
            self.tick()
            self.run()
        self.now_ms = end

    def tick(self) -> None:
        """Every node looks at the clock."""
        for node in self.nodes:
            node.perform(node.kernel.tick(self.now_ms))

    def _next_timer(self) -> int | None:
        due = [timer for node in self.nodes if (timer := node.kernel.next_timer()) is not None]
        return min(due, default=None)
