"""A tiny warm call through the whole kernel in one process, against bare wasmtime-py.

    python bench/call.py [--rounds 5] [--calls 300]

The baseline is what nobody can do without: a fresh store and instance, the call, its value. Ours is the same
call as a task: CID, memo look-up, slots, job, fresh instance under every limit, result and signed receipt,
written to SQLite. The signature's own cost is measured beside it and shown apart. The aim is three times.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import wasmtime

from promisegrid import unixfs
from promisegrid.effects import Budget
from promisegrid.task import Task
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.home import Home
from promisegrid_node.host import Host
from promisegrid_node.keys import Keys
from promisegrid_node.modules import engine_config

ADD_ONE = '(module (func (export "add_one") (param i64) (result i64) local.get 0 i64.const 1 i64.add))'


def bare(calls: int) -> float:
    """Seconds for one call on a fresh instance, median over `calls`."""
    engine = wasmtime.Engine(engine_config())
    module = wasmtime.Module(engine, ADD_ONE)
    times = []
    for number in range(calls):
        started = time.perf_counter()
        store = wasmtime.Store(engine)
        store.set_epoch_deadline(1)
        function = wasmtime.Instance(store, module, []).exports(store)["add_one"]
        assert isinstance(function, wasmtime.Func)
        assert function(store, number) == number + 1
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def signature(home: Path, calls: int) -> float:
    """Seconds for one ES256 signature, median."""
    keys, times = Keys.open(home), []
    for _ in range(calls):
        started = time.perf_counter()
        keys.sign(b"a receipt of some two hundred bytes" * 6)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


async def ours(host: Host, task: Task, calls: int, first: int) -> tuple[float, float]:
    """Seconds for one call that runs, and for one that is remembered, medians."""
    fresh, remembered = [], []
    for times in (fresh, remembered):
        for number in range(first, first + calls):
            started = time.perf_counter()
            done = await host.ask(host.kernel.run(Task(task.code, "add_one", (number,)), Budget()))
            times.append(time.perf_counter() - started)
            assert done.value == number + 1 and done.cached is (times is remembered)
    return statistics.median(fresh), statistics.median(remembered)


async def measure(rounds: int, calls: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        async with open_host(home, node_limits()) as host:
            await host.ask(host.kernel.owner.found("bench"))
            code, blocks = unixfs.import_bytes(bytes(wasmtime.wat2wasm(ADD_ONE)))
            await host.ask(host.kernel.save(blocks))
            task = Task(code)
            await ours(host, task, 20, 10**9)
            found = []
            for turn in range(rounds):
                base, sign = bare(calls), signature(home.path, calls)
                found.append((base, sign, *await ours(host, task, calls, turn * calls)))
    base, sign, run, cached = (statistics.median(column) * 1e6 for column in zip(*found, strict=True))
    print(f"bare wasmtime-py, fresh instance and call: {base:.0f} µs")
    print(f"the same as a task, run, signed, stored: {run:.0f} µs; of that the signature: {sign:.0f} µs")
    print(f"ratio {run / base:.1f} (without the signature {(run - sign) / base:.1f}; the aim is 3)")
    print(f"the same task again, remembered: {cached:.0f} µs; ratio {cached / base:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    asyncio.run(measure(options.rounds, options.calls))
