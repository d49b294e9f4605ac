"""One WASI: the module in Wasmtime, in Node.js and the Python twin give the same answers, byte for byte."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime
from tests.oracle import wasi_corpus as corpus
from tests.oracle.wasi_corpus import TwinTarget, job, trace
from tests.oracle.wasi_descriptors import Ended, run
from tests.oracle.wasi_hosts import WasmtimeTarget, compiled, driver, engine, in_node, link, start

from promisegrid.wasi import CALLS, MODULES, NAMESPACE, load, offers
from promisegrid_node.wasi import EMPTY_RESULT, LinkError, memory_bound, missing_imports

SEEDS = range(80)
EXITED, OUTPUT, NO_MEMORY, CHANGED = 1, 2, 4, 8


def flags(blob: bytes) -> int:
    return int.from_bytes(blob[4:8], "little")


def test_every_call_is_offered_and_nothing_else() -> None:
    module = wasmtime.Module(engine(), load("wasi"))
    functions = {item.name for item in module.exports if isinstance(item.type, wasmtime.FuncType)}
    assert functions - {"abort"} - {name for name in functions if name.startswith("k_")} == CALLS
    assert len(CALLS) == 46 == len(corpus.SIGNATURES)
    assert offers(NAMESPACE, "fd_write") and offers("env", "abort")
    assert not offers(NAMESPACE, "k_load") and not offers("wasi_unstable", "fd_write")


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_the_committed_modules_are_what_the_sources_give() -> None:
    build = Path(__file__).parents[2] / "kernel" / "wasi" / "build.py"
    command = [sys.executable, str(build), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for digest in MODULES.values():
        assert digest in done.stdout


def test_random_programs_agree_with_the_twin() -> None:
    for seed in SEEDS:
        program = corpus.program(seed)
        assert trace(program, WasmtimeTarget(program.job)) == trace(program, TwinTarget(program.job)), seed


def test_random_programs_agree_in_node() -> None:
    programs = [corpus.program(seed) for seed in SEEDS]
    answers = in_node([(driver(), program) for program in programs])
    for seed, answer in zip(SEEDS, answers, strict=True):
        assert answer == trace(programs[seed], TwinTarget(programs[seed].job)), seed


def test_a_program_that_asks_for_nothing() -> None:
    linked = link('(module (func (export "_start")))', job())
    assert (start(linked), linked.result(), linked.memory) == ("returned", EMPTY_RESULT, None)


WRITES = """
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
"""
HELLO = """
  (data (i32.const 0) "\\08\\00\\00\\00\\05\\00\\00\\00hello")
  (func (export "_start") (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32))))
