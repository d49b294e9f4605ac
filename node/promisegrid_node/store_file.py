"""The file of a store on SQLite: its tables, its versions, what SQLite's errors mean and what helps.

Rows carry a checksum, because SQLite has none for its pages: CRC-32 of table, key and value. Blocks carry
none; their key says what they must hash to.

Promises: a file of an older version is brought up to date in one transaction; one of a newer version, or one
that is no store, is left exactly as it was.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import struct
import zlib
from pathlib import Path
from typing import Final

from promisegrid.effects import TABLES
from promisegrid.errors import LocalError

FILE: Final = "promisebase.sqlite"
PAGE_BYTES: Final = 8 * 1024
"""Of the file. A small durable put writes 40 KiB with pages of 16 KiB, 25 with 8, 17 with 4, log and file
together; blocks of 1 MiB are written at nine tenths of the speed with 8, at six tenths with 4."""
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
"""How long the log grows before it is carried over into the file."""
NEWEST: Final = 2
"""Version of the file. 1 had the tables blocks, memo, grid and apps alone, and no checksums."""

_LOG_HEADER, _FRAME_HEADER, _PIECE = 32, 24, 1 << 20
_BLOCKS: Final = "CREATE TABLE IF NOT EXISTS blocks (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
_ROWS: Final = (
    "CREATE TABLE IF NOT EXISTS {} (key BLOB PRIMARY KEY, value BLOB NOT NULL, crc INTEGER NOT NULL) "
    "WITHOUT ROWID"
)
_MEND: Final = "stop the node, and save what can be read with `promisegrid verify --mend`"
_CANNOT_READ: Final = (
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
)


class Damaged(sqlite3.DatabaseError):
    """A row that is not what was written."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT

    def __init__(self, table: str, key: object) -> None:
        name = key.hex() if isinstance(key, bytes) else key
        super().__init__(f"The row {name} of the table {table} is not what was written")


class CannotSync(sqlite3.OperationalError):
    """A disk that failed, and fails again."""

    sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC


def crc(table: str, key: bytes, value: bytes) -> int:
    """The checksum of a row."""
    return zlib.crc32(value, zlib.crc32(key, zlib.crc32(table.encode())))


class Log:
    """The write-ahead log of an open store, from outside SQLite (https://www.sqlite.org/walformat.html).

    Make it once SQLite has the log open, and close it after SQLite did: closing a file that SQLite has
    locked, its index above all, would drop the locks of this whole process.
    """

    def __init__(self, path: Path) -> None:
        self._log = os.open(f"{path}-wal", os.O_RDWR | os.O_CLOEXEC)
        try:
            self._index = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._log)
            raise

    def pages(self) -> int:
        """How many pages it holds."""
        return self._header()[1]

    def write_again(self) -> None:
        """Write what it holds once more, and no more than that, and sync it. Nobody else may be writing."""
        size, pages = self._header()
        end = _LOG_HEADER + pages * (size + _FRAME_HEADER)
        for at in range(0, end, _PIECE):
            os.pwrite(self._log, os.pread(self._log, min(_PIECE, end - at), at), at)
        os.ftruncate(self._log, end)
        os.fsync(self._log)

    def close(self) -> None:
        """See above when."""
        os.close(self._index)
        os.close(self._log)

    def _header(self) -> tuple[int, int]:
        """Bytes of a page, and how many."""
        size, pages = struct.unpack_from("=HI", os.pread(self._index, 20, 0), 14)
        return 65536 if size == 1 else size, pages


def last_commit(path: Path) -> int:
    """Pages up to the last commit in the log of a store that is not open; damaged pages count, too.

    Once it is open, the log has fewer pages only if one before that commit is damaged: either the power went
    before it was synced, or the disk has lost what was acknowledged.
    """
    found = 0
    with contextlib.suppress(OSError), open(f"{path}-wal", "rb") as log:
        head = log.read(_LOG_HEADER)
        size, salt = int.from_bytes(head[8:12], "big"), head[16:24]
        for number in itertools.count(1):
            frame = log.read(_FRAME_HEADER)
            if size < 512 or len(frame) < _FRAME_HEADER or frame[8:16] != salt:
                break
            if frame[4:8] != bytes(4):
                found = number
            log.seek(size, os.SEEK_CUR)
    return found


def set_up(connection: sqlite3.Connection, path: Path, bytes_max: int | None) -> None:
    """Settings, and the tables of the newest version. sqlite3.Error; LocalError for a newer file.

    Carrying the log over is left to the caller: SQLite, doing it by itself, says nothing when it fails.
    """
    run = connection.execute
    run("PRAGMA synchronous=FULL")
    run("PRAGMA cell_size_check=1")  # a damaged page is found when it is read
    run("PRAGMA fullfsync=1")  # macOS: fsync alone leaves the data in the drive's cache
    version = _version(connection, path)
    if version == 0:
        run(f"PRAGMA page_size={PAGE_BYTES}")
    (mode,) = run("PRAGMA journal_mode=WAL").fetchone()
    if mode != "wal":
        raise LocalError(f"The store {path} lies where processes cannot share memory; use another --home.")
    run("PRAGMA wal_autocheckpoint=0")
    (page,) = run("PRAGMA page_size").fetchone()
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


def check(path: Path) -> list[str]:
    """What is wrong with a file that holds a store, a sentence each; blocks are not hashed. From any thread.

    Nobody needs to stop for it: it reads one state of the file, on a connection of its own.
    """
    found: list[str] = []
    name = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with contextlib.closing(sqlite3.connect(name, uri=True)) as connection:
            connection.execute("PRAGMA query_only=1")  # not mode=ro: that would leave an empty log behind
            connection.create_function("row_crc", 3, crc, deterministic=True)
            connection.execute("BEGIN")
            for (text,) in connection.execute("PRAGMA integrity_check(20)"):
                if text != "ok":
                    found.append(f"The file {path} is damaged ({' '.join(text.split())}): {_MEND}.")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for table in TABLES if version == NEWEST else ():
                if table != "blocks":
                    query = f"SELECT key FROM {table} WHERE crc IS NOT row_crc('{table}', key, value)"
                    found += [f"{Damaged(table, key)}." for (key,) in connection.execute(query)]
    except sqlite3.Error as error:
        found.append(f"The file {path} cannot be read: {error}. {remedy(error)}")
    return found


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
