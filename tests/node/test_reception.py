"""The front of the HTTP port, on loopback: whoever only holds a place costs little and keeps nobody out.

Every address of 127/8 is this machine's, so that one test can come from many.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from tests.node.hosting import hosted, make_bundle, on_loop
from tests.node.test_wire import closing, until

from promisegrid.limits import Limits
from promisegrid_node import headers, reception, tls
from promisegrid_node.reception import Reception, Visitor
from promisegrid_node.web import Site

LIMITS = replace(Limits(), visitors=6, visitors_per_address=3, visitors_blamed=4)
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = 32 * 1024 * 1024


@dataclass
class Guest:
    """One connection to it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self) -> bytes:
        """What the first line of an answer is; empty when there is none."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(REQUEST)
            return (await self.reader.readline()).strip()
        return b""

    async def ended(self) -> None:
        """Wait for the other side to end it."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65_536):
                pass


@dataclass
class House:
    """A reception, and those who came."""

    reception: Reception
    port: int
    came: list[Guest] = field(default_factory=list)

    async def guest(self, address: str = "127.0.0.1") -> Guest:
        """One more comes."""
        ends = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        self.came.append(Guest(*ends))
        return self.came[-1]


async def answer(request: web.Request) -> web.StreamResponse:
    """A word, or many."""
    assert isinstance(request.protocol, Visitor)
    request.protocol.is_heard = True
    return web.Response(body=bytes(LARGE) if request.path == "/large" else b"here")


@contextlib.asynccontextmanager
async def house(
    limits: Limits = LIMITS, folder: Path | None = None, application: web.Application | None = None
) -> AsyncIterator[House]:
    """It receives; with a folder, by TLS."""
    if application is None:
        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    listening = socket.create_server(("127.0.0.1", 0))
    names = frozenset({"localhost", "127.0.0.1"})
    context = None if folder is None else tls.self_signed(folder, names).context
    receives = Reception(runner, listening, context, limits)
    made = House(receives, listening.getsockname()[1])
    await receives.start()
    try:
        yield made
    finally:
        for guest in made.came:
            guest.writer.transport.abort()
        await runner.cleanup()


@on_loop
async def test_one_address_holds_few_places() -> None:
    async with house() as at:
        for _ in range(3):
            assert await (await at.guest("127.0.0.2")).ask() == b"HTTP/1.1 200 OK"
        assert await (await at.guest("127.0.0.2")).ask() == b"", "turned away without a word"
        assert await (await at.guest("127.0.0.3")).ask() == b"HTTP/1.1 200 OK"
        at.came[0].writer.close()
        await until(lambda: len(at.reception) == 3)
        assert await (await at.guest("127.0.0.2")).ask() == b"HTTP/1.1 200 OK"


@on_loop
async def test_the_oldest_of_whoever_holds_most_makes_room() -> None:
    async with house() as at:
        first = await at.guest("127.0.0.1")
        many = [await at.guest("127.0.0.2") for _ in range(3)]
        few = [await at.guest("127.0.0.3") for _ in range(2)]
        await until(lambda: len(at.reception) == 6)
        last = await at.guest("127.0.0.4")
        assert await last.ask() == b"HTTP/1.1 200 OK"
        await many[0].ended()
        assert len(at.reception) == 6
        for one in (first, *many[1:], *few):
            assert await one.ask() == b"HTTP/1.1 200 OK"


@on_loop
async def test_a_request_is_whole_in_time() -> None:
    """Whether nothing comes, or a little now and then."""
    async with house(replace(LIMITS, visitor_ms=30)) as at:
        silent, slow = await at.guest(), await at.guest()
        slow.writer.write(REQUEST[:5])
        await silent.ended()
        await slow.ended()
        assert len(at.reception) == 0


@on_loop
async def test_a_requests_body_is_whole_in_time_too(tmp_path: Path) -> None:
    limits = replace(LIMITS, visitor_ms=50)
    async with hosted() as node:
        names = headers.served_names("127.0.0.1")
        site = Site(node.host, make_bundle(tmp_path), names, limits).application()
        async with house(limits, application=site) as at:
            slow = await at.guest()
            begun = f"POST /routing/v1/providers HTTP/1.1\r\nHost: 127.0.0.1:{at.port}\r\n"
            slow.writer.write(f"{begun}Content-Length: 9\r\n\r\n{{".encode())
            async with asyncio.timeout(5):
                await slow.ended()


@on_loop
async def test_a_tls_handshake_is_whole_in_time(tmp_path: Path) -> None:
    async with house(replace(LIMITS, visitor_ms=30), tmp_path) as at:
        silent, noisy = await at.guest(), await at.guest()
        noisy.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await silent.ended()
        await noisy.ended()
        await until(lambda: len(at.reception) == 0)


