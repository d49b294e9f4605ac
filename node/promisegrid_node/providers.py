"""Who provides content, as routers say it: records of the schema `peer`, in JSON, one answer or one a line.

Promises: what is read of others' records is bounded and of the right types; of those, gateways are the ones
that say so, or say nothing of protocols and have a web server's address. Filters are the standard's.
(Source: IPFS "Delegated Routing V1 HTTP API"; IPIP-484 for the filters, IPIP-518 for URLs among addresses.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from promisegrid_node import multiaddr

GATEWAY: Final = "transport-ipfs-gateway-http"
LINES: Final = "application/x-ndjson"
JSON: Final = "application/json"
UNKNOWN: Final = "unknown"
RECORD_MAX: Final = 16 * 1024
"""Bytes of one line; a peer with a hundred addresses takes 8,000."""
ADDRESSES_MAX: Final = 64
PROTOCOLS_MAX: Final = 32
TEXT_MAX: Final = 512


@dataclass(frozen=True, slots=True)
class Provider:
    """One record. peer: a Peer ID as it was written; protocols: empty when the router does not know."""

    peer: str
    addresses: tuple[str, ...]
    protocols: tuple[str, ...]

    def gateways(self) -> list[str]:
        """The web addresses of a trustless gateway, those with TLS first; none when it is something else."""
        if self.protocols and GATEWAY not in self.protocols:
            return []
        urls = dict.fromkeys(url for text in self.addresses if (url := multiaddr.url_of(text)) is not None)
        return sorted(urls, key=lambda url: not url.startswith("https"))

    def record(self) -> dict[str, Any]:
        """As it goes into JSON."""
        told = {"Schema": "peer", "ID": self.peer, "Addrs": list(self.addresses)}
        return {**told, "Protocols": list(self.protocols)}


def read(value: object) -> Provider | None:
    """A record of others; None for one that is not of a schema this node knows."""
    if not isinstance(value, Mapping) or not isinstance(value.get("ID"), str):
        return None
    protocols = _texts(value.get("Protocols"), PROTOCOLS_MAX)
    if isinstance(value.get("Protocol"), str):  # the schemas before `peer` had one
        protocols = (*protocols, value["Protocol"])
    return Provider(value["ID"][:TEXT_MAX], _texts(value.get("Addrs"), ADDRESSES_MAX), protocols)


def _texts(value: object, most: int) -> tuple[str, ...]:
    found = value[:most] if isinstance(value, list) else []
    return tuple(one for one in found if isinstance(one, str) and len(one) <= TEXT_MAX)


def parsed(data: bytes | str) -> Any:
    """JSON of a stranger. ValueError when it is none, or nested too deeply to be a record."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def line(record: Mapping[str, Any]) -> bytes:
    """A record as one line."""
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Filters:
    """What a reader wants to hear of; lower-case names, those of `not_addresses` without their mark."""

    addresses: frozenset[str] = frozenset()
    not_addresses: frozenset[str] = frozenset()
    protocols: frozenset[str] = frozenset()

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Filters:
        """From a query's filter-addrs and filter-protocols, each names with commas between."""
        addresses = _names(query.get("filter-addrs", ""))
        unwanted = frozenset(name for name in addresses if name.startswith("!"))
        return cls(
            addresses - unwanted,
            frozenset(name[1:] for name in unwanted),
            _names(query.get("filter-protocols", "")),
        )

    def pass_on(self, given: Iterable[Provider]) -> list[Provider]:
        """Those that are wanted, with their wanted addresses."""
        shown = (self._with_addresses(one) for one in given if self._has_protocol(one))
        return [one for one in shown if one is not None]

    def _has_protocol(self, one: Provider) -> bool:
        if not self.protocols:
            return True
        return bool(self.protocols & {name.lower() for name in one.protocols or (UNKNOWN,)})

    def _with_addresses(self, one: Provider) -> Provider | None:
        if not self.addresses and not self.not_addresses:
            return one
        if not one.addresses:
            return one if UNKNOWN in self.addresses else None
        kept = tuple(text for text in one.addresses if self._wants(multiaddr.names_of(text)))
        return Provider(one.peer, kept, one.protocols) if kept else None

    def _wants(self, names: frozenset[str]) -> bool:
        if names & self.not_addresses:
            return False
        return not self.addresses or bool(names & self.addresses)


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in text[:1024].split(",") if name.strip())
