"""Content by CID over HTTP: `/app/<cid>/…` for a sandboxed frame, `/ipfs/<cid>` as a trustless gateway.

Promises: an app's files are an opaque origin without network; the gateway's bytes are for saving, never
shown; both are streamed a block at a time; neither lets a service worker be registered. An anonymous request
never makes this node ask its peers, unless it comes from this machine.
(Source: DESIGN.md section 6; IPFS "Trustless Gateway Specification".)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import hdrs, web

from promisegrid import car, unixfs
from promisegrid.block import Block
from promisegrid.cid import IDENTITY, Cid, CidError
from promisegrid.errors import RemoteError
from promisegrid.exchange import links_of
from promisegrid_node import headers
from promisegrid_node.bundle import Bundle, content_type
from promisegrid_node.host import Host

RAW_TYPE: Final = "application/vnd.ipld.raw"
CAR_TYPE: Final = "application/vnd.ipld.car"
RECORD_TYPE: Final = "application/vnd.ipfs.ipns-record"
REMEMBERED: Final = 4096
"""Paths inside folders whose CID is remembered: content by CID never changes."""
CAR_SEEN_MAX: Final = 1_000_000
"""Distinct blocks of one CAR, each remembered so that it is sent once."""


class Content:
    """The handlers of `/app` and `/ipfs`."""

    def __init__(self, host: Host, bundle: Bundle) -> None:
        self._host, self._bundle = host, bundle
        self._paths: OrderedDict[tuple[Cid, str], Cid] = OrderedDict()

    # -- apps ----------------------------------------------------------------------------------------

    async def app_root(self, request: web.Request) -> web.StreamResponse:
        """`/app/<cid>` is the folder."""
        _refuse_service_worker(request)
        raise web.HTTPFound(f"/app/{_cid(request)}/")

    async def app(self, request: web.Request) -> web.StreamResponse:
        """One file of an app."""
        _refuse_service_worker(request)
        root, path = _cid(request), request.match_info["path"]
        if request.headers.get("Sec-Fetch-Dest") == "document":
            raise web.HTTPFound(f"/#/app/{root}", headers={"Vary": "Sec-Fetch-Dest"})
        host = headers.read_host(request.headers.get("Host", ""), request.scheme)
        assert host is not None, "the guard let a request without Host through"
        policy = headers.for_app(request.scheme, host, str(root))
        if path == "grid.js":
            return await self._grid_js(policy)
        if not path or path.endswith("/"):
            path += "index.html"
        await self._must_be_here(request, root)
        cid = await self._resolve(root, path)
        cache = headers.REVALIDATE if path.endswith((".html", ".htm")) else headers.IMMUTABLE
        answer = policy | {"Content-Type": content_type(path), "Cache-Control": cache, "ETag": f'"{cid}"'}
        if f'"{cid}"' in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=answer)
        return await _stream(request, answer, self._file(cid))

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

    async def _must_be_here(self, request: web.Request, root: Cid) -> None:
        """Only a request from this machine may make this node ask its peers."""
        if headers.is_loopback(request.remote or ""):
            return
        if not await self._host.ask(self._host.kernel.has(root)):
            raise RemoteError(
                "not_found", f"{root} is not on this node; open it in a tab that joined the grid."
            )

    # -- the gateway ---------------------------------------------------------------------------------

    async def gateway(self, request: web.Request) -> web.StreamResponse:
        """`/ipfs/<cid>[/path]?format=raw|car`: verifiable bytes of what this node itself holds."""
        _refuse_service_worker(request)
        root, path = _cid(request), request.match_info.get("path", "").strip("/")
        wanted = _format(request)
        if wanted == RECORD_TYPE:
            raise web.HTTPNotImplemented(text="IPNS records are not served here.\n")
        chain = await self._chain(root, path)
        if wanted == CAR_TYPE:
            return await self._car(request, root, chain)
        cid = chain[-1].cid
        if wanted == RAW_TYPE:
            answer = self._gateway_headers(root, path, f"{cid}.bin", RAW_TYPE, f'"{cid}.raw"')
            if f'"{cid}.raw"' in request.headers.get("If-None-Match", ""):
                return web.Response(status=304, headers=answer)
            return web.Response(body=chain[-1].data, headers=answer)
        if not _is_file(chain[-1]):
            text = f"{cid} is not a file: ask for ?format=car or ?format=raw.\n"
            raise web.HTTPNotAcceptable(text=text, headers=headers.always())
        name = path.rpartition("/")[2] or str(cid)
        answer = self._gateway_headers(root, path, name, "application/octet-stream", f'"{cid}"')
        return await _stream(request, answer, self._local_file(chain[-1]))

    def _gateway_headers(self, root: Cid, path: str, name: str, kind: str, etag: str) -> dict[str, str]:
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in name)
        return headers.for_gateway(safe) | {
            "Content-Type": kind,
            "Cache-Control": headers.IMMUTABLE,
            "ETag": etag,
            "Vary": "Accept",
            "X-Ipfs-Path": f"/ipfs/{root}"
            + (f"/{path}" if path.isascii() and path.isprintable() and path else ""),
        }

    async def local(self, cid: Cid) -> bytes:
        """A block of this node's own store, verified. RemoteError("not_found")."""
        if cid.hash_code == IDENTITY:
            return cid.digest
        if not await self._host.ask(self._host.kernel.has(cid)):
            raise RemoteError("not_found", f"{cid} is not on this node.")
        return await self._host.ask(self._host.kernel.block(cid))

    async def _chain(self, root: Cid, path: str) -> list[Block]:
        """The blocks from the root along a path, the last one being what the path names."""
        chain = [Block(root, await self.local(root))]
        if path:
            try:
                cid = await unixfs.resolve(self._remembering(chain), root, path)
            except unixfs.UnixFsError as error:
                raise RemoteError("not_found", f"{path!r} in {root}: {error}.") from error
            if chain[-1].cid != cid:
                chain.append(Block(cid, await self.local(cid)))
        return chain

    def _remembering(self, chain: list[Block]) -> unixfs.Load:
        async def fetch(cid: Cid) -> bytes:
            data = await self.local(cid)
            if chain[-1].cid != cid:
                chain.append(Block(cid, data))
            return data

        return fetch

    async def _local_file(self, block: Block) -> AsyncIterator[bytes]:
        try:
            async for piece in unixfs.read_file(self.local, block.cid):
                yield piece
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{block.cid} cannot be read: {error}.") from error

    async def _car(self, request: web.Request, root: Cid, chain: list[Block]) -> web.StreamResponse:
        scope = request.query.get("dag-scope", "all")
        if scope not in ("block", "entity", "all"):
            raise web.HTTPBadRequest(text="dag-scope is block, entity or all.\n", headers=headers.always())
        last = chain[-1].cid
        kind = f"{CAR_TYPE}; version=1; order=dfs; dups=n"
        answer = self._gateway_headers(root, "", f"{last}.car", kind, f'W/"{last}.car.{scope}"')
        return await _stream(request, answer, self._car_pieces(chain, scope))

    async def _car_pieces(self, chain: list[Block], scope: str) -> AsyncIterator[bytes]:
        """A CAR of the path's blocks and what lies below the last, depth first, each block once."""
        last = chain[-1]
        yield car.header([last.cid])
        seen = {block.cid for block in chain}
        for block in chain:
            yield car.frame(block)
        if scope == "block" or (scope == "entity" and not _is_file(last)):
            return
        waiting = list(reversed(links_of(last.cid, last.data)))
        while waiting and len(seen) < CAR_SEEN_MAX:
            cid = waiting.pop()
            if cid in seen:
                continue
            seen.add(cid)
            block = Block(cid, await self.local(cid))
            yield car.frame(block)
            waiting.extend(reversed(links_of(cid, block.data)))


