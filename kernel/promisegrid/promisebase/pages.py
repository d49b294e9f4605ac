"""The pages of a backup: what its rows say, read strictly. See `archive.py`."""

from __future__ import annotations

from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, Cid
from promisegrid.errors import RemoteError
from promisegrid.promisebase.pins import NAME_MAX, Pin

OWN_SPACE: Final = b"\0"
"""How the base's own keys begin: they say nothing to another base."""
_BACKUP: Final = frozenset({"backup", "at", "by", "pages"})


def read_backup(block: Block) -> dict[str, Any] | None:
    """The beginning of a backup; None for any other block."""
    if block.cid.codec != DAG_CBOR:
        return None
    try:
        value = dagcbor.decode(block.data)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.keys() != _BACKUP:
        return None
    if value["backup"] != 1:
        raise RemoteError("malformed", "The CAR is a backup of a later version; bring it back with that one.")
    if not isinstance(value["pages"], list) or not all(isinstance(page, Cid) for page in value["pages"]):
        raise RemoteError("malformed", "The CAR says that it is a backup, and lists no pages.")
    return value


def read_page(cid: Cid, data: bytes) -> dict[str, list[Any]]:
    """One page of a backup, its rows of the right kinds. RemoteError("malformed")."""
    kinds = {"pins": (Cid, str, int, str), "streams": (str, Cid), "values": (bytes, bytes)}
    try:
        page = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"The backup's page {cid} cannot be read: {error}.") from error
    if not isinstance(page, dict) or not page.keys() <= kinds.keys():
        raise RemoteError("malformed", f"{cid} is not a page of a backup.")
    for name, rows in page.items():
        if not isinstance(rows, list) or not all(_is_row(row, kinds[name]) for row in rows):
            raise RemoteError("malformed", f"The backup's page {cid} lists {name} that are none.")
    return page


def _is_row(row: object, kinds: tuple[type, ...]) -> bool:
    if not isinstance(row, list) or [type(part) for part in row] != list(kinds):
        return False
    return not (kinds[0] is bytes and (not 0 < len(row[0]) <= 1024 or row[0].startswith(OWN_SPACE)))


def read_pin(row: list[Any]) -> Pin:
    cid, name, at, kind = row
    if len(name) > NAME_MAX or kind not in ("recursive", "direct") or not 0 <= at < 1 << 53:
        raise RemoteError("malformed", f"The backup's pin of {cid} is none.")
    return Pin(cid, name, at, kind)
