"""Links over a Unix socket: two nodes of one user on one machine, without a port.

A node's home has, beside its door, the socket `peers.sock` (0600); `--peer unix:HOME` dials it. A frame is
four bytes of length, big-endian, and the frame. Everything else is as over WebSocket: the greeting decides
who a peer is, a join fragment may say which grid and carry an invitation, what is dialled is dialled again.

The channel that both ends sign names the socket's real path, so that a listener elsewhere cannot pass a
greeting on, and, where the system tells (Linux), the process ids of both ends as the kernel knows them: one
in between has another. In different process namespaces these do not agree; such nodes use WebSocket.

Promises: nothing larger than a frame is read, strangers hold few places, nobody else's processes come in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from yarl import URL

from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid_node import tls, wire
from promisegrid_node.greeters import Greeters
from promisegrid_node.home import Home, short_path
from promisegrid_node.host import Host
from promisegrid_node.sockets import bound, other_end

SCHEME: Final = "unix:"
VIA: Final = "unix"
SOCKET: Final = "peers.sock"
_BUFFER: Final = 1024 * 1024
log = logging.getLogger("promisegrid")


def read_peer(text: str) -> wire.PeerUrl:
    """`unix:HOME` or `unix:SOCKET`, with or without `#/join/<grid>[/<invite>]`. LocalError."""
    path, _, fragment = text.removeprefix(SCHEME).partition("#")
    sorry = f"{text!r} is not a peer's socket: use unix:HOME, the home of a node on this machine."
    if not path or "\0" in path:
        raise LocalError(sorry)
    grid, invite = wire.read_join(fragment, sorry)
    place = Path(path).expanduser().absolute()
    return wire.PeerUrl(URL.build(scheme="unix", path=str(place)), f"{SCHEME}{place}", grid, invite)


class Stream:
    """One connection: frames out. What waits, and for how long, is `wire.SocketTransport`'s."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def send_bytes(self, data: bytes) -> None:
        """Send one frame; waits while the peer does not read."""
        self._writer.write(len(data).to_bytes(4, "big"))
        self._writer.write(data)
        await self._writer.drain()

    async def close(self, *, code: int = 0, message: bytes = b"") -> bool:
        """Close; why was said in a frame."""
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
        return True


def channel(path: Path, connection: socket.socket, dialled: bool) -> str:
    """What both ends of a connection call it: the socket's path, and who is at its ends."""
    name = f"{SCHEME}{os.path.realpath(path)}"
    other = other_end(connection)
    if other is None:
        return name
    ends = (os.getpid(), other[0]) if dialled else (other[0], os.getpid())
    return f"{name}#{ends[0]}-{ends[1]}"


async def _carry(host: Host, reader: asyncio.StreamReader, link: int, frame_bytes: int) -> None:
    """Frames from the socket to the kernel until either ends."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            size = int.from_bytes(await reader.readexactly(4), "big")
            if size > frame_bytes:
                log.info("a peer on this machine announced a frame of %d bytes", size)
                return
            host.receive(link, await reader.readexactly(size))
            await host.room()


class Listener:
    """The socket of one node's home."""

    def __init__(self, host: Host, path: Path, limits: Limits) -> None:
        self._host, self._path, self._limits = host, path, limits
        self._greeters = Greeters(host, limits.greeting_per_address)
        self._links: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Listen meanwhile; the caller holds the home. LocalError when the socket cannot be made."""
        listener = bound(self._path, "the way in for other nodes")
        server = await asyncio.start_unix_server(self._welcome, sock=listener, limit=_BUFFER)
        try:
            yield
        finally:
            server.close()
            for task in list(self._links):
                task.cancel()
            await asyncio.gather(*self._links, return_exceptions=True)
            self._path.unlink(missing_ok=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = writer.get_extra_info("socket")
        other = other_end(connection)
        crowded = self._host.link_count >= 2 * self._limits.links or not self._greeters.may_come(None)
        if crowded or (other is not None and other[1] not in (os.geteuid(), 0)):
            writer.close()
            return
        self._links.add(task)
        transport = wire.SocketTransport(Stream(writer))
        link = self._host.connect(transport, "responder", channel(self._path, connection, False), VIA)
        self._greeters.came(link, None)
        try:
            await _carry(self._host, reader, link, self._limits.frame_bytes)
        except asyncio.CancelledError:
            pass
        finally:
            self._links.discard(task)
            self._greeters.done(link)
            self._host.disconnect(link)
            await transport.ended()
            writer.close()


class Dialler(wire.Dialler):
    """Keeps one link to a node on this machine, as `wire.Dialler` does to one elsewhere."""

    async def _link(self) -> None:
        place = Path(self._peer.url.path)
        path = place / SOCKET if place.is_dir() else place
        with short_path(path) as short:
            reader, writer = await asyncio.open_unix_connection(short, limit=_BUFFER)
        transport = wire.SocketTransport(Stream(writer))
        name = channel(path, writer.get_extra_info("socket"), True)
        link = self._host.connect(
            transport, "initiator", name, VIA, invite=self._peer.invite, grid=self._peer.grid
        )
        self.state = "open"
        try:
            await _carry(self._host, reader, link, self._limits.frame_bytes)
        finally:
            self._host.disconnect(link)
            await transport.ended()
            writer.close()


def read_any(text: str) -> wire.PeerUrl:
    """What `--peer` names. LocalError."""
    return read_peer(text) if text.startswith(SCHEME) else wire.read_peer(text)


def dialler(host: Host, peer: wire.PeerUrl, pins: tls.Pins, limits: Limits) -> wire.Dialler:
    """What keeps a link to it."""
    kind = Dialler if peer.url.scheme == VIA else wire.Dialler
    return kind(host, peer, pins, limits)


def socket_of(home: Home) -> Path:
    """Where a node listens for peers on this machine."""
    return home.path / SOCKET
