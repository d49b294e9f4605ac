"""Streams: a name whose value moves along a history of CIDs.

Each move is a *head*, a dag-cbor block `{stream, value, previous: [links], height, by, at, signature}`; the
signature is a detached COSE_Sign1 (typ grid-head) by `by` over the block without it. `height` is one more
than that of the highest previous head, so that a walk back knows where to stop. A stream has the heads that
no other known head rests on: two who move at once leave two, listed, until somebody moves on from both.

A head says who moved; whether he may is for whoever adopts it. Heads are kept for ever, and with them every
value they name, as long as the stream is. The table `streams` is an index, and can be made anew from blocks.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, Cid
from promisegrid.did import DID_MAX
from promisegrid.effects import Scan, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.state import State

NAME_MAX: Final = 256
HEADS_MAX: Final = 256
"""Heads of one stream that are looked at, and that one head may follow."""
HEAD_MAX: Final = 32 * 1024
_FIELDS: Final = frozenset({"stream", "value", "previous", "height", "by", "at", "signature"})


@dataclass(frozen=True, slots=True)
class Head:
    """One move: `by` (did:key) moved `stream` to `value` after `previous`. at: seconds since 1970."""

    cid: Cid
    stream: str
    value: Cid
    previous: tuple[Cid, ...]
    height: int
    by: str
    at: int


def row(name: str, head: Cid) -> bytes:
    """The key of a head in the table `streams`."""
    return name.encode() + b"\0" + bytes(head)


def check_name(name: str) -> str:
    """The name of a stream. LocalError when it cannot be one."""
    if not 0 < len(name.encode(errors="replace")) <= NAME_MAX or not name.isprintable():
        text = f"A stream's name is 1 to {NAME_MAX} bytes of printable text, not {name[:40]!r}."
        raise LocalError(text, "bad_args")
    return name


def read(cid: Cid, data: bytes) -> tuple[Head, cose.Sign1, bytes]:
    """A head as claimed, its signature, and what that must cover; unverified. RemoteError("malformed")."""
    if len(data) > HEAD_MAX or cid.codec != DAG_CBOR:
        raise RemoteError("malformed", f"{cid} is not the head of a stream.")
    try:
        value = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"{cid} is not the head of a stream: {error}.") from error
    if not isinstance(value, dict) or value.keys() != _FIELDS or not _is_sound(value):
        raise RemoteError("malformed", f"{cid} is not the head of a stream: wrong fields.")
    sign1 = cose.read(value.pop("signature"), "grid-head")
    value["previous"] = tuple(value["previous"])
    return Head(cid, **value), sign1, dagcbor.encode(value | {"previous": list(value["previous"])})


def _is_sound(value: dict[str, Any]) -> bool:
    name, previous, by, at = value["stream"], value["previous"], value["by"], value["at"]
    return (
        isinstance(name, str)
        and 0 < len(name.encode()) <= NAME_MAX
        and name.isprintable()
        and isinstance(value["value"], Cid)
        and isinstance(previous, list)
        and len(previous) <= HEADS_MAX
        and all(isinstance(link, Cid) for link in previous)
        and previous == sorted(set(previous), key=bytes)
        and type(value["height"]) is int
        and (value["height"] == 0 if not previous else 0 < value["height"] < 1 << 53)
        and isinstance(by, str)
        and 0 < len(by) <= DID_MAX
        and type(at) is int
        and 0 <= at < 1 << 53
        and isinstance(value["signature"], bytes)
    )


async def verify(cid: Cid, data: bytes) -> Head:
    """The head, signed by who it says. RemoteError: malformed, bad_signature, bad_claims."""
    head, sign1, payload = read(cid, data)
    if not await cose.holds(sign1, payload, head.by):
        raise RemoteError("bad_signature", f"{head.by} did not sign the head {cid}.")
    return head


class Streams:
    """The streams of one base."""

    def __init__(self, state: State, exchange: Exchange) -> None:
        self._state, self._exchange = state, exchange

    async def names(self, after: str = "", limit: int = 256) -> list[str]:
        """Names in byte order, from the one behind `after`."""
        found: list[str] = []
        at = after.encode() + b"\x01" if after else b""
        while len(found) < limit and (rows := await Scan("streams", b"", at, 1)):
            name = rows[0][0].partition(b"\0")[0]
            found.append(name.decode())
            at = name + b"\x01"
        return found

    async def head_cids(self, name: str) -> list[Cid]:
        """The names of a stream's heads, in byte order: none when there is no such stream."""
        prefix = check_name(name).encode() + b"\0"
        rows = await Scan("streams", prefix, prefix, HEADS_MAX)
        return [Cid.decode(key[len(prefix) :]) for key, _ in rows]

    async def heads(self, name: str) -> list[Head]:
        """A stream's heads, the latest first. RemoteError("not_found") for one whose block is gone."""
        found = [await self.head(cid) for cid in await self.head_cids(name)]
        return sorted(found, key=lambda head: (-head.height, -head.at, bytes(head.cid)))

    async def head(self, cid: Cid) -> Head:
        """One head, read and verified; from peers when it is not here. Errors as `verify`, `not_found`."""
        return await verify(cid, await self._exchange.block(cid))

    async def move(
        self, name: str, value: Cid, previous: Iterable[Cid] | None = None
    ) -> tuple[Head, tuple[Write, ...]]:
        """The head that moves a stream to a value, and the writes that do it; a new name begins a stream.

        previous: the heads this follows; None is all there are now. Who moves at the same time makes a fork.
        """
        heads = await self.head_cids(name) if previous is None else sorted(set(previous), key=bytes)
        if len(heads) > HEADS_MAX:
            raise LocalError(f"A head may follow {HEADS_MAX} others; join some first.", "too_large")
        before = [await self.head(cid) for cid in heads]
        for head in before:
            if head.stream != name:
                raise LocalError(f"{head.cid} is a head of {head.stream!r}, not of {name!r}.", "bad_args")
        block = await self._seal(name, value, heads, 1 + max((head.height for head in before), default=-1))
        rows = [Write("streams", row(name, cid), None) for cid in heads]
        rows += [Write("streams", row(name, block.cid), b""), Write("blocks", bytes(block.cid), block.data)]
        return read(block.cid, block.data)[0], tuple(rows)

    async def _seal(self, name: str, value: Cid, previous: list[Cid], height: int) -> Block:
        claim: dict[str, Any] = {
            "stream": check_name(name),
            "value": value,
            "previous": previous,
            "height": height,
            "by": self._state.me,
            "at": self._state.now_ms // 1000,
        }
        claim["signature"] = await cose.sign("grid-head", dagcbor.encode(claim), detached=True)
        return Block.of(dagcbor.encode(claim), DAG_CBOR)

    async def adopt(self, cid: Cid) -> tuple[Write, ...]:
        """The writes that take somebody's head in; none when the stream has moved past it already.

        The heads it rests on are heads no longer. What lies between is fetched. Errors as `head`.
        """
        head = await self.head(cid)
        if head.height > self._state.now_ms + self._state.limits.clock_skew_ms:  # or nobody could move on
            raise RemoteError("malformed", f"{cid} says of itself more moves than there were milliseconds.")
        now = [await self.head(one) for one in await self.head_cids(head.stream) if one != cid]
        for other in now:
            if await self._rests_on(other, head):
                return ()
        if len(now) >= HEADS_MAX:
            raise RemoteError("busy", f"The stream {head.stream!r} has {HEADS_MAX} heads; join some first.")
        past = [other.cid for other in now if await self._rests_on(head, other)]
        rows = [Write("streams", row(head.stream, one), None) for one in past]
        return (*rows, Write("streams", row(head.stream, cid), b""))

    async def _rests_on(self, head: Head, other: Head) -> bool:
        """Whether `other` is in the history of `head`."""
        if head.height <= other.height:
            return False
        seen, waiting = {head.cid}, list(head.previous)
        while waiting:
            cid = waiting.pop()
            if cid == other.cid:
                return True
            if cid in seen:
                continue
            seen.add(cid)
            if len(seen) > self._state.limits.stream_walk:
                text = f"The history of {head.stream!r} is longer than {len(seen)} moves; fetch it first."
                raise RemoteError("too_large", text)
            before = await self._before(head, cid)
            if before.height > other.height:
                waiting.extend(before.previous)
        return False

    async def _before(self, head: Head, cid: Cid) -> Head:
        """A head in another's history. RemoteError("malformed") when it cannot be one."""
        before = await self.head(cid)
        if before.stream != head.stream or before.height >= head.height:
            raise RemoteError("malformed", f"{cid} cannot come before {head.cid} in {head.stream!r}.")
        return before

    async def history(self, heads: Iterable[Head]) -> AsyncIterator[Head]:
        """Heads and all they follow, each once, the highest first. Errors as `head`."""
        waiting = [(-head.height, -head.at, bytes(head.cid), head) for head in heads]
        heapq.heapify(waiting)
        seen = {entry[2] for entry in waiting}
        while waiting:
            head = heapq.heappop(waiting)[3]
            yield head
            for cid in head.previous:
                if bytes(cid) in seen:
                    continue
                seen.add(bytes(cid))
                before = await self._before(head, cid)
                heapq.heappush(waiting, (-before.height, -before.at, bytes(cid), before))
