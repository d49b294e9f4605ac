"""The quick way gives what the long way gives, or steps aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from tests.node.hosting import on_loop

from promisegrid import unixfs
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Failure, Job, Outcome, Prepare, Run
from promisegrid.limits import Limits
from promisegrid_node import quick
from promisegrid_node.program import Program, Stop
from promisegrid_node.runtime import QUICK_FUEL, Runtime

MODULE = b"""(module
  (memory (export "memory") 1 4)
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (i64.mul (local.get 0) (i64.const -3)))
  (func (export "two") (result i32 i64) (i32.const -1) (i64.const -2))
  (func (export "nothing"))
  (func (export "half") (param f64) (result f64) (f64.mul (local.get 0) (f64.const 0.5)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "trap") unreachable)
  (func (export "loop") (param i64) (result i64)
    (loop $again
      (local.set 0 (i64.sub (local.get 0) (i64.const 1)))
      (br_if $again (i64.gt_s (local.get 0) (i64.const 0))))
    (local.get 0))
  (func (export "alloc") (param i32) (result i32) (i32.const 16))
  (func (export "handle") (param i32 i32) (result i64)
    (i64.or (i64.shl (i64.extend_i32_u (local.get 0)) (i64.const 32)) (i64.extend_i32_u (local.get 1))))
)"""


def words(*numbers: int) -> bytes:
    return b"".join((number & (1 << 64) - 1).to_bytes(8, "little") for number in numbers)


async def prepared(home: Path) -> tuple[Runtime, Cid]:
    runtime, data = Runtime(home, Limits(runs=2)), bytes(wasmtime.wat2wasm(MODULE))
    code = unixfs.import_bytes(data)[0]
    assert not isinstance(await runtime.prepare(Prepare(code, data, Budget())), Failure)
    await runtime.prepare(Prepare(code, None, Budget()))
    return runtime, code


def job(code: Cid, func: str, params: bytes = b"", fuel: int | None = None, **more: int) -> Job:
    abi = "handle" if func == "handle" else "plain"
    bounds = {"memory_bytes": 1 << 20, "time_ms": 5000, "output_bytes": 1 << 16} | more
    return Job(code=code, abi=abi, func=func, params=params, wasi=b"", fuel=fuel, **bounds)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all, so that the module is compiled once."""
    return tmp_path_factory.mktemp("home")


CASES = {
    "narrow": ("add", words(0xFFFFFFFF, 2)),
    "wide": ("wide", words(-7)),
    "two results": ("two", b""),
    "no result": ("nothing", b""),
    "a handler": ("handle", b"some bytes that come back"),
    "a handler of nothing": ("handle", b""),
    "growth": ("grow", words(1)),
}


@pytest.mark.parametrize("case", CASES)
@on_loop
async def test_the_quick_way_and_the_long_way_agree(home: Path, case: str) -> None:
    runtime, code = await prepared(home)
    work = job(code, *CASES[case])
    compiled = runtime._modules.recent(code)
    assert compiled is not None and quick.suits(compiled, work)
    program = Program(runtime._wasmtime, runtime._wasi_linker(), compiled, work, Stop())
    long_way = program.run()
    program.close()
    assert isinstance(long_way, Outcome)
    assert quick.call(runtime._wasmtime, compiled, work, QUICK_FUEL) == long_way
    assert runtime.at_once(Run(work)) == long_way == await runtime.run(work)
    await runtime.close()


@pytest.mark.parametrize(
    ("func", "params", "more", "code"),
    [
        ("trap", b"", {}, "trap"),
        ("loop", words(1000), {"fuel": 100}, "out_of_fuel"),
        ("grow", words(3), {"memory_bytes": 1 << 16}, "out_of_memory"),
        ("handle", bytes(100), {"output_bytes": 99}, "output_too_large"),
    ],
)
@on_loop
async def test_every_other_ending_is_told_by_the_long_way(
    home: Path, func: str, params: bytes, more: dict[str, int], code: str
) -> None:
    runtime, module = await prepared(home)
    work = job(module, func, params, **more)
    compiled = runtime._modules.recent(module)
    assert compiled is not None
    assert quick.call(runtime._wasmtime, compiled, work, work.fuel or QUICK_FUEL) is None
    outcome = runtime.at_once(Run(work))
    assert outcome == await runtime.run(work)
    assert isinstance(outcome, Failure) and outcome.code == code
    await runtime.close()


@on_loop
async def test_what_needs_more_than_the_leash_runs_elsewhere_and_is_not_tried_again(home: Path) -> None:
    runtime, code = await prepared(home)
    assert runtime.at_once(Run(job(code, "loop", words(10)))) is not None
    long = job(code, "loop", words(10 * QUICK_FUEL))
    assert runtime.at_once(Run(long)) is None
    assert isinstance(await runtime.run(long), Outcome)
    assert runtime.at_once(Run(job(code, "loop", words(10)))) is None, "from now on it is not tried here"
    assert runtime.at_once(Run(job(code, "wide", words(1)))) is not None
    await runtime.close()


@on_loop
async def test_floats_and_what_is_not_in_memory_take_the_long_way(home: Path) -> None:
    runtime, code = await prepared(home)
    compiled = runtime._modules.recent(code)
    assert compiled is not None and not quick.suits(compiled, job(code, "half", words(0)))
    assert not quick.suits(compiled, job(code, "add", words(1)))
    assert not quick.suits(compiled, job(code, "add", words(1, 2), memory_bytes=1000))
    other = Cid.of(b"unknown")
    assert runtime.at_once(Run(job(other, "add"))) is None
    assert runtime.at_once(Prepare(other, None, Budget())) is None
    await runtime.close()
