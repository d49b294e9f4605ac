"""The store on PostgreSQL: the contract, several processes on one base, and servers that go away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from tests import contracts
from tests.node.postgres import Server

from promisegrid.effects import Effect
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


@pytest.mark.parametrize("law", contracts.STORE, ids=contracts.name)
def test_postgres_keeps_the_contract(law: contracts.Law, opened: Opened) -> None:
    store: Any = opened()

    async def perform(effects: Sequence[Effect]) -> list[object]:
        return list(store.perform(effects))

    asyncio.run(law(perform))
