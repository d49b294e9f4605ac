"""Links that have not proved who they are, counted by where they come from: one address holds only so many.

An address is what the connection says; of IPv6, the 64 bits a network is given, since whoever has one address
there has them all. Does not know what a proof is: the kernel tells of every link that is open.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from typing import Any

from promisegrid_node.host import Host


class Greeters:
    """The strangers of one node: at most `most` of one address at a time."""

    def __init__(self, host: Host, most: int) -> None:
        self._most = most
        self._place: dict[int, str] = {}
        self._count: Counter[str] = Counter()
        host.subscribe(self._heard)

    def __len__(self) -> int:
        return len(self._place)

    def may_come(self, remote: str | None) -> bool:
        """Whether one more of this address may connect."""
        return self._count[place(remote)] < self._most

    def came(self, link: int, remote: str | None) -> None:
        """A link is there and has proved nothing yet."""
        self._place[link] = place(remote)
        self._count[self._place[link]] += 1

    def done(self, link: int) -> bool:
        """A link has proved who it is, or is gone. Whether it was a stranger until now."""
        where = self._place.pop(link, None)
        if where is not None:
            self._count[where] -= 1
            if not self._count[where]:
                del self._count[where]
        return where is not None

    def _heard(self, kind: str, detail: Mapping[str, Any]) -> None:
        if kind == "peer" and detail.get("event") == "up":
            self.done(detail["link"])


def place(remote: str | None) -> str:
    """What of an address counts: an IPv4 address, or the network of an IPv6 one."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
