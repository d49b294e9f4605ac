"""Seeded worlds: nothing breaks in them, they repeat exactly, and what is broken on purpose is noticed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.simulation import life
from tests.simulation.__main__ import Seen, Tally, live, main, watch
from tests.simulation.life import Life
from tests.simulation.world import Broken, Host

from promisegrid.effects import Commit, Effect, Job, Load, Outcome, Read, Save, Scan, Verify
from promisegrid.ledger import Ledger
from promisegrid.promisebase.collect import Collector

SEEDS, AT_ONCE = 200, 20


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_nothing_breaks(first: int) -> None:
    done: Counter[str] = Counter()
    for seed in range(first, first + AT_ONCE):
        one = Life(seed)
        try:
            one.live()
        except Broken as wrong:
            pytest.fail(f"{wrong}\n./build.sh sim {seed} 1")
        done.update(one.done)
    assert all(done[what] for what in ("get: fine", "run: fine", "use: fine", "pin: fine", "crash")), done


def test_a_seed_that_breaks_says_its_command_and_breaks_again_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = Host.outcome

    def wrong(self: Host, job: Job) -> Outcome:
        outcome = real(self, job)
        return Outcome(bytes(8), b"", 7, 65_536) if self.name == "host1" else outcome

    monkeypatch.setattr(Host, "outcome", wrong)
    tally = Tally(30)
    assert watch(map(live, range(30)), tally) == 1
    seed = tally.broken[0]
    said = capsys.readouterr().out
    assert f"./build.sh sim {seed} 1" in said and "answered" in said
    seen = live(seed)
    assert seen == live(seed) and str(seen) in said
    assert main(seed, 1) == 1 and capsys.readouterr().out == f"{seen}\n"
    monkeypatch.setattr(Host, "outcome", real)
    assert main(seed, 1) == 0 and f"seed {seed} holds" in capsys.readouterr().out


def test_a_seed_is_one_course_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """In another process too, whatever order its sets have."""
    root = Path(__file__).parent.parent.parent
    monkeypatch.setenv("PYTHONPATH", f"{root / 'kernel'}:{root}")
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    command = [sys.executable, "-m", "tests.simulation", "2", "1"]
    said = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == f"{live(2)}\n"
    assert live(2).trace != live(1).trace


def test_ctrl_c_says_how_far_it_came(capsys: pytest.CaptureFixture[str]) -> None:
    def until_somebody_has_enough() -> Iterator[Seen]:
        yield live(0)
        yield live(1)
        raise KeyboardInterrupt

    assert watch(until_somebody_has_enough(), Tally(1000)) == 130
    assert "2 of 1000 seeds lived, 0 broken" in capsys.readouterr().out


def _broken(seeds: range = range(60)) -> str:
    """What the first seed that breaks says."""
    for seed in seeds:
        try:
            Life(seed).live()
        except Broken as wrong:
            return str(wrong)
    return "nothing"


def test_a_disk_that_forgets_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Host._store

    def forgetful(self: Host, ticket: int, effect: Load | Scan | Read | Save | Commit) -> None:
        if isinstance(effect, Commit) and self.world.random.random() < 0.2:
            self.base.answer(effect)
            self.answer(ticket, None)
            return
        real(self, ticket, effect)

    monkeypatch.setattr(Host, "_store", forgetful)
    assert "lost" in _broken() or "ended" in _broken()


def test_a_host_that_believes_any_signature_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lets the impostor in."""
    real = Host._perform

    def credulous(self: Host, ticket: int, effect: Effect) -> None:
        if isinstance(effect, Verify):
            self.answer(ticket, True)
        else:
            real(self, ticket, effect)

    monkeypatch.setattr(Host, "_perform", credulous)
    assert "outsider" in _broken()


def test_an_engine_that_errs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Host.outcome

    def wrong(self: Host, job: Job) -> Outcome:
        outcome = real(self, job)
        return Outcome(bytes(8), b"", 7, 65_536) if self.name == "host1" else outcome

    monkeypatch.setattr(Host, "outcome", wrong)
    assert "answered" in _broken()


def test_blocks_nobody_hashes_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def believed(self: object, cid: object, data: bytes) -> bool:
        return True

    monkeypatch.setattr("promisegrid.exchange.Exchange.holds", believed)
    monkeypatch.setattr(life, "WAYS", ("wrong blocks", "liar"))
    assert "not the block" in _broken() or "other bytes" in _broken()


def test_a_collection_that_takes_what_is_pinned_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collector, "_is_kept", lambda self, name: False)
    assert "lost" in _broken() or "cannot read" in _broken()


def test_uses_that_are_not_counted_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "use", lambda self, *_: ())
    assert "promised calls" in _broken()
