"""One seed's life: hosts found, join, store, fetch, run, promise, crash and come back; and what must hold.

Invariants, after every step of a host (and some at the end, when the weather has cleared):

- what is stored under a CID hashes to it; whoever is not a member gets nothing, and nor does an impostor;
- an answered task tells the truth, unless whoever was asked to run it lied, and his name is on it;
- a promise of n uses is used n times at most, crashes included;
- what was acknowledged as durable is there after a crash with the disk;
- every ask ends, with a value or a coded refusal, within its bound of virtual time;
- links, strands and timers stay within their limits; nobody has a link to whom it has banned; what goes over
  links is counted, each frame once;
- at the end every host that still has its store is linked again, any two honest ones reach each other, and
  content is found at its neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from tests.simulation import decisions, ending
from tests.simulation.byzantine import WAYS, Byzantine
from tests.simulation.network import Network
from tests.simulation.stand_ins import worked
from tests.simulation.world import Broken, Host, Weather, World

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Reply
from promisegrid.limits import Limits
from promisegrid.promisebase.memory import MemoryBase
from promisegrid.promisebase.streams import Head
from promisegrid.task import Task

MINUTE_MS: Final = 60_000
ASK_MS: Final = 20 * MINUTE_MS
UNITS: Final = ("frames", "bytes")
LIMITS: Final = Limits(links=32, call_ms=2 * MINUTE_MS, run_ms=10_000)


@dataclass
class Course:
    """What a seed decides about its world."""

    hosts: int
    byzantine: tuple[str, ...]
    weather: Weather
    minutes: int
    skewed: bool


class Life:
    """One world, from founding to the end."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.seed = seed
        random = self.world.random
        rough = random.random() < 0.4
        self.course = Course(
            hosts=random.randint(3, 6),
            byzantine=tuple(random.sample(WAYS, random.choice((0, 0, 1, 2)))),
            weather=Weather((1, random.choice((5, 80, 600))), *(rough / 50 * random.random() for _ in "123")),
            minutes=random.randint(2, 4),
            skewed=random.random() < 0.3,
        )
        self.stored: dict[Cid, tuple[Host, bytes]] = {}
        self.pending: dict[tuple[str, int, int], int] = {}
        self.used: Counter[str] = Counter()
        self.promised: Counter[str] = Counter()
        self.moved: list[tuple[Host, MemoryBase, Cid]] = []
        self.done: Counter[str] = Counter()
        self.codes = [self._code(n) for n in range(3)]
        self.world.after_step = self._check
        self.network = Network(self.world, self.course.weather)
        self.founder = self._host("host0")

    # -- setting up --------------------------------------------------------------------------------------

    def _code(self, n: int) -> Cid:
        code = Cid.of(b"program %d" % n)
        self.world.codes[code] = b"program %d" % n
        return code

    def _host(self, name: str, way: str | None = None) -> Host:
        random = self.world.random
        is_tab = name != "host0" and random.random() < 0.3
        if way is not None:
            return Byzantine(self.world, name, LIMITS, way, is_tab)
        skew_ms = random.randint(-20_000, 20_000) if self.course.skewed else 0
        return Host(self.world, name, LIMITS, skew_ms, is_tab=is_tab)

    def populate(self) -> None:
        """Found the grid; the others join, each at its time, and whoever is not invited only tries."""
        founder = self.founder
        founder.ask(founder.kernel.owner.found("simulated"), ending.expect("found"))
        self.world.run(self.world.now_ms + 500)
        for code in self.codes:
            founder.put(self.world.codes[code], ending.expect("put"))
        for n in range(1, self.course.hosts):
            self._join(self._host(f"host{n}"))
        for n, way in enumerate(self.course.byzantine):
            self._join(self._host(f"byzantine{n}", way))
        guise = self.world.random.choice((None, "host1"))
        self.outsider = Host(self.world, "outsider", LIMITS, claims_to_be=guise)
        self.outsider.honest = False
        self.network.dial(self.outsider, founder)

    def _join(self, host: Host) -> None:
        """Invite a host and keep it connected, to the founder and to another."""

        def invited(reply: Reply) -> None:
            if reply.error is None:
                assert isinstance(reply.value, bytes)
                self.network.dial(host, self.founder, reply.value)

        self.founder.ask(self.founder.kernel.owner.invite(), invited)
        others = [other for other in self.world.hosts if other not in (host, self.founder)]
        if others:
            other = self.world.random.choice(others)
            self.world.later(MINUTE_MS // 2, lambda: self._keep_dialled(host, other))
        self.world.later(MINUTE_MS // 3, lambda: self._keep_dialled(host, self.founder))
        self.world.later(MINUTE_MS // 3, lambda: self._serve(host))

    def _serve(self, host: Host) -> None:
        if host.is_up:
            host.ask(host.kernel.owner.set_serving(2, 64 * 1024 * 1024), lambda reply: None)

    def _keep_dialled(self, host: Host, to: Host) -> None:
        joined = {wire.other(host) for wire in host.wires.values()}
        if host.is_up and to not in joined:
            if host.kernel.grid is None and to is self.founder and to.is_up:
                to.ask(to.kernel.owner.invite(), lambda reply: self._invited(host, to, reply))
            else:
                self.network.dial(host, to)
        self.world.later(self.world.random.randint(2_000, 8_000), lambda: self._keep_dialled(host, to))

    def _invited(self, host: Host, to: Host, reply: Reply) -> None:
        if reply.error is None:
            assert isinstance(reply.value, bytes)
            self.network.dial(host, to, reply.value)

    # -- what happens ------------------------------------------------------------------------------------

    def live(self) -> None:
        """Let owners and fate do things, for some minutes; then let the weather clear, and look."""
        self.populate()
        end = self.world.now_ms + self.course.minutes * MINUTE_MS
        doings: list[Callable[[], None]] = [
            self._put, self._put, self._get, self._get, self._run, self._run, self._run_verified, self._move,
            self._promise, self._collect, self._crash, self._part, self._cancel, self._ban, self._set_clock,
            partial(decisions.trust, self),
        ]  # fmt: skip
        while self.world.now_ms < end:
            self.world.run(self.world.now_ms + self.world.random.randint(50, 4_000))
            self.world.random.choice(doings)()
        self._clear()
        self._look()

    def _someone(self) -> Host | None:
        up = [host for host in self.world.hosts if host.is_up and host.honest]
        return self.world.random.choice(up) if up else None

    def _asked(
        self, host: Host, what: str, verb: Coroutine[Any, Any, Any], then: Callable[[Reply], None]
    ) -> None:
        """Ask, and note until when it has to be over."""
        life = host.life

        def over(reply: Reply) -> None:
            self.pending.pop((host.name, life, ask), None)
            code = getattr(reply.error, "code", "fine")
            self.done[f"{what}: {code}"] += 1
            then(reply)

        ask = host.next_ask
        self.pending[host.name, life, ask] = self.world.now_ms + ASK_MS
        host.ask(verb, over)

    def _put(self) -> None:
        host = self._someone()
        if host is None:
            return
        data = self.world.random.randbytes(self.world.random.choice((0, 1, 300, 70_000)))
        disk = host.disk

        def pinned(reply: Reply) -> None:
            if reply.error is None and host.disk is disk:
                self.stored[cid] = (host, data)

        def put(reply: Reply) -> None:
            if reply.error is None:
                self._asked(host, "pin", host.kernel.base.pin(cid, "file"), pinned)

        cid = host.put(data, put)

    def _get(self) -> None:
        host = self._someone()
        if host is None or not self.stored:
            return
        cid, (_, data) = self.world.random.choice(list(self.stored.items()))

        def got(reply: Reply) -> None:
            if reply.error is None and reply.value != data:
                raise Broken(f"{host.name} read other bytes than were stored under {cid}")

        self._asked(host, "get", host.read(cid), got)
        self._asked(self.outsider, "outsider", self.outsider.read(cid), lambda reply: None)

    def _run(self) -> None:
        host = self._someone()
        if host is None:
            return
        random = self.world.random
        code, number = random.choice(self.codes), random.randrange(6)
        on = random.choice([None, *(other.did for other in self.world.hosts if other is not host)])
        task = Task(code, "work", (number,))
        self._asked(host, "run", host.kernel.run(task, Budget(), on=on), partial(self._told, task))

    def _told(self, task: Task, reply: Reply) -> None:
        """An answered task tells the truth, or names the liar."""
        if reply.error is not None:
            return
        value, number = getattr(reply.value, "value", None), task.args[0]
        assert isinstance(value, int) and isinstance(number, int)
        by = next(host for host in self.world.hosts if host.did == getattr(reply.value, "by", ""))
        lied = isinstance(by, Byzantine) and by.way == "liar"
        if value & 0xFFFFFFFF != worked(task.code, number) and not lied:
            raise Broken(f"{by.name} answered {value} for work({number}) of {task.code}")

    def _run_verified(self) -> None:
        host = self._someone()
        if host is None:
            return
        task = Task(self.world.random.choice(self.codes), "work", (self.world.random.randrange(6),))

        def verified(reply: Reply) -> None:
            done = getattr(reply.value, "done", None)
            if done is not None:
                self._told(task, Reply(0, done))

        self._asked(host, "verify", host.kernel.run_verified(task, Budget(), 2), verified)

    def _move(self) -> None:
        host = self._someone()
        mine = [cid for cid, (owner, _) in self.stored.items() if owner is host]
        if host is None or not mine:
            return
        disk = host.disk

        def moved(reply: Reply) -> None:
            if reply.error is None and host.disk is disk:
                assert isinstance(reply.value, Head)
                self.moved.append((host, disk, reply.value.cid))

        self._asked(host, "move", host.kernel.base.move("log", self.world.random.choice(mine)), moved)

    def _promise(self) -> None:
        """The founder serves nobody, but promises somebody two calls; who tries more often gets no more."""
        host, founder = self._someone(), self.founder
        if host is None or host is founder or not founder.is_up:
            return
        code = self.codes[0]

        self.promised[host.did] += 2
        verb = founder.kernel.promises.grant(host.did, {"code": code}, uses=2)
        self._asked(founder, "grant", verb, lambda reply: None)
        for _ in range(4):
            task = Task(code, "work", (self.world.random.randrange(1_000, 1_000_000),))
            self.world.later(self.world.random.randint(0, 20_000), partial(self._use, host, host.life, task))

    def _use(self, host: Host, life: int, task: Task) -> None:
        if not host.is_up or host.life != life:
            return

        def used(reply: Reply) -> None:
            self._told(task, reply)
            if reply.error is None and getattr(reply.value, "by", "") == self.founder.did:
                self.used[host.did] += 1

        self._asked(host, "use", host.kernel.run(task, Budget(), on=self.founder.did), used)

    def _collect(self) -> None:
        host = self._someone()
        if host is not None:
            self._asked(host, "collect", host.kernel.base.collect(), lambda reply: None)

    def _cancel(self) -> None:
        host = self._someone()
        if host is not None and host.replies:
            ask = self.world.random.choice(list(host.replies))
            host.enter(lambda: host.kernel.cancel(ask, host.now_ms))

    def _crash(self) -> None:
        """The power goes at somebody's; now and then the disk with it, but for the founder's."""
        host = self._someone()
        if host is None:
            return
        with_disk = host is self.founder or self.world.random.random() < 0.8
        if not with_disk:
            self.stored = {cid: kept for cid, kept in self.stored.items() if kept[0] is not host}
        self.done["crash"] += 1
        host.crash(with_disk)
        for key in [key for key in self.pending if key[0] == host.name]:
            del self.pending[key]
        self.world.later(self.world.random.randint(100, 30_000), lambda: self._back(host))

    def _back(self, host: Host) -> None:
        if not host.is_up:
            host.boot()
            self._check_disk(host)

    def _part(self) -> None:
        """Part two hosts for a while: frames vanish, and nobody is told."""
        pair = frozenset(host.name for host in self.world.random.sample(self.world.hosts, 2))
        self.world.parted.add(pair)
        self.world.later(self.world.random.randint(1_000, 90_000), lambda: self.world.parted.discard(pair))

    def _ban(self) -> None:
        """Somebody will have nothing to do with another for a while."""
        host = self._someone()
        other = self.world.random.choice(self.world.hosts)
        if host is None or other in (host, self.founder) or host is self.founder:
            return
        life = host.life

        def over() -> None:
            if host.is_up and host.life == life:
                host.ask(host.kernel.bans.unban(other.did), lambda reply: None)

        self._asked(host, "ban", host.kernel.bans.ban(other.did), lambda reply: None)
        self.world.later(self.world.random.randint(1_000, 60_000), over)

    def _set_clock(self) -> None:
        """Somebody's clock is set, forward or back."""
        host = self._someone()
        if host is not None and self.course.skewed:
            host.skew_ms = self.world.random.randint(-20_000, 20_000)

    # -- what must hold ----------------------------------------------------------------------------------

    def _check(self, host: Host) -> None:
        """After every step of a host."""
        state = host.kernel._state
        if len(state.links) > host.limits.links:
            raise Broken(f"{host.name} has {len(state.links)} links")
        if state.banned and any(link.did in state.banned for link in state.open_links()):
            raise Broken(f"{host.name} is linked to somebody it has banned")
        chosen = host.kernel.overlay.chosen
        if len(chosen) > host.limits.overlay_halves + host.limits.overlay_chance:
            raise Broken(f"{host.name} chose {len(chosen)} links")
        if host.name == "outsider" and len(host.base.tables["blocks"]):
            raise Broken("the outsider was given a block")
        for did, count in self.used.items():
            if count > self.promised[did]:
                raise Broken(f"{did} used {count} of {self.promised[did]} promised calls")

    def _check_disk(self, host: Host) -> None:
        for cid, (owner, _) in self.stored.items():
            if owner is host and bytes(cid) not in host.disk.tables["blocks"]:
                raise Broken(f"{host.name} lost {cid}, which it had said was stored")

    def _check_counts(self, host: Host) -> None:
        """Of what goes over wires every frame was counted, and once."""
        links = host.kernel.seeing.counts()["links"]
        told = [sum(one[f"{what}_out"] for kind, one in links.items() if kind != "relay") for what in UNITS]
        if told != host.handed:
            raise Broken(f"{host.name} counts {told} frames and bytes, and gave {host.handed} to be sent")

    def _clear(self) -> None:
        """Everybody is up, nothing is parted or lost any more; time to find together again."""
        self.world.parted.clear()
        self.course.weather.lost = self.course.weather.doubled = self.course.weather.swapped = 0.0
        for host in self.world.hosts:
            self._back(host)
        for host in self.world.hosts:
            host.ask(ending.forgive(host), lambda reply: None)
        self.world.run(self.world.now_ms + 2 * MINUTE_MS)
        self.world.run(self.world.now_ms + ASK_MS, lambda: not self.pending)

    def _look(self) -> None:
        """At the end."""
        late = [key for key, due in self.pending.items() if due < self.world.now_ms]
        if late:
            raise Broken(f"asks that never ended: {late}")
        for host in self.world.hosts:
            self._check_disk(host)
            self._check_counts(host)
            if host.honest and not host.kernel.peers():
                raise Broken(f"{host.name} has found nobody again")
        ending.everybody_is_found(self.world)
        for host, disk, head in self.moved:
            if host.disk is disk and bytes(head) not in disk.tables["blocks"]:
                raise Broken(f"{host.name} lost a move of its stream")
        for cid, (owner, _) in list(self.stored.items())[:8]:
            ending.neighbours_find(self.world, cid, owner)
