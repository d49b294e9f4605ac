"""PromiseBase on PostgreSQL, for nodes that share one base. Twin of the store on SQLite (`store.py`).

Promises: a `Commit` is durable before it is answered, as far as the server's own settings make it so. Commits
take effect as if one came after another, whoever makes them: one that rests on what it saw has the base to
itself (`_EXCLUSIVE`), others that write rows go side by side, and blocks, which never change, need no lock.
Each transaction that must not be done twice has a name, written with it; when the connection is lost before
the answer came, that name is claimed: either it is there, then it took effect, or it can no longer.

All calls come from one thread at a time; `glance` never waits, so it has nothing to say. Does not know: where
the key of the node is kept (`keys`), what the bytes mean.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, Final, LiteralString

import psycopg

from promisegrid.effects import Commit, Conflict, Failure, Load, Read, Save, Scan, Table, Write
from promisegrid.errors import LocalError
from promisegrid_node import postgres_rows, postgres_schema
from promisegrid_node.ports import Place, StoreEffect
from promisegrid_node.postgres_link import Connection, Link, Unreachable, is_full, is_gone

GRACE_S: Final = 2 * 3600
"""A block put less than so long ago is not removed: whoever put it, on whatever node, may still be about to
name it. Putting one that is there makes it new after `postgres_rows.FRESHEN`: an hour at least is left."""
_LOCK: Final = 0x50726F6D_42617365
"""Of the advisory lock of all that write rows, so that what a transaction saw stays so until it ends."""
_NONE, _SHARED, _EXCLUSIVE = range(3)


@dataclass(slots=True)
class _Try:
    """How far a transaction came: its name, if it has one, and whether its end was asked for."""

    name: tuple[bytes, int] | None
    is_ending: bool = False
    answers: list[object] = field(default_factory=list)


log = logging.getLogger("promisegrid")


class InDoubt(Exception):
    """The connection was lost when the transaction was to end; it is not known whether it did."""


class Store:
    """One node's view of a base."""

    def __init__(self, link: Link, me: str, grace_s: float) -> None:
        self._link, self._me, self._grace_s = link, me.encode(), grace_s
        self._session, self._number = os.urandom(8), 0
        self._doubt: tuple[bytes, int] | None = None
        self._kept, self._kept_until = {"blocks": 0, "bytes": 0}, 0.0

    @classmethod
    def open(cls, url: str, me: str, grace_s: float = GRACE_S) -> Store:
        """The base that a URL names, for the node `me` (its did), made when there is none.

        LocalError when it cannot be used: names it, without the password, and says the remedy.
        """

        def prepare(connection: Connection) -> None:
            postgres_schema.set_up(connection, link.where)
            postgres_schema.forget(connection)

        link = Link(url, prepare)
        link.first()
        if not link.is_synced:
            log.warning("%s has fsync=off: what is stored there does not survive a power cut.", link.where)
        return cls(link, me, grace_s)

    @property
    def place(self) -> Place:
        """Its server and database, without a password."""
        return Place("PostgreSQL", self._link.where)

    def perform(self, effects: Iterable[StoreEffect]) -> list[object]:
        """The answers of several effects, in order; neighbours that write, and that read, go together."""
        answers: list[object] = []
        for is_write, run in groupby(effects, lambda effect: isinstance(effect, Save | Commit)):
            answers += self._together(list(run), is_write)
        return answers

    def glance(self, effect: Scan) -> None:
        """Nothing: asking the server takes its time."""

    def stat(self) -> dict[str, int]:
        """{"blocks", "bytes"} of the whole base, counted again when that is cheap. LocalError."""
        now = time.monotonic()
        if now >= self._kept_until:
            try:
                counted = self._link.use(_count, self._link.deadline())
            except (Unreachable, psycopg.Error) as error:
                raise LocalError(self._link.sentence(error)) from error
            self._kept = {"blocks": counted[0], "bytes": counted[1]}
            took = time.monotonic() - now
            self._kept_until = now + took * 20 if took > 0.05 else 0.0
        return dict(self._kept)

    def close(self) -> None:
        """Hang up."""
        self._link.close()

    # -- inside --------------------------------------------------------------------------------------

    def _together(self, effects: list[StoreEffect], is_write: bool) -> list[object]:
        """One transaction; one for each effect where that fails for what one of them asks."""
        try:
            self._settle()
            if is_write:
                return self._write([effect for effect in effects if isinstance(effect, Save | Commit)])
            return self._read([effect for effect in effects if not isinstance(effect, Save | Commit)])
        except Unreachable as error:
            return [Failure("busy", str(error))] * len(effects)
        except InDoubt as error:
            return [Failure("internal", str(error))] * len(effects)
        except LocalError as error:  # another node has made the base newer
            return [Failure(error.code or "internal", str(error))] * len(effects)
        except psycopg.Error as error:
            if len(effects) > 1:
                return [self._together([effect], is_write)[0] for effect in effects]
            code = "disk_full" if is_full(error) else "internal"
            return [Failure(code, self._link.sentence(error))]

    def _read(self, effects: Sequence[Load | Scan | Read]) -> list[object]:
        reads = [read for effect in effects for read in _reads_of(effect)]

        def work(connection: Connection) -> list[tuple[object, ...]]:
            if len(reads) == 1:
                return postgres_rows.read(connection, self._me, reads)
            with connection.pipeline():
                connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                found = postgres_rows.read(connection, self._me, reads)
                connection.execute("COMMIT")
            return found

        answers = iter(self._link.use(work, self._link.deadline()) if reads else ())
        return [
            tuple(next(answers) for _ in effect.reads) if isinstance(effect, Read) else next(answers)
            for effect in effects
        ]

    def _write(self, effects: Sequence[Save | Commit]) -> list[object]:
        """One transaction, once: its answers. InDoubt when that could not be found out in time."""
        until, lock = self._link.deadline(), _lock_of(effects)
        while True:
            self._number += 1
            tried = _Try((self._session, self._number) if lock else None)
            try:
                return self._link.use(partial(self._try, effects, lock, tried), until)
            except _Lost:
                self._doubt = tried.name
            try:
                if self._settle():
                    return tried.answers
            except (Unreachable, psycopg.Error) as error:
                text = f"{self._link.sentence(error)} Until then it is not known whether this was written."
                raise InDoubt(text) from error

    def _settle(self) -> bool:
        """Find out whether the transaction in doubt took effect; if not, it never will: its name is taken.

        One that is still under way is waited for. Taken names must stay, so a new session begins.
        """
        if self._doubt is None:
            return False
        doubt = self._doubt
        claimed = self._link.use(
            lambda connection: connection.execute(_CLAIM, doubt).rowcount, self._link.deadline()
        )
        self._session, self._number, self._doubt = os.urandom(8), 0, None
        return claimed == 0

    def _try(
        self, effects: Sequence[Save | Commit], lock: int, tried: _Try, connection: Connection
    ) -> list[object]:
        tried.is_ending, tried.answers = False, []
        try:
            with connection.pipeline() as pipeline:
                self._begin(connection, effects, lock, tried)
                waiting: dict[tuple[Table, bytes], bytes | None] = {}
                for effect in effects:
                    answer = None
                    if isinstance(effect, Commit) and effect.seen:
                        postgres_rows.write(connection, self._me, waiting, self._grace_s)
                        waiting = {}
                        now = postgres_rows.read(connection, self._me, [seen.read for seen in effect.seen])
                        answer = _conflict(effect, now)
                    if answer is None:
                        waiting.update(((write.table, write.key), write.value) for write in effect.writes)
                    tried.answers.append(answer)
                postgres_rows.write(connection, self._me, waiting, self._grace_s)
                tried.is_ending = True
                end = connection.execute("COMMIT")
                pipeline.sync()
            assert end.statusmessage == "COMMIT", end.statusmessage
        except psycopg.Error as error:
            if tried.is_ending and tried.name is not None and is_gone(error):
                self._link.close()
                raise _Lost from error
            raise
        return tried.answers

    def _begin(
        self, connection: Connection, effects: Sequence[Save | Commit], lock: int, tried: _Try
    ) -> None:
        connection.execute("BEGIN")
        if not any(isinstance(effect, Commit) for effect in effects):
            connection.execute("SET LOCAL synchronous_commit = off")
        if lock:
            connection.execute(_LOCKING[lock], (_LOCK,))
        if tried.name is not None:
            connection.execute(_NAME, (tried.name[0], tried.name[1], *tried.name))


