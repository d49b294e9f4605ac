"""Dialling members whom the kernel chose, at addresses they signed; and saying where this node listens.

Promises: an address is looked at before anything is sent to it, and the one looked at is the one connected
to, whatever its name meant a moment before; only WebSockets to `/grid` are opened, and the first word on one
is the grid's own greeting; few at once. The public network may be dialled by every node, a local one by nodes
that are on it, this machine itself only by a node whose owner announces an address on it. What comes of a
link the kernel decides; a link that ends is not dialled again.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from promisegrid.address import URLS_MAX, is_url
from promisegrid.effects import Approach, Failure
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid_node import guarded, headers, tls
from promisegrid_node.discover import is_local
from promisegrid_node.host import Host
from promisegrid_node.wire import Dialler, PeerUrl, read_peer

PINS_FILE: Final = "tls-pins-overlay.json"
"""Apart from the others, so that no member fills those."""
AT_ONCE: Final = 4
"""Members dialled at once; the kernel asks for one after the other, each for up to a quarter of a minute."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which addresses may be dialled besides public ones. near: of local networks; here: of this machine."""

    near: bool
    here: bool

    def allow(self, address: str, port: int) -> bool:
        """Whether a member may send this node there."""
        if not guarded.is_open_port(port):
            return False
        ip = ipaddress.ip_address(address)
        near = self.near and is_local(address) and not ip.is_link_local  # where clouds tell secrets
        return guarded.is_public(address) or near or (self.here and ip.is_loopback)


def announced(options: Sequence[str]) -> tuple[str, ...]:
    """What the owner says about where this node is reached, as members will read it. LocalError."""
    urls = tuple(str(read_peer(text).url) for text in options)
    for text, url in zip(options, urls, strict=True):
        if not is_url(url):
            raise LocalError(f"{text!r} cannot be announced: say where this node is, as wss://HOST:PORT/grid.")
    if len(urls) > URLS_MAX:
        raise LocalError(f"A node announces at most {URLS_MAX} addresses, not {len(urls)}.")
    return urls


def listening(address: str, port: int, scheme: str, names: Sequence[str]) -> tuple[str, ...]:
    """Where a node is reached that listens beyond this machine, as far as it can tell itself."""
    everywhere = address in ("0.0.0.0", "::")
    found = [*names, *(headers.lan_addresses() if everywhere else [address])]
    web = {"http": "ws", "https": "wss"}.get(scheme, scheme)
    urls = [f"{web}://[{one}]:{port}/grid" if ":" in one else f"{web}://{one}:{port}/grid" for one in found]
    return tuple(url for url in urls if is_url(url))[:URLS_MAX]


def bounds(urls: Sequence[str], peers: Sequence[PeerUrl], is_loopback: bool) -> Bounds:
    """What the owner's own words allow: who listens on a network, or dials into one, is on it."""
    hosts = [str(peer.url.host) for peer in peers]
    return Bounds(not is_loopback or any(map(is_local, hosts)), any(_is_here(url) for url in urls))


def _is_here(url: str) -> bool:
    return headers.is_loopback(str(read_peer(url).url.host))


class Reaching:
    """One node's dials to members it chose."""

    def __init__(self, host: Host, pins: tls.Pins, limits: Limits, bounds: Bounds) -> None:
        self._host, self._pins, self._limits, self._bounds = host, pins, limits, bounds
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def approach(self, effect: Approach) -> int | Failure:
        """See `effects.Approach`."""
        async with self._room:
            for url in effect.urls:
                with contextlib.suppress(LocalError, ValueError):  # a text of that form may still be none
                    peer = read_peer(url)
                    address = await self._address(peer)
                    link = None if address is None else await self._dial(peer, address)
                    if link is not None:
                        return link
        return Failure("closed", "Nobody answers where that member says it is, or it is not to be dialled.")

    async def close(self) -> None:
        """End all of them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _address(self, peer: PeerUrl) -> str | None:
        """The first address of the name, when all of them may be dialled."""
        port = peer.url.port or 0
        try:
            async with asyncio.timeout(self._limits.hello_ms / 1000):
                infos = await asyncio.get_running_loop().getaddrinfo(
                    str(peer.url.host), port, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError, UnicodeError):
            return None
        addresses = [str(info[4][0]) for info in infos]
        return addresses[0] if addresses and all(self._bounds.allow(one, port) for one in addresses) else None

    async def _dial(self, peer: PeerUrl, address: str) -> int | None:
        """Dial once; the link, which lives on in a task of its own."""
        began: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        dialler = Dialler(self._host, peer, self._pins, self._limits, address, began)
        task = asyncio.create_task(dialler.attempt())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait((task, began), return_when=asyncio.FIRST_COMPLETED)
        return began.result() if began.done() else None


@contextlib.asynccontextmanager
async def choosing(
    host: Host, folder: Path, urls: tuple[str, ...], limits: Limits, bounds: Bounds
) -> AsyncIterator[None]:
    """Meanwhile this node chooses links, and is found at these addresses."""
    reaching = Reaching(host, tls.Pins(folder / PINS_FILE), limits, bounds)
    host.approach = reaching.approach
    await host.ask(_use(host, urls))
    try:
        yield
    finally:
        await reaching.close()


async def _use(host: Host, urls: tuple[str, ...]) -> None:
    host.kernel.overlay.use(urls, dials=True)
