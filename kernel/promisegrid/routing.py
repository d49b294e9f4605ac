"""Content from people who are not in the grid: gateways, and whom routers know to provide a block.

A router is a server that its owner named; it says who provides a block ("delegated routing"). Those it names
are strangers with an address: each is asked as a gateway is, its bytes are a block only if they hash to its
CID, and the host sees to it that the address leads nowhere private. Who sent one block is asked for the next
before any router is, because routers mostly know roots.

Promises: without a router nobody is asked and nothing is told; a router learns which blocks this node lacks,
never what it has. Does not know: HTTP, nor how what is published here is announced.
(Source: IPFS "Delegated Routing V1 HTTP API".)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from promisegrid.cid import Cid
from promisegrid.effects import Providers
from promisegrid.errors import LocalError, RemoteError
from promisegrid.gateways import Gateways, read_url
from promisegrid.hedging import either
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal, Slots


@dataclass(slots=True)
class _Router:
    """One router, and how it did."""

    url: str
    failures: int = 0
    aside_until_ms: int = 0


@dataclass(slots=True)
class _Answers:
    """What routers said so far. heard: somebody was named, or nobody is left to answer; ended: the latter."""

    left: int
    heard: Signal[None]
    ended: Signal[None]
    urls: list[str] = field(default_factory=list)
    wrong: list[RemoteError] = field(default_factory=list)


class Routing:
    """What one node asks beyond its grid. `holds` checks bytes against a CID."""

    def __init__(
        self, state: State, gateways: Gateways, holds: Callable[[Cid, bytes], Awaitable[bool]]
    ) -> None:
        self._state, self._gateways = state, gateways
        self._found = Gateways(state, holds, is_found=True)
        self._routers: dict[str, _Router] = {}
        self._slots = Slots(state.scheduler, state.limits.routers_at_once, state.limits.fetch_blocks)
        self._nobody: dict[Cid, int] = {}
        self.own: str | None = None
        """Where others find this node, which need not ask itself; the host sets it."""

    # -- the owner's verbs ---------------------------------------------------------------------------

    def use(self, text: str) -> str:
        """Ask this router too, until the node stops; how its address is written. LocalError."""
        url = read_router(text)
        if url not in self._routers:
            if len(self._routers) >= self._state.limits.routers:
                most = self._state.limits.routers
                raise LocalError(f"At most {most} routers are asked; leave {url} out.", "too_large")
            self._routers[url] = _Router(url)
        return url

    def ls(self) -> list[str]:
        """The routers that are asked."""
        return list(self._routers)

    def found(self) -> list[dict[str, Any]]:
        """The gateways that were found, as `Gateways.ls`."""
        return self._found.ls()

    async def providers(self, cid: Cid, routers: Sequence[str] = ()) -> list[str]:
        """The gateways that routers name for a block, each once; these routers, else those in use.

        Once one has named somebody, the others have `hedge_ms` to do so too.
        RemoteError when none could be asked: busy, out_of_time, closed; not_found when there are none.
        """
        now_ms, given = self._state.steady_ms, [_Router(read_router(text)) for text in routers]
        asked = given or [one for one in self._routers.values() if one.aside_until_ms <= now_ms]
        if not asked:
            text = "There is no router to ask just now; `promisegrid up --routing URL` names one."
            raise RemoteError("not_found", text)
        scheduler = self._state.scheduler
        answers = _Answers(len(asked), scheduler.signal(), scheduler.signal())
        strands = [scheduler.spawn(self._hear(one, cid, answers)) for one in asked]
        try:
            await answers.heard
            await Pause(answers.ended, self._state.limits.hedge_ms)
        except Late:
            pass  # the slow ones are not waited for
        finally:
            for strand in strands:
                scheduler.cancel(strand)
        if len(answers.wrong) == len(asked):
            raise answers.wrong[0]
        return list(dict.fromkeys(answers.urls))[: self._state.limits.providers]

    # -- asking --------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether there is anybody to ask now."""
        return self._gateways.any or bool(self._routers)

    async def ask(self, cid: Cid) -> bytes:
        """A verified block: from gateways; from those found too. RemoteError: not_found, bad_block."""
        if not self._routers:
            return await self._gateways.ask(cid)
        if not self._gateways.any:
            return await self._from_found(cid)
        asked = self._gateways.ask(cid)
        hedge_ms = self._state.limits.hedge_ms
        return await either(self._state.scheduler, asked, lambda: self._from_found(cid), hedge_ms)

    async def _from_found(self, cid: Cid) -> bytes:
        """A block from who sent one lately, else from whom the routers name."""
        limits = self._state.limits
        known = self._found.lately(limits.provider_ms)
        if not known:
            return await self._from_named(cid, known)
        asked = self._found.ask(cid, known)
        return await either(
            self._state.scheduler, asked, lambda: self._from_named(cid, known), limits.hedge_ms
        )

    async def _from_named(self, cid: Cid, but: list[str]) -> bytes:
        """A block from whom the routers name for it, but those that are being asked already."""
        nobody = RemoteError("not_found", f"No router knows anybody else who provides {cid}.")
        if self._nobody.get(cid, 0) > self._state.steady_ms:
            raise nobody
        try:
            urls = [url for url in await self.providers(cid) if url not in but and url != self.own]
        except RemoteError as wrong:
            if wrong.code == "cancelled":
                raise
            raise RemoteError("not_found", f"Nobody who provides {cid} was found: {wrong.text}") from wrong
        if not urls:
            self._note_nobody(cid)
            raise nobody
        self._found.learn(urls)
        return await self._found.ask(cid, urls)

    async def _hear(self, router: _Router, cid: Cid, answers: _Answers) -> None:
        """Ask one router among others."""
        try:
            answers.urls += await self._named_by(router, cid)
        except RemoteError as wrong:
            answers.wrong.append(wrong)
        answers.left -= 1
        if answers.urls or not answers.left:
            answers.heard.set(None)
        if not answers.left:
            answers.ended.set(None)

    async def _named_by(self, router: _Router, cid: Cid) -> tuple[str, ...]:
        """What one router says; one that fails again and again is left alone for a while."""
        await self._slots.take()
        try:
            named: tuple[str, ...] = await Providers(router.url, cid)
        except RemoteError as wrong:
            limits = self._state.limits
            router.failures += wrong.code != "cancelled"
            if wrong.code == "busy" or router.failures >= limits.gateway_failures:
                router.aside_until_ms = self._state.steady_ms + limits.gateway_aside_ms
            raise
        finally:
            self._slots.give()
        router.failures = 0
        return named

    def _note_nobody(self, cid: Cid) -> None:
        """Remember for a while that a block has no provider; the oldest make room."""
        self._nobody.pop(cid, None)
        if len(self._nobody) >= self._state.limits.nobody:
            del self._nobody[next(iter(self._nobody))]
        self._nobody[cid] = self._state.steady_ms + self._state.limits.nobody_ms


def read_router(text: str) -> str:
    """A router's address as a person gives it, without /routing/v1, in one spelling. LocalError."""
    return read_url(text.strip().rstrip("/").removesuffix("/routing/v1"))
