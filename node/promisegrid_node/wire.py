"""WebSocket, both ends: frames in, frames out, one binary message each.

Promises: nothing is buffered without end (a peer that does not read is closed), nothing larger than a frame
is accepted, a dead peer is noticed by a ping, and a dialled peer is dialled again for as long as the node
runs. What is in a frame it does not know.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from promisegrid import multibase
from promisegrid.cid import Cid, CidError
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid_node import headers, tls
from promisegrid_node.greeters import Greeters
from promisegrid_node.host import Host
from promisegrid_node.reception import Visitor

QUEUE_BYTES: Final = 96 * 1024 * 1024
"""Unsent bytes of one link above which its peer counts as not reading: more than it may ask for at once."""
ROOM_BYTES: Final = 256 * 1024
"""Unsent bytes of one link above which no more blocks are taken: what is urgent stands behind them."""
UNSENT_BYTES: Final = 128 * 1024
"""What the system may hold of a connection beyond what is on its way: it, too, is before what is urgent."""
HEARTBEAT_S: Final = 30.0
"""Between a socket's pings; half of it without an answer ends the link: longer than the kernel waits."""
WRITE_S: Final = 60.0
"""How long some frames may take to leave."""
WRITE_FRAMES: Final = 32
"""How many leave within that time."""
CLOSE_S: Final = 5.0
DIAL_S: Final = 15.0
BACKOFF_S: Final = (0.5, 30.0)
STEADY_S: Final = 20.0
"""A link that lived this long makes the next dial prompt again."""

log = logging.getLogger("promisegrid")
Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse


class Outlet(Protocol):
    """What a transport writes to."""

    async def send_bytes(self, data: bytes) -> None:
        """One frame."""

    async def close(self, *, code: int, message: bytes) -> bool:
        """No more, and why."""


@dataclass(frozen=True, slots=True)
class PeerUrl:
    """What `--peer` names: where to dial, and what the join URL said about the grid."""

    url: URL
    channel: str
    grid: Cid | None
    invite: bytes | None


def read_peer(text: str) -> PeerUrl:
    """A join URL `http(s)://host:port/#/join/<grid>[/<invite>]`, or `ws(s)://host:port/grid`.

    LocalError for anything else.
    """
    sorry = f"{text!r} is not a peer's address: use its join URL (http://…/#/join/…) or ws://HOST:PORT/grid."
    try:
        url = URL(text)
        port = url.port
    except ValueError as error:
        raise LocalError(sorry) from error
    if url.scheme not in ("http", "https", "ws", "wss") or not url.host or port is None:
        raise LocalError(sorry)
    scheme = {"http": "ws", "https": "wss"}.get(url.scheme, url.scheme)
    grid, invite = read_join(url.fragment, sorry)
    authority = headers.read_host(url.raw_authority.rpartition("@")[2], scheme)
    if authority is None:
        raise LocalError(sorry)
    path = url.raw_path if url.scheme in ("ws", "wss") and url.raw_path != "/" else "/grid"
    return PeerUrl(URL(f"{scheme}://{authority}{path}", encoded=True), f"{authority}{path}", grid, invite)


def read_join(fragment: str, sorry: str) -> tuple[Cid | None, bytes | None]:
    """The grid and the invitation in the fragment of a join URL. LocalError: `sorry`, and why."""
    parts = [part for part in fragment.split("/") if part]
    if not parts:
        return None, None
    if parts[0] != "join" or not 2 <= len(parts) <= 3:
        raise LocalError(sorry)
    try:
        invite = multibase.decode("b" + parts[2]) if len(parts) == 3 else None
        return Cid.parse(parts[1]), invite
    except (CidError, ValueError) as error:
        raise LocalError(f"{sorry[:-1]} ({error}).") from error


def join_url(base: str, grid: str, invite: bytes | None) -> str:
    """The URL that brings a tab or a node into the grid."""
    secret = f"/{multibase.base32(invite)}" if invite else ""
    return f"{base}/#/join/{grid}{secret}"


