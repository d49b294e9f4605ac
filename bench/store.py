"""The store on SQLite against a bare sqlite3 loop, and how its cost grows.

    python bench/store.py [--blocks 20000] [--most 100000] [--plot]

The baseline is the least anyone can do in Python: the same schema, pragmas and batches, each block hashed,
`executemany` into one synced transaction a batch, checkpoints where we make them; for get, one SELECT and one
hash a block. Ours is the Store's port: `Commit` and `Load` with the same blocks. The aims are 0.7 and 0.6.

Then the same at 10³, 10⁴, 10⁵ blocks (10⁶ with --most 1000000), drawn into bench/store.svg with --plot; and
what one put of one small block writes to the disk, alone and in batches, as a card in a Pi would count it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from promisegrid.cid import RAW, Cid
from promisegrid.effects import Commit, Load, Save, Write
from promisegrid_node import store_file
from promisegrid_node.store import Store

SIZE, BATCH, GETS = 1024, 256, 4000
PREFIX = bytes(Cid.of(b"", RAW))[:4]
"""Of the CID of a block: version, codec, hash and its length."""


def blocks(count: int, seed: int) -> Iterator[bytes]:
    """Blocks of 1 KiB that nobody has seen."""
    dice = random.Random(seed)
    for _ in range(count):
        yield dice.randbytes(SIZE)


def batches(count: int, seed: int) -> list[list[bytes]]:
    """The same, as many together as the node's line to the disk takes."""
    every = list(blocks(count, seed))
    return [every[at : at + BATCH] for at in range(0, len(every), BATCH)]


class Bare:
    """A loop around sqlite3."""

    def __init__(self, home: Path) -> None:
        self.db = sqlite3.connect(home / "bare.sqlite", isolation_level=None)
        run = self.db.execute
        run(f"PRAGMA page_size={store_file.PAGE_BYTES}")
        run("PRAGMA journal_mode=WAL")
        run("PRAGMA synchronous=FULL")
        run(f"PRAGMA wal_autocheckpoint={store_file.CHECKPOINT_BYTES // store_file.PAGE_BYTES}")
        run("CREATE TABLE blocks (key BLOB PRIMARY KEY, value BLOB NOT NULL)")

    def put_many(self, batch: list[bytes]) -> None:
        rows = [(PREFIX + hashlib.sha256(data).digest(), data) for data in batch]
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany("INSERT INTO blocks VALUES (?, ?) ON CONFLICT DO NOTHING", rows)
        self.db.execute("COMMIT")

    def get(self, key: bytes) -> bytes:
        (data,) = self.db.execute("SELECT value FROM blocks WHERE key = ?", (key,)).fetchone()
        assert hashlib.sha256(data).digest() == key[4:]
        return bytes(data)

    def close(self) -> None:
        self.db.close()


class Ours:
    """The store's port, as the kernel uses it."""

    def __init__(self, home: Path) -> None:
        self.store = Store.open(home)

    def put_many(self, batch: list[bytes]) -> None:
        writes = tuple(Write("blocks", bytes(Cid.of(data, RAW)), data) for data in batch)
        assert self.store.perform([Commit(writes)]) == [None]

    def get(self, key: bytes) -> bytes:
        match self.store.perform([Load("blocks", (key,))]):
            case [(bytes(data),)]:
                assert hashlib.sha256(data).digest() == key[4:]
                return data
        raise AssertionError(key)

    def close(self) -> None:
        self.store.close()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def get_all(base: Bare | Ours, keys: list[bytes]) -> None:
    for key in keys:
        base.get(key)


Pairs = list[tuple[float, float]]
"""Seconds for the same thing, by the bare loop and by ours, one right after the other."""


