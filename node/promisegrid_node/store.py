"""PromiseBase on SQLite: maps of bytes to bytes, durable when they say so. Twin of the worker's IndexedDB.

One file in the home, write-ahead log. A transaction with a `Commit` in it is synced before it is answered; one
with only `Save`s is not, and may be lost with the power, as `effects.Save` allows. All calls come from one
thread at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from promisegrid.effects import TABLES, Commit, Failure, Load, Save, Scan, Table, Write
from promisegrid.errors import LocalError

FILE: Final = "promisebase.sqlite"
_FULL: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})
_NEWEST: Final = 1
StoreEffect = Load | Scan | Save | Commit


class Store:
    """The store of one home."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection, self._path = connection, path

    @classmethod
    def open(cls, home: Path) -> Store:
        """The store of a home, made when there is none. LocalError when it cannot be used."""
        path = home / FILE
        try:
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
            path.chmod(0o600)
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _NEWEST:
                raise LocalError(f"{path} was written by a newer version; update promisegrid.")
            connection.execute("BEGIN IMMEDIATE")
            for table in TABLES:
                connection.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB PRIMARY KEY, value BLOB NOT NULL)")
            connection.execute(f"PRAGMA user_version={_NEWEST}")
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise LocalError(f"The store {path} cannot be opened: {error}. {_remedy(error)}") from error
        return cls(connection, path)

    def perform(self, effects: Iterable[StoreEffect]) -> list[object]:
        """The answers of several effects, in order, in one transaction if they all fit the disk."""
        todo = list(effects)
        if not any(isinstance(effect, Save | Commit) for effect in todo):
            return [self._read(effect) for effect in todo if isinstance(effect, Load | Scan)]
        try:
            return self._transaction(todo)
        except sqlite3.Error as error:
            if len(todo) == 1:
                return [self._failure(error)]
        return [self.perform([effect])[0] for effect in todo]

    def stat(self) -> dict[str, int]:
        """{"blocks", "bytes"}: what is kept."""
        query = "SELECT count(*), coalesce(sum(length(value)), 0) FROM blocks"
        blocks, size = self._connection.execute(query).fetchone()
        return {"blocks": blocks, "bytes": size}

    def close(self) -> None:
        """Write everything down and close."""
        self._connection.close()

    # -- inside --------------------------------------------------------------------------------------

    def _transaction(self, effects: list[StoreEffect]) -> list[object]:
        durable = any(isinstance(effect, Commit) for effect in effects)
        run = self._connection.execute
        run(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        run("BEGIN IMMEDIATE")
        try:
            answers = [self._one(effect) for effect in effects]
            run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                run("ROLLBACK")
            raise
        return answers

    def _one(self, effect: StoreEffect) -> object:
        if isinstance(effect, Load | Scan):
            return self._read(effect)
        self._write(effect.writes)
        return None

    def _read(self, effect: Load | Scan) -> tuple[object, ...]:
        if isinstance(effect, Load):
            return tuple(self._get(effect.table, key) for key in effect.keys)
        end = _after_prefix(effect.prefix)
        query = f"SELECT key, value FROM {_name(effect.table)} WHERE key > ? AND key >= ?"
        values: list[object] = [effect.after, effect.prefix]
        if end is not None:
            query, values = query + " AND key < ?", [*values, end]
        rows = self._connection.execute(query + " ORDER BY key LIMIT ?", [*values, effect.limit])
        return tuple((bytes(key), bytes(value)) for key, value in rows)

    def _get(self, table: Table, key: bytes) -> bytes | None:
        row = self._connection.execute(f"SELECT value FROM {_name(table)} WHERE key = ?", (key,)).fetchone()
        return None if row is None else row[0]

    def _write(self, writes: tuple[Write, ...]) -> None:
        for write in writes:
            if write.value is None:
                self._connection.execute(f"DELETE FROM {_name(write.table)} WHERE key = ?", (write.key,))
            elif write.table == "blocks":  # a block never changes; writing it again would cost a sync
                self._connection.execute(_UPSERT_BLOCK, (write.key, write.value))
            else:
                self._connection.execute(
                    f"INSERT OR REPLACE INTO {_name(write.table)} VALUES (?, ?)", (write.key, write.value)
                )

    def _failure(self, error: sqlite3.Error) -> Failure:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in _FULL:
            return Failure("disk_full", f"The store {self._path} cannot be written: {error}. {_remedy(error)}")
        return Failure("internal", f"The store {self._path} failed: {error}. {_remedy(error)}")


_UPSERT_BLOCK: Final = (
    "INSERT INTO blocks VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2 WHERE value IS NOT ?2"
)


def _name(table: Table) -> str:
    assert table in TABLES, table
    return table


def _after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind every key with that prefix; None when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None


def _remedy(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _FULL:
        return "Free some space on that disk, or use another --home."
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return "The file is damaged; move it away, and this node fetches what it needs again."
    return "Check the folder's permissions, or use another --home."
