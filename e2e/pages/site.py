"""A small site for browser tests: files of this repository at fixed paths, and Chromium to visit it with."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Playwright

ROOT = Path(__file__).resolve().parent.parent.parent
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - the base class declares it so
        ".html": "text/html; charset=utf-8",
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".json": "application/json",
        ".wasm": "application/wasm",
        "": "application/octet-stream",
    }

    def __init__(self, *args: Any, mounts: Mapping[str, Path]) -> None:
        self.mounts = mounts
        super().__init__(*args)

    def translate_path(self, path: str) -> str:
        """The file for a path: the longest mount that begins it."""
        plain = path.split("?")[0]
        for mount, folder in sorted(self.mounts.items(), key=lambda item: -len(item[0])):
            if plain.startswith(mount):
                return str(folder / plain.removeprefix(mount))
        return str(ROOT / "nowhere")

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Quiet."""


@contextmanager
def serve(mounts: Mapping[str, Path]) -> Iterator[str]:
    """The site's origin, while it is up."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, mounts=mounts))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def chromium(playwright: Playwright, profile: Path) -> BrowserContext:
    """A browser with a profile on the disk, so that storage behaves as a person's does."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return playwright.chromium.launch_persistent_context(
        profile, executable_path=found, args=ARGS, headless=True
    )