def race(bases: tuple[Bare, Ours], count: int, seed: int) -> tuple[Pairs, Pairs]:
    """Puts, a batch at a time, and gets, a hundred at a time."""
    groups, puts, gets = batches(count, seed), Pairs(), Pairs()
    for turn, group in enumerate(groups):
        puts.append(pair(turn, [partial(base.put_many, group) for base in bases]))
    every = [PREFIX + hashlib.sha256(data).digest() for group in groups for data in group]
    dice = random.Random(1)
    for turn in range(GETS // 100):
        keys = dice.choices(every, k=100)
        gets.append(pair(turn, [partial(get_all, base, keys) for base in bases]))
    return puts, gets


def pair(turn: int, both: list[partial[None]]) -> tuple[float, float]:
    """Both timed, now one first and now the other."""
    if turn % 2:
        mine = timed(both[1])
        return timed(both[0]), mine
    return timed(both[0]), timed(both[1])


def compare(folder: Path, count: int, rounds: int) -> tuple[float, float]:
    """Ours over bare, put and get: the median of all pairs, so that what else runs here counts little."""
    puts, gets = Pairs(), Pairs()
    for turn in range(rounds):
        home = folder / f"race{turn}"
        home.mkdir()
        bases = Bare(home), Ours(home)
        more = race(bases, count, turn)
        puts, gets = puts + more[0], gets + more[1]
        for base in bases:
            base.close()
    put, get = (statistics.median(bare / mine for bare, mine in pairs) for pairs in (puts, gets))
    puts_s, gets_s = (statistics.median(mine for _, mine in pairs) for pairs in (puts, gets))
    print(f"put_many, durable: {BATCH / puts_s:,.0f} blocks/s of 1 KiB, {put:.2f} of a bare loop (aim 0.7)")
    print(f"get: {100 / gets_s:,.0f} blocks/s, {get:.2f} of a bare loop (aim 0.6)")
    return put, get


def grow(folder: Path, most: int) -> list[tuple[int, float, float]]:
    """(blocks there, µs a put, µs a get) as a store grows tenfold, and tenfold again.

    Of the last tenth of each: medians of sixteen batches, among them such as carry the log over; of gets, of
    a hundred.
    """
    home = folder / "grow"
    home.mkdir()
    base, there, found = Ours(home), 0, []
    dice, keys = random.Random(9), list[bytes]()
    while there < most:
        goal = max(1000, there * 10)
        last, wrote, before = list[float](), written(), there
        while there < goal:
            batch = [dice.randbytes(SIZE) for _ in range(BATCH if goal - there > BATCH else goal - there)]
            took = timed(partial(base.put_many, batch))
            if goal - there <= max(1000, goal // 10):
                last.append(took / len(batch))
            there += len(batch)
            keys += [PREFIX + hashlib.sha256(data).digest() for data in dice.choices(batch, k=4)]
        some = dice.choices(keys, k=GETS)
        gets = [timed(partial(get_all, base, some[at : at + 100])) / 100 for at in range(0, GETS, 100)]
        puts = [statistics.fmean(last[at : at + 16]) for at in range(0, len(last), 16)]
        found.append((there, statistics.median(puts) * 1e6, statistics.median(gets) * 1e6))
        wear = (written() - wrote) / (there - before) / 1024
        told = f"{found[-1][1]:6.1f} µs a put, {found[-1][2]:6.1f} µs a get, {wear:5.1f} KiB written a put"
        print(f"{there:>9,} blocks: {told}")
    base.close()
    return found


def written() -> int:
    """Bytes this process has had written to a disk; 0 where the system does not say."""
    try:
        text = Path("/proc/self/io").read_text()
    except OSError:
        return 0
    return int(dict(line.split(": ") for line in text.splitlines())["write_bytes"])


def wear(folder: Path) -> None:
    """Bytes written for each block put, checkpoints and closing included."""
    for text, count, each, kind in (
        ("alone, durable", 1000, 1, Commit),
        ("in tens, durable", 5000, 10, Commit),
        ("in batches of 256, durable", 50_000, 256, Commit),
        ("alone, written behind", 1000, 1, Save),
    ):
        home = folder / f"wear{each}{kind.__name__}"
        home.mkdir()
        store = Store.open(home)
        dice, before = random.Random(3), written()
        for _ in range(count // each):
            data = [dice.randbytes(SIZE) for _ in range(each)]
            store.perform([kind(tuple(Write("blocks", bytes(Cid.of(one, RAW)), one) for one in data))])
        store.close()
        os.sync()
        print(f"{(written() - before) / count / 1024:6.1f} KiB written for a block of 1 KiB put {text}")


def plot(found: list[tuple[int, float, float]], target: Path) -> None:
    """Both curves, as a drawing of logarithmic axes."""
    width, height, left, low = 640, 360, 60, 310
    top = max(max(put, get) for _, put, get in found) * 1.2
    x = [left + (width - left - 40) * at / max(1, len(found) - 1) for at in range(len(found))]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif"'
        ' font-size="12"><rect width="100%" height="100%" fill="white"/>'
        '<text x="60" y="24" font-size="15">The store on SQLite: microseconds a block of 1 KiB</text>'
    ]
    for part in range(5):
        y, value = low - (low - 50) * part / 4, top * part / 4
        parts.append(f'<path d="M{left} {y:.0f}H{width - 40}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.0f}" text-anchor="end">{value:.0f}</text>')
    for at, (there, _, _) in zip(x, found, strict=True):
        parts.append(f'<text x="{at:.0f}" y="{low + 20}" text-anchor="middle">{there:,}</text>')
    for column, colour, name in ((1, "#0b6", "put (durable, 256 together)"), (2, "#36c", "get (random)")):
        points = [(at, low - (low - 50) * float(row[column]) / top) for at, row in zip(x, found, strict=True)]
        line = " ".join(f"{a:.0f},{b:.0f}" for a, b in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{60 + (column - 1) * 220}" y="350" fill="{colour}">{name}</text>')
    target.write_text("\n".join(parts) + "\n</svg>\n")


if __name__ == "__main__":
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--blocks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most", type=int, default=100_000)
    parser.add_argument("--plot", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as made:
        put, get = compare(Path(made), options.blocks, options.rounds)
        wear(Path(made))
        grown = grow(Path(made), options.most)
    if options.plot:
        plot(grown, Path(__file__).with_suffix(".svg"))
    sys.exit(put < 0.7 or get < 0.6)
