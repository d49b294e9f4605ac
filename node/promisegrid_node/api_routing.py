"""The verbs of who provides content beyond the grid: providers, announce.

Each is reached through the door or in the command line's own process, see `api.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promisegrid.errors import LocalError
from promisegrid_node.announcing import Announcer
from promisegrid_node.api_args import read_cid
from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb


class RoutingApi:
    """The verbs over one host. announcer: None where this process serves nobody, or no router was named."""

    def __init__(self, host: Host, announcer: Announcer | None) -> None:
        self._host, self._announcer = host, announcer

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {"providers": self.providers, "announce": self.announce}

    async def providers(self, args: Args, session: Session) -> dict[str, Any]:
        """Gateways that routers (`routers`, else those in use) name for a CID: {cid, providers: [url]}."""
        cid, routers = read_cid(args.get("cid")), [str(url) for url in args.get("routers") or ()]
        found = await self._host.ask(self._host.kernel.routing.providers(cid, routers))
        return {"cid": str(cid), "providers": found}

    async def announce(self, args: Args, session: Session) -> dict[str, Any]:
        """Tell the routers of `cid`, or of all that is published: {announced: [{cid, router, error}]}."""
        if self._announcer is None:
            text = "No router was named, or the node's address is a private network's"
            raise LocalError(f"{text}: `promisegrid up --routing URL --announce-as URL` says both.")
        roots = await self._announcer.published()
        if args.get("cid"):
            wanted = read_cid(args["cid"])
            if wanted not in roots:
                text = f"{wanted} is not published, and nothing else is told to anybody"
                raise LocalError(f"{text}: `promisegrid publish {wanted}` does.", "not_found")
            roots = [wanted]
        return {"announced": await self._announcer.announce(roots)}
