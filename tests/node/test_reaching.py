"""A node dials members it chose, where they say they are, and nowhere that a stranger should send it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.node.hosting import Hosted, hosted, make_bundle, on_loop
from tests.node.test_wire import until

from promisegrid import address
from promisegrid.effects import Approach, Failure
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid_node import headers, reaching, tls, wire
from promisegrid_node.reaching import Bounds, Reaching
from promisegrid_node.web import Site
from promisegrid_node.wire import read_peer

LIMITS = replace(Limits(), overlay_ms=20)
NEAR, HERE, AFAR = Bounds(True, False), Bounds(False, True), Bounds(False, False)


@contextlib.asynccontextmanager
async def member(name: str, folder: Path, through: str = "") -> AsyncIterator[tuple[Hosted, str]]:
    """A node that listens on loopback and chooses; it joins through another's URL."""
    async with hosted(name, founds=not through, limits=LIMITS) as node:
        node.kernel.open_mode = True
        site = Site(node.host, make_bundle(folder), headers.served_names("127.0.0.1"), LIMITS)
        server = TestServer(site.application(), host="127.0.0.1")
        await server.start_server()
        url = f"ws://127.0.0.1:{server.port}/grid"
        dialler = wire.Dialler(node.host, read_peer(through or url), tls.Pins(folder / "pins.json"), LIMITS)
        dialling = asyncio.create_task(dialler.run() if through else asyncio.sleep(0))
        try:
            async with reaching.choosing(node.host, folder, (url,), LIMITS, HERE):
                yield node, url
        finally:
            dialling.cancel()
            await node.host.hang_up()
            await server.close()


@on_loop
async def test_members_that_joined_through_one_node_link_to_each_other(tmp_path: Path) -> None:
    async with (
        member("ann", tmp_path) as (ann, url),
        member("bob", tmp_path, url) as (bob, _),
        member("eve", tmp_path, url) as (eve, _),
    ):
        everybody = {ann.keys.did, bob.keys.did, eve.keys.did}
        await until(lambda: {bob.keys.did, *(peer["did"] for peer in bob.kernel.peers())} == everybody)
        await until(lambda: {eve.keys.did, *(peer["did"] for peer in eve.kernel.peers())} == everybody)
        assert {peer["via"] for peer in eve.kernel.peers()} == {"ws"}
        chosen = {**bob.kernel.overlay.chosen, **eve.kernel.overlay.chosen}
        assert chosen and ann.kernel.overlay.chosen == {}


