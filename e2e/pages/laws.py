"""The laws of `tests/contracts.py` in a JavaScript host; what the host's `entry` is to a kernel.

It is loaded into the host's Pyodide and performs one turn a call, over the host's own shell.

Does not know: which store the shell has.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import Any, Final

import cbor2
from tests import contracts

from promisegrid.effects import Commit, Effect, Failure, Load, Read, Save, Scan
from promisegrid_worker import store

TOLD: Final[dict[type[Effect], Callable[[int, Any], list[object]]]] = {
    Load: store.load,
    Scan: store.scan,
    Read: store.read,
    Save: store.save,
    Commit: store.commit,
}
READ: Final[dict[type[Effect], Callable[[Any], object]]] = {
    Load: store.loaded,
    Scan: store.scanned,
    Read: store.have_read,
    Commit: store.committed,
}


class Batch:
    """What a law awaits: several effects."""

    def __init__(self, effects: Sequence[Effect]) -> None:
        self.effects = effects

    def __await__(self) -> Generator[Batch, list[object], list[object]]:
        return (yield self)


async def perform(effects: Sequence[Effect]) -> list[object]:
    """As the laws call it."""
    return await Batch(effects)


class Court:
    """Tries one law at a time. Verbs of its shell: `names`, and `law` with a name."""

    def __init__(self) -> None:
        self.laws = {contracts.name(law): law for law in contracts.STORE}
        self.law: Coroutine[Any, Any, None] | None = None
        self.ask = self.next_ticket = 0
        self.waiting: dict[int, Effect] = {}
        self.order: list[int] = []
        self.answers: dict[int, object] = {}

    def turn(self, data: bytes) -> bytes:
        """As `promisegrid_worker.host.Host.turn`."""
        out: list[list[object]] = []
        for record in cbor2.loads(data)[1]:
            match record:
                case ["call", ask, "names", _]:
                    out.append(["reply", ask, list(self.laws)])
                case ["call", ask, "law", name]:
                    self.ask, self.law = ask, self.laws[name](perform)
                    out += self.go_on(None)
                case ["answer", ticket, value]:
                    effect = self.waiting.pop(ticket)
                    self.answers[ticket] = READ.get(type(effect), lambda answer: answer)(value)
                case ["failure", ticket, code, text]:
                    self.waiting.pop(ticket)
                    self.answers[ticket] = Failure(code, text)
        if self.law and not self.waiting:
            out += self.go_on([self.answers.pop(ticket) for ticket in self.order])
        return cbor2.dumps([None, out])

    def go_on(self, answers: list[object] | None) -> list[list[object]]:
        """Let the law see its answers, up to the next effects it awaits."""
        assert self.law is not None
        try:
            batch = self.law.send(answers)
            while not batch.effects:
                batch = self.law.send([])
        except StopIteration:
            self.law = None
            return [["reply", self.ask, None]]
        except AssertionError:
            self.law = None
            return [["refused", self.ask, "broken", traceback.format_exc()]]
        self.order = []
        for effect in batch.effects:
            self.next_ticket += 1
            self.order.append(self.next_ticket)
            self.waiting[self.next_ticket] = effect
        return [TOLD[type(self.waiting[ticket])](ticket, self.waiting[ticket]) for ticket in self.order]
