"""Tells routers what this node's owner published: at the start, when something is published, now and then.

Promises: nothing else is told, and nothing unless a router was named; a router that does not answer is told
later, after a longer time each time. What is published no longer cannot be taken back there: it expires, and
until then whoever comes is told here that it is not to be had.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from promisegrid.cid import Cid
from promisegrid.effects import Failure
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid_node import announcement, multiaddr
from promisegrid_node.host import Host
from promisegrid_node.routers import RouterClient

BATCH: Final = 50
"""Records told at once: some 35 kB."""
RETRY_S: Final = 15.0
RETRY_MAX_S: Final = 3600.0
log = logging.getLogger("promisegrid")


class Announcer:
    """One node's word to its routers. url: where others find this node. `run` it while the node is up."""

    def __init__(self, host: Host, limits: Limits, routers: Sequence[str], url: str) -> None:
        self._host, self._limits, self._routers, self.url = host, limits, list(routers), url
        self._client = RouterClient(limits)
        self._told: dict[str, dict[Cid, int]] = {url: {} for url in routers}
        self._refused: set[str] = set()
        self._changed = asyncio.Event()
        self._busy = asyncio.Lock()

    async def run(self) -> None:
        """Until cancelled."""
        self._host.kernel.publishing.changed = self._changed.set
        wait_s = RETRY_S
        try:
            while True:
                self._changed.clear()
                failed = await self._round()
                rest_s = wait_s if failed else self._limits.announced_ms / 4000
                wait_s = min(wait_s * 2, RETRY_MAX_S) if failed else RETRY_S
                try:
                    async with asyncio.timeout(rest_s):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            await self._client.close()

    async def announce(self, roots: Sequence[Cid]) -> list[dict[str, str]]:
        """Tell every router of these roots now: [{cid, router, error}], error "" where it was taken."""
        rows: list[dict[str, str]] = []
        async with self._busy:
            for router in self._routers:
                for at in range(0, len(roots), BATCH):
                    batch = roots[at : at + BATCH]
                    for root, error in zip(batch, await self._tell(router, batch), strict=True):
                        rows.append({"cid": str(root), "router": router, "error": error})
        return rows

    async def published(self) -> list[Cid]:
        """The roots that are published, so many at most."""
        roots, after = list[Cid](), b""
        while len(roots) < self._limits.announced:
            page = await self._host.ask(self._host.kernel.publishing.page(after))
            if not page:
                break
            roots += [one.cid for one in page]
            after = bytes(page[-1].cid)
        return roots[: self._limits.announced]

    async def _round(self) -> bool:
        """Tell every router what is due; whether any failed that may do better later."""
        failed = False
        roots = await self.published()
        now_ms = self._host.clock()
        for router in [one for one in self._routers if one not in self._refused]:
            told = self._told[router]
            due = [root for root in roots if told.get(root, 0) <= now_ms]
            for at in range(0, len(due), BATCH):
                async with self._busy:
                    errors = await self._tell(router, due[at : at + BATCH])
                failed = failed or any(errors)
        return failed and len(self._refused) < len(self._routers)

    async def _tell(self, router: str, roots: Sequence[Cid]) -> list[str]:
        """What was wrong with each, "" for nothing. Never raises for what a router does."""
        address, now_ms = [multiaddr.of_url(self.url)], self._host.clock()
        ttl_ms, me = self._limits.announced_ms, self._host.kernel.me
        records: list[dict[str, Any]] = []
        try:
            for root in roots:
                made = announcement.make(root, me, address, ttl_ms, now_ms)
                records.append(await self._host.ask(made))
        except RemoteError as wrong:
            return [wrong.text] * len(roots)
        told = await self._client.announce(router, records)
        if isinstance(told, Failure):
            if told.code == "no_such_protocol":
                self._refused.add(router)
            log.warning("%s", told.text)
            return [told.text] * len(roots)
        for root, error in zip(roots, told, strict=True):
            if not error:
                self._told[router][root] = now_ms + ttl_ms // 2
            else:
                log.warning("the router %s did not take %s: %s", router, root, error)
        return told
