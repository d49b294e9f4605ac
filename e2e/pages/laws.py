"""The laws of `tests/contracts.py` in a JavaScript host; what the host's `entry` is to a kernel.

It is loaded into the host's Pyodide and performs one turn a call, over the host's own shell.

Does not know: which store the shell has.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, Final

import cbor2
from tests import contracts

from promisegrid.effects import Commit, Digest, Effect, Failure, Load, Read, Save, Scan
from promisegrid_worker import keys, store

TOLD: Final[dict[type[Effect], Callable[[int, Any], list[object]]]] = {
    Load: store.load,
    Scan: store.scan,
    Read: store.read,
    Save: store.save,
    Commit: store.commit,
    Digest: keys.digest,
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


Work = Callable[[Any], Coroutine[Any, Any, object]]


def _trial(law: contracts.Law) -> Work:
    return lambda _: law(perform)


LAWS: Final = {contracts.name(law): _trial(law) for law in contracts.STORE}


class Court:
    """Does one work at a time. Verbs of its shell: `names`, and those names, with what the work is given."""

    def __init__(self, work: Mapping[str, Work]) -> None:
        self.work = work
        self.doing: Coroutine[Any, Any, object] | None = None
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
                    out.append(["reply", ask, list(self.work)])
                case ["call", ask, name, given]:
                    self.ask, self.doing = ask, self.work[name](given)
                    out += self.go_on(None)
                case ["answer", ticket, value]:
                    effect = self.waiting.pop(ticket)
                    self.answers[ticket] = READ.get(type(effect), lambda answer: answer)(value)
                case ["failure", ticket, code, text]:
                    self.waiting.pop(ticket)
                    self.answers[ticket] = Failure(code, text)
        if self.doing and not self.waiting:
            out += self.go_on([self.answers.pop(ticket) for ticket in self.order])
        return cbor2.dumps([None, out])

    def go_on(self, answers: list[object] | None) -> list[list[object]]:
        """Let the work see its answers, up to the effects it awaits next."""
        assert self.doing is not None
        try:
            batch = self.doing.send(answers)
            while not batch.effects:
                batch = self.doing.send([])
        except StopIteration as end:
            self.doing = None
            return [["reply", self.ask, end.value]]
        except AssertionError:
            self.doing = None
            return [["refused", self.ask, "broken", traceback.format_exc()]]
        self.order = []
        for effect in batch.effects:
            self.next_ticket += 1
            self.order.append(self.next_ticket)
            self.waiting[self.next_ticket] = effect
        return [TOLD[type(self.waiting[ticket])](ticket, self.waiting[ticket]) for ticket in self.order]
