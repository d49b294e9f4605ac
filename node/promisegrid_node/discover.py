"""Nodes of one grid on one LAN find each other: multicast DNS, service `_promisegrid._tcp`.

A node announces where it listens, its grid and its did:key, and nothing else: no invitation, no name of a
person. Of two members of the same grid the one with the smaller did:key dials.

Promises: what others announce is strangers' text, read within bounds; only addresses of a local network are
dialled, at `/grid` and ports that are no other service's, few at once, each few times; the greeting alone
decides who a peer is. A record that vanishes, or is made to vanish, ends no link.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from yarl import URL
from zeroconf import Error as MdnsError
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from promisegrid import did, multibase
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid_node import guarded, headers, tls
from promisegrid_node.host import Host
from promisegrid_node.wire import STEADY_S, Dialler, PeerUrl

SERVICE: Final = "_promisegrid._tcp.local."
PATH: Final = "/grid"
DIALS_MAX: Final = 16
"""Members dialled at once because they were announced: a stranger's announcements cost no more sockets."""
KNOWN_MAX: Final = 256
"""Announced members remembered; a /24 of them. When it is full the one tried longest ago makes room."""
UNREAD_MAX: Final = 256
"""Announcements waiting to be read; what comes beyond is read when it is announced again."""
RESOLVE_MS: Final = 3000
TRIES: Final = 3
"""Dials in a row that bring no link, before others get their turn."""
WAIT_S: Final = 2.0
AGAIN_S: Final = 30.0
"""How often those without a link get another turn."""
PINS_FILE: Final = "tls-pins-lan.json"
"""Apart from the pins of `--peer`, so that no stranger fills those."""
log = logging.getLogger("promisegrid")


@dataclass(frozen=True, slots=True)
class Found:
    """A member as it was announced; nothing of it is proved."""

    did: str
    peer: PeerUrl


def read(
    properties: Mapping[bytes, bytes | None], addresses: list[str], port: int, grid: Cid
) -> Found | None:
    """What a record says, when it is of this grid and may be dialled; else None."""
    try:
        said = {name: (properties.get(name.encode()) or b"").decode("ascii")
                for name in ("grid", "did", "scheme", "path")}  # fmt: skip
        did.decode(said["did"])
    except (UnicodeDecodeError, RemoteError):
        return None
    scheme = {"http": "ws", "https": "wss"}.get(said["scheme"])
    address = next((one for one in addresses if is_local(one)), None)
    right = said["grid"] == str(grid) and said["path"] == PATH
    if scheme is None or address is None or not right or not guarded.is_open_port(port):
        return None
    authority = headers.read_host(f"[{address}]:{port}" if ":" in address else f"{address}:{port}", scheme)
    if authority is None:
        return None
    url = URL(f"{scheme}://{authority}{PATH}", encoded=True)
    return Found(said["did"], PeerUrl(url, f"{authority}{PATH}", grid, None))


