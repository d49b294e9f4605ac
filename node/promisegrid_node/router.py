"""This node as a router: says who provides what is published here or was announced by members.

`GET /routing/v1/providers/<cid>` and `/peers/<peer-id>`, for anybody and any page; `POST` (or `PUT`) to
`/routing/v1/providers` for members. One answer in JSON, or a record a line for who accepts that.

Promises: of this node's own content only what its owner published is told; announcements are taken from
members only, signed, so many of each, and forgotten when they expire or the node stops; private addresses are
taken only where the owner allowed it. Does not know whether a member still has what it announced.
(Source: IPFS "Delegated Routing V1 HTTP API"; IPIP-513 for empty answers; IPIP-378 for announcements.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from aiohttp import web

from promisegrid.cid import Cid, CidError
from promisegrid.errors import RemoteError
from promisegrid.gateways import read_url
from promisegrid.limits import Limits
from promisegrid_node import announcement, guarded, headers, multiaddr, peerid, providers
from promisegrid_node.announcement import Announced
from promisegrid_node.host import Host
from promisegrid_node.providers import GATEWAY, JSON, LINES, Filters, Provider
from promisegrid_node.routers import v0, v1

AT_ONCE: Final = 100
"""Records of one answer, and of one announcement."""
FAULTY: Final = 8
"""Records of one announcement that may be refused before the rest is not read: each costs a key to read."""
FOUND_S, NONE_S = 300, 15
"""How long an answer may be kept: content that is there stays, one that is not may come."""
PATH: Final = "/routing/v1"


class Announcements:
    """What members announced, in memory. banned: whose word is not passed on, whatever it said before."""

    def __init__(self, limits: Limits, banned: Callable[[str], bool]) -> None:
        self._limits, self._banned = limits, banned
        self._of: dict[str, dict[Cid, Announced]] = {}
        self._by_root: dict[Cid, dict[str, Announced]] = {}
        self._latest: dict[str, Announced] = {}
        self._count = 0

    def keep(self, one: Announced, now_ms: int) -> None:
        """Take one, instead of an older one of the same. RemoteError("busy") when there are too many."""
        mine = self._of.get(one.did, {})
        old = mine.get(one.root)
        if old is not None and old.since_ms > one.since_ms:
            return
        if old is None and (
            len(mine) >= self._limits.announced_per_member or self._count >= self._limits.announced
        ):
            self._forget(now_ms)
            mine = self._of.get(one.did, {})
            if len(mine) >= self._limits.announced_per_member or self._count >= self._limits.announced:
                most = self._limits.announced_per_member
                raise RemoteError("busy", f"This node remembers at most {most} roots of one member.")
        self._count += old is None
        self._of.setdefault(one.did, {})[one.root] = one
        self._by_root.setdefault(one.root, {})[one.did] = one
        latest = self._latest.get(one.provider.peer)
        if latest is None or latest.since_ms <= one.since_ms:
            self._latest[one.provider.peer] = one

    def of_root(self, root: Cid, now_ms: int) -> list[Provider]:
        """Who announced a root."""
        return [one.provider for one in self._by_root.get(root, {}).values() if self._holds(one, now_ms)]

    def of_peer(self, peer: Cid, now_ms: int) -> list[Provider]:
        """A member as it announced itself last."""
        latest = self._latest.get(peerid.text_of(peer))
        return [latest.provider] if latest is not None and self._holds(latest, now_ms) else []

    def _holds(self, one: Announced, now_ms: int) -> bool:
        return one.until_ms > now_ms and not self._banned(one.did)

    def _forget(self, now_ms: int) -> None:
        """Drop what has expired."""
        self._latest = {name: one for name, one in self._latest.items() if one.until_ms > now_ms}
        for name, mine in list(self._of.items()):
            for root in [root for root, one in mine.items() if one.until_ms <= now_ms]:
                del mine[root], self._by_root[root][name]
                self._count -= 1
                if not self._by_root[root]:
                    del self._by_root[root]
            if not mine:
                del self._of[name]


class Router:
    """The handlers of `/routing`. outward: where others reach this node, by default as the asker does.

    near: members may announce addresses of a private network.
    """

    def __init__(self, host: Host, limits: Limits, outward: str | None = None, near: bool = False) -> None:
        self._host, self._limits, self._outward, self._near = host, limits, outward, near
        self._announced = Announcements(limits, host.kernel.bans.has)
        self._me = peerid.of_did(host.kernel.me)

    def routes(self) -> list[web.RouteDef]:
        """For the application."""
        return [
            web.get(f"{PATH}/providers/{{cid}}", self.providers),
            web.get(f"{PATH}/peers/{{peer}}", self.peers),
            web.post(f"{PATH}/providers", self.announce),
            web.put(f"{PATH}/providers", self.announce),
            web.options("/routing/{path:.*}", self.preflight),
            web.route("*", "/routing/{path:.*}", self.unknown),
        ]

    async def preflight(self, request: web.Request) -> web.StreamResponse:
        """May a page of another site ask? It may."""
        allowed = {
            "Access-Control-Allow-Methods": "GET, OPTIONS",
            "Access-Control-Allow-Headers": "Accept, If-Modified-Since",
        }
        return web.Response(status=204, headers=headers.always() | headers.SHARED | allowed)

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """Closest peers, IPNS and whatever else there may be."""
        return _refused(501, "This router knows providers and peers, and nothing else.")

    async def providers(self, request: web.Request) -> web.StreamResponse:
        """Who provides a CID."""
        try:
            root = v1(Cid.parse(request.match_info["cid"]))
        except CidError as error:
            return _refused(422, f"{error}.")
        found = self._announced.of_root(root, self._host.clock())
        for name in dict.fromkeys((root, v0(root))):
            if await self._host.ask(self._host.kernel.publishing.has(name)):
                found.insert(0, self._own(request))
                break
        return self._answer(request, "Providers", found)

    async def peers(self, request: web.Request) -> web.StreamResponse:
        """Where a peer is: this node, or a member that announced something."""
        try:
            peer = peerid.read(request.match_info["peer"])
        except ValueError as error:
            return _refused(422, f"{error}.")
        if peer == self._me:
            return self._answer(request, "Peers", [self._own(request)])
        return self._answer(request, "Peers", self._announced.of_peer(peer, self._host.clock()))

    async def announce(self, request: web.Request) -> web.StreamResponse:
        """Members say what they provide: for each record what became of it."""
        try:
            async with asyncio.timeout(self._limits.visitor_ms / 1000):
                asked = providers.parsed(await request.read())
        except TimeoutError:
            return _refused(408, "The announcement did not come whole in time; tell it again.")
        except ValueError as error:
            return _refused(400, f"An announcement is JSON: {error}.")
        records = asked.get("Providers") if isinstance(asked, dict) else None
        if not isinstance(records, list) or not 0 < len(records) <= AT_ONCE:
            return _refused(422, f'An announcement is {{"Providers": […]}}, with at most {AT_ONCE} records.')
        results: list[dict[str, Any]] = []
        faulty = 0
        for record in records:
            result: dict[str, Any] = {"Schema": announcement.SCHEMA}
            try:
                if faulty >= FAULTY:
                    raise RemoteError("busy", f"It was not read: {FAULTY} before it could not be taken.")
                result["TTL"] = await self._take(record)
            except RemoteError as wrong:
                if wrong.code == "not_member":
                    return _refused(403, wrong.text)
                result["Error"] = wrong.text
                faulty += 1
            results.append(result)
        told = headers.always() | {"Cache-Control": "no-store"}
        return web.json_response({"ProvideResults": results}, headers=told)

    # -- inside --------------------------------------------------------------------------------------

    async def _take(self, record: object) -> int:
        """Keep one record; for how long, milliseconds. RemoteError says what is wrong with it."""
        now_ms = self._host.clock()
        one, signed, signature = announcement.read(record, now_ms, self._limits)
        if not await self._host.ask(self._host.kernel.owner.has_met(one.did)):
            raise RemoteError("not_member", f"{one.did} is no member of this grid that this node has met.")
        if not self._near and not all(is_outward(text) for text in one.provider.addresses):
            raise RemoteError("not_permitted", "An address of a private network is not taken here.")
        await self._host.ask(announcement.check(one.did, signed, signature))
        self._announced.keep(one, now_ms)
        return one.until_ms - now_ms

    def _own(self, request: web.Request) -> Provider:
        """This node, at its outward address, or where it was reached (the guard has checked that name)."""
        url = self._outward or read_url(f"{request.scheme}://{request.headers['Host']}")
        return Provider(peerid.text_of(self._me), (multiaddr.of_url(url),), (GATEWAY,))

    def _answer(self, request: web.Request, name: str, found: Sequence[Provider]) -> web.StreamResponse:
        wanted = Filters.of(request.query).pass_on(found)[:AT_ONCE]
        keep_s = FOUND_S if wanted else NONE_S
        told = headers.always() | headers.SHARED | {
            "Cache-Control": f"public, max-age={keep_s}, stale-while-revalidate={keep_s}",
            "Vary": "Accept",
        }
        records = [one.record() for one in wanted]
        if LINES in request.headers.get("Accept", ""):
            body = b"".join(map(providers.line, records))
            return web.Response(body=body, headers=told | {"Content-Type": LINES})
        answer = web.json_response({name: records}, headers=told, content_type=JSON)
        answer.last_modified = self._host.clock() / 1000
        return answer


def is_outward(text: str) -> bool:
    """Whether an address is one of the public network's: a name counts as one until it is looked up."""
    host = urlsplit(multiaddr.url_of(text) or "").hostname or ""
    is_number = ":" in host or host.replace(".", "").isdigit()
    return guarded.is_public(host) if is_number else host not in ("", "localhost")


def _refused(status: int, text: str) -> web.Response:
    """One sentence, which any page may read."""
    return web.Response(status=status, text=f"{text}\n", headers=headers.for_refusal() | headers.SHARED)
