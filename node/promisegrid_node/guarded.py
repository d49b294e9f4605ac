"""Connections to addresses that strangers named: never into a network that only its owner is in.

Promises: the address that is connected to is the one that was looked at, whatever a name meant a moment ago,
whether it was written as a name or as a number; ports of other services than the web's are left alone.
Does not know what is asked there. (Source: RFC 6890; the "bad ports" of the Fetch standard, more strictly.)
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any, Final

import aiohttp

WEB_PORTS: Final = frozenset({80, 443})
FIRST_FREE_PORT: Final = 1024
"""Below, other services listen, which a stranger could make us speak to."""
CONNECTIONS: Final = 16
CONNECTIONS_A_HOST: Final = 4
_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
"""All that is assigned of the public IPv6 network."""
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class NotPublic(OSError):
    """An address that a stranger must not send us to."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public network's, and no other is written inside it that is not."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is None:
            return found in _UNICAST and found.is_global
        found = inner
    return found.is_global and not found.is_multicast


def is_open_port(port: int) -> bool:
    """Whether a stranger may name a port."""
    return port in WEB_PORTS or FIRST_FREE_PORT <= port < 65_536


def connector(near: bool) -> aiohttp.TCPConnector:
    """Connections that go to public addresses only; anywhere when `near`, which is the owner's to say."""

    def opened(info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, place = info
        address, port = str(place[0]), int(place[1])
        if not is_open_port(port):
            raise NotPublic(errno.EACCES, f"port {port} is another service's")
        if not near and not is_public(address):
            raise NotPublic(errno.EACCES, f"{address} is not an address of the public network")
        return socket.socket(family, kind, proto)

    return aiohttp.TCPConnector(
        limit=CONNECTIONS, limit_per_host=CONNECTIONS_A_HOST, socket_factory=opened, ttl_dns_cache=60
    )
