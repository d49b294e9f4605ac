"""What a reader of the gateway asks for: read from the query and from Accept, refused in one sentence.

Knows HTTP's texts and nothing of content. (Source: IPFS "Trustless Gateway Specification"; RFC 9110, 12.5.1.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from promisegrid.selection import Scope, Span, Wanted
from promisegrid_node import headers
from promisegrid_node.headers import CAR_TYPE, RAW_TYPE, RECORD_TYPE

FORMATS: Final = {"raw": RAW_TYPE, "car": CAR_TYPE, "ipns-record": RECORD_TYPE}
_SCOPES: Final[dict[str, Scope]] = {"block": "block", "entity": "entity", "all": "all"}
_SPAN: Final = re.compile(r"(-?\d{1,18}):(\*|-?\d{1,18})")
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
ACCEPT_MAX: Final = 2048


@dataclass(frozen=True, slots=True)
class Asked:
    """A representation: a media type of `FORMATS`, or "" for the file itself; its parameters, from Accept.

    is_named: the query says which.
    """

    kind: str
    parameters: Mapping[str, str]
    is_named: bool


def asked(query: Mapping[str, str], accept: str) -> Asked:
    """What representation is wanted: the query says so, else Accept does. Raises HTTPNotAcceptable."""
    offers = _offers(accept[:ACCEPT_MAX])
    if "format" in query:
        kind = FORMATS.get(query["format"])
        if kind is None:
            raise refused(406, "format is raw, car or ipns-record; without one the file itself is sent.")
        return Asked(kind, next((given for name, _, given in offers if name == kind), {}), True)
    for name, _, given in offers:
        if name in FORMATS.values():
            return Asked(name, given, False)
        if name in ("*/*", "text/html", "application/*"):
            break
    return Asked("", {}, False)


def _offers(accept: str) -> list[tuple[str, float, dict[str, str]]]:
    """The media types of an Accept header, the dearest first: (type, q, its other parameters)."""
    offers: list[tuple[str, float, dict[str, str]]] = []
    for part in accept.split(","):
        name, *rest = (piece.strip() for piece in part.split(";"))
        given = {
            key.strip().lower(): value.strip().strip('"')
            for key, _, value in (p.partition("=") for p in rest)
        }
        try:
            weight = float(given.pop("q", "1"))
        except ValueError:
            weight = 0.0
        if name and weight > 0:
            offers.append((name.lower(), weight, given))
    return sorted(offers, key=lambda offer: -offer[1])


def car(query: Mapping[str, str], given: Mapping[str, str]) -> Wanted:
    """Which CAR is wanted. HTTPBadRequest for what cannot be read, HTTPNotAcceptable for what is not made."""
    said = {name: query.get(f"car-{name}", given.get(name, usual)) for name, usual in _USUAL.items()}
    for name, known in _KNOWN.items():
        if said[name] not in known:
            raise refused(
                406, f"A CAR with {name}={said[name][:40]} is not made here; {' or '.join(known)} is."
            )
    scope = _SCOPES.get(query.get("dag-scope", "all"))
    if scope is None:
        raise refused(400, "dag-scope is block, entity or all.")
    repeats = said["dups"] == "y"
    if "entity-bytes" not in query:
        return Wanted(scope, None, repeats)
    found = _SPAN.fullmatch(query["entity-bytes"])
    if found is None:
        raise refused(400, "entity-bytes is FROM:TO, such as 0:1023, 512:* or -1024:*.")
    first, last = int(found[1]), None if found[2] == "*" else int(found[2])
    if last is not None and last < first and (last < 0) == (first < 0):
        raise refused(400, f"entity-bytes={found[0]} ends before it begins.")
    return Wanted("entity", Span(first, last), repeats)


_USUAL: Final = {"version": "1", "order": "dfs", "dups": "n"}
_KNOWN: Final = {"version": ("1",), "order": ("dfs", "unk", ""), "dups": ("n", "y")}


def byte_range(text: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) of a file as a Range header asks; None for all of it.

    Raises HTTPRequestRangeNotSatisfiable.
    Several ranges, and what cannot be read, are answered with all of it.
    """
    found = None if text is None else _RANGE.fullmatch(text.replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    if not found[1]:
        start, stop = max(0, size - int(found[2])), size
    else:
        start, stop = int(found[1]), min(size, int(found[2] or size) + 1)
        if found[2] and int(found[2]) < start:
            return None
    if start >= stop:
        raise refused(416, f"The file has {size} bytes.", {"Content-Range": f"bytes */{size}"})
    return start, stop


def is_known(header: str | None, etag: str) -> bool:
    """Whether If-None-Match names this entity tag."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags


def refused(status: int, text: str, more: Mapping[str, str] | None = None) -> web.HTTPException:
    """One sentence as an answer, to be raised."""
    kinds: dict[int, type[web.HTTPException]] = {
        400: web.HTTPBadRequest,
        403: web.HTTPForbidden,
        404: web.HTTPNotFound,
        406: web.HTTPNotAcceptable,
        412: web.HTTPPreconditionFailed,
        416: web.HTTPRequestRangeNotSatisfiable,
        501: web.HTTPNotImplemented,
    }
    return kinds[status](text=f"{text}\n", headers={**headers.for_refusal(), **(more or {})})
