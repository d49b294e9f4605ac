"""Blocks from trustless gateways over HTTP: the host's half of `effects.Gateway`.

Promises: only the address given is asked, and no redirect is followed; no cookie, credential or proxy of this
machine goes along; at most a block's bytes are taken, within the time there is; whatever goes wrong is a
`Failure`. Does not know: which gateways there are, nor whether the bytes are the block.
"""

from __future__ import annotations

from typing import Final

import aiohttp

from promisegrid.cid import Cid
from promisegrid.effects import Failure
from promisegrid.limits import Limits
from promisegrid_node.headers import RAW_TYPE

CONNECTIONS: Final = 32
PIECE: Final = 64 * 1024
NONE_HERE: Final = frozenset({404, 410, 451})
PATIENCE: Final = frozenset({429, 503})


class GatewayClient:
    """Asks gateways. Make it on a running loop; `close` it there."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._session: aiohttp.ClientSession | None = None

    async def block(self, url: str, cid: Cid) -> bytes | Failure | None:
        """See `effects.Gateway`."""
        try:
            return await self._ask(url, cid)
        except (TimeoutError, aiohttp.ServerTimeoutError):
            seconds = self._limits.gateway_ms // 1000
            return Failure("out_of_time", f"{url} did not send {cid} within {seconds} seconds.")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Failure("closed", f"{url} could not be asked: {type(error).__name__}: {error}.")

    async def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            await self._session.close()

    async def _ask(self, url: str, cid: Cid) -> bytes | Failure | None:
        accept = {"Accept": RAW_TYPE, "Accept-Encoding": "identity"}
        asked = self._opened().get(
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

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=self._limits.gateway_ms / 1000),
            )
        return self._session