def _is_file(block: Block) -> bool:
    try:
        return isinstance(unixfs.parse(block.cid, block.data), unixfs.File)
    except unixfs.UnixFsError:
        return False


def _cid(request: web.Request) -> Cid:
    try:
        return Cid.parse(request.match_info["cid"])
    except CidError as error:
        raise web.HTTPBadRequest(text=f"{error}.\n", headers=headers.always()) from error


def _format(request: web.Request) -> str:
    """What representation is wanted: by `?format=`, else by Accept; "" for the file itself."""
    named = {"raw": RAW_TYPE, "car": CAR_TYPE, "ipns-record": RECORD_TYPE}
    if "format" in request.query:
        if request.query["format"] not in named:
            raise web.HTTPNotAcceptable(text="format is raw or car.\n", headers=headers.always())
        return named[request.query["format"]]
    accept = request.headers.get("Accept", "")
    return next((kind for kind in named.values() if kind in accept), "")


def _refuse_service_worker(request: web.Request) -> None:
    if request.headers.get("Service-Worker") == "script":
        text = "Content by CID is never a service worker here.\n"
        raise web.HTTPForbidden(text=text, headers=headers.always())


async def _stream(
    request: web.Request, answer: dict[str, str], pieces: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send piece by piece. The first is had before the status is sent, so that its errors get their own."""
    first = await anext(pieces, None)
    response = web.StreamResponse(headers=answer)
    await response.prepare(request)
    if request.method == hdrs.METH_HEAD or first is None:
        return response
    await response.write(first)
    try:
        async for piece in pieces:
            await response.write(piece)
    except RemoteError:
        if request.transport is not None:
            request.transport.abort()  # a body that stops short must not look complete
        return response
    await response.write_eof()
    return response
