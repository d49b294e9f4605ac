"""The tables of a PromiseBase on PostgreSQL, and their versions.

All lie in the schema `promisebase`: `blocks`, `memo`, `kv`, `streams` and `pins` belong to every node of the
base; `grid` and `apps` have a row's node in front. Keys are `bytea`, which PostgreSQL orders by bytes.
`applied` names transactions, so that it can be told whether one took effect whose answer was lost.

Promises: an older base is brought up to date in one transaction, once, whoever comes first; a newer one is
left as it was.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString

import psycopg

from promisegrid.errors import LocalError

Connection = psycopg.Connection[tuple[Any, ...]]

SHARED: Final = ("blocks", "memo", "kv", "streams", "pins")
OWN: Final = ("grid", "apps")
SETTING_UP: Final = 0x50726F6D_53657455
"""Of the advisory lock under which tables are made."""

_FIRST: Final[LiteralString] = """
CREATE SCHEMA IF NOT EXISTS promisebase;
CREATE TABLE promisebase.about (version int NOT NULL);
INSERT INTO promisebase.about VALUES (0);
CREATE TABLE promisebase.blocks (key bytea PRIMARY KEY, value bytea NOT NULL, at timestamptz NOT NULL);
ALTER TABLE promisebase.blocks ALTER value SET STORAGE EXTERNAL;
CREATE TABLE promisebase.memo (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE promisebase.kv (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE promisebase.streams (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE promisebase.pins (key bytea PRIMARY KEY, value bytea NOT NULL);
CREATE TABLE promisebase.grid (node bytea, key bytea, value bytea NOT NULL, PRIMARY KEY (node, key));
CREATE TABLE promisebase.apps (node bytea, key bytea, value bytea NOT NULL, PRIMARY KEY (node, key));
CREATE TABLE promisebase.applied (
    session bytea, number bigint, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (session, number));
"""
STEPS: Final[tuple[LiteralString, ...]] = (_FIRST,)
"""What makes each version out of the one before."""


def set_up(connection: Connection, where: str, steps: tuple[LiteralString, ...] = STEPS) -> None:
    """See that the tables are there. LocalError for a newer base. Rights are needed only to change it."""
    if _version(connection, where, len(steps)) == len(steps):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s::bigint)", (SETTING_UP,))
        for step in steps[_version(connection, where, len(steps)) :]:
            connection.execute(step)
        connection.execute("UPDATE promisebase.about SET version = %s", (len(steps),))


def forget(connection: Connection) -> None:
    """Remove names of transactions that nobody can ask for any more."""
    connection.execute("DELETE FROM promisebase.applied WHERE at < now() - interval '7 days'")


def _version(connection: Connection, where: str, newest: int) -> int:
    """The version of what is there; 0 for nothing."""
    found = connection.execute("SELECT to_regclass('promisebase.about')").fetchone()
    if found is None or found[0] is None:
        return 0
    row = connection.execute("SELECT version FROM promisebase.about").fetchone()
    version = int(row[0]) if row is not None else 0
    if version > newest:
        raise LocalError(
            f"The store {where} was made by a newer version; update promisegrid on this machine, "
            f"or name another database."
        )
    return version
