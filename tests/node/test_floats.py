"""Floating point on this machine's engines: what `tests/probes.py` asks, every one answers alike."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import wasmtime
from tests.probes import ALL_DIGEST, FLOATS, OPERATIONS

from promisegrid.wasm.guard import guard

SCRIPT = """
const module = new WebAssembly.Module(require("fs").readFileSync(process.argv[1]));
const { exports } = new WebAssembly.Instance(module);
for (const name of JSON.parse(process.argv[2])) console.log(BigInt.asUintN(64, exports[name]()).toString());
"""


def wasmtime_digests(wasm: bytes) -> dict[str, int]:
    """Every operation's digest, and that of all."""
    store = wasmtime.Store()
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, wasm), []).exports(store)
    found = {}
    for name in (*OPERATIONS, "all"):
        function = exports[name]
        assert isinstance(function, wasmtime.Func)
        found[name] = function(store) & 0xFFFF_FFFF_FFFF_FFFF
    return found


def test_wasmtime_gives_the_bits_that_are_promised() -> None:
    plain = wasmtime_digests(FLOATS)
    assert plain["all"] == ALL_DIGEST, "and not only the same as another engine"
    assert len(set(plain.values())) > 60, "operations differ, or this shows nothing"
    assert wasmtime_digests(guard(FLOATS)) == plain, "the meter changes no number"


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_v8_gives_the_same_bits(tmp_path: Path) -> None:
    names = '["' + '","'.join((*OPERATIONS, "all")) + '"]'
    path = tmp_path / "floats.wasm"
    path.write_bytes(guard(FLOATS))
    command = ["node", "-e", SCRIPT, str(path), names]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    digests = [int(line) for line in ran.stdout.split()]
    assert dict(zip((*OPERATIONS, "all"), digests, strict=True)) == wasmtime_digests(FLOATS)
