"""One run of one program: a fresh store and instance, every bound set, every ending told apart.

How an ending is recognised: the WASI module's flags (output limit, its own memory, proc_exit), the guard's
global (memory refused), the reason noted when the epoch callback ended it (time, cancellation), then the
engine's trap code. In that order, because each of the first leaves a trap behind as well.
"""

from __future__ import annotations

import ctypes
import struct
import time
from dataclasses import dataclass
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as ffi

from promisegrid import job as blobs
from promisegrid.effects import Failure, Job, Outcome
from promisegrid.wasm.guard import GROW_FLAG, GROW_PAGES
from promisegrid_node import wasi
from promisegrid_node.modules import Compiled
from promisegrid_node.wasi import Linked, LinkError, Wasi

_ENDLESS: Final = (1 << 63) - 1
_PAGE: Final = 65_536
_WASI_SLACK: Final = 64 * 1024 * 1024
_TABLE_ELEMENTS: Final = 2_000_000
_WORDS: Final = {"i32": "<i", "i64": "<q", "f32": "<f", "f64": "<d"}


@dataclass(slots=True)
class Stop:
    """Set from any thread: the program ends within a tick."""

    cancelled: bool = False


class Program:
    """A job about to run. `run` once, then `close`."""

    def __init__(
        self, engine: wasmtime.Engine, linker: Wasi, compiled: Compiled, job: Job, stop: Stop
    ) -> None:
        self._linker, self._compiled, self._job, self._stop = linker, compiled, job, stop
        self._store = wasmtime.Store(engine)
        self._late = False
        self._fuel_left = 0
        self._linked: Linked | None = None
        self._deadline = time.monotonic() + job.time_ms / 1000
        self._callback = _EPOCH_CALLBACK(self._on_tick)

    def run(self) -> Outcome | Failure:
        """Link, call, and say how it ended."""
        memory = self._compiled.info.memory
        if memory is not None and memory.min_pages * _PAGE > self._job.memory_bytes:
            needs = memory.min_pages * _PAGE
            return Failure("out_of_memory", f"The program needs {needs} bytes of memory to start with.")
        self._bound()
        try:
            values = self._call()
        except (wasmtime.Trap, wasmtime.WasmtimeError, LinkError) as error:
            return self._ended(error)
        except _BadResult as error:
            return Failure("bad_result", str(error))
        fuel = self._fuel_given() - self._fuel_left
        blob = self._blob()
        flags = struct.unpack_from("<I", blob, 4)[0]
        if self._job.abi != "command" and flags & blobs.EXITED:
            return Failure("trap", "The program ended itself instead of returning a value.")
        return Outcome(values, blob, fuel, self._memory_bytes())

    def close(self) -> None:
        """Give the memory back at once."""
        self._linked = None
        self._store.close()

    # -- before --------------------------------------------------------------------------------------

    def _bound(self) -> None:
        """Bounds of the store. Guest memory is bounded exactly by the guard; this holds for all memories."""
        store, job = self._store, self._job
        most = max(job.memory_bytes, len(job.wasi) + job.output_bytes * 2 + _WASI_SLACK)
        store.set_limits(
            memory_size=most,
            table_elements=_TABLE_ELEMENTS,
            instances=wasi.INSTANCES + 1,
            memories=wasi.MEMORIES + 1,
            tables=wasi.TABLES + 16,
        )
        store.set_fuel(_ENDLESS)
        store.set_epoch_deadline(1)
        ffi.wasmtime_store_epoch_deadline_callback(store.ptr(), self._callback, None, _NO_FINALIZER)

    def _on_tick(self, _context: Any, _data: Any, delta: Any, _kind: Any) -> int:
        """The engine asks at each tick whether to go on: 0, or an error that ends the program."""
        self._late = time.monotonic() > self._deadline
        if self._late or self._stop.cancelled:
            error = ffi.wasmtime_error_new(b"stopped")
            return ctypes.cast(error, ctypes.c_void_p).value or 0
        delta[0] = 1
        return 0

    # -- the call ------------------------------------------------------------------------------------

    def _call(self) -> bytes:
        job, store = self._job, self._store
        linked = self._linker.link(store, self._compiled.module, job.wasi)
        self._linked = linked
        exports = linked.instance.exports(store)
        budget = exports.get(GROW_PAGES)
        if isinstance(budget, wasmtime.Global):
            budget.set_value(store, job.memory_bytes // _PAGE)
        store.set_fuel(self._fuel_given())
        if job.abi == "command":
            values = self._command(exports)
        else:
            if self._compiled.info.has_initialize:
                _func(exports, "_initialize")(store)
            values = self._handle(exports) if job.abi == "handle" else self._plain(exports)
        self._fuel_left = store.get_fuel()
        return values

    def _command(self, exports: wasmtime.InstanceExports) -> bytes:
        try:
            _func(exports, "_start")(self._store)
        except (wasmtime.Trap, wasmtime.WasmtimeError):
            if not self._flags() & blobs.EXITED:  # proc_exit ends a program by a trap too
                raise
        return b""

    def _handle(self, exports: wasmtime.InstanceExports) -> bytes:
        store, params = self._store, self._job.params
        memory = exports["memory"]
        if not isinstance(memory, wasmtime.Memory):
            raise _BadResult("The handler does not export its memory as \"memory\".")
        at = _func(exports, "alloc")(store, len(params))
        wasi.write(store, memory, at, params)
        packed = _func(exports, "handle")(store, at, len(params)) & 0xFFFF_FFFF_FFFF_FFFF
        size = packed & 0xFFFF_FFFF
        if size > self._job.output_bytes:
            raise _BadResult(f"The handler returned {size} bytes; at most {self._job.output_bytes} are read.")
        return wasi.read(store, memory, packed >> 32, size)

    def _plain(self, exports: wasmtime.InstanceExports) -> bytes:
        signature = self._compiled.info.functions[self._job.func]
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

    def _blob(self) -> bytes:
        """The result blob; building it costs the program nothing."""
        if self._linked is None:
            return wasi.EMPTY_RESULT
        self._store.set_fuel(_ENDLESS)
        self._deadline = time.monotonic() + 60
        return self._linked.result()

    def _flags(self) -> int:
        used = self._store.get_fuel()
        try:
            flags: int = struct.unpack_from("<I", self._blob(), 4)[0]
        except (wasmtime.Trap, wasmtime.WasmtimeError, LinkError):
            flags = 0
        self._store.set_fuel(used)
        return flags

    def _ended(self, error: Exception) -> Failure:
        """Why a program did not end by itself."""
        job = self._job
        if self._stop.cancelled:
            return Failure("cancelled", "The run was stopped.")
        if self._late:
            return Failure("out_of_time", f"The program did not end within {job.time_ms} ms.")
        code = getattr(error, "trap_code", None)
        if code == wasmtime.TrapCode.OUT_OF_FUEL:
            return Failure("out_of_fuel", f"The program used up its fuel of {job.fuel}.")
        if code == wasmtime.TrapCode.STACK_OVERFLOW:
            return Failure("stack_overflow", "The program recursed too deeply.")
        flags = self._flags()
        if flags & blobs.OUTPUT_LIMIT:
            return Failure("output_too_large", f"The program wrote more than its {job.output_bytes} bytes.")
        if flags & blobs.NO_MEMORY or self._growth_refused():
            return Failure("out_of_memory", f"The program asked for more than its {job.memory_bytes} bytes of memory.")
        if isinstance(error, LinkError):
            return Failure("trap", f"The program could not be started: {error}.")
        return Failure("trap", f"The program trapped: {_reason(error)}.")

    def _growth_refused(self) -> bool:
        if self._linked is None:
            return False
        flag = self._linked.instance.exports(self._store).get(GROW_FLAG)
        return isinstance(flag, wasmtime.Global) and flag.value(self._store) == 1

    def _fuel_given(self) -> int:
        return self._job.fuel if self._job.fuel is not None else _ENDLESS

    def _memory_bytes(self) -> int:
        if self._linked is None or self._linked.memory is None:
            return 0
        return int(self._linked.memory.data_len(self._store))


class _BadResult(Exception):
    """A handler returned what cannot be read."""


_EPOCH_CALLBACK = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.POINTER(ffi.wasmtime_context_t),
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_uint64),
    ctypes.POINTER(ffi.wasmtime_update_deadline_kind_t),
)
_NO_FINALIZER = ctypes.cast(None, ctypes.CFUNCTYPE(None, ctypes.c_void_p))


def _func(exports: wasmtime.InstanceExports, name: str) -> wasmtime.Func:
    found = exports.get(name)
    if not isinstance(found, wasmtime.Func):
        raise _BadResult(f"The module exports no function {name!r}.")
    return found


def _reason(error: Exception) -> str:
    """The engine's own words, without its backtrace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "wasm trap:" in line), lines[-1] if lines else "unknown")
    return said.split("wasm trap:")[-1].strip().removeprefix("wasm ").rstrip(".")[:200]
