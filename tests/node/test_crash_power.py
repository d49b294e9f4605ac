"""The power goes at any moment: what was acknowledged is there, all of it, and nothing is half there."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from tests.node import crashing, cutting, powercut

from promisegrid_node.keys import FILE as KEY


@pytest.fixture(scope="session")
def library() -> Path:
    if sys.platform != "linux":
        pytest.skip("the recorder is preloaded, as Linux does it")
    return powercut.library(cutting.ROOT / "build")


def test_the_power_goes(library: Path, tmp_path: Path) -> None:
    seed, count = 4, 60
    log = cutting.record(library, tmp_path / "home", seed, count)
    states = crashing.states(crashing.workload(seed, count))
    for number, moment in enumerate(cutting.moments(log, 7)):
        cutting.check(moment, tmp_path / "home", states, powercut.HOWS[number % 4], seed)


def test_the_power_goes_after_a_first_put(library: Path, tmp_path: Path) -> None:
    """The command in a home that was not there: once it has answered, key, folders and content outlive it."""
    root, file = tmp_path / "root", tmp_path / "file"
    root.mkdir()
    home = root / "new" / "home"
    file.write_bytes(bytes(range(256)) * 9000)
    arguments = ["-m", "promisegrid_node", "put", str(file), "--home", str(home)]
    log = cutting.recorded(library, root, arguments)
    disk, had_key = powercut.Disk(), False
    for at, entry in enumerate(powercut.entries(log)):
        disk.follow(entry)
        if at % 20 == 0:
            key = disk.image("none", random.Random(at)).get(str(home / KEY))
            assert key in (None, (home / KEY).read_bytes()) and (key or not had_key), at
            had_key = key is not None
    found = cutting.image(disk, home, "none", "end")
    assert found == (crashing.content(home),) * 2 and had_key
