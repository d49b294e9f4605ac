"""WebSocket, both ends, on loopback: channels agree, floods and rubbish cost only their sender."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from tests.node.hosting import Hosted, add_one, add_one_module, hosted, make_bundle, on_loop

from promisegrid import multibase, unixfs
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.task import RunResult, Task
from promisegrid_node import greeters, headers, wire
from promisegrid_node.tls import Pins
from promisegrid_node.web import Site

GRID = Cid.of(b"grid", "dag-cbor")
INVITE = bytes(range(16))
LIMITS = replace(Limits(), links=4, frame_bytes=100_000)


@pytest.mark.parametrize(
    ("text", "url", "channel"),
    [
        ("http://127.0.0.1:8420/", "ws://127.0.0.1:8420/grid", "127.0.0.1:8420/grid"),
        ("http://Node.Example:80/#/join/{grid}", "ws://node.example/grid", "node.example/grid"),
        ("https://node.example:443/", "wss://node.example/grid", "node.example/grid"),
        ("https://node.example:80/", "wss://node.example:80/grid", "node.example:80/grid"),
        ("ws://[::1]:8420/grid", "ws://[::1]:8420/grid", "[::1]:8420/grid"),
        ("ws://node.example/deep/grid", "ws://node.example/deep/grid", "node.example/deep/grid"),
    ],
)
def test_a_peers_address_is_read(text: str, url: str, channel: str) -> None:
    peer = wire.read_peer(text.format(grid=GRID))
    assert (str(peer.url), peer.channel) == (url, channel)


def test_a_join_url_carries_grid_and_invitation_both_ways() -> None:
    text = wire.join_url("http://127.0.0.1:8420", str(GRID), INVITE)
    peer = wire.read_peer(text)
    assert (peer.grid, peer.invite) == (GRID, INVITE)
    assert text.endswith("/" + multibase.base32(INVITE))


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", "ftp://a/", "http://", "http://a:99999/", "http://a/#/join", "http://a/#/join/x", "http://a/#/app/b",
     "http://a/#/join/{grid}/NOT-BASE32", "http://a/#/join/{grid}/aa/bb"],
)  # fmt: skip
def test_what_is_no_address_is_one_sentence(text: str) -> None:
    with pytest.raises(LocalError, match="is not a peer's address"):
        wire.read_peer(text.format(grid=GRID))


@dataclass(frozen=True)
class Served:
    node: Hosted
    server: TestServer

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.server.port}/grid"


@contextlib.asynccontextmanager
async def served(folder: Path, limits: Limits = LIMITS) -> AsyncIterator[Served]:
    async with hosted(limits=limits) as node:
        node.kernel.open_mode = True
        site = Site(node.host, make_bundle(folder), headers.served_names("127.0.0.1"), limits)
        server = TestServer(site.application(), host="127.0.0.1")
        await server.start_server()
        try:
            yield Served(node, server)
        finally:
            await node.host.hang_up()
            await server.close()


@contextlib.asynccontextmanager
async def dialled(site: Served, node: Hosted, folder: Path) -> AsyncIterator[None]:
    """A node that is linked to the site's."""
    peer = wire.read_peer(f"http://127.0.0.1:{site.server.port}/")
    dialling = asyncio.create_task(wire.Dialler(node.host, peer, Pins(folder / "pins.json"), LIMITS).run())
    await until(lambda: node.kernel.peers() and site.node.kernel.peers())
    yield
    dialling.cancel()


async def until(check: Callable[[], object]) -> None:
    """Let the loop go on until something is so; the test's own end bounds it."""
    while not check():
        await asyncio.sleep(0.001)


