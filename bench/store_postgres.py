"""The store on PostgreSQL against a bare psycopg loop, and how several processes get on with one base.

    python bench/store_postgres.py [--blocks 10000]

A server of its own is started, in a temporary folder, on a Unix socket, with fsync on. The baseline is what
the driver's manual shows: the same table, each block hashed, `executemany` into one synced transaction a
batch; for get, one SELECT and one hash a block. Ours is the Store's port: `Commit` and `Load` with the same
blocks. The aims are those of the store on SQLite: 0.7 and 0.6.

Then one counter that several processes add to, by commits that rest on what they saw.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from promisegrid.cid import RAW, Cid
from promisegrid.effects import Commit, Load, Write
from promisegrid_node.store_postgres import Store

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.node import postgres

SIZE, BATCHES, GETS, STEPS = 1024, (256, 1000), 2000, 200
PREFIX = bytes(Cid.of(b"", RAW))[:4]
"""Of the CID of a block: version, codec, hash and its length."""


class Bare:
    """A loop around psycopg."""

    def __init__(self, url: str) -> None:
        self.db = psycopg.connect(url, autocommit=True)
        self.db.execute("CREATE TABLE IF NOT EXISTS bare (key bytea PRIMARY KEY, value bytea NOT NULL)")

    def put_many(self, batch: list[bytes]) -> None:
        rows = [(PREFIX + hashlib.sha256(data).digest(), data) for data in batch]
        with self.db.transaction(), self.db.cursor() as cursor:
            cursor.executemany("INSERT INTO bare VALUES (%b, %b) ON CONFLICT DO NOTHING", rows)

    def get(self, key: bytes) -> None:
        row = self.db.execute("SELECT value FROM bare WHERE key = %b", (key,), binary=True).fetchone()
        assert row is not None and hashlib.sha256(row[0]).digest() == key[4:]


class Ours:
    """The store's port, as the kernel uses it."""

    def __init__(self, url: str) -> None:
        self.store = Store.open(url, "did:key:bench")

    def put_many(self, batch: list[bytes]) -> None:
        writes = tuple(Write("blocks", bytes(Cid.of(data, RAW)), data) for data in batch)
        assert self.store.perform([Commit(writes)]) == [None]

    def get(self, key: bytes) -> None:
        (answer,) = self.store.perform([Load("blocks", (key,))])
        assert isinstance(answer, tuple) and hashlib.sha256(answer[0]).digest() == key[4:]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rates(base: Bare | Ours, count: int, size: int, seed: int) -> tuple[float, float]:
    """Blocks put and got in a second."""
    dice = random.Random(seed)
    data = [dice.randbytes(SIZE) for _ in range(count)]
    groups = [data[at : at + size] for at in range(0, count, size)]
    puts = timed(lambda: [base.put_many(group) for group in groups])
    keys = [PREFIX + hashlib.sha256(one).digest() for one in dice.choices(data, k=GETS)]
    gets = timed(lambda: [base.get(key) for key in keys])
    return count / puts, GETS / gets


def against_bare(url: str, count: int) -> bool:
    """Print the ratios, the median of three rounds taken in turns; whether the aims are reached."""
    good, bare, ours = True, Bare(url), Ours(url)
    for size in BATCHES:
        rounds = [
            (rates(bare, count, size, seed := size + number), rates(ours, count, size, seed))
            for number in range(3)
        ]
        for at, (name, aim) in enumerate((("put_many", 0.7), ("get", 0.6))):
            ratio = statistics.median(mine[at] / theirs[at] for theirs, mine in rounds)
            mine = statistics.median(mine[at] for _, mine in rounds)
            good = good and ratio >= aim
            what = f"{name} of 1 KiB, batches of {size}"
            print(f"{what}: {mine:,.0f}/s, {ratio:.2f} of bare psycopg (aim {aim})")
    return good


def contended(url: str, processes: int) -> None:
    """Print how fast one counter grows."""
    command = [sys.executable, "-m", "tests.node.counting", url]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    each = STEPS // processes
    words = [[*command, f"{processes}-{name}", str(each)] for name in range(processes)]
    pipe = subprocess.PIPE
    running = [subprocess.Popen(line, stdin=pipe, stdout=pipe, env=environment) for line in words]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # it is ready
    for process in running:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    took = timed(lambda: [process.communicate() for process in running])
    print(f"one counter, {processes} processes: {each * processes / took:,.0f} steps/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=10_000)
    count = parser.parse_args().blocks
    try:
        with postgres.running() as server:
            good = against_bare(server.url(), count)
            for processes in (1, 2, 4):
                contended(server.url(), processes)
    except LookupError as error:
        print(error)
        return 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
