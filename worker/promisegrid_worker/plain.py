"""What a page hands over and gets back, as plain data: CIDs as texts, links in values as `{"/": text}`.

Promises: bad input is a LocalError that names it. Does not know: verbs, or the kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import LocalError

KINDS: Final = ("folder", "file", "symlink")

Args = Mapping[str, Any]


def fields(asked: object) -> Args:
    """What a page says by name; nothing at all is nothing by name. LocalError for anything else."""
    if asked is None or isinstance(asked, dict):
        return asked or {}
    raise LocalError(f"This verb takes {{name: value}}, not {asked!r:.80}.", "bad_args")


def read_cid(text: object) -> Cid:
    """A CID from its text. LocalError names what is none."""
    if not isinstance(text, str):
        raise LocalError(f"A CID is meant here, as text, not {text!r:.80}.", "bad_cid")
    try:
        return Cid.parse(text)
    except ValueError as error:
        raise LocalError(f"{text[:80]!r} is not a CID ({error}); copy it whole.", "bad_cid") from error


def optional_cid(text: object) -> Cid | None:
    """A CID where there is one."""
    return None if text is None else read_cid(text)


def cid_text(cid: Cid | None) -> str | None:
    """Its text, where there is one."""
    return None if cid is None else str(cid)


def read_kind(kind: object) -> int:
    """The number of a kind of node in a tree."""
    if isinstance(kind, int) and 0 <= kind < len(KINDS):
        return kind
    if kind in KINDS:
        return KINDS.index(str(kind))
    raise LocalError(f"A node is a {', '.join(KINDS)}, not {kind!r:.80}.", "bad_args")


def read_bytes(node: Args) -> bytes:
    """The content of a node in a tree; a text is its UTF-8."""
    data = node.get("data") or b""
    return data.encode() if isinstance(data, str) else bytes(data)


def read_budget(args: Args) -> Budget:
    """fuel, memory (bytes), timeout (seconds), output (bytes); absent or null: as the node likes."""
    timeout = args.get("timeout")
    numbers = [args.get("fuel"), args.get("memory"), args.get("output")]
    for value in (*numbers, timeout):
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or value <= 0
        ):
            raise LocalError(
                f"fuel, memory, output and timeout are numbers above 0, not {value!r:.80}.", "bad_args"
            )
    fuel, memory, output = (None if value is None else int(value) for value in numbers)
    return Budget(fuel, memory, None if timeout is None else max(1, int(timeout * 1000)), output)


def from_plain(value: Any) -> Any:
    """A dag-cbor value from plain data: links from {"/": text}."""
    if isinstance(value, dict):
        if set(value) == {"/"}:
            return read_cid(value["/"])
        return {key: from_plain(item) for key, item in value.items()}
    return [from_plain(item) for item in value] if isinstance(value, list) else value


def to_plain(value: Any) -> Any:
    """Plain data from a dag-cbor value: links as {"/": text}."""
    if isinstance(value, Cid):
        return {"/": str(value)}
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list) else value
