"""Whom the owner of this node will have nothing to do with: bans, kept in the `grid` table under `banned/`.

A ban is this node's own decision about a key, and binds nobody else. A banned key, and whoever is a member on
its word alone (else it would admit itself anew), is refused at the greeting; no circuit is made to it through
here, its signature is not looked at, its entries in topics are neither taken nor passed on (neighbours that
have them offer them whenever they compare), and its receipts answer nothing. It keeps what it was given
before, and what it was promised stays promised: revoking ends that, and `Promises.dismiss` takes a membership
back for the whole grid.

What a ban cannot do: keep a person out. A did:key is free; on a grid that admits by invitation a new one
needs a new invitation. It does not reach other nodes, and circuits that pass through here for a neighbour do
not say who began them. The founder's word founds the grid: members it admits are members though it is banned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from promisegrid import dagcbor, did
from promisegrid.effects import Commit, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.link import Link
from promisegrid.memo import Memo
from promisegrid.runner import Runner
from promisegrid.scan import rows
from promisegrid.state import State

_ROWS: Final = b"banned/"
_REASON_MAX: Final = 200
_REFUSAL: Final = "The owner of this node has banned your key, or the one that admitted you."


class Bans:
    """The bans of one node. `drop` ends a link and says why."""

    def __init__(
        self, state: State, memo: Memo, runner: Runner, drop: Callable[[Link, RemoteError | None], None]
    ) -> None:
        self._state, self._memo, self._runner, self._drop = state, memo, runner, drop

    async def load(self) -> None:
        """At boot."""
        self._state.banned = {str(row["did"]) for row in await self.ls()}

    async def ban(self, who: str, reason: str = "") -> None:
        """From now on, and after a restart. Its links end, and what runs for it alone. LocalError."""
        if who == self._state.me:
            raise LocalError(f"{who} is this node's own key; `leave` leaves the grid.", "bad_args")
        try:
            did.decode(who)
        except RemoteError as wrong:
            raise LocalError(wrong.text, "bad_args") from wrong
        if len(reason) > _REASON_MAX:
            raise LocalError(f"A reason has at most {_REASON_MAX} characters.", "bad_args")
        if who not in self._state.banned and len(self._state.banned) >= self._state.limits.bans:
            most = self._state.limits.bans
            raise LocalError(f"{most} keys are banned already; `promisegrid unban` lets one go.", "busy")
        row = dagcbor.encode({"at": self._state.now_ms // 1000, "reason": reason})
        await Commit((Write("grid", _ROWS + who.encode(), row),))
        self._state.banned.add(who)
        self._memo.forget()
        for link in list(self._state.links.values()):
            if self._state.bars(link.did, link.membership):
                self._drop(link, RemoteError("banned", _REFUSAL))
        for task, flight in list(self._runner.flights.items()):
            if flight.asker == who and flight.waiting <= 1:
                self._runner.stop(task)

    async def unban(self, who: str) -> bool:
        """Have to do with a key again; whether it was banned."""
        (known,) = await Load("grid", (_ROWS + who.encode(),))
        if known is None:
            return False
        await Commit((Write("grid", _ROWS + who.encode(), None),))
        self._state.banned.discard(who)
        self._memo.forget()
        return True

    def has(self, who: str) -> bool:
        """Whether a key is banned."""
        return who in self._state.banned

    async def ls(self) -> list[dict[str, Any]]:
        """Whom this node banned: {"did", "at" (seconds since 1970), "reason"}."""
        found = rows("grid", _ROWS)
        return [{"did": key[len(_ROWS) :].decode(), **dagcbor.decode(value)} async for key, value in found]
