"""`/ipfs/<cid>[/path]`: a trustless gateway, and files and folders for a browser, shut off from all else.

Promises: only what this node holds is served, and only to whom `asking` allows; blocks and CARs can be
verified and are never shown; a CAR that cannot be whole is cut off, so that it does not look whole; what a
browser shows has an opaque origin, and reaches nothing but its own folder.
(Source: IPFS "Trustless Gateway Specification", "Path Gateway Specification"; DESIGN.md section 6.)
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web

from promisegrid import units, unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid, CidError
from promisegrid.errors import RemoteError
from promisegrid.promisebase.archive import Export
from promisegrid.selection import Found, Wanted, entity
from promisegrid_node import headers, negotiation
from promisegrid_node.asking import Opened, asker
from promisegrid_node.bundle import content_type
from promisegrid_node.headers import CAR_TYPE, RAW_TYPE, RECORD_TYPE
from promisegrid_node.host import Host
from promisegrid_node.negotiation import Asked, is_known, refused

LISTED: Final = 5000
"""Names of one folder that are shown."""
ROOTS_TOLD: Final = 32
UNKNOWN: Final = "application/octet-stream"


class Gateway:
    """The handlers of `/ipfs`."""

    def __init__(self, host: Host, opened: Opened) -> None:
        self._host, self._kernel, self._opened = host, host.kernel, opened

    async def preflight(self, request: web.Request) -> web.StreamResponse:
        """May a page of another site ask? It may; what it gets is decided when it does."""
        allowed = {
            "Access-Control-Allow-Methods": "GET, HEAD",
            "Access-Control-Allow-Headers": "Accept, Range",
        }
        return web.Response(status=204, headers=headers.always() | headers.SHARED | allowed)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """`/ipfs/<cid>[/path]?format=raw|car`, or the file itself."""
        refuse_service_worker(request)
        root, path = cid_of(request), request.match_info.get("path", "")
        asked = negotiation.asked(request.query, request.headers.get("Accept", ""))
        if asked.kind == RECORD_TYPE:
            raise refused(501, "IPNS records are not served here.")
        wanted = negotiation.car(request.query, asked.parameters) if asked.kind == CAR_TYPE else None
        answer = await self._allowed(request, root) | _told(request, root, path)
        try:
            found = await self._host.ask(self._kernel.selection.path(root, path))
        except RemoteError as wrong:
            raise _not_here(request, wrong) from wrong
        if len(found.roots) <= ROOTS_TOLD:
            answer["X-Ipfs-Roots"] = ",".join(map(str, found.roots))
        if wanted is not None:
            return await self._car(request, found, wanted, answer | _location(request, asked, "car"))
        if asked.kind == RAW_TYPE:
            return await self._raw(request, found.end, answer | _location(request, asked, "raw"))
        return await self._itself(request, root, found, answer)

    async def _allowed(self, request: web.Request, root: Cid) -> dict[str, str]:
        """Who may have it: as headers. RemoteError("not_found") for who may not know whether it is here."""
        who, is_open = asker(request), self._kernel.open_mode
        if await self._host.ask(self._kernel.publishing.has(root)) or self._opened.is_inner(
            who, request, root
        ):
            return headers.SHARED
        if not who.may_all(is_open):
            raise _not_here(request, RemoteError("not_found", f"{root} is not on this node."))
        if who.is_led and who.is_near:
            raise _led_here(request, root)
        self._opened.note(who, request, root)
        return headers.SHARED if is_open and not who.is_near else headers.OWN

    # -- verifiable ----------------------------------------------------------------------------------

    async def _raw(self, request: web.Request, block: Block, answer: dict[str, str]) -> web.StreamResponse:
        etag = f'"{block.cid}.raw"'
        name = _name(request, f"{block.cid}.bin")
        answer = headers.for_gateway(name, RAW_TYPE, etag) | answer
        if is_known(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=answer)
        return web.Response(body=block.data, headers=answer)

    async def _car(
        self, request: web.Request, found: Found, wanted: Wanted, answer: dict[str, str]
    ) -> web.StreamResponse:
        item = entity(found.end)
        if wanted.span is not None and isinstance(item, unixfs.File) and 0 < item.size <= wanted.span.first:
            raise refused(400, f"The file has {item.size} bytes; entity-bytes begins behind them.")
        dups = "y" if wanted.repeats else "n"
        said = [*map(str, found.roots), wanted.scope, str(wanted.span), dups]
        etag = f'W/"{found.end.cid}.car.{hashlib.sha256(" ".join(said).encode()).hexdigest()[:16]}"'
        kind = f"{CAR_TYPE}; version=1; order=dfs; dups={dups}"
        answer = headers.for_gateway(_name(request, f"{found.end.cid}.car"), kind, etag) | answer
        answer["Accept-Ranges"] = "none"
        if is_known(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=answer)
        return await stream(request, answer, self._pieces(self._kernel.selection.car(found, wanted)))

    async def _pieces(self, export: Export) -> AsyncIterator[bytes]:
        while (piece := await self._host.ask(export.next())) is not None:
            yield piece

    # -- for a browser -------------------------------------------------------------------------------

    async def _itself(
        self, request: web.Request, root: Cid, found: Found, answer: dict[str, str]
    ) -> web.StreamResponse:
        """A file as its name says; a folder as its index.html, else as a list."""
        item = entity(found.end)
        if isinstance(item, unixfs.File):
            return await self._file(request, root, found.end, item.size, answer)
        if isinstance(item, unixfs.Symlink) or item is None:
            raise refused(
                406, f"{found.end.cid} is not a file or folder: ask for ?format=car or ?format=raw."
            )
        if not request.path.endswith("/"):
            query = f"?{request.query_string}" if request.query_string else ""
            raise web.HTTPMovedPermanently(f"{quote(request.path)}/{query}", headers=answer)
        try:
            index = await self._host.ask(self._kernel.selection.path(found.end.cid, "index.html"))
        except RemoteError as wrong:
            if wrong.code != "not_found":
                raise
            return await self._list(request, found, answer)
        item = entity(index.end)
        if not isinstance(item, unixfs.File):
            return await self._list(request, found, answer)
        return await self._file(request, root, index.end, item.size, answer, "index.html")

    async def _file(
        self, request: web.Request, root: Cid, block: Block, size: int, answer: dict[str, str], name: str = ""
    ) -> web.StreamResponse:
        name = name or _name(request, request.path.rpartition("/")[2])
        etag, kind = f'"{block.cid}"', content_type(name)
        host = headers.read_host(request.headers.get("Host", ""), request.scheme)
        assert host is not None, "the guard let a request without Host through"
        answer = headers.for_site(request.scheme, host, str(root)) | answer
        answer |= {"Content-Type": kind, "ETag": etag, "Accept-Ranges": "bytes"}
        answer["Cache-Control"] = headers.REVALIDATE if kind.startswith("text/html") else headers.IMMUTABLE
        if kind == UNKNOWN or request.query.get("download") == "true":
            answer["Content-Disposition"] = f'attachment; filename="{name}"'
        if is_known(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=answer)
        current = request.headers.get("If-Range", etag) == etag  # else the part would be of another file
        part = negotiation.byte_range(request.headers.get("Range") if current else None, size)
        start, stop = part or (0, size)
        answer["Content-Length"] = str(stop - start)
        if part is not None:
            answer["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return await stream(request, answer, self._bytes(block, start, stop), 206 if part else 200)

    async def _bytes(self, block: Block, start: int, stop: int) -> AsyncIterator[bytes]:
        source = unixfs.read_file(self._kernel.selection.local, block.cid, start, stop)
        while (piece := await self._host.ask(self._kernel.piece(source))) is not None:
            yield piece

    async def _list(self, request: web.Request, found: Found, answer: dict[str, str]) -> web.StreamResponse:
        if "text/html" not in request.headers.get("Accept", ""):
            raise refused(406, f"{found.end.cid} is a folder: ask for ?format=car or ?format=raw.")
        try:
            listing = unixfs.list_directory(self._kernel.selection.local, found.end.cid)
            entries = await self._host.ask(listing)
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{found.end.cid} cannot be listed: {error}.") from error
        answer = headers.for_list() | answer | {"ETag": f'W/"list.{found.end.cid}"'}
        return web.Response(text=_page(found.end.cid, entries), headers=answer)


def _page(cid: Cid, entries: list[unixfs.Entry]) -> str:
    """A folder as a list of links. Names are strangers' text."""
    rows = "".join(
        f'<li><a href="./{quote(entry.name, safe="")}">{html.escape(entry.name)}</a>'
        f" <small>{units.size(entry.tsize)}</small></li>"
        for entry in entries[:LISTED]
    )
    more = f"<p>… and {len(entries) - LISTED} more</p>" if len(entries) > LISTED else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{cid}</title>'
        f"<style>body{{font:16px system-ui;margin:2em}}li{{margin:.3em 0}}small{{color:#666}}</style>"
        f'<h1><code>{cid}</code></h1><ul><li><a href="../">..</a></li>{rows}</ul>{more}</html>\n'
    )


