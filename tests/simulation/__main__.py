"""Live seeded worlds on every core; what breaks says the command that repeats it. Ctrl-C stops in between."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing import Pool

from tests.simulation.life import Life

COUNT = 20_000
SAY_S, SAY_SEEDS = 1.0, 1000
INTERRUPTED = 130


@dataclass(frozen=True)
class Seen:
    """What became of one seed. trace: of all that arrived anywhere, to compare a repetition with."""

    seed: int
    wrong: str | None
    steps: int
    ended_ms: int
    trace: str
    done: Counter[str]

    def __str__(self) -> str:
        at = f"after {self.steps} steps and {self.ended_ms / 1000:.3f} s of its time, trace {self.trace[:12]}"
        if self.wrong is None:
            return f"seed {self.seed} holds ({at})"
        return f"seed {self.seed}: {self.wrong}\n  {at}\n  ./build.sh sim {self.seed} 1"


def live(seed: int) -> Seen:
    """One seed, to its end or to what broke: an invariant, or a fault of the kernel's."""
    life = Life(seed)
    began_ms, wrong = life.world.now_ms, None
    try:
        life.live()
    except Exception as fault:  # noqa: BLE001 - whatever it is, it is what this looks for
        wrong = f"{type(fault).__name__}: {fault}"
    world = life.world
    return Seen(seed, wrong, world.steps, world.now_ms - began_ms, world.trace.hexdigest(), life.done)


@dataclass
class Tally:
    """What was seen so far."""

    count: int
    seeds: int = 0
    steps: int = 0
    broken: list[int] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    began: float = field(default_factory=time.monotonic)
    said: float = 0.0

    def take(self, seen: Seen) -> None:
        """One more seed."""
        self.seeds, self.steps = self.seeds + 1, self.steps + seen.steps
        self.done += seen.done
        if seen.wrong is not None:
            self.broken.append(seen.seed)
            print(seen, flush=True)

    def progress(self) -> None:
        """Say how far it is, now and then."""
        now, line = time.monotonic(), sys.stderr.isatty()
        if (now - self.said < SAY_S) if line else self.seeds % SAY_SEEDS:
            return
        self.said = now
        left_s = (self.count - self.seeds) * (now - self.began) / self.seeds
        broken = len(self.broken)
        text = f"{self.seeds} of {self.count} seeds, {broken} broken, {left_s / 60:.0f} minutes left"
        print(text, end="   \r" if line else "\n", file=sys.stderr, flush=True)

    def __str__(self) -> str:
        took_s = max(time.monotonic() - self.began, 0.001)
        rows = [f"  {what:32} {times}" for what, times in sorted(self.done.items())]
        last = f"{self.seeds} of {self.count} seeds lived, {len(self.broken)} broken; {self.steps} steps; "
        rows.append(f"{last}{self.seeds / took_s:.1f} seeds and {self.steps / took_s:.0f} steps a second")
        return "\n".join(rows)


def watch(results: Iterable[Seen], tally: Tally) -> int:
    """Until all are seen, or Ctrl-C; 1 when any broke, `INTERRUPTED` when it was stopped."""
    try:
        for seen in results:
            tally.take(seen)
            tally.progress()
    except KeyboardInterrupt:
        print(f"\n{tally}\nstopped", flush=True)
        return INTERRUPTED
    print(tally, flush=True)
    return 1 if tally.broken else 0


def _leave_interrupts_to_the_first() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def main(first: int, count: int) -> int:
    """Live that many seeds from that one on."""
    if count == 1:
        seen = live(first)
        print(seen)
        return 0 if seen.wrong is None else 1
    with Pool(initializer=_leave_interrupts_to_the_first) as pool:
        return watch(pool.imap_unordered(live, range(first, first + count), chunksize=2), Tally(count))


if __name__ == "__main__":
    options = argparse.ArgumentParser(prog="./build.sh sim", description=__doc__)
    options.add_argument("first", type=int, nargs="?", default=0, help="the first seed (0)")
    options.add_argument("count", type=int, nargs="?", default=COUNT, help=f"how many seeds ({COUNT:,})")
    chosen = options.parse_args()
    sys.exit(main(chosen.first, chosen.count))
