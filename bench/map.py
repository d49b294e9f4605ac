"""Many programs that only compute: on one node with one processor, and spread over two nodes with two.

    python bench/map.py [--tasks 40] [--rounds 3]

Each node is a process of its own, held to one processor of its own and running one program at a time. Tasks
take about a quarter of a second each, and every one is a new one. In every round the same map runs on the
first node alone, then with the other as a peer, which the first one signs calls to and verifies receipts of.
Goal: at least 1.7 times as fast. Stated: the programs' own time, in the same rounds, with bare Wasmtime.

Where others use the same processors (a bare program then takes longer than the processor time it uses), the
clock says little; what counts then is the processor time of whichever node used most, which is how long each
map takes on a machine of its own. Both are printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import wasmtime
from aiohttp import web

from promisegrid import unixfs
from promisegrid.effects import Budget
from promisegrid.limits import Limits
from promisegrid.task import Task
from promisegrid_node import tls, wire
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.greeters import Greeters
from promisegrid_node.home import Home
from promisegrid_node.host import Host

GOAL = 1.7
TASK_S = 0.25
CROWDED = 1.1
"""How much longer than alone a bare program takes where others use its processor."""
SPIN = """(module (func (export "spin") (param $seed i64) (param $turns i64) (result i64)
  (loop $again
    (local.set $seed (i64.xor (i64.mul (local.get $seed) (i64.const 6364136223846793005))
                              (i64.shr_u (local.get $seed) (i64.const 29))))
    (local.set $turns (i64.sub (local.get $turns) (i64.const 1)))
    (br_if $again (i64.ne (local.get $turns) (i64.const 0))))
  (local.get $seed)))"""


def one_at_a_time() -> Limits:
    """The bounds of a node that has one processor."""
    return replace(node_limits(), runs=1)


async def serve(folder: Path) -> None:
    """The other node: founder of the grid, admits whoever comes, runs programs for others."""
    home, limits = Home(folder), one_at_a_time()
    home.create()
    async with open_host(home, limits) as host:
        await host.ask(host.kernel.owner.found("bench"))
        host.kernel.open_mode = True
        await host.ask(host.kernel.owner.set_serving(1, 64 * 1024 * 1024))
        site, strangers = web.Application(), Greeters(host, limits.greeting_per_address)
        site.router.add_get("/grid", lambda request: wire.serve(host, request, limits, strangers))
        runner = web.AppRunner(site)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(json.dumps(runner.addresses[0][1]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await host.hang_up()
        await runner.cleanup()


@contextlib.contextmanager
def other_node(folder: Path, processor: int) -> Iterator[tuple[int, int]]:
    """It, in its process; the port it listens on, and the process's number."""
    command = [sys.executable, __file__, "--serve", str(folder), "--processor", str(processor)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            yield int(json.loads(child.stdout.readline())), child.pid
        finally:
            child.stdin.close()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


@contextlib.asynccontextmanager
async def peer(host: Host, home: Home, port: int) -> AsyncIterator[str]:
    """The other node, linked; who it is."""
    address, pins = wire.read_peer(f"ws://127.0.0.1:{port}/grid"), tls.Pins(home.pins)
    dialling = asyncio.create_task(wire.Dialler(host, address, pins, one_at_a_time()).run())
    try:
        async with asyncio.timeout(20):
            while not (found := [one for one in host.kernel.peers() if one["serves"]]):
                await asyncio.sleep(0.02)
        yield str(found[0]["did"])
    finally:
        dialling.cancel()
        await asyncio.gather(dialling, return_exceptions=True)
        while host.kernel.peers():
            await asyncio.sleep(0.02)


def bare(turns: int, seed: int) -> tuple[float, float]:
    """Seconds of one such program with nothing around it: by the clock, and of the processor."""
    store = wasmtime.Store(wasmtime.Engine())
    spin = wasmtime.Instance(store, wasmtime.Module(store.engine, SPIN), []).exports(store)["spin"]
    assert isinstance(spin, wasmtime.Func)
    started, used = time.perf_counter(), time.thread_time()
    spin(store, seed, turns)
    return time.perf_counter() - started, time.thread_time() - used


def cpu_s(pid: int) -> float:
    """What a process has used of processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Took:
    """A map: seconds by the clock, and of the processor that did most."""

    clock: float
    processor: float


async def timed(host: Host, other: int, turns: int, seeds: Iterator[int], count: int) -> Took:
    """A map of that many new tasks."""
    code = unixfs.import_bytes(bytes(wasmtime.wat2wasm(SPIN)))[0]
    tasks = [Task(code, "spin", (seed, turns)) for seed in itertools.islice(seeds, count)]
    started, used = time.perf_counter(), [cpu_s(pid) for pid in (os.getpid(), other)]
    ends = await host.ask(host.kernel.map(tasks, Budget()))
    took = time.perf_counter() - started
    for end in ends:
        assert end.done is not None and not end.done.cached, end.wrong
    both = zip((os.getpid(), other), used, strict=True)
    return Took(took, max(cpu_s(pid) - before for pid, before in both))


@dataclass(frozen=True, slots=True)
class Found:
    """One round. own: a program with nothing around it."""

    alone: Took
    spread: Took
    own: Took


async def measure(folder: Path, other: tuple[int, int], count: int, rounds: int) -> list[Found]:
    """Alone and with the peer, in turn."""
    home, seeds, found = Home(folder), itertools.count(1), list[Found]()
    port, pid = other
    home.create()
    async with open_host(home, one_at_a_time()) as host:
        _, blocks = unixfs.import_bytes(bytes(wasmtime.wat2wasm(SPIN)))
        await host.ask(host.kernel.save(blocks))
        turns = round(1e7 * TASK_S / min(bare(10_000_000, seed)[1] for seed in range(5)))
        async with peer(host, home, port):
            await timed(host, pid, 1000, seeds, 8)
        for _ in range(rounds):
            alone = await timed(host, pid, turns, seeds, count)
            async with peer(host, home, port):
                spread = await timed(host, pid, turns, seeds, count)
            clocks, processors = zip(*(bare(turns, seed) for seed in range(9)), strict=True)
            own = Took(count * statistics.median(clocks), count * statistics.median(processors))
            found.append(Found(alone, spread, own))
            print(f"alone {alone.clock:.2f} s, with a peer {spread.clock:.2f} s", flush=True)
    return found


def tell(found: list[Found], count: int) -> float:
    """Print the medians; how many times as fast two are, by what counts."""

    def median(of: Callable[[Found], float]) -> float:
        return statistics.median(of(one) for one in found)

    clock = median(lambda one: one.alone.clock / one.spread.clock)
    processor = median(lambda one: one.alone.processor / one.spread.processor)
    crowd = median(lambda one: one.own.clock / one.own.processor)
    print(f"{count} tasks: {median(lambda one: one.own.processor):.2f} s of a processor with bare Wasmtime, "
          f"{median(lambda one: one.alone.processor):.2f} s on one node, "
          f"{median(lambda one: one.spread.processor):.2f} s on the busier of two")  # fmt: skip
    print(f"two nodes on two processors are {clock:.2f} times as fast as one by the clock, "
          f"{processor:.2f} times by processor time (goal: {GOAL})")  # fmt: skip
    if crowd > CROWDED:
        print(
            f"others use these processors (a bare program takes {crowd:.1f} times its own): by processor time"
        )
    return processor if crowd > CROWDED else clock


def main() -> int:
    """The exit code: 0 when the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--processor", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        os.sched_setaffinity(0, {options.processor})
        asyncio.run(serve(options.serve))
        return 0
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        print("one processor: nothing to spread over")
        return 0
    os.sched_setaffinity(0, processors[:1])
    with tempfile.TemporaryDirectory() as name, other_node(Path(name) / "other", processors[1]) as other:
        found = asyncio.run(measure(Path(name) / "first", other, options.tasks, options.rounds))
    return 0 if tell(found, options.tasks) >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