@on_loop
async def test_tls_is_spoken(tmp_path: Path) -> None:
    """And one in the middle of its handshake makes room."""
    async with house(replace(LIMITS, visitors=1), tmp_path) as at:
        silent = await at.guest("127.0.0.2")
        await until(lambda: len(at.reception) == 1)
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        ends = await asyncio.open_connection("127.0.0.1", at.port, ssl=trusting)
        at.came.append(Guest(*ends))
        assert await at.came[-1].ask() == b"HTTP/1.1 200 OK"
        await silent.ended()


@on_loop
async def test_an_answer_that_nobody_takes_ends_the_connection() -> None:
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("this system keeps no account of what is not taken")
    async with house(replace(LIMITS, visitor_ms=50)) as at:
        unread = await at.guest()
        unread.writer.transport.pause_reading()  # type: ignore[attr-defined]
        unread.writer.write(REQUEST.replace(b"/ ", b"/large "))
        await until(lambda: len(at.reception) == 1)
        await until(lambda: len(at.reception) == 0)


@on_loop
async def test_who_comes_to_nothing_stays_outside_for_a_while() -> None:
    async with house() as at:
        for address in ("127.0.0.2", "127.0.0.1"):
            for _ in range(4):
                noisy = await at.guest(address)
                noisy.writer.write(b"noise\r\n\r\n")
                await noisy.ended()
        assert await (await at.guest("127.0.0.2")).ask() == b""
        assert await (await at.guest("127.0.0.3")).ask() == b"HTTP/1.1 200 OK"
        assert await (await at.guest("127.0.0.1")).ask() == b"HTTP/1.1 200 OK", (
            "never this machine's own user"
        )
        at.reception.forget()
        assert await (await at.guest("127.0.0.2")).ask() == b"", "for the whole of the next while"
        at.reception.forget()
        assert await (await at.guest("127.0.0.2")).ask() == b"HTTP/1.1 200 OK"


@on_loop
async def test_links_are_no_visitors_and_those_that_prove_nothing_are_blamed(tmp_path: Path) -> None:
    async with hosted() as node:
        names = headers.served_names("127.0.0.1")
        site = Site(node.host, make_bundle(tmp_path), names, LIMITS).application()
        async with (
            house(application=site) as at,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as session,
        ):
            url = f"ws://127.0.0.1:{at.port}/grid"
            async with session.ws_connect(url):
                await until(lambda: node.host.link_count == 1)
                assert len(at.reception) == 0
            for _ in range(3):
                async with session.ws_connect(url) as noisy:
                    await noisy.send_bytes(b"noise")
                    await closing(noisy)
            await until(lambda: not node.host.link_count)
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await session.ws_connect(url)


@on_loop
async def test_one_address_takes_a_part_of_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if each of its connections goes by itself, at once: others would wait behind them all."""
    monkeypatch.setattr(reception, "OFTEN", 3)
    async with house() as at:
        for address in ("127.0.0.2", "127.0.0.1"):
            for _ in range(3):
                hasty = await at.guest(address)
                await until(lambda: len(at.reception) == 1)
                hasty.writer.close()
                await until(lambda: len(at.reception) == 0)
        assert await (await at.guest("127.0.0.2")).ask() == b"", "turned away without a word"
        assert await (await at.guest("127.0.0.3")).ask() == b"HTTP/1.1 200 OK"
        assert await (await at.guest("127.0.0.1")).ask() == b"HTTP/1.1 200 OK", (
            "never this machine's own user"
        )
        monkeypatch.setattr(reception, "OFTEN_S", 0.0)
        assert await (await at.guest("127.0.0.2")).ask() == b"HTTP/1.1 200 OK", "for a short while only"


@on_loop
async def test_a_burst_waits_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the first few, each waits for the pace; those turned away count little."""
    slept: list[float] = []
    real = asyncio.sleep

    async def counted(seconds: float) -> None:
        if seconds != reception.ASIDE_S:
            slept.append(seconds)
            seconds = 0
        await real(seconds)

    monkeypatch.setattr(asyncio, "sleep", counted)
    monkeypatch.setattr(reception, "BURST", 2.0)
    monkeypatch.setattr(reception, "PACE", 0.001)
    async with house() as at:
        for number in range(4):
            await at.guest(f"127.0.0.{number + 1}")
        await until(lambda: len(at.reception) == 4)
    paused = [seconds for seconds in slept if seconds > 0.01]
    assert [round(seconds / 1000) for seconds in paused[:2]] == [1, 2]


def test_there_are_no_more_visitors_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = replace(Limits(), links=100, visitors=1000)
    own = 200 + reception.OWN_FILES
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(reception.resource, "setrlimit", lambda which, to: raised.append(to))
    for soft, hard, room, raises in [
        (own + 1000, own + 1000, 1000, None),
        (256, own + 5000, 1000, own + 1000),
        (256, own + 500, 500, own + 500),
        (256, 256, reception.FEWEST, 256),
        (256, -1, 1000, own + 1000),
        (-1, -1, 1000, None),
    ]:
        monkeypatch.setattr(reception.resource, "getrlimit", lambda which, now=(soft, hard): now)
        raised.clear()
        assert reception._room(limits) == room
        assert raised == ([] if raises is None else [(raises, hard)])
