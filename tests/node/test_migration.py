"""A store of an older version is brought up to date, whole; whatever interrupts that, nothing is lost."""

from __future__ import annotations

import random
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tests.node import crashing, cutting, powercut

from promisegrid.effects import TABLES, Commit, Load, Scan, Write
from promisegrid_node import store_file
from promisegrid_node.store import FILE, Store

TABLES_OF_1 = ("blocks", "memo", "grid", "apps")


def make_version_1(home: Path) -> dict[str, dict[bytes, bytes]]:
    """A store as version 1 left it; what it holds."""
    dice = random.Random(1)
    rows = {table: {dice.randbytes(36): dice.randbytes(dice.choice((0, 9, 400))) for _ in range(60)}
            for table in TABLES_OF_1}  # fmt: skip
    rows["blocks"] = {write.key: write.value or b"" for write in map(crashing.block, rows["blocks"].values())}
    with closing(sqlite3.connect(home / FILE)) as connection:
        connection.execute("PRAGMA page_size=16384")
        connection.execute("PRAGMA journal_mode=WAL")
        for table in TABLES_OF_1:
            connection.execute(f"CREATE TABLE {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
            connection.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows[table].items())
        connection.execute("PRAGMA user_version=1")
        connection.commit()
    return rows


def version(home: Path) -> int:
    with closing(sqlite3.connect(home / FILE)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return int(found)


def test_an_old_store_is_brought_up_to_date(tmp_path: Path) -> None:
    rows = make_version_1(tmp_path)
    assert store_file.check(tmp_path / FILE) == [], "an old store is no damaged one"
    before = crashing.content(tmp_path)
    store = Store.open(tmp_path)
    for table in TABLES:
        found = store.perform([Scan(table, b"", b"", 1000)])
        assert found == [tuple(sorted(rows.get(table, {}).items()))], table
    assert crashing.content(tmp_path) == before
    assert store.perform([Commit((Write("kv", b"k", b"v"),)), Load("kv", (b"k",))]) == [None, (b"v",)]
    store.close()
    assert version(tmp_path) == store_file.NEWEST and store_file.check(tmp_path / FILE) == []
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    assert {name for (name,) in names} == set(TABLES)


def test_the_power_goes_while_an_old_store_is_brought_up_to_date(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("the recorder is preloaded, as Linux does it")
    home = tmp_path / "home"
    home.mkdir()
    make_version_1(home)
    before, there = crashing.content(home), {str(home / FILE): (home / FILE).read_bytes()}
    work = "import sys, pathlib, promisegrid_node.store as s; s.Store.open(pathlib.Path(sys.argv[1])).close()"
    log = cutting.recorded(powercut.library(cutting.ROOT / "build"), home, ["-c", work, str(home)])
    disk, seen = powercut.Disk(there), set[int]()
    for at, entry in enumerate(powercut.entries(log)):
        disk.follow(entry)
        how = powercut.HOWS[at % 4]
        found = cutting.image(disk, home, how, f"{at} {how}")
        assert found == (before, before), f"operation {at}, writes not synced: {how}"
        assert version(tmp_path / "image") == store_file.NEWEST
        seen.add(at)
    assert len(seen) > 20 and version(home) == store_file.NEWEST


def test_a_fault_while_an_old_store_is_brought_up_to_date_leaves_it_old(tmp_path: Path) -> None:
    make_version_1(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("INSERT INTO apps VALUES (x'00', 'text, which no version wrote')")
        connection.commit()
    before = rows_of(tmp_path)
    with pytest.raises(Exception, match="cannot be opened"):
        Store.open(tmp_path)
    assert version(tmp_path) == 1 and rows_of(tmp_path) == before


def rows_of(home: Path) -> list[object]:
    with closing(sqlite3.connect(home / FILE)) as connection:
        return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES_OF_1]
