"""Link a program to the WASI module in Wasmtime. Twin of worker/wasi.mjs.

    wasi = Wasi(engine)                             # once an engine: compiles four small modules
    linked = wasi.link(store, module, job)          # everything but calling the program
    linked.instance.exports(store)["_start"](store) # returns, or traps
    linked.result()                                 # the result blob (promisegrid/job.py decodes it)

The order: gate → wasi (imports the gate) → program (imports wasi) → peek and bridge (import the program's
memory and fill the gate's table). No host function takes part: a call costs what a call inside wasm costs.

Promises: a program gets only what it asks for, and nothing outside `offers` and `extra`; addresses that cross
the boundary are bounds-checked.
Does not know: budgets, what a job means. The store's owner sets limits and deadlines: linking makes four
instances, one or two memories and one table beside the program's own (`INSTANCES`, `MEMORIES`, `TABLES`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import wasmtime
from wasmtime import Func, Instance, Limits, Memory, MemoryType, Module, Store

from promisegrid.wasi import MODULES, load, offers
from promisegrid.wasm.guard import DEPTH, FUEL, START, UNMETERED

Extern = wasmtime.Func | wasmtime.Memory | wasmtime.Global | wasmtime.Table
Extra = Mapping[tuple[str, str], Extern]

NO_EXTRA: Final[Extra] = {}
INSTANCES: Final = 4
MEMORIES: Final = 2
TABLES: Final = 1
EMPTY_RESULT: Final = b"PGR1" + bytes(20)
"""What a program that asks for nothing of WASI leaves behind."""


MALFORMED: Final = (
    "the job is malformed: a name or link in the folder is empty, longer than 255 bytes, '.' or '..', "
    "or not UTF-8 text; rename it"
)


class LinkError(Exception):
    """The program cannot be linked: it asks for what is not offered, or parts do not fit. Names the cause."""


def memory_bound(job_bytes: int, output_bytes: int) -> int:
    """Bytes of its own memory that the WASI module may come to need, for the store's limit.

    The job; a copy of each input file that is written to; the output; and the result, which holds them all.
    Pages double while small, and names have their nodes, hence the rest.
    """
    return 3 * job_bytes + 3 * output_bytes + (8 << 20)


def missing_imports(module: Module, extra: Extra = NO_EXTRA) -> list[str]:
    """The imports nobody offers, as "module.name", sorted. Call it before anything is instantiated."""
    missing = set()
    for item in module.imports:
        name = item.name or ""
        if (item.module, name) in extra or isinstance(item.type, MemoryType):
            continue
        if not (offers(item.module, name) and isinstance(item.type, wasmtime.FuncType)):
            missing.add(f"{item.module}.{name}")
    return sorted(missing)


@dataclass(frozen=True, slots=True)
class Linked:
    """A program ready to be called, and what it left behind afterwards."""

    store: Store
    instance: Instance
    memory: Memory | None
    """The program's own, exported or imported; None if it has none."""
    wasi: Instance | None
    """None if the program asks for nothing of WASI."""
    bridge: Instance | None

    def set_fuel(self, units: int) -> None:
        """What the program may use from now on, and what WASI may on its behalf (`fuel_used`)."""
        for fuel in self._counters(FUEL):
            fuel.set_value(self.store, units)

    def fuel_used(self, units: int) -> int:
        """Units used since `set_fuel(units)`, by the program and by WASI together. Also after a trap."""
        return sum(units - int(fuel.value(self.store)) for fuel in self._counters(FUEL))

    def too_deep(self) -> bool:
        """Whether the metered stack ended it."""
        return any(depth.value(self.store) < 0 for depth in self._counters(DEPTH))

    def start(self) -> None:
        """Run what was the module's start function. Raises wasmtime.Trap."""
        start = self.instance.exports(self.store).get(START)
        if start is not None:
            _func(start)(self.store)

    def _counters(self, name: str) -> list[wasmtime.Global]:
        instances = (self.instance, self.wasi, self.bridge)
        found = [one.exports(self.store).get(name) for one in instances if one is not None]
        return [one for one in found if isinstance(one, wasmtime.Global)]

    def result(self) -> bytes:
        """The result blob, also after a trap; not after a deadline, when the store may refuse.

        Raises wasmtime.Trap or WasmtimeError if the store no longer runs.
        """
        if self.wasi is None:
            return EMPTY_RESULT
        self.set_fuel(UNMETERED)
        exports = self.wasi.exports(self.store)
        k_result = _func(exports["k_result"])
        try:
            at = k_result(self.store)
        except wasmtime.Trap:  # no memory left to build it: the second answer carries only the flags
            at = k_result(self.store)
        return read(self.store, _memory(exports["memory"]), at, _func(exports["k_result_len"])(self.store))


