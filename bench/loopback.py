"""Two nodes in two processes on loopback: signed calls that run a program and bring back a signed receipt.

    python bench/loopback.py [--rounds 3] [--calls 400] [--ray PYTHON]

A call is: a signed message out; its signature, times, replay and the sender's right checked; a program run
on a fresh instance under every limit; a signed receipt; a signed reply, which the caller verifies; both
stores written. Beside it, in the same run:

- Ray actor calls (a tiny method of one actor, unsigned), in an interpreter that has `ray`: `./build.sh bench`
  makes one. Goal, one at a time: twice Ray's rate. Many in flight: the ratio is stated.
- The callee's own floor: one verification, one signature, one bare Wasmtime instance with its call, and one
  bare `websockets` echo of the same size, each measured alone, their times added. Goal with 100 in flight:
  0.6 of the floor's rate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import wasmtime
import websockets
from aiohttp import web
from call import ADD_ONE, bare

from promisegrid import unixfs
from promisegrid.effects import Budget
from promisegrid.task import Task
from promisegrid_node import tls, wire
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.greeters import Greeters
from promisegrid_node.home import Home
from promisegrid_node.host import Host
from promisegrid_node.keys import Keys

MESSAGE_BYTES = 620
"""About the size of a call's message, and of its reply without inline blocks."""
FLIGHT = 100
GOAL_RAY, GOAL_FLOOR = 2.0, 0.6
RAY = Path(".venv-ray/bin/python")
ACTOR = """
import json, sys, time, ray
calls, flight = int(sys.argv[1]), int(sys.argv[2])
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote
class Adder:
    def add_one(self, number):
        return number + 1

actor = Adder.remote()
ray.get([actor.add_one.remote(n) for n in range(200)])
started = time.perf_counter()
for n in range(calls):
    assert ray.get(actor.add_one.remote(n)) == n + 1
alone = calls / (time.perf_counter() - started)
started, waiting, calls = time.perf_counter(), [], 4 * calls
for n in range(calls):
    if len(waiting) == flight:
        ray.get(waiting.pop(0))
    waiting.append(actor.add_one.remote(n))
ray.get(waiting)
print(json.dumps([alone, calls / (time.perf_counter() - started)]))
"""


async def per_second(call: Callable[[int], Awaitable[object]], calls: int, at_once: int) -> float:
    """Calls a second, `at_once` of them in flight."""
    numbers = iter(range(calls))

    async def one_after_another() -> None:
        for number in numbers:
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return calls / (time.perf_counter() - started)


