"""In Chromium: a folder opened by its CID is a page that works, and reaches nothing of the node beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from e2e.harness import Node
from playwright.sync_api import BrowserContext, Page

PAGE = """<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="style.css">
<script>document.documentElement.dataset.inline = "ran"</script>
<img src="sub/dot.svg" id="dot"><script type="module" src="main.js"></script>"""
MAIN = """import {value} from "./sub/value.js";
const node = location.origin === "null" ? new URL(location.href).origin : location.origin;
const tried = {};
const attempt = async (name, act) => {
  try { tried[name] = `${await act() ?? "done"}`; } catch (error) { tried[name] = `Error ${error}`; }
};
const answered = (make) => new Promise((done, fail) => {
  const made = make();
  made.onsuccess = made.onload = made.onopen = () => done("open");
  made.onerror = () => fail(new Error("refused"));
});
const framed = (src) => new Promise((done) => {
  const frame = document.createElement("iframe");
  addEventListener("securitypolicyviolation", (event) => done(`Error ${event.violatedDirective}`));
  frame.onload = () => setTimeout(() => done("loaded"), 300);
  frame.src = src;
  document.body.append(frame);
});
await attempt("origin", () => self.origin);
await attempt("own data", async () => (await (await fetch("data.json")).json()).answer);
await attempt("indexedDB", () => answered(() => indexedDB.open("promisegrid")));
await attempt("localStorage", () => localStorage.length);
await attempt("sessionStorage", () => sessionStorage.length);
await attempt("caches", () => caches.keys());
await attempt("cookie", () => { document.cookie = "a=b"; return document.cookie; });
await attempt("lock", () => navigator.locks.request("promisegrid", () => "held"));
await attempt("files", () => navigator.storage.getDirectory());
await attempt("serviceWorker", () => navigator.serviceWorker.register("main.js"));
await attempt("page", async () => (await fetch(`${node}/`)).status);
await attempt("health", async () => (await fetch(`${node}/healthz`)).status);
await attempt("blind", async () => (await fetch(`${node}/healthz`, {mode: "no-cors"})).type);
await attempt("other", async () => (await fetch(`${node}/ipfs/OTHER?format=raw`)).status);
await attempt("socket", () => answered(() => new WebSocket(`${node.replace("http", "ws")}/grid`)));
await attempt("events", () => answered(() => new EventSource(`${node}/healthz`)));
await attempt("script", () => import(`${node}/healthz`));
await attempt("sharedWorker", () => answered(() => new SharedWorker("main.js")));
await attempt("frame", () => framed(`${node}/`));
await attempt("popup", () => window.open(`${node}/`) === null ? "Error no window" : "opened");
await attempt("opener", () => window.opener === null ? "Error no opener" : "there");
document.body.dataset.tried = JSON.stringify({...tried, value,
  colour: getComputedStyle(document.body).color, image: document.getElementById("dot").naturalWidth});
"""
WORKS = {"origin": "null", "own data": "42", "value": 7, "colour": "rgb(1, 2, 3)", "image": 7}


@pytest.fixture
def site(tmp_path: Path, node: Node) -> str:
    """The CID of a folder made for the web, by somebody who wishes its reader ill."""
    (tmp_path / "other.txt").write_text("mine")
    other = node.cli.ok("put", tmp_path / "other.txt").text
    folder = tmp_path / "site"
    (folder / "sub").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "main.js").write_text(MAIN.replace("OTHER", other))
    (folder / "data.json").write_text('{"answer": 42}')
    (folder / "sub" / "value.js").write_text("export const value = 7;")
    (folder / "style.css").write_text("body { color: rgb(1, 2, 3) }")
    (folder / "sub" / "dot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>')
    return node.cli.ok("put", folder).text


def tried(page: Page) -> dict[str, Any]:
    page.wait_for_selector("body[data-tried]", state="attached", timeout=20_000)
    found: dict[str, Any] = page.evaluate("JSON.parse(document.body.dataset.tried)")
    return found


def test_a_folder_opened_by_its_cid_works_and_reaches_nothing_of_the_node(
    browser_context: BrowserContext, node: Node, site: str
) -> None:
    tab = browser_context.new_page()
    tab.goto(node.url)
    tab.evaluate("promisegrid.ready")
    with browser_context.expect_page() as opened:
        tab.evaluate("(url) => { window.open(url) }", f"{node.url}ipfs/{site}")
    page = opened.value
    page.on("console", lambda message: print(message.text))
    found = tried(page)
    assert page.url == f"{node.url}ipfs/{site}/"
    assert {name: found.pop(name) for name in WORKS} == WORKS
    assert page.evaluate("document.documentElement.dataset.inline") == "ran"
    assert {name for name, what in found.items() if "Error" not in what} == set(), found
    assert len(browser_context.pages) == 3  # the one it began with, the tab, and this
    assert tab.evaluate("promisegrid.put(new Uint8Array([1])).then(() => 'the node is well')")
    assert browser_context.cookies() == []
    page.close()
    _cannot_be_framed(tab, node, site)


def _cannot_be_framed(page: Page, node: Node, site: str) -> None:
    """Neither the node's page nor the folder, not even by a page of the same origin."""
    page.goto(f"{node.url}healthz")
    for path in ("", f"ipfs/{site}/", f"ipfs/{site}/sub/", f"ipfs/{site}?format=raw"):
        page.evaluate(
            """(src) => new Promise((done) => { const frame = document.createElement("iframe");
            frame.onload = done; frame.src = src; document.body.append(frame); setTimeout(done, 3000); })""",
            f"{node.url}{path}",
        )
        shown = page.frames[-1]
        assert shown.url.startswith("chrome-error:") or "tried" not in shown.content(), path
