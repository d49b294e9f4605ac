"""The laws of every store, tests/contracts.py, word for word against the stores of JavaScript hosts.

In a tab: the bundle's Python in a worker, the tab's shell, IndexedDB or the memory of a private session.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.pages.site import ROOT, serve
from playwright.sync_api import BrowserContext
from tests import contracts

NAMES = [contracts.name(law) for law in contracts.STORE]


@pytest.fixture
def origin(web_bundle: Path) -> Iterator[str]:
    """A site with the bundle and the project's files."""
    mounts = {"/static/": web_bundle / "static", "/pages/": ROOT / "e2e" / "pages", "/project/": ROOT}
    with serve(mounts) as url:
        yield url


def test_the_laws_of_every_store_in_a_tab(
    origin: str, web_bundle: Path, browser_context: BrowserContext
) -> None:
    (static,) = (web_bundle / "static").iterdir()
    page = browser_context.new_page()
    page.goto(f"{origin}/pages/blank.html")
    page.wait_for_function("document.title === 'begun'")
    page.evaluate("() => begin('laws', '/pages/laws.worker.mjs')")
    found = page.evaluate("base => ask('laws', 'try', base)", f"{origin}/static/{static.name}/")
    assert found == {"IndexedDB": dict.fromkeys(NAMES), "memory": dict.fromkeys(NAMES)}
