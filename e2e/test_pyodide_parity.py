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


def counts(command: list[str]) -> dict[str, int]:
    """Run pytest; how many tests had which outcome, by its closing line."""
    limit = MINUTES * 60
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False)
    closing = re.compile(r"\d+ (passed|failed|error)")
    lines = [line for line in done.stdout.splitlines() if closing.search(line)]
    assert lines, f"{command[0]} ran no test: {(done.stdout + done.stderr)[-2000:]}"
    found = {word.rstrip("s"): int(n) for n, word in re.findall(r"(\d+) (\w+)", lines[-1].split(" in ")[0])}
    assert done.returncode == 0 and not {"failed", "error"} & found.keys(), done.stdout[-4000:]
    return {word: n for word, n in found.items() if word != "warning"}


@pytest.mark.timeout(2 * MINUTES * 60)
def test_the_fast_suite_passes_as_many_tests_inside_pyodide() -> None:
    """No test is lost or skipped on the way."""
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").glob("test_*.py"))
    here = counts([sys.executable, "-m", "pytest", *QUIET, *files])
    there = counts(["node", "worker/tests-in-pyodide.mjs", *QUIET])
    assert there == here
    assert there["passed"] > 0
