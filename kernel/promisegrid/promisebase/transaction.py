"""The key-value space: transactions over several keys and blocks, all of it or nothing.

What a transaction reads is one state of the base: each read asks again, in one snapshot, for all that was
read before, and the transaction starts over when any of it has changed. What it writes takes effect if all
it read is still so, else nothing is changed and that is an outcome, `Conflicted`, not an error.

Keys belong to a *space*, a text that keeps one user's keys apart from another's; the space "" is the base's
own. Does not know: who may use which space; other bases (nodes share through streams and blocks).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from promisegrid.block import Block
from promisegrid.effects import Commit, Load, Read, Scan, Seen, Table, Write
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid.promisebase.collect import SWEPT, Collector, value_of

T = TypeVar("T")
KEY_MAX: Final = 1024
"""Bytes of a key, its space included: what every backend can index."""
_ATTEMPTS: Final = 16
Rows = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """The transaction took effect, durably; what its work returned."""

    value: T


@dataclass(frozen=True, slots=True)
class Conflicted:
    """Nothing was changed: others changed what the transaction read, `attempts` times running."""

    attempts: int


class Stale(Exception):
    """Inside a transaction's work: what it read has changed. Let it pass; `transact` begins again."""


class Transaction:
    """One try: reads are remembered, writes wait for the end. Made by `transact`."""

    def __init__(
        self, space: str, limits: Limits, swept: Seen | None = None, turn: Write | None = None
    ) -> None:
        self._prefix, self._limits = space_prefix(space), limits
        self._seen: list[Seen] = [] if swept is None else [swept]
        self._turn = turn
        self._writes: dict[tuple[Table, bytes], bytes | None] = {}
        self._bytes = 0

    async def get(self, key: bytes) -> bytes | None:
        """The value of a key, with this transaction's own writes; None where there is none."""
        name = self._name(key)
        if ("kv", name) in self._writes:
            return self._writes["kv", name]
        (value,) = await self._read(Load("kv", (name,)))
        assert value is None or isinstance(value, bytes), value
        return value

    async def scan(self, prefix: bytes = b"", after: bytes = b"", limit: int = 256) -> Rows:
        """At most `limit` (key, value) with key > `after` that begin with `prefix`, in byte order."""
        mine = {
            name: value
            for (table, name), value in self._writes.items()
            if table == "kv" and name.startswith(self._prefix + prefix) and name > self._prefix + after
        }
        whole = Scan("kv", self._prefix + prefix, self._prefix + after, limit + len(mine))
        rows: dict[bytes, bytes | None] = {}
        for row in await self._read(whole):
            assert isinstance(row, tuple), row
            rows[row[0]] = row[1]
        rows.update(mine)
        found = ((name[len(self._prefix) :], value) for name, value in sorted(rows.items()))
        return tuple((key, value) for key, value in found if value is not None)[:limit]

    def put(self, key: bytes, value: bytes) -> None:
        """Write a key when the transaction ends."""
        self._write("kv", self._name(key), value)

    def delete(self, key: bytes) -> None:
        """Remove a key when the transaction ends; there need be none."""
        self._write("kv", self._name(key), None)

    def keep(self, block: Block) -> None:
        """Store a block when the transaction ends."""
        self._write("blocks", bytes(block.cid), block.data)

    def also(self, write: Write) -> None:
        """Any other change that belongs to it."""
        self._write(write.table, write.key, write.value)

    async def commit(self) -> bool:
        """Take effect, durably; False when what was read has changed, and then nothing has. `disk_full`."""
        writes = [Write(table, key, value) for (table, key), value in self._writes.items()]
        if writes and self._turn is not None:
            writes.append(self._turn)
        return await Commit(tuple(writes), tuple(self._seen)) is None

    # -- inside --------------------------------------------------------------------------------------

    async def _read(self, read: Load | Scan) -> tuple[object, ...]:
        again = next((seen for seen in self._seen if seen.read == read), None)
        if again is not None:
            return again.answer
        if len(self._seen) >= self._limits.transaction_reads:
            most = self._limits.transaction_reads
            raise LocalError(f"A transaction may read {most} keys and ranges; split it.", "too_large")
        *before, answer = await Read((*(seen.read for seen in self._seen), read))
        if any(now != seen.answer for now, seen in zip(before, self._seen, strict=True)):
            raise Stale
        self._seen.append(Seen(read, answer))
        return tuple(answer)

    def _write(self, table: Table, key: bytes, value: bytes | None) -> None:
        old = self._writes.get((table, key)) or b""
        self._bytes += len(value or b"") - len(old)
        self._writes[table, key] = value
        most, size = self._limits.transaction_writes, self._limits.transaction_bytes
        if len(self._writes) > most or self._bytes > size:
            text = f"A transaction may write {most} keys and blocks of {size} bytes together; split it."
            raise LocalError(text, "too_large")

    def _name(self, key: bytes) -> bytes:
        name = self._prefix + key
        if len(name) > KEY_MAX:
            raise LocalError(f"A key of {len(name)} bytes with its space; at most {KEY_MAX}.", "too_large")
        return name


async def transact(
    space: str,
    limits: Limits,
    work: Callable[[Transaction], Awaitable[T]],
    collector: Collector,
    attempts: int = _ATTEMPTS,
) -> Committed[T] | Conflicted:
    """Do `work` in a transaction, again and again while others get in between, `attempts` times at most.

    `work` may be called several times and must have no other effect. LocalError: too_large, bad_args.
    """
    for _ in range(attempts):
        transaction = Transaction(space, limits, await value_of(SWEPT), collector.turn())
        try:
            value = await work(transaction)
        except Stale:
            continue
        if await transaction.commit():
            return Committed(value)
    return Conflicted(attempts)


def space_prefix(space: str) -> bytes:
    """How the keys of a space begin in the store. LocalError for a text that is none."""
    name = space.encode(errors="surrogatepass")
    if len(name) > 256 or b"\0" in name:
        text = f"A space is a text of at most 256 bytes without NUL, not {space[:40]!r}."
        raise LocalError(text, "bad_args")
    return name + b"\0"