# -- the other process ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def other_process(*argv: str) -> Iterator[Any]:
    """This file, run as a server; what it says first, as JSON. It ends with its standard input."""
    command = [sys.executable, __file__, *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            yield json.loads(child.stdout.readline())
        finally:
            child.stdin.close()


async def until_told(said: object) -> None:
    """Say what the parent needs, and go on until it lets go."""
    print(json.dumps(said), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def serve_node(folder: Path) -> None:
    """A node that founded a grid, runs programs for others, and admits whoever comes."""
    home, limits = Home(folder), node_limits()
    home.create()
    async with open_host(home, limits) as host:
        await host.ask(host.kernel.owner.found("bench"))
        host.kernel.open_mode = True
        await host.ask(host.kernel.owner.set_serving(limits.runs, 64 * 1024 * 1024))
        code, blocks = unixfs.import_bytes(bytes(wasmtime.wat2wasm(ADD_ONE)))
        await host.ask(host.kernel.save(blocks))
        site = web.Application()
        strangers = Greeters(host, limits.greeting_per_address)
        site.router.add_get("/grid", lambda request: wire.serve(host, request, limits, strangers))
        runner = web.AppRunner(site)
        await runner.setup()
        listening = web.TCPSite(runner, "127.0.0.1", 0)
        await listening.start()
        port = runner.addresses[0][1]
        await until_told({"port": port, "did": host.kernel.me, "code": str(code)})
        await host.hang_up()
        await runner.cleanup()


async def serve_echo() -> None:
    """Whatever comes goes back."""

    async def back(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(back, "127.0.0.1", 0, compression=None) as server:
        await until_told({"port": next(iter(server.sockets)).getsockname()[1]})


# -- this process --------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def caller(folder: Path, port: int) -> AsyncIterator[Host]:
    """A node linked to the other one."""
    home, limits = Home(folder), node_limits()
    home.create()
    async with open_host(home, limits) as host:
        joined = asyncio.Event()
        host.subscribe(lambda kind, detail: joined.set() if kind == "grid" else None)
        address = wire.read_peer(f"ws://127.0.0.1:{port}/grid")
        dialling = asyncio.create_task(wire.Dialler(host, address, tls.Pins(home.pins), limits).run())
        await asyncio.wait_for(joined.wait(), 20)
        try:
            yield host
        finally:
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)


async def calls(folder: Path, count: int, rounds: int) -> tuple[float, float, float]:
    """Signed calls a second, one at a time and with `FLIGHT` in flight; seconds of the floor.

    All three in every round, because a shared machine is not equally fast all the time.
    """
    with other_process("--serve", str(folder / "callee")) as callee:
        async with caller(folder / "caller", callee["port"]) as host:
            code = unixfs.import_bytes(bytes(wasmtime.wat2wasm(ADD_ONE)))[0]
            assert str(code) == callee["code"]
            base = 0

            async def call(number: int) -> None:
                task = Task(code, "add_one", (base + number,))
                done = await host.ask(host.kernel.run(task, Budget(), on=callee["did"]))
                assert done.value == base + number + 1 and not done.cached

            await per_second(call, 100, 1)
            found = []
            for _ in range(rounds):
                base += 100_000
                alone = await per_second(call, count, 1)
                base += 100_000
                many = await per_second(call, 4 * count, FLIGHT)
                floor = crypto(folder / "caller", 1000) + bare(500) + 1 / await echoes(10 * count)
                found.append((alone, many, floor))
    alone, many, floor = (statistics.median(column) for column in zip(*found, strict=True))
    return alone, many, floor


async def echoes(count: int) -> float:
    """Bare echoes a second over one connection, `FLIGHT` in flight."""
    with other_process("--echo") as server:
        address = f"ws://127.0.0.1:{server['port']}"
        async with websockets.connect(address, compression=None) as client:

            async def call(_: int) -> None:
                await client.send(bytes(MESSAGE_BYTES))
                await client.recv()

            # One reader at a time: what is in flight is sent ahead.
            started = time.perf_counter()
            for _ in range(FLIGHT):
                await client.send(bytes(MESSAGE_BYTES))
            for _ in range(count):
                await call(0)
            for _ in range(FLIGHT):
                await client.recv()
            return (count + FLIGHT) / (time.perf_counter() - started)


def crypto(home: Path, count: int) -> float:
    """Seconds for one verification and one signature."""
    keys, message = Keys.open(home), bytes(MESSAGE_BYTES)
    signature = keys.sign(message)
    started = time.perf_counter()
    for _ in range(count):
        keys.verify(-7, keys.public_key, message, signature)
        keys.sign(message)
    return (time.perf_counter() - started) / count


def ray(python: Path, count: int, rounds: int) -> tuple[float, float] | None:
    """Actor calls a second: one at a time, and in flight; None where Ray is not installed or does not run."""
    if not python.exists():
        return None
    found = []
    for _ in range(rounds):
        command = [str(python), "-c", ACTOR, str(count), str(FLIGHT)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            print(f"Ray does not run here: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        found.append(json.loads(done.stdout.splitlines()[-1]))
    alone, many = (statistics.median(column) for column in zip(*found, strict=True))
    return alone, many


def tell(alone: float, many: float, floor: float, beside: tuple[float, float] | None) -> bool:
    """Print the ratios; whether every goal that could be measured is met."""
    good = many * floor >= GOAL_FLOOR
    print(f"callee's floor (verify + sign + instance + echo)   {1 / floor:7.0f}/s")
    print(f"signed calls with receipts, one at a time          {alone:7.0f}/s")
    print(
        f"signed calls with receipts, {FLIGHT} in flight         {many:7.0f}/s   "
        f"{many * floor:.2f} of the floor (goal {GOAL_FLOOR})"
    )
    if beside is None:
        print("no Ray here to compare with: `./build.sh bench` makes .venv-ray where it can")
        return good
    print(
        f"Ray actor calls, one at a time                     {beside[0]:7.0f}/s   "
        f"ours {alone / beside[0]:.2f} of it (goal {GOAL_RAY})"
    )
    print(
        f"Ray actor calls, {FLIGHT} in flight                    {beside[1]:7.0f}/s   "
        f"ours {many / beside[1]:.2f} of it"
    )
    return good and alone >= GOAL_RAY * beside[0]


def main() -> int:
    """The exit code: 0 when the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--ray", type=Path, default=RAY, help="an interpreter that has ray")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--echo", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve_node(options.serve))
        return 0
    if options.echo:
        asyncio.run(serve_echo())
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone, many, floor = asyncio.run(calls(folder, options.calls, options.rounds))
    beside = ray(options.ray, options.calls, options.rounds)
    return 0 if tell(alone, many, floor, beside) else 1


if __name__ == "__main__":
    sys.exit(main())
