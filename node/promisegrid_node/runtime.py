"""Preparing and running modules on Wasmtime. Twin of worker/promisegrid_worker/runtime.py.

A module is compiled once, in a child process (`compiler.py`); a program runs in a thread of a bounded pool,
on a fresh store and instance, with fuel, memory, output, stack and wall-clock time bounded. What it gets is
the WASI module and nothing else.

Floats: Wasmtime and V8 agree on every result but the bit patterns of NaNs; a program that stores those may
differ between hosts, and that is all that is not promised. (Wasmtime's canonical NaNs are off: V8 has none.)
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import wasmtime

from promisegrid.cid import Cid
from promisegrid.effects import Failure, Job, Outcome, Prepare, Run
from promisegrid.limits import Limits
from promisegrid.wasi import WASI_SHA256
from promisegrid.wasm.module import ModuleInfo
from promisegrid_node import quick
from promisegrid_node.compiler import compile_module
from promisegrid_node.modules import Compiled, Modules, engine_config, engine_name
from promisegrid_node.program import Program, Stop
from promisegrid_node.ticker import Ticker
from promisegrid_node.wasi import Wasi

QUICK_FUEL: Final = 20_000
"""What a program may use on the loop's own thread: less than handing it to another costs."""
_QUICK_BYTES: Final = 1024 * 1024
"""The largest compiled module instantiated there."""
_SLOW_MAX: Final = 4096
"""Functions remembered to need more."""


@dataclass(slots=True)
class _Flight:
    """A compile in work, and how many wait for it."""

    task: asyncio.Task[ModuleInfo | Failure]
    waiting: int = 0


class Runtime:
    """The engine of one node. Belongs to one event loop."""

    def __init__(self, home: Path, limits: Limits) -> None:
        self.engine = engine_name()
        self.wasi = Cid.of_digest(bytes.fromhex(WASI_SHA256))
        self._wasmtime = wasmtime.Engine(engine_config())
        self._linker: Wasi | None = None
        self._linking = threading.Lock()
        self._modules = Modules(home, self._wasmtime)
        self._pool = ThreadPoolExecutor(2 * limits.runs, "program")
        self._disk = ThreadPoolExecutor(1, "modules")
        self._compiling = asyncio.Semaphore(1)
        self._flights: dict[Cid, _Flight] = {}
        self._slow: OrderedDict[tuple[Cid, str], None] = OrderedDict()
        self._stops: set[Stop] = set()
        self._ticker = Ticker(self._wasmtime.increment_epoch)

    def at_once(self, effect: Prepare | Run) -> ModuleInfo | Outcome | Failure | None:
        """The answer to what is quick: a module in memory, and a program that ends on a leash of fuel.

        Programs are pure, so one that needs more than the leash is simply run again, off the loop; from then
        on it is not tried here.
        """
        known = self._modules.recent(effect.code if isinstance(effect, Prepare) else effect.job.code)
        if known is None:
            return None
        return known.info if isinstance(effect, Prepare) else self._on_leash(known, effect.job)

    async def prepare(self, effect: Prepare) -> ModuleInfo | Failure | None:
        """See `effects.Prepare`. Cancelling the last one who waits kills the compiler."""
        known = self._modules.recent(effect.code) or await self._on_disk(effect.code)
        if known is not None:
            return known.info
        if effect.data is None:
            return None
        flight = self._flights.get(effect.code)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._compile(effect.code, effect.data)))
            self._flights[effect.code] = flight
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                flight.task.cancel()
                if self._flights.get(effect.code) is flight:
                    del self._flights[effect.code]

    async def run(self, job: Job) -> Outcome | Failure:
        """See `effects.Run`. Cancelling the task stops the program within a tick."""
        stop = Stop()
        self._stops.add(stop)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, job, stop)
        except asyncio.CancelledError:
            stop.cancelled = True
            raise
        finally:
            self._stops.discard(stop)

    async def close(self) -> None:
        """Stop compilers and programs. Whoever awaits them is told."""
        for stop in self._stops:
            stop.cancelled = True
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._ticker.close()
        self._pool.shutdown(wait=False)
        self._disk.shutdown(wait=False)

    # -- inside --------------------------------------------------------------------------------------

    def _on_leash(self, compiled: Compiled, job: Job) -> Outcome | Failure | None:
        key = (job.code, job.func)
        if compiled.info.imports or compiled.size > _QUICK_BYTES or key in self._slow:
            return None
        if quick.suits(compiled, job):
            done = quick.call(self._wasmtime, compiled, job, min(job.fuel or QUICK_FUEL, QUICK_FUEL))
            if done is not None:
                return done
        short = job.fuel is None or job.fuel > QUICK_FUEL
        leashed = replace(job, fuel=QUICK_FUEL) if short else job
        with contextlib.closing(Program(self._wasmtime, None, compiled, leashed, None)) as program:
            outcome = program.run()
        if short and isinstance(outcome, Failure) and outcome.code == "out_of_fuel":
            self._slow[key] = None
            if len(self._slow) > _SLOW_MAX:
                self._slow.popitem(last=False)
            return None
        return outcome

    async def _on_disk(self, code: Cid) -> Compiled | None:
        return await asyncio.get_running_loop().run_in_executor(self._disk, self._modules.get, code)

    async def _compile(self, code: Cid, data: bytes) -> ModuleInfo | Failure:
        async with self._compiling:
            try:
                place = self._modules.place(code)
            except OSError as error:
                return Failure("disk_full", f"{self._modules.folder} cannot be made: {error.strerror}.")
            answer = await compile_module(data, place)
            await asyncio.get_running_loop().run_in_executor(self._disk, self._modules.tidy)
            return answer

    def _run(self, job: Job, stop: Stop) -> Outcome | Failure:
        """In a thread of the pool."""
        if stop.cancelled:
            return Failure("cancelled", "The run was stopped before it began.")
        compiled = self._modules.get(job.code)
        if compiled is None:
            return Failure("not_found", "The compiled module is no longer here; ask again.")
        program = Program(self._wasmtime, self._wasi_linker(), compiled, job, stop)
        with self._ticker.running(), contextlib.closing(program):
            return program.run()

    def _wasi_linker(self) -> Wasi:
        """Compiled when the first program runs: a tenth of a second that other verbs need not spend."""
        with self._linking:
            if self._linker is None:
                self._linker = Wasi(self._wasmtime)
            return self._linker
