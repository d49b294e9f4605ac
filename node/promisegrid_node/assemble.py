"""Puts a node together: a kernel with the store, the key and the engine of one home."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace

from promisegrid.kernel import Kernel
from promisegrid.limits import Limits
from promisegrid.state import Identity
from promisegrid_node.api import About, Api
from promisegrid_node.backend import open_store
from promisegrid_node.fetching import GatewayClient
from promisegrid_node.home import Home
from promisegrid_node.host import Host
from promisegrid_node.keys import FILE as KEY_FILE
from promisegrid_node.keys import Keys
from promisegrid_node.runtime import Runtime
from promisegrid_node.session import InProcess, Node


def node_limits() -> Limits:
    """The bounds of a node on this machine: as many programs at once as it has processors."""
    return replace(Limits(), runs=max(2, os.cpu_count() or 2))


@contextlib.asynccontextmanager
async def open_host(
    home: Home, limits: Limits, store_url: str | None = None, near: bool = False
) -> AsyncIterator[Host]:
    """The node of a home, booted; `store_url` chooses where it keeps things, from now on.

    near: strangers may name addresses of the owner's own network, to fetch from.

    The caller holds or shares the home. Raises LocalError.
    """
    keys = Keys.open(home.path)
    store = open_store(home, keys.did, store_url)
    runtime = Runtime(home.path, limits)
    kernel = Kernel(
        Identity(keys.did, keys.public_key),
        entropy=os.urandom(32),
        limits=limits,
        engine=runtime.engine,
        wasi=runtime.wasi,
    )
    host = Host(kernel, store, keys, runtime, fetcher=GatewayClient(limits, near))
    try:
        await host.start()
        yield host
    finally:
        await host.close()


@contextlib.asynccontextmanager
async def open_node(home: Home, alone: bool) -> AsyncIterator[Node]:
    """The node of a home, in this process. alone: no other command may use the home meanwhile."""
    if not (home.path / KEY_FILE).exists():
        with home.hold():  # two first verbs at once must not make two keys
            Keys.open(home.path)
    with home.hold() if alone else home.share():
        async with open_host(home, node_limits()) as host:
            yield InProcess(Api(host, About(None)).verbs)
