"""Running a task here: gather what it names, prepare the module, run it, sign the receipt.

A task in work is a *flight*: whoever asks for the same task meanwhile joins it, so it runs once. A flight
that ended at a limit of its own budget says nothing about a larger one, so a joiner with another budget
tries again. The flight ends early only when the last one who waits for it gives up.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from promisegrid import abi, dagcbor, job, receipt, units, unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Job, Outcome, Prepare, Run
from promisegrid.errors import RemoteError
from promisegrid.exchange import Exchange
from promisegrid.link import Link
from promisegrid.memo import Memo
from promisegrid.receipt import Receipt
from promisegrid.state import State
from promisegrid.strand import Pause, Slots, Strand
from promisegrid.task import Result, RunResult, Task
from promisegrid.wasm.module import ModuleInfo

Watch = Callable[[str, int, int | None], None]
"""Called with (phase, done, total).

fetch: bytes; compile: 0 of unknown, then 1 of 1; run: seconds so far of unknown, then 1 of 1.
"""
_FUEL_MAX: Final = 1 << 62
"""What a meter can count; nothing that ends in a lifetime uses it up."""
_SIGN_S: Final = 2
"""How often a program that runs long is said to be still running."""
_OF_BUDGET = frozenset({"out_of_fuel", "out_of_time", "out_of_memory", "output_too_large"})


@dataclass(slots=True)
class Flight:
    """One task in work: within which budget, for whom, since when, and who wants to hear how it goes."""

    task: Task
    budget: Budget
    asker: str
    since_ms: int
    strand: Strand[RunResult]
    line: Slots | None
    """Whose turn it waits for; None once it runs."""
    waiting: int = 0
    watches: list[Watch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Inputs:
    stdin: bytes
    nodes: tuple[job.Node, ...]


class Runner:
    """Runs tasks on this node, each once."""

    def __init__(self, state: State, exchange: Exchange, memo: Memo) -> None:
        self._state, self._exchange, self._memo = state, exchange, memo
        limits = state.limits
        self._slots = Slots(state.scheduler, limits.runs, limits.runs_waiting)
        self.guests = Slots(state.scheduler, 0, limits.runs_waiting)
        self.promised = Slots(state.scheduler, max(1, limits.runs // 2), limits.runs_waiting)
        self.flights: dict[Cid, Flight] = {}
        self.recollect: Callable[[Cid, Watch], Awaitable[RunResult | None]] = _nobody
        """Asks others for what they remember of a task."""
        self._started: dict[Watch, int] = {}
        self._signs: Strand[None] | None = None
        self._ready: OrderedDict[Cid, ModuleInfo] = OrderedDict()

    async def entry_of(self, code: Cid, watch: Watch, hint: Link | None = None) -> str:
        """The function that is meant when a task names none; a new module is compiled now. RemoteError."""
        return abi.entry(await self._prepare(code, self._clamp(Budget(), guest=False), hint, watch))

    async def execute(
        self,
        task: Task,
        budget: Budget,
        asker: str,
        watch: Watch,
        hint: Link | None,
        fresh: bool = False,
        promised: bool = False,
        alone: bool = False,
    ) -> RunResult:
        """The result of a settled task: remembered, or run now. RemoteError says why there is none.

        `promised`: the owner promised this very call, and so it does not wait among the guests.
        `alone`: others are not asked first what they remember of it.
        """
        block = task.block(self._state.limits)
        pool = self._pool(asker, promised)

        def granted() -> Budget:
            return self._clamp(budget, asker != self._state.me, promised)

        while True:
            flight = self.flights.get(block.cid)
            if flight is not None and flight.line is self.guests and pool is not self.guests:
                flight = None  # it waits among the guests; this one need not
            if flight is None:
                known = None if fresh else await self._memo.look_up(block.cid)
                if known is not None:
                    return known
                flight = self.flights.get(block.cid)
                if flight is None or (flight.line is self.guests and pool is not self.guests):
                    flight = self._take_off(block, task, granted(), asker, hint, pool, fresh or alone)
            try:
                return await self._join(block.cid, flight, watch)
            except RemoteError as wrong:
                of_less = wrong.code in _OF_BUDGET and flight.budget != granted()
                of_guests = wrong.code == "not_serving" and (promised or asker == self._state.me)
                if not of_less and not of_guests:
                    raise

    async def remembered(self, task: Task) -> RunResult | None:
        """The result of a settled task if it is remembered; nothing is run."""
        return await self._memo.look_up(task.block(self._state.limits).cid)

    async def recollected(self, task: Task, watch: Watch) -> RunResult | None:
        """The result of a settled task if others remember it, as `recollect`."""
        return await self.recollect(task.block(self._state.limits).cid, watch)

    def stop(self, task_cid: Cid) -> bool:
        """End a flight, whoever waits for it; whether there was one."""
        flight = self.flights.get(task_cid)
        if flight is not None:
            self._landed(task_cid, flight.strand)
            self._state.scheduler.cancel(flight.strand)
        return flight is not None

    # -- flights -------------------------------------------------------------------------------------

    def _pool(self, asker: str, promised: bool) -> Slots:
        if asker == self._state.me:
            return self._slots
        return self.promised if promised else self.guests

    def _take_off(
        self, block: Block, task: Task, budget: Budget, asker: str, hint: Link | None, slots: Slots,
        alone: bool,
    ) -> Flight:  # fmt: skip
        flying = self._fly(block, task, budget, asker, hint, slots, alone)
        strand = self._state.scheduler.spawn(flying)
        flight = Flight(task, budget, asker, self._state.now_ms, strand, slots)
        self.flights[block.cid] = flight
        return flight

    async def _join(self, task_cid: Cid, flight: Flight, watch: Watch) -> RunResult:
        flight.waiting += 1
        flight.watches.append(watch)
        try:
            return await flight.strand.done
        finally:
            flight.waiting -= 1
            flight.watches.remove(watch)
            if not flight.waiting:
                self._landed(task_cid, flight.strand)
                self._state.scheduler.cancel(flight.strand)

    def _landed(self, task_cid: Cid, strand: Strand[Any] | None) -> None:
        """A flight is over, or about to be: nobody can join it any more."""
        flight = self.flights.get(task_cid)
        if flight is not None and flight.strand is strand:
            del self.flights[task_cid]

    async def _fly(
        self, block: Block, task: Task, budget: Budget, asker: str, hint: Link | None, slots: Slots,
        alone: bool,
    ) -> RunResult:  # fmt: skip
        def tell(phase: str, done: int, total: int | None) -> None:
            flight = self.flights.get(block.cid)
            for watch in flight.watches if flight is not None else ():
                watch(phase, done, total)

        try:
            if not alone and (known := await self._recollect(block.cid, tell, hint)) is not None:
                return known
            await slots.take(hint.number if hint is not None else 0, asker)
            try:
                flight = self.flights.get(block.cid)
                if flight is not None and flight.strand is self._state.scheduler.current:
                    flight.line = None
                elif (known := await self._memo.look_up(block.cid)) is not None:
                    return known  # one that did not have to wait was quicker
                return await self._run(block, task, budget, hint, tell)
            finally:
                slots.give()
        finally:
            self._landed(block.cid, self._state.scheduler.current)

    async def _recollect(self, task_cid: Cid, tell: Watch, hint: Link | None) -> RunResult | None:
        """Ask others; for a guest so often a second, like anything his word makes us say to all."""
        if hint is not None:
            if not hint.may_miss():
                return None
            hint.count_miss()
        return await self.recollect(task_cid, tell)

    def _clamp(self, budget: Budget, guest: bool, promised: bool = False) -> Budget:
        """The budget as this node grants it: every bound present but fuel, none above our limits.

        A guest to whom nothing was promised does not hold a slot for longer than usual.
        """
        limits, serving = self._state.limits, self._state.serving
        memory = limits.memory_bytes
        if guest and serving is not None:
            memory = min(memory, serving.memory_bytes)
        longest = limits.run_ms if guest and not promised else limits.run_ms_max
        return Budget(
            None if budget.fuel is None else min(budget.fuel, _FUEL_MAX),
            min(budget.memory_bytes or limits.memory_bytes, memory),
            min(budget.time_ms or limits.run_ms, longest),
            min(budget.output_bytes or limits.output_bytes, limits.output_bytes),
        )

    # -- one run -------------------------------------------------------------------------------------

    async def _run(
        self, block: Block, task: Task, budget: Budget, hint: Link | None, tell: Watch
    ) -> RunResult:
        info = await self._prepare(task.code, budget, hint, tell)
        way = abi.choose(info, task.func)
        work = self._job(block.cid, task, info, way, budget, await self._inputs(task, hint, tell))
        tell("run", 0, None)
        self._started[tell] = self._state.steady_ms
        if self._signs is None:
            self._signs = self._state.scheduler.spawn(self._signs_of_life())
        try:
            outcome = await self._outcome(work, budget, hint, tell)
        finally:
            del self._started[tell]
        tell("run", 1, 1)
        content, blocks = self._result(task, info, way, outcome)
        result = content.block()
        claim = Receipt(
            block.cid,
            result.cid,
            self._state.me,
            self._state.engine,
            outcome.fuel,
            outcome.memory_bytes,
            self._state.wasi,
        )
        sealed = await receipt.seal(claim)
        done = RunResult(
            block.cid,
            result.cid,
            sealed.cid,
            content,
            self._state.me,
            cached=False,
            fuel=outcome.fuel,
            engine=self._state.engine,
            blocks=() if content.parts() else (sealed, result),
        )
        await self._memo.remember(claim, sealed, [block, result, *blocks], self._state.me)
        self._memo.note(done, len(result.data))
        return done

    async def _outcome(self, work: Job, budget: Budget, hint: Link | None, tell: Watch) -> Outcome:
        """How a run ends. A module that the host let go of meanwhile is made ready once more."""
        outcome: Outcome
        try:
            outcome = await Run(work)
        except RemoteError as wrong:
            if wrong.code != "not_found":
                raise
            self._ready.pop(work.code, None)
            await self._prepare(work.code, budget, hint, tell)
            outcome = await Run(work)
        return outcome

    async def _prepare(self, code: Cid, budget: Budget, hint: Link | None, tell: Watch) -> ModuleInfo:
        known = self._ready.get(code)
        if known is not None:
            self._ready.move_to_end(code)
            return known
        info: ModuleInfo | None = await Prepare(code, None, budget)
        if info is None:
            data = await self._content(code, self._state.limits.code_bytes, hint, tell, "The module")
            tell("compile", 0, None)
            info = await Prepare(code, data, budget)
            tell("compile", 1, 1)
        assert info is not None
        if len(info.functions) + len(info.imports) <= self._state.limits.module_names:
            self._ready[code] = info
        if len(self._ready) > self._state.limits.modules:
            self._ready.popitem(last=False)
        return info

    async def _inputs(self, task: Task, hint: Link | None, tell: Watch) -> _Inputs:
        left = self._state.limits.input_bytes
        stdin, nodes = b"", []
        if task.stdin is not None:
            stdin = await self._content(task.stdin, left, hint, tell, "The standard input")
        if task.files is not None:
            await self._bring(task.files, left - len(stdin), hint, tell)
            tree_limits = unixfs.TreeLimits(left - len(stdin), self._state.limits.tree_nodes)
            try:
                nodes = await unixfs.read_tree(self._exchange.block, task.files, tree_limits)
            except unixfs.UnixFsError as error:
                raise RemoteError("bad_file", f"The files {task.files} cannot be read: {error}.") from error
        return _Inputs(stdin, tuple(nodes))

    async def _bring(self, root: Cid, bytes_max: int, hint: Link | None, tell: Watch) -> None:
        await self._exchange.fetch_dag(root, bytes_max, lambda _, size: tell("fetch", size, None), hint)

    async def _content(self, cid: Cid, bytes_max: int, hint: Link | None, tell: Watch, what: str) -> bytes:
        """A whole UnixFS file. RemoteError: bad_file, too_large, not_found, bad_block."""
        await self._bring(cid, bytes_max + bytes_max // 64 + 4096, hint, tell)
        pieces, size = [], 0
        try:
            async for piece in unixfs.read_file(self._exchange.block, cid):
                size += len(piece)
                if size > bytes_max:
                    raise RemoteError("too_large", f"{what} {cid} is larger than {units.size(bytes_max)}.")
                pieces.append(piece)
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{what} {cid} cannot be read: {error}.") from error
        return b"".join(pieces)

    async def _signs_of_life(self) -> None:
        """Say of every program that still runs that it does, until none does."""
        try:
            while self._started:
                await Pause(None, _SIGN_S * 1000)
                for tell, since_ms in tuple(self._started.items()):
                    seconds = (self._state.steady_ms - since_ms) // 1000
                    if seconds >= _SIGN_S:
                        tell("run", seconds, None)
        finally:
            self._signs = None

    def _job(
        self, task_cid: Cid, task: Task, info: ModuleInfo, way: abi.Abi, budget: Budget, inputs: _Inputs
    ) -> Job:
        assert budget.memory_bytes and budget.time_ms and budget.output_bytes
        params, args = b"", []
        if way == "command":
            args = abi.command_args(task.args)
        elif way == "handle":
            params = dagcbor.encode(list(task.args))
        else:
            params = abi.pack(info.functions[task.func], task.args)
        seed = hashlib.sha256(bytes(task_cid)).digest()
        return Job(
            code=task.code,
            abi=way,
            func=task.func,
            params=params,
            wasi=job.encode_job(seed, budget.output_bytes, args, inputs.stdin, inputs.nodes),
            fuel=budget.fuel,
            memory_bytes=budget.memory_bytes,
            time_ms=budget.time_ms,
            output_bytes=budget.output_bytes,
        )

    def _result(
        self, task: Task, info: ModuleInfo, way: abi.Abi, outcome: Outcome
    ) -> tuple[Result, list[Block]]:
        if way == "handle":
            return Result(value=abi.handle_value(outcome.values)), []
        if way == "plain":
            return Result(value=abi.unpack(info.functions[task.func], outcome.values)), []
        ended = job.decode_result(outcome.wasi, self._state.limits.tree_nodes)
        stdout, blocks = unixfs.import_bytes(ended.stdout)
        stderr, more = unixfs.import_bytes(ended.stderr)
        blocks = [*blocks, *more]
        files: Cid | None = None
        if ended.flags & job.CHANGED:
            try:
                files, more = unixfs.import_tree(ended.nodes)
            except unixfs.UnixFsError as error:
                raise RemoteError("bad_result", f"The program left no proper folder: {error}.") from error
            blocks.extend(more)
        return Result(ended.exit, stdout, stderr, files), blocks


async def _nobody(task: Cid, watch: Watch) -> None:
    """While there is nobody to ask."""
