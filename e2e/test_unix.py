"""Two nodes of one user on one machine, over a Unix socket; beside it a WebSocket, for when it fails."""

from __future__ import annotations

import signal
from pathlib import Path

from e2e.conftest import RunNode
from e2e.harness import Node, wait_for


def links(node: Node) -> set[tuple[str, str]]:
    """Whom a node is linked to, and how."""
    return {(peer["did"], peer["via"]) for peer in node.cli.ok("peers", "--json").json["peers"]}


def test_a_node_is_reached_over_its_socket_or_else_its_port(run_node: RunNode, tmp_path: Path) -> None:
    ann = run_node("ann", "--invite-only")
    home, join = f"unix:{ann.cli.home}", ann.join.partition("#")[2]
    bob = run_node("bob", "--peer", f"{home}#{join}", "--peer", ann.url)
    both = {(ann.did, "unix"), (ann.did, "ws")}
    wait_for(lambda: links(bob) == both, what="both links")
    data = bytes(range(256)) * 8192
    cid = ann.cli.ok("put", "-", stdin=data).text
    assert bob.cli.ok("get", cid).out == data

    (ann.cli.home / "peers.sock").unlink()
    ann.stop(signal.SIGKILL)
    wait_for(lambda: links(bob) == set(), what="the end of both")
    (ann.cli.home / "peers.sock").touch()
    ann = run_node("ann", "--invite-only", port=ann.port)
    wait_for(lambda: links(bob) == both, what="both links again")

    assert "not a peer's socket" in bob.cli.refused("up", "--peer", "unix:")
