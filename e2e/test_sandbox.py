"""In Chromium: an app's page runs its own modules and styles, and reaches nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from e2e.harness import Node
from playwright.sync_api import BrowserContext, Frame

PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="style.css">
<script>document.documentElement.dataset.inline = "ran"</script>
<img src="dot.svg" id="dot"><script type="module" src="main.js"></script>"""
MAIN = """import {value} from "./lib/value.js";
const tried = {};
const attempt = async (name, act) => {
  try { tried[name] = await act() ?? "done"; } catch (error) { tried[name] = `${error}`; }
};
await attempt("origin", () => self.origin);
await attempt("fetch", async () => (await fetch("main.js")).status);
await attempt("socket", () => new Promise((done, fail) => {
  const socket = new WebSocket(location.href.replace("http", "ws").replace(/app.*/, "grid"));
  socket.onopen = () => done("open"); socket.onerror = () => fail(new Error("closed"));
}));
await attempt("storage", () => localStorage.setItem("a", "b"));
await attempt("cookie", () => { document.cookie = "a=b"; return document.cookie; });
await attempt("parent", () => parent.document.title);
await attempt("beacon", () => navigator.sendBeacon("/healthz", "x"));
await attempt("wasm", async () => {
  await WebAssembly.compile(new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0])); return "compiled";
});
await attempt("grid", async () => typeof (await import("./grid.js")));
await attempt("eval", () => (0, eval)("1"));
await attempt("script", () => import("/healthz"));
await attempt("worker", () => new Promise((done, fail) => {
  const script = new Blob(["postMessage('works')"], {type: "text/javascript"});
  const worker = new Worker(URL.createObjectURL(script));
  worker.onmessage = (event) => done(event.data); worker.onerror = () => fail(new Error("refused"));
}));
await attempt("serviceWorker", () => navigator.serviceWorker.register("main.js"));
document.body.dataset.tried = JSON.stringify({...tried, value,
  colour: getComputedStyle(document.body).color, image: document.getElementById("dot").naturalWidth});
"""
TIMEOUT_MS = 20_000


@pytest.fixture
def app(tmp_path: Path, node: Node) -> str:
    folder = tmp_path / "app"
    (folder / "lib").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "main.js").write_text(MAIN)
    (folder / "lib" / "value.js").write_text("export const value = 42;")
    (folder / "style.css").write_text("body { color: rgb(1, 2, 3) }")
    (folder / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>')
    (folder / "app.json").write_text('{"name": "Probe", "asks": []}')
    return str(node.cli.ok("app", "publish", folder, "--json").json["cid"])


def framed(context: BrowserContext, node: Node, app: str) -> Frame:
    """The app in a frame of the node's own page."""
    page = context.new_page()
    page.on("console", lambda message: print(message.text))
    page.goto(f"{node.url}healthz")
    page.evaluate(
        """(src) => { const frame = document.createElement("iframe");
        frame.sandbox = "allow-scripts"; frame.src = src; document.body.append(frame); }""",
        f"{node.url}app/{app}/",
    )
    page.wait_for_function("frames.length === 1")
    frame = page.frames[1]
    frame.wait_for_selector("body[data-tried]", state="attached", timeout=TIMEOUT_MS)
    return frame


def test_an_app_runs_in_an_opaque_origin_without_network(
    browser_context: BrowserContext, node: Node, app: str
) -> None:
    frame = framed(browser_context, node, app)
    tried = frame.evaluate("JSON.parse(document.body.dataset.tried)")
    assert tried["origin"] == "null"
    assert (tried["value"], tried["colour"], tried["image"]) == (42, "rgb(1, 2, 3)", 7)
    assert tried["wasm"] == "compiled"
    assert tried["worker"] == "works"
    assert tried["grid"] == "object"
    assert frame.evaluate("document.documentElement.dataset.inline") is None
    for name in ("fetch", "socket", "storage", "parent", "eval", "script", "serviceWorker", "cookie"):
        assert "Error" in str(tried[name]), (name, tried[name])


def test_opened_directly_an_app_leads_to_the_page(
    browser_context: BrowserContext, node: Node, app: str
) -> None:
    page = browser_context.new_page()
    page.goto(f"{node.url}app/{app}/")
    assert page.url == f"{node.url}#/app/{app}"


def test_a_page_of_another_origin_cannot_open_the_grid(
    browser_context: BrowserContext, node: Node, run_node: object
) -> None:
    page = browser_context.new_page()
    page.goto("data:text/html,<title>elsewhere</title>")
    said = page.evaluate(
        """(url) => new Promise((done) => { const socket = new WebSocket(url);
        socket.onopen = () => done("open"); socket.onerror = () => done("refused"); })""",
        f"ws://127.0.0.1:{node.port}/grid",
    )
    assert said == "refused"
