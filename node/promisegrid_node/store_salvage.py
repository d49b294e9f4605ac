"""What can still be read of a damaged store, saved into a new file. The old one is kept beside it.

Blocks are taken from every page that holds whole ones, whatever became of the pages that lead there: a block
proves itself. Rows are asked of SQLite from both ends of their table; where it gives up in between, pages are
searched for rows whose checksums hold, which may bring back some that were removed. The file's format:
https://www.sqlite.org/fileformat2.html.

Promises: until the new file is whole and synced, the old one is in its place. Nobody else may use the home.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from promisegrid.cid import Cid, CidError
from promisegrid.effects import TABLES, Commit, Failure, Save, Write
from promisegrid.errors import LocalError
from promisegrid_node.home import sync_folder
from promisegrid_node.store import Store
from promisegrid_node.store_file import FILE, PAGE_BYTES, crc

_TABLE_LEAF, _INDEX_LEAF = 13, 10
_BATCH_BYTES: Final = 16 * 1024 * 1024
_MAGIC: Final = b"SQLite format 3\0"
Value = bytes | int | None
Watch = Callable[[int, int], None]
"""Called with pages looked at, and how many there are."""


@dataclass(slots=True)
class Salvaged:
    """Rows saved, by table; sentences about what was not; where the damaged file is now."""

    saved: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    lost: list[str] = field(default_factory=list)
    aside: Path = Path()


class _Pages:
    """The pages of a file, with what its log holds laid over them."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        head = self._file.read(100)
        size = int.from_bytes(head[16:18], "big")
        whole = head.startswith(_MAGIC) and (size == 1 or (size >= 512 and size & (size - 1) == 0))
        self.size = (65536 if size == 1 else size) if whole else PAGE_BYTES
        self.usable = self.size - (head[20] if whole else 0)
        self._over = dict(self._log(path.with_name(path.name + "-wal")))
        length = path.stat().st_size
        self.count = max([length // self.size, *self._over])

    def page(self, number: int) -> bytes:
        """A page, or b"" where there is none."""
        if number in self._over:
            return self._over[number]
        with contextlib.suppress(OSError):
            self._file.seek((number - 1) * self.size)
            found = self._file.read(self.size)
            return found if len(found) == self.size else b""
        return b""

    def close(self) -> None:
        self._file.close()

    def _log(self, path: Path) -> Iterator[tuple[int, bytes]]:
        if not path.exists():
            return
        with path.open("rb") as log:
            salt = log.read(32)[16:24]
            while len(frame := log.read(24 + self.size)) == 24 + self.size and frame[8:16] == salt:
                yield int.from_bytes(frame[:4], "big"), frame[24:]


def salvage(home: Path, watch: Watch = lambda done, total: None) -> Salvaged:
    """Save what can be read into a new file, and put it in the old one's place. LocalError when it cannot."""
    path, found = home / FILE, Salvaged()
    making = home / "mending"
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(mode=0o700)
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as old:
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    try:
        store = Store.open(making)
        try:
            _save(store, _rows_by_sql(path, found))
            known: set[tuple[str, bytes]] | None = None
            if found.lost:
                known = {(table, key) for table in TABLES for key in _keys(store._connection, table)}
            _save(store, _rows_by_page(path, known, watch))
            _ask(store, Commit((Write("grid", b"mended", None),)))
            _count(store, path, found)
        finally:
            store.close()
        found.aside = _exchange(home, making)
    except OSError as error:
        text = f"The store {path} cannot be mended: {error.strerror}. Free some space on that disk."
        raise LocalError(text) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return found


def _keys(connection: sqlite3.Connection, table: str) -> Iterator[bytes]:
    for (key,) in connection.execute(f"SELECT key FROM {table} ORDER BY key"):
        if isinstance(key, bytes):  # a damaged page may say anything
            yield key


def _count(store: Store, path: Path, found: Salvaged) -> None:
    """How much was saved, and which blocks the old file names that were not."""
    run = store._connection.execute
    for table in TABLES:
        (found.saved[table],) = run(f"SELECT count(*) FROM {table}").fetchone()
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as old:
        for key in _keys(old, "blocks"):
            if run("SELECT 1 FROM blocks WHERE key = ?", (key,)).fetchone() is None:
                with contextlib.suppress(CidError):
                    found.lost.append(f"The block {Cid.decode(key)} could not be read.")


def _save(store: Store, rows: Iterator[Write]) -> None:
    batch: list[Write] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row.value or b"") + 100
        if size > _BATCH_BYTES:
            _ask(store, Save(tuple(batch)))
            batch, size = [], 0
    _ask(store, Save(tuple(batch)))


def _ask(store: Store, effect: Save | Commit) -> None:
    (answer,) = store.perform([effect])
    if isinstance(answer, Failure):
        raise LocalError(answer.text, answer.code)


def _exchange(home: Path, making: Path) -> Path:
    """Put the new file in the old one's place; where the old one is now."""
    path, number = home / FILE, 1
    while (aside := home / f"{FILE}.damaged-{number}").exists():
        number += 1
    os.link(path, aside)
    for suffix in ("-wal", "-shm"):  # the old file's log must not be taken for the new one's
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{aside}{suffix}")
    os.replace(making / FILE, path)
    sync_folder(home)
    return aside


# -- as SQLite tells it ------------------------------------------------------------------------------


def _rows_by_sql(path: Path, found: Salvaged) -> Iterator[Write]:
    """Every row but blocks, from both ends of each table."""
    try:
        connection = sqlite3.connect(path)
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        found.lost.append(f"The file's tables cannot be found: {error}.")
        return
    with contextlib.closing(connection):
        for table in TABLES:
            if table == "blocks" or (version < 2 and table not in ("memo", "grid", "apps")):
                continue
            columns = "key, value" if version < 2 else "key, value, crc"
            for order in ("ASC", "DESC"):
                try:
                    for row in connection.execute(f"SELECT {columns} FROM {table} ORDER BY key {order}"):
                        if version < 2 or crc(table, row[0], row[1]) == row[2]:
                            yield Write(table, row[0], row[1])
                        else:
                            found.lost.append(f"The row {row[0].hex()} of {table} is not what was written.")
                    break
                except (sqlite3.Error, TypeError) as error:
                    if order == "DESC":
                        found.lost.append(f"Some rows of {table} could not be read: {error}.")


# -- page by page ------------------------------------------------------------------------------------


def _rows_by_page(path: Path, known: set[tuple[str, bytes]] | None, watch: Watch) -> Iterator[Write]:
    """Every whole block; and, unless `known` is None, whole rows whose table and key are not among those."""
    pages = _Pages(path)
    try:
        for number in range(1, pages.count + 1):
            if number % 1000 == 0:
                watch(number, pages.count)
            for kind, record in _records(pages, number):
                write = _block(record) if kind == _TABLE_LEAF else _row(record) if known is not None else None
                if write is not None and (known is None or (write.table, write.key) not in known):
                    yield write
    finally:
        pages.close()


def _block(record: list[Value]) -> Write | None:
    match record:
        case [bytes(key), bytes(value)]:
            with contextlib.suppress(CidError):
                if Cid.decode(key).holds(value):
                    return Write("blocks", key, value)
    return None


def _row(record: list[Value]) -> Write | None:
    match record:
        case [bytes(key), bytes(value), int(told)]:
            for table in TABLES:
                if table != "blocks" and crc(table, key, value) == told & 0xFFFFFFFF:
                    return Write(table, key, value)
    return None


def _records(pages: _Pages, number: int) -> Iterator[tuple[int, list[Value]]]:
    """The records that a leaf page begins, as far as they can be read."""
    page, at = pages.page(number), 100 if number == 1 else 0
    if not page or page[at] not in (_TABLE_LEAF, _INDEX_LEAF):
        return
    (count,) = struct.unpack_from(">H", page, at + 3)
    if at + 8 + 2 * count > len(page):
        return
    for (cell,) in struct.iter_unpack(">H", page[at + 8 : at + 8 + 2 * count]):
        with contextlib.suppress(IndexError, ValueError, struct.error):
            size, here = _varint(page, cell)
            if page[at] == _TABLE_LEAF:
                _, here = _varint(page, here)
            payload = _payload(pages, page, here, size, page[at])
            if len(payload) == size:
                yield page[at], _fields(payload)


def _payload(pages: _Pages, page: bytes, at: int, size: int, kind: int) -> bytes:
    """A record whole, from its page and those it overflows into."""
    usable = pages.usable
    most = usable - 35 if kind == _TABLE_LEAF else (usable - 12) * 64 // 255 - 23
    if size <= most:
        return page[at : at + size]
    if size > pages.count * usable:
        raise ValueError("longer than the file")
    least = (usable - 12) * 32 // 255 - 23
    local = least + (size - least) % (usable - 4)
    local = local if local <= most else least
    parts, left = [page[at : at + local]], size - local
    (following,) = struct.unpack_from(">I", page, at + local)
    while left > 0:
        more = pages.page(following)
        parts.append(more[4 : 4 + min(left, usable - 4)])
        left -= usable - 4
        (following,) = struct.unpack_from(">I", more, 0)
    return b"".join(parts)


def _fields(payload: bytes) -> list[Value]:
    """The columns of a record; only bytes and whole numbers are looked for."""
    end, at = _varint(payload, 0)
    body, found = end, list[Value]()
    while at < end:
        kind, at = _varint(payload, at)
        size = (kind - 12) // 2 if kind >= 12 else (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)[kind]
        piece = payload[body : body + size]
        body += size
        if kind >= 12:
            found.append(piece)
        elif kind in (8, 9):
            found.append(kind - 8)
        else:
            found.append(int.from_bytes(piece, "big", signed=True) if kind else None)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to nine bytes, the high bits first; and where it ends."""
    value = 0
    for step in range(8):
        byte = data[at + step]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + step + 1
    return value << 8 | data[at + 8], at + 9
