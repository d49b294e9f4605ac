"""The file of a store on SQLite: its tables, its versions, what SQLite's errors mean and what helps.

Rows carry a checksum, because SQLite has none for its pages: CRC-32 of table, key and value. Blocks carry
none; their key says what they must hash to.

Promises: a file of an older version is brought up to date in one transaction; one of a newer version, or one
that is no store, is left exactly as it was.
"""

from __future__ import annotations

import sqlite3
import zlib
from pathlib import Path
from typing import Final

from promisegrid.effects import TABLES
from promisegrid.errors import LocalError

FILE: Final = "promisebase.sqlite"
PAGE_BYTES: Final = 16 * 1024
"""Of the file. With 4 KiB pages, blocks of 1 MiB are written at half the speed; 1 KiB blocks lose nothing."""
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""How long the log grows before it is carried over into the file."""
NEWEST: Final = 2
"""Version of the file. 1 had the tables blocks, memo, grid and apps alone, and no checksums."""

_BLOCKS: Final = "CREATE TABLE IF NOT EXISTS blocks (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
_ROWS: Final = (
    "CREATE TABLE IF NOT EXISTS {} (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) "
    "WITHOUT ROWID"
)
_MEND: Final = "stop the node, and save what can be read with `promisegrid verify --mend`"
_CANNOT_READ: Final = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)


class Damaged(sqlite3.DatabaseError):
    """A row that is not what was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def __init__(self, table: str, key: bytes) -> None:
        super().__init__(f"the row {key.hex()} of the table {table} is not what was written")


def crc(table: str, key: bytes, value: bytes) -> int:
    """The checksum of a row."""
    return zlib.crc32(value, zlib.crc32(key, zlib.crc32(table.encode())))


def set_up(connection: sqlite3.Connection, path: Path, bytes_max: int | None) -> None:
    """Settings, and the tables of the newest version. sqlite3.Error; LocalError for a newer file."""
    run = connection.execute
    run("PRAGMA synchronous=FULL")
    run("PRAGMA fullfsync=1")  # macOS: fsync alone leaves the data in the drive's cache
    version = _version(connection, path)
    if version == 0:
        run(f"PRAGMA page_size={PAGE_BYTES}")
    run("PRAGMA journal_mode=WAL")
    (page,) = run("PRAGMA page_size").fetchone()
    run(f"PRAGMA wal_autocheckpoint={CHECKPOINT_BYTES // page}")
    if bytes_max is not None:
        run(f"PRAGMA max_page_count={-(-bytes_max // page)}")
    if version < NEWEST:
        _bring_up_to_date(connection, path)


def _version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > NEWEST:
        raise LocalError(f"The store {path} was written by a newer version; update promisegrid.")
    return int(version)


def _bring_up_to_date(connection: sqlite3.Connection, path: Path) -> None:
    """All in one transaction: whatever interrupts it, the file is of the old version or of the new."""
    run = connection.execute
    run("BEGIN IMMEDIATE")
    try:
        if _version(connection, path) == 1:
            _add_checksums(connection)
        run(_BLOCKS)
        for table in TABLES:
            if table != "blocks":
                run(_ROWS.format(table))
        run(f"PRAGMA user_version={NEWEST}")
        run("COMMIT")
    except BaseException:
        if connection.in_transaction:
            run("ROLLBACK")
        raise


def _add_checksums(connection: sqlite3.Connection) -> None:
    run = connection.execute
    connection.create_function("row_crc", 3, crc, deterministic=True)
    for table in ("memo", "grid", "apps"):
        run(f"ALTER TABLE {table} RENAME TO old_{table}")
        run(_ROWS.format(table))
        run(f"INSERT INTO {table} SELECT key, value, row_crc('{table}', key, value) FROM old_{table}")
        run(f"DROP TABLE old_{table}")


def code(error: Exception) -> int:
    """SQLite's primary result code; 0 for another exception."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_sync_failure(error: Exception) -> bool:
    """Whether the disk refused to sync: then what was written before may be lost though it can be read."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_IOERR_FSYNC


def is_full(error: Exception) -> bool:
    """Whether nothing more can be written."""
    full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)
    return code(error) in full and getattr(error, "sqlite_errorcode", 0) not in _CANNOT_READ


def remedy(error: Exception) -> str:
    """One sentence that says what helps."""
    if getattr(error, "sqlite_errorcode", 0) in _CANNOT_READ:
        return f"The disk cannot read it: {_MEND}."
    match code(error):
        case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
            return "Free some space on that disk, or use another --home."
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"The file is damaged: {_MEND}."
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return "Another program keeps the file locked; stop it, or use another --home."
    return "Check the permissions of the file and its folder, or use another --home."
