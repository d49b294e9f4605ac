"""How fast a tab starts: from ``new Worker`` to the kernel imported, cold, in a real Chromium.

    python bench/tab_boot.py [--rounds 7]

The baseline is a stock ``loadPyodide()`` (its own standard library and lock file, and no kernel), from the
same server with the same compression, in the same run, turn about. Each start has a browser context of its
own, so nothing is cached. Goals: ratio at most 0.5, at most 6.5 MB sent on a first visit. Exit code 1 if one
is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
WEB = ROOT / "build" / "web"
PYODIDE = ROOT / "worker" / "node_modules" / "pyodide"
COMPRESSED = ROOT / "build" / "cache" / "compressed-9"
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}
STOCK_FILES = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
MODULES = ["promisegrid", "promisegrid.kernel", "promisegrid_worker.entry"]
RATIO_MAX = 0.5
FIRST_VISIT_MAX = 6_500_000  # bytes

WORKER = """import {%(name)s} from "%(module)s";
%(name)s(%(options)s).then(() => postMessage(null), (error) => postMessage(String(error)));
"""

MEASURE = """(url) => new Promise((resolve) => {
  const started = performance.now();
  const worker = new Worker(url, {type: "module"});
  worker.onmessage = ({data}) => { worker.terminate();
    resolve(typeof data === "string" ? data : performance.now() - started); };
  worker.onerror = (event) => resolve("worker: " + event.message);
})"""

Site = dict[str, tuple[bytes, str]]


def site() -> Site:
    """Every path with its bytes and content-encoding: our bundle, stock Pyodide, two workers."""
    manifest = json.loads((WEB / "manifest.json").read_text())
    found: Site = {}
    for name in manifest["files"]:
        twin = WEB / f"{name}.br"
        found[f"/{name}"] = (twin.read_bytes(), "br") if twin.exists() else ((WEB / name).read_bytes(), "")
    for name in STOCK_FILES:
        data = (PYODIDE / name).read_bytes()
        twin = COMPRESSED / f"{hashlib.sha256(data).hexdigest()}.br"
        found[f"/stock/{name}"] = (twin.read_bytes(), "br") if twin.exists() else (data, "")
    module, options = f"{manifest['static']}/boot.mjs", json.dumps({"modules": MODULES})
    ours = {"name": "boot", "module": module, "options": options}
    stock = {"name": "loadPyodide", "module": "/stock/pyodide.mjs", "options": '{indexURL: "/stock/"}'}
    found["/ours.mjs"] = ((WORKER % ours).encode(), "")
    found["/stock.mjs"] = ((WORKER % stock).encode(), "")
    found["/empty.html"] = (b"<!doctype html><title>bench</title>", "")
    return found


def handler(files: Site, sent: list[int]) -> type[BaseHTTPRequestHandler]:
    """A request handler that serves ``files`` and notes in ``sent`` how many bytes each answer had."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body, encoding = files.get(self.path, (b"", ""))
            self.send_response(200 if self.path in files else 404)
            self.send_header("Content-Type", TYPES.get(Path(self.path).suffix, "application/octet-stream"))
            self.send_header("Cache-Control", "public, max-age=31536000, immutable")
            self.send_header("Content-Length", str(len(body)))
            if encoding:
                self.send_header("Content-Encoding", encoding)
            self.end_headers()
            self.wfile.write(body)
            sent.append(len(body))

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def serving(files: Site, sent: list[int]) -> Iterator[str]:
    """The server's URL, while it runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(files, sent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def start_once(browser: Browser, url: str, worker: str) -> float:
    """Milliseconds from ``new Worker`` to its message, in a fresh context."""
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{url}/empty.html")
        took = page.evaluate(MEASURE, worker)
    finally:
        context.close()
    if isinstance(took, str):
        sys.exit(f"{worker} did not start: {took}")
    return float(took)


def spread(times: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})"


def main() -> int:
    """Measure, print, compare."""
    parser = argparse.ArgumentParser(description="How fast a tab starts.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    files, sent = site(), list[int]()
    ours: list[float] = []
    stock: list[float] = []
    chromium = os.environ.get("PROMISEGRID_CHROMIUM") or shutil.which("chromium")
    with serving(files, sent) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        start_once(browser, url, "/ours.mjs")  # not counted: the browser's own first worker
        for _ in range(rounds):
            sent.clear()
            ours.append(start_once(browser, url, "/ours.mjs"))
            boot_bytes = sum(sent)
            stock.append(start_once(browser, url, "/stock.mjs"))
        browser.close()
    ratio = statistics.median(ours) / statistics.median(stock)
    whole = sum(len(data) for path, (data, _) in files.items() if not path.startswith("/stock"))
    print(f"worker start to kernel imported, cold, median of {rounds}: {spread(ours)}")
    print(f"stock loadPyodide(), no kernel: {spread(stock)}; ratio {ratio:.2f} (goal: at most {RATIO_MAX})")
    print(f"sent to start the worker: {boot_bytes / 1e6:.2f} MB")
    print(f"every file of the bundle, once: {whole / 1e6:.2f} MB (goal: at most {FIRST_VISIT_MAX / 1e6} MB)")
    return 0 if ratio <= RATIO_MAX and whole <= FIRST_VISIT_MAX else 1


if __name__ == "__main__":
    raise SystemExit(main())