def _led_here(request: web.Request, root: Cid) -> web.HTTPException:
    """Another site's link into this node: its reader is asked, and the next step is his own."""
    query = f"?{request.query_string}" if request.query_string else ""
    text = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Open this?</title>'
        "<style>body{font:16px system-ui;margin:2em;max-width:40em}</style>"
        "<h1>Open this from your node?</h1><p>A link on another site led here, to content of this node:"
        f"</p><p><code>{root}</code></p>"
        f'<p><a href="{html.escape(quote(request.path) + query)}">Open it</a></p>\n'
    )
    return web.HTTPOk(text=text, headers=headers.for_question())


def _told(request: web.Request, root: Cid, path: str) -> dict[str, str]:
    return {"X-Ipfs-Path": quote(f"/ipfs/{root}" + (f"/{path.strip('/')}" if path.strip("/") else ""))}


def _location(request: web.Request, asked: Asked, name: str) -> dict[str, str]:
    """Where the same is without Accept."""
    if asked.is_named:
        return {}
    query = "&".join(part for part in (request.query_string, f"format={name}") if part)
    return {"Content-Location": f"{quote(request.path)}?{query}"}


def _name(request: web.Request, usual: str) -> str:
    """What to save it as."""
    name = request.query.get("filename") or usual
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_. ") else "_" for c in name[:200])


def _not_here(request: web.Request, wrong: RemoteError) -> Exception:
    if wrong.code == "not_found":
        if "only-if-cached" in request.headers.get("Cache-Control", ""):
            return refused(412, wrong.text)
        return refused(404, wrong.text)
    return wrong


def cid_of(request: web.Request) -> Cid:
    """The CID in the path. Raises HTTPBadRequest."""
    try:
        return Cid.parse(request.match_info["cid"])
    except CidError as error:
        raise refused(400, f"{error}.") from error


def refuse_service_worker(request: web.Request) -> None:
    """A script that would answer for others never comes from content."""
    if request.headers.get("Service-Worker") == "script":
        raise refused(403, "Content by CID is never a service worker here.")


async def stream(
    request: web.Request, answer: dict[str, str], pieces: AsyncIterator[bytes], status: int = 200
) -> web.StreamResponse:
    """Send piece by piece. The first is had before the status is sent, so that its errors get their own."""
    first = await anext(pieces, None)
    response = web.StreamResponse(status=status, headers=answer)
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
