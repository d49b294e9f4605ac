"""Why a result came from where it came from, in a sentence for a person: from memory, run here, run there."""

from __future__ import annotations

from promisegrid.state import State
from promisegrid.task import RunResult


def why(state: State, done: RunResult, on: str | None = None) -> str:
    """`on`: the peer that was told to run it, if any."""
    if on is not None and on != state.me:
        if done.cached and done.by != on:
            return f"remembered by {on}, by a receipt of {done.by}"
        return f"{'remembered' if done.cached else 'run'} by {on}, as you asked"
    return remembered(state, done) if done.cached else f"run here: {_unknown(state)}"


def remembered(state: State, done: RunResult) -> str:
    """Whose receipt answered, and why it counts."""
    if done.by == state.me:
        return "remembered: this node ran it before, and its own receipts count"
    if state.trust.mode == "agree":
        return f"remembered: {state.trust.agree} executors agree on it, {done.by} among them"
    return f"remembered: by a receipt of {done.by}, whose receipts count here"


def _unknown(state: State) -> str:
    """Why nothing that is remembered spared a run."""
    if state.trust.mode == "own":
        return "this node did not remember it, and only its own receipts count"
    whose = "of those that count" if state.trust.mode == "peers" else f"that {state.trust.agree} agree on"
    return f"no receipt {whose} was found, or a fresh run was wanted"
