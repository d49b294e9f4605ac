"""Five hundred idle peers on one node: what each costs in memory and in processor time.

    python bench/idle.py [--peers 500] [--seconds 60]

A real node (`promisegrid up`) on loopback. The peers are kernels with keys of their own, each joined over a
WebSocket, in other processes; they greet, keep the link alive and say nothing else. Measured in the node's
process: resident memory with all of them and without, and processor time while all are idle.

Beside it, in the same run, as many bare connections to a `websockets` server with its own pings, at the same
interval. Goals: at most 100 kB a peer, and 500 peers take at most a twentieth of one processor.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import websockets

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from e2e.harness import running  # noqa: E402
from tests.node.hosting import Hosted  # noqa: E402

from promisegrid.limits import Limits  # noqa: E402
from promisegrid_node import tls, wire  # noqa: E402

MEMORY_KB, BUSY = 100.0, 0.05
PER_PROCESS = 125
AT_ONCE = 8
"""Peers of a process that join at once: one address may not have many strangers."""
PATIENCE_S = 60
SETTLE_S = 5
"""For what follows from the last one's coming."""


# -- the peers, and the bare server (other processes) --------------------------------------------------------


async def told() -> None:
    """Say that all is there, and go on until our standard input ends."""
    print("there", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def join(url: str, first: int, count: int, folder: Path) -> None:
    """So many peers, joined and idle."""
    limits, pins = Limits(), tls.Pins(folder / "pins.json")
    free = asyncio.Semaphore(AT_ONCE)
    dialling = []

    async def one(number: int) -> None:
        async with free:
            peer = Hosted(f"peer {number}", limits)
            await peer.host.start()
            dialling.append(
                asyncio.create_task(wire.Dialler(peer.host, wire.read_peer(url), pins, limits).run())
            )
            while not peer.kernel.peers():
                await asyncio.sleep(0.02)

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as joining:
        for number in range(first, first + count):
            joining.create_task(one(number))
    await told()
    for task in dialling:
        task.cancel()


async def connect(url: str, count: int) -> None:
    """So many bare connections."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(websockets.connect(url, compression=None, ping_interval=20))
        await told()


async def serve_bare() -> None:
    """Connections that are kept alive and never used."""

    async def idle(connection: websockets.ServerConnection) -> None:
        await connection.wait_closed()

    async with websockets.serve(idle, "127.0.0.1", 0, compression=None, ping_interval=20) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await told()


# -- what it costs -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one connection: resident bytes / 1000; and of all: the part of a processor they keep busy."""

    memory_kb: float
    busy: float


def memory_kb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 1e3


def cpu_s(pid: int) -> float:
    """What a process has used of processors."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def process(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """This file in a process of its own; it ends with its standard input."""
    command = [sys.executable, __file__, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def line(child: subprocess.Popen[str]) -> str:
    """What it says next."""
    assert child.stdout is not None
    said = child.stdout.readline().strip()
    assert said, "a process ended early; its words are above"
    return said


def cost(pid: int, come: list[list[object]], peers: int, seconds: float) -> Cost:
    """Have them come, and look at the process they are connected to."""
    before = memory_kb(pid)
    with contextlib.ExitStack() as stack:
        for child in [stack.enter_context(process(*arguments)) for arguments in come]:
            assert line(child) == "there"
        time.sleep(SETTLE_S)
        used, since = cpu_s(pid), time.monotonic()
        time.sleep(seconds)
        busy = (cpu_s(pid) - used) / (time.monotonic() - since)
        return Cost((memory_kb(pid) - before) / peers, busy)


def main() -> int:
    """The exit code: 0 when the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--join", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--connect", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    if options.join:
        url, first, count, folder = options.join
        asyncio.run(join(url, int(first), int(count), Path(folder)))
        return 0
    if options.connect:
        asyncio.run(connect(options.connect[0], int(options.connect[1])))
        return 0
    if options.bare:
        asyncio.run(serve_bare())
        return 0
    peers, seconds = options.peers, options.seconds
    parts = [(first, min(PER_PROCESS, peers - first)) for first in range(0, peers, PER_PROCESS)]
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "node") as node:
        come: list[list[object]] = [["--join", node.join, first, count, name] for first, count in parts]
        ours = cost(node.process.pid, come, peers, seconds)
    with process("--bare") as bare:
        port = line(bare)
        line(bare)
        come = [["--connect", f"ws://127.0.0.1:{port}", count] for _, count in parts]
        theirs = cost(bare.pid, come, peers, seconds)
    for what, one in (("idle peers", ours), ("bare `websockets` connections", theirs)):
        print(f"{peers} {what}: {one.memory_kb:.0f} kB each, {one.busy:.2%} of a processor for all")
    print(
        f"memory {ours.memory_kb / theirs.memory_kb:.1f} times theirs, "
        f"processor time {ours.busy / max(theirs.busy, 1e-4):.1f} times; "
        f"goals: at most {MEMORY_KB:.0f} kB each, {BUSY:.0%} for all"
    )
    return 0 if ours.memory_kb <= MEMORY_KB and ours.busy <= BUSY * peers / 500 else 1


if __name__ == "__main__":
    sys.exit(main())
