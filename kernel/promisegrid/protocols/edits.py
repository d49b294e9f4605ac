"""The DAG edit protocol (docs/protocols/dag-edit.md): edits of a target, each naming those it builds on.

The rows, in table `grid` under `edit/` + 16 bytes of the target's hash: `/h` what is known of the target,
`/n` + name that an edit is known, `/s` + number the edits in the order they came in. Edits themselves are
blocks, whole messages under their author's signature. One edit is dealt with at a time (the dispatcher sees
to it), so that reading heads and writing them is one step.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.dispatch import Verified
from promisegrid.effects import Load, Scan, Write
from promisegrid.errors import RemoteError
from promisegrid.link import Link
from promisegrid.protocols import DAG_EDIT, Answer
from promisegrid.scan import rows
from promisegrid.state import State

EDITS: Final = ("insert", "delete", "reorder")
_FIELDS: Final = {"op", "agent", "timestamp", "target", "payload"}
_TIMESTAMP: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", re.ASCII)
_PARENTS_MAX, _CLAIMS_MAX, _TARGET_MAX = 16, 64, 128
_PAGE, _PAGE_BYTES = 64, 256 * 1024
_ROWS: Final = b"edit/"
Send = Callable[[Link, Verified, object], Awaitable[None]]
"""Called with (link, the subscription's message, body): one more reply to it."""


@dataclass(frozen=True, slots=True)
class _Target:
    """What is known of a target."""

    name: str
    begun_by: str
    count: int
    heads: tuple[Cid, ...]

    def record(self) -> bytes:
        """Its row."""
        return dagcbor.encode([self.name, self.begun_by, self.count, list(self.heads)])


class Edits:
    """Answers peers about edits."""

    def __init__(self, state: State, send: Send) -> None:
        self._state, self._send = state, send
        self._begun: dict[str, int] = {}
        self._targets = 0
        self._subscribers: dict[str, list[tuple[Link, Verified]]] = {}

    async def load(self) -> None:
        """At boot: how many targets there are, and who began them."""
        async for key, value in rows("grid", _ROWS):
            if key[len(_ROWS) + 16 :] == b"/h":
                self._count(dagcbor.decode(value)[1])

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        value = verified.claims.body
        if not isinstance(value, dict) or set(value) - {"prevHashes"} != _FIELDS:
            raise _bad("an edit is a map of " + ", ".join(sorted(_FIELDS)))
        op, target, stamp = value["op"], value["target"], value["timestamp"]
        if value["agent"] != verified.claims.iss:
            raise _bad("the agent is whoever signed")
        if not isinstance(target, str) or not 0 < len(target) <= _TARGET_MAX:
            raise _bad(f"a target is a text of 1 to {_TARGET_MAX} characters")
        if not isinstance(stamp, str) or _TIMESTAMP.fullmatch(stamp) is None:
            raise _bad("a timestamp looks like 2026-11-21T09:00:00Z")
        if op in EDITS:
            return await self._edit(verified, target, value)
        if "prevHashes" in value:
            raise _bad("only edits build on others")
        if op == "query":
            return await self._query(target, value["payload"])
        if op == "subscribe":
            return self._subscribe(verified, link, target, value["payload"])
        raise _bad("op is insert, delete, reorder, query or subscribe")

    # -- edits ---------------------------------------------------------------------------------------

    async def _edit(self, verified: Verified, target: str, value: dict[str, Any]) -> Answer:
        if len(verified.envelope.raw) > self._state.limits.edit_bytes:
            raise RemoteError("too_large", f"An edit takes at most {self._state.limits.edit_bytes} bytes.")
        _check_claims(value["payload"])
        parents = value.get("prevHashes")
        if not isinstance(parents, list) or not all(isinstance(one, Cid) for one in parents):
            raise _bad("prevHashes is a list of links")
        if len(parents) > _PARENTS_MAX or len(set(parents)) != len(parents):
            raise _bad(f"prevHashes names up to {_PARENTS_MAX} distinct edits")
        rows = _rows(target)
        known, seen, *found = await Load(
            "grid", (rows + b"/h", *(rows + b"/n" + bytes(one) for one in (verified.name, *parents)))
        )
        before = _Target(target, verified.claims.iss, 0, ()) if known is None else _target(known)
        if seen is not None:
            return Answer(_told(verified.name, int.from_bytes(seen, "big"), before))
        self._check_room(before, parents, found)
        heads = (*(head for head in before.heads if head not in parents), verified.name)
        after = _Target(target, before.begun_by, before.count + 1, heads)
        number = after.count.to_bytes(8, "big")
        writes = (
            Write("blocks", bytes(verified.name), verified.envelope.raw),
            Write("grid", rows + b"/h", after.record()),
            Write("grid", rows + b"/n" + bytes(verified.name), number),
            Write("grid", rows + b"/s" + number, bytes(verified.name)),
        )
        told = _told(verified.name, after.count, after)
        return Answer(told, writes, partial(self._kept, target, verified, after))

    def _check_room(self, before: _Target, parents: list[Cid], found: list[bytes | None]) -> None:
        limits = self._state.limits
        missing = [parent for parent, row in zip(parents, found, strict=True) if row is None]
        if missing or (not parents and before.count):
            what = missing[0] if missing else "the edits it builds on"
            raise RemoteError("unknown_edit", f"An edit of {before.name!r} has to name known ones: {what}.")
        heads = sum(head not in parents for head in before.heads) + 1  # an edit may always join some
        if before.count >= limits.edits_of_target or heads > limits.edit_heads:
            raise RemoteError("busy", f"{before.name!r} takes no more edits, or has too many heads.")
        mine = self._begun.get(before.begun_by, 0)
        if not before.count and (self._targets >= limits.edit_targets or mine >= limits.edit_targets // 4):
            raise RemoteError("busy", "This node keeps as many targets as it can.")

    def _count(self, by: str) -> None:
        self._targets += 1
        self._begun[by] = self._begun.get(by, 0) + 1

    # -- asking and following ------------------------------------------------------------------------

    async def _query(self, target: str, payload: object) -> Answer:
        criteria = payload.get("criteria") if isinstance(payload, dict) else None
        if not isinstance(criteria, dict) or set(criteria) - {"since"}:
            raise _bad('a query\'s payload is {"criteria": {"since": number}}')
        since = criteria.get("since", 0)
        if type(since) is not int or not 0 <= since < 1 << 63:
            raise _bad("since is the number of an edit")
        rows = _rows(target)
        (known,) = await Load("grid", (rows + b"/h",))
        prefix = rows + b"/s"
        found = await Scan("grid", prefix, prefix + since.to_bytes(8, "big"), _PAGE)
        blocks = await Load("blocks", tuple(name for _, name in found))
        edits: list[bytes] = []
        size = 0
        for (key, _), raw in zip(found, blocks, strict=True):
            size += len(raw or b"")
            if edits and size > _PAGE_BYTES:
                break
            since = int.from_bytes(key[-8:], "big")
            edits.append(raw or b"")
        heads = [] if known is None else list(_target(known).heads)
        return Answer({"edits": edits, "next": since, "heads": heads})

    def _subscribe(self, verified: Verified, link: Link, target: str, payload: object) -> Answer:
        if not isinstance(payload, dict) or payload.get("criteria") != {} or len(payload) != 1:
            raise _bad('a subscription\'s payload is {"criteria": {}}')
        self._forget_closed()
        others = [one for one in self._subscribers.get(target, ()) if one[0] is not link]  # the latest counts
        self._subscribers[target] = others
        mine = sum(one is link for followers in self._subscribers.values() for one, _ in followers)
        if mine >= self._state.limits.subscriptions_per_link:
            raise RemoteError("busy", "A link follows a few targets at most.")
        self._subscribers.setdefault(target, []).append((link, verified))
        return Answer({"subscribed": target})

    def _kept(self, target: str, edit: Verified, after: _Target) -> None:
        """The edit is durable."""
        if after.count == 1:
            self._count(after.begun_by)
        self._tell(target, edit, after.count)

    def _tell(self, target: str, edit: Verified, number: int) -> None:
        """Those who follow hear of it."""
        for link, subscription in self._subscribers.get(target, ()):
            if link.is_open:
                body = {"edit": edit.envelope.raw, "seq": number}
                self._state.scheduler.spawn(self._pass_on(link, subscription, body))

    async def _pass_on(self, link: Link, subscription: Verified, body: object) -> None:
        await self._send(link, subscription, body)

    def _forget_closed(self) -> None:
        for target, followers in list(self._subscribers.items()):
            alive = [one for one in followers if one[0].is_open]
            if alive:
                self._subscribers[target] = alive
            else:
                del self._subscribers[target]


def edit(
    op: str, agent: str, timestamp: str, target: str, payload: dict[str, Any], parents: tuple[Cid, ...] = ()
) -> tuple[Cid, dict[str, Any]]:
    """(protocol, payload) of an edit, a query or a subscription."""
    value: dict[str, Any] = {
        "op": op,
        "agent": agent,
        "timestamp": timestamp,
        "target": target,
        "payload": payload,
    }
    if op in EDITS:
        value["prevHashes"] = list(parents)
    return DAG_EDIT, value


def _bad(what: str) -> RemoteError:
    return RemoteError("bad_args", f"Not a DAG edit: {what}.")


def _check_claims(payload: object) -> None:
    found = payload.get("claims") if isinstance(payload, dict) and len(payload) == 1 else None
    if not isinstance(found, list) or not 0 < len(found) <= _CLAIMS_MAX:
        raise _bad(f'the payload is {{"claims": [1 to {_CLAIMS_MAX} of them]}}')
    for one in found:
        if not isinstance(one, dict) or set(one) != {"description", "detail"}:
            raise _bad("a claim has a description and a detail")
        if not isinstance(one["description"], str):
            raise _bad("a description is a text")


def _rows(target: str) -> bytes:
    return _ROWS + hashlib.sha256(target.encode()).digest()[:16]


def _target(row: bytes) -> _Target:
    name, begun_by, count, heads = dagcbor.decode(row)
    return _Target(name, begun_by, count, tuple(heads))


def _told(name: Cid, number: int, target: _Target) -> dict[str, object]:
    return {"edit": name, "seq": number, "heads": list(target.heads)}
