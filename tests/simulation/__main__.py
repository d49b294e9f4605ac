"""Run seeds on every core: `python -m tests.simulation [FIRST [COUNT]]`. What breaks says its command."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from multiprocessing import Pool

from tests.simulation.life import Life
from tests.simulation.world import Broken

Seen = tuple[int, str | None, int, Counter[str]]


def live(seed: int) -> Seen:
    """One seed: itself, what broke, how many steps it took, how its asks ended."""
    life = Life(seed)
    wrong: str | None = None
    try:
        life.live()
    except Broken as broken:
        wrong = str(broken)
    except Exception as fault:  # noqa: BLE001 - a fault of the kernel's is what this looks for
        wrong = f"{type(fault).__name__}: {fault}"
    return seed, wrong, life.world.steps, life.done


def main(first: int, count: int) -> int:
    """Run that many seeds; 1 when any broke."""
    if count == 1:
        Life(first).live()
        print(f"seed {first} holds")
        return 0
    done: Counter[str] = Counter()
    steps = broken = 0
    began = time.monotonic()
    with Pool() as pool:
        for number, (seed, wrong, took, ends) in enumerate(
            pool.imap_unordered(live, range(first, first + count), chunksize=4), 1
        ):
            if wrong is not None:
                broken += 1
                print(f"{wrong}\n  python -m tests.simulation {seed} 1", flush=True)
            steps, done = steps + took, done + ends
            if sys.stderr.isatty() or number % 1000 == 0:
                print(f"{number} of {count} seeds, {broken} broken", end="\r", file=sys.stderr, flush=True)
    for what, times in sorted(done.items()):
        print(f"  {what:32} {times}")
    rate = steps / (time.monotonic() - began)
    print(f"{count} seeds, {broken} broken; {steps} steps, {rate:.0f} a second")
    return 1 if broken else 0


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="./build.sh sim", description=__doc__)
    options.add_argument("first", type=int, nargs="?", default=0, help="the first seed (0)")
    options.add_argument("count", type=int, nargs="?", default=10_000, help="how many seeds (10,000)")
    chosen = options.parse_args()
    sys.exit(main(chosen.first, chosen.count))
