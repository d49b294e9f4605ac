"""A tab, and a whole browser, killed while it writes: what was acknowledged is there, and no batch half."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.harness import chromium_path, wait_for
from e2e.pages.site import ARGS, ROOT, serve
from playwright.sync_api import Browser, Page, Playwright

CALL = """([message, many]) => new Promise((resolve, reject) => {
  const worker = new Worker("/pages/killed.worker.mjs", { type: "module" });
  worker.onmessage = ({ data }) => (many ? acknowledged(data) : resolve(data));
  worker.onerror = ({ message }) => reject(new Error(message));
  worker.postMessage(message);
  if (many) resolve(null);
})"""


@dataclass
class Chromium:
    """A browser of our own, in a process group of its own, and a way to talk to it."""

    process: subprocess.Popen[bytes]
    browser: Browser

    @classmethod
    def start(cls, playwright: Playwright, profile: Path) -> Chromium:
        """On a profile that may have been used."""
        port = profile / "DevToolsActivePort"
        port.unlink(missing_ok=True)
        words = [chromium_path() or playwright.chromium.executable_path, *ARGS, "--headless=new"]
        words += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
        text = wait_for(lambda: port.exists() and port.read_text(), what="the browser")
        where = f"http://127.0.0.1:{text.splitlines()[0]}"
        return cls(process, playwright.chromium.connect_over_cdp(where))

    def visit(self, origin: str) -> Page:
        """A blank page of the site."""
        page = self.browser.contexts[0].new_page()
        page.goto(f"{origin}/pages/blank.html")
        return page

    def kill_tabs(self) -> None:
        """Kill -9 every renderer, and with it the worker that writes."""
        session = self.browser.new_browser_cdp_session()
        for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
            if process["type"] == "renderer":
                os.kill(process["id"], signal.SIGKILL)
        session.detach()

    def kill(self) -> None:
        """Kill -9 all of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def origin() -> Iterator[str]:
    with serve({"/worker/": ROOT / "worker", "/pages/": ROOT / "e2e" / "pages"}) as url:
        yield url


def writing(page: Page, turn: int, batches: int) -> list[int]:
    """Begin to write without end; the list of what is acknowledged, once it has so many."""
    told: list[int] = []
    page.expose_function("acknowledged", lambda n: told.append(n))
    page.evaluate(CALL, [{"round": turn}, True])
    while len(told) < batches:
        page.wait_for_timeout(2)
    return told


def holds(page: Page, turn: int, told: list[int]) -> None:
    """What the store has of a round, against what was acknowledged."""
    found = page.evaluate(CALL, [{"check": turn}, False])
    assert found["torn"] == []
    assert set(told) <= set(found["whole"])
    assert found["whole"] == list(range(len(found["whole"])))  # none without those before it


def test_a_tab_killed_while_it_writes_loses_nothing_acknowledged(
    playwright: Playwright, tmp_path: Path, origin: str
) -> None:
    chromium = Chromium.start(playwright, tmp_path / "profile")
    rounds: list[list[int]] = []
    try:
        for turn in range(5):
            page = chromium.visit(origin)
            told = writing(page, turn, 1 + 3 * turn)
            chromium.kill_tabs()
            rounds.append(list(told))
            page.close()
            page = chromium.visit(origin)
            for before, acknowledged in enumerate(rounds):
                holds(page, before, acknowledged)
            page.close()
    finally:
        chromium.kill()


def test_a_browser_killed_while_it_writes_loses_nothing_acknowledged(
    playwright: Playwright, tmp_path: Path, origin: str
) -> None:
    chromium = Chromium.start(playwright, tmp_path / "profile")
    try:
        acknowledged = list(writing(chromium.visit(origin), 0, 10))
    finally:
        chromium.kill()
    chromium = Chromium.start(playwright, tmp_path / "profile")
    try:
        holds(chromium.visit(origin), 0, acknowledged)
    finally:
        chromium.kill()
