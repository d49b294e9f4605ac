"""Kills and power cuts, many more than the tests make: nothing that was acknowledged may be lost.

    python bench/crash.py [--kills 1000] [--nodes 30] [--cuts 3] [--seed N]

kills: rounds in which a process that writes to a store is killed at a random moment (SIGKILL), and what it
left compared, whole. nodes: the same with a whole node and its door, which collects garbage meanwhile. cuts:
workloads recorded down to each write and sync; the disk after every single one of these is made in four ways
(writes not yet synced lost, kept, some kept, torn by sectors), opened and compared. A failure names its seed
and its moment.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from tests.node import crashing, cutting, powercut  # noqa: E402


def kills(folder: Path, stores: int, nodes: int, seed: int) -> None:
    """Rounds in a process of their own, because they fork."""
    command = [sys.executable, "-m", "tests.node.killing", str(folder), str(stores), str(nodes), str(seed)]
    started = time.perf_counter()
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    took = time.perf_counter() - started
    print(f"{stores} stores killed: {told[0]} effects acknowledged, none lost")
    print(f"{nodes} nodes killed: {told[1]} files acknowledged, none lost ({took:.0f} s in all)")


def cuts(folder: Path, workloads: int, seed: int) -> None:
    """Every moment of some workloads, in every way."""
    library, images, durable = powercut.library(ROOT / "build"), 0, 0
    for number in range(seed, seed + workloads):
        home = folder / f"home{number}"
        log = cutting.record(library, home, number, 90)
        states = crashing.states(crashing.workload(number, 90))
        for moment in cutting.moments(log, 1):
            for how in powercut.HOWS:
                cutting.check(moment, home, states, how, number)
                images += 1
            durable = moment.durable
        assert durable > 40, "too little was acknowledged for this to say much"
    print(f"{workloads} workloads, power cut at every write and sync: {images} disks, nothing lost")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=30)
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as made:
        kills(Path(made), options.kills, options.nodes, options.seed)
        cuts(Path(made), options.cuts, options.seed)