async def closing(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    """Read until the other side closes; its code."""
    while (await socket.receive()).type is aiohttp.WSMsgType.BINARY:
        pass
    return socket.close_code


@on_loop
async def test_a_dialled_peer_joins_by_the_join_url_and_both_see_each_other(tmp_path: Path) -> None:
    async with served(tmp_path) as site, hosted("bob", founds=False) as bob:
        join = wire.join_url(f"http://127.0.0.1:{site.server.port}", str(site.node.kernel.grid), None)
        dialler = wire.Dialler(bob.host, wire.read_peer(join), Pins(tmp_path / "pins.json"), LIMITS)
        dialling = asyncio.create_task(dialler.run())
        await until(lambda: bob.kernel.peers() and site.node.kernel.peers())
        assert bob.kernel.grid == site.node.kernel.grid
        assert site.node.kernel.peers()[0]["did"] == bob.keys.did
        assert site.node.kernel.peers()[0]["via"] == "ws"
        dialling.cancel()
        await until(lambda: not site.node.kernel.peers())


@on_loop
async def test_a_call_under_the_grids_tag_goes_from_node_to_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_the_tag: list[bytes] = []
    send = wire.SocketTransport.send

    def seen(transport: wire.SocketTransport, frame: bytes) -> None:
        if b"\xda\x67\x72\x69\x64" in frame[:12]:
            under_the_tag.append(frame)
        send(transport, frame)

    monkeypatch.setattr(wire.SocketTransport, "send", seen)
    async with (
        served(tmp_path) as site,
        hosted("bob", founds=False) as bob,
        dialled(site, bob, tmp_path),
    ):
        ann, module = site.node, b"\0asm module"
        ann.runtime.programs[module] = (add_one_module(), add_one)
        cid, blocks = unixfs.import_bytes(module)
        await ann.host.ask(ann.kernel.save(blocks))
        await ann.host.ask(ann.kernel.owner.set_serving(1, 1 << 20))
        task, on = Task(cid, "add_one", (41,)), ann.keys.did
        tagged = await bob.host.ask(bob.kernel.run(task, Budget(), on=on, fresh=True, tagged=True))
        plain = await bob.host.ask(bob.kernel.run(task, Budget(), on=on, fresh=True))
        assert isinstance(tagged, RunResult) and isinstance(plain, RunResult)
        assert (tagged.value, tagged.by) == (42, on)
        assert tagged.result == plain.result and tagged.task == plain.task
        assert len(under_the_tag) == 2, "the call, and its reply"
        await ann.host.ask(ann.kernel.owner.set_serving(0, 0))
        with pytest.raises(RemoteError) as refused:
            await bob.host.ask(bob.kernel.run(task, Budget(), on=on, fresh=True, tagged=True))
        assert refused.value.code == "not_serving"


@on_loop
async def test_a_lost_peer_is_dialled_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BACKOFF_S", (0.001, 0.01))
    async with served(tmp_path) as site, hosted("bob", founds=False) as bob:
        peer = wire.read_peer(f"http://127.0.0.1:{site.server.port}/")
        dialling = asyncio.create_task(
            wire.Dialler(bob.host, peer, Pins(tmp_path / "pins.json"), LIMITS).run()
        )
        await until(lambda: bob.kernel.peers())
        events: list[object] = []
        bob.host.subscribe(lambda kind, detail: events.append(detail.get("event")))
        await site.node.host.hang_up()
        await until(lambda: "down" in events)
        await until(lambda: bob.kernel.peers())
        dialling.cancel()


@pytest.mark.parametrize(
    "frame",
    [b"", b"\0", b"rubbish" * 100, b"\xff" * 1000, bytes(range(256)), b"\x9f" * 50_000, b"\x85\x64grid"],
)
def test_rubbish_closes_its_link_and_nothing_else(tmp_path: Path, frame: bytes) -> None:
    @on_loop
    async def run() -> None:
        async with (
            served(tmp_path) as site,
            aiohttp.ClientSession() as session,
            session.ws_connect(site.url) as good,
            session.ws_connect(site.url) as bad,
        ):
            await bad.send_bytes(frame)
            assert await closing(bad) == aiohttp.WSCloseCode.POLICY_VIOLATION
            assert not good.closed
            await until(lambda: site.node.host.link_count == 1)

    run()


@on_loop
async def test_a_frame_that_is_too_large_is_not_taken(tmp_path: Path) -> None:
    async with served(tmp_path) as site, aiohttp.ClientSession() as session:
        async with session.ws_connect(site.url) as socket:
            await socket.send_bytes(bytes(LIMITS.frame_bytes + 1000))
            assert await closing(socket) == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        await until(lambda: site.node.host.link_count == 0)


@on_loop
async def test_text_is_refused(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as site,
        aiohttp.ClientSession() as session,
        session.ws_connect(site.url) as socket,
    ):
        await socket.send_str("hello")
        assert await closing(socket) == aiohttp.WSCloseCode.UNSUPPORTED_DATA


@on_loop
async def test_one_address_holds_few_places_before_it_proves_anything(tmp_path: Path) -> None:
    few = replace(LIMITS, greeting_per_address=3)
    async with (
        served(tmp_path, few) as site,
        hosted("bob", founds=False) as bob,
        aiohttp.ClientSession() as session,
        contextlib.AsyncExitStack() as stack,
        dialled(site, bob, tmp_path),
    ):
        for _ in range(3):
            last = await stack.enter_async_context(session.ws_connect(site.url))
        await until(lambda: site.node.host.link_count == 4)
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(site.url)
        assert refused.value.status == 429, "whoever proved who he is has no part in it"
        await last.close()
        await until(lambda: site.node.host.link_count == 3)
        await stack.enter_async_context(session.ws_connect(site.url))


@on_loop
async def test_strangers_who_hold_all_places_give_way(tmp_path: Path) -> None:
    async with (
        served(tmp_path) as site,
        hosted("bob", founds=False) as bob,
        aiohttp.ClientSession() as session,
        contextlib.AsyncExitStack() as stack,
    ):
        strangers = [
            await stack.enter_async_context(session.ws_connect(site.url)) for _ in range(LIMITS.links)
        ]
        await until(lambda: site.node.host.link_count == LIMITS.links)
        async with dialled(site, bob, tmp_path):
            while (said := await strangers[0].receive()).type is aiohttp.WSMsgType.BINARY:
                pass
            assert said.data == aiohttp.WSCloseCode.POLICY_VIOLATION and "proved nothing" in said.extra


@on_loop
async def test_links_are_bounded(tmp_path: Path) -> None:
    async with (
        served(tmp_path, replace(LIMITS, links=1)) as site,
        hosted("bob", founds=False) as bob,
        aiohttp.ClientSession() as session,
        dialled(site, bob, tmp_path),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(site.url)
        assert refused.value.status == 503


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1:2::3", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        (None, ""),
        ("", ""),
        ("unix", ""),
    ],
)
def test_an_address_counts_as_who_holds_it(remote: str | None, counted: str) -> None:
    assert greeters.place(remote) == counted


