"""Preparing and running modules, between the kernel and the handler pool. Twin of the node's `runtime`.

Preparing takes steps, because a module must be validated by the engine as its author made it before it is
guarded (an invalid module can become a valid one by what the guard appends):

    find (compiled or shelved?) · or, with bytes: inspect → check (by the engine) → guard → keep (compile)

The same steps for a large module are one record, `meter`: a second Python takes them, off this thread.

Promises: a module runs only after all of these; each answer is what `effects` says. Does not know workers or
IndexedDB: `worker/runtime.mjs` finds, checks, keeps and runs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from promisegrid import units
from promisegrid.cid import Cid
from promisegrid.effects import Failure, Outcome, Prepare, Run
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.wasm.guard import VERSION, guard
from promisegrid.wasm.inspect import inspect
from promisegrid.wasm.layout import FuncType
from promisegrid.wasm.module import ModuleInfo, check_imports, describe

Record = list[Any]
_PAGE: Final = 65_536
_UNMETERED: Final = 1 << 62
_KNOWN: Final = 64
"""Modules whose description is kept in memory; the compiled ones are JavaScript's."""
_APART: Final = 256 * 1024
"""Bytes of a module beyond which a second Python looks at it and rewrites it. Pyodide is
held to 1 MB/s (bench/tab_meter.py), so up to here nobody waits for the kernel's thread longer than a quarter
of a second; the second Python takes longer than that to start, and memory: small modules stay here."""


@dataclass(frozen=True, slots=True)
class _Checking:
    """Bytes that were inspected and that the engine is validating."""

    prepare: Prepare
    info: ModuleInfo


@dataclass(frozen=True, slots=True)
class _Keeping:
    """A guarded module that is being compiled."""

    info: ModuleInfo


class Runtime:
    """What is known about modules, and the step each open ticket is at."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._infos: OrderedDict[Cid, ModuleInfo] = OrderedDict()
        self._steps: dict[int, Prepare | _Checking | _Keeping] = {}

    def prepare(self, ticket: int, effect: Prepare) -> Record:
        """The first step of a `Prepare`; a `["failure", …]` is answered by the shell as it stands."""
        if effect.data is None:
            self._steps[ticket] = effect
            return ["find", ticket, _key(effect.code)]
        if len(effect.data) > _APART:
            self._steps[ticket] = effect
            return ["meter", ticket, _key(effect.code), effect.data, self._limits.memory_bytes // _PAGE]
        try:
            info = look(effect.data)
        except RemoteError as error:
            return ["fail", ticket, error.code, error.text]
        self._steps[ticket] = _Checking(effect, info)
        return ["check", ticket, effect.data]

    def run(self, ticket: int, effect: Run) -> Record:
        """A `Run` as one record; the answer is `{values, wasi, fuel, memory}`."""
        job = effect.job
        info = self._infos.get(job.code)
        if info is None:
            return ["fail", ticket, "not_found", "The module is no longer in this tab's cache; run it again."]
        if info.memory is not None and info.memory.min_pages * _PAGE > job.memory_bytes:
            needs, has = units.size(info.memory.min_pages * _PAGE), units.size(job.memory_bytes)
            text = f"The program begins with {needs} of memory; its budget is {has}."
            return ["fail", ticket, "out_of_memory", text]
        signature = info.functions.get(job.func, FuncType((), ()))
        return [
            "run",
            ticket,
            {
                "code": _key(job.code),
                "time": job.time_ms,
                "abi": job.abi,
                "func": job.func,
                "params": job.params,
                "wasi": job.wasi,
                "output": job.output_bytes,
                "budget": job.memory_bytes // _PAGE,
                "fuel": _UNMETERED if job.fuel is None else job.fuel,
                "initialize": info.has_initialize,
                "signature": {"params": list(signature.params), "results": list(signature.results)},
            },
        ]

    def answered(self, ticket: int, value: Any) -> Record | ModuleInfo | Outcome | Failure | None:
        """The next step as a record, or the effect's own answer."""
        step = self._steps.pop(ticket, None)
        if step is None:
            return Outcome(value["values"], value["wasi"], value["fuel"], value["memory"])
        if isinstance(step, Prepare):
            return None if value is None else self._know(step.code, ModuleInfo.from_value(cbor2.loads(value)))
        if isinstance(step, _Keeping):
            return step.info
        return self._guard(ticket, step)

    def forget(self, ticket: int) -> None:
        """That ticket failed."""
        self._steps.pop(ticket, None)

    def _guard(self, ticket: int, step: _Checking) -> Record | Failure:
        prepare = step.prepare
        assert prepare.data is not None
        try:
            guarded = guard(prepare.data, self._limits.memory_bytes // _PAGE)
        except RemoteError as error:
            return Failure(error.code, error.text)
        self._steps[ticket] = _Keeping(self._know(prepare.code, step.info))
        return ["keep", ticket, _key(prepare.code), guarded, cbor2.dumps(step.info.to_value())]

    def _know(self, code: Cid, info: ModuleInfo) -> ModuleInfo:
        self._infos[code] = info
        self._infos.move_to_end(code)
        if len(self._infos) > _KNOWN:
            self._infos.popitem(last=False)
        return info


def look(data: bytes) -> ModuleInfo:
    """What is known about a module that the engine may see; RemoteError says why it may not."""
    info = describe(data)
    check_imports(info)
    inspect(data)
    return info


def _key(code: Cid) -> bytes:
    """Under which JavaScript keeps what was made of a module: another guard makes another thing of it."""
    return bytes(code) + bytes((VERSION,))
