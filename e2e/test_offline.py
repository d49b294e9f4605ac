"""A tab is reloaded while its node is gone: it is the same node, says that it is offline, and comes back."""

from __future__ import annotations

from pathlib import Path

from e2e.conftest import RunNode
from e2e.harness import CHROMIUM, chromium_path, free_port
from playwright.sync_api import Playwright, expect


def test_a_reload_offline_starts_the_same_node(
    run_node: RunNode, playwright: Playwright, tmp_path: Path
) -> None:
    port = free_port()
    node = run_node("node", port=port)
    browser = playwright.chromium.launch_persistent_context(
        str(tmp_path / "profile"), executable_path=chromium_path(), args=CHROMIUM
    )
    try:
        page = browser.new_page()
        page.goto(node.join)
        did = page.evaluate("promisegrid.ready.then(({did}) => did)")
        cid = page.evaluate("promisegrid.put('kept while the node is gone')")
        page.wait_for_selector("html[data-offline=ready]")
        node.stop()
        page.reload()
        assert page.evaluate("promisegrid.ready.then(({did}) => did)") == did
        assert page.evaluate("async (cid) => new TextDecoder().decode(await promisegrid.get(cid))", cid) == (
            "kept while the node is gone"
        )
        expect(page.locator("#link")).to_have_attribute("data-state", "offline")
        run_node("node", port=port)
        expect(page.locator("#link")).to_have_attribute("data-state", "online", timeout=60_000)
    finally:
        browser.close()
