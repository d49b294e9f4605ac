"""The power goes at any moment of a store's work: what it left is opened and compared with what it may be."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.node import crashing, powercut

from promisegrid_node.store import FILE, Store

ROOT: Final = Path(__file__).parent.parent.parent


@dataclass(frozen=True, slots=True)
class Moment:
    """A disk when the power goes: what may be in the store is states[durable:begun + 1]."""

    disk: powercut.Disk
    durable: int
    begun: int
    at: int


def moments(log: bytes, every: int) -> Iterator[Moment]:
    """The disk after every so many things done to it."""
    disk, durable, begun = powercut.Disk(), 0, 0
    for at, entry in enumerate(powercut.entries(log)):
        if entry.kind == "M":
            kind, number = crashing.read_mark(entry.data)
            begun = max(begun, number)
            durable = number if kind == "a" else durable
        else:
            disk.follow(entry)
        if at % every == 0:
            yield Moment(disk, durable, begun, at)


def check(moment: Moment, home: Path, states: list[int], how: powercut.How, seed: int) -> None:
    """One image of a disk, opened with nothing but SQLite, and by the store."""
    where = f"seed {seed}, operation {moment.at}, writes not synced: {how}, durable {moment.durable}"
    allowed = states[moment.durable : moment.begun + 1]
    found = image(moment.disk, home, how, f"{seed} {moment.at} {how}")
    assert moment.durable == 0 if found is None else set(found) <= set(allowed), where


def image(disk: powercut.Disk, home: Path, how: powercut.How, seed: str) -> tuple[int, int] | None:
    """What a disk holds, as SQLite alone reads it, and once a store was opened; None: no store."""
    folder = home.parent / "image"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    dice = random.Random(seed)
    for path, data in disk.image(how, dice).items():
        (folder / os.path.relpath(path, home)).write_bytes(data)
    if not (folder / FILE).exists():
        return None
    if dice.random() < 0.5:
        (folder / f"{FILE}-shm").write_bytes(dice.randbytes(32768))
    before = crashing.content(folder)
    Store.open(folder).close()
    return before, crashing.content(folder)


def record(library: Path, home: Path, seed: int, count: int) -> bytes:
    """What a workload does to the disk."""
    home.mkdir()
    return recorded(library, home, ["-m", "tests.node.crashing", str(home), str(seed), str(count)])


def recorded(library: Path, home: Path, arguments: list[str]) -> bytes:
    """What Python, run with some arguments, does to the disk below a home."""
    log = home.parent / "log"
    log.unlink(missing_ok=True)
    environment = powercut.environment(library, home, log)
    subprocess.run([sys.executable, *arguments], env=environment, cwd=ROOT, check=True)
    return log.read_bytes()
