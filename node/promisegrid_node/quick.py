"""A tiny call on a fresh instance, straight through the engine's C interface: half the cost of `program`.

Only for modules without imports, start or initialisation, only over whole numbers or `alloc` and `handle`,
and only for the plain good ending. Every other ending is None: nothing of the instance outlives the call, so
the caller runs the job again where all endings are told apart. Fuel alone bounds the time: give little.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import wasmtime
from wasmtime import _bindings as ffi

from promisegrid.effects import Job, Outcome
from promisegrid.wasm.guard import DEPTH, FUEL, GROW_FLAG, GROW_PAGES
from promisegrid_node import wasi
from promisegrid_node.modules import Compiled

_PAGE: Final = 65_536
_TABLE_ELEMENTS: Final = 2_000_000
_I32: Final = 0
_I64: Final = 1
"""WASMTIME_I32 and WASMTIME_I64, the kinds of a global's value."""
_ENDLESS: Final = 1 << 62
_NUMBERS: Final = {"i32", "i64"}


def suits(compiled: Compiled, job: Job) -> bool:
    """Whether `call` may be tried."""
    info = compiled.info
    if info.imports or info.has_start or info.has_initialize:
        return False
    if info.memory is not None and info.memory.min_pages * _PAGE > job.memory_bytes:
        return False
    if job.abi == "handle":
        return info.is_handler
    signature = info.functions.get(job.func)
    return (
        job.abi == "plain"
        and signature is not None
        and {*signature.params, *signature.results} <= _NUMBERS
        and len(job.params) == 8 * len(signature.params)
    )


def call(engine: wasmtime.Engine, compiled: Compiled, job: Job, fuel: int) -> Outcome | None:
    """The outcome of a job that `suits`, within so much fuel; None for whatever did not end well."""
    store = wasmtime.Store(engine)
    try:
        return _Call(store, compiled, job, fuel).run()
    except _Other:
        return None
    finally:
        store.close()


class _Other(Exception):
    """It did not simply end with its value."""


class _Call:
    def __init__(self, store: wasmtime.Store, compiled: Compiled, job: Job, fuel: int) -> None:
        self._compiled, self._job, self._fuel = compiled, job, fuel
        self._context = store._context()
        ffi.wasmtime_store_limiter(store.ptr(), job.memory_bytes, _TABLE_ELEMENTS, 1, 16, 1)
        ffi.wasmtime_context_set_epoch_deadline(self._context, _ENDLESS)
        self._instance = ffi.wasmtime_instance_t()
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = ffi.wasmtime_instance_new(
            self._context, compiled.module.ptr(), None, 0, ctypes.byref(self._instance), ctypes.byref(trap)
        )
        _check(error, trap)

    def run(self) -> Outcome:
        """Call, and read what it used."""
        if (pages := self._export(GROW_PAGES)) is not None:
            self._set(pages, _I32, self._job.memory_bytes // _PAGE)
        fuel = self._export(FUEL)
        if fuel is None:
            raise _Other
        self._set(fuel, _I64, self._fuel)
        values = self._handle() if self._job.abi == "handle" else self._plain()
        left = self._get(fuel)
        depth, refused = self._export(DEPTH), self._export(GROW_FLAG)
        if left < 0 or (depth is not None and self._get(depth) < 0):
            raise _Other
        if refused is not None and self._get(refused):
            raise _Other
        return Outcome(values, wasi.EMPTY_RESULT, self._fuel - left, self._memory()[1])

    def _plain(self) -> bytes:
        signature = self._compiled.info.functions[self._job.func]
        given = [
            int.from_bytes(self._job.params[at : at + 8], "little", signed=True)
            for at in range(0, len(self._job.params), 8)
        ]
        words = self._invoke(self._job.func, given, len(signature.results))
        return b"".join(
            (word & (0xFFFF_FFFF if kind == "i32" else (1 << 64) - 1)).to_bytes(8, "little")
            for kind, word in zip(signature.results, words, strict=True)
        )

    def _handle(self) -> bytes:
        params = self._job.params
        at = self._invoke("alloc", [len(params)], 1)[0] & 0xFFFF_FFFF
        ctypes.memmove(self._inside(at, len(params)), params, len(params))
        packed = self._invoke("handle", [at, len(params)], 1)[0] & (1 << 64) - 1
        size = packed & 0xFFFF_FFFF
        if size > self._job.output_bytes:
            raise _Other
        return ctypes.string_at(self._inside(packed >> 32, size), size)

    # -- the engine's interface ----------------------------------------------------------------------

    def _export(self, name: str) -> Any:
        raw, item = name.encode(), ffi.wasmtime_extern_t()
        found = ffi.wasmtime_instance_export_get(
            self._context, ctypes.byref(self._instance), raw, len(raw), ctypes.byref(item)
        )
        return item if found else None

    def _invoke(self, name: str, given: list[int], results: int) -> list[int]:
        function = self._export(name)
        words = (ffi.wasmtime_val_raw * max(len(given), results, 1))()
        for word, value in zip(words, given, strict=False):
            word.i64 = value
        trap = ctypes.POINTER(ffi.wasm_trap_t)()
        error = ffi.wasmtime_func_call_unchecked(
            self._context, ctypes.byref(function.of.func), words, len(words), ctypes.byref(trap)
        )
        _check(error, trap)
        return [words[at].i64 for at in range(results)]

    def _set(self, item: Any, kind: int, value: int) -> None:
        val: Any = ffi.wasmtime_val_t()
        val.kind, val.of.i64 = kind, value
        _check(ffi.wasmtime_global_set(self._context, ctypes.byref(item.of.global_), ctypes.byref(val)), None)

    def _get(self, item: Any) -> int:
        val: Any = ffi.wasmtime_val_t()
        ffi.wasmtime_global_get(self._context, ctypes.byref(item.of.global_), ctypes.byref(val))
        return int(val.of.i64) if val.kind == _I64 else int(val.of.i32)

    def _memory(self) -> tuple[int, int]:
        """Where the exported memory is, and how large; (0, 0) when there is none."""
        item = self._export("memory") if self._compiled.info.exports_memory else None
        if item is None:
            return 0, 0
        memory = ctypes.byref(item.of.memory)
        data = ffi.wasmtime_memory_data(self._context, memory)
        size = int(ffi.wasmtime_memory_data_size(self._context, memory))
        return ctypes.cast(data, ctypes.c_void_p).value or 0, size

    def _inside(self, at: int, size: int) -> int:
        base, bound = self._memory()
        if at + size > bound:
            raise _Other
        return base + at


def _check(error: Any, trap: Any) -> None:
    """_Other when there is an error or a trap; both are given back to the engine."""
    if error:
        ffi.wasmtime_error_delete(error)
    if trap:
        ffi.wasm_trap_delete(trap)
    if error or trap:
        raise _Other
