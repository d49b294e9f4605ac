"""The power goes at any moment: what was acknowledged is there, all of it, and nothing is half there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.node import crashing, cutting, powercut


@pytest.fixture(scope="session")
def library() -> Path:
    if sys.platform != "linux":
        pytest.skip("the recorder is preloaded, as Linux does it")
    return powercut.library(cutting.ROOT / "build")


def test_the_power_goes(library: Path, tmp_path: Path) -> None:
    seed, count = 4, 60
    log = cutting.record(library, tmp_path / "home", seed, count)
    states = crashing.states(crashing.workload(seed, count))
    for number, moment in enumerate(cutting.moments(log, 5)):
        cutting.check(moment, tmp_path / "home", states, powercut.HOWS[number % 4], seed)
