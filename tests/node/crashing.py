"""A store at work, and what may be in it after its process or the power is gone.

`workload` is a row of `Save`s and `Commit`s, the same for the same seed. `states` are the digests of all that
a store holds after each of them. A store that lost its power holds one of these states: none older than the
last acknowledged `Commit`, none half done. `python -m tests.node.crashing HOME SEED COUNT` performs one.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import random
import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, cast

from promisegrid.cid import RAW, Cid
from promisegrid.effects import TABLES, Commit, Save, Scan, Table, Write
from promisegrid.promisebase.memory import MemoryBase
from promisegrid_node.store import FILE, Store

Rows = tuple[tuple[bytes, bytes], ...]
_MODULUS: Final = 1 << 256
_MARK: Final = struct.Struct("<cI")
_SIZES: Final = (0, 1, 30, 1000, 1024, 5000, 20_000, 90_000)


def block(data: bytes) -> Write:
    """A block to be written."""
    return Write("blocks", bytes(Cid.of(data, RAW)), data)


def workload(seed: int, count: int) -> Iterator[Save | Commit]:
    """Blocks with keys, streams and pins, large and small, old and new, some removed; most are commits."""
    dice = random.Random(seed)
    blocks: list[Write] = []
    for number in range(count):
        writes: list[Write] = []
        for _ in range(dice.choice((1, 1, 2, 3, 8))):
            kind = dice.random()
            if kind < 0.5 or not blocks:
                blocks.append(block(dice.randbytes(dice.choice(_SIZES))))
                writes.append(blocks[-1])
            elif kind < 0.6:
                writes.append(dice.choice(blocks))
            elif kind < 0.65:
                writes.append(Write("blocks", dice.choice(blocks).key, None))
            else:
                tables: tuple[Table, ...] = ("memo", "grid", "kv", "kv", "streams", "pins")
                value = None if kind > 0.95 else b"%d:" % number + dice.randbytes(dice.choice((0, 8, 300)))
                writes.append(Write(dice.choice(tables), b"key%d" % dice.randrange(30), value))
        if dice.random() < 0.3:
            yield Save(tuple(writes))
            if dice.random() < 0.5:
                yield Commit(tuple(writes))  # what was saved is there already, and is to be durable now
        else:
            number_key = Write("kv", b"number", b"%d" % number)
            yield Commit((*writes, number_key))


def states(effects: Iterable[Save | Commit]) -> list[int]:
    """The digest of everything before the first effect, and after each."""
    base, found = MemoryBase(), [0]
    for effect in effects:
        keys = {(write.table, write.key) for write in effect.writes}
        before = _digest(_rows(base, keys))
        assert base.answer(effect) is None
        found.append((found[-1] - before + _digest(_rows(base, keys))) % _MODULUS)
    return found


def _rows(base: MemoryBase, keys: Iterable[tuple[Table, bytes]]) -> Iterator[tuple[str, bytes, bytes]]:
    for table, key in keys:
        if key in base.tables[table]:
            yield table, key, base.tables[table][key]


def _digest(rows: Iterable[tuple[str, bytes, bytes]]) -> int:
    """Of rows in any order: the sum of their hashes."""
    named = (b"%b %d " % (table.encode(), len(key)) + key + value for table, key, value in rows)
    return sum(int.from_bytes(hashlib.sha256(one).digest(), "big") for one in named) % _MODULUS


def content(folder: Path) -> int:
    """The digest of all that a store's file holds, read with SQLite alone. Raises what SQLite raises."""
    connection = sqlite3.connect(folder / FILE)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        named = "SELECT name FROM sqlite_master WHERE type = 'table'"
        there = {name for (name,) in connection.execute(named)}
        return _digest(
            (table, key, value)
            for table in TABLES
            if table in there
            for key, value in connection.execute(f"SELECT key, value FROM {table}")
        )
    finally:
        connection.close()


def seen(store: Store) -> int:
    """The digest of all that a store says it holds."""
    scans = [Scan(table, b"", b"", 1 << 30) for table in TABLES]
    rows = zip(TABLES, store.perform(scans), strict=True)
    return _digest((table, key, value) for table, found in rows for key, value in cast(Rows, found))


class Recorder:
    """The recorder of this process, where it was started under one."""

    def __init__(self) -> None:
        self.c = ctypes.CDLL(None)
        self.c.powercut_count.restype = ctypes.c_long

    def mark(self, kind: bytes, number: int) -> None:
        """Write into the record that an effect begins ("b") or is answered, durable ("a") or not ("s")."""
        data = _MARK.pack(kind, number)
        self.c.powercut_mark(data, len(data))


def read_mark(data: bytes) -> tuple[str, int]:
    """What `Recorder.mark` wrote."""
    kind, number = _MARK.unpack(data)
    return kind.decode(), number


def perform(home: Path, seed: int, count: int) -> None:
    """Perform a workload under the recorder: opened, closed and opened again, at last left without a word."""
    recorder = Recorder()
    store = Store.open(home)
    store.log_pages = 30
    for number, effect in enumerate(workload(seed, count), 1):
        if number % 40 == 0:
            store.close()
            store = Store.open(home)
            store.log_pages = 30
        recorder.mark(b"b", number)
        (answer,) = store.perform([effect])
        assert answer is None, answer
        recorder.mark(b"a" if isinstance(effect, Commit) else b"s", number)
    os._exit(0)


if __name__ == "__main__":
    perform(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
