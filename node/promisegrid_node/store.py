"""PromiseBase on SQLite: maps of bytes to bytes, durable when they say so. Twin of the worker's IndexedDB.

One file in the home, write-ahead log. A transaction with a `Commit` in it is synced before it is answered;
one with only `Save`s is not, and may be lost with the power, as `effects.Save` allows. All calls come from
one thread at a time; `glance` has a connection of its own, for the thread that must not wait.

Does not know: who else uses the home (`home.Home`), what the bytes mean.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promisegrid.effects import TABLES, Commit, Conflict, Failure, Load, Read, Save, Scan, Table, Write
from promisegrid.errors import LocalError
from promisegrid_node.ports import StoreEffect

FILE: Final = "promisebase.sqlite"
PAGE_BYTES: Final = 16 * 1024
"""Of the file. With 4 KiB pages, blocks of 1 MiB are written at half the speed; 1 KiB blocks lose nothing."""
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""How long the log grows before it is carried over into the file."""
_NEWEST: Final = 2
"""Version of the file. 1 had the tables blocks, memo, grid and apps alone."""


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
        self._kept: _Kept | None = None
        self._change = _Kept(0, 0)

    @classmethod
    def open(cls, home: Path, bytes_max: int | None = None) -> Store:
        """The store of a home, made when there is none; it never outgrows `bytes_max`, rounded up to pages.

        LocalError when it cannot be used: names the file and says the remedy.
        """
        path = home / FILE
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            reader = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
        except (sqlite3.Error, OSError) as error:
            raise LocalError(f"The store {path} cannot be opened: {error}. {_remedy(error)}") from error
        try:
            _set_up(connection, path, bytes_max)
            reader.execute("PRAGMA query_only=1")
        except (sqlite3.Error, LocalError) as error:
            connection.close()
            reader.close()
            if isinstance(error, LocalError):
                raise
            raise LocalError(f"The store {path} cannot be opened: {error}. {_remedy(error)}") from error
        return cls(connection, reader, path)

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
        self._reader.close()
        self._connection.close()

    # -- inside --------------------------------------------------------------------------------------

    def _alone(self, effect: StoreEffect) -> object:
        try:
            return self._read(effect) if isinstance(effect, Load | Scan) else self._transaction([effect])[0]
        except sqlite3.Error as error:
            return self._failure(error)

    def _transaction(self, effects: list[StoreEffect]) -> list[object]:
        durable = any(isinstance(effect, Commit) for effect in effects)
        run = self._connection.execute
        run(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        run("BEGIN" if all(isinstance(effect, Read) for effect in effects) else "BEGIN IMMEDIATE")
        self._change = _Kept(0, 0)
        try:
            answers = [self._one(effect) for effect in effects]
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        if self._kept is not None:
            self._kept.blocks += self._change.blocks
            self._kept.bytes += self._change.bytes
        return answers

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
            return tuple(self._get(effect.table, key) for key in effect.keys)
        return self._scan(effect, self._connection)

    def _scan(self, effect: Scan, connection: sqlite3.Connection) -> tuple[tuple[bytes, bytes], ...]:
        end = _after_prefix(effect.prefix)
        query = f"SELECT key, value FROM {_name(effect.table)} WHERE key > ? AND key >= ?"
        values: list[object] = [effect.after, effect.prefix]
        if end is not None:
            query, values = query + " AND key < ?", [*values, end]
        rows = connection.execute(query + " ORDER BY key LIMIT ?", [*values, effect.limit])
        return tuple((bytes(key), bytes(value)) for key, value in rows)

    def _get(self, table: Table, key: bytes) -> bytes | None:
        row = self._connection.execute(f"SELECT value FROM {_name(table)} WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _write(self, writes: tuple[Write, ...]) -> None:
        run = self._connection.execute
        for table, key, value in ((_name(write.table), write.key, write.value) for write in writes):
            if table == "blocks":
                self._write_block(key, value)
            elif value is None:
                run(f"DELETE FROM {table} WHERE key = ?", (key,))
            else:
                run(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (key, value))

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
        full = _code(error) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
        text = f"The store {self._path} cannot be used: {error}. {_remedy(error)}"
        return Failure("disk_full" if full else "internal", text)


def _set_up(connection: sqlite3.Connection, path: Path, bytes_max: int | None) -> None:
    """Settings, and the tables if they are not there. sqlite3.Error; LocalError for a newer file."""
    run = connection.execute
    run(f"PRAGMA page_size={PAGE_BYTES}")
    run("PRAGMA journal_mode=WAL")
    (page,) = run("PRAGMA page_size").fetchone()
    run(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // page}")
    if bytes_max is not None:
        run(f"PRAGMA max_page_count={-(-bytes_max // page)}")
    (version,) = run("PRAGMA user_version").fetchone()
    if version > _NEWEST:
        raise LocalError(f"The store {path} was written by a newer version; update promisegrid.")
    run("BEGIN IMMEDIATE")
    for table in TABLES:
        run(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
    run(f"PRAGMA user_version={_NEWEST}")
    run("COMMIT")


def _name(table: Table) -> str:
    assert table in TABLES, table
    return table


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind every key with that prefix; None when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for another exception."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _remedy(error: Exception) -> str:
    match _code(error):
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return "Free some space on that disk, or use another --home."
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return "The file is damaged; move it away, and this node fetches what it needs again."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "Another program keeps the file locked; stop it, or use another --home."
    return "Check the permissions of the file and its folder, or use another --home."
