"""Metering a large module in a tab is bounded: killed when late, let go when idle, given up when asked."""

from __future__ import annotations

import json
import subprocess

from e2e.harness import ROOT


def test_a_second_python_is_killed_let_go_and_given_up() -> None:
    script, worker = ROOT / "e2e" / "metering.node.mjs", (ROOT / "worker").as_uri()
    done = subprocess.run(["node", script, worker], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    late = ["too_complex", "Metering the module took longer than 0.3 s."]
    assert (told["good"], told["alive"]) == ("look", 0)
    assert (told["looking"], told["rewriting"]) == (late, late)
    assert told["killed"] >= 2 and told["after"] == "look", "the next module gets a fresh one"
    assert told["idle"]["made"] == told["idle"]["gone"] >= 3
    assert told["given"][0] == "cancelled" and told["waiting"] == "look", "who waited in line has its turn"
    assert told["shelved"] == [1, 4, 6], "nothing is kept of what was given up"
    assert told["closed"][0] == "cancelled" and told["left"] == {"meters": 0, "handlers": 0}