@on_loop
async def test_a_silent_peer_is_closed_when_its_time_is_up(tmp_path: Path) -> None:
    async with (
        served(tmp_path, replace(LIMITS, hello_ms=20)) as site,
        aiohttp.ClientSession() as session,
        session.ws_connect(site.url) as socket,
    ):
        assert await closing(socket) == aiohttp.WSCloseCode.POLICY_VIOLATION


class Stuck:
    """A socket that takes nothing."""

    def __init__(self) -> None:
        self.sent = 0
        self.closed: list[int] = []

    async def send_bytes(self, frame: bytes) -> None:
        self.sent += 1
        await asyncio.Event().wait()

    async def close(self, *, code: int, message: bytes) -> None:
        self.closed.append(code)


@on_loop
async def test_a_peer_that_does_not_read_is_closed_not_buffered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "QUEUE_BYTES", 10_000)
    stuck = Stuck()
    transport = wire.SocketTransport(stuck)  # type: ignore[arg-type]
    for _ in range(100):
        transport.send(bytes(1000))
        await asyncio.sleep(0)
    await until(lambda: stuck.closed)
    assert stuck.sent == 1
    assert stuck.closed == [aiohttp.WSCloseCode.POLICY_VIOLATION]
    await transport.ended()


@on_loop
async def test_a_frame_that_does_not_leave_ends_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "WRITE_S", 0.01)
    stuck = Stuck()
    transport = wire.SocketTransport(stuck)  # type: ignore[arg-type]
    transport.send(b"x")
    await until(lambda: stuck.closed)
    await transport.ended()


# -- room ----------------------------------------------------------------------------------------------------


class Slow:
    """A socket that takes a frame when it is told to."""

    def __init__(self) -> None:
        self.taken, self._may = list[bytes](), asyncio.Semaphore(0)

    async def send_bytes(self, data: bytes) -> None:
        await self._may.acquire()
        self.taken.append(data)

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        return True

    async def take(self) -> None:
        """Take one frame."""
        before = len(self.taken)
        self._may.release()
        await until(lambda: len(self.taken) > before)


@on_loop
async def test_a_socket_says_when_it_has_room() -> None:
    slow = Slow()
    transport = wire.SocketTransport(slow)
    transport.send(bytes(wire.ROOM_BYTES))
    assert transport.room.is_set()
    transport.send(b"more")
    assert not transport.room.is_set()
    await slow.take()
    await asyncio.wait_for(transport.room.wait(), 5)
    transport.send(bytes(wire.ROOM_BYTES))
    assert not transport.room.is_set()
    await transport.ended()
    assert transport.room.is_set(), "who waits for it waits no longer"


@on_loop
async def test_a_transfer_waits_for_room_and_a_call_does_not(tmp_path: Path) -> None:
    async with (
        served(tmp_path, replace(LIMITS, piece_bytes=64 * 1024)) as site,
        hosted("bob", founds=False) as bob,
        dialled(site, bob, tmp_path),
    ):
        ann, module = site.node, b"\0asm module"
        ann.runtime.programs[module] = (add_one_module(), add_one)
        code, program = unixfs.import_bytes(module)
        cid, blocks = unixfs.import_bytes(b"".join(bytes([n]) * (1 << 20) for n in range(6)))
        await ann.host.ask(ann.kernel.save([*program, *blocks]))
        await ann.host.ask(ann.kernel.owner.set_serving(1, 1 << 20))
        (transport,) = ann.host._links.values()
        transport.room = full = asyncio.Event()
        fetching = asyncio.create_task(bob.host.ask(bob.kernel.fetch(cid)))
        task = Task(code, "add_one", (41,))
        done = await bob.host.ask(bob.kernel.run(task, Budget(), on=ann.keys.did))
        assert isinstance(done, RunResult) and done.value == 42 and not fetching.done()
        full.set()
        assert (await fetching)[1] > 6 << 20


def test_a_busy_peer_has_no_less_time_than_the_kernel_gives() -> None:
    """A socket's ping is answered within half of the time between two, or its connection is closed."""
    assert Limits().awaited_silent_ms < wire.HEARTBEAT_S * 1000 / 2
