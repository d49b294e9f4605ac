"""A disk that is full, fails, or lies: what was acknowledged is there, what was refused is not."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node import crashing, cutting, faulting, powercut

from promisegrid.effects import Commit, Save


def run(tmp_path: Path, kinds: str, count: int, seeds: int, log: Path) -> None:
    """A child with a failing disk; its own assertions speak for it."""
    if sys.platform != "linux":
        pytest.skip("the recorder is preloaded, as Linux does it")
    root = tmp_path / "homes"
    root.mkdir()
    environment = powercut.environment(powercut.library(cutting.ROOT / "build"), root, log)
    command = [sys.executable, "-m", "tests.node.faulting", str(root), kinds, str(count), str(seeds)]
    done = subprocess.run(command, env=environment, cwd=cutting.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_a_failing_disk_refused_has_changed_nothing(tmp_path: Path) -> None:
    run(tmp_path, "0,1,2,3,4", 10, 1, Path("/dev/null"))


def test_a_disk_that_lies_once_is_found_out(tmp_path: Path) -> None:
    run(tmp_path, "lie", 40, 0, Path("/dev/null"))


def homes(log: bytes) -> Iterator[tuple[str, list[powercut.Entry]]]:
    """The record, a home at a time."""
    part: list[powercut.Entry] = []
    name = ""
    for entry in powercut.entries(log):
        if entry.kind == "K":
            if part:
                yield name, part
            name, part = entry.path, []
        else:
            part.append(entry)
    yield name, part


def test_a_failed_sync_loses_nothing_that_is_acknowledged_later(tmp_path: Path) -> None:
    run(tmp_path, "2,3", 3, 4, tmp_path / "log")
    for name, part in homes((tmp_path / "log").read_bytes()):
        effects = list(crashing.workload(int(name.rpartition("-")[2]), faulting.EFFECTS))
        disk, dice = powercut.Disk(), random.Random(name)
        kept: list[Save | Commit] = []
        allowed, failed, looks = {0}, False, 4

        def look(how: powercut.How, at: int, home: str = name, disk: powercut.Disk = disk) -> set[int]:
            found = cutting.image(disk, Path(home), how, f"{home} {at}")
            assert found is not None
            return set(found)

        for at, entry in enumerate(part):
            if entry.kind != "M":
                disk.follow(entry)
                failed = failed or entry.kind == "F"
                if failed and dice.random() < 0.03:
                    assert look(dice.choice(powercut.HOWS), at) <= allowed, f"{name}, operation {at}"
                continue
            kind, number = crashing.read_mark(entry.data)
            if kind == "b":
                allowed.add(crashing.states([*kept, effects[number - 1]])[-1])
            if kind in ("a", "s"):
                kept.append(effects[number - 1])
            if kind == "a":
                allowed = {crashing.states(kept)[-1]}
            if kind == "a" and failed and looks:
                looks -= 1
                assert look("none", at) <= allowed, f"{name}, operation {at}"
