"""The kernel: one object, no I/O. Frames, answers and time go in; effects come out.

A host calls the entry points (`ask`, `connect`, `receive`, `answer`, `tick`, `disconnect`) one at a time,
performs the effects each returns (`effects.py`), and owns every socket, file, clock and die. What the owner
of the node wants is a *verb*: a coroutine of this object, started with `ask`, ended by a `Reply`.

Reading order, as a message travels: link, handshake, peering, frames, envelope, claims, cose, dispatch,
replay, memo, runner, abi, job, receipt, reply, caller, exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from promisegrid.bans import Bans
from promisegrid.block import Block
from promisegrid.caller import Caller
from promisegrid.carriage import Carriage
from promisegrid.cid import Cid
from promisegrid.dispatch import Dispatcher
from promisegrid.effects import Budget, Close, Notify, Reply
from promisegrid.entropy import Entropy
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.gateways import Gateways
from promisegrid.ledger import Ledger
from promisegrid.limits import Limits
from promisegrid.link import Link, Role
from promisegrid.memo import Memo
from promisegrid.owner import Owner
from promisegrid.peering import Peering
from promisegrid.promisebase.base import Base
from promisegrid.promises import Promises
from promisegrid.protocols import DAG_EDIT, MEMO, SCENARIO_TREE, STORE
from promisegrid.protocols.edits import Edits
from promisegrid.protocols.memo import MemoProtocol
from promisegrid.protocols.promise import PROMISE
from promisegrid.protocols.scenarios import Scenarios
from promisegrid.protocols.signal import SignalProtocol
from promisegrid.protocols.store import StoreProtocol
from promisegrid.protocols.topic import TopicProtocol
from promisegrid.publishing import Publishing
from promisegrid.reading import Reading
from promisegrid.recollection import Recollection
from promisegrid.redeem import Redeemer
from promisegrid.replay import Replay
from promisegrid.replicas import Replicas
from promisegrid.routing import Routing
from promisegrid.runner import Runner, Watch
from promisegrid.seeing import Seeing
from promisegrid.selection import Selection
from promisegrid.sharing import Sharing
from promisegrid.signalling import SIGNAL, Signalling
from promisegrid.spread import Spread, Spreader
from promisegrid.state import Identity, State
from promisegrid.strand import Issued, Scheduler, Slots, Strand
from promisegrid.task import Deferred, RunResult, Task
from promisegrid.topics import TOPIC, Topics
from promisegrid.verifying import Verified, Verifier

T = TypeVar("T")


class Kernel(Reading):
    """One node's kernel. `engine` names the host's WebAssembly engine in receipts; `wasi` its WASI module."""

    def __init__(
        self,
        identity: Identity,
        entropy: bytes,
        limits: Limits | None = None,
        engine: str = "",
        wasi: Cid | None = None,
    ) -> None:
        limits = limits or Limits()
        self._scheduler = Scheduler(limits)
        admissions = Slots(self._scheduler, 1, limits.links)
        self._state = State(identity.did, engine, wasi, limits, self._scheduler, Entropy(entropy), admissions)
        self._exchange = Exchange(self._state)
        self.gateways = Gateways(self._state, self._exchange.holds)
        self._exchange.afar = self.routing = Routing(self._state, self.gateways, self._exchange.holds)
        self.base = Base(self._state, self._exchange, self._watch)
        self.selection = Selection(self._exchange, limits)
        self.publishing = Publishing(self._state, self._exchange, self.base)
        self._memo = Memo(self._state, self._exchange)
        self._runner = Runner(self._state, self._exchange, self._memo)
        self._caller = Caller(self._state, self._exchange, self._memo)
        self._verifier = Verifier(self._state, self._caller, self._memo)
        replay = Replay(self._scheduler, limits)
        ledger = Ledger(self._state)
        self.owner = Owner(
            self._state, self._exchange, self._memo, self._runner, self._verifier, replay, ledger, self.base
        )
        self.promises = Promises(self._state, ledger, self._caller, self._runner)
        self._redeemer = Redeemer(self._state, ledger)
        self.carriage = Carriage(self._state)
        self.base.tell_stored(self.carriage.shared)
        self.scenarios = Scenarios(self._state, self._exchange)
        self._dispatcher = Dispatcher(
            self._state, self._exchange, self._runner, self._caller, replay, self._redeemer, self.carriage,
            self.owner.saw,
        )  # fmt: skip
        self.recollection = Recollection(self._state, self._exchange, self._memo, self._caller)
        self._runner.recollect = self.recollection.ask
        self.topics = Topics(self._state, self._caller)
        self.sharing = Sharing(self._state, self.base, self.topics)
        self.spreader = Spreader(self._state, self._caller, self._runner, self.promises)
        self.signalling = Signalling(self._state, self._caller)
        self._speak()
        self._peering = Peering(
            self._state, self._exchange, self._caller, self.owner, self._dispatcher, self.promises,
            self.topics, self.signalling,
        )  # fmt: skip
        self.seeing = Seeing(self._state, self._runner, self._caller, self.topics)
        self.bans = Bans(self._state, self._memo, self._runner, self._peering.drop)
        self.owner.at_boot.append(self.bans.load)
        self.overlay = self._peering.overlay
        self._asks: dict[int, Strand[Any]] = {}
        self._ask_of: dict[Strand[Any], int] = {}

    def _speak(self) -> None:
        """The protocols this node speaks without a module, and what each reads when it starts."""
        edits = Edits(self._state, self._dispatcher.reply_again)
        self._dispatcher.handlers[PROMISE] = self.promises.protocol.handle
        self._dispatcher.handlers[DAG_EDIT] = edits.handle
        self._dispatcher.handlers[SCENARIO_TREE] = self.scenarios.handle
        self.storage = StoreProtocol(self._state, self.base, self._redeemer)
        self._dispatcher.handlers[STORE] = self.storage.handle
        self.replicas = Replicas(self._state, self._caller, self._exchange, self.promises)
        self._dispatcher.handlers[TOPIC] = TopicProtocol(self.topics, self._state.limits.topics).handle
        self._dispatcher.handlers[SIGNAL] = SignalProtocol(self.signalling).handle
        self._dispatcher.handlers[MEMO] = MemoProtocol(self.recollection).handle
        self._dispatcher.exclusive.add(DAG_EDIT)
        self.owner.at_boot += [self.gateways.load, self.carriage.load, self.scenarios.load, edits.load]
        self.owner.at_boot += [self.topics.load, self.sharing.load, self.promises.boot]
        self.owner.at_boot += [self.storage.load, self.replicas.load]
        self.owner.at_leave += [self.topics.forget, self.sharing.forget, self.replicas.forget]

    # -- entry points: each returns the effects to perform ---------------------------------------------

    def ask(self, ask: int, verb: Coroutine[Any, Any, Any], now_ms: int) -> Issued:
        """Start a verb; its end is `Reply(ask, …)`. `ask` is the host's own number, not in use."""
        assert ask not in self._asks, f"ask {ask} is in use"
        self._scheduler.advance(now_ms)
        strand = self._scheduler.spawn(self._carry_out(ask, verb))
        self._asks[ask], self._ask_of[strand] = strand, ask
        return self._scheduler.run()

    def cancel(self, ask: int, now_ms: int) -> Issued:
        """Give a verb up; it ends with RemoteError("cancelled")."""
        self._scheduler.advance(now_ms)
        if ask in self._asks:
            self._scheduler.cancel(self._asks[ask])
        return self._scheduler.run()

    def connect(
        self,
        link: int,
        role: Role,
        channel: str,
        via: str,
        now_ms: int,
        invite: bytes | None = None,
        grid: Cid | None = None,
    ) -> Issued:
        """A connection is open. channel: host and path as dialled; invite, grid: from the join URL."""
        assert link not in self._state.links, f"link {link} is in use"
        self._scheduler.advance(now_ms)
        if not self._peering.has_room():
            self._scheduler.emit(Close(link, "busy", "This node has as many links as it can bear."))
            return self._scheduler.run()
        made = Link(link, role, channel, via, self._scheduler, self._state.limits)
        made.invitation, made.expected_grid = invite, grid
        self._peering.begin(made)
        return self._scheduler.run()

    def disconnect(self, link: int, now_ms: int) -> Issued:
        """A connection is gone."""
        self._scheduler.advance(now_ms)
        made = self._state.links.get(link)
        if made is not None:
            self._peering.drop(made, None)
        return self._scheduler.run()

    def receive(self, link: int, frame: bytes, now_ms: int) -> Issued:
        """A frame arrived. Frames of a link that is gone are dropped."""
        self._scheduler.advance(now_ms)
        made = self._state.links.get(link)
        if made is not None:
            self._peering.receive(made, frame)
        return self._scheduler.run()

    def answer(self, ticket: int, value: object, now_ms: int) -> Issued:
        """The host finished an effect; `value` as its docstring says, or a `Failure`."""
        return self.answers(((ticket, value),), now_ms)

    def answers(self, answers: Iterable[tuple[int, object]], now_ms: int) -> Issued:
        """As `answer`, of several effects that were finished together."""
        self._scheduler.advance(now_ms)
        for ticket, value in answers:
            self._scheduler.answer(ticket, value)
        return self._scheduler.run()

    def tick(self, now_ms: int) -> Issued:
        """Time passed; due at `next_timer`, harmless at any other time."""
        self._scheduler.advance(now_ms)
        self._scheduler.fire()
        return self._scheduler.run()

    def awake(self, now_ms: int) -> Issued:
        """The host was asleep, or its network is another: every peer is asked at once if it is there."""
        self._scheduler.advance(now_ms)
        self._scheduler.fire()
        self._peering.liveness.awake()
        return self._scheduler.run()

    def next_timer(self) -> int | None:
        """When `tick` is due, in milliseconds since 1970; None while nothing waits for time."""
        return self._scheduler.next_timer()

    # -- what the host may look at -----------------------------------------------------------------------

    @property
    def me(self) -> str:
        """This node's did:key."""
        return self._state.me

    @property
    def grid(self) -> Cid | None:
        """The grid this node belongs to."""
        return self._state.grid

    @property
    def open_mode(self) -> bool:
        """Whether whoever proves a key may join without an invitation. The host sets it."""
        return self._state.open_mode

    @open_mode.setter
    def open_mode(self, value: bool) -> None:
        self._state.open_mode = value

    def peers(self) -> list[dict[str, str | int | bool | None]]:
        """Who is connected and proved: did, via, rtt_ms, serves, engine."""
        return [
            {
                "did": link.did,
                "via": link.via,
                "rtt_ms": link.rtt_ms,
                "serves": link.serves,
                "engine": link.engine,
            }
            for link in self._state.open_links()
        ]

    def near(self) -> list[dict[str, str | bool]]:
        """Members this node can call through its peers: did, serves, engine, as those peers say."""
        found = self._peering.relay.near()
        return [{"did": did, "serves": one.serves, "engine": one.engine} for did, one in found.items()]

    # -- verbs: content ------------------------------------------------------------------------------------

    async def save(self, blocks: Sequence[Block], durable: bool = True) -> None:
        """Keep blocks the host has chunked; durable before it returns unless said otherwise."""
        await self.base.save(blocks, durable)

    # -- verbs: running ------------------------------------------------------------------------------------

    async def run(
        self,
        task: Task,
        budget: Budget,
        on: str | None = None,
        fresh: bool = False,
        proofs: tuple[Cid, ...] | None = None,
        tagged: bool = False,
    ) -> RunResult | Deferred:
        """Run a task here, or on a linked peer; remembered results are used unless `fresh`.

        A peer runs it because it serves, or because it promised to: `proofs` names the promise to present,
        () none; None presents one that permits the task, if this node holds one. `tagged`: ask it in the
        form under the grid's tag. RemoteError is why there is no result; LocalError what to change.
        """
        watch = self._watch()
        task = await self._settled(task, watch)
        started_ms = self._state.now_ms
        done: RunResult | Deferred
        try:
            if on is None or on == self._state.me:
                done = await self._runner.execute(task, budget, self._state.me, watch, None, fresh)
            else:
                done = await self.spreader.on(on, task, budget, watch, fresh, proofs, tagged)
        except RemoteError as wrong:
            self.owner.saw(self._state.me, task, None, wrong, self._state.now_ms - started_ms)
            raise
        seen = None if isinstance(done, Deferred) else done
        self.owner.saw(self._state.me, task, seen, None, self._state.now_ms - started_ms)
        return done

    async def say(self, did: str, protocol: Cid, payload: object, time_ms: int = 60_000) -> object:
        """Say something to a peer in a protocol under the grid's tag; the body of its reply. RemoteError."""
        return await self._caller.say(did, protocol, payload, time_ms)

    async def follow(
        self, did: str, protocol: Cid, payload: object, heard: Callable[[object], None], days: int = 1
    ) -> object:
        """As `say`, and `heard` gets the body of each further reply while the link is open."""
        return await self._caller.follow(did, protocol, payload, days * 86_400, heard)

    async def run_verified(self, task: Task, budget: Budget, peers: int) -> Verified:
        """Have that many distinct peers run a task and compare what they sign. Errors as `Verifier.run`."""
        watch = self._watch()
        task = await self._settled(task, watch)
        started_ms = self._state.now_ms
        try:
            verified = await self._verifier.run(task, budget, peers, watch)
        except RemoteError as wrong:
            self.owner.saw(self._state.me, task, None, wrong, self._state.now_ms - started_ms)
            raise
        self.owner.saw(self._state.me, task, verified.done, None, self._state.now_ms - started_ms)
        return verified

    async def run_anywhere(self, task: Task, budget: Budget, fresh: bool = False) -> Spread:
        """Run a task where it is quickest: from the cache, here, or on a peer; see `Spreader.anywhere`."""
        watch, started_ms = self._watch(), self._state.now_ms
        task = await self._settled(task, watch)
        spread = await self.spreader.anywhere(task, budget, watch, fresh)
        self.owner.saw(self._state.me, task, spread.done, None, self._state.now_ms - started_ms)
        return spread

    async def run_promised(self, task: Task, budget: Budget, fresh: bool = False) -> Spread:
        """Have whoever promised this very call run it; see `Spreader.promised`."""
        watch = self._watch()
        return await self.spreader.promised(await self._settled(task, watch), budget, watch, fresh)

    async def map(
        self,
        tasks: Sequence[Task],
        budget: Budget,
        here: bool = True,
        told: Callable[[int, Spread], None] = lambda number, spread: None,
    ) -> list[Spread]:
        """Run many tasks over all who serve; see `Spreader.map`."""
        watch = self._watch()
        func = await self._runner.entry_of(tasks[0].code, watch) if tasks and not tasks[0].func else ""
        settled = [task if task.func else replace(task, func=func) for task in tasks]
        return await self.spreader.map(settled, budget, watch, here, told)

    async def _settled(self, task: Task, watch: Watch) -> Task:
        """The task with its function named, as its CID needs it."""
        if task.func:
            return task
        func = await self._runner.entry_of(task.code, watch)
        return Task(task.code, func, task.args, task.files, task.stdin)

    def _watch(self) -> Watch:
        current = self._scheduler.current
        ask = self._ask_of.get(current) if current is not None else None

        def watch(phase: str, done: int, total: int | None) -> None:
            detail = {"ask": ask, "phase": phase, "done": done, "total": total}
            self._scheduler.emit(Notify("progress", detail))

        return watch

    # -- links ---------------------------------------------------------------------------------------------

    async def _carry_out(self, ask: int, verb: Coroutine[Any, Any, Any]) -> None:
        try:
            value = await verb
        except (RemoteError, LocalError) as error:
            self._scheduler.emit(Reply(ask, error=error))
        else:
            self._scheduler.emit(Reply(ask, value))
        finally:
            del self._ask_of[self._asks.pop(ask)]
