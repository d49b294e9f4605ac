"""Where a member can be dialled, as it says itself, signed.

An address is a tagged COSE_Sign1 (typ `grid-address`, attached) over dag-cbor `{grid, by, urls, until}`:
`urls` are ws or wss addresses of `by`'s endpoint `/grid`, none for a member that cannot be dialled, such as a
tab; `until` is seconds since 1970. It proves that `by` said so, not that it is there: a link's greeting does.

What may be dialled is decided by the host; here an address is only held to its form, so that it can name no
page, port or secret of somebody else's making beyond host and port.
"""

from __future__ import annotations

import re
from typing import Final

from promisegrid import cose, dagcbor
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen

ADDRESS_MAX: Final = 3072
"""Bytes of one: a name of 1,600 characters and some addresses."""
URLS_MAX: Final = 4
"""Addresses of one member: by name, by IPv4 and IPv6, in its LAN."""
LIFE_S: Final = 3600
"""How long one is good for: who moves is found again within the hour."""
_URL: Final = re.compile(r"wss?://(\[[0-9a-f:.]{2,45}\]|[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)(:[1-9]\d{0,4})?/grid")


@frozen
class Address:
    """Where `by` can be dialled, until then (seconds since 1970)."""

    by: str
    urls: tuple[str, ...]
    until: int


def is_url(text: object) -> bool:
    """Whether a text is the address of a node's endpoint, in its one spelling."""
    return isinstance(text, str) and len(text) <= 300 and _URL.fullmatch(text) is not None


async def seal(grid: Cid, by: str, urls: tuple[str, ...], now_ms: int) -> bytes:
    """This node's own address, signed; for `LIFE_S` from now on."""
    said = {"grid": grid, "by": by, "urls": list(urls), "until": now_ms // 1000 + LIFE_S}
    return await cose.sign("grid-address", dagcbor.encode(said), detached=False)


def read(data: bytes, grid: Cid) -> tuple[Address, cose.Sign1]:
    """An address as claimed; nothing is verified. RemoteError("malformed")."""
    if len(data) > ADDRESS_MAX:
        raise RemoteError("malformed", f"An address of {len(data)} bytes; at most {ADDRESS_MAX}.")
    sign1 = cose.read(data, "grid-address")
    try:
        said = dagcbor.decode(sign1.payload or b"")
    except ValueError as error:
        raise RemoteError("malformed", f"Not an address: {error}.") from error
    if not isinstance(said, dict) or said.keys() != {"grid", "by", "urls", "until"} or said["grid"] != grid:
        raise RemoteError("malformed", "Not an address of this grid: it says grid, by, urls and until.")
    by, urls, until = said["by"], said["urls"], said["until"]
    named = isinstance(by, str) and 0 < len(by) <= DID_MAX and type(until) is int
    if not named or not isinstance(urls, list) or len(urls) > URLS_MAX or not all(map(is_url, urls)):
        raise RemoteError("malformed", f"Not an address: at most {URLS_MAX} of ws(s)://HOST[:PORT]/grid.")
    return Address(by, tuple(urls), until), sign1


async def verify(data: bytes, grid: Cid, now_ms: int, skew_ms: int) -> Address:
    """An address that holds now. RemoteError: malformed, expired, bad_signature, bad_claims."""
    address, sign1 = read(data, grid)
    if not now_ms - skew_ms <= address.until * 1000 <= now_ms + skew_ms + LIFE_S * 1000:
        raise RemoteError("expired", f"The address of {address.by} is not of now.")
    if not await cose.holds(sign1, sign1.payload or b"", address.by):
        raise RemoteError("bad_signature", f"{address.by} did not sign this address.")
    return address
