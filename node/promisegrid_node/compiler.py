"""Compiling one module in a process of its own, so that a ruinous one ruins only that.

The child (`main`) reads the module from its standard input, inspects it, has the engine validate the
original, guards it, compiles, and writes compiled code and description to the path it was given. It sets
its own limits first: processor time and address space. The parent (`compile_module`) adds a deadline, and
says what went wrong in one sentence.

    parent → child: argv = path without suffix; stdin = the module
    child → parent: one dag-cbor map, {"info"} or {"code", "text"}; no map: it was killed
"""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import wasmtime

from promisegrid import dagcbor
from promisegrid.effects import Failure
from promisegrid.errors import RemoteError
from promisegrid.wasm.guard import guard
from promisegrid.wasm.inspect import inspect
from promisegrid.wasm.module import ModuleInfo, check_imports, describe
from promisegrid_node.modules import engine_config

_ANSWER_MAX: Final = 8 * 1024 * 1024
_CHILD: Final = (sys.executable, "-c", "from promisegrid_node.compiler import main; main()")


@dataclass(frozen=True, slots=True)
class CompileLimits:
    """What one compile may cost. The static limits of `wasm.inspect` come first and catch what is known."""

    cpu_s: int = 120
    """Processor time; CPython for WASI, 26 MB, takes about 10."""
    memory_bytes: int = 4 * 1024**3
    """Address space; CPython for WASI takes about 1.5 GiB."""
    deadline_s: float = 150
    """Wall clock, for a machine that is busy with other things."""


async def compile_module(
    data: bytes, path: Path, limits: CompileLimits | None = None, child: Sequence[str] = _CHILD
) -> ModuleInfo | Failure:
    """Compile into `path` (….cwasm and ….info). Cancelling the task kills the child.

    `child` is the command that runs `main`; tests give one that lacks a check.
    """
    bounds = limits or CompileLimits()
    process = await asyncio.create_subprocess_exec(
        *child,
        str(path.with_suffix("")),
        str(bounds.cpu_s),
        str(bounds.memory_bytes),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        start_new_session=True,
    )
    try:
        answer, _ = await asyncio.wait_for(process.communicate(data), bounds.deadline_s)
    except TimeoutError:
        return Failure("too_complex", f"The module did not compile within {bounds.deadline_s:g} s.")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        _clean(path, process.pid)
    return _read(answer, process.returncode or 0)


def _clean(path: Path, pid: int) -> None:
    """A child that was killed while it wrote leaves nothing behind."""
    for kind in (".info", ".cwasm"):
        _new_name(path.with_suffix(kind), pid).unlink(missing_ok=True)


def _read(answer: bytes, status: int) -> ModuleInfo | Failure:
    try:
        said = dagcbor.decode(answer) if len(answer) <= _ANSWER_MAX else {}
        return ModuleInfo.from_value(said["info"]) if "info" in said else Failure(said["code"], said["text"])
    except (ValueError, KeyError, TypeError):  # nothing, or half of something
        why = f"signal {-status}" if status < 0 else f"status {status}"
        text = f"Compiling the module took more time or memory than allowed (the compiler ended with {why})."
        return Failure("too_complex", text)


def main() -> None:
    """The child. Arguments: path without suffix, processor seconds, bytes of address space."""
    base, cpu_s, memory_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    os.nice(5)
    said: dict[str, object]
    try:
        said = {"info": _compile(sys.stdin.buffer.read(), base).to_value()}
    except RemoteError as wrong:
        said = {"code": wrong.code, "text": wrong.text}
    except OSError as error:
        said = {"code": "disk_full", "text": f"No room for compiled code in {base.parent}: {error.strerror}."}
    except MemoryError:
        said = {"code": "too_complex", "text": "Compiling the module took more memory than allowed."}
    sys.stdout.buffer.write(dagcbor.encode(said))


def _compile(data: bytes, base: Path) -> ModuleInfo:
    info = describe(data)
    check_imports(info)
    inspect(data)
    engine = wasmtime.Engine(engine_config())
    try:
        wasmtime.Module.validate(engine, data)
    except wasmtime.WasmtimeError as error:
        raise RemoteError("invalid_wasm", f"The module does not validate: {_reason(error)}.") from error
    guarded = guard(data)
    try:
        compiled = wasmtime.Module(engine, guarded).serialize()
    except wasmtime.WasmtimeError as error:
        raise RemoteError("too_complex", f"The engine cannot compile it: {_reason(error)}.") from error
    _write(base.with_suffix(".info"), dagcbor.encode(info.to_value()))
    _write(base.with_suffix(".cwasm"), bytes(compiled))
    return info


def _reason(error: Exception) -> str:
    """The engine's last line: its most particular one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:300] if lines else "no reason given"


def _new_name(path: Path, pid: int) -> Path:
    return path.with_suffix(f"{path.suffix}.{pid}.new")


def _write(path: Path, data: bytes) -> None:
    """All or nothing, 0600; synced, because half a file would be run as native code."""
    new = _new_name(path, os.getpid())
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)
