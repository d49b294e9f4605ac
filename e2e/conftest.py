"""Fixtures for the slow and real tests: the bundle, homes, running nodes, Chromium."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.harness import BUNDLE, CHROMIUM, QUICK, ROOT, Cli, Node, chromium_path, running
from e2e.netspace import apart
from playwright.sync_api import Browser, BrowserContext, Playwright, sync_playwright

RunNode = Callable[..., Node]
OpenBrowser = Callable[[], BrowserContext]


NO_CHANNELS = "delete globalThis.RTCPeerConnection"
"""For browsers outside a network of their own (netspace.py): tabs there make no direct channels."""


@pytest.fixture(scope="session")
def web_bundle() -> Path:
    """What a node serves to tabs, made from this tree if it is not there yet or out of date."""
    done = subprocess.run(
        [sys.executable, ROOT / "worker" / "bundle.py"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"the bundle cannot be made: {done.stderr.strip()}")
    return BUNDLE


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory that nobody has used."""
    return tmp_path / "home"


@pytest.fixture
def cli(home: Path) -> Cli:
    """The command on a fresh home, with no node running."""
    return Cli(home)


@pytest.fixture
def run_node(tmp_path: Path, web_bundle: Path) -> Iterator[RunNode]:
    """Starts nodes: `run_node("name", *arguments)`; the same name is the same home. All are stopped."""
    with ExitStack() as stack:

        def start(name: str = "node", *arguments: str | Path, port: int = 0) -> Node:
            return stack.enter_context(running(tmp_path / name, *arguments, bundle=web_bundle, port=port))

        yield start


@pytest.fixture
def node(run_node: RunNode) -> Node:
    """A running node that founded its grid."""
    return run_node()


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Playwright, started once a module."""
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium in a network namespace; this thread, and so every node it starts, too."""
    with apart(), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_browser(
    request: pytest.FixtureRequest, playwright: Playwright, tmp_path: Path
) -> Iterator[OpenBrowser]:
    """Opens Chromium with a fresh profile on disk, as often as it is called."""
    whole = request.node.get_closest_marker("engine") is not None
    with ExitStack() as stack:
        count = iter(range(100))

        def start() -> BrowserContext:
            context = playwright.chromium.launch_persistent_context(
                str(tmp_path / f"profile{next(count)}"),
                executable_path=chromium_path(),
                service_workers="block",  # tests that answer requests themselves must see them all
                args=CHROMIUM if whole else QUICK,
            )
            stack.callback(context.close)
            context.add_init_script(NO_CHANNELS)
            return context

        yield start


@pytest.fixture
def browser_context(open_browser: OpenBrowser) -> BrowserContext:
    """One Chromium with a fresh profile."""
    return open_browser()