class Wasi:
    """The WASI modules compiled for one engine."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._modules = {name: Module(engine, load(name)) for name in MODULES}

    def link(self, store: Store, module: Module, job: bytes, extra: Extra = NO_EXTRA) -> Linked:
        """Instantiate the program with its job loaded; nothing of it runs until `Linked.start`.

        `extra` are further imports by (module, name); they win over what is offered.
        Raises LinkError, or wasmtime.Trap / WasmtimeError if the engine or a limit refuses.
        """
        missing = missing_imports(module, extra)
        if missing:
            names = ", ".join(missing[:8])
            raise LinkError(f"the module imports {names}, which no host offers; build it for WASI preview 1")
        externs: dict[tuple[str, str], Extern] = dict(extra)
        gate, wasi, bridge = None, None, None
        if any(offers(item.module, item.name or "") for item in module.imports):
            gate = self._instance(store, "gate", {})
            wasi = self._instance(store, "wasi", {"gate": gate})
            self._load_job(store, wasi, job)
        imports = []
        for item in module.imports:
            key = (item.module, item.name or "")
            if key not in externs:
                externs[key] = _offer(store, wasi, item)
            imports.append(externs[key])
        instance = Instance(store, module, imports)
        memory = _program_memory(store, module, instance, imports)
        if gate is not None and wasi is not None:
            bridge = self._bridge(store, gate, wasi, memory)
        return Linked(store, instance, memory, wasi, bridge)

    def _instance(self, store: Store, name: str, given: Mapping[str, Instance]) -> Instance:
        module = self._modules[name]
        imports = [given[item.module].exports(store)[item.name or ""] for item in module.imports]
        return Instance(store, module, imports)

    def _load_job(self, store: Store, wasi: Instance, job: bytes) -> None:
        exports = wasi.exports(store)
        at = _func(exports["k_alloc"])(store, len(job))
        write(store, _memory(exports["memory"]), at, job)
        if _func(exports["k_load"])(store, at, len(job)):
            raise LinkError(MALFORMED)

    def _bridge(self, store: Store, gate: Instance, wasi: Instance, memory: Memory | None) -> Instance:
        if memory is None:  # then every address is a fault
            memory = Memory(store, MemoryType(Limits(0, 0)))
        peek = Instance(store, self._modules["peek"], [memory])
        return self._instance(store, "bridge", {"gate": gate, "wasi": wasi, "peek": peek})


def read(store: Store, memory: Memory, at: int, size: int) -> bytes:
    """A copy of [at, at+size). Raises LinkError if that is not inside the memory."""
    return ctypes.string_at(_address(store, memory, at, size), size) if size else b""


def write(store: Store, memory: Memory, at: int, data: bytes) -> None:
    """Copy `data` to `at`. Raises LinkError if it does not fit inside the memory."""
    ctypes.memmove(_address(store, memory, at, len(data)), data, len(data))


def _address(store: Store, memory: Memory, at: int, size: int) -> int:
    start = at & 0xFFFFFFFF  # an i32 result is signed in Python
    if size < 0 or start + size > memory.data_len(store):
        raise LinkError(f"{size} bytes at {start} are not inside the program's memory")
    return ctypes.addressof(memory.data_ptr(store).contents) + start


def _offer(store: Store, wasi: Instance | None, item: wasmtime.ImportType) -> Extern:
    if isinstance(item.type, MemoryType):
        _check_memory(item.type)
        return Memory(store, item.type)
    assert wasi is not None, item.name
    return _func(wasi.exports(store)[item.name or ""])


def _check_memory(kind: MemoryType) -> None:
    if kind.is_shared or kind.is_64:
        raise LinkError("the module has a shared or 64-bit memory; build it without threads, for wasm32")


def _program_memory(store: Store, module: Module, instance: Instance, imports: list[Extern]) -> Memory | None:
    exported = instance.exports(store).get("memory")
    if isinstance(exported, Memory):
        memory = exported
    else:
        memories = [item for item in imports if isinstance(item, Memory)]
        if not memories:
            return None
        memory = memories[0]
    _check_memory(memory.type(store))
    return memory


def _func(item: object) -> Func:
    assert isinstance(item, Func), item
    return item


def _memory(item: object) -> Memory:
    assert isinstance(item, Memory), item
    return item
