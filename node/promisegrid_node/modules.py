"""Compiled modules of one engine: in memory while they fit, on disk so that a compile is paid once.

Compiled code is native code: whoever can write it can run anything as this user. So it is keyed by engine
version and settings, lies in a 0700 folder as 0600 files of this user, is read only if that still holds, and
is never a block and never fetched.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections import OrderedDict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import wasmtime

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.wasm.module import ModuleInfo

GUARD_VERSION: Final = 1
"""Raise it when `wasm.guard` writes modules differently."""
STACK_BYTES: Final = 512 * 1024
"""Wasm stack of one program."""
_MEMORY_MAX: Final = 256 * 1024 * 1024
"""Compiled code kept in memory, by the size of its file."""


def engine_config() -> wasmtime.Config:
    """The one configuration, here and in the child that compiles. Every feature the kernel refuses is off."""
    config = wasmtime.Config()
    config.consume_fuel = True
    config.epoch_interruption = True
    config.max_wasm_stack = STACK_BYTES
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = False
    config.wasm_relaxed_simd = False
    config.wasm_tail_call = False
    config.wasm_exceptions = False
    config.wasm_gc = False
    config.wasm_function_references = False
    return config


def engine_name() -> str:
    """The engine as receipts name it."""
    return f"wasmtime/{version('wasmtime')}"


@dataclass(frozen=True, slots=True)
class Compiled:
    """A module ready to be instantiated."""

    module: wasmtime.Module
    info: ModuleInfo
    size: int


class Modules:
    """The compiled modules of one engine, under `HOME/cache/modules`."""

    def __init__(self, home: Path, engine: wasmtime.Engine) -> None:
        settings = f"{engine_name()} {platform.machine()} guard {GUARD_VERSION} stack {STACK_BYTES}"
        self.folder = home / "cache" / "modules" / hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._engine = engine
        self._recent: OrderedDict[Cid, Compiled] = OrderedDict()
        self._bytes = 0

    def place(self, code: Cid) -> Path:
        """Where a compiled module belongs; the folder is made. The child writes `….new` beside it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder / f"{code}.cwasm"

    def get(self, code: Cid) -> Compiled | None:
        """A module compiled earlier, or None."""
        known = self._recent.get(code)
        if known is not None:
            self._recent.move_to_end(code)
            return known
        path = self.folder / f"{code}.cwasm"
        info_path = path.with_suffix(".info")
        if not (_is_ours(self.folder) and _is_ours(path) and _is_ours(info_path)):
            return None
        try:
            info = ModuleInfo.from_value(dagcbor.decode(info_path.read_bytes()))
            module = wasmtime.Module.deserialize_file(self._engine, str(path))
        except (OSError, ValueError, KeyError, TypeError, wasmtime.WasmtimeError):
            return None
        return self._keep(code, Compiled(module, info, path.stat().st_size))

    def _keep(self, code: Cid, compiled: Compiled) -> Compiled:
        self._recent[code] = compiled
        self._bytes += compiled.size
        while self._bytes > _MEMORY_MAX and len(self._recent) > 1:
            _, dropped = self._recent.popitem(last=False)
            self._bytes -= dropped.size
        return compiled


def _is_ours(path: Path) -> bool:
    """Whether only this user can have written it."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077
