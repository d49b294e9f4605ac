"""One connection to a PostgreSQL server that may go away: made again, waited for, its errors in sentences.

Promises: a password never appears in a text that comes from here; nobody waits longer than `WAIT_S` for a
server; a connection that leads to a server that only reads (a stand-by after a failover) is none.

Does not know: what is asked, or whether something that was under way took effect (`store_postgres`).
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from psycopg.waiting import Ready, Wait

from promisegrid.errors import LocalError

T = TypeVar("T")

WAIT_S: Final = 20.0
"""How long a caller waits for a server to come back: a restart takes a few seconds, a failover ten or so."""
FIRST_S: Final = 2.0
"""How long at the start: it may just be starting as well."""
SILENT_S: Final = 75.0
"""How long a server may take to answer, or to take what is sent; it gives up a statement earlier."""
CONNECT_S: Final = 5
STEP_S: Final = 0.05
STEP_MAX_S: Final = 1.0
_DEFAULTS: Final[dict[str, str | int]] = {
    "connect_timeout": CONNECT_S,
    "application_name": "promisegrid",
    "target_session_attrs": "read-write",
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Parameters of libpq that the URL may say otherwise."""
_SESSION: Final = """SELECT
    set_config('statement_timeout', '60s', false), set_config('lock_timeout', '5s', false),
    set_config('idle_in_transaction_session_timeout', '10s', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit')
        WHEN 'off' THEN 'on' WHEN 'local' THEN 'on' ELSE current_setting('synchronous_commit') END, false),
    set_config('enable_seqscan', 'off', false), set_config('enable_bitmapscan', 'off', false),
    current_setting('fsync')"""
"""Bounds, so that who stands still holds nobody up; durability, whatever the server's default; and rows by
their key, in its order, however few there are."""
_REFUSALS: Final = ("authentication failed", "does not exist", "pg_hba.conf", "no password")
_COMING: Final = ("starting up", "not yet accepting", "shutting down", "recovery mode")
_AGAIN: Final = frozenset({"40001", "40P01", "55P03"})
_GONE: Final = frozenset({"57P01", "57P02", "57P03", "25006", "53300"})


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that nobody waits on for good, and that in a pipeline sends large values to their end.

    The driver's pipeline goes on to the answers when a socket has not taken all of a question yet; the server
    then waits for the rest of it, and the client for the answer (psycopg 3.3, `_pipeline_communicate`).
    """

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """See psycopg. OperationalError when the server says nothing for `SILENT_S`."""
        return super().wait(self._flushing(gen), interval, timeout)

    def _flushing(self, gen: PQGen[T]) -> PQGen[T]:
        until = time.monotonic() + SILENT_S
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    until = time.monotonic() + SILENT_S
                elif time.monotonic() > until:
                    raise psycopg.OperationalError("the server has fallen silent")
                wanted = gen.send(ready)
                while wanted == Wait.R and self.pgconn.flush():
                    ready = yield Wait.RW
                    if ready & Ready.R:
                        wanted = gen.send(Ready.R)
                    elif not ready and time.monotonic() > until:
                        raise psycopg.OperationalError("the server has fallen silent")
        except StopIteration as end:
            found: T = end.value
            return found


class Unreachable(Exception):
    """There is no server to ask; the text is a sentence with what helps."""


class Link:
    """The connection of one store. One thread at a time uses it."""

    def __init__(self, url: str, prepare: Callable[[Connection], None]) -> None:
        """`prepare` is called with each new connection before anything else is asked of it. LocalError."""
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # what it warns of is told here, in sentences
        self._parts = {**_DEFAULTS, **read_url(url)}
        self._prepare = prepare
        self._connection: Connection | None = None
        self._is_down = False
        self.where = shown(url)
        self.is_synced = True

    def first(self) -> None:
        """Connect for the first time. LocalError: what is wrong, and what helps."""
        until = time.monotonic() + WAIT_S
        while self._connection is None:
            try:
                self.use(lambda connection: None, time.monotonic() + FIRST_S)
            except (Unreachable, psycopg.Error) as error:
                text = self.sentence(error)
                if not any(part in text for part in _COMING) or time.monotonic() > until:
                    raise LocalError(text) from None

    def deadline(self) -> float:
        """Until when a call that begins now may wait. After one that waited in vain none waits."""
        return time.monotonic() + (0 if self._is_down else WAIT_S)

    def use(self, work: Callable[[Connection], T], until: float) -> T:
        """`work` on a connection that holds; with another, from its beginning, when it breaks meanwhile.

        Work that must not be done twice sees to that itself. Unreachable when the time is over.
        """
        step = 0.0
        while True:
            try:
                connection = self._connected()
                answer = work(connection)
            except psycopg.Error as error:
                self.close()  # even if it holds: the driver takes for prepared what a failed pipeline undid
                if not (is_gone(error) or must_repeat(error)):
                    raise
                if time.monotonic() + step > until:
                    self._is_down = is_gone(error)
                    raise Unreachable(self.sentence(error)) from error
                time.sleep(step)
                step = min(max(step * 2, STEP_S), STEP_MAX_S)
            else:
                self._is_down = False
                return answer

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def sentence(self, error: Exception) -> str:
        """What went wrong, for people."""
        if isinstance(error, Unreachable):
            return str(error)
        said = str(error).partition("Is the server running")[0]
        what = " ".join(said.split())[:300].rstrip(".") or type(error).__name__
        return f"The store {self.where} cannot be used: {what}. {_remedy(error, self._parts)}"

    # -- inside --------------------------------------------------------------------------------------

    def _connected(self) -> Connection:
        if self._connection is None:
            made = Connection.connect(**self._parts, autocommit=True)
            try:
                row = made.execute(_SESSION).fetchone()
                self.is_synced = row is not None and row[-1] == "on"
                self._prepare(made)
            except BaseException:
                made.close()
                raise
            self._connection = made
        return self._connection


def read_url(url: str) -> dict[str, Any]:
    """A URL's parameters. LocalError for what is none; it is not repeated, because it may hold a password."""
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise LocalError(
            "The store's URL cannot be read: write postgresql://USER@HOST:5432/DATABASE, and what is special "
            "in a name or password as %-signs and digits, such as %40 for @."
        ) from None


