"""The tab's store through the kernel's port against bare JavaScript: blocks put and got, in Chromium.

    python bench/tab_store.py [--rounds 25]

Both hash every block (SHA-256), name it by its CID, and write a batch in one strict IndexedDB transaction;
both read a batch in one transaction and hash every block again. Ours: Python in the tab's worker hashes, and
asks for `Commit` and `Load` through the shell, as a kernel does. Bare: WebCrypto and the database, no more.
Turn about, on a profile on the disk; the median of the rounds' ratios. Goal for 1 KiB blocks: 1.5 times as
long; exit code 1 if it is missed. Larger blocks cost more: one thread hashes them, and they are copied into
Python and out of it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from e2e.pages.site import chromium, serve  # noqa: E402 - the project's root is not a package of the venv

GOAL = 1.5
CASES = ((1024, 256), (65_536, 32), (1_048_576, 4))
"""Bytes of a block, blocks of a batch; the first has the goal."""

WORK = """
from laws import perform
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Digest, Load, Write

HERE_MAX = 65_536  # as the kernel: the host hashes what is larger


async def put(data):
    blocks = [Block.of(one) for one in data]
    await perform([Commit(tuple(Write("blocks", bytes(block.cid), block.data) for block in blocks))])
    return [bytes(block.cid) for block in blocks]


async def get(keys):
    (rows,) = await perform([Load("blocks", tuple(keys))])
    names = [Cid.decode(key) for key in keys]
    large = [at for at, row in enumerate(rows) if len(row) > HERE_MAX]
    found = await perform([Digest(rows[at]) for at in large])
    assert all(digest == names[at].digest for at, digest in zip(large, found, strict=True))
    assert all(len(row) > HERE_MAX or name.holds(row) for name, row in zip(names, rows, strict=True))
    return list(rows)
"""


def measured(rounds: int, size: int, count: int) -> tuple[float, float, float, float]:
    """Milliseconds of the median batch put bare, and how many times that ours took; the same of get."""
    static = next((ROOT / "build" / "web" / "static").iterdir())
    mounts = {"/static/": static.parent, "/pages/": ROOT / "e2e" / "pages", "/project/": ROOT}
    with (
        tempfile.TemporaryDirectory() as profile,
        serve(mounts) as origin,
        sync_playwright() as playwright,
    ):
        context = chromium(playwright, Path(profile))
        page = context.new_page()
        page.goto(f"{origin}/pages/blank.html")
        page.evaluate("() => begin('bench', '/pages/bench-store.worker.mjs')")
        how = [f"{origin}/static/{static.name}/", WORK, rounds, size, count]
        times = page.evaluate("args => ask('bench', 'run', ...args)", how)
        context.close()
    found = []
    for ours, bare in (("put", "barePut"), ("get", "bareGet")):
        ratios = [one / other for one, other in zip(times[ours], times[bare], strict=True)]
        found += [statistics.median(times[bare]), statistics.median(ratios)]
    return found[0], found[1], found[2], found[3]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=25)
    options = parser.parse_args()
    subprocess.run([sys.executable, ROOT / "worker" / "bundle.py"], check=True, stdout=subprocess.DEVNULL)
    missed = False
    print("blocks             put: bare ms  ratio    get: bare ms  ratio")
    for size, count in CASES:
        bare_put, put, bare_get, get = measured(options.rounds, size, count)
        print(f"{count:4} of {size:9,}     {bare_put:8.1f}  {put:5.2f}        {bare_get:8.1f}  {get:5.2f}")
        missed |= size == CASES[0][0] and max(put, get) > GOAL
    print(f"goal: {GOAL} for blocks of {CASES[0][0]:,} bytes{', missed' if missed else ''}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
