"""A base in memory: the shortest answer to every store effect, and so the contract's specification.

Promises: what `effects` says of each, at once, in the order they are asked. Keeps nothing beyond the process.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, MutableMapping

from promisegrid.effects import TABLES, Commit, Conflict, Load, Read, Save, Scan, Write

StoreEffect = Load | Scan | Read | Save | Commit


class Rows(MutableMapping[bytes, bytes]):
    """One table; `order` is its keys in byte order."""

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self.order: list[bytes] = []

    def __getitem__(self, key: bytes) -> bytes:
        return self._rows[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        if key not in self._rows:
            insort(self.order, key)
        self._rows[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self._rows[key]
        del self.order[bisect_left(self.order, key)]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


class MemoryBase:
    """Tables in memory."""

    def __init__(self) -> None:
        self.tables: dict[str, Rows] = {table: Rows() for table in TABLES}

    def answer(self, effect: StoreEffect) -> object:
        """The answer to one effect, done."""
        match effect:
            case Load(table, keys):
                return tuple(self.tables[table].get(key) for key in keys)
            case Scan():
                return self._scan(effect)
            case Read(reads):
                return tuple(self.answer(read) for read in reads)
        if isinstance(effect, Commit):
            for at, seen in enumerate(effect.seen):
                if self.answer(seen.read) != seen.answer:
                    return Conflict(at)
        self._write(effect.writes)
        return None

    def _scan(self, effect: Scan) -> tuple[tuple[bytes, bytes], ...]:
        rows = self.tables[effect.table]
        at = max(bisect_right(rows.order, effect.after), bisect_left(rows.order, effect.prefix))
        keys = rows.order[at : at + effect.limit]
        keys = [key for key in keys if key.startswith(effect.prefix)]
        return tuple((key, b"" if effect.keys_only else rows[key]) for key in keys)

    def _write(self, writes: tuple[Write, ...]) -> None:
        for write in writes:
            if write.value is None:
                self.tables[write.table].pop(write.key, None)
            else:
                self.tables[write.table][write.key] = write.value
