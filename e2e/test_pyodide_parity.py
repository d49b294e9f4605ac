"""The kernel is the same code on both Pythons: its fast suite passes the same number of tests on each."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
QUIET = ("-q", "--color=no")
MINUTES = 8  # for a suite that takes CPython one; Pyodide is three to five times slower


def run(command: list[str]) -> list[str]:
    """Run a suite to its good end; the lines it printed."""
    limit = MINUTES * 60
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0, f"{command[0]}: {(done.stdout + done.stderr)[-4000:]}"
    return done.stdout.splitlines()


def counts(lines: list[str]) -> dict[str, int]:
    """How many tests had which outcome, by the closing line."""
    closing = [line for line in lines if re.search(r"\d+ (passed|failed|error)", line)]
    assert closing, lines[-20:]
    found = {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", closing[-1].split(" in ")[0])}
    return {word: n for word, n in found.items() if not word.startswith("warning")}


@pytest.mark.timeout(2 * MINUTES * 60)
def test_the_fast_suite_passes_as_many_tests_inside_pyodide() -> None:
    """No test that CPython runs is lost, skipped or failed there. (Here they run as tests of their own.)"""
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("test_*.py"))
    listed = run([sys.executable, "-m", "pytest", "--collect-only", *QUIET, *files])
    collected = [line for line in listed if "::" in line]
    there = counts(run(["node", "worker/tests-in-pyodide.mjs", *QUIET]))
    assert there == {"passed": len(collected)} and len(collected) > 1000
