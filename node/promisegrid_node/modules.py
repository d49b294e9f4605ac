"""Compiled modules of one engine: in memory while they fit, on disk so that a compile is paid once.

Compiled code is native code: whoever can write it can run anything as this user. So it is keyed by engine
version and settings, lies in a 0700 folder as 0600 files of this user, is read only if that still holds, and
is never a block and never fetched. Both the memory and the folder are bounded; what was used least recently
goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

import wasmtime

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.wasm.guard import VERSION
from promisegrid.wasm.module import ModuleInfo

STACK_BYTES: Final = 1024 * 1024
"""Wasm stack of one program: more than the meter's own bound comes to, so that the meter's is met first."""
_MEMORY_MAX: Final = 256 * 1024 * 1024
"""Compiled code kept in memory, by the size of its file."""
DISK_MAX: Final = 2 * 1024**3
"""Compiled code kept on disk: strangers choose what is compiled."""
_ABANDONED_S: Final = 3600
"""A half-written file is this old only if its compiler was killed."""


def engine_config() -> wasmtime.Config:
    """The one configuration, here and in the child that compiles. Every feature the kernel refuses is off."""
    config = wasmtime.Config()
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
    """The compiled modules of one engine, under `HOME/cache/modules`. For any thread."""

    def __init__(self, home: Path, engine: wasmtime.Engine, disk_max: int = DISK_MAX) -> None:
        settings = f"{engine_name()} {platform.machine()} guard {VERSION} stack {STACK_BYTES}"
        self.folder = home / "cache" / "modules" / hashlib.sha256(settings.encode()).hexdigest()[:16]
        self._engine, self._disk_max = engine, disk_max
        self._recent: OrderedDict[Cid, Compiled] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def place(self, code: Cid) -> Path:
        """Where a compiled module belongs; the folder is made. The child writes beside it. OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.folder / f"{code}.cwasm"

    def recent(self, code: Cid) -> Compiled | None:
        """A module that is in memory, or None. Never waits for a disk."""
        with self._lock:
            known = self._recent.get(code)
            if known is not None:
                self._recent.move_to_end(code)
            return known

    def get(self, code: Cid) -> Compiled | None:
        """A module compiled earlier, from memory or disk, or None. Some milliseconds."""
        known = self.recent(code)
        if known is not None:
            return known
        path = self.folder / f"{code}.cwasm"
        info_path = path.with_suffix(".info")
        if not (_is_ours(self.folder) and _is_ours(path) and _is_ours(info_path)):
            return None
        try:
            info = ModuleInfo.from_value(dagcbor.decode(info_path.read_bytes()))
            module = wasmtime.Module.deserialize_file(self._engine, str(path))
            os.utime(path)
            size = path.stat().st_size
        except (OSError, ValueError, KeyError, TypeError, wasmtime.WasmtimeError):
            return None
        return self._keep(code, Compiled(module, info, size))

    def tidy(self) -> None:
        """Forget other engines' code, what killed compilers left, and the oldest above the disk's bound."""
        for other in self.folder.parent.glob("*/"):
            if other != self.folder and _is_ours(other):
                shutil.rmtree(other, ignore_errors=True)
        now, total = time.time(), 0
        for written, path, size in sorted(_files(self.folder), reverse=True):
            if path.suffix == ".new":
                if now - written > _ABANDONED_S:
                    path.unlink(missing_ok=True)
            elif path.suffix == ".cwasm":
                total += size
                if total > self._disk_max:
                    path.with_suffix(".info").unlink(missing_ok=True)
                    path.unlink(missing_ok=True)

    def _keep(self, code: Cid, compiled: Compiled) -> Compiled:
        with self._lock:
            if code in self._recent:  # another thread was quicker
                return self._recent[code]
            self._recent[code] = compiled
            self._bytes += compiled.size
            while self._bytes > _MEMORY_MAX and len(self._recent) > 1:
                _, dropped = self._recent.popitem(last=False)
                self._bytes -= dropped.size
        return compiled


def _files(folder: Path) -> list[tuple[float, Path, int]]:
    """(time of writing, path, bytes) of every file; one that vanishes meanwhile is left out."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append((status.st_mtime, path, status.st_size))
    return found


def _is_ours(path: Path) -> bool:
    """Whether only this user can have written it."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return status.st_uid == os.geteuid() and not status.st_mode & 0o077
