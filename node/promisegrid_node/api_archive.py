"""The verbs of what leaves and enters a base: CAR files, what is published, and gateways to fetch from.

Each is reached through the door or in the command line's own process, see `api.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promisegrid.errors import LocalError
from promisegrid.publishing import Published
from promisegrid_node.api_args import read_cid
from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb


class ArchiveApi:
    """The verbs over one host's archive and gateways."""

    def __init__(self, host: Host, url: str | None) -> None:
        self._url, self._publishing = url, host.kernel.publishing
        self._host, self._archive, self._gateways = host, host.kernel.base.archive, host.kernel.gateways

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {
            "car.export": self.export,
            "car.import": self.bring,
            "gateways": self.gateways,
            "content.publish": self.publish,
            "content.unpublish": self.unpublish,
            "content.published": self.published,
        }

    async def export(self, args: Args, session: Session) -> dict[str, Any]:
        """A CAR file as output, of `cids` and all below them, or of everything (`all`): {blocks, bytes, bad}.

        bad: blocks of a backup that had rotted, and were left out.
        """
        if args.get("all"):
            export = await self._host.ask(self._archive.backup())
        else:
            export = self._archive.export([read_cid(cid) for cid in args.get("cids") or ()])
        while (piece := await self._host.ask(export.next())) is not None:
            await session.emit(piece)
        return {"blocks": export.blocks, "bytes": export.bytes, "bad": export.bad}

    async def bring(self, args: Args, session: Session) -> dict[str, Any]:
        """A CAR file as input; its roots are pinned unless `pin` is False, under `name`.

        {roots, blocks, bytes, pinned, backup, left, streams, values, lost}; the last three of a backup, which
        is `left` alone where there are pins, streams or keys already, unless `restore` is said.
        """
        bring = self._archive.bring(
            args.get("pin") is not False, str(args.get("name") or ""), bool(args.get("restore"))
        )
        try:
            async for piece in session.pieces():
                await self._host.ask(bring.take(piece))
            done = await self._host.ask(bring.finish())
        finally:
            bring.close()
        return {
            "roots": [str(root) for root in done.roots],
            "blocks": done.blocks,
            "bytes": done.bytes,
            "pinned": done.pinned,
            "backup": done.is_backup,
            "left": done.left,
            "streams": done.streams,
            "values": done.values,
            "lost": [str(cid) for cid in done.lost],
        }

    async def gateways(self, args: Args, session: Session) -> dict[str, Any]:
        """Name a gateway (`add`), ask it no more (`rm`), or just tell: {gateways: [url], told: […]}."""
        if args.get("add"):
            await self._host.ask(self._gateways.add(_text(args["add"])))
        if args.get("rm"):
            await self._host.ask(self._gateways.remove(_text(args["rm"])))
        told = self._gateways.ls()
        return {"gateways": [one["url"] for one in told], "told": told}

    async def publish(self, args: Args, session: Session) -> dict[str, Any]:
        """Let anybody read a CID and all below it through the gateway: {cid, name, at, url}."""
        made = self._publishing.publish(read_cid(args.get("cid")), str(args.get("name") or ""))
        return self._shown(await self._host.ask(made))

    async def unpublish(self, args: Args, session: Session) -> dict[str, Any]:
        """Publish it no longer: {cid}."""
        cid = read_cid(args.get("cid"))
        if not await self._host.ask(self._publishing.withdraw(cid)):
            raise LocalError(f"{cid} is not published; `promisegrid publish` lists what is.", "not_found")
        return {"cid": str(cid)}

    async def published(self, args: Args, session: Session) -> dict[str, Any]:
        """{published: [{cid, name, at, url}]}."""
        found: list[dict[str, Any]] = []
        after = b""
        while page := await self._host.ask(self._publishing.page(after)):
            found += [self._shown(one) for one in page]
            after = bytes(page[-1].cid)
        return {"published": found}

    def _shown(self, one: Published) -> dict[str, Any]:
        url = None if self._url is None else f"{self._url}ipfs/{one.cid}"
        return {"cid": str(one.cid), "name": one.name, "at": one.at, "url": url}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise LocalError("Give the address of a gateway as text.", "bad_args")
    return value
