"""Blocks from trustless gateways over HTTP: the host's half of `effects.Gateway` and `effects.Providers`.

Promises: only the address given is asked, and no redirect is followed; one that a stranger named is asked
only on the public network; no cookie, credential or proxy of this machine goes along; at most a block's bytes
are taken, within the time there is; whatever goes wrong is a `Failure`. Does not know: which gateways there
are, nor whether the bytes are the block.
"""

from __future__ import annotations

from typing import Final

import aiohttp

from promisegrid.cid import Cid
from promisegrid.effects import Failure
from promisegrid.limits import Limits
from promisegrid_node import guarded
from promisegrid_node.headers import RAW_TYPE
from promisegrid_node.routers import RouterClient

CONNECTIONS: Final = 32
PIECE: Final = 64 * 1024
NONE_HERE: Final = frozenset({404, 410, 451})
PATIENCE: Final = frozenset({429, 503})


class GatewayClient:
    """Asks gateways, and routers. Make it on a running loop; `close` it there.

    near: the owner lets strangers name addresses of his own network.
    """

    def __init__(self, limits: Limits, near: bool = False) -> None:
        self._limits, self._near = limits, near
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._routers = RouterClient(limits, near)

    async def providers(self, url: str, cid: Cid) -> tuple[str, ...] | Failure:
        """See `effects.Providers`."""
        return await self._routers.providers(url, cid)

    async def block(self, url: str, cid: Cid, is_found: bool = False) -> bytes | Failure | None:
        """See `effects.Gateway`."""
        try:
            return await self._ask(self._opened(is_found), url, cid)
        except (TimeoutError, aiohttp.ServerTimeoutError):
            seconds = self._limits.gateway_ms // 1000
            return Failure("out_of_time", f"{url} did not send {cid} within {seconds} seconds.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failure("closed", f"{url} could not be asked: {type(error).__name__}: {error}.")

    async def close(self) -> None:
        """Hang up."""
        await self._routers.close()
        for session in self._sessions.values():
            await session.close()

    async def _ask(self, session: aiohttp.ClientSession, url: str, cid: Cid) -> bytes | Failure | None:
        accept = {"Accept": RAW_TYPE, "Accept-Encoding": "identity"}
        asked = session.get(
            f"{url}/ipfs/{cid}", params={"format": "raw"}, headers=accept, allow_redirects=False
        )
        async with asked as response:
            if response.status in NONE_HERE:
                return None
            if response.status in PATIENCE:
                return Failure("busy", f"{url} asks for patience ({response.status}).")
            if response.status != 200:
                there = " to another address; name that one" if 300 <= response.status < 400 else ""
                return Failure("closed", f"{url} answered {response.status}{there}.")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                return Failure("closed", f"{url} sent bytes in a coding that was not asked for.")
            return await self._body(url, response)

    async def _body(self, url: str, response: aiohttp.ClientResponse) -> bytes | Failure:
        most = self._limits.block_bytes
        data = bytearray()
        if (response.content_length or 0) <= most:
            async for piece in response.content.iter_chunked(PIECE):
                data += piece
                if len(data) > most:
                    break
            else:
                return bytes(data)
        response.close()
        return Failure("too_large", f"{url} sent more than a block's {most} bytes.")

    def _opened(self, is_found: bool) -> aiohttp.ClientSession:
        """Connections to the owner's gateways and to strangers' are kept apart."""
        if is_found not in self._sessions:
            plain = aiohttp.TCPConnector(limit=CONNECTIONS) if not is_found else None
            self._sessions[is_found] = aiohttp.ClientSession(
                connector=plain or guarded.connector(self._near),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=self._limits.gateway_ms / 1000),
            )
        return self._sessions[is_found]