def is_local(address: str) -> bool:
    """Whether an announced address is on a local network: neither this machine itself nor the internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    special = ip.is_loopback or ip.is_unspecified or ip.is_multicast or ip.is_reserved
    return ip.is_private and not special and "%" not in address


@contextlib.asynccontextmanager
async def on_lan(
    host: Host, folder: Path, at: tuple[str, int], scheme: str, limits: Limits
) -> AsyncIterator[None]:
    """Announce this node, listening at `at`, once it is in a grid, and dial those of its grid, meanwhile."""
    lan = Lan(host, tls.Pins(folder / PINS_FILE), at, scheme, limits)
    task = asyncio.create_task(lan.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Lan:
    """One node's part in its LAN."""

    def __init__(self, host: Host, pins: tls.Pins, at: tuple[str, int], scheme: str, limits: Limits) -> None:
        self._host, self._pins, self._at, self._scheme, self._limits = host, pins, at, scheme, limits
        self._links: dict[int, str] = {}
        self._known: dict[str, Found] = {}
        self._dialling: dict[str, asyncio.Task[None]] = {}
        self._unread: asyncio.Queue[str] = asyncio.Queue(UNREAD_MAX)
        self._in_grid = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled. Where there is no multicast it says so once, and ends."""
        ended = self._host.subscribe(self._heard)
        try:
            if self._host.kernel.grid is None:
                await self._in_grid.wait()
            grid = self._host.kernel.grid
            if grid is not None:
                await self._take_part(grid)
        except OSError as error:
            log.warning("no discovery on this network: %s", error.strerror or error)
        finally:
            ended()
            for task in self._dialling.values():
                task.cancel()
            await asyncio.gather(*self._dialling.values(), return_exceptions=True)

    def _heard(self, kind: str, detail: Mapping[str, Any]) -> None:
        if kind == "grid":
            self._in_grid.set()
        elif kind == "peer" and detail.get("via") != "relay":
            if detail["event"] == "up":
                self._links[detail["link"]] = str(detail["did"])
            else:
                self._links.pop(detail["link"], None)

    async def _take_part(self, grid: Cid) -> None:
        address, port = self._at
        everywhere = address in ("0.0.0.0", "::")
        mine = [one for one in (headers.lan_addresses() if everywhere else [address]) if is_local(one)]
        if not mine:
            log.warning("no discovery: this node has no address on a local network")
            return
        six = any(":" in one for one in mine)
        zeroconf = AsyncZeroconf(
            interfaces=InterfaceChoice.All if everywhere else mine,
            ip_version=IPVersion.All if six else IPVersion.V4Only,
        )
        try:
            name = multibase.base32(hashlib.sha256(self._host.kernel.me.encode()).digest()[:15])
            said = {"grid": str(grid), "did": self._host.kernel.me, "scheme": self._scheme, "path": PATH}
            info = AsyncServiceInfo(
                SERVICE, f"{name}.{SERVICE}", port=port, properties=said, parsed_addresses=mine,
                server=f"{name}.local.",
            )  # fmt: skip
            await zeroconf.async_register_service(info)
            browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._announced])
            try:
                await asyncio.gather(self._read(zeroconf.zeroconf, grid), self._turns())
            finally:
                await browser.async_cancel()
        finally:
            await zeroconf.async_close()

    def _announced(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is not ServiceStateChange.Removed and len(name) < 256:
            with contextlib.suppress(asyncio.QueueFull):
                self._unread.put_nowait(name)

    async def _read(self, zeroconf: Zeroconf, grid: Cid) -> None:
        """One announcement after the other."""
        while True:
            name = await self._unread.get()
            try:
                info = AsyncServiceInfo(SERVICE, name)
                if not await info.async_request(zeroconf, RESOLVE_MS):
                    continue
            except MdnsError:  # a name that is none: strangers announce what they like
                continue
            found = read(info.properties, info.parsed_addresses(), info.port or 0, grid)
            if found is not None and found.did > self._host.kernel.me:
                if found.did not in self._known and len(self._known) >= KNOWN_MAX:
                    del self._known[next(iter(self._known))]
                self._known[found.did] = found
                self._deal()

    async def _turns(self) -> None:
        while True:
            await asyncio.sleep(AGAIN_S)
            self._deal()

    def _deal(self) -> None:
        """Dial those without a link, the one tried longest ago first, as far as there is room."""
        linked = set(self._links.values())
        for name, found in list(self._known.items()):
            if len(self._dialling) >= DIALS_MAX:
                return
            wanted = name not in linked and not self._host.kernel.bans.has(name)
            if wanted and name not in self._dialling:
                self._known[name] = self._known.pop(name)
                self._dialling[name] = asyncio.create_task(self._dial(found))

    async def _dial(self, found: Found) -> None:
        """Keep a link to a member while it comes about; once there is another link to it, that is enough."""
        dialler = Dialler(self._host, found.peer, self._pins, self._limits)
        try:
            tries, loop = 0, asyncio.get_running_loop()
            while tries < TRIES and found.did not in self._links.values():
                started = loop.time()
                await dialler.attempt()
                tries = 0 if loop.time() - started > STEADY_S else tries + 1
                await asyncio.sleep(WAIT_S)
        finally:
            self._dialling.pop(found.did, None)
