"""Time, wires and hosts. One seed, one course of events, to the last byte.

A `Host` lives around one real kernel: its disk keeps what a commit promised and loses of the rest what it
likes, its clock is wrong, it is killed and started again. A `Wire` between two hosts delays frames and, where
the seed says so, loses, doubles and swaps them, or falls silent. Signatures are stand-ins that only their
key's owner is let make, a thousand times quicker than the curve.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.simulation.stand_ins import key_of, stand_in, worked

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
    Job,
    Load,
    Notify,
    Outcome,
    Prepare,
    Read,
    Reply,
    Run,
    Save,
    Scan,
    Send,
    Sign,
    Verify,
    Write,
)
from promisegrid.errors import LocalError, RemoteError
from promisegrid.kernel import Kernel
from promisegrid.limits import Limits
from promisegrid.promisebase.memory import MemoryBase
from promisegrid.state import Identity
from promisegrid.wasm.layout import FuncType
from promisegrid.wasm.module import ModuleInfo

START_MS: Final = 1_795_000_000_000
ENGINES: Final = ("simulated", "browser")
INFO: Final = ModuleInfo((), {"work": FuncType(("i32",), ("i32",))}, None, False, False)


class Broken(AssertionError):
    """An invariant does not hold."""


_Event = tuple[int, int, Callable[[], None]]
"""When, in which order it was set, what happens."""


@dataclass
class Weather:
    """How a wire behaves: delays in milliseconds, the rest as chances per frame."""

    delay: tuple[int, int] = (1, 40)
    lost: float = 0.0
    doubled: float = 0.0
    swapped: float = 0.0


class World:
    """The clock and all that is in it."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now_ms = START_MS
        self.hosts: list[Host] = []
        self.codes: dict[Cid, bytes] = {}
        self.parted: set[frozenset[str]] = set()
        self.steps = 0
        self.trace = hashlib.sha256()
        """Of all that arrived anywhere: two courses are the same when this is."""
        self.after_step: Callable[[Host], None] = lambda host: None
        self.began: Callable[[Host], None] = lambda host: None
        """Called when a host was started."""
        self.meet: Callable[[Host, int, Effect], None] = lambda host, ticket, effect: None
        """What answers the effects of a kernel that wants a link."""
        self._events: list[_Event] = []

    def later(self, wait_ms: int, act: Callable[[], None]) -> None:
        """Do something after a while."""
        self.steps += 1
        heapq.heappush(self._events, (self.now_ms + wait_ms, self.steps, act))

    def run(self, until_ms: int, enough: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until then, every event at its moment; or until it is enough."""
        while self._events and self._events[0][0] <= until_ms:
            if enough():
                return
            at_ms, _, act = heapq.heappop(self._events)
            self.now_ms = max(self.now_ms, at_ms)
            act()
        self.now_ms = until_ms

    def wire(self, a: Host, b: Host, weather: Weather, channel: str) -> Wire:
        """Connect two hosts; `a` dialled."""
        return Wire(self, a, b, weather, channel)

    def is_parted(self, a: Host, b: Host) -> bool:
        """Whether nothing gets through between two hosts."""
        return frozenset((a.name, b.name)) in self.parted


class Wire:
    """A connection, from dial to cut. Frames of one direction keep their order, unless they are swapped."""

    def __init__(self, world: World, a: Host, b: Host, weather: Weather, channel: str) -> None:
        self.world, self.ends, self.weather, self.channel = world, (a, b), weather, channel
        self.numbers = (a.take_link(self), b.take_link(self))
        self._due = [world.now_ms, world.now_ms]
        self.is_cut = False

    def other(self, host: Host) -> Host:
        """The host at the other end."""
        return self.ends[1 - self.ends.index(host)]

    def send(self, host: Host, frame: bytes) -> None:
        """A frame sets out from that end, and may arrive."""
        side, random, weather = self.ends.index(host), self.world.random, self.weather
        if self.is_cut or random.random() < weather.lost:
            return
        for _ in range(1 + (random.random() < weather.doubled)):
            due = self.world.now_ms + random.randint(*weather.delay)
            if random.random() >= weather.swapped:
                due = self._due[side] = max(due, self._due[side])
            self.world.later(due - self.world.now_ms, lambda: self._arrive(side, frame))

    def _arrive(self, side: int, frame: bytes) -> None:
        to = self.ends[1 - side]
        self.world.trace.update(frame)
        if not self.is_cut and not self.world.is_parted(*self.ends):
            to.enter(lambda: to.kernel.receive(self.numbers[1 - side], frame, to.now_ms))

    def cut(self) -> None:
        """The connection ends; both sides hear of it, a little later."""
        if self.is_cut:
            return
        self.is_cut = True
        for host, number in zip(self.ends, self.numbers, strict=True):
            host.wires.pop(number, None)
            life = host.life

            def down(host: Host = host, number: int = number, life: int = life) -> None:
                if host.life == life:
                    host.enter(lambda: host.kernel.disconnect(number, host.now_ms))

            self.world.later(self.world.random.randint(0, 50), down)


class Host:
    """One machine: a kernel, a disk, a clock, and an owner who asks for things."""

    def __init__(
        self,
        world: World,
        name: str,
        limits: Limits,
        skew_ms: int = 0,
        claims_to_be: str | None = None,
        is_tab: bool = False,
    ) -> None:
        self.world, self.name, self.limits, self.skew_ms, self.is_tab = world, name, limits, skew_ms, is_tab
        self.key = key_of(name)
        self.did = did.encode_p256(key_of(claims_to_be or name))
        self.disk, self.base = MemoryBase(), MemoryBase()
        self.life = 0
        self.is_up = False
        self.replies: dict[int, Callable[[Reply], None]] = {}
        self.wires: dict[int, Wire] = {}
        self.runs: dict[int, Cid] = {}
        self.honest = claims_to_be is None
        world.hosts.append(self)
        self.boot()

    @property
    def now_ms(self) -> int:
        """What its clock shows."""
        return self.world.now_ms + self.skew_ms

    # -- life ------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start: with what the disk has, a fresh kernel, and nothing in memory."""
        self.life += 1
        self.is_up = True
        self.base = MemoryBase()
        for table, rows in self.disk.tables.items():
            for key, value in rows.items():
                self.base.tables[table][key] = value
        self._next_link = self.next_ask = 1
        self.handed = [0, 0]
        """Frames, and bytes, that the kernel of this life gave to be sent."""
        self._timer_at: int | None = None
        self._store_free_ms = self.world.now_ms
        self._unsynced: list[tuple[Write, ...]] = []
        seed = hashlib.sha256(f"{self.name} {self.life} {self.world.random.random()}".encode()).digest()
        self.kernel = Kernel(Identity(self.did, self.key), seed, self.limits, engine=ENGINES[self.is_tab])
        self.ask(self.kernel.owner.boot(), lambda reply: None)
        self.world.began(self)

    def crash(self, with_disk: bool = True) -> None:
        """The power goes. Of what was not synced the disk has the beginning, as long as it likes."""
        random = self.world.random
        for writes in self._unsynced[: random.randint(0, len(self._unsynced))] if with_disk else ():
            self.disk.answer(Save(writes))
        if not with_disk:
            self.disk = MemoryBase()
        self.is_up = False
        for wire in list(self.wires.values()):
            wire.cut()
        self.wires.clear()
        self.replies.clear()
        self.runs.clear()

    # -- the owner's side ------------------------------------------------------------------------------

    def ask(self, verb: Coroutine[Any, Any, Any], then: Callable[[Reply], None]) -> int:
        """Ask the kernel; `then` hears how it ended, unless the host crashes before."""
        ask, self.next_ask = self.next_ask, self.next_ask + 1
        self.replies[ask] = then
        self.enter(lambda: self.kernel.ask(ask, verb, self.now_ms))
        return ask

    def put(self, data: bytes, then: Callable[[Reply], None]) -> Cid:
        """Store a file, durably."""
        cid, blocks = unixfs.import_bytes(data)
        self.ask(self.kernel.base.save(blocks), then)
        return cid

    async def read(self, cid: Cid) -> bytes:
        """A whole file, as a verb."""
        pieces, out = self.kernel.read(cid), []
        while (piece := await self.kernel.piece(pieces)) is not None:
            out.append(piece)
        return b"".join(out)

    # -- the host's side -------------------------------------------------------------------------------

    def take_link(self, wire: Wire) -> int:
        """A number for a new link."""
        number, self._next_link = self._next_link, self._next_link + 1
        self.wires[number] = wire
        return number

    def enter(self, entry: Callable[[], list[tuple[int, Effect]]]) -> None:
        """Call the kernel and do what it asks."""
        if not self.is_up:
            return
        for ticket, effect in entry():
            self._perform(ticket, effect)
        self._set_timer()
        self.world.after_step(self)

    def _set_timer(self) -> None:
        due = self.kernel.next_timer()
        if due is None or due == self._timer_at:
            return
        self._timer_at, life = due, self.life

        def tick() -> None:
            if self.life == life and self.is_up and self._timer_at == due:
                self._timer_at = None
                self.enter(lambda: self.kernel.tick(self.now_ms))

        self.world.later(max(0, due - self.now_ms), tick)

    def answer(self, ticket: int, value: object, wait_ms: int = 0) -> None:
        """Answer an effect after a while, if this life lasts so long."""
        life = self.life

        def act() -> None:
            if self.life == life:
                self.enter(lambda: self.kernel.answer(ticket, value, self.now_ms))

        self.world.later(wait_ms, act)

    def _perform(self, ticket: int, effect: Effect) -> None:
        match effect:
            case Send(link, frame):  # a Push is one too, and wants its answer
                self.handed[0] += 1
                self.handed[1] += len(frame)
                if link in self.wires:
                    self.send(link, frame)
                if ticket:
                    self.answer(ticket, None)
            case Close(link, _, _):
                if link in self.wires:
                    self.wires[link].cut()
            case Notify():
                pass
            case Reply(ask):
                self.replied(effect, self.replies.pop(ask))
            case Cancel(running):
                if self.runs.pop(running, None) is not None:
                    self.answer(running, Failure("cancelled", "The call was cancelled."))
            case Load() | Scan() | Read() | Save() | Commit():
                self._store(ticket, effect)
            case Sign(message):
                self.answer(ticket, stand_in(self.key, message))
            case Verify(_, key, message, signature):
                self.answer(ticket, signature == stand_in(key, message))
            case Digest(data):
                self.answer(ticket, hashlib.sha256(data).digest())
            case Prepare(code, data, _):
                known = code in self.world.codes and (data is not None or code in self._prepared())
                self.answer(ticket, INFO if known else None, 5)
            case Run(job):
                self._run(ticket, job)
            case Approach() | Describe() | Establish() | Abandon():
                self.world.meet(self, ticket, effect)
            case _:
                self.answer(ticket, None)

    def replied(self, reply: Reply, then: Callable[[Reply], None]) -> None:
        """An ask is over: with a value or an error that has a code; anything else is a fault of ours."""
        if reply.error is not None and not isinstance(reply.error, RemoteError | LocalError):
            raise Broken(f"{self.name}: an ask ended with {reply.error!r}")
        then(reply)

    def send(self, link: int, frame: bytes) -> None:
        """A frame leaves."""
        self.wires[link].send(self, frame)

    def _prepared(self) -> set[Cid]:
        return {Cid.decode(key) for key in self.base.tables["blocks"] if Cid.decode(key) in self.world.codes}

    def _store(self, ticket: int, effect: Load | Scan | Read | Save | Commit) -> None:
        """In order, each at its time; a commit syncs what was saved before it."""
        cost = self.world.random.randint(1, 6) if isinstance(effect, Commit) else 0
        self._store_free_ms = max(self._store_free_ms, self.world.now_ms) + cost
        life = self.life

        def act() -> None:
            if self.life != life or not self.is_up:
                return
            value = self.base.answer(effect)
            if isinstance(effect, Save):
                self._unsynced.append(effect.writes)
            elif isinstance(effect, Commit) and value is None:
                for writes in (*self._unsynced, effect.writes):
                    self.disk.answer(Save(writes))
                self._unsynced.clear()
            if isinstance(effect, Save | Commit):
                self.wrote(effect)
            self.answer(ticket, value)

        self.world.later(self._store_free_ms - self.world.now_ms, act)

    def wrote(self, effect: Save | Commit) -> None:
        """What is stored as a block is one."""
        for write in effect.writes:
            if write.table != "blocks" or write.value is None:
                continue
            if not (cid := Cid.decode(write.key)).holds(write.value):
                raise Broken(f"{self.name} stored bytes that are not the block {cid}")

    def _run(self, ticket: int, job: Job) -> None:
        self.runs[ticket] = job.code
        life = self.life

        def done() -> None:
            if self.life == life and self.runs.pop(ticket, None) is not None:
                self.enter(lambda: self.kernel.answer(ticket, self.outcome(job), self.now_ms))

        self.world.later(self.world.random.choice((1, 20, 400, 4000)), done)

    def outcome(self, job: Job) -> Outcome:
        """What the engine makes of a job."""
        number = worked(job.code, int.from_bytes(job.params[:4], "little"))
        return Outcome(number.to_bytes(8, "little"), b"", 7, 65_536)
