"""Store effects as records for the shell, and its answers as the kernel wants them. Twin of the node's.

Promises: what `effects` says of each answer. Does not know IndexedDB: `worker/store.mjs` does the work, many
effects of one turn in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from promisegrid.effects import Commit, Conflict, Load, Read, Save, Scan, Write

Record = list[object]


def load(ticket: int, effect: Load) -> Record:
    """`["load", ticket, table, keys]`, answered by a list of values or None."""
    return ["load", ticket, effect.table, list(effect.keys)]


def scan(ticket: int, effect: Scan) -> Record:
    """`["scan", ticket, table, prefix, after, limit, keys_only]`, answered by a list of [key, value]."""
    return ["scan", ticket, *_plain(effect)[1:]]


def save(ticket: int, effect: Save) -> Record:
    """`["save", ticket, writes]`, answered by None."""
    return ["save", ticket, _writes(effect.writes)]


def read(ticket: int, effect: Read) -> Record:
    """`["read", ticket, reads]`: each as `load` or `scan` without its ticket; answered by their answers."""
    return ["read", ticket, [_plain(one) for one in effect.reads]]


def commit(ticket: int, effect: Commit) -> Record:
    """`["commit", ticket, writes, seen]`, answered by None once it is on the disk; `seen`: [read, answer]…,
    and the number of the first that does not hold any more is the answer when one does not."""
    return ["commit", ticket, _writes(effect.writes), [[_plain(one.read), one.answer] for one in effect.seen]]


def loaded(answer: Sequence[bytes | None]) -> tuple[bytes | None, ...]:
    """The answer of a `Load`."""
    return tuple(answer)


def scanned(answer: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """The answer of a `Scan`."""
    return tuple((key, value) for key, value in answer)


def have_read(answer: Sequence[Sequence[object]]) -> tuple[object, ...]:
    """The answer of a `Read`: of each load its values, of each scan its rows."""
    return tuple(tuple(tuple(row) if isinstance(row, list) else row for row in one) for one in answer)


def committed(answer: int | None) -> Conflict | None:
    """The answer of a `Commit`."""
    return None if answer is None else Conflict(answer)


def _plain(read: Load | Scan) -> Record:
    """A read as the shell takes it."""
    if isinstance(read, Load):
        return ["load", read.table, list(read.keys)]
    return ["scan", read.table, read.prefix, read.after, read.limit, read.keys_only]


def _writes(writes: Sequence[Write]) -> list[list[object]]:
    return [[write.table, write.key, write.value] for write in writes]
