"""Routers over real sockets on loopback: as we ask, as we answer, and strangers' addresses that lead here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from tests.node.hosting import Hosted, TestKeys, hosted, make_bundle, on_loop

from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.effects import Failure
from promisegrid.limits import Limits
from promisegrid_node import announcement, headers, peerid, providers, routers
from promisegrid_node.announcing import Announcer
from promisegrid_node.fetching import GatewayClient
from promisegrid_node.router import Router
from promisegrid_node.routers import RouterClient
from promisegrid_node.web import Site

DATA = b"published"
ROOT = Cid.of(DATA)
LIMITS = replace(Limits(), routing_ms=400, gateway_ms=400)
FAR = "/dns/far.example/tcp/443/https"
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A server on loopback that answers everything so; its URL."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    test = TestServer(app, host="127.0.0.1")
    await test.start_server(shutdown_timeout=0)
    try:
        yield str(test.make_url("")).rstrip("/")
    finally:
        await test.close()


async def said(answer: Answer, near: bool = False) -> tuple[str, ...] | Failure:
    """What a client makes of such a router."""
    client = RouterClient(LIMITS, near)
    async with serving(answer) as url:
        try:
            return await client.providers(url, ROOT)
        finally:
            await client.close()


def listing(*records: object, status: int = 200) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.json_response({"Providers": records}, status=status)

    return answer


def lines(*parts: bytes, then: float = 0) -> Answer:
    """Records as they come; then silence for so many seconds, and the end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": providers.LINES})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            for part in parts:
                await response.write(part)
            await asyncio.sleep(then)
        return response

    return answer


def record(*addresses: str) -> dict[str, Any]:
    return {"Schema": "peer", "ID": "12D3", "Addrs": addresses}


# -- a router as we ask it -----------------------------------------------------------------------------


@on_loop
async def test_a_router_is_asked_as_the_standard_says_and_nothing_of_this_machine_goes_along() -> None:
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request)
        return await listing(record(FAR), record("/ip4/203.0.113.7/tcp/4001"))(request)

    assert await said(answer) == ("https://far.example",)
    assert asked[0].path == f"/routing/v1/providers/{ROOT}"
    assert asked[0].query["filter-protocols"] == "transport-ipfs-gateway-http,unknown"
    assert "application/x-ndjson" in asked[0].headers["Accept"]
    assert not {"Cookie", "Authorization", "Referer", "Origin"} & set(asked[0].headers)


@on_loop
async def test_what_had_come_counts_when_the_rest_does_not_come_or_is_nonsense() -> None:
    first = providers.line(record(FAR))
    assert await said(lines(first[:20], first[20:], b"\n", then=30)) == ("https://far.example",)
    assert await said(lines(first, b"nonsense\n")) == ("https://far.example",)
    assert await said(lines(first.rstrip())) == ("https://far.example",)
    assert await said(lines()) == ()


@on_loop
async def test_a_router_that_fails_is_a_failure_and_404_is_nobody() -> None:
    assert await said(listing(status=404)) == ()
    for status, code in ((429, "busy"), (503, "busy"), (500, "closed"), (302, "closed")):
        wrong = await said(listing(status=status))
        assert isinstance(wrong, Failure)
        assert wrong.code == code
    for answer, code in (
        (lines(then=30), "out_of_time"),
        (lines(b"nonsense\n"), "closed"),
        (lines(b"[" * 9_000 + b"\n"), "closed"),
        (lines(b"x" * (providers.RECORD_MAX + 1), b"x" * routers.PIECE, then=5), "closed"),
        (lines(*[b"{}" + b" " * 8_000 + b"\n"] * 40), "closed"),
    ):
        wrong = await said(answer)
        assert isinstance(wrong, Failure)
        assert wrong.code == code


@on_loop
async def test_of_an_answer_so_much_is_taken() -> None:
    many = [record(f"/dns/far{number}.example/tcp/443/https") for number in range(500)]
    found = await said(listing(*many))
    assert isinstance(found, tuple)
    assert len(found) == LIMITS.providers
    big = await said(listing({"ID": "x" * routers.ANSWER_MAX}))
    assert isinstance(big, Failure)
    for nonsense in ({}, {"Providers": None}, {"Providers": 7}, [], [record(FAR)]):

        async def answer(request: web.Request, nonsense: object = nonsense) -> web.StreamResponse:
            return web.json_response(nonsense)

        assert await said(answer) == ()


