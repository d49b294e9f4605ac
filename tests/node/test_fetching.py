"""Blocks from gateways, by a real server: honest, lying, stalling, endless, sending elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.node.hosting import hosted, on_loop

from promisegrid.cid import Cid
from promisegrid.effects import Failure
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid_node.fetching import GatewayClient

DATA = b"wanted" * 1000
WANTED = Cid.of(DATA)
LIMITS = replace(Limits(), gateway_ms=300, hedge_ms=50, block_bytes=100_000)


class Server:
    """A gateway that behaves as it is told; `asked` is what it was asked."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        how = request.match_info["how"]
        if how.isdigit():
            return web.Response(status=int(how))
        return await getattr(self, how)(request)  # type: ignore[no-any-return]

    async def honest(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=DATA)

    async def lying(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"a lie")

    async def silent(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    async def stalling(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA))})
        await response.prepare(request)
        await response.write(DATA[:100])
        await asyncio.sleep(60)
        return response

    async def endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(bytes(65_536))
        return response

    async def trickling(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x")
                await asyncio.sleep(0.02)
        return response

    async def huge(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(1 << 50)})
        await response.prepare(request)
        return response

    async def short(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(DATA))})
        await response.prepare(request)
        await response.write(DATA[:100])
        assert request.transport is not None
        request.transport.close()
        return response

    async def packed(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=DATA, headers={"Content-Encoding": "gzip"})

    async def elsewhere(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"{self.url}/honest/ipfs/{request.match_info['cid']}")


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/{how}/ipfs/{cid}", server.answer)
    test = TestServer(app, host="127.0.0.1")
    await test.start_server(shutdown_timeout=0)
    server.url = str(test.make_url("")).rstrip("/")
    try:
        yield server
    finally:
        await test.close()


def ask(how: str) -> tuple[bytes | Failure | None, Server, float]:
    """What the client makes of a server that behaves so, and how long it took."""

    async def run() -> tuple[bytes | Failure | None, Server, float]:
        client = GatewayClient(LIMITS)
        async with serving() as server:
            start = time.monotonic()
            answer = await client.block(f"{server.url}/{how}", WANTED)
            took = time.monotonic() - start
            await client.close()
            return answer, server, took

    return asyncio.run(run())


def test_a_block_is_asked_for_by_its_cid_and_nothing_of_this_machine_goes_along() -> None:
    answer, server, _ = ask("honest")
    assert answer == DATA
    (asked,) = server.asked
    assert asked.path_qs == f"/honest/ipfs/{WANTED}?format=raw"
    assert asked.headers["Accept"] == "application/vnd.ipld.raw"
    assert not {"Cookie", "Authorization", "Referer", "Origin"} & set(asked.headers)


@pytest.mark.parametrize("status", ["404", "410", "451"])
def test_none_here_is_an_answer(status: str) -> None:
    assert ask(status)[0] is None


@pytest.mark.parametrize(
    ("how", "code", "word"),
    [
        ("429", "busy", "patience"),
        ("503", "busy", "patience"),
        ("400", "closed", "400"),
        ("500", "closed", "500"),
        ("silent", "out_of_time", "within"),
        ("stalling", "out_of_time", "within"),
        ("trickling", "out_of_time", "within"),
        ("endless", "too_large", "100000"),
        ("huge", "too_large", "100000"),
        ("short", "closed", "could not be asked"),
        ("packed", "closed", "coding"),
        ("elsewhere", "closed", "name that one"),
    ],
)
def test_what_goes_wrong_is_a_failure_and_soon_over(how: str, code: str, word: str) -> None:
    answer, server, took = ask(how)
    assert isinstance(answer, Failure)
    assert (answer.code, word in answer.text) == (code, True), answer
    assert took < 2
    assert len(server.asked) == 1


def test_nobody_there_is_a_failure() -> None:
    async def run() -> bytes | Failure | None:
        client = GatewayClient(LIMITS)
        try:
            return await client.block("http://127.0.0.1:9", WANTED)
        finally:
            await client.close()

    answer = asyncio.run(run())
    assert isinstance(answer, Failure)
    assert answer.code == "closed"


@on_loop
async def test_a_node_has_the_truth_from_the_third_gateway() -> None:
    async with serving() as server, hosted(limits=LIMITS) as node:
        for how in ("lying", "stalling", "honest"):
            await node.host.ask(node.kernel.gateways.add(f"{server.url}/{how}"))
        assert await node.host.ask(node.kernel.block(WANTED)) == DATA
        assert await node.host.ask(node.kernel.has(WANTED))
        told = {one["url"].rpartition("/")[2]: one["aside_ms"] for one in node.kernel.gateways.ls()}
        assert told["lying"] > LIMITS.gateway_aside_ms
        assert told["honest"] == 0


@on_loop
async def test_when_all_lie_nothing_is_kept() -> None:
    async with serving() as server, hosted(limits=LIMITS) as node:
        await node.host.ask(node.kernel.gateways.add(f"{server.url}/lying"))
        with pytest.raises(RemoteError) as refused:
            await node.host.ask(node.kernel.block(WANTED))
        assert refused.value.code == "bad_block"
        assert bytes(WANTED) not in node.store.tables["blocks"]
