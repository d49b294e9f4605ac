"""Store effects as records for the shell, and its answers as the kernel wants them. Twin of the node's.

Promises: what `effects` says of each answer. Does not know IndexedDB: `worker/store.mjs` does the work, many
effects of one turn in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from promisegrid.effects import Commit, Load, Save, Scan, Write

Record = list[object]


def load(ticket: int, effect: Load) -> Record:
    """`["load", ticket, table, keys]`, answered by a list of values or None."""
    return ["load", ticket, effect.table, list(effect.keys)]


def scan(ticket: int, effect: Scan) -> Record:
    """`["scan", ticket, table, prefix, after, limit]`, answered by a list of [key, value]."""
    return ["scan", ticket, effect.table, effect.prefix, effect.after, effect.limit]


def save(ticket: int, effect: Save) -> Record:
    """`["save", ticket, writes]`, answered by None."""
    return ["save", ticket, _writes(effect.writes)]


def commit(ticket: int, effect: Commit) -> Record:
    """`["commit", ticket, writes]`, answered by None once it is on the disk."""
    return ["commit", ticket, _writes(effect.writes)]


def loaded(answer: Sequence[bytes | None]) -> tuple[bytes | None, ...]:
    """The answer of a `Load`."""
    return tuple(answer)


def scanned(answer: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The answer of a `Scan`."""
    return tuple((key, value) for key, value in answer)


def _writes(writes: Sequence[Write]) -> list[list[object]]:
    return [[write.table, write.key, write.value] for write in writes]
