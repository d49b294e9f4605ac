"""The two engines that run the WASI module in tests: Wasmtime here, V8 in a Node.js process."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from tests.oracle.wasi_corpus import SIGNATURES, Program, driver_wat
from tests.oracle.wasi_descriptors import Ended

from promisegrid.wasi import MODULES, load
from promisegrid_node.wasi import Linked, Wasi

SCRIPT = Path(__file__).resolve().parent.parent / "worker" / "wasi_trace.mjs"


@cache
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@cache
def wasi() -> Wasi:
    return Wasi(engine())


@cache
def driver() -> bytes:
    """The program that offers the 46 calls to the test."""
    return bytes(wasmtime.wat2wasm(driver_wat()))


@cache
def compiled(wasm: bytes) -> wasmtime.Module:
    return wasmtime.Module(engine(), wasm)


def link(wasm: bytes | str, job: bytes, memory_max: int = -1) -> Linked:
    """A program (wasm or text) linked in a store of its own. `memory_max`: bytes of each of its memories."""
    store = wasmtime.Store(engine())
    store.set_limits(memory_size=memory_max)
    binary = bytes(wasmtime.wat2wasm(wasm)) if isinstance(wasm, str) else wasm
    return wasi().link(store, compiled(binary), job)


def start(linked: Linked, name: str = "_start") -> str:
    """Call it: "returned" or "trapped"."""
    entry = linked.instance.exports(linked.store)[name]
    assert isinstance(entry, wasmtime.Func)
    try:
        entry(linked.store)
    except wasmtime.Trap:
        return "trapped"
    return "returned"


class WasmtimeTarget:
    """The module in Wasmtime, as a corpus target."""

    def __init__(self, job: bytes, memory_max: int = -1) -> None:
        self.linked = link(driver(), job, memory_max)
        self.store, self.exports = self.linked.store, self.linked.instance.exports(self.linked.store)
        assert self.linked.memory is not None
        self.program_memory = self.linked.memory

    def poke(self, at: int, data: bytes) -> None:
        self.program_memory.write(self.store, data, at)

    def call(self, name: str, *args: int) -> int:
        function: Any = self.exports[name]
        bits = [32 if kind == "i" else 64 for kind in SIGNATURES[name]]
        values = [signed(*pair) for pair in zip(args, bits, strict=True)]
        try:
            return int(function(self.store, *values) or 0)
        except wasmtime.Trap as trap:
            raise Ended from trap

    def memory(self) -> bytes:
        return bytes(self.program_memory.read(self.store))

    def result(self) -> bytes:
        return self.linked.result()


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def in_node(cases: Sequence[tuple[bytes, Program]]) -> list[tuple[list[str], bytes]]:
    """Traces and result blobs of the same programs in Node.js. No steps: `_start` is called."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js (`node`) is not on the PATH")
    request = {
        "modules": {name: text(load(name)) for name in MODULES},
        "cases": [case(wasm, program) for wasm, program in cases],
    }
    wanted = json.dumps(request).encode()
    done = subprocess.run([node, str(SCRIPT)], input=wanted, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return [(answer["lines"], base64.b64decode(answer["result"])) for answer in json.loads(done.stdout)]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def case(wasm: bytes, program: Program) -> dict[str, object]:
    steps = [wire(step) for step in program.steps]
    return {"wasm": text(wasm), "job": text(program.job), "steps": steps or None}


def wire(step: tuple[list[tuple[int, bytes]], str, list[int]]) -> list[object]:
    pokes, name, args = step
    kinds = SIGNATURES[name]
    numbers = [f"{arg}n" if kind == "I" else str(arg) for arg, kind in zip(args, kinds, strict=True)]
    return [[[at, data.hex()] for at, data in pokes], name, numbers]
