"""PromiseBase on SQLite: maps of bytes to bytes, durable when they say so. Twin of the worker's IndexedDB.

One file in the home, write-ahead log. A transaction with a `Commit` in it is synced before it is answered;
one with only `Save`s is not, and may be lost with the power, as `effects.Save` allows. All calls come from
one thread at a time; `glance` has a connection of its own, for the thread that must not wait.

Does not know: who else uses the home (`home.Home`), what the bytes mean.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from promisegrid.effects import TABLES, Commit, Conflict, Failure, Load, Read, Save, Scan, Table, Write
from promisegrid.errors import LocalError
from promisegrid_node import store_file
from promisegrid_node.home import sync_folder
from promisegrid_node.ports import Place, StoreEffect
from promisegrid_node.store_file import CHECKPOINT_BYTES, FILE, Damaged, Log

log = logging.getLogger("promisegrid")


@dataclass(slots=True)
class _Kept:
    """Blocks and their bytes; `version` changes when another connection wrote."""

    blocks: int
    bytes: int
    version: int = 0


class Store:
    """The store of one home."""

    def __init__(self, connection: sqlite3.Connection, reader: sqlite3.Connection, path: Path) -> None:
        self._connection, self._reader, self._path = connection, reader, path
        self._log = Log(path)
        (page,) = connection.execute("PRAGMA page_size").fetchone()
        self.log_pages = CHECKPOINT_BYTES // int(page)
        self._kept: _Kept | None = None
        self._change = _Kept(0, 0)
        self._in_doubt = False

    @classmethod
    def open(cls, home: Path, bytes_max: int | None = None) -> Store:
        """The store of a home, made when there is none; it never outgrows `bytes_max`, rounded up to pages.

        LocalError when it cannot be used: names the file and says the remedy.
        """
        path = home / FILE
        with contextlib.ExitStack() as undo:
            try:
                _touch(path)
                committed = store_file.last_commit(path)
                connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
                undo.callback(connection.close)
                reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
                undo.callback(reader.close)
                store_file.set_up(connection, path, bytes_max)
                reader.execute("PRAGMA query_only=1")
                reader.execute("PRAGMA cell_size_check=1")
                store = cls(connection, reader, path)
            except (sqlite3.Error, OSError) as error:
                text = f"The store {path} cannot be opened: {error}. {store_file.remedy(error)}"
                raise LocalError(text) from error
            undo.pop_all()
        if store._log.pages() < committed:
            log.warning(
                "The end of the log of %s is not whole. After a power cut that is as it should be: what is "
                "missing was not acknowledged. After anything else the disk has lost data: replace it.",
                path,
            )
        return store

    @property
    def place(self) -> Place:
        """Its file."""
        return Place("SQLite", str(self._path), self._path)

    def perform(self, effects: Iterable[StoreEffect]) -> list[object]:
        """The answers of several effects, in order, in one transaction if they all fit the disk."""
        todo = list(effects)
        if len(todo) > 1 and any(isinstance(effect, Save | Commit) for effect in todo):
            with contextlib.suppress(sqlite3.Error):
                return self._transaction(todo)
        return [self._alone(effect) for effect in todo]

    def glance(self, effect: Scan) -> tuple[tuple[bytes, bytes], ...] | Failure:
        """The rows of a scan as the log shows them now; from another thread than `perform`, at any time."""
        try:
            return self._scan(effect, self._reader)
        except sqlite3.Error as error:
            return self._failure(error)

    def check(self) -> list[str]:
        """What is wrong with the file, a sentence each; see `store_file.check`. From any thread."""
        return store_file.check(self._path)

    def stat(self) -> dict[str, int]:
        """{"blocks", "bytes"}: what is kept. Counted once, and again only if another process wrote."""
        (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        if self._kept is None or self._kept.version != version:
            query = "SELECT count(*), coalesce(sum(length(value)), 0) FROM blocks"
            blocks, size = self._connection.execute(query).fetchone()
            self._kept = _Kept(blocks, size, version)
        return {"blocks": self._kept.blocks, "bytes": self._kept.bytes}

    def close(self) -> None:
        """Write everything down and close."""
        with contextlib.suppress(sqlite3.Error, OSError):
            if self._in_doubt:
                self._settle()
            self._carry_over()
        self._reader.close()
        self._connection.close()
        self._log.close()

    # -- inside --------------------------------------------------------------------------------------

    def _alone(self, effect: StoreEffect) -> object:
        try:
            return self._read(effect) if isinstance(effect, Load | Scan) else self._transaction([effect])[0]
        except sqlite3.Error as error:
            return self._failure(error)

    def _transaction(self, effects: list[StoreEffect]) -> list[object]:
        durable = any(isinstance(effect, Commit) for effect in effects)
        run = self._connection.execute
        if self._in_doubt:
            self._settle()
        run(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        run("BEGIN" if all(isinstance(effect, Read) for effect in effects) else "BEGIN IMMEDIATE")
        self._change, before = _Kept(0, 0), self._connection.total_changes
        try:
            answers = [self._one(effect) for effect in effects]
            if durable and self._connection.total_changes == before:
                # It was there already, but perhaps by a `Save`: without a change SQLite would sync nothing.
                run(f"PRAGMA user_version={store_file.NEWEST}")
            run("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                run("ROLLBACK")
            if isinstance(error, sqlite3.Error) and store_file.is_sync_failure(error):
                self._in_doubt = True
                with contextlib.suppress(sqlite3.Error):
                    self._settle()
            raise
        if self._kept is not None:
            self._kept.blocks += self._change.blocks
            self._kept.bytes += self._change.bytes
        if self._log.pages() >= self.log_pages:
            self._carry_over()
        return answers

    def _carry_over(self) -> None:
        """What the log holds goes into the file; where it cannot, it stays in the log."""
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            self._in_doubt = self._in_doubt or store_file.is_sync_failure(error)

    def _settle(self) -> None:
        """After a failed sync: whatever the log holds is written and synced anew, before more builds on it.

        What the disk failed to write can still be read, but syncing once more would not write it. And what
        was refused for it must not come back from the log after a crash.
        """
        run = self._connection.execute
        run("BEGIN IMMEDIATE")
        try:
            self._log.write_again()
        except OSError as error:
            raise store_file.CannotSync(f"disk I/O error: {error.strerror}") from error
        finally:
            run("ROLLBACK")
        self._in_doubt = False

    def _one(self, effect: StoreEffect) -> object:
        if isinstance(effect, Load | Scan):
            return self._read(effect)
        if isinstance(effect, Read):
            return tuple(self._read(read) for read in effect.reads)
        if isinstance(effect, Commit):
            for at, seen in enumerate(effect.seen):
                if self._read(seen.read) != seen.answer:
                    return Conflict(at)
        self._write(effect.writes)
        return None

    def _read(self, effect: Load | Scan) -> tuple[object, ...]:
        if isinstance(effect, Load):
            return tuple([self._get(effect.table, key) for key in effect.keys])
        return self._scan(effect, self._connection)

    def _scan(self, effect: Scan, connection: sqlite3.Connection) -> tuple[tuple[bytes, bytes], ...]:
        table, end = _name(effect.table), _after_prefix(effect.prefix)
        columns = "key, x''" if effect.keys_only else _COLUMNS[table]
        query = f"SELECT {columns} FROM {table} WHERE key > ? AND key >= ?"
        values: list[object] = [effect.after, effect.prefix]
        if end is not None:
            query, values = query + " AND key < ?", [*values, end]
        rows = connection.execute(query + " ORDER BY key LIMIT ?", [*values, effect.limit]).fetchall()
        if effect.keys_only:
            return tuple(rows)
        found = tuple((row[0], row[1]) for row in rows if _is_whole(table, row))
        if len(found) < len(rows) == effect.limit:  # one was left out, and fewer rows would mean the end
            last: bytes = rows[-1][0]
            rest = Scan(effect.table, effect.prefix, last, effect.limit - len(found))
            return (*found, *self._scan(rest, connection))
        return found

    def _get(self, table: Table, key: bytes) -> bytes | None:
        row = self._connection.execute(_GET[table], (key,)).fetchone()
        return row[1] if row is not None and _is_whole(table, row) else None

    def _write(self, writes: tuple[Write, ...]) -> None:
        run, at = self._connection.execute, 0
        if len(writes) > 1:
            at = self._write_new_blocks(writes)
        for write in writes[at:]:
            table, key, value = _name(write.table), write.key, write.value
            if table == "blocks":
                self._write_block(key, value)
            elif value is None:
                run(f"DELETE FROM {table} WHERE key = ?", (key,))
            else:
                row = (key, value, store_file.crc(table, key, value))
                run(f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?)", row)

    def _write_new_blocks(self, writes: tuple[Write, ...]) -> int:
        """As many of the first as are blocks that are not here yet, the quick way; how many that were."""
        rows: list[tuple[bytes, bytes]] = []
        for write in writes:
            if write.table != "blocks" or write.value is None:
                break
            rows.append((write.key, write.value))
        before = self._connection.total_changes
        with contextlib.suppress(sqlite3.IntegrityError):
            self._connection.executemany("INSERT INTO blocks VALUES (?, ?)", rows)
        done = self._connection.total_changes - before
        self._change.blocks += done
        self._change.bytes += sum(len(data) for _, data in rows[:done])
        return done

    def _write_block(self, key: bytes, value: bytes | None) -> None:
        """A block never changes, so one that is there costs a look; one that is damaged is mended."""
        run, change = self._connection.execute, self._change
        if value is not None:
            if run("INSERT INTO blocks VALUES (?, ?) ON CONFLICT DO NOTHING", (key, value)).rowcount:
                change.blocks, change.bytes = change.blocks + 1, change.bytes + len(value)
                return
            if self._get("blocks", key) == value:
                return
        old = run("SELECT length(value) FROM blocks WHERE key = ?", (key,)).fetchone()
        if old is not None:
            run("DELETE FROM blocks WHERE key = ?", (key,))
            change.blocks, change.bytes = change.blocks - 1, change.bytes - old[0]
        if value is not None:
            self._write_block(key, value)

    def _failure(self, error: sqlite3.Error) -> Failure:
        text = f"The store {self._path} cannot be used: {error}. {store_file.remedy(error)}"
        return Failure("disk_full" if store_file.is_full(error) else "internal", text)


_COLUMNS: Final[dict[str, str]] = {
    table: "key, value" if table == "blocks" else "key, value, crc" for table in TABLES
}

_GET: Final = {table: f"SELECT {_COLUMNS[table]} FROM {table} WHERE key = ?" for table in TABLES}


def _is_whole(table: str, row: tuple[Any, ...]) -> bool:
    """Whether a row is what was written. Damaged, if it is not; but a block, which whoever asks will hash,
    and a remembered result are then as good as not there.
    """
    are_bytes = isinstance(row[0], bytes) and isinstance(row[1], bytes)
    if are_bytes and (table == "blocks" or store_file.crc(table, row[0], row[1]) == row[2]):
        return True
    if table in ("blocks", "memo"):
        return False
    raise Damaged(table, row[0])


def _touch(path: Path) -> None:
    """An empty file where there is none, that a power cut does not take away again."""
    if path.exists():
        return
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    sync_folder(path.parent)


def _name(table: Table) -> str:
    assert table in TABLES, table
    return table


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind every key with that prefix; None when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