class SocketTransport:
    """One socket as the host's `Transport`: a bounded queue and the task that empties it."""

    def __init__(self, socket: Outlet) -> None:
        self._socket = socket
        self._queue: deque[bytes] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self.room = asyncio.Event()
        self.room.set()
        self._down = False
        self._ending: tuple[int, str] | None = None
        self._writer = asyncio.get_running_loop().create_task(self._write())

    def send(self, frame: bytes) -> None:
        """Queue a frame; a peer that lets too many pile up is closed."""
        if self._ending is not None:
            return
        self._queue.append(frame)
        self._bytes += len(frame)
        if self._bytes > ROOM_BYTES:
            self.room.clear()
        if self._bytes > QUEUE_BYTES:
            self._queue.clear()
            self.close("busy", "The peer does not read what it is sent.")
            self._writer.cancel()
        self._wake.set()

    def close(self, code: str, text: str) -> None:
        """Close after what is queued; the peer gets the code and a sentence."""
        if self._ending is None:
            reason = f"{code}: {text}".encode()[:120].decode(errors="ignore")
            self._ending = (
                aiohttp.WSCloseCode.OK if code == "closed" else aiohttp.WSCloseCode.POLICY_VIOLATION,
                reason,
            )
            self._wake.set()

    async def ended(self) -> None:
        """Stop writing: the socket is down."""
        self._down = True
        self.room.set()
        self._writer.cancel()
        await asyncio.gather(self._writer, return_exceptions=True)

    async def _write(self) -> None:
        try:
            while self._queue or self._ending is None:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                async with asyncio.timeout(WRITE_S):
                    for _ in range(min(len(self._queue), WRITE_FRAMES)):
                        frame = self._queue.popleft()
                        await self._socket.send_bytes(frame)
                        self._bytes -= len(frame)
                        if self._bytes <= ROOM_BYTES:
                            self.room.set()
        except (TimeoutError, ConnectionError, RuntimeError, aiohttp.ClientError):
            self._ending = (aiohttp.WSCloseCode.GOING_AWAY, "the peer does not read")
        except asyncio.CancelledError:
            if self._down or self._ending is None:
                raise
        self._ending = self._ending or (aiohttp.WSCloseCode.OK, "")
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError, aiohttp.ClientError):
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(code=self._ending[0], message=self._ending[1].encode())


def _hold_little(carrier: Socket) -> None:
    """Have the system take no more than it soon sends, where it knows how to."""
    connection, option = carrier.get_extra_info("socket"), getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is not None and connection is not None and connection.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, option, UNSENT_BYTES)


async def _carry(host: Host, socket: Socket, link: int, frame_bytes: int) -> None:
    """Frames from the socket to the kernel until either ends."""
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY:
            host.receive(link, message.data)
            await host.room()
        elif message.type is aiohttp.WSMsgType.TEXT:
            await socket.close(code=aiohttp.WSCloseCode.UNSUPPORTED_DATA, message=b"binary frames only")
            return
        else:
            return


async def serve(
    host: Host, request: web.Request, limits: Limits, greeters: Greeters
) -> web.StreamResponse:
    """The endpoint `/grid`. The caller has checked `Host`; here `Origin` is: one we serve, or none."""
    name = headers.read_host(request.headers.get("Host", ""), request.scheme)
    origin = request.headers.get("Origin")
    if name is None or (origin is not None and not headers.same_origin(origin, name)):
        text = f"Pages of {origin} may not talk to this node; only its own page may.\n"
        raise web.HTTPForbidden(text=text, headers=headers.always())
    _check_room(host, request, limits, greeters)
    socket = web.WebSocketResponse(
        heartbeat=HEARTBEAT_S, max_msg_size=limits.frame_bytes + 1, compress=False, timeout=CLOSE_S
    )
    if not socket.can_prepare(request):
        text = "This is the grid's WebSocket; open the page at / instead.\n"
        raise web.HTTPUpgradeRequired(text=text, headers=headers.always() | {"Upgrade": "websocket"})
    await socket.prepare(request)
    _hold_little(socket)
    transport = SocketTransport(socket)
    link = host.connect(transport, "responder", f"{name}{request.rel_url.raw_path}")
    greeters.came(link, request.remote)
    visitor = request.protocol if isinstance(request.protocol, Visitor) else None
    if visitor is not None:
        visitor.leave()
    try:
        await _carry(host, socket, link, limits.frame_bytes)
    finally:
        if greeters.done(link) and visitor is not None:
            visitor.blame()
        host.disconnect(link)
        await transport.ended()
    return socket


