"""A store on a disk that fails: `python -m tests.node.faulting ROOT KINDS COUNT SEEDS`.

Run under the recorder (`powercut.c`). Each home below ROOT sees one fault, at one operation; then its disk is
well again. Whatever was acknowledged must be there then, whatever was refused must not, in the store, and in
what a kill would leave of it.
"""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.node import crashing

from promisegrid.cid import Cid
from promisegrid.effects import TABLES, Commit, Failure, Load, Save, Table
from promisegrid.promisebase.memory import MemoryBase
from promisegrid_node import store_file
from promisegrid_node.store import FILE, Store

WRITE, SYNC, CUT, OPEN, READ = 1, 2, 4, 8, 16
EFFECTS: Final = 26
FAULT_FROM: Final = 10
"""The effect before which the fault is laid."""
EVER: Final = 1 << 30
KINDS: Final = (
    ("full", WRITE | CUT, errno.ENOSPC, 40, "disk_full"),
    ("full", WRITE | CUT, errno.ENOSPC, EVER, "disk_full"),
    ("sync", SYNC, errno.EIO, 1, "disk_full"),
    ("sync", SYNC, errno.EIO, 2, "disk_full"),
    ("read", READ, errno.EIO, 1, "internal"),
)


def fail(recorder: crashing.Recorder, home: Path, kind: int, at: int, seed: int) -> int:
    """One home, one fault; how many effects were refused."""
    _, ops, why, times, code = KINDS[kind]
    home.mkdir()
    store = Store.open(home)
    store.log_pages = 12
    kept: list[Save | Commit] = []
    refused = 0
    for number, effect in enumerate(crashing.workload(seed, EFFECTS)):
        if number == FAULT_FROM:
            store._connection.execute("PRAGMA cache_size=4")
            recorder.c.powercut_fault(ops, at, times, why)
        if number == EFFECTS - 6:
            recorder.c.powercut_fault(0, 0, 0, 0)
        recorder.mark(b"b", number + 1)
        (answer,) = store.perform([effect])
        recorder.mark(b"n" if answer else b"a" if isinstance(effect, Commit) else b"s", number + 1)
        if answer is None:
            kept.append(effect)
            continue
        refused += 1
        assert isinstance(answer, Failure) and answer.code == code, answer
        assert number < EFFECTS - 6, f"{home}: still refused on a disk that is well: {answer}"
        if times == 1:
            assert killed(home) == crashing.states(kept)[-1], f"{home}: after a kill, {number} was refused"
    expected = crashing.states(kept)[-1]
    assert crashing.seen(store) == expected, home
    assert killed(home) == expected, f"{home}: after a kill"
    store.close()
    assert crashing.content(home) == expected, f"{home}: after it was closed"
    shutil.rmtree(home)
    return refused


def killed(home: Path) -> int:
    """What a kill at this moment would leave; made where the recorder does not look."""
    with tempfile.TemporaryDirectory() as made:
        for suffix in ("", "-wal"):
            shutil.copyfile(home / f"{FILE}{suffix}", Path(made) / f"{FILE}{suffix}")
        return crashing.content(Path(made))


def lie(recorder: crashing.Recorder, home: Path, at: int, how: int) -> int:
    """One home, one wrong answer of the disk; how many rows that hurt. What it hurt for good is told."""
    home.mkdir()
    base, store = MemoryBase(), Store.open(home)
    store.log_pages = 12
    effects = list(crashing.workload(at, EFFECTS))
    for effect in effects[:-4]:
        assert store.perform([effect]) == [base.answer(effect)]
    store.close()
    store = Store.open(home)
    store._connection.execute("PRAGMA cache_size=4")
    recorder.c.powercut_lie(at, how)
    hurt = differing(store, base)
    for effect in effects[-4:]:
        if store.perform([effect]) == [None]:
            base.answer(effect)
    recorder.c.powercut_lie(0, 0)
    store.close()
    store = Store.open(home)
    lost = differing(store, base)
    store.close()
    told = store_file.check(home / FILE) != [] or any(table == "blocks" for table, _ in lost)
    assert told or not lost, (home, lost)
    shutil.rmtree(home)
    return len(hurt | lost)


def differing(store: Store, base: MemoryBase) -> set[tuple[Table, bytes]]:
    """What a store does not answer, or says it cannot; nothing but blocks may be answered otherwise."""
    found: set[tuple[Table, bytes]] = set()
    for table in TABLES:
        for key, value in base.tables[table].items():
            answer = store.perform([Load(table, (key,))])[0]
            if isinstance(answer, Failure) or answer == (None,):
                found.add((table, key))
            elif answer != (value,):
                assert table == "blocks" and isinstance(answer, tuple), (table, key)
                assert not Cid.decode(key).holds(answer[0])
                found.add((table, key))
    return found


def main() -> None:
    """Some kinds of fault, at so many operations, with so many workloads each; or lies, for kind "lie"."""
    recorder, root, count, seeds = crashing.Recorder(), Path(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
    if sys.argv[2] == "lie":
        hurt = sum(lie(recorder, root / f"lie{at}", at, 1 + at % 3) for at in range(1, count))
        assert hurt, "no lie was of any consequence"
        return
    for kind in map(int, sys.argv[2].split(",")):
        step = 1 if KINDS[kind][0] == "sync" else 3
        refused = sum(
            fail(recorder, root / f"{kind}-{at}-{seed}", kind, at, seed)
            for at in range(1, 1 + count * step, step)
            for seed in range(seeds)
        )
        assert refused, KINDS[kind]


if __name__ == "__main__":
    main()
