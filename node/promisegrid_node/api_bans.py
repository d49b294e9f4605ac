"""The verbs about bans: whom this node's owner will have nothing to do with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb


class BansApi:
    """The verbs over one host's bans. `peer`: the did:key that a text names, see `Api.peer`."""

    def __init__(self, host: Host, peer: Callable[[str], str]) -> None:
        self._host, self._peer = host, peer
        self._bans, self._promises = host.kernel.bans, host.kernel.promises

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {"ban": self.ban, "unban": self.unban, "ban.ls": self.ls}

    async def ban(self, args: Args, session: Session) -> dict[str, Any]:
        """Ban a key: {did, reason, dismissed}, whether its membership was taken back too ({dismiss})."""
        who, reason = self._peer(str(args.get("did"))), str(args.get("reason") or "")
        if args.get("dismiss"):
            await self._host.ask(self._promises.dismiss(who, reason))
        await self._host.ask(self._bans.ban(who, reason))
        return {"did": who, "reason": reason, "dismissed": bool(args.get("dismiss"))}

    async def unban(self, args: Args, session: Session) -> dict[str, Any]:
        """End a ban: {did, banned}, whether it was."""
        who = str(args.get("did"))
        return {"did": who, "banned": await self._host.ask(self._bans.unban(who))}

    async def ls(self, args: Args, session: Session) -> dict[str, Any]:
        """{banned: [{did, at, reason}]}; at: seconds since 1970."""
        return {"banned": await self._host.ask(self._bans.ls())}
