"""A call that was dealt with, as its owner may like to see it: put into words only when somebody looks.

It keeps names, not content: neither arguments nor values are held by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from promisegrid.cid import Cid
from promisegrid.effects import Plain
from promisegrid.errors import RemoteError
from promisegrid.task import RunResult, Task


class Dealt(Mapping[str, Plain]):
    """at_ms, ms, for, code, func, task, result, receipt, exit, by, cached, fuel, refused, text; CIDs as text.

    What does not apply is None. `ms` is how long it took.
    """

    __slots__ = ("_facts", "_plain")
    _NAMES = (
        "at_ms", "ms", "for", "code", "func", "task", "result", "receipt", "exit", "by", "cached", "fuel",
        "refused", "text",
    )  # fmt: skip

    def __init__(
        self, at_ms: int, ms: int, asker: str, task: Task, done: RunResult | None, refusal: RemoteError | None
    ) -> None:
        how: tuple[Plain | Cid, ...] = (None,) * 7
        if done is not None:
            how = done.task, done.result, done.receipt, done.exit, done.by, done.cached, done.fuel
        why = (None, None) if refusal is None else (refusal.code, refusal.text)
        self._facts: tuple[Plain | Cid, ...] = (at_ms, ms, asker, task.code, task.func, *how, *why)
        self._plain: dict[str, Plain] | None = None

    def _words(self) -> dict[str, Plain]:
        if self._plain is None:
            rows = zip(self._NAMES, self._facts, strict=True)
            self._plain = {name: str(fact) if isinstance(fact, Cid) else fact for name, fact in rows}
        return self._plain

    def __getitem__(self, name: str) -> Plain:
        return self._words()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._NAMES)

    def __len__(self) -> int:
        return len(self._NAMES)
