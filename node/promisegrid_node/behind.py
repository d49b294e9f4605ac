"""What is on its way to the disk, readable as if it were there.

Small `Save`s that remove nothing are answered at once and written a moment later, many in one transaction:
what is lost with the power costs work, never truth. Until a write has reached the store, reads that name its
key are answered from here; rows of a scan are the store's and these together, as `effects.Scan` orders them.

A write that was answered and then failed is owed to somebody: `lost` is what the next writer is told.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

from promisegrid.effects import TABLES, Failure, Load, Scan, Write

Rows = tuple[tuple[bytes, bytes], ...]


class Behind:
    """Writes that were answered and are not in the store yet, the latest of each key."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[bytes, Write]] = {table: {} for table in TABLES}
        self._keys: dict[str, list[bytes]] = {table: [] for table in TABLES}
        self.lost: Failure | None = None

    def put(self, writes: Iterable[Write]) -> None:
        """From now on these can be read here."""
        for write in writes:
            rows = self._rows[write.table]
            if write.key not in rows:
                insort(self._keys[write.table], write.key)
            rows[write.key] = write

    def written(self, writes: Iterable[Write]) -> None:
        """These are in the store, or never will be; a later write of the same key stays."""
        for write in writes:
            rows = self._rows[write.table]
            if rows.get(write.key) is write:
                del rows[write.key]
                keys = self._keys[write.table]
                del keys[bisect_left(keys, write.key)]

    def load(self, effect: Load) -> tuple[bytes | None, ...] | None:
        """The answer, if every key of it is here."""
        rows = self._rows[effect.table]
        found = [rows.get(key) for key in effect.keys]
        known = [write.value for write in found if write is not None]
        return tuple(known) if len(known) == len(found) else None

    def scan(self, effect: Scan, stored: Rows) -> Rows:
        """The answer to a scan, from the store's own answer and what is here."""
        keys, rows = self._keys[effect.table], self._rows[effect.table]
        at = max(bisect_right(keys, effect.after), bisect_left(keys, effect.prefix))
        mine: dict[bytes, bytes] = {}
        while at < len(keys) and keys[at].startswith(effect.prefix) and len(mine) < effect.limit:
            value = rows[keys[at]].value
            assert value is not None, "a removal is not written behind"
            mine[keys[at]] = value
            at += 1
        if not mine:
            return stored
        return tuple(sorted({**dict(stored), **mine}.items())[: effect.limit])
