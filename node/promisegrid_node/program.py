"""One run of one program: a fresh store and instance, every bound set, every ending told apart.

How an ending is recognised: the reason noted when the epoch callback ended it (time, cancellation), the
meter's globals (fuel, stack, memory refused; promisegrid/wasm/meter.py), the WASI module's flags (output
limit, its own memory, proc_exit). What is left is the program's own trap, told in the engine's words.

Fuel is what the program's own code and WASI's on its behalf have counted; loading the job and handing out
the result are not the program's to pay.
"""

from __future__ import annotations

import ctypes
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, TypeVar

import wasmtime
from wasmtime import _bindings as ffi

from promisegrid import job as blobs
from promisegrid import units
from promisegrid.effects import Failure, Job, Outcome
from promisegrid.wasm.guard import GROW_FLAG, GROW_PAGES, UNMETERED
from promisegrid_node import wasi
from promisegrid_node.modules import Compiled
from promisegrid_node.wasi import Linked, LinkError, Wasi

Exports = Mapping[str, object]
P = ParamSpec("P")
T = TypeVar("T")
_PAGE: Final = 65_536
_TABLE_ELEMENTS: Final = 2_000_000
_ENDLESS: Final = 1 << 62
_RESULT_S: Final = 60
"""Wall clock for the WASI module to hand out what the program left: half a gigabyte at most."""
_WORDS: Final = {"i32": "<i", "i64": "<q", "f32": "<f", "f64": "<d"}


@dataclass(slots=True, eq=False)
class Stop:
    """Set from any thread: the program ends within a tick."""

    cancelled: bool = False