def shown(url: str) -> str:
    """A URL as people may see it: without a password, and without whatever else it says."""
    parts = read_url(url)
    user, host, port = (parts.get(name) or "" for name in ("user", "host", "port"))
    text = f"{user}@" if user else ""
    text += f"{host}:{port}" if port else str(host)
    return f"postgresql://{text}/{parts.get('dbname') or ''}"


def is_gone(error: psycopg.Error) -> bool:
    """Whether there is no server just now, or the connection to it is gone."""
    if error.sqlstate is not None:
        return error.sqlstate in _GONE or error.sqlstate.startswith("08")
    if not isinstance(error, psycopg.OperationalError):
        return False
    return not isinstance(error, psycopg.errors.PipelineAborted) and not _is_refusal(error)


def must_repeat(error: psycopg.Error) -> bool:
    """Whether the server has undone it in favour of others: it may go well the next time."""
    return error.sqlstate in _AGAIN


def is_full(error: psycopg.Error) -> bool:
    """Whether the server has no room."""
    return error.sqlstate == "53100"


def _is_refusal(error: psycopg.Error) -> bool:
    """Whether a server that is there let nobody in. While connecting libpq says no more than a text."""
    text = str(error)
    return any(part in text for part in _REFUSALS)


def _remedy(error: Exception, parts: dict[str, Any]) -> str:
    """What helps."""
    text, state = str(error), getattr(error, "sqlstate", None)
    database = parts.get("dbname") or parts.get("user") or "promisegrid"
    if "authentication failed" in text or "no password" in text or state in ("28P01", "28000"):
        return "Check user and password, in the URL, in PGPASSWORD or in ~/.pgpass."
    if "role" in text and "does not exist" in text:
        return "Make the role with `createuser`, or name another in the URL."
    if "does not exist" in text and "database" in text:
        return f"Make it with `createdb {database}`, or name another in the URL."
    if "pg_hba.conf" in text:
        return "Let this machine in, in the server's pg_hba.conf."
    if state == "42501":
        return f"Let the user make a schema: GRANT CREATE ON DATABASE {database} TO the user."
    if "too many clients" in text or "connection slots" in text or state == "53300":
        return "Let more connections in (max_connections), or run fewer nodes."
    if state == "53100":
        return "Make room on the server's disk."
    if state in _AGAIN:
        return "Others write to the same rows; try again."
    if isinstance(error, psycopg.Error) and is_gone(error):
        return "Start the server, or check host and port; the node goes on by itself once it answers."
    return "The server's log may say more."