@pytest.mark.parametrize(
    ("address", "port", "afar", "near", "here"),
    [
        ("93.184.215.14", 443, True, True, True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", 8420, True, True, True),
        ("93.184.215.14", 22, False, False, False),
        ("93.184.215.14", 25, False, False, False),
        ("10.1.2.3", 8420, False, True, False),
        ("192.168.1.1", 80, False, True, False),
        ("fd00::1", 8420, False, True, False),
        ("127.0.0.1", 8420, False, False, True),
        ("::1", 8420, False, False, True),
        ("::ffff:127.0.0.1", 8420, False, False, False),
        ("169.254.169.254", 80, False, False, False),
        ("0.0.0.0", 8420, False, False, False),
        ("224.0.0.1", 8420, False, False, False),
    ],
)
def test_where_a_member_may_send_us(address: str, port: int, afar: bool, near: bool, here: bool) -> None:
    assert [one.allow(address, port) for one in (AFAR, NEAR, HERE)] == [afar, near, here]


@on_loop
async def test_an_address_that_may_not_be_dialled_is_not_connected_to(tmp_path: Path) -> None:
    knocked: list[object] = []
    server = await asyncio.start_server(lambda *_: knocked.append(1), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with hosted() as node:
        own = Reaching(node.host, tls.Pins(tmp_path / "pins"), LIMITS, AFAR)
        for scheme in ("ws", "wss"):
            for name in ("127.0.0.1", "localhost"):
                answer = await own.approach(Approach((f"{scheme}://{name}:{port}/grid",)))
                assert isinstance(answer, Failure) and answer.code == "closed"
        assert knocked == []
        may = Reaching(node.host, tls.Pins(tmp_path / "pins"), LIMITS, HERE)
        dialling = asyncio.create_task(may.approach(Approach((f"ws://localhost:{port}/grid",))))
        await until(lambda: knocked)
        dialling.cancel()
        await may.close()
    server.close()


def test_what_an_owner_announces_is_an_address() -> None:
    assert reaching.announced(["https://node.example/"]) == ("wss://node.example/grid",)
    assert reaching.announced(["ws://10.0.0.1:8420/grid"]) == ("ws://10.0.0.1:8420/grid",)
    with pytest.raises(LocalError, match="cannot be announced"):
        reaching.announced(["ws://node.example/other"])
    with pytest.raises(LocalError, match="at most"):
        reaching.announced(["ws://node.example/grid"] * 5)


def test_where_a_node_listens() -> None:
    assert reaching.listening("10.0.0.1", 8420, "https", ["me.example"]) == (
        "wss://me.example:8420/grid",
        "wss://10.0.0.1:8420/grid",
    )
    assert reaching.listening("fd00::1", 8420, "https", []) == ("wss://[fd00::1]:8420/grid",)
    assert reaching.listening("10.0.0.1", 8420, "https", ["not a name"])[0] == "wss://10.0.0.1:8420/grid"


def test_what_the_owners_words_allow() -> None:
    afar, lan = read_peer("wss://node.example/grid"), read_peer("ws://10.0.0.1:8420/grid")
    assert reaching.bounds((), [afar], True) == AFAR
    assert reaching.bounds((), [lan], True) == NEAR
    assert reaching.bounds((), [afar], False) == NEAR
    assert reaching.bounds(("ws://127.0.0.1:8420/grid",), [afar], True) == HERE


@on_loop
async def test_who_is_dialled_cannot_send_the_node_elsewhere(tmp_path: Path) -> None:
    asked: list[str] = []

    async def inside(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_get("/{path:.*}", inside)
    async with TestServer(app, host="127.0.0.1") as private:

        async def away(request: web.Request) -> web.Response:
            raise web.HTTPTemporaryRedirect(f"http://127.0.0.1:{private.port}/admin?do=it")

        front = web.Application()
        front.router.add_get("/grid", away)
        async with TestServer(front, host="127.0.0.1") as server, hosted("ann", limits=LIMITS) as node:
            reach = Reaching(node.host, tls.Pins(tmp_path / "pins.json"), LIMITS, HERE)
            url = f"ws://127.0.0.1:{server.port}/grid"
            assert isinstance(await reach.approach(Approach((url,))), Failure)
            await reach.close()
    assert asked == []


@on_loop
async def test_who_answers_a_dial_with_silence_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "DIAL_S", 0.2)

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1024):
                pass
        writer.close()

    server = await asyncio.start_server(silence, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with hosted("ann", limits=LIMITS) as node:
        reach = Reaching(node.host, tls.Pins(tmp_path / "pins.json"), LIMITS, HERE)
        async with asyncio.timeout(3):
            assert isinstance(await reach.approach(Approach((f"ws://127.0.0.1:{port}/grid",))), Failure)
        await reach.close()
    server.close()


@pytest.mark.parametrize("name", ["a:99999", "[:::::::]", "xn--0", "a..b", "127.1:8000", "[::ffff:7f00:1]"])
@on_loop
async def test_what_looks_like_an_address_is_refused_and_no_fault(tmp_path: Path, name: str) -> None:
    assert address.is_url(f"ws://{name}/grid")

    async def approach() -> object:
        return await Approach((f"ws://{name}/grid",))

    async with hosted("ann", limits=LIMITS) as node, reaching.choosing(node.host, tmp_path, (), LIMITS, AFAR):
        with pytest.raises(RemoteError) as refused:
            await node.host.ask(approach())
        assert refused.value.code == "closed"
