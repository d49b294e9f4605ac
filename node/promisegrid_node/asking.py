"""Who asks over HTTP, and what he may have of this node's content without being a member over a link.

- Whoever sits at the owner's machine: everything; but not another site's page in a browser there.
- On an open grid, everybody: he could join. But not another site's page in a browser of the owner's own
  network: it would look into that network with somebody else's eyes.
- Everybody else: what the owner published.

A page of ours is known by Fetch Metadata, and by its Referer where it is sandboxed; neither can be forged by
a page. (Source: DESIGN.md section 6; W3C Fetch Metadata.)
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from aiohttp import web

from promisegrid_node import headers

FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""What a proxy on this machine adds for somebody who is not on it."""


@dataclass(frozen=True, slots=True)
class Asker:
    """is_local: on the owner's machine; is_near: in its network; is_foreign: a page of another site.

    is_inner: a page of ours in an opaque origin, which gets its own folder as anybody would.
    """

    is_local: bool
    is_near: bool
    is_foreign: bool
    is_inner: bool

    def may_all(self, is_open: bool) -> bool:
        """Whether he may have whatever this node holds; `is_open`: anybody may join the grid."""
        if self.is_foreign and self.is_near:
            return False
        return is_open or (self.is_local and not self.is_foreign)


def asker(request: web.Request) -> Asker:
    """Who sent a request, as far as it shows."""
    host = headers.read_host(request.headers.get("Host", ""), request.scheme)
    is_inner = host is not None and _is_of(request.headers.get("Referer", ""), host) and _is_crossing(request)
    is_foreign = not is_inner and _is_foreign(request, host)
    is_direct = not any(name in request.headers for name in FORWARDED)
    try:
        address = ipaddress.ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return Asker(False, True, is_foreign, is_inner)
    mapped = getattr(address, "ipv4_mapped", None) or address
    is_local = mapped.is_loopback and is_direct
    is_near = mapped.is_private or mapped.is_loopback or mapped.is_link_local
    return Asker(is_local, is_near, is_foreign, is_inner)


def _is_crossing(request: web.Request) -> bool:
    """Whether a browser says that the page asking is of another origin."""
    site = request.headers.get("Sec-Fetch-Site", "cross-site")
    return site == "cross-site" and request.headers.get("Sec-Fetch-Dest") != "document"


def _is_foreign(request: web.Request, host: headers.HostName | None) -> bool:
    """Whether a page of another site makes a browser ask. Opening a link is its reader's own doing."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if request.headers.get("Sec-Fetch-Dest") == "document":
        return False
    if site is not None:
        return site not in ("same-origin", "none")
    return origin is not None and (host is None or not headers.same_origin(origin, host))


def _is_of(referer: str, host: headers.HostName) -> bool:
    scheme, mark, rest = referer.partition("://")
    return bool(mark) and headers.same_origin(f"{scheme}://{rest.partition('/')[0]}", host)
