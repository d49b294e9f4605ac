"""A million damaged messages to a node that believes every signature: answered, refused or nothing.

    python bench/fuzz.py [--seed 7] [--messages 1000000]

What must not happen is any other exception, or a node that stops answering. The seed is printed first; the
same seed damages the same messages. The work is shared out to as many processes as there are processors.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import mutants  # noqa: E402 - the tests are no package of the venv's

SHARE = 10_000


def share(task: tuple[int, int, int]) -> mutants.Taken:
    """So many messages, seeded by the seed and the number of this share."""
    seed, number, count = task
    return mutants.run(f"{seed} {number}", count)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--messages", type=int, default=1_000_000)
    given = arguments.parse_args()
    print(f"seed {given.seed}, {given.messages} messages", flush=True)
    counts = [min(SHARE, given.messages - start) for start in range(0, given.messages, SHARE)]
    tasks = [(given.seed, number, count) for number, count in enumerate(counts)]
    started, taken = time.perf_counter(), mutants.Taken()
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for part in pool.imap_unordered(share, tasks):
            taken += part
    seconds = time.perf_counter() - started
    for code, count in taken.codes.most_common():
        print(f"  {count:>9}  {code}")
    print(f"  {taken.nothing:>9}  nothing")
    print(f"{given.messages / seconds:.0f} a second; no other exception, and every node went on")
    return 0


if __name__ == "__main__":
    sys.exit(main())
