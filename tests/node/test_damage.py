"""Bits that flip, sectors and pages that are lost: what is not what was written is told, the rest saved."""

from __future__ import annotations

import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.node import crashing, cutting, faulting, powercut

from promisegrid.effects import TABLES, Table
from promisegrid.errors import LocalError
from promisegrid.promisebase.memory import MemoryBase
from promisegrid_node import store_file
from promisegrid_node.store import FILE, Store
from promisegrid_node.store_salvage import salvage

SEED, COUNT = 8, 40
Damage = Callable[[bytearray, random.Random], None]


def flip(data: bytearray, dice: random.Random) -> None:
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def flip_head(data: bytearray, dice: random.Random) -> None:
    """Where a page says what is on it."""
    page = dice.randrange(len(data) // store_file.PAGE_BYTES) * store_file.PAGE_BYTES
    data[page + dice.randrange(100)] ^= 1 << dice.randrange(8)


def zero(data: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(data) // 512) * 512
    data[at : at + 512] = bytes(512)


def misplace(data: bytearray, dice: random.Random) -> None:
    """A page where another belongs."""
    size = store_file.PAGE_BYTES
    here, there = (dice.randrange(len(data) // size) * size for _ in range(2))
    data[here : here + size] = data[there : there + size]


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, MemoryBase]:
    """A store's file, and what it holds."""
    home, base = tmp_path_factory.mktemp("whole"), MemoryBase()
    store = Store.open(home)
    for effect in crashing.workload(SEED, COUNT):
        assert store.perform([effect]) == [base.answer(effect)]
    store.close()
    return (home / FILE).read_bytes(), base


def differing(home: Path, base: MemoryBase) -> set[tuple[Table, bytes]]:
    """As `faulting.differing`, of a home."""
    store = Store.open(home)
    try:
        return faulting.differing(store, base)
    finally:
        store.close()


@pytest.mark.parametrize("damage", [flip, flip_head, zero, misplace])
def test_damage_is_told_and_the_rest_is_saved(
    damage: Damage, truth: tuple[bytes, MemoryBase], tmp_path: Path
) -> None:
    whole, base = truth
    hurt = refused = 0
    for turn in range(9):
        home, dice = tmp_path / f"{turn}", random.Random(f"{damage.__name__} {turn}")
        home.mkdir()
        data = bytearray(whole)
        damage(data, dice)
        (home / FILE).write_bytes(data)
        wrong = store_file.check(home / FILE)
        try:
            lost = differing(home, base)
            hurt += bool(lost)
            rotten = any(table == "blocks" for table, _ in lost)
            assert wrong or rotten or not lost, f"{turn}: {lost}"
        except LocalError as error:
            assert "--mend" in error.text and wrong, error.text
            refused += 1
        found = salvage(home)
        assert store_file.check(home / FILE) == [], turn
        gone = differing(home, base)
        assert len(gone) < 40 and (found.lost or not gone), f"{turn}: {gone}"
        assert found.aside.read_bytes()[100:] != whole[100:] or data[100:] == whole[100:]
        shutil.rmtree(home)
    assert hurt + refused > 1, "too little was hurt for this to say much"


def test_a_whole_store_is_saved_whole(truth: tuple[bytes, MemoryBase], tmp_path: Path) -> None:
    whole, base = truth
    (tmp_path / FILE).write_bytes(whole)
    found = salvage(tmp_path)
    assert found.lost == [] and differing(tmp_path, base) == set()
    assert found.saved == {table: len(base.tables[table]) for table in TABLES}
    assert found.aside.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE, f"{FILE}.damaged-1"]


def test_a_damaged_log_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home, damaged = tmp_path / "home", tmp_path / "damaged"
    home.mkdir()
    damaged.mkdir()
    store = Store.open(home)
    effects = list(crashing.workload(SEED, 20))
    for effect in effects:
        assert store.perform([effect]) == [None]
    data = bytearray((home / f"{FILE}-wal").read_bytes())
    for folder, flipped in ((tmp_path, 0), (damaged, 16)):
        data[len(data) // 2] ^= flipped
        (folder / FILE).write_bytes((home / FILE).read_bytes())
        (folder / f"{FILE}-wal").write_bytes(data)
    store.close()
    states = crashing.states(effects)
    Store.open(tmp_path).close()
    assert crashing.content(tmp_path) == states[-1] and not caplog.records
    Store.open(damaged).close()
    assert crashing.content(damaged) in states[:-1]
    assert "not whole" in caplog.text and str(damaged) in caplog.text


def test_the_power_goes_while_a_store_is_saved(truth: tuple[bytes, MemoryBase], tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the recorder is preloaded, as Linux does it")
    home, image = tmp_path / "home", tmp_path / "image"
    home.mkdir()
    damaged = bytearray(truth[0])
    damaged[100 : store_file.PAGE_BYTES] = bytes(store_file.PAGE_BYTES - 100)
    path, before = str(home / FILE), bytes(damaged)
    (home / FILE).write_bytes(before)
    work = "import sys, pathlib, promisegrid_node.store_salvage as s; s.salvage(pathlib.Path(sys.argv[1]))"
    log = cutting.recorded(powercut.library(cutting.ROOT / "build"), home, ["-c", work, str(home)])
    after, disk, seen = crashing.content(home), powercut.Disk({path: before}), 0
    for at, entry in enumerate(powercut.entries(log)):
        disk.follow(entry)
        files = disk.image(powercut.HOWS[at % 4], random.Random(at))
        if files[path] == before:
            continue
        shutil.rmtree(image, ignore_errors=True)
        image.mkdir()
        for name in (path, f"{path}-wal"):
            if name in files:
                (image / Path(name).name).write_bytes(files[name])
        assert crashing.content(image) == after, f"operation {at}"
        assert before in (data for name, data in files.items() if ".damaged-" in name), f"operation {at}"
        seen += 1
    assert seen and disk.image("none", random.Random(0))[path] != before
