"""Workers that cannot be loaded for a moment are tried again, with pauses, and not for ever."""

from __future__ import annotations

import json
import subprocess

from e2e.harness import ROOT


def test_a_network_that_is_away_for_a_moment_fails_no_task() -> None:
    script, worker = ROOT / "e2e" / "pool.node.mjs", (ROOT / "worker").as_uri()
    done = subprocess.run(["node", script, worker], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["first"] == ["a", "b"] and told["waited"]
    assert told["second"] == "internal: A handler worker failed: no network."
    assert told["tries"] == 4 and told["third"] == told["second"] and told["more"] == 1
