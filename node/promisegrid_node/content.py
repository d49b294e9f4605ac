"""`/app/<cid>/…`: an app's files, for a sandboxed frame of the page.

Promises: they are an opaque origin without network, streamed a block at a time, and only for whom `asking`
allows, or, where the folder is an app, for pages of this node; no service worker can be registered. A request
never makes this node ask its peers, unless it comes from this machine. (Source: DESIGN.md section 6.)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from promisegrid.cid import IDENTITY, Cid
from promisegrid.errors import RemoteError
from promisegrid_node import headers
from promisegrid_node.asking import Opened, asker
from promisegrid_node.bundle import Bundle, content_type
from promisegrid_node.gateway import cid_of, refuse_service_worker, stream
from promisegrid_node.host import Host
from promisegrid_node.negotiation import is_known

REMEMBERED: Final = 4096
"""Paths inside folders whose CID is remembered: content by CID never changes."""


class Content:
    """The handlers of `/app`."""

    def __init__(self, host: Host, bundle: Bundle, opened: Opened) -> None:
        self._host, self._bundle, self._opened = host, bundle, opened
        self._paths: OrderedDict[tuple[Cid, str], Cid] = OrderedDict()

    # -- apps ----------------------------------------------------------------------------------------

    async def app_root(self, request: web.Request) -> web.StreamResponse:
        """`/app/<cid>` is the folder."""
        refuse_service_worker(request)
        raise web.HTTPFound(f"/app/{cid_of(request)}/")

    async def app(self, request: web.Request) -> web.StreamResponse:
        """One file of an app."""
        refuse_service_worker(request)
        root, path = cid_of(request), request.match_info["path"]
        if request.headers.get("Sec-Fetch-Dest") == "document":
            raise web.HTTPFound(f"/#/app/{root}", headers={"Vary": "Sec-Fetch-Dest"})
        host = headers.read_host(request.headers.get("Host", ""), request.scheme)
        assert host is not None, "the guard let a request without Host through"
        policy = headers.for_app(request.scheme, host, str(root))
        if path == "grid.js":
            return await self._grid_js(policy)
        if not path or path.endswith("/"):
            path += "index.html"
        await self._must_be_allowed(request, root)
        cid = await self._resolve(root, path)
        cache = headers.REVALIDATE if path.endswith((".html", ".htm")) else headers.IMMUTABLE
        answer = policy | {"Content-Type": content_type(path), "Cache-Control": cache, "ETag": f'"{cid}"'}
        if is_known(request.headers.get("If-None-Match"), answer["ETag"]):
            return web.Response(status=304, headers=answer)
        return await stream(request, answer, self._file(cid))

    async def _grid_js(self, policy: dict[str, str]) -> web.StreamResponse:
        asset = self._bundle.reserved("grid.js")
        if asset is None or not asset.path.is_file():
            raise web.HTTPNotFound(text="This node's bundle has no grid.js: run ./build.sh bundle.\n")
        answer = policy | {"Content-Type": content_type("grid.js"), "Cache-Control": headers.REVALIDATE}
        return web.Response(body=asset.path.read_bytes(), headers=answer)

    async def _resolve(self, root: Cid, path: str) -> Cid:
        known = self._paths.get((root, path))
        if known is None:
            try:
                known = await self._host.ask(self._host.kernel.resolve(root, path))
            except RemoteError as wrong:
                raise RemoteError("not_found", wrong.text) from wrong
            self._paths[root, path] = known
            if len(self._paths) > REMEMBERED:
                self._paths.popitem(last=False)
        return known

    async def _file(self, cid: Cid) -> AsyncIterator[bytes]:
        source = self._host.kernel.read(cid)
        while (piece := await self._host.ask(self._host.kernel.piece(source))) is not None:
            yield piece

    async def _is_app(self, root: Cid) -> bool:
        """Whether an app is here. Members open it from their tabs, which HTTP cannot tell from anybody's.

        An app that is its own name could be anybody's, and lead to whatever is here.
        """
        if root.hash_code == IDENTITY:
            return False
        try:
            await self._host.ask(self._host.kernel.selection.path(root, "app.json"))
        except RemoteError:
            return False
        return True

    async def _must_be_allowed(self, request: web.Request, root: Cid) -> None:
        """Only a request from this machine may make this node ask its peers."""
        who = asker(request)
        is_ours = not who.is_foreign or self._opened.is_inner(who, request, root)
        may_all = who.may_all(self._host.kernel.open_mode) or (is_ours and who.is_local)
        if may_all and who.is_local:
            self._opened.note(who, request, root)
            return
        is_allowed = may_all or await self._host.ask(self._host.kernel.publishing.has(root))
        is_allowed = is_allowed or (is_ours and await self._is_app(root))
        if is_allowed and await self._host.ask(self._host.kernel.has(root)):
            self._opened.note(who, request, root)
        else:
            raise RemoteError(
                "not_found", f"{root} is not on this node; open it in a tab that joined the grid."
            )
