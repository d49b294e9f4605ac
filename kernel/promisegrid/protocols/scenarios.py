"""The scenario tree protocol (docs/protocols/scenario-tree.md): signed trees kept, trust in who signed them.

A statement is kept as its message, with its tree, under `tree/` in the `grid` table; trust in an agent, a
uint16, under `trust/`. The owner says what came of an event (`observe`); peers cannot.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from promisegrid import dagcbor, scenario
from promisegrid.cid import Cid
from promisegrid.dispatch import Verified
from promisegrid.effects import Commit, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.exchange import Exchange
from promisegrid.link import Link
from promisegrid.protocols import Answer
from promisegrid.scan import rows
from promisegrid.scenario import ONE, Branch
from promisegrid.state import State

UNKNOWN: Final = 32_768
"""Trust in an agent nothing is known of: a half."""
_TREES: Final = b"tree/"
_TRUST: Final = b"trust/"


class Scenarios:
    """Keeps statements, and trust."""

    def __init__(self, state: State, exchange: Exchange) -> None:
        self._state, self._exchange = state, exchange
        self._by: dict[str, int] = {}

    async def load(self) -> None:
        """At boot: whose statements are kept."""
        async for _, value in rows("grid", _TREES):
            self._count(dagcbor.decode(value)["by"], 1)

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        match verified.claims.body:
            case [Cid() as root, Cid() as contract]:
                pass
            case _:
                text = "A scenario tree's payload is [link to the tree, link to the contract]."
                raise RemoteError("bad_args", text)
        by = verified.claims.iss
        self._check_room(by)
        data = await self._exchange.block(root, link)
        self._check_room(by)
        branches, depth = scenario.measure(scenario.read(data))
        row = {"by": by, "tree": root, "contract": contract, "at": self._state.now_ms // 1000}
        writes = (
            Write("blocks", bytes(verified.name), verified.envelope.raw),
            Write("blocks", bytes(root), data),
            Write("grid", _TREES + bytes(verified.name), dagcbor.encode(row)),
        )
        told = {"accepted": verified.name, "branches": branches, "depth": depth}
        return Answer(told, writes, partial(self._count, by, 1))

    def _check_room(self, by: str) -> None:
        limits = self._state.limits
        if sum(self._by.values()) >= limits.scenarios or self._by.get(by, 0) >= limits.scenarios // 4:
            raise RemoteError("busy", "This node keeps as many scenario trees as it can.")

    # -- the owner's -----------------------------------------------------------------------------------

    async def trust(self, did: str) -> int:
        """Trust in an agent, 0 to 65535."""
        (kept,) = await Load("grid", (_TRUST + did.encode(),))
        return UNKNOWN if kept is None else int.from_bytes(kept, "big")

    async def observe(self, statement: Cid, event: Cid, state: Cid, happened: bool) -> int:
        """Say whether a transition a statement foretold came true; the trust its signer has now.

        LocalError when the statement is not kept here or does not foretell it.
        """
        (row,) = await Load("grid", (_TREES + bytes(statement),))
        if row is None:
            raise LocalError(f"No scenario tree {statement} is kept here.", "not_found")
        kept = dagcbor.decode(row)
        branch = _find(scenario.read(await self._exchange.block(kept["tree"])), event, state)
        if branch is None:
            raise LocalError(f"{statement} does not foretell that {event} leads to {state}.", "not_found")
        actual = ONE if happened else 0
        moved = scenario.update_trust(
            await self.trust(kept["by"]), actual, branch.probability, branch.weight
        )
        await Commit((Write("grid", _TRUST + kept["by"].encode(), moved.to_bytes(2, "big")),))
        return moved

    def _count(self, by: str, more: int) -> None:
        self._by[by] = self._by.get(by, 0) + more


def _find(tree: Branch, event: Cid, state: Cid) -> Branch | None:
    waiting = [tree]
    while waiting:
        branch = waiting.pop()
        if branch.event == event and branch.state == state:
            return branch
        waiting.extend(branch.branches)
    return None