@on_loop
async def test_addresses_of_private_networks_are_left_out_unless_allowed() -> None:
    private = ["/ip4/127.0.0.1/tcp/8420/http", "/ip6/::1/tcp/80/http", "/ip4/10.0.0.7/tcp/80/http"]
    told = listing(record(*private, "/ip4/203.0.114.7/tcp/22/http"), record(FAR))
    assert await said(told) == ("https://far.example",)
    assert await said(told, near=True) == (
        "https://far.example", "http://127.0.0.1:8420", "http://[::1]", "http://10.0.0.7",
    )  # fmt: skip


# -- strangers' addresses that lead here ---------------------------------------------------------------


@on_loop
async def test_a_strangers_address_never_leads_to_this_machine_whatever_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By number, by a name that means loopback, and by one that meant something else a moment ago."""
    reached: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        reached.append(request.path)
        return web.Response(body=DATA)

    client, near = GatewayClient(LIMITS), GatewayClient(LIMITS, near=True)
    turns = iter(["93.184.215.14", *["127.0.0.1"] * 9])
    ask_system = socket.getaddrinfo

    def rebinding(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        return ask_system(next(turns) if host == "rebinding.example" else host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    assert socket.getaddrinfo("rebinding.example", 80)[0][4][0] == "93.184.215.14"
    async with serving(answer) as url:
        port = url.rpartition(":")[2]
        for name in ("127.0.0.1", "localhost", "rebinding.example", "[::ffff:127.0.0.1]", "2130706433"):
            wrong = await client.block(f"http://{name}:{port}", ROOT, is_found=True)
            assert isinstance(wrong, Failure), name
            assert wrong.code == "closed"
        assert reached == []
        assert await near.block(url, ROOT, is_found=True) == DATA
        assert await client.block(url, ROOT) == DATA, "the owner named it"
        assert len(reached) == 2
    await client.close()
    await near.close()


@on_loop
async def test_redirects_and_other_services_are_not_followed() -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("http://127.0.0.1:1/")

    client = GatewayClient(LIMITS, near=True)
    async with serving(elsewhere) as url:
        wrong = await client.block(url, ROOT, is_found=True)
    assert isinstance(wrong, Failure)
    assert "another address" in wrong.text
    refused = await client.block("http://127.0.0.1:25", ROOT, is_found=True)
    assert isinstance(refused, Failure)
    assert "another service" in refused.text
    await client.close()


# -- this node as a router -----------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def routing(
    folder: Path, near: bool = False, limits: Limits = LIMITS
) -> AsyncIterator[tuple[Hosted, TestClient[Any, Any]]]:
    """A node, and a client of its site."""
    async with hosted(limits=limits) as node:
        router = Router(node.host, limits, "https://ann.example", near)
        names = headers.served_names("127.0.0.1")
        site = Site(node.host, make_bundle(folder), names, limits, router=router)
        async with TestClient(TestServer(site.application(), host="127.0.0.1")) as client:
            yield node, client


async def announced(node: Hosted, keys: TestKeys, root: Cid = ROOT, *addresses: str) -> dict[str, Any]:
    """An announcement by whoever has these keys, at the time of a node."""
    making = announcement.make(root, keys.did, list(addresses or (FAR,)), 60_000, node.host.clock())
    wish = making.send(None)
    try:
        making.send(keys.sign(wish.message))  # type: ignore[attr-defined]
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError


def own(node: Hosted) -> dict[str, Any]:
    return {
        "Schema": "peer",
        "ID": peerid.text_of(peerid.of_did(node.keys.did)),
        "Addrs": ["/dns/ann.example/tcp/443/https"],
        "Protocols": ["transport-ipfs-gateway-http"],
    }


@on_loop
async def test_only_what_is_published_is_told(tmp_path: Path) -> None:
    async with routing(tmp_path) as (node, client):
        await node.host.ask(node.kernel.save([Block(ROOT, DATA), Block(Cid.of(b"own"), b"own")]))
        path = f"/routing/v1/providers/{ROOT}"
        before = await client.get(path)
        assert (before.status, await before.json()) == (200, {"Providers": []})
        assert before.headers["Cache-Control"].startswith("public, max-age=15,")
        await node.host.ask(node.kernel.publishing.publish(ROOT))
        answer = await client.get(path)
        assert await answer.json() == {"Providers": [own(node)]}
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Vary"] == "Accept"
        assert answer.headers["Last-Modified"]
        assert await (await client.get(f"/routing/v1/providers/{Cid.of(b'own')}")).json() == {"Providers": []}
        file = Cid.of(b"\n\4\b\2\x18\0", "dag-pb")  # under its older name, and asked for by both
        older = Cid.decode(bytes(file)[2:])
        await node.host.ask(node.kernel.save([Block(older, b"\n\4\b\2\x18\0")]))
        await node.host.ask(node.kernel.publishing.publish(older))
        for name in (file, older):
            answer = await client.get(f"/routing/v1/providers/{name}")
            assert await answer.json() == {"Providers": [own(node)]}
        await node.host.ask(node.kernel.publishing.withdraw(ROOT))
        assert await (await client.get(path)).json() == {"Providers": []}


@on_loop
async def test_answers_come_as_they_are_asked_for(tmp_path: Path) -> None:
    async with routing(tmp_path) as (node, client):
        await node.host.ask(node.kernel.save([Block(ROOT, DATA)]))
        await node.host.ask(node.kernel.publishing.publish(ROOT))
        path = f"/routing/v1/providers/{ROOT}"
        streamed = {"Accept": "application/x-ndjson, application/json;q=0.8"}
        answer = await client.get(path, headers=streamed)
        assert answer.content_type == "application/x-ndjson"
        assert [json.loads(line) for line in (await answer.text()).splitlines()] == [own(node)]
        filtered = {"filter-addrs=https": 1, "filter-addrs=!https": 0, "filter-protocols=x": 0}
        for query, count in filtered.items():
            assert len((await (await client.get(f"{path}?{query}")).json())["Providers"]) == count
        me = peerid.of_did(node.keys.did)
        for name in (peerid.text_of(me), str(me)):
            assert await (await client.get(f"/routing/v1/peers/{name}")).json() == {"Peers": [own(node)]}
        for bad, status in (
            ("/routing/v1/providers/bafy", 422), ("/routing/v1/peers/bafy", 422),
            ("/routing/v1/ipns/k51", 501), ("/routing/v1/dht/closest/peers/x", 501),
            ("/routing/v2/providers/x", 501),
        ):  # fmt: skip
            refused = await client.get(bad)
            assert refused.status == status, bad
            assert refused.headers["Access-Control-Allow-Origin"] == "*"
        preflight = await client.options(path, headers={"Origin": "https://elsewhere.example"})
        assert "GET" in preflight.headers["Access-Control-Allow-Methods"]


@on_loop
async def test_members_announce_and_strangers_do_not(tmp_path: Path) -> None:
    bob, eve = TestKeys("bob"), TestKeys("eve")
    async with routing(tmp_path) as (node, client):
        await node.host.ask(node.kernel.owner.admit(bob.did))

        async def post(*records: object, method: str = "POST") -> tuple[int, Any]:
            path = "/routing/v1/providers"
            answer = await client.request(method, path, json={"Providers": records})
            is_json = answer.content_type == "application/json"
            return answer.status, (await answer.json())["ProvideResults"] if is_json else await answer.text()

        good = await announced(node, bob)
        status, results = await post(good, method="PUT")
        assert status == 200
        assert 0 < results[0]["TTL"] <= 60_000
        told = {**own(node), "ID": peerid.text_of(peerid.of_did(bob.did)), "Addrs": [FAR]}
        there = f"/routing/v1/providers/{ROOT}"
        assert await (await client.get(there)).json() == {"Providers": [told]}
        assert await (await client.get(f"/routing/v1/peers/{told['ID']}")).json() == {"Peers": [told]}

        status, text = await post(await announced(node, eve))
        assert (status, "no member" in text) == (403, True)
        forged = {**good, "Payload": {**good["Payload"], "Addrs": ["/dns/eve.example/tcp/443/https"]}}
        private = await announced(node, bob, ROOT, "/ip4/192.168.1.7/tcp/80/http")
        status, results = await post(forged, private, {"Schema": "bitswap"}, good)
        assert status == 200
        assert ["Error" in one for one in results] == [True, True, True, False]
        assert await (await client.get(there)).json() == {"Providers": [told]}
        for body, status in ((b"{", 400), (b"[]", 422), (b'{"Providers": []}', 422), (b"[" * 9_000, 400)):
            assert (await client.post("/routing/v1/providers", data=body)).status == status
        assert (await post(*[good] * 101))[0] in (413, 422)
        _, results = await post(*[forged] * 20, good)
        assert all("Error" in one for one in results), "reading a key is dear: not for whoever sends nonsense"
        await node.host.ask(node.kernel.bans.ban(bob.did))
        assert (await post(good))[0] == 403
        assert await (await client.get(there)).json() == {"Providers": []}, "nor what it said before"
        assert await (await client.get(f"/routing/v1/peers/{told['ID']}")).json() == {"Peers": []}


@on_loop
async def test_so_much_is_remembered_and_not_for_ever(tmp_path: Path) -> None:
    limits = replace(LIMITS, announced_per_member=2, announced=3)
    bob, cat = TestKeys("bob"), TestKeys("cat")
    roots = [Cid.of(b"%d" % number) for number in range(4)]
    async with routing(tmp_path, near=True, limits=limits) as (node, client):
        for keys in (bob, cat):
            await node.host.ask(node.kernel.owner.admit(keys.did))
        start_ms = node.host.clock()

        async def post(keys: TestKeys, root: Cid) -> bool:
            body = {"Providers": [await announced(node, keys, root, "/ip4/192.168.1.7/tcp/80/http")]}
            answer = await (await client.post("/routing/v1/providers", json=body)).json()
            return "Error" not in answer["ProvideResults"][0]

        assert [await post(bob, root) for root in roots[:3]] == [True, True, False], "his share"
        assert await post(bob, roots[0]), "the same again is no more"
        assert [await post(cat, root) for root in roots[:2]] == [True, False], "all are full"
        node.host.clock = lambda: start_ms + 61_000
        assert await (await client.get(f"/routing/v1/providers/{roots[0]}")).json() == {"Providers": []}
        assert [await post(cat, root) for root in roots[:3]] == [True, True, False]


# -- telling routers -----------------------------------------------------------------------------------


@on_loop
async def test_what_is_published_is_announced_and_nothing_else(tmp_path: Path) -> None:
    """At the start, when it is published, and once; a router that takes nothing is not bothered again."""
    taken: list[str] = []
    heard = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        if "deaf" in request.path:
            deaf.append(request.path)
            return web.Response(status=501)
        records = (await request.json())["Providers"]
        taken.extend(one["Payload"]["CID"] for one in records)
        heard.set()
        return web.json_response({"ProvideResults": [{"TTL": 1} for _ in records]})

    deaf: list[str] = []
    second = Cid.of(b"second")
    async with serving(answer) as url, hosted(limits=LIMITS) as node:
        await node.host.ask(node.kernel.save([Block(ROOT, DATA), Block(second, b"second")]))
        await node.host.ask(node.kernel.publishing.publish(ROOT))
        announcer = Announcer(node.host, LIMITS, [url, f"{url}/deaf"], "https://ann.example")
        running = asyncio.create_task(announcer.run())
        await heard.wait()
        assert taken == [str(ROOT)]
        heard.clear()
        await node.host.ask(node.kernel.publishing.publish(second))
        await heard.wait()
        assert taken == [str(ROOT), str(second)]
        rows = await announcer.announce([ROOT])
        assert [(one["router"], bool(one["error"])) for one in rows] == [(url, False), (f"{url}/deaf", True)]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert len(deaf) == 2, "at the start, and when asked to"
