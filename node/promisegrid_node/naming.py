"""Long names as people write them: in full, or as much of the beginning or the end as only one has."""

from __future__ import annotations

from collections.abc import Iterable

from promisegrid.errors import LocalError

CUT = "…"


def matches(text: str, name: str) -> bool:
    """Whether `text` names it: "zDnae", "x7k2", "…x7k2" or "zDnae…x7k2" name did:key:zDnaeabcx7k2."""
    head, cut, tail = text.partition(CUT)
    bare = name.removeprefix("did:key:")
    if not cut:
        return name.startswith(text) or bare.startswith(text) or name.endswith(text)
    return (name.startswith(head) or bare.startswith(head)) and name.endswith(tail)


def only(text: str, names: Iterable[str], kind: str, remedy: str, code: str) -> str:
    """The one name that `text` names. LocalError when there is none, with the remedy, or several."""
    found = sorted({name for name in names if text.strip(CUT) and matches(text, name)})
    if len(found) == 1:
        return found[0]
    if found:
        raise LocalError(f"{text!r} names {len(found)} of them; write more of it.", code)
    raise LocalError(f"{text!r} is no {kind}; {remedy}.", code)
