"""What a node has decided and where it belongs, kept in the `grid` table. Read at boot, written durably."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promisegrid import dagcbor, genesis, membership
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Load, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.membership import Membership
from promisegrid.receipt import TrustPolicy
from promisegrid.state import Serving, State

_KEYS = (b"genesis", b"membership", b"serving", b"trust")


async def load(state: State) -> None:
    """Fill the state from the store. LocalError when the store belongs to another key."""
    data, proof, serving, trust = await Load("grid", _KEYS)
    if data is not None:
        state.grid, state.genesis = genesis.read(data)
        state.genesis_data = data
        if not state.is_founder:
            state.membership = await _membership(state, state.grid, state.genesis.founder, proof)
    if serving is not None:
        kept = dagcbor.decode(serving)
        state.serving = Serving(kept["cpu"], kept["memory"])
    if trust is not None:
        kept = dagcbor.decode(trust)
        state.trust = TrustPolicy(kept["mode"], frozenset(kept["executors"]), kept["agree"])


async def _membership(state: State, grid: Cid, founder: str, proof: bytes | None) -> Membership | None:
    """This node's own membership; None when it has expired, and the founder will be asked for another.

    One that was taken back is still this node's: its peers see to it, and its store stays its owner's.
    """
    try:
        if proof is None:
            raise RemoteError("not_member", "The store holds no membership.")
        mine = await membership.verify(proof, grid, founder, state.me, 0, state.limits, state.verdicts)
    except RemoteError as wrong:
        raise LocalError(
            f"The store belongs to a member of grid {grid}, and this node's key is another: {wrong.text} "
            "Put the key back, or use another home."
        ) from wrong
    return mine if mine.until * 1000 > state.now_ms else None


async def set_serving(state: State, serving: Serving | None) -> None:
    """Keep the owner's promise to run for others, or its end."""
    kept = None if serving is None else {"cpu": serving.cpu, "memory": serving.memory_bytes}
    await _commit(b"serving", kept)
    state.serving = serving


async def set_trust(state: State, trust: TrustPolicy) -> None:
    """Keep whose receipts count."""
    kept = {"mode": trust.mode, "executors": sorted(trust.executors), "agree": trust.agree}
    await _commit(b"trust", kept)
    state.trust = trust


async def leave(state: State) -> None:
    """Forget the grid: membership, serving and trust go, content and receipts stay. Takes effect at once."""
    await Commit(tuple(Write("grid", key, None) for key in _KEYS))
    state.grid = state.genesis = state.genesis_data = state.membership = state.serving = None
    state.trust = TrustPolicy()


async def _commit(key: bytes, value: Mapping[str, Any] | None) -> None:
    await Commit((Write("grid", key, None if value is None else dagcbor.encode(dict(value))),))
