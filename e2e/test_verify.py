"""`run --verify N`: several nodes run the same program, and what they sign is compared."""

from __future__ import annotations

from pathlib import Path

from e2e import programs
from e2e.conftest import RunNode
from e2e.harness import wait_for


def test_peers_that_agree_are_named(run_node: RunNode, tmp_path: Path) -> None:
    ann = run_node("ann")
    others = {run_node(name, "--peer", ann.join, "--serve").did for name in ("bob", "eve")}
    wait_for(
        lambda: (
            others == {peer["did"] for peer in ann.cli.ok("peers", "--json").json["peers"] if peer["serves"]}
        ),
        what="both peers",
    )
    code = tmp_path / "add.wasm"
    code.write_bytes(programs.add_one())
    done = ann.cli.ok("call", code, "add_one", "41", "--verify", "2", "--json").json
    assert done["value"] == 42
    assert {one["did"] for one in done["verified"]} == others
    assert {one["result"] for one in done["verified"]} == {done["result"]}
    said = ann.cli.ok("call", code, "add_one", "41", "--verify", "2").err
    assert all(did in said for did in others)
    assert "3 peers are to run it" in ann.cli.refused(
        "run", code, "--func", "add_one", "--verify", "3", code=125
    )
    assert ann.cli.ok("evidence", "--json").json == {"evidence": []}
