"""Who asks over HTTP, and what he may have of this node's content without being a member over a link.

- Whoever sits at the owner's machine: everything; but not another site's page in a browser there.
- On an open grid, everybody: he could join. But not another site's page in a browser of the owner's own
  network: it would look into that network with somebody else's eyes.
- Everybody else: what the owner published.

Another site's page is known by Fetch Metadata, or by its Origin. A folder that is shown has an opaque origin,
so what its pages load looks as if a stranger asked: it is known by its folder having been opened from the
same address a while ago, by hand or from our own page. A stranger's page that knows the CID of a folder that
its visitor has open could so see that folder, and nothing else.
(Source: DESIGN.md section 6; W3C Fetch Metadata.)
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from promisegrid.cid import Cid
from promisegrid_node import headers

FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""What a proxy on this machine adds for somebody who is not on it."""
OPEN_S: Final = 3600.0
"""How long after the last of its requests a folder counts as opened."""
OPENED_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Asker:
    """Who sent one request, as far as it shows.

    is_local: on the owner's machine; is_near: in its network; is_foreign: a page of another site;
    is_led: a person who follows a link of another site.
    """

    address: str
    is_local: bool
    is_near: bool
    is_foreign: bool
    is_led: bool

    def may_all(self, is_open: bool) -> bool:
        """Whether he may have whatever this node holds; `is_open`: anybody may join the grid."""
        if self.is_foreign and self.is_near:
            return False
        return is_open or (self.is_local and not self.is_foreign)


def asker(request: web.Request) -> Asker:
    """Who sent a request."""
    told, address = request.headers, (request.remote or "").partition("%")[0]
    is_document = told.get("Sec-Fetch-Dest") == "document"
    site = told.get("Sec-Fetch-Site")
    is_elsewhere = site not in (None, "same-origin", "none")
    is_foreign = not is_document and (is_elsewhere or (site is None and _is_from_elsewhere(request)))
    is_local, is_near = _place(address)
    is_direct = not any(name in told for name in FORWARDED)
    return Asker(address, is_local and is_direct, is_near, is_foreign, is_document and is_elsewhere)


def _place(address: str) -> tuple[bool, bool]:
    """Whether an address is this machine's, and whether it is of a network that only its owner is in."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False, True
    mapped = getattr(found, "ipv4_mapped", None) or found
    return mapped.is_loopback, mapped.is_loopback or mapped.is_private or mapped.is_link_local


def _is_from_elsewhere(request: web.Request) -> bool:
    host = headers.read_host(request.headers.get("Host", ""), request.scheme)
    origin = request.headers.get("Origin")
    return origin is not None and (host is None or not headers.same_origin(origin, host))


class Opened:
    """Folders that somebody opened a while ago, by address. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[tuple[str, Cid], float] = OrderedDict()

    def note(self, who: Asker, request: web.Request, root: Cid) -> None:
        """A folder is shown: in a tab, or in a frame of our page."""
        if not who.is_foreign and not who.is_led and _is_shown(request):
            self._keep(who.address, root)

    def is_inner(self, who: Asker, request: web.Request, root: Cid) -> bool:
        """Whether a page of that folder may be asking: its origin is opaque, and it says no more."""
        if (
            not who.is_foreign
            or request.headers.get("Origin", "null") != "null"
            or "Referer" in request.headers
        ):
            return False
        until = self._until.get((who.address, root), 0.0)
        if until <= self._clock():
            return False
        self._keep(who.address, root)
        return True

    def _keep(self, address: str, root: Cid) -> None:
        self._until[address, root] = self._clock() + OPEN_S
        self._until.move_to_end((address, root))
        if len(self._until) > OPENED_MAX:
            self._until.popitem(last=False)


def _is_shown(request: web.Request) -> bool:
    return request.headers.get("Sec-Fetch-Dest", "document") in ("document", "iframe")
