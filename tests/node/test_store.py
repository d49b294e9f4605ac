"""The store on SQLite: the contract, and what a disk can do to it. The fakes keep the same contract."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests import contracts
from tests.node.hosting import MemoryStore

from promisegrid.effects import Commit, Effect, Failure, Load, Save, Scan, Write
from promisegrid.errors import LocalError
from promisegrid_node.store import FILE, Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path)
    yield opened
    opened.close()


def performer(store: Any) -> contracts.Perform:
    async def perform(effects: Sequence[Effect]) -> list[object]:
        return list(store.perform(effects))

    return perform


@pytest.mark.parametrize("law", contracts.STORE, ids=contracts.name)
def test_sqlite_keeps_the_contract(law: contracts.Law, store: Store) -> None:
    asyncio.run(law(performer(store)))


@pytest.mark.parametrize("law", contracts.STORE, ids=contracts.name)
def test_the_memory_fake_keeps_the_contract(law: contracts.Law) -> None:
    asyncio.run(law(performer(MemoryStore())))


def put(key: bytes, value: bytes | None) -> Write:
    return Write("blocks", key, value)


def test_what_was_committed_is_there_when_the_process_was_killed(tmp_path: Path, store: Store) -> None:
    store.perform([Commit((put(b"k", b"v"),))])
    copy = tmp_path / "copy"
    copy.mkdir()
    for suffix in ("", "-wal"):  # what a disk would hold: the file and the log, nobody having closed them
        (copy / f"{FILE}{suffix}").write_bytes((tmp_path / f"{FILE}{suffix}").read_bytes())
    again = Store.open(copy)
    assert again.perform([Load("blocks", (b"k",))]) == [(b"v",)]
    again.close()


def test_a_commit_is_synced_and_a_save_is_not(store: Store) -> None:
    said: list[str] = []
    store._connection.set_trace_callback(said.append)
    store.perform([Save((put(b"a", b"1"),))])
    store.perform([Save((put(b"b", b"1"),)), Commit((put(b"c", b"1"),))])
    assert [line.split("=")[1] for line in said if "synchronous" in line] == ["NORMAL", "FULL"]
    assert said.count("COMMIT") == 2


def test_a_full_store_says_so_and_changes_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path, bytes_max=1 << 20)
    small, large = put(b"small", b"1"), put(b"large", bytes(1 << 20))
    (failure,) = store.perform([Commit((small, large))])
    assert isinstance(failure, Failure) and failure.code == "disk_full"
    assert str(tmp_path) in failure.text and "--home" in failure.text
    assert store.perform([Load("blocks", (b"small",))]) == [(None,)]
    answers = store.perform([Save((small,)), Commit((large,)), Load("blocks", (b"small", b"large"))])
    assert answers[0] is None and isinstance(answers[1], Failure) and answers[2] == (b"1", None)
    assert store.stat() == {"blocks": 1, "bytes": 1}
    store.close()


def test_a_failed_batch_is_performed_one_by_one(store: Store) -> None:
    store._connection.execute("CREATE TRIGGER no BEFORE INSERT ON memo BEGIN SELECT RAISE(ABORT, 'no'); END")
    answers = store.perform(
        [Save((put(b"a", b"1"),)), Save((Write("memo", b"k", b"v"),)), Load("blocks", (b"a",))]
    )
    assert answers[0] is None and isinstance(answers[1], Failure) and answers[2] == (b"1",)
    assert answers[1].code == "internal"


def test_it_counts_what_it_keeps(tmp_path: Path, store: Store) -> None:
    assert store.stat() == {"blocks": 0, "bytes": 0}
    store.perform(
        [Save((put(b"a", b"123"), put(b"b", b"12"), put(b"a", b"123"))), Commit((put(b"a", b"1"),))]
    )
    store.perform([Save((Write("memo", b"m", b"not a block"), put(b"b", None), put(b"none", None)))])
    assert store.stat() == {"blocks": 1, "bytes": 1}
    other = Store.open(tmp_path)
    other.perform([Save((put(b"c", b"four"),))])
    assert store.stat() == other.stat() == {"blocks": 2, "bytes": 5}
    other.close()


def test_its_files_are_only_for_their_owner(tmp_path: Path, store: Store) -> None:
    store.perform([Commit((put(b"k", b"v"),))])
    files = list(tmp_path.iterdir())
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"a letter to my mother" * 1000)
    with pytest.raises(LocalError, match=r"damaged: stop the node.*--mend") as refused:
        Store.open(tmp_path)
    assert str(tmp_path) in refused.value.text
    assert (tmp_path / FILE).read_bytes().startswith(b"a letter")


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(LocalError, match="newer version; update"):
        Store.open(tmp_path)


def test_a_damaged_page_costs_only_what_is_on_it(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.perform([Commit(tuple(put(bytes([n]), bytes([n]) * 40_000) for n in range(20)))])
    store.close()
    with (tmp_path / FILE).open("r+b") as file:
        file.seek(os.path.getsize(tmp_path / FILE) // 2)
        file.write(b"\xff" * 16_384)
    store = Store.open(tmp_path)
    answers = store.perform([Load("blocks", (bytes([n]),)) for n in range(20)] + [Scan("grid", b"", b"", 9)])
    whole = [n for n in range(20) if answers[n] == (bytes([n]) * 40_000,)]
    assert 15 <= len(whole) < 20 and answers[20] == ()
    store.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(LocalError, match="permissions"):
        Store.open(tmp_path)


def test_a_home_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match=r"absent.*cannot be opened.*--home"):
        Store.open(tmp_path / "absent")
