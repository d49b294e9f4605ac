"""Rows of a PromiseBase on PostgreSQL: the statements that read and write many at once.

Promises: rows of one table are written by one statement for each 16 MiB, in the order of their keys, so that
two who write the same rows wait for each other and never for good. A block that is there is not written
again, but one that was written long ago is marked as new, and one that is damaged is mended.

Does not know: transactions, locks, lost connections (`store_postgres`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg

from promisegrid.effects import TABLES, Load, Scan, Table
from promisegrid_node.postgres_schema import OWN

Connection = psycopg.Connection[tuple[Any, ...]]
Cursor = psycopg.Cursor[tuple[Any, ...]]

PIECE_BYTES: Final = 16 * 1024 * 1024
"""Of values in one statement: what it costs of memory on both sides is a small multiple."""
FRESHEN: Final[LiteralString] = "1 hour"
"""How old a block that is put again may be without being marked as new: a write spared for each."""
_PUT_BLOCKS: Final[LiteralString] = (
    """
INSERT INTO promisebase.blocks AS old (key, value, at)
SELECT key, value, clock_timestamp() FROM unnest(%b::bytea[], %b::bytea[]) AS given (key, value)
ON CONFLICT (key) DO UPDATE
SET value = CASE WHEN old.value = excluded.value THEN old.value ELSE excluded.value END, at = excluded.at
WHERE old.at < excluded.at - interval '"""
    + FRESHEN
    + "' OR old.value <> excluded.value"
)
_REMOVE_BLOCKS: Final[LiteralString] = (
    "DELETE FROM promisebase.blocks WHERE key = ANY(%b::bytea[]) "
    "AND at <= clock_timestamp() - make_interval(secs => %s)"
)
_NAMES: Final[dict[str, LiteralString]] = {
    "blocks": "promisebase.blocks",
    "memo": "promisebase.memo",
    "grid": "promisebase.grid",
    "apps": "promisebase.apps",
    "kv": "promisebase.kv",
    "streams": "promisebase.streams",
    "pins": "promisebase.pins",
}


def read(connection: Connection, me: bytes, reads: Sequence[Load | Scan]) -> list[tuple[object, ...]]:
    """The answers of several reads. In a pipeline they are asked for together."""
    cursors = [
        _load(connection, me, one) if isinstance(one, Load) else _scan(connection, me, one) for one in reads
    ]
    return [
        _loaded(one, cursor.fetchall()) if isinstance(one, Load) else tuple(cursor.fetchall())
        for one, cursor in zip(reads, cursors, strict=True)
    ]


def write(
    connection: Connection, me: bytes, rows: Mapping[tuple[Table, bytes], bytes | None], grace_s: float
) -> None:
    """Write rows, and remove those whose value is None: blocks only when they are older than `grace_s`."""
    for table in TABLES:
        mine = sorted((key, value) for (name, key), value in rows.items() if name == table)
        gone = [key for key, value in mine if value is None]
        if gone and table == "blocks":
            connection.execute(_REMOVE_BLOCKS, (gone, grace_s))
        elif gone:
            query, first = _own("DELETE FROM " + _NAMES[table] + " WHERE key = ANY(%b::bytea[])", table, me)
            connection.execute(query, (gone, *first))
        for keys, values in _pieces([(key, value) for key, value in mine if value is not None]):
            _put(connection, me, table, keys, values)


# -- inside ------------------------------------------------------------------------------------------


def _put(connection: Connection, me: bytes, table: Table, keys: list[bytes], values: list[bytes]) -> None:
    if table == "blocks":
        connection.execute(_PUT_BLOCKS, (keys, values))
        return
    own = table in OWN
    columns: LiteralString = "node, key" if own else "key"
    chosen: LiteralString = "%b::bytea, key" if own else "key"
    query: LiteralString = (
        "INSERT INTO " + _NAMES[table] + " (" + columns + ", value) SELECT " + chosen + ", value "
        "FROM unnest(%b::bytea[], %b::bytea[]) AS given (key, value) "
        "ON CONFLICT (" + columns + ") DO UPDATE SET value = excluded.value"
    )
    connection.execute(query, (me, keys, values) if own else (keys, values))


def _pieces(rows: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[list[bytes], list[bytes]]]:
    keys: list[bytes] = []
    values: list[bytes] = []
    size = 0
    for key, value in rows:
        if size + len(value) > PIECE_BYTES and keys:
            yield keys, values
            keys, values, size = [], [], 0
        keys.append(key)
        values.append(value)
        size += len(value)
    if keys:
        yield keys, values


def _load(connection: Connection, me: bytes, load: Load) -> Cursor:
    query: LiteralString = "SELECT key, value FROM " + _NAMES[load.table]
    if len(load.keys) == 1:  # quicker than an array of one
        query, last = _own(query + " WHERE key = %b", load.table, me)
        return connection.execute(query, (load.keys[0], *last), binary=True)
    query, last = _own(query + " WHERE key = ANY(%b::bytea[])", load.table, me)
    return connection.execute(query, (list(dict.fromkeys(load.keys)), *last), binary=True)


def _loaded(load: Load, rows: Sequence[tuple[Any, ...]]) -> tuple[object, ...]:
    found: dict[bytes, bytes] = dict(rows)
    return tuple(found.get(key) for key in load.keys)


def _scan(connection: Connection, me: bytes, scan: Scan) -> Cursor:
    value: LiteralString = "''::bytea" if scan.keys_only else "value"
    if scan.table in OWN and scan.everyone:
        return _scan_everyone(connection, scan, value)
    query: LiteralString = "SELECT key, " + value + " FROM " + _NAMES[scan.table]
    query += " WHERE key > %b AND key >= %b"
    values: list[object] = [scan.after, scan.prefix]
    end = after_prefix(scan.prefix)
    if end is not None:
        query, values = query + " AND key < %b", [*values, end]
    query, last = _own(query, scan.table, me)
    return connection.execute(query + " ORDER BY key LIMIT %s", [*values, *last, scan.limit], binary=True)


def _scan_everyone(connection: Connection, scan: Scan, value: LiteralString) -> Cursor:
    """Rows of all nodes: a key is the node's, a zero byte, and its own; a node's name has no zero byte."""
    composed: LiteralString = "node || '\\x00'::bytea || key"
    node = scan.after.partition(b"\0")[0]
    query: LiteralString = (
        "SELECT " + composed + ", " + value + " FROM " + _NAMES[scan.table] + " WHERE node >= %b AND "
        + composed + " > %b AND " + composed + " >= %b"
    )
    values: list[object] = [node, scan.after, scan.prefix]
    end = after_prefix(scan.prefix)
    if end is not None:
        query, values = query + " AND " + composed + " < %b", [*values, end]
    return connection.execute(query + " ORDER BY node, key LIMIT %s", [*values, scan.limit], binary=True)


def _own(query: LiteralString, table: Table, me: bytes) -> tuple[LiteralString, tuple[bytes, ...]]:
    """The query for this node's rows alone, where a table has every node's."""
    return (query + " AND node = %b", (me,)) if table in OWN else (query, ())


def after_prefix(prefix: bytes) -> bytes | None:
    """The first key behind every key with that prefix; None when there is none."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else None
