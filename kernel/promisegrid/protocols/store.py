"""The storage protocol (docs/protocols/store.md): keep and drop, for whoever was promised it.

What is kept for others is a row of the table `grid`, `kept/<CID><holder>`, so that a collection finds it, and
is listed to the owner. What was promised until a time is let go after it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.dispatch import Verified
from promisegrid.effects import Commit, Load, Write
from promisegrid.errors import RemoteError
from promisegrid.link import Link
from promisegrid.promisebase.base import Base
from promisegrid.protocols import STORE, Answer
from promisegrid.redeem import Redeemer
from promisegrid.scan import rows
from promisegrid.state import State
from promisegrid.strand import Pause
from promisegrid.task import Task

_ROWS: Final = b"kept/"
_LOOK_MS: Final = 3_600_000


class StoreProtocol:
    """Answers peers, and tells the owner what is kept for them."""

    def __init__(self, state: State, base: Base, redeemer: Redeemer) -> None:
        self._state, self._base, self._redeemer = state, base, redeemer

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        op, args = verified.claims.call or ("", ())
        if len(args) == 1 and isinstance(args[0], Cid):
            if op == "keep":
                return await self._keep(verified, args[0], link)
            if op == "drop":
                return Answer({"kept": 0}, (Write("grid", _row(args[0], verified.claims.iss), None),))
        raise RemoteError("bad_args", "The storage protocol has keep and drop, of one link.")

    async def _keep(self, verified: Verified, cid: Cid, link: Link) -> Answer:
        iss, limits = verified.claims.iss, self._state.limits
        (kept,) = await Load("grid", (_row(cid, iss),))
        if kept is not None:
            row = dagcbor.decode(kept)
            if not await self._base.is_here(cid):  # a disk that forgot it: it is brought again
                await self._base.keep(cid, row["bytes"], lambda *_: None, _nothing, link)
            return Answer({"kept": row["bytes"], "until": row["until"]})
        if not verified.claims.proofs:
            raise RemoteError("not_permitted", "Keeping something for you was promised by nobody here.")
        task = Task(STORE, "keep", (cid,))
        redeemed = await self._redeemer.redeem(verified.claims, verified.name, task, now=True)
        most = min(redeemed.budget.output_bytes or limits.stored_bytes, limits.stored_bytes)
        size = 0

        def count(_: int, all_bytes: int) -> None:
            nonlocal size
            size = all_bytes

        until = redeemed.grant.until

        async def writes() -> tuple[Write, ...]:
            value = {"bytes": size, "until": until, "at": self._state.now_ms // 1000}
            return (Write("grid", _row(cid, iss), dagcbor.encode(value)),)

        await self._base.keep(cid, most, count, writes, link)
        return Answer({"kept": size, "until": until})

    async def load(self) -> None:
        """What was promised until now is let go, when the node starts and every hour."""
        await self._let_go()
        self._state.scheduler.spawn(self._look_after())

    async def _look_after(self) -> None:
        while True:
            await Pause(None, _LOOK_MS)
            with suppress(RemoteError):  # a disk that fails is tried again
                await self._let_go()

    async def _let_go(self) -> None:
        now = self._state.now_ms // 1000
        for row in await self.kept():
            if row["until"] < now:
                await Commit((Write("grid", _row(row["cid"], row["for"]), None),))

    async def kept(self) -> list[dict[str, Any]]:
        """What is kept for others: {"cid", "for", "bytes", "until", "at"}; times in seconds since 1970."""
        found: list[dict[str, Any]] = []
        async for key, value in rows("grid", _ROWS):
            name = key[len(_ROWS) :]
            about = {"cid": Cid.decode(name[:36]), "for": name[36:].decode()}
            found.append(about | dagcbor.decode(value))
        return found


async def _nothing() -> tuple[Write, ...]:
    return ()


def _row(cid: Cid, holder: str) -> bytes:
    if len(bytes(cid)) != 36:
        raise RemoteError("bad_cid", f"Only content named by SHA-256 in a CIDv1 is kept, not {cid}.")
    return _ROWS + bytes(cid) + holder.encode()
