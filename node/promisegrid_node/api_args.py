"""Arguments of verbs, as a person or the door gave them, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promisegrid.cid import Cid, CidError
from promisegrid.errors import LocalError
from promisegrid_node.session import Args, Progress, Session


def read_cid(text: object) -> Cid:
    """A CID given by a person. LocalError names it and says what a CID looks like."""
    if isinstance(text, Cid):
        return text
    if not isinstance(text, str):
        raise LocalError("A CID is missing.", "bad_cid")
    try:
        return Cid.parse(text)
    except CidError as error:
        raise LocalError(f"{error}.", "bad_cid") from error


def whole(args: Args, name: str, default: int) -> int:
    """A whole number not below 0, among the arguments. LocalError names it."""
    value = args.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise LocalError(f"{name} must be a whole number, not {value!r}.", "bad_args")
    return value


def passing(session: Session) -> Progress:
    """Progress of an ask, handed on without what only the host needs."""

    def pass_on(detail: Mapping[str, Any]) -> None:
        session.progress({name: detail.get(name) for name in ("phase", "done", "total")})

    return pass_on
