"""Trustless gateways, those that the owner named and those that were found: asked for what no peer has.

Promises: only addresses the owner gave are asked, or (`is_found`) those that strangers named, which the host
is told; in the order given, the next one as soon as one has nothing, fails, or lets `hedge_ms` pass; what
they send is a block only if it hashes to its CID. A gateway that fails again and again, asks for patience or
lies is left alone for a while, longer each time.
Does not know: HTTP. The host performs `effects.Gateway`. (Source: IPFS "Trustless Gateway Specification".)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Gateway, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal, Slots, Strand

_KEY: Final = b"gateways"
_URL_MAX: Final = 512


@dataclass(slots=True)
class _Place:
    """One gateway. is_kept: named for good, not for this start only; gave_ms: when it last sent a block."""

    url: str
    is_kept: bool
    slots: Slots
    failures: int = 0
    aside_until_ms: int = 0
    gave_ms: int = -1


class Gateways:
    """Gateways of one node. `holds` checks bytes against a CID; is_found: strangers named their addresses."""

    def __init__(
        self, state: State, holds: Callable[[Cid, bytes], Awaitable[bool]], is_found: bool = False
    ) -> None:
        self._state, self._holds, self._is_found = state, holds, is_found
        self._places: dict[str, _Place] = {}

    # -- the owner's verbs ---------------------------------------------------------------------------

    async def load(self) -> None:
        """Read what was kept."""
        (kept,) = await Load("grid", (_KEY,))
        for url in dagcbor.decode(kept) if kept is not None else []:
            self._places[url] = self._place(url, True)

    def use(self, text: str) -> str:
        """Ask this gateway too, until the node stops; how its address is written. LocalError."""
        url = read_url(text)
        if url not in self._places:
            self._must_fit()
            self._places[url] = self._place(url, False)
        return url

    async def add(self, text: str) -> str:
        """Name a gateway, durably; how its address is written. LocalError for none, or one too many."""
        url = self.use(text)
        self._places[url].is_kept = True
        await self._keep()
        return url

    async def remove(self, text: str) -> str:
        """Ask a gateway no more. LocalError when it is not asked."""
        url = read_url(text)
        if url not in self._places:
            raise LocalError(
                f"{url} is not asked anyway; `promisegrid gateways` lists those that are.", "not_found"
            )
        del self._places[url]
        await self._keep()
        return url

    def ls(self) -> list[dict[str, Any]]:
        """{"url", "kept", "failures", "aside_ms" (how long it is left alone yet)}, in the order asked."""
        now_ms = self._state.steady_ms
        return [
            {
                "url": place.url,
                "kept": place.is_kept,
                "failures": place.failures,
                "aside_ms": max(0, place.aside_until_ms - now_ms),
            }
            for place in self._places.values()
        ]

    # -- those that were found -----------------------------------------------------------------------

    def learn(self, urls: Collection[str]) -> None:
        """Ask these too, as `read_url` writes them; those that gave nothing for longest make room."""
        for url in urls:
            if url in self._places:
                continue
            if len(self._places) >= self._state.limits.gateways:
                del self._places[min(self._places.values(), key=lambda place: place.gave_ms).url]
            self._places[url] = self._place(url, False)

    def lately(self, within_ms: int) -> list[str]:
        """Those that sent a block within that time, the latest first."""
        since_ms = self._state.steady_ms - within_ms
        gave = [place for place in self._places.values() if place.gave_ms >= max(since_ms, 0)]
        return [place.url for place in sorted(gave, key=lambda place: -place.gave_ms)]

    # -- asking --------------------------------------------------------------------------------------

    @property
    def any(self) -> bool:
        """Whether there is one to ask now."""
        return any(place.aside_until_ms <= self._state.steady_ms for place in self._places.values())

    async def ask(self, cid: Cid, among: Collection[str] | None = None) -> bytes:
        """A verified block, from one of those named if any are. RemoteError: not_found, bad_block."""
        places = [one for one in self._places.values() if one.aside_until_ms <= self._state.steady_ms]
        if among is not None:
            places = [one for one in places if one.url in among]
        first: Signal[bytes] = self._state.scheduler.signal()
        tries: list[Strand[None]] = []
        lied: list[str] = []
        deadline = self._state.steady_ms + self._state.limits.gateway_ms
        try:
            for place in places:
                tries.append(self._state.scheduler.spawn(self._try(place, cid, first, lied)))
                await _over(tries[-1], self._state.limits.hedge_ms)
                if first.is_set:
                    return first.get()
            for one in tries:
                await _over(one, max(1, deadline - self._state.steady_ms))
                if first.is_set:
                    return first.get()
        finally:
            for one in tries:
                self._state.scheduler.cancel(one)
        if lied:
            raise RemoteError("bad_block", f"{lied[0]} sent bytes that do not hash to {cid}.")
        raise RemoteError("not_found", f"None of {len(places)} gateways has {cid}.")

    async def _try(self, place: _Place, cid: Cid, first: Signal[bytes], lied: list[str]) -> None:
        """Ask one gateway; sets `first` when it sends the block."""
        await place.slots.take()
        try:
            data = await Gateway(place.url, cid, self._is_found)
        except RemoteError as wrong:
            if wrong.code != "cancelled":
                self._failed(place, wrong.code)
            return
        finally:
            place.slots.give()
        if data is not None and not await self._holds(cid, data):
            lied.append(place.url)
            self._failed(place, "bad_block")
            return
        place.failures = 0
        if data is not None:
            place.gave_ms = self._state.steady_ms
            first.set(data)

    def _failed(self, place: _Place, code: str) -> None:
        """Count a failure; leave a gateway alone that asks for it, lies, or has failed too often."""
        limits = self._state.limits
        place.failures += 1
        times = place.failures - limits.gateway_failures
        if code == "bad_block":
            wait_ms = limits.gateway_aside_max_ms
        elif code == "busy" or times >= 0:
            wait_ms = min(limits.gateway_aside_ms << max(0, min(times, 16)), limits.gateway_aside_max_ms)
        else:
            return
        place.aside_until_ms = self._state.steady_ms + wait_ms

    # -- inside --------------------------------------------------------------------------------------

    def _place(self, url: str, is_kept: bool) -> _Place:
        limits = self._state.limits
        return _Place(url, is_kept, Slots(self._state.scheduler, limits.gateway_at_once, limits.fetch_blocks))

    def _must_fit(self) -> None:
        if len(self._places) >= self._state.limits.gateways:
            text = f"At most {self._state.limits.gateways} gateways are asked; take one away first."
            raise LocalError(text, "too_large")

    async def _keep(self) -> None:
        kept = [place.url for place in self._places.values() if place.is_kept]
        await Commit((Write("grid", _KEY, dagcbor.encode(kept) if kept else None),))


async def _over(strand: Strand[None], wait_ms: int) -> None:
    """Wait until a try is over, or time is up. RemoteError("cancelled") when whoever waits is cancelled."""
    try:
        await Pause(strand.done, wait_ms)
    except Late:
        return


def read_url(text: str) -> str:
    """A gateway's address as a person gives it, in one spelling: scheme, host, port, perhaps a path.

    LocalError says what such an address looks like.
    """
    wrong = LocalError(
        f"{text[:80]!r} is not the address of a gateway, such as https://ipfs.example or http://10.0.0.7:8080.",
        "bad_args",
    )
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise wrong from None
    clean = (
        len(text) <= _URL_MAX and text.isascii() and text.strip().isprintable() and " " not in text.strip()
    )
    if not clean or parts.scheme not in ("http", "https") or not host:
        raise wrong
    if parts.query or parts.fragment or "@" in parts.netloc or "\\" in text or ".." in parts.path.split("/"):
        raise wrong
    if any(mark in text for mark in ";,'\"<>*"):
        raise wrong
    shown = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme]
    place = shown if port is None or port == default else f"{shown}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/').removesuffix('/ipfs').rstrip('/')}"
