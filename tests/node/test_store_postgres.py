"""The store on PostgreSQL: the contract, several processes on one base, and servers that go away."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest
from tests import contracts
from tests.node import counting
from tests.node.postgres import PASSWORD, Server

from promisegrid.effects import Commit, Conflict, Effect, Failure, Load, Read, Save, Scan, Seen, Table, Write
from promisegrid.errors import LocalError
from promisegrid_node import postgres_link, postgres_schema
from promisegrid_node.store_postgres import Store

Opened = Callable[..., Store]


@pytest.fixture
def opened(postgres: Server) -> Iterator[Opened]:
    """Opens the store of a node on an empty base; blocks may be removed at once."""
    with postgres.admin("base") as admin:
        admin.execute("DROP SCHEMA IF EXISTS promisebase CASCADE")
    stores: list[Store] = []

    def start(me: str = "did:key:ann", grace_s: float = 0) -> Store:
        stores.append(Store.open(postgres.url(), me, grace_s))
        return stores[-1]

    yield start
    for store in stores:
        store.close()


def put(key: bytes, value: bytes | None, table: Table = "kv") -> Write:
    return Write(table, key, value)


@pytest.mark.parametrize("law", contracts.STORE, ids=contracts.name)
def test_postgres_keeps_the_contract(law: contracts.Law, opened: Opened) -> None:
    store: Any = opened()

    async def perform(effects: Sequence[Effect]) -> list[object]:
        return list(store.perform(effects))

    asyncio.run(law(perform))


# -- one base, several nodes -------------------------------------------------------------------------


def test_nodes_share_all_but_what_is_each_ones_own(opened: Opened) -> None:
    ann, bob = opened("did:key:ann"), opened("did:key:bob")
    every: tuple[Table, ...] = ("blocks", "memo", "kv", "streams", "pins", "grid", "apps")
    ann.perform([Commit(tuple(put(b"key", b"ann", table) for table in every))])
    seen = bob.perform([Load(table, (b"key",)) for table in every])
    assert seen == [(b"ann",)] * 5 + [(None,)] * 2
    bob.perform([Commit((put(b"key", b"bob", "grid"), put(b"l", b"bob", "grid"), put(b"key", None, "apps")))])
    assert ann.perform([Load("grid", (b"key", b"l")), Load("apps", (b"key",))]) == [(b"ann", None), (b"ann",)]
    assert bob.perform([Scan("grid", b"k", b"", 9)]) == [((b"key", b"bob"),)]
    assert bob.stat() == ann.stat() == {"blocks": 1, "bytes": 3}


def test_whoever_collects_sees_the_rows_of_all(opened: Opened) -> None:
    names = ["did:key:a", "did:key:ab", "did:key:b"]
    keys = [b"", b"\0", b"k", b"k\xff"]
    for name in names:
        opened(name).perform([Commit(tuple(put(key, b"v", "grid") for key in keys))])
    store, rows = opened(names[1]), sorted(name.encode() + b"\0" + key for name in names for key in keys)
    found: list[bytes] = []
    while page := store.perform([Scan("grid", b"", found[-1] if found else b"", 5, True, True)])[0]:
        assert isinstance(page, tuple)
        found += [key for key, _ in page]
    assert found == rows
    for prefix in (b"did:key:a", b"did:key:ab\0k", b"x"):
        for after in (b"", b"did:key:a", b"did:key:a\0k", b"did:key:ab\0"):
            (answer,) = store.perform([Scan("grid", prefix, after, 99, True, True)])
            assert isinstance(answer, tuple)
            assert [key for key, _ in answer] == [k for k in rows if k.startswith(prefix) and k > after]


def test_a_block_put_lately_is_not_removed_and_putting_it_again_makes_it_new(
    opened: Opened, postgres: Server
) -> None:
    def age(hours: float) -> None:
        with postgres.admin("base") as admin:
            admin.execute("UPDATE promisebase.blocks SET at = at - make_interval(hours => 1) * %s", (hours,))

    ann, bob = opened(grace_s=2 * 3600), opened("did:key:bob", grace_s=2 * 3600)
    ann.perform([Commit((put(b"a", b"1", "blocks"), put(b"b", b"1", "blocks")))])
    gone = Commit((put(b"a", None, "blocks"), put(b"b", None, "blocks")))
    for hours, left in ((0.0, 2), (1.9, 2), (0.5, 1)):
        age(hours)
        if hours == 0.5:
            bob.perform([Save((put(b"a", b"1", "blocks"),))])
        none, rows = ann.perform([gone, Scan("blocks", b"", b"", 9, keys_only=True)])
        assert none is None and isinstance(rows, tuple) and len(rows) == left
    assert ann.perform([Load("blocks", (b"a", b"b"))]) == [(b"1", None)]


def test_a_batch_has_several_outcomes_and_a_failure_costs_only_its_own(opened: Opened) -> None:
    store, none = opened(), Seen(Load("kv", (b"k",)), (None,))
    answers = store.perform(
        [
            Commit((put(b"k", b"1"),), (none,)),
            Commit((put(b"k", b"2"),), (none,)),
            Save((put(b"l", b"3"),)),
            Read((Load("kv", (b"k",)), Load("kv", (b"l",)))),
        ]
    )
    assert answers == [None, Conflict(0), None, ((b"1",), (b"3",))]
    long = bytes(random.Random(0).randbytes(9000))
    answers = store.perform([Commit((put(b"m", b"4"),)), Commit((put(long, b"5"), put(b"n", b"5")))])
    assert answers[0] is None and isinstance(answers[1], Failure) and "index row" in answers[1].text
    assert store.perform([Load("kv", (b"m", b"n"))]) == [(b"4", None)]
    for number in range(12):  # the driver prepares statements now and then; a failure must not confuse it
        bad = Commit((put(long, b"5", "blocks"), put(b"n", b"5")))
        answers = store.perform([bad]) + store.perform([Commit((put(b"o", b"%d" % number),))])
        assert isinstance(answers[0], Failure) and answers[1] is None


class Counters:
    """Processes that count; all begin when all are ready."""

    def __init__(self, url: str, times: int, names: str = "abc") -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "tests.node.counting", url]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        self._processes = [
            subprocess.Popen([*command, name, str(times)], env=environment, **pipes) for name in names
        ]
        for process in self._processes:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(b"\n")

    @property
    def are_counting(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def told(self) -> list[int]:
        """The numbers they were told, once they ended well."""
        said = [process.communicate(timeout=60)[0] for process in self._processes]
        assert [process.returncode for process in self._processes] == [0] * len(said)
        return sorted(int(line) for out in said for line in out.split())


def held(store: Store) -> list[int]:
    """The numbers in the base."""
    (rows,) = store.perform([Scan("kv", b"step/", b"", 9999)])
    assert isinstance(rows, tuple)
    return sorted(int(value) for _, value in rows)


def test_no_step_of_several_processes_is_lost_or_made_twice(opened: Opened, postgres: Server) -> None:
    store = opened()
    told = Counters(postgres.url(), 30).told()
    assert told == held(store) == list(range(1, 91))
    assert store.perform([counting.COUNTER]) == [(b"90",)]


# -- servers that go away ----------------------------------------------------------------------------


def test_a_server_that_crashes_has_all_it_acknowledged_once(opened: Opened, postgres: Server) -> None:
    store = opened()
    counters = Counters(postgres.url(), 40, "ab")
    while len(held(store)) < 20:
        time.sleep(0.005)
    postgres.stop(signal.SIGQUIT)
    postgres.start()
    told = counters.told()
    assert told == held(store) == list(range(1, 81))


def test_connections_that_are_cut_at_any_moment_cost_nothing(opened: Opened, postgres: Server) -> None:
    store, seed = opened(), 7
    counters, dice = Counters(postgres.url(), 40, "ab"), random.Random(seed)
    cuts = steps = 0
    with postgres.admin("base") as admin:
        while counters.are_counting:
            row = admin.execute("SELECT count(*) FROM promisebase.kv").fetchone()
            assert row is not None
            if row[0] < steps + 3:  # on a slow machine too, something is done between two cuts
                time.sleep(0.002)
                continue
            steps = row[0]
            time.sleep(dice.random() * 0.01)
            cuts += admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'promisegrid' AND pid <> pg_backend_pid()"
            ).rowcount
    told = counters.told()
    assert told == held(store) == list(range(1, 81)) and cuts > 10, seed


@pytest.mark.parametrize("is_applied", [True, False])
def test_a_commit_whose_answer_is_lost_is_made_once(
    is_applied: bool, opened: Opened, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, original, lost = opened(), psycopg.Pipeline.sync, list[bool]()

    def sync(pipeline: psycopg.Pipeline) -> None:
        if not lost:
            lost.append(True)
            if is_applied:
                original(pipeline)
            raise psycopg.OperationalError("the line is dead")
        original(pipeline)

    monkeypatch.setattr(psycopg.Pipeline, "sync", sync)
    seen = Seen(counting.COUNTER, (None,))
    assert store.perform([Commit((put(b"counter", b"1"),), (seen,))]) == [None]
    assert store.perform([Commit((put(b"counter", b"1"),), (seen,))]) == [Conflict(0)]
    assert lost and store.perform([counting.COUNTER]) == [(b"1",)]


def test_a_transaction_in_doubt_that_still_runs_is_waited_for(opened: Opened, postgres: Server) -> None:
    store = opened()
    store._doubt = (b"session", 7)
    answers: list[bool] = []
    with psycopg.connect(postgres.url()) as other:
        other.execute("INSERT INTO promisebase.applied VALUES ('session', 7)")
        waiting = threading.Thread(target=lambda: answers.append(store._settle()))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        other.commit()
    waiting.join(5)
    assert answers == [True]
    store._doubt = (b"session", 8)
    assert store._settle() is False
    with psycopg.connect(postgres.url()) as late, pytest.raises(psycopg.errors.UniqueViolation):
        late.execute("INSERT INTO promisebase.applied VALUES ('session', 8)")


def test_a_server_that_stays_away_is_a_clear_failure_and_then_goes_on(
    opened: Opened, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    monkeypatch.setattr(postgres_link, "WAIT_S", 0.3)
    postgres.stop(signal.SIGINT)
    try:
        answers = store.perform([Commit((put(b"a", b"1"),)), Load("kv", (b"a",))])
        began = time.monotonic()
        store.perform([Load("kv", (b"a",))])
        assert time.monotonic() - began < 0.2, "who waited in vain once does not wait each time"
    finally:
        postgres.start()
    for answer in answers:
        assert isinstance(answer, Failure) and answer.code == "busy"
        assert "Start the server" in answer.text and PASSWORD not in answer.text
    assert store.perform([Load("kv", (b"a",)), Commit((put(b"a", b"1"),))]) == [(None,), None]


def test_a_server_that_falls_silent_is_asked_anew(
    opened: Opened, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, own = opened(), "SELECT pid FROM pg_stat_activity WHERE application_name = 'promisegrid'"
    monkeypatch.setattr(postgres_link, "SILENT_S", 0.3)
    with postgres.admin("base") as admin:
        row = admin.execute(own).fetchone()
        assert row is not None and isinstance(row[0], int)
    os.kill(row[0], signal.SIGSTOP)
    try:
        assert store.perform([Commit((put(b"a", b"1"),)), Load("kv", (b"a",))]) == [None, (b"1",)]
    finally:
        os.kill(row[0], signal.SIGCONT)


def test_a_commit_is_synced_whatever_the_server_prefers_and_a_save_is_not(
    opened: Opened, postgres: Server
) -> None:
    unsynced = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()"
    with postgres.admin("base") as admin:
        admin.execute("ALTER DATABASE base SET synchronous_commit = off")
        try:
            store = opened()
            block = put(b"block", b"1", "blocks")
            for durable in (Commit((block,)), Commit((), (Seen(counting.COUNTER, (None,)),))):
                store.perform([Save((block, put(b"k", bytes(2000), "memo")))])
                store.perform([durable])
                row = admin.execute(unsynced).fetchone()
                assert row is not None and row[0] == 0
        finally:
            admin.execute("ALTER DATABASE base RESET synchronous_commit")


# -- what people meet --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ({"password": "wrong-pony"}, "user and password"),
        ({"database": "absent"}, "createdb absent"),
        ({"user": "bob"}, "user and password"),
    ],
)
def test_what_keeps_it_from_opening_is_said(change: dict[str, str], remedy: str, postgres: Server) -> None:
    with pytest.raises(LocalError, match=remedy) as refused:
        Store.open(postgres.url(**change), "did:key:ann")
    assert "wrong-pony" not in refused.value.text and PASSWORD not in refused.value.text


def test_no_server_and_no_url_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_link, "FIRST_S", 0)
    with pytest.raises(LocalError, match=r"Start the server") as refused:
        Store.open("postgresql://ann:s3cret@/base?host=/nowhere", "did:key:ann")
    assert "s3cret" not in refused.value.text
    with pytest.raises(LocalError, match="postgresql://USER") as refused:
        Store.open("postgresql://ann:s3cret@[/base?x=s3cret", "did:key:ann")
    assert "s3cret" not in refused.value.text and refused.value.__cause__ is None


def test_an_older_base_is_brought_up_to_date_and_a_newer_one_left_alone(
    opened: Opened, postgres: Server
) -> None:
    store = opened()
    store.perform([Commit((put(b"k", b"v"),))])
    steps = (*postgres_schema.STEPS, "ALTER TABLE promisebase.kv ADD note text")
    with postgres_link.Connection.connect(postgres.url(), autocommit=True) as connection:
        for _ in range(2):
            postgres_schema.set_up(connection, "here", steps)
        with pytest.raises(LocalError, match="newer version; update"):
            Store.open(postgres.url(), "did:key:ann")
        assert store.perform([Load("kv", (b"k",))]) == [(b"v",)]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'promisegrid'"
        )
    (failure,) = store.perform([Load("kv", (b"k",))])
    assert isinstance(failure, Failure) and "newer version; update" in failure.text
