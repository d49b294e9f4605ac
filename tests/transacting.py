"""Transactions against a dictionary: any number at once, a step of one and a step of another, on any base.

A transaction that commits must have read what is so at that moment, as if it had done everything then; one
that does not must have read something that is no longer so. Whatever happens, what a transaction reads is
one state. A host subclasses `Machine`: where the base is, how it performs an effect, how it crashes.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from promisegrid.block import Block
from promisegrid.cid import RAW, Cid
from promisegrid.effects import Commit, Effect, Load, Save, Scan, Write
from promisegrid.limits import Limits
from promisegrid.promisebase.memory import MemoryBase
from promisegrid.promisebase.transaction import Stale, Transaction, space_prefix

Rows = tuple[tuple[bytes, bytes], ...]
SPACE = "space"
PREFIX = space_prefix(SPACE)
KEYS = st.sampled_from([b"", b"a", b"aa", b"ab", b"b", b"\xff", b"\xff\xff"])
PREFIXES = st.sampled_from([b"", b"", b"a", b"\xff"])
SLOTS = st.integers(0, 1)
VALUES = st.binary(max_size=3)


@dataclass(eq=False, slots=True)
class Try:
    """A transaction under way, and what it was told: reads without its own writes, and those."""

    transaction: Transaction = field(default_factory=lambda: Transaction(SPACE, Limits()))
    gets: dict[bytes, bytes | None] = field(default_factory=dict)
    scans: dict[tuple[bytes, bytes, int], Rows] = field(default_factory=dict)
    writes: dict[bytes, bytes | None] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """See above. `model` holds the keys of the space, `stored` the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[bytes, bytes] = {}
        self.stored: dict[bytes, bytes] = {}
        self.base = MemoryBase()
        self.tries = [Try(), Try()]

    # -- the host's ----------------------------------------------------------------------------------

    def perform(self, effect: Any) -> object:
        """The answer of the base to one effect."""
        return self.base.answer(effect)

    def crash(self) -> None:
        """Go on with what a crash leaves."""

    # -- steps ---------------------------------------------------------------------------------------

    @initialize(rows=st.dictionaries(KEYS, VALUES, min_size=4))
    def there_is_something(self, rows: dict[bytes, bytes]) -> None:
        for key, value in rows.items():
            self.somebody_writes(key, value, Commit)

    @rule(slot=SLOTS, key=KEYS)
    def get(self, slot: int, key: bytes) -> None:
        one = self.tries[slot]
        known = {**one.gets, **one.writes}
        found, told = self.step(slot, one.transaction.get(key), key not in known)
        if told:
            assert found == (known[key] if key in known else self.model.get(key))
            if key not in known:
                one.gets[key] = found

    @rule(slot=SLOTS, prefix=PREFIXES, after=KEYS, limit=st.integers(1, 2))
    def scan(self, slot: int, prefix: bytes, after: bytes, limit: int) -> None:
        one = self.tries[slot]
        mine = {key: value for key, value in one.writes.items() if key.startswith(prefix) and key > after}
        asked = (prefix, after, limit + len(mine))
        found, told = self.step(slot, one.transaction.scan(prefix, after, limit), asked not in one.scans)
        if told:
            base = one.scans.setdefault(asked, rows(self.model, *asked))
            both = {**dict(base), **mine}
            kept = {key: value for key, value in both.items() if value is not None}
            assert found == rows(kept, prefix, after, limit)

    @rule(slot=SLOTS, writes=st.dictionaries(KEYS, VALUES | st.none(), min_size=1, max_size=3))
    def write(self, slot: int, writes: dict[bytes, bytes | None]) -> None:
        one = self.tries[slot]
        for key, value in writes.items():
            if value is None:
                one.transaction.delete(key)
            else:
                one.transaction.put(key, value)
        one.writes.update(writes)

    @rule(slot=SLOTS, data=VALUES)
    def keep(self, slot: int, data: bytes) -> None:
        block = Block(Cid.of(data, RAW), data)
        self.tries[slot].blocks.append(block)
        self.tries[slot].transaction.keep(block)

    @rule(slot=SLOTS)
    def commit(self, slot: int) -> None:
        one, self.tries[slot] = self.tries[slot], Try()
        is_done = self.drive(one.transaction.commit())
        assert is_done is self.holds(one)
        if is_done:
            self.stored.update((bytes(block.cid), block.data) for block in one.blocks)
            for key, value in one.writes.items():
                self.set(key, value)

    @rule(key=KEYS, value=VALUES | st.none(), kind=st.sampled_from([Save, Commit]))
    def somebody_writes(self, key: bytes, value: bytes | None, kind: type[Save] | type[Commit]) -> None:
        assert self.perform(kind((Write("kv", PREFIX + key, value),))) is None
        self.set(key, value)

    @rule()
    def crashes(self) -> None:
        self.crash()

    @invariant()
    def it_is_the_dictionary(self) -> None:
        whole = tuple((PREFIX + key, value) for key, value in sorted(self.model.items()))
        assert self.perform(Scan("kv", b"", b"", 100)) == whole
        assert self.perform(Load("blocks", tuple(self.stored))) == tuple(self.stored.values())

    # -- inside --------------------------------------------------------------------------------------

    def set(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.model.pop(key, None)
        else:
            self.model[key] = value

    def holds(self, one: Try) -> bool:
        """Whether all that a transaction read is still so."""
        return all(self.model.get(key) == value for key, value in one.gets.items()) and all(
            rows(self.model, *asked) == found for asked, found in one.scans.items()
        )

    def step(self, slot: int, work: Coroutine[Any, Any, Any], is_fresh: bool) -> tuple[Any, bool]:
        """Do one thing in a transaction; (None, False) when it has to begin again.

        It has to if, and only if, it asks the base and something it read before has changed.
        """
        one = self.tries[slot]
        try:
            found = self.drive(work)
        except Stale:
            assert is_fresh and not self.holds(one)
            self.tries[slot] = Try()
            return None, False
        assert self.holds(one) or not is_fresh
        return found, True

    def drive(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Perform what a coroutine asks for, to its end."""
        going: Generator[Effect, object, Any] = work.__await__()
        try:
            effect = next(going)
            while True:
                effect = going.send(self.perform(effect))
        except StopIteration as end:
            return end.value


def rows(model: dict[bytes, bytes], prefix: bytes, after: bytes, limit: int) -> Rows:
    """A scan of a dictionary."""
    found = sorted(row for row in model.items() if row[0].startswith(prefix) and row[0] > after)
    return tuple(found[:limit])