class _Refused(Exception):
    """An ending that is no trap of the program's."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.failure = Failure(code, text)


class Program:
    """A job about to run. `run` once, then `close`, in the same thread.

    linker: None for a module without imports. stop: None for a job whose fuel alone bounds its time; it has
    no clock and cannot be cancelled.
    """

    def __init__(
        self,
        engine: wasmtime.Engine,
        linker: Wasi | None,
        compiled: Compiled,
        job: Job,
        stop: Stop | None,
    ) -> None:
        self._linker, self._compiled, self._job, self._stop = linker, compiled, job, stop
        self._store = wasmtime.Store(engine)
        self._linked: Linked | None = None
        self._late = False
        self._fuel = UNMETERED if job.fuel is None else job.fuel
        self._deadline = time.monotonic() + job.time_ms / 1000
        self._callback: Any = None if stop is None else _EPOCH_CALLBACK(self._on_tick)

    def run(self) -> Outcome | Failure:
        """Link, call, and say how it ended."""
        memory = self._compiled.info.memory
        if memory is not None and memory.min_pages * _PAGE > self._job.memory_bytes:
            needs, has = units.size(memory.min_pages * _PAGE), units.size(self._job.memory_bytes)
            text = f"The program begins with {needs} of memory; its budget is {has}."
            return Failure("out_of_memory", text)
        values: bytes = b""
        wrong: Exception | None = None
        try:
            self._bound()
            self._link()
            values = self._call()
        except (wasmtime.Trap, wasmtime.WasmtimeError, LinkError, _Refused) as error:
            wrong = error
        try:
            return self._settle(values, wrong)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:  # while the result was handed out
            text = f"The program's output cannot be read: {_reason(error)}."
            return self._outside() or Failure("out_of_memory", text)

    def close(self) -> None:
        """Give the memory back at once."""
        self._linked = None
        self._store.close()
        self._callback = None

    # -- before --------------------------------------------------------------------------------------

    def _bound(self) -> None:
        """Bounds of the store. The guard bounds the program's memory; this one is for the WASI module's."""
        store, job = self._store, self._job
        store.set_limits(
            memory_size=max(job.memory_bytes, wasi.memory_bound(len(job.wasi), job.output_bytes)),
            table_elements=_TABLE_ELEMENTS,
            instances=wasi.INSTANCES + 1,
            memories=wasi.MEMORIES + 1,
            tables=wasi.TABLES + 16,
        )
        store.set_epoch_deadline(_ENDLESS if self._callback is None else 1)
        if self._callback is not None:
            ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), self._callback, None, _NO_FINALIZER)

    def _on_tick(self, _context: Any, _data: Any, delta: Any, _kind: Any) -> int:
        """The engine asks at each tick whether to go on: 0, or an error that ends the program."""
        self._late = time.monotonic() > self._deadline
        if self._late or (self._stop is not None and self._stop.cancelled):
            error = ffi.wasmtime_error_new(b"stopped")
            return ctypes.cast(error, ctypes.c_void_p).value or 0
        delta[0] = 1
        return 0

    def _link(self) -> None:
        store, compiled = self._store, self._compiled
        if compiled.info.imports:
            assert self._linker is not None
            self._linked = self._linker.link(store, compiled.module, self._job.wasi)
        else:
            instance = wasmtime.Instance(store, compiled.module, [])
            memory = instance.exports(store).get("memory")
            own = memory if isinstance(memory, wasmtime.Memory) else None
            self._linked = Linked(store, instance, own, None, None)
        pages = self._linked.instance.exports(store).get(GROW_PAGES)
        if isinstance(pages, wasmtime.Global):
            pages.set_value(store, self._job.memory_bytes // _PAGE)
        self._linked.set_fuel(self._fuel)

    # -- the call ------------------------------------------------------------------------------------

    def _call(self) -> bytes:
        assert self._linked is not None
        self._linked.start()
        exports = self._linked.instance.exports(self._store)
        if self._job.abi == "command":
            _func(exports, "_start")(self._store)
            return b""
        if self._compiled.info.has_initialize:
            _func(exports, "_initialize")(self._store)
        return self._handle(exports) if self._job.abi == "handle" else self._plain(exports)

    def _handle(self, exports: Exports) -> bytes:
        store, params, most = self._store, self._job.params, self._job.output_bytes
        memory = exports.get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise _Refused("bad_result", 'The handler does not export its memory as "memory".')
        at = _func(exports, "alloc")(store, len(params))
        _inside("alloc", wasi.write, store, memory, at, params)
        packed = _func(exports, "handle")(store, at, len(params)) & 0xFFFF_FFFF_FFFF_FFFF
        size = packed & 0xFFFF_FFFF
        if size > most:
            text = f"The handler returned {units.size(size)}; its budget is {units.size(most)}."
            raise _Refused("output_too_large", text)
        return _inside("handle", wasi.read, store, memory, packed >> 32, size)

    def _plain(self, exports: Exports) -> bytes:
        signature = self._compiled.info.functions.get(self._job.func)
        if signature is None or not {*signature.params, *signature.results} <= _WORDS.keys():
            text = f"The module exports no function {self._job.func!r} over numbers."
            raise _Refused("no_such_function", text)
        words = self._job.params
        args = [
            struct.unpack_from(_WORDS[kind], words, 8 * at)[0] for at, kind in enumerate(signature.params)
        ]
        result = _func(exports, self._job.func)(self._store, *args)
        results = list(result) if len(signature.results) > 1 else [result][: len(signature.results)]
        return b"".join(
            struct.pack(_WORDS[kind], value).ljust(8, b"\0")
            for kind, value in zip(signature.results, results, strict=True)
        )

    # -- after ---------------------------------------------------------------------------------------

    def _settle(self, values: bytes, wrong: Exception | None) -> Outcome | Failure:
        """What it came to, now that nothing of the program runs any more."""
        fuel = self._linked.fuel_used(self._fuel) if self._linked is not None else 0
        early = self._told_by_meter(fuel) or self._told_by_engine(wrong)
        if early is not None:
            return early
        blob = self._blob()
        flags = int.from_bytes(blob[4:8], "little")
        failure = self._told_by_flags(flags) if wrong is not None else None
        if failure is None and flags & blobs.EXITED and self._job.abi != "command":
            failure = Failure("trap", "The function called proc_exit instead of returning.")
        if failure is None and wrong is not None and not flags & blobs.EXITED:
            failure = Failure("trap", f"The program trapped: {_reason(wrong)}.{_said(blob)}")
        memory = self._linked.memory if self._linked is not None else None
        size = int(memory.data_len(self._store)) if memory is not None else 0
        return failure or Outcome(values, blob, fuel, size)

    def _told_by_meter(self, fuel: int) -> Failure | None:
        """Endings that fall at the same instruction on every engine."""
        if fuel > self._fuel:
            return Failure("out_of_fuel", f"The program used up its fuel of {units.number(self._fuel)}.")
        if self._linked is not None and self._linked.too_deep():
            return Failure("stack_overflow", "The program recursed too deeply.")
        return None

    def _told_by_engine(self, wrong: Exception | None) -> Failure | None:
        """Endings that need no look at what the program left."""
        if wrong is None:
            return None
        if isinstance(wrong, _Refused):
            return wrong.failure
        if isinstance(wrong, LinkError):
            return Failure("trap", f"The program cannot be started: {wrong}.")
        code = getattr(wrong, "trap_code", None)
        if code == wasmtime.TrapCode.STACK_OVERFLOW:
            return Failure("stack_overflow", "The program recursed too deeply.")
        return self._outside()

    def _told_by_flags(self, flags: int) -> Failure | None:
        """Endings that leave a trap behind and a note of why."""
        job = self._job
        if flags & blobs.OUTPUT_LIMIT:
            text = f"The program wrote more than its budget of {units.size(job.output_bytes)}."
            return Failure("output_too_large", text)
        if flags & blobs.NO_MEMORY:
            return Failure("out_of_memory", "The program's files outgrew the memory of its file system.")
        if self._growth_refused():
            text = f"The program asked for more memory than its budget of {units.size(job.memory_bytes)}."
            return Failure("out_of_memory", text)
        return None

    def _outside(self) -> Failure | None:
        """Whether it was ended from outside."""
        if self._stop is not None and self._stop.cancelled:
            return Failure("cancelled", "The run was stopped.")
        if self._late:
            return Failure("out_of_time", f"The program did not end within {self._job.time_ms} ms.")
        return None

    def _blob(self) -> bytes:
        """The result blob."""
        if self._linked is None:
            return wasi.EMPTY_RESULT
        self._deadline = time.monotonic() + _RESULT_S
        return self._linked.result()

    def _growth_refused(self) -> bool:
        if self._linked is None:
            return False
        flag = self._linked.instance.exports(self._store).get(GROW_FLAG)
        return isinstance(flag, wasmtime.Global) and flag.value(self._store) == 1


_EPOCH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.POINTER(ffi.wasmtime_context_t),
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ffi.wasmtime_update_deadline_kind_t),
)
_NO_FINALIZER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)()


def _said(blob: bytes) -> str:
    """What it had to say before it trapped, as a sentence of its own."""
    words = blobs.last_words(blob).rstrip(".")
    return f" It had written to stderr: {words}." if words else ""


def _func(exports: Exports, name: str) -> wasmtime.Func:
    found = exports.get(name)
    if not isinstance(found, wasmtime.Func):
        raise _Refused("no_such_function", f"The module exports no function {name!r}.")
    return found


def _inside(who: str, touch: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Touch the memory where the handler said; outside it, that is the handler's bad result."""
    try:
        return touch(*args, **kwargs)
    except LinkError as error:
        raise _Refused("bad_result", f"`{who}` gave an address outside its memory: {error}.") from error


def _reason(error: Exception) -> str:
    """The engine's own words, without its backtrace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "wasm trap:" in line), lines[-1] if lines else "unknown")
    return said.split("wasm trap:")[-1].strip().removeprefix("wasm ").rstrip(".")[:200]
