"""kill -9 at random moments, of a store and of a whole node: what was acknowledged is there, and whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.node.cutting import ROOT


def test_what_was_acknowledged_outlives_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.node.killing", str(tmp_path), "50", "4", "5"]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    effects, files = map(int, told)
    assert effects > 50 and files > 1, "too little was acknowledged for this to say much"
