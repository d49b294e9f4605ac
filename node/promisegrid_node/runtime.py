"""Preparing and running modules on Wasmtime. Twin of worker/promisegrid_worker/runtime.py.

A module is compiled once, in a child process (`compiler.py`); a program runs in a thread of a bounded pool, on
a fresh store and instance, with fuel, memory, output, stack and wall-clock time bounded. What it gets is the
WASI module and nothing else.

Floats: Wasmtime and V8 agree on every result but the bit patterns of NaNs; a program that stores those may
differ between hosts, and that is all that is not promised.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import wasmtime

from promisegrid.cid import Cid
from promisegrid.effects import Failure, Job, Outcome, Prepare
from promisegrid.limits import Limits
from promisegrid.wasi import WASI_SHA256
from promisegrid.wasm.module import ModuleInfo
from promisegrid_node.compiler import compile_module
from promisegrid_node.modules import Modules, engine_config, engine_name
from promisegrid_node.program import Program, Stop
from promisegrid_node.ticker import Ticker
from promisegrid_node.wasi import Wasi


class Runtime:
    """The engine of one node. Belongs to one event loop."""

    def __init__(self, home: Path, limits: Limits) -> None:
        self.engine = engine_name()
        self.wasi = Cid.of_digest(bytes.fromhex(WASI_SHA256))
        self._wasmtime = wasmtime.Engine(engine_config())
        self._linker: Wasi | None = None
        self._modules = Modules(home, self._wasmtime)
        self._pool = ThreadPoolExecutor(2 * limits.runs, "program")
        self._compiling = asyncio.Semaphore(1)
        self._flights: dict[Cid, asyncio.Task[ModuleInfo | Failure]] = {}
        self._ticker = Ticker(self._wasmtime.increment_epoch)

    async def prepare(self, effect: Prepare) -> ModuleInfo | Failure | None:
        """See `effects.Prepare`. Cancelling the last one who waits kills the compiler."""
        known = await asyncio.get_running_loop().run_in_executor(self._pool, self._modules.get, effect.code)
        if known is not None:
            return known.info
        if effect.data is None:
            return None
        flight = self._flights.get(effect.code)
        if flight is None:
            flight = asyncio.create_task(self._compile(effect.code, effect.data))
            self._flights[effect.code] = flight
            flight.add_done_callback(lambda _: self._flights.pop(effect.code, None))
        return await flight

    async def run(self, job: Job) -> Outcome | Failure:
        """See `effects.Run`. Cancelling the task stops the program."""
        stop = Stop()
        try:
            with self._ticker.running():
                return await asyncio.shield(
                    asyncio.get_running_loop().run_in_executor(self._pool, self._run, job, stop)
                )
        except asyncio.CancelledError:
            stop.cancelled = True
            raise

    async def close(self) -> None:
        """Stop compiling; programs are stopped by whoever cancels their tasks."""
        for flight in list(self._flights.values()):
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        self._ticker.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- inside --------------------------------------------------------------------------------------

    async def _compile(self, code: Cid, data: bytes) -> ModuleInfo | Failure:
        async with self._compiling:
            return await compile_module(data, self._modules.place(code))

    def _run(self, job: Job, stop: Stop) -> Outcome | Failure:
        compiled = self._modules.get(job.code)
        if compiled is None:
            return Failure("not_found", "The compiled module is no longer here; ask again.")
        if self._linker is None:
            self._linker = Wasi(self._wasmtime)
        with contextlib.closing(Program(self._wasmtime, self._linker, compiled, job, stop)) as program:
            return program.run()


