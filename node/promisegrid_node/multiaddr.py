"""Addresses of web servers as other networks write them: `/dns4/ipfs.example/tcp/443/https` and its kin.

Read: `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT` and then `/http`, `/https` or `/tls[/sni/HOST]/http`, perhaps
with `/http-path/PATH` and `/p2p/PEER` behind; and plain URLs. Anything else has no web server in it.
(Source: multiformats/multiaddr, protocols.csv.)
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote, unquote, urlsplit

from promisegrid.errors import LocalError
from promisegrid.gateways import read_url

TEXT_MAX: Final = 512
_NAMED: Final = frozenset({"dns", "dns4", "dns6"})
_VALUED: Final = frozenset({*_NAMED, "ip4", "ip6", "tcp", "udp", "sni", "http-path", "p2p", "certhash"})
"""Those that a value follows, as far as it matters here."""


def url_of(text: str) -> str | None:
    """Where to ask over HTTP, as `gateways.read_url` writes it; None when the address has no web server."""
    if len(text) > TEXT_MAX:
        return None
    try:
        if text.startswith(("http://", "https://")):
            return read_url(text)
        return read_url(_spelled(list(_parts(text))))
    except (LocalError, ValueError):
        return None


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The protocols of an address and their values, "" for those without. ValueError when it is none."""
    first, *words = text.split("/")
    if first or not words:
        raise ValueError("no multiaddr")
    at = iter(words)
    for name in at:
        value = next(at, None) if name in _VALUED else ""
        if not name or value is None:
            raise ValueError("no multiaddr")
        yield name, value


def _spelled(parts: list[tuple[str, str]]) -> str:
    if parts and parts[-1][0] == "p2p":
        parts = parts[:-1]
    path = unquote(parts.pop()[1]) if parts and parts[-1][0] == "http-path" else ""
    if len(parts) < 3 or parts[1][0] != "tcp":
        raise ValueError("no web server")
    (kind, host), (_, port), *web = parts
    scheme = {"http": "http", "https": "https", "tls/http": "https"}.get(
        "/".join(name for name, _ in web if name != "sni")
    )
    if scheme is None or any(name == "sni" and value != host for name, value in web):
        raise ValueError("no web server, or one whose certificate has another name")
    if kind in ("ip4", "ip6"):
        address = ipaddress.ip_address(host)
        if address.version != int(kind[-1]):
            raise ValueError("an address of the other kind")
        host = f"[{address}]" if address.version == 6 else str(address)
    elif kind not in _NAMED or ":" in host:
        raise ValueError("no web server")
    return f"{scheme}://{host}:{int(port)}/{path.strip('/')}"


def of_url(url: str) -> str:
    """The address of a web server; `url` as `gateways.read_url` writes it."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    path = f"/http-path/{quote(parts.path.strip('/'), safe='')}" if parts.path.strip("/") else ""
    return f"/{kind}/{host}/tcp/{port}/{parts.scheme}{path}"


def names_of(text: str) -> frozenset[str]:
    """The protocols that an address is made of, as filters name them, in lower case."""
    try:
        return frozenset(name.lower() for name, _ in _parts(text))
    except ValueError:
        return frozenset({text.partition(":")[0].lower()}) if "://" in text else frozenset()
