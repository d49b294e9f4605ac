"""A store on a disk that fails: `python -m tests.node.faulting ROOT KINDS EVERY`, under the recorder.

Each home below ROOT sees one fault, at one operation; then its disk is well again. Whatever was acknowledged
must be there then, whatever was refused must not, in the store, and in what a kill would leave of it.
"""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from typing import Final

from tests.node import crashing

from promisegrid.effects import Commit, Failure, Save
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
    ("sync", SYNC, errno.EIO, 3, "disk_full"),
    ("read", READ, errno.EIO, 1, "internal"),
)


def fail(recorder: crashing.Recorder, home: Path, kind: int, at: int) -> int:
    """One home, one fault; how many effects were refused."""
    _, ops, why, times, code = KINDS[kind]
    home.mkdir()
    store = Store.open(home)
    store.log_pages = 12
    kept: list[Save | Commit] = []
    refused = 0
    for number, effect in enumerate(crashing.workload(at, EFFECTS)):
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
        else:
            refused += 1
            assert isinstance(answer, Failure) and answer.code == code, answer
            assert number < EFFECTS - 6, f"{home}: still refused on a disk that is well: {answer}"
    expected = crashing.states(kept)[-1]
    assert crashing.seen(store) == expected, home
    killed = home / "killed"
    killed.mkdir()
    for suffix in ("", "-wal"):
        shutil.copyfile(home / f"{FILE}{suffix}", killed / f"{FILE}{suffix}")
    assert crashing.content(killed) == expected, f"{home}: after a kill"
    store.close()
    assert crashing.content(home) == expected, f"{home}: after it was closed"
    shutil.rmtree(home)
    return refused


def main() -> None:
    """Some kinds of fault, each at every so manieth operation."""
    recorder, root, every = crashing.Recorder(), Path(sys.argv[1]), int(sys.argv[3])
    for kind in map(int, sys.argv[2].split(",")):
        refused = sum(fail(recorder, root / f"{kind}-{at}", kind, at) for at in range(1, 40, every))
        assert refused, KINDS[kind]


if __name__ == "__main__":
    main()