"""


def hello(memory: str) -> str:
    imported = '(import "env" "memory" (memory 1 2))' if memory == "imported" else ""
    own = '(memory (export "memory") 1)' if memory == "exported" else ""
    return f"(module {WRITES} {imported} {own} {HELLO})"


@pytest.mark.parametrize("memory", ["exported", "imported"])
def test_hello_on_both_engines(memory: str) -> None:
    linked = link(hello(memory), job())
    assert start(linked) == "trapped"  # proc_exit ends by a trap, with its flag set
    expected = b"PGR1" + struct.pack("<III", EXITED, 0, 5) + b"hello" + bytes(8)
    assert linked.result() == expected
    wasm = bytes(wasmtime.wat2wasm(hello(memory)))
    assert in_node([(wasm, corpus.Program(job(), []))]) == [(["trapped"], expected)]


def test_without_a_memory_every_address_is_a_fault() -> None:
    body = """(func (export "_start") (call $exit (call $write (i32.const 1) (i32.const 0) (i32.const 1)
      (i32.const 8))))"""
    linked = link(f"(module {WRITES} {body})", job())
    start(linked)
    assert linked.result()[4:12] == struct.pack("<II", EXITED, 21)


@pytest.mark.parametrize("code", [0, 1, 126, 0xFFFFFFFF])
def test_exit_codes(code: int) -> None:
    linked = link(f'(module {WRITES} (func (export "_start") (call $exit (i32.const {code}))))', job())
    assert start(linked) == "trapped"
    assert linked.result()[4:12] == struct.pack("<II", EXITED, code)


def test_a_guest_trap_sets_no_flag() -> None:
    linked = link(f'(module {WRITES} (func (export "_start") unreachable))', job())
    assert (start(linked), flags(linked.result())) == ("trapped", 0)


def test_abort_traps() -> None:
    abort = '(import "env" "abort" (func $abort (param i32 i32 i32 i32)))'
    body = '(func (export "_start") (call $abort (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2)))'
    linked = link(f"(module {abort} {body})", job())
    assert (start(linked), flags(linked.result())) == ("trapped", 0)


def test_unknown_imports_are_named_before_anything_runs() -> None:
    text = """(module (import "env" "emscripten_resize_heap" (func (param i32) (result i32)))
      (import "wasi_unstable" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "k_result" (func (result i32)))
      (import "env" "table" (table 1 funcref)) (import "env" "memory" (memory 1)))"""
    module = compiled(bytes(wasmtime.wat2wasm(text)))
    functions = ["wasi_snapshot_preview1.k_result", "wasi_unstable.fd_write"]
    assert missing_imports(module) == ["env.emscripten_resize_heap", "env.table", *functions]
    with pytest.raises(LinkError, match=r"env\.emscripten_resize_heap"):
        link(text, job())


def test_threads_and_64_bit_memories_are_refused() -> None:
    for memory in ('(import "env" "memory" (memory i64 1))', '(memory (export "memory") i64 1)'):
        with pytest.raises(LinkError, match="64-bit"):
            link(f"(module {WRITES} {memory})", job())


def test_malformed_jobs_are_refused() -> None:
    good = job([b"main", b"x"], [b"A=b"], b"in", [(0, b"d", b""), (1, b"d/f", b"data"), (2, b"l", b"d")])
    link(driver(), good)
    for end in range(len(good)):
        with pytest.raises(LinkError, match="malformed"):
            link(driver(), good[:end])
    kinds: list[tuple[int, bytes, bytes]] = [
        (3, b"a", b""), (0, b"a", b"x"), (2, b"a", b""), (2, b"a", b"\0"), (1, b"", b""), (1, b"/a", b""),
        (1, b"a/", b""), (1, b".", b""), (1, b"..", b""), (1, b"no/parent", b""), (1, b"n" * 256, b""),
        (1, b"a\0", b""), (1, b"\xff", b""),
    ]  # fmt: skip
    for kind in kinds:
        with pytest.raises(LinkError, match="malformed"):
            link(driver(), job(nodes=[kind]))
    with pytest.raises(LinkError, match="malformed"):
        link(driver(), job(nodes=[(1, b"a", b""), (1, b"a", b"")]))
    with pytest.raises(LinkError, match="malformed"):
        link(driver(), good + b"\0")


def write_pages(target: WasmtimeTarget, fd: int, pages: int) -> None:
    target.poke(0, struct.pack("<II", 0, 65536))
    for _ in range(pages):
        assert target.call("fd_write", fd, 0, 1, 8) == 0


def test_the_output_limit_ends_the_program() -> None:
    target = WasmtimeTarget(job(output_max=131072))
    write_pages(target, 1, 2)
    with pytest.raises(Ended):
        write_pages(target, 2, 1)
    assert flags(target.result()) == OUTPUT


def test_running_out_of_memory_ends_the_program() -> None:
    target = WasmtimeTarget(job(output_max=1 << 30), memory_max=4 << 20)
    with pytest.raises(Ended):
        write_pages(target, 1, 64)
    assert target.result() == b"PGR1" + struct.pack("<I", NO_MEMORY) + bytes(16)


def test_running_out_of_memory_for_the_result() -> None:
    target = WasmtimeTarget(job(output_max=1 << 30), memory_max=4 << 20)
    write_pages(target, 1, 40)
    assert target.result() == b"PGR1" + struct.pack("<I", NO_MEMORY) + bytes(16)


def test_the_result_is_in_byte_order_of_path() -> None:
    nodes = [(0, b"a", b""), (0, b"a.", b""), (1, b"a./x", b""), (1, b"a.txt", b"t"), (1, b"a/b", b"b")]
    target = WasmtimeTarget(job(nodes=nodes))
    target.poke(100, b"z")
    assert target.call("path_create_directory", 3, 100, 1) == 0
    expected = [bytes([kind]) + run(path) + run(data) for kind, path, data in [*nodes, (0, b"z", b"")]]
    header = b"PGR1" + struct.pack("<IIIII", CHANGED, 0, 0, 0, len(expected))
    assert target.result() == header + b"".join(expected)


def test_hard_links_do_not_multiply_what_may_be_output() -> None:
    blob = job(nodes=[(1, b"a", bytes(1000))], output_max=2000)
    for links, flag in ((2, CHANGED), (3, CHANGED | OUTPUT)):
        target, twin = WasmtimeTarget(blob), TwinTarget(blob)
        for host in (target, twin):
            host.poke(100, b"a")
            for i in range(links):
                host.poke(200, b"%d" % i)
                assert host.call("path_link", 3, 0, 100, 1, 3, 200, 1) == 0
        assert target.result() == twin.result()
        assert flags(target.result()) == flag


@pytest.mark.parametrize("target", [WasmtimeTarget, TwinTarget])
def test_a_name_costs_output(target: type[WasmtimeTarget | TwinTarget]) -> None:
    for output_max, enough in ((67, True), (66, False)):
        host = target(job(output_max=output_max))
        host.poke(100, b"abc")
        if enough:
            assert host.call("path_create_directory", 3, 100, 3) == 0
        else:
            with pytest.raises(Ended):
                host.call("path_create_directory", 3, 100, 3)
        assert flags(host.result()) == (CHANGED if enough else OUTPUT)


@pytest.mark.parametrize("target", [WasmtimeTarget, TwinTarget])
def test_losing_a_name_changes_a_file(target: type[WasmtimeTarget | TwinTarget]) -> None:
    host = target(job(nodes=[(1, b"a", b"text"), (1, b"b", b"")]))
    host.poke(100, b"a")
    assert host.call("path_open", 3, 0, 100, 1, 0, 2, 0, 0, 200) == 0
    assert host.call("clock_time_get", 1, 0, 200) == 0
    assert host.call("path_unlink_file", 3, 100, 1) == 0
    assert host.call("fd_filestat_get", 4, 200) == 0
    start_ns = 946_684_800 * 10**9
    stat = struct.unpack("<8Q", host.memory()[200:264])
    assert stat == (1, 2, 4, 0, 4, start_ns, start_ns, start_ns + 1000)


def test_what_the_store_must_allow_is_enough() -> None:
    """A program that rewrites all its input and uses all its output stays within `memory_bound`."""
    blob = job(nodes=[(1, b"a", bytes(3 << 20))], output_max=2 << 20)
    target = WasmtimeTarget(blob, memory_bound(len(blob), 2 << 20))
    target.poke(100, b"a")
    assert target.call("path_open", 3, 0, 100, 1, 0, 64, 0, 0, 200) == 0
    write_pages(target, 4, 48 + 16)
    write_pages(target, 1, 15)
    assert (flags(target.result()), len(target.result())) == (CHANGED, (4 << 20) + (15 << 16) + 24 + 10)
