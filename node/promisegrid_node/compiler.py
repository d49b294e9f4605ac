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

CPU_S: Final = 120
"""Processor time of one compile; CPython for WASI, 26 MB, takes about 10."""
MEMORY_BYTES: Final = 4 * 1024**3
"""Address space of one compile; CPython for WASI takes about 1.5 GiB."""
DEADLINE_S: Final = 150
_ANSWER_MAX: Final = 4 * 1024 * 1024


async def compile_module(
    data: bytes, path: Path, cpu_s: int = CPU_S, memory_bytes: int = MEMORY_BYTES
) -> ModuleInfo | Failure:
    """Compile into `path` (….cwasm and ….info). Cancelling the task kills the child."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from promisegrid_node.compiler import main; main()",
        str(path.with_suffix("")),
        str(cpu_s),
        str(memory_bytes),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        start_new_session=True,
    )
    try:
        answer, _ = await asyncio.wait_for(child.communicate(data), DEADLINE_S)
    except TimeoutError:
        return Failure("too_complex", f"The module did not compile within {DEADLINE_S} s.")
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _read(answer, child.returncode or 0)


def _read(answer: bytes, status: int) -> ModuleInfo | Failure:
    if not answer or len(answer) > _ANSWER_MAX:
        why = f"signal {-status}" if status < 0 else f"status {status}"
        text = f"Compiling the module took more time or memory than allowed (the compiler ended with {why})."
        return Failure("too_complex", text)
    said = dagcbor.decode(answer)
    if "info" in said:
        return ModuleInfo.from_value(said["info"])
    return Failure(said["code"], said["text"])


def main() -> None:
    """The child. Arguments: path without suffix, processor seconds, bytes of address space."""
    base, cpu_s, memory_bytes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    os.nice(5)
    try:
        said = {"info": _compile(sys.stdin.buffer.read(), base).to_value()}
    except RemoteError as wrong:
        said = {"code": wrong.code, "text": wrong.text}
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
        reason = str(error).strip().splitlines()
        raise RemoteError("invalid_wasm", f"The module does not validate: {reason[-1][:300]}") from error
    compiled = wasmtime.Module(engine, guard(data)).serialize()
    _write(base.with_suffix(".info"), dagcbor.encode(info.to_value()))
    _write(base.with_suffix(".cwasm"), bytes(compiled))
    return info


def _write(path: Path, data: bytes) -> None:
    """All or nothing, 0600."""
    new = path.with_suffix(path.suffix + f".{os.getpid()}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        new.rename(path)
    finally:
        new.unlink(missing_ok=True)
