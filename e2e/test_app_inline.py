"""Apps in a tab whose node is gone: shown from the tab's own verified copy, sealed off as on a node."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
from e2e.conftest import NO_CHANNELS
from e2e.harness import CHROMIUM, ROOT, Node, chromium_path
from e2e.test_page import joined
from e2e.test_page_apps import folder, granted, published
from playwright.sync_api import BrowserContext, FrameLocator, Page, Playwright, expect

SITE = ROOT / "e2e" / "fake" / "site"
GREET = """(body, port) => body.append(Object.assign(document.createElement("link"),
  {rel: "preconnect", href: `http://127.0.0.1:${port}`}))"""
"""No policy of content knows of connections made in advance; who chooses a name has said something."""


def frame(page: Page) -> FrameLocator:
    """The app's."""
    return page.frame_locator("#app-stage iframe")


def found(page: Page) -> dict[str, object]:
    """What the app of every kind of file has found out."""
    frame(page).locator("body[data-found]").wait_for(state="attached")
    said = json.loads(frame(page).locator("body").get_attribute("data-found") or "{}")
    assert isinstance(said, dict)
    return said


@pytest.fixture
def page(browser_context: BrowserContext, node: Node) -> Page:
    """A tab that joined; no service worker helps it."""
    return joined(browser_context, node)


def test_apps_open_when_their_node_is_gone(page: Page, node: Node, tmp_path: Path) -> None:
    probe, whole = published(node, folder(tmp_path)), published(node, SITE)
    for cid in (probe, whole):
        page.evaluate("(cid) => { promisegrid.open(cid); }", cid)
        if cid != whole:
            granted(page)
        expect(page.locator("#app-status")).to_contain_text("verified by its CID")
    node.stop(signal.SIGKILL)
    expect(page.locator("#link")).to_have_attribute("data-state", "offline")

    page.evaluate("(cid) => promisegrid.open(cid)", whole)
    said = found(page)
    assert said == {
        "parent": "SecurityError", "storage": "SecurityError", "fetch": "TypeError", "eval": "EvalError",
        "socket": "refused", "blob": "done", "data": "TypeError", "nonsense": "not_granted",
        "order": ["classic", "there", 42, "later", 2], "image": 1, "dot": 1, "set": 1, "out": 0,
        "origin": "null", "width": "77px", "height": "33px", "color": "rgb(1, 2, 3)",
        "background": 'url("blob:null',
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as outside:
        frame(page).locator("body").evaluate(GREET, outside.getsockname()[1])
        outside.settimeout(1)
        with pytest.raises(TimeoutError):
            outside.accept()
    assert frame(page).locator("html").get_attribute("data-inline") is None
    frame(page).locator("body[data-loaded=yes]").wait_for(state="attached")
    assert page.locator("#app-stage iframe").get_attribute("sandbox") == "allow-scripts allow-downloads"
    expect(page.locator("#app-status")).to_contain_text("this tab's own copy")

    page.evaluate("(cid) => { location.hash = '#/app/' + cid; }", probe)
    frame(page).locator("body[data-tried]").wait_for(state="attached")
    tried = json.loads(frame(page).locator("body").get_attribute("data-tried") or "{}")
    assert tried["own"] == 42 and tried["other"] == "no_such_handler" and tried["origin"] == "null"
    refused = [tried[name] for name in ("parent", "network", "storage")]
    assert refused == ["SecurityError", "TypeError", "SecurityError"]
    frame(page).locator("a").click()
    expect(page.locator("#app-stage .error")).to_contain_text("has lost its access")


def test_an_app_is_reloaded_and_runs_its_program_when_the_node_is_gone(
    playwright: Playwright, node: Node, tmp_path: Path
) -> None:
    """What runs it is in the copy that the service worker keeps."""
    cid = published(node, ROOT / "apps" / "render")
    browser = playwright.chromium.launch_persistent_context(
        str(tmp_path / "profile"), executable_path=chromium_path(), args=CHROMIUM
    )
    try:
        browser.add_init_script(NO_CHANNELS)
        page = joined(browser, node)
        page.evaluate("(cid) => { promisegrid.open(cid); }", cid)
        granted(page)
        expect(page.locator("#app-status")).to_contain_text("verified by its CID")
        page.wait_for_selector("html[data-offline=ready]")
        node.stop(signal.SIGKILL)
        page.reload()
        frame(page).locator("#go").click()
        expect(frame(page).locator("#status")).to_contain_text("Rendered on this node")
        width = "(image) => image.decode().then(() => image.naturalWidth)"
        assert frame(page).locator("#image").evaluate(width) == 640
    finally:
        browser.close()