class _Lost(Exception):
    """The connection went when the transaction was to end."""


_LOCKING: Final[dict[int, LiteralString]] = {
    _SHARED: "SELECT pg_advisory_xact_lock_shared(%s::bigint)",
    _EXCLUSIVE: "SELECT pg_advisory_xact_lock(%s::bigint)",
}
_NAME: Final[LiteralString] = (
    "WITH known AS (DELETE FROM promisebase.applied WHERE session = %b AND number < %s) "
    "INSERT INTO promisebase.applied (session, number) VALUES (%b, %s)"
)
_CLAIM: Final[LiteralString] = (
    "INSERT INTO promisebase.applied (session, number) VALUES (%b, %s) ON CONFLICT DO NOTHING"
)


def _reads_of(effect: Load | Scan | Read) -> tuple[Load | Scan, ...]:
    return effect.reads if isinstance(effect, Read) else (effect,)


def _lock_of(effects: Sequence[Save | Commit]) -> int:
    """What a transaction must lock; with _NONE it may also be done twice."""
    if any(isinstance(effect, Commit) and effect.seen for effect in effects):
        return _EXCLUSIVE
    writes = (write for effect in effects for write in effect.writes)
    return _NONE if all(_is_put(write) for write in writes) else _SHARED


def _is_put(write: Write) -> bool:
    return write.table == "blocks" and write.value is not None


def _conflict(effect: Commit, now: Sequence[tuple[object, ...]]) -> Conflict | None:
    for at, (seen, answer) in enumerate(zip(effect.seen, now, strict=True)):
        if seen.answer != answer:
            return Conflict(at)
    return None


def _count(connection: Connection) -> tuple[Any, ...]:
    with connection.transaction():
        connection.execute("SET LOCAL enable_seqscan = on")
        row = connection.execute(
            "SELECT count(*), coalesce(sum(octet_length(value)), 0)::bigint FROM promisebase.blocks"
        ).fetchone()
    assert row is not None
    return row