def _check_room(host: Host, request: web.Request, limits: Limits, greeters: Greeters) -> None:
    """Strangers do not keep others out: one address holds few places, and the kernel ends the oldest of all
    that prove nothing when it needs theirs. Twice the links, for those whose end is under way."""
    if not greeters.may_come(request.remote):
        text = "Too many connections from this address have not said who they are; try again in a while.\n"
        raise web.HTTPTooManyRequests(text=text, headers=headers.always())
    if host.link_count - len(greeters) >= limits.links or host.link_count >= 2 * limits.links:
        text = f"This node already has {limits.links} links; try again later.\n"
        raise web.HTTPServiceUnavailable(text=text, headers=headers.always())


class Dialler:
    """Keeps one link to one peer: dials, and dials again, ever more slowly while nobody answers."""

    def __init__(
        self,
        host: Host,
        peer: PeerUrl,
        pins: tls.Pins,
        limits: Limits,
        address: str | None = None,
        began: asyncio.Future[int] | None = None,
    ) -> None:
        """address: of the peer's host, when its name is not to be looked up; began: gets the first link."""
        self._host, self._peer, self._pins, self._limits = host, peer, pins, limits
        self._address, self._began = address, began
        self.state = "dialling"

    async def run(self) -> None:
        """Until cancelled."""
        loop, wait = asyncio.get_running_loop(), BACKOFF_S[0]
        while True:
            started = loop.time()
            await self.attempt()
            if loop.time() - started > STEADY_S:
                wait = BACKOFF_S[0]
            await asyncio.sleep(wait * random.uniform(0.7, 1.3))
            wait = min(wait * 2, BACKOFF_S[1])

    async def attempt(self) -> None:
        """Dial once; ends with the link, or when there is none."""
        try:
            await self._link()
            self._say(f"the link to {self._peer.channel} closed; dialling again")
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            self._say(f"{self._peer.channel} does not answer ({_reason(error)}); trying again")
        except LocalError as error:
            self._say(error.text)

    def _say(self, text: str) -> None:
        """Once a change, not once an attempt."""
        if text != self.state:
            self.state = text
            log.warning("%s", text)

    async def _link(self) -> None:
        url = self._peer.url
        trusted: aiohttp.Fingerprint | bool = True
        if url.scheme == "wss":
            trusted = await tls.trust(str(url.host), url.port or 443, self._pins, self._address)
        timeout = aiohttp.ClientTimeout(total=None, connect=DIAL_S, sock_connect=DIAL_S)
        async with aiohttp.ClientSession(
            timeout=timeout, connector=_connector(self._address), trace_configs=[_going_nowhere_else()]
        ) as session:
            async with asyncio.timeout(DIAL_S):  # until it speaks WebSocket: who only accepts is nobody
                opened = await session.ws_connect(
                    url, heartbeat=HEARTBEAT_S, max_msg_size=self._limits.frame_bytes + 1, compress=0,
                    ssl=trusted,
                )  # fmt: skip
            async with opened as socket:
                await self._speak(socket)

    async def _speak(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """The link over one socket, until either ends."""
        _hold_little(socket)
        transport = SocketTransport(socket)
        link = self._host.connect(
            transport, "initiator", self._peer.channel, invite=self._peer.invite, grid=self._peer.grid
        )
        self.state = "open"
        if self._began is not None and not self._began.done():
            self._began.set_result(link)
        try:
            await _carry(self._host, socket, link, self._limits.frame_bytes)
        finally:
            self._host.disconnect(link)
            await transport.ended()
            if socket.close_code not in (None, aiohttp.WSCloseCode.OK):
                log.info("%s closed with code %s", self._peer.channel, socket.close_code)


class _At(AbstractResolver):
    """Every name is at one address: the one that was looked at."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See aiohttp."""
        kind = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        return [
            ResolveResult(
                hostname=host, host=self._address, port=port, family=kind, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]  # fmt: skip

    async def close(self) -> None:
        """See aiohttp."""


def _connector(address: str | None) -> aiohttp.TCPConnector:
    return aiohttp.TCPConnector(resolver=None if address is None else _At(address))


def _going_nowhere_else() -> aiohttp.TraceConfig:
    """No redirect is followed: who is dialled could send this node to an address nobody looked at."""

    async def sent(*told: object) -> None:
        raise aiohttp.ClientConnectionError("it sends us to another address; name that one")

    config = aiohttp.TraceConfig()
    config.on_request_redirect.append(sent)
    return config


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.WSServerHandshakeError):
        return f"HTTP status {error.status}"
    return "no answer in time" if isinstance(error, TimeoutError) else (str(error) or type(error).__name__)
