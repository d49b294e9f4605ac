"""Signed calls with receipts over a WebSocket, against a bare `websockets` echo of the same size.

    python bench/loopback.py [--calls 300]

Both ends of both run in this one process, so each call pays for both of its nodes. A call is: a signed
message out, its signature and the sender's membership checked, a program run on a fresh instance, a signed
receipt, a signed reply, both verified, both stores written. An echo is the same bytes there and back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import socket
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import wasmtime
import websockets
from aiohttp import web
from call import ADD_ONE

from promisegrid import unixfs
from promisegrid.effects import Budget
from promisegrid.task import Task
from promisegrid_node import tls, wire
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.home import Home
from promisegrid_node.host import Host

MESSAGE_BYTES = 620
"""About the size of a call's message, and of its reply without inline blocks."""
FLIGHT = 32


async def per_second(call: Callable[[int], Awaitable[object]], calls: int, at_once: int) -> float:
    """Calls a second, `at_once` of them in flight."""
    numbers = iter(range(calls))

    async def one_after_another() -> None:
        for number in numbers:
            await call(number)

    started = time.perf_counter()
    await asyncio.gather(*(one_after_another() for _ in range(at_once)))
    return calls / (time.perf_counter() - started)


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[Callable[[int], Awaitable[object]]]:
    """A bare echo, one connection a call in flight would be unfair to us: one for all, in order."""

    async def back(connection: websockets.ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with websockets.serve(back, "127.0.0.1", 0, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        async with websockets.connect(f"ws://127.0.0.1:{port}", compression=None) as client:

            async def call(_: int) -> object:
                await client.send(bytes(MESSAGE_BYTES))
                return await client.recv()

            yield call


@contextlib.asynccontextmanager
async def linked(folder: Path) -> AsyncIterator[tuple[Host, Host]]:
    """Two nodes of one grid, the second connected to the first, which serves."""
    homes = [Home(folder / "first"), Home(folder / "second")]
    for home in homes:
        home.create()
    limits = node_limits()
    async with open_host(homes[0], limits) as first, open_host(homes[1], limits) as second:
        await first.ask(first.kernel.owner.found("bench"))
        first.kernel.open_mode = True
        await first.ask(first.kernel.owner.set_serving(limits.runs, 64 * 1024 * 1024))
        site = web.Application()
        site.router.add_get("/grid", lambda request: wire.serve(first, request, limits))
        runner = web.AppRunner(site)
        await runner.setup()
        taken = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, taken).start()
        address = wire.read_peer(f"ws://127.0.0.1:{taken.getsockname()[1]}/grid")
        joined = asyncio.Event()
        second.subscribe(lambda kind, detail: joined.set() if kind == "grid" else None)
        dialling = asyncio.create_task(wire.Dialler(second, address, tls.Pins(homes[1].pins), limits).run())
        await asyncio.wait_for(joined.wait(), 20)
        try:
            yield first, second
        finally:
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)
            await first.hang_up()
            await runner.cleanup()


async def measure(calls: int, rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with linked(Path(folder)) as (first, second), echo() as echoed:
            code, blocks = unixfs.import_bytes(bytes(wasmtime.wat2wasm(ADD_ONE)))
            await first.ask(first.kernel.save(blocks))
            start = 0

            async def call(number: int) -> object:
                task = Task(code, "add_one", (start + number,))
                done = await second.ask(second.kernel.run(task, Budget(), on=first.kernel.me))
                assert done.value == start + number + 1 and not done.cached
                return done

            await per_second(call, 20, 1)
            found = []
            for _ in range(rounds):
                start += 10_000
                bare = await per_second(echoed, calls * 10, 1)
                alone = await per_second(call, calls, 1)
                start += 10_000
                found.append((bare, alone, await per_second(call, calls, FLIGHT)))
    bare, alone, many = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"bare echo of {MESSAGE_BYTES} bytes, one after another: {bare:.0f}/s")
    print(f"signed call with receipt, one after another: {alone:.0f}/s; ratio {bare / alone:.1f}")
    print(f"signed calls with receipts, {FLIGHT} in flight: {many:.0f}/s; ratio {bare / many:.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300)
    asyncio.run(measure(parser.parse_args().calls))
