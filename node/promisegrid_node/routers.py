"""Routers, over HTTP: who provides a block, and the word that this node provides one.

Promises: only the address given is asked, and no redirect is followed; no cookie, credential or proxy of this
machine goes along; of an answer so many bytes, records and seconds are taken, and what had come by then
counts; addresses that lead into a private network are left out unless the owner allowed it. Does not know:
whether anything a router says is true. (Source: IPFS "Delegated Routing V1 HTTP API"; IPIP-513 for 404.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from promisegrid.cid import DAG_PB, Cid
from promisegrid.effects import Failure
from promisegrid.limits import Limits
from promisegrid_node import guarded, providers
from promisegrid_node.providers import GATEWAY, JSON, LINES, UNKNOWN, Provider

ANSWER_MAX: Final = 256 * 1024
"""Bytes of one answer: a hundred records of 2,500."""
RECORDS_MAX: Final = 128
CONNECTIONS: Final = 8
PIECE: Final = 16 * 1024
_ACCEPT: Final = {"Accept": f"{LINES}, {JSON};q=0.8"}
_WANTED: Final = {"filter-protocols": f"{GATEWAY},{UNKNOWN}", "filter-addrs": "http,https"}
_PATIENCE: Final = frozenset({429, 503})


class RouterClient:
    """Asks routers. Make it on a running loop; `close` it there. near: see `GatewayClient`."""

    def __init__(self, limits: Limits, near: bool = False) -> None:
        self._limits, self._near = limits, near
        self._session: aiohttp.ClientSession | None = None

    async def providers(self, url: str, cid: Cid) -> tuple[str, ...] | Failure:
        """See `effects.Providers`."""
        found: dict[str, None] = {}
        wrong = await self._safely(url, self._gather(url, cid, found))
        if wrong is not None and not found:
            return wrong
        return tuple(sorted(found, key=lambda one: not one.startswith("https")))

    async def announce(self, url: str, records: Sequence[dict[str, Any]]) -> list[str] | Failure:
        """Tell a router what is provided; for each record what was wrong with it, "" for nothing."""
        told: list[str] = []
        wrong = await self._safely(url, self._tell(url, records, told))
        return told if wrong is None else wrong

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()

    async def _safely(self, url: str, asking: Any) -> Failure | None:
        """Whatever goes wrong, as a Failure."""
        try:
            async with asyncio.timeout(self._limits.routing_ms / 1000):
                wrong: Failure | None = await asking
                return wrong
        except TimeoutError:
            seconds = self._limits.routing_ms // 1000
            return Failure("out_of_time", f"The router {url} did not answer within {seconds} seconds.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            what = f"{type(error).__name__}: {error}"
            return Failure("closed", f"The router {url} could not be asked: {_harmless(what)}.")

    async def _gather(self, url: str, cid: Cid, found: dict[str, None]) -> Failure | None:
        asked = self._opened().get(
            f"{url}/routing/v1/providers/{v1(cid)}", params=_WANTED, headers=_ACCEPT, allow_redirects=False
        )
        async with asked as response:
            if response.status == 404:  # older routers have no empty list
                return None
            if response.status != 200:
                return _refused(url, response)
            count = 0
            async for one in _records(response, "Providers"):
                found.update(dict.fromkeys(place for place in one.gateways() if self._may_ask(place)))
                count += 1
                if count >= RECORDS_MAX or len(found) >= self._limits.providers:
                    break
            while len(found) > self._limits.providers:
                found.popitem()
        return None

    async def _tell(self, url: str, records: Sequence[dict[str, Any]], told: list[str]) -> Failure | None:
        asked = self._opened().post(
            f"{url}/routing/v1/providers", json={"Providers": list(records)}, headers={"Accept": JSON},
            allow_redirects=False,
        )  # fmt: skip
        async with asked as response:
            if response.status in (404, 405, 501):
                return Failure("no_such_protocol", f"The router {url} takes no announcements.")
            if response.status != 200:
                return _refused(url, response)
            answer = providers.parsed(await _whole(response))
        results = answer.get("ProvideResults") if isinstance(answer, dict) else None
        if not isinstance(results, list) or len(results) != len(records):
            return Failure("closed", f"The router {url} answered an announcement with something else.")
        told += [_harmless(str(one.get("Error") or "")) if isinstance(one, dict) else "" for one in results]
        return None

    def _may_ask(self, place: str) -> bool:
        """Numbers are looked at here already; names when they are connected to, as numbers again."""
        parts = urlsplit(place)
        host = parts.hostname or ""
        is_number = ":" in host or host.replace(".", "").isdigit()
        if not guarded.is_open_port(parts.port or 443):
            return False
        return self._near or not is_number or guarded.is_public(host)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._limits.routing_ms / 1000),
            )
        return self._session


def _harmless(text: str) -> str:
    """What a stranger said, for a log or a terminal."""
    return "".join(letter for letter in text[:300] if letter.isprintable())


def v1(cid: Cid) -> Cid:
    """How routers like a CID: version 1, so that one thing has one name."""
    return cid if cid.version == 1 else Cid.decode(b"\x01\x70" + bytes(cid))


def v0(cid: Cid) -> Cid:
    """The older name of the same thing, where it has one."""
    is_old = cid.version == 1 and cid.codec == DAG_PB and bytes(cid)[2:4] == b"\x12\x20"
    return Cid.decode(bytes(cid)[2:]) if is_old else cid


def _refused(url: str, response: aiohttp.ClientResponse) -> Failure:
    code = "busy" if response.status in _PATIENCE else "closed"
    return Failure(code, f"The router {url} answered {response.status}.")


async def _records(response: aiohttp.ClientResponse, name: str) -> AsyncIterator[Provider]:
    """The records of an answer, each as it comes where the answer has one a line. ValueError for nonsense."""
    if response.content_type != LINES:
        answer = providers.parsed(await _whole(response))
        rows = (answer.get(name) if isinstance(answer, dict) else None) or []
        for row in rows if isinstance(rows, list) else []:
            if (one := providers.read(row)) is not None:
                yield one
        return
    async for line in _lines(response):
        if (one := providers.read(providers.parsed(line))) is not None:
            yield one


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Lines with anything on them. ValueError when one, or all together, are too long."""
    rest, size = b"", 0
    async for piece in response.content.iter_chunked(PIECE):
        size += len(piece)
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if size > ANSWER_MAX or len(rest) > providers.RECORD_MAX:
            raise ValueError(f"more than {ANSWER_MAX} bytes, or a line of more than {providers.RECORD_MAX}")
    if rest.strip():
        yield rest


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """The body. ValueError when it is too long."""
    data = bytearray()
    async for piece in response.content.iter_chunked(PIECE):
        data += piece
        if len(data) > ANSWER_MAX:
            raise ValueError(f"more than {ANSWER_MAX} bytes")
    return bytes(data)
