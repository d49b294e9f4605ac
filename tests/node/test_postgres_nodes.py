"""Whole nodes on one PostgreSQL base: what one keeps the others see; how a home comes to use it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import stat
from pathlib import Path
from typing import Any

import pytest
from e2e.harness import Cli, running
from tests.node.hosting import make_bundle, on_loop
from tests.node.postgres import PASSWORD, Server

from promisegrid.block import Block
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid.promisebase.transaction import Committed, Transaction
from promisegrid_node import backend
from promisegrid_node.assemble import open_host
from promisegrid_node.home import Home
from promisegrid_node.host import Host


@pytest.fixture
def url(postgres: Server) -> str:
    """An empty base."""
    with postgres.admin("base") as admin:
        admin.execute("DROP SCHEMA IF EXISTS promisebase CASCADE")
    return postgres.url()


@contextlib.asynccontextmanager
async def two(folder: Path, url: str) -> Any:
    """Two nodes, each with its own home."""
    async with contextlib.AsyncExitStack() as stack:
        hosts = []
        for name in ("ann", "bob"):
            home = Home(folder / name)
            home.create()
            hosts.append(await stack.enter_async_context(open_host(home, Limits(), url)))
        yield hosts


async def _count(host: Host) -> None:
    """Add one to a key both nodes change."""

    async def work(change: Transaction) -> None:
        change.put(b"counter", b"%d" % (int(await change.get(b"counter") or b"0") + 1))

    done = await host.ask(host.kernel.base.transact("tests", work, attempts=100))
    assert isinstance(done, Committed)


async def _counted(host: Host) -> bytes | None:
    async def work(change: Transaction) -> bytes | None:
        return await change.get(b"counter")

    done = await host.ask(host.kernel.base.transact("tests", work))
    assert isinstance(done, Committed)
    return done.value


def test_two_nodes_share_blocks_pins_streams_and_keys(tmp_path: Path, url: str) -> None:
    @on_loop
    async def run() -> None:
        async with two(tmp_path, url) as (ann, bob):
            assert ann.kernel.me != bob.kernel.me
            block = Block.of(b"shared")
            await ann.ask(ann.kernel.base.save([block]))
            await ann.ask(ann.kernel.base.pin(block.cid, "ours"))
            assert [pin.name for pin in await bob.ask(bob.kernel.base.pins())] == ["ours"]
            await ann.ask(ann.kernel.base.move("news", block.cid))
            (head,) = await bob.ask(bob.kernel.base.heads("news"))
            assert head.value == block.cid and head.by == ann.kernel.me
            await asyncio.gather(*(_count(host) for host in (ann, bob) for _ in range(5)))
            assert await _counted(bob) == b"10"
            await bob.ask(bob.kernel.owner.found("bob's"))
            assert bob.kernel.grid is not None and ann.kernel.grid is None
            for host in (ann, bob):
                found = await host.ask(host.kernel.base.collect(dry_run=True))
                assert found.blocks == 0 and found.kept == 3, "the block, the head, bob's grid"

    run()


def test_two_running_nodes_share_a_base_and_their_homes_remember_it(tmp_path: Path, url: str) -> None:
    (tmp_path / "bundle").mkdir()
    make_bundle(tmp_path / "bundle")
    file = tmp_path / "file.bin"
    file.write_bytes(bytes(range(256)) * 8000)
    with running(tmp_path / "ann", "--store", url, bundle=tmp_path / "bundle") as ann:
        cid = ann.cli.ok("put", file, "--json").json["cid"]
        with running(tmp_path / "bob", "--store", url, bundle=tmp_path / "bundle") as bob:
            assert bob.cli.ok("get", cid).out == file.read_bytes()
    alone = Cli(tmp_path / "bob").ok("stat").text
    assert "PostgreSQL, postgresql://grid@/" in alone and PASSWORD not in alone
    assert PASSWORD not in ann.said + bob.said
    kept = tmp_path / "bob" / backend.FILE
    assert kept.read_text().strip() == url and stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert not (tmp_path / "bob" / "promisebase.sqlite").exists()


def test_the_setting_is_remembered_once_it_works_and_can_be_taken_back(
    tmp_path: Path,
    url: str,
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    home = Home(tmp_path)
    monkeypatch.delenv(backend.VARIABLE, raising=False)

    def backend_of(wanted: str | None = None) -> str:
        store = backend.open_store(home, "did:key:ann", wanted)
        store.close()
        return store.place.backend

    assert backend_of() == "SQLite"
    with pytest.raises(LocalError, match="createdb absent"):
        backend_of(postgres.url(database="absent"))
    assert backend_of() == "SQLite"
    with caplog.at_level(logging.WARNING):
        assert backend_of(url) == "PostgreSQL" and "export --all" in caplog.text
    assert backend_of() == "PostgreSQL"
    monkeypatch.setenv(backend.VARIABLE, "sqlite")
    assert backend_of() == "SQLite"
    monkeypatch.setenv(backend.VARIABLE, "mysql://ann:s3cret@host/base")
    with pytest.raises(LocalError, match="postgresql://") as refused:
        backend_of()
    assert "s3cret" not in refused.value.text
    monkeypatch.delenv(backend.VARIABLE)
    assert backend_of("sqlite") == backend_of() == "SQLite"


def test_a_driver_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(LocalError, match=r"pip install 'promisegrid\[postgres\]'"):
        backend.open_store(Home(tmp_path), "did:key:ann", "postgresql://ann:s3cret@host/base")
    assert not (tmp_path / backend.FILE).exists()
