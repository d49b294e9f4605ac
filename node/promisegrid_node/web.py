"""What a node answers over HTTP: the page, apps by CID, the gateway, the grid's WebSocket, and its health.

Promises: every request carries a Host this node serves, or gets 421 and one sentence; responses are streamed,
never gathered; nothing a stranger made is ever rendered in the page's origin.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid_node import headers, metrics, wire
from promisegrid_node.asking import Opened, asker
from promisegrid_node.bundle import Asset, Bundle, content_type
from promisegrid_node.content import Content
from promisegrid_node.gateway import Gateway
from promisegrid_node.greeters import Greeters
from promisegrid_node.host import Host
from promisegrid_node.reception import Visitor
from promisegrid_node.router import Router

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
STATUS = {
    "not_found": 404,
    "bad_cid": 400,
    "bad_file": 400,
    "bad_args": 400,
    "busy": 503,
    "too_large": 413,
    "out_of_time": 504,
}
WORKER = "node.worker.mjs"
"""The file whose policy is that of a tab's node: never kept without asking, since its gateways may change."""
PIECE_BYTES: Final = 64 * 1024
log = logging.getLogger("promisegrid")


class Site:
    """The HTTP side of one node. `names` are the host names it answers to; `metrics_for_all`: its metrics
    are told to other machines too."""

    def __init__(
        self,
        host: Host,
        bundle: Bundle,
        names: frozenset[str],
        limits: Limits,
        metrics_for_all: bool = False,
        router: Router | None = None,
    ) -> None:
        self._router = router or Router(host, limits)
        self._metrics_for_all = metrics_for_all
        self._host, self._bundle, self._names, self._limits = host, bundle, names, limits
        self._greeters = Greeters(host, limits.greeting_per_address)
        opened = Opened()
        self._content, self._gateway = Content(host, bundle, opened), Gateway(host, opened)

    def application(self) -> web.Application:
        """The aiohttp application, for a runner or a test."""
        made = web.Application(middlewares=[self._guard], client_max_size=65_536)
        made.add_routes(
            [
                web.get("/", self._page),
                web.get("/grid", self._grid, allow_head=False),
                web.get("/healthz", self._health),
                web.get("/metrics", self._metrics),
                web.get("/app/{cid}", self._content.app_root),
                web.get("/app/{cid}/{path:.*}", self._content.app),
                web.get("/ipfs/{cid}", self._gateway.serve),
                web.get("/ipfs/{cid}/{path:.*}", self._gateway.serve),
                web.options("/ipfs/{path:.*}", self._gateway.preflight),
                *self._router.routes(),
                web.get("/{path:.+}", self._asset),
            ]
        )
        return made

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """First the Host, then the answer; whatever goes wrong ends in one plain sentence."""
        name = headers.read_host(request.headers.get("Host", ""), request.scheme)
        if name is None or name.name not in self._names:
            text = f"This node does not serve {request.headers.get('Host', '')!r}; --host NAME adds a name.\n"
            return web.Response(status=421, text=text, headers=headers.always())
        if isinstance(request.protocol, Visitor):
            request.protocol.is_heard = True
        try:
            return await handler(request)
        except (RemoteError, LocalError) as error:
            status = STATUS.get(error.code, 400 if isinstance(error, LocalError) else 502)
            return plain(status, error.text)
        except web.HTTPException as answer:
            answer.headers.update(headers.always())
            raise

    async def _grid(self, request: web.Request) -> web.StreamResponse:
        return await wire.serve(self._host, request, self._limits, self._greeters)

    async def _page(self, request: web.Request) -> web.StreamResponse:
        asset = self._bundle.assets.get("index.html")
        if asset is None:
            return plain(503, "There is no page to serve: run ./build.sh bundle.")
        return send_asset(request, asset, "index.html", False, frame=self._bundle.frame)

    async def _asset(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["path"]
        asset = self._bundle.assets.get(name)
        if asset is None:
            return plain(404, f"There is nothing at /{name[:200]}.")
        if name != f"{self._bundle.static.strip('/')}/{WORKER}":
            return send_asset(request, asset, name, name.startswith("static/"))
        gateways = tuple(one["url"] for one in self._host.kernel.gateways.ls())
        return send_asset(request, asset, name, False, gateways)

    async def _health(self, request: web.Request) -> web.Response:
        grid = self._host.kernel.grid
        body = {"ok": True, "grid": None if grid is None else str(grid)}
        return web.json_response(body, headers=headers.always() | {"Cache-Control": "no-store"})

    async def _metrics(self, request: web.Request) -> web.Response:
        if not asker(request).may_all(self._metrics_for_all):
            return plain(403, "The metrics are for this machine; `promisegrid up --metrics` opens them.")
        text = metrics.exposition([*await metrics.of_host(self._host), *metrics.of_process()])
        told = headers.always() | headers.OWN | {"Cache-Control": "no-store"}
        return web.Response(text=text, headers=told | {"Content-Type": metrics.CONTENT_TYPE})


def plain(status: int, text: str, **more: str) -> web.Response:
    """One sentence as the whole answer."""
    return web.Response(status=status, text=f"{text}\n", headers=headers.for_refusal() | more)


def send_asset(
    request: web.Request,
    asset: Asset,
    name: str,
    immutable: bool,
    gateways: tuple[str, ...] = (),
    frame: str = "",
) -> web.StreamResponse:
    """A file of the bundle, compressed as the browser likes, with the policy of the page."""
    host = headers.read_host(request.headers.get("Host", ""), request.scheme)
    assert host is not None, "the guard let a request without Host through"
    path, encoding = asset.pick(request.headers.get("Accept-Encoding", ""))
    answer: dict[str, Any] = headers.for_page(host, gateways, frame) | {
        "Cache-Control": headers.IMMUTABLE if immutable else headers.REVALIDATE,
        "Content-Type": content_type(name),
        "Vary": "Accept-Encoding",
    }
    etag = asset.etag if encoding is None else f'{asset.etag[:-1]}-{encoding}"'
    if gateways:
        etag = f'{etag[:-1]}-{hashlib.sha256(" ".join(gateways).encode()).hexdigest()[:16]}"'
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=answer | {"ETag": etag})
    if not path.is_file():
        return plain(503, "The page is being rebuilt; reload in a moment.")
    answer |= {"ETag": etag, "Content-Length": str(path.stat().st_size)}
    if encoding is not None:
        answer["Content-Encoding"] = encoding
    return web.Response(body=_pieces(path), headers=answer)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    """A file, no faster than it is taken: of many slow readers each costs a piece of it, not the whole."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
