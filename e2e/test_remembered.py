"""What one node ran spares another's run, where that one's owner lets it; and each says why."""

from __future__ import annotations

from pathlib import Path

from e2e.conftest import RunNode
from e2e.harness import wait_for
from tests.programs import NUMBERS


def test_a_trusted_nodes_receipt_spares_the_run_and_is_named(run_node: RunNode, tmp_path: Path) -> None:
    ann = run_node("ann")
    bob = run_node("bob", "--peer", ann.join, "--serve")
    wait_for(lambda: bob.did in str(ann.cli.ok("peers", "--json").json), what="the link")
    code = tmp_path / "numbers.wasm"
    code.write_bytes(NUMBERS)
    ran = bob.cli.ok("call", code, "add_one", "41", "--json", "--why").json
    assert (ran["value"], ran["by"]) == (42, bob.did) and "only its own receipts count" in ran["why"]
    ann.cli.ok("trust", bob.did)
    told = ann.cli.ok("call", code, "add_one", "41", "--why")
    assert told.text == "42"
    assert told.err == f"promisegrid: remembered: by a receipt of {bob.did}, whose receipts count here\n"
    again = ann.cli.ok("call", code, "add_one", "41", "--on", "anywhere", "--json").json
    assert (again["by"], again["receipt"], again["cached"]) == (bob.did, ran["receipt"], True)
    assert "why" not in again
    fresh = ann.cli.ok("call", code, "add_one", "41", "--fresh", "--json", "--why").json
    assert (fresh["by"], fresh["result"]) == (ann.did, ran["result"]) and fresh["why"].startswith("run here")
