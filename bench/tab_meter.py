"""What counting costs in Chromium: programs as they were and metered; and how fast a tab's Python rewrites.

    python bench/tab_meter.py [--rounds 5]

Programs and jobs are those of bench/meter.py, the interpreters left out; linked by the tab's own wasi.mjs,
turn about. The ratios have no goal of their own: Wasmtime's are printed beside them. Rewriting: `guard` on
resvg in Pyodide under Node.js, by the module's whole size; goal one megabyte a second, exit code 1 if missed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from meter import MEAN_MAX, WORST_MAX, cases
from playwright.sync_api import Route, sync_playwright

from promisegrid import wasi
from promisegrid.wasm.guard import guard

ROOT = Path(__file__).resolve().parent.parent
MBS_MIN = 1.0
RUN = """async ({name, rounds, modules}) => {
  const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
  const {compile, link, UNMETERED} = await import("/wasi.mjs");
  const loaded = await Promise.all(modules.map(async (one) => [one, await bytes(`/wasi/${one}`)]));
  const system = await compile(Object.fromEntries(loaded));
  const job = await bytes(`/${name}/job`);
  const plain = await WebAssembly.compile(await bytes(`/${name}/plain`));
  const metered = await WebAssembly.compile(await bytes(`/${name}/metered`));
  const once = (module) => {
    const linked = link(system, module, job.slice());
    const pages = linked.instance.exports["promisegrid:pages"];
    if (pages) pages.value = 1 << 15;
    linked.setFuel(UNMETERED);
    const began = performance.now();
    try { linked.instance.exports._start(); } catch (error) { if (!(error instanceof WebAssembly.RuntimeError)) throw error; }
    return [performance.now() - began, linked.result().join()];
  };
  once(plain), once(metered);
  const ratios = [];
  for (let round = 0; round < rounds; round += 1) {
    const [bare, before] = once(plain);
    const [counted, after] = once(metered);
    if (before !== after) throw new Error(`${name}: another result`);
    ratios.push(counted / bare);
  }
  return ratios;
}"""  # noqa: E501
REWRITE = """
import { loadPyodide } from "pyodide";
import { readFileSync, realpathSync } from "node:fs";
const [root, file] = process.argv.slice(1);
const pyodide = await loadPyodide({ enableRunUntilComplete: false, env: { PYTHONDONTWRITEBYTECODE: "1" } });
pyodide.mountNodeFS("/lib/python3.14/site-packages", realpathSync(`${root}/build/cache/test-site`));
pyodide.FS.mkdir("/kernel");
pyodide.mountNodeFS("/kernel", `${root}/kernel`);
pyodide.runPython("import sys; sys.path.insert(0, '/kernel')");
const { guard } = pyodide.pyimport("promisegrid.wasm.guard");
pyodide.FS.writeFile("/module", readFileSync(file));
const data = pyodide.runPython("open('/module', 'rb').read()");
const began = performance.now();
guard(data);
console.log(performance.now() - began);
"""


def compared(rounds: int) -> list[float]:
    """The median ratio of each program."""
    files: dict[str, bytes] = {f"/wasi/{name}": wasi.load(name) for name in wasi.MODULES}
    files["/wasi.mjs"], files["/"] = (ROOT / "worker" / "wasi.mjs").read_bytes(), b"<!doctype html>"
    chosen = [case for case in cases(None) if not case.name.startswith("CPython")]
    for number, case in enumerate(chosen):
        made = {"plain": case.wasm, "metered": guard(case.wasm), "job": case.blob()}
        files |= {f"/{number}/{part}": data for part, data in made.items()}

    def answer(route: Route) -> None:
        path = "/" + route.request.url.split("/", 3)[3]
        kind = {"/": "text/html", "/wasi.mjs": "text/javascript"}.get(path, "application/wasm")
        route.fulfill(body=files.get(path, b""), content_type=kind)

    medians = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**/*", answer)
        page.goto("http://127.0.0.1:9/")
        for number, case in enumerate(chosen):
            asked = {"name": str(number), "rounds": rounds, "modules": list(wasi.MODULES)}
            medians.append(statistics.median(page.evaluate(RUN, asked)))
            print(f"{case.name}: metered {medians[-1]:.2f} times as long", flush=True)
        browser.close()
    return medians


def rewriting() -> float:
    """Megabytes a second."""
    found = ROOT / "apps" / "render" / "handlers" / "resvg.wasm"
    words = ["node", "--input-type=module", "-e", REWRITE, str(ROOT), str(found)]
    where = ROOT / "worker"
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=120, check=True)
    return found.stat().st_size / float(done.stdout.split()[-1]) / 1000


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    medians = compared(parser.parse_args().rounds)
    mean, worst = math.exp(statistics.fmean(map(math.log, medians))), max(medians)
    there = f"Wasmtime's goals: {MEAN_MAX} and {WORST_MAX:g}"
    print(f"geometric mean {mean:.2f}, worst {worst:.2f} ({there})")
    speed = rewriting()
    print(f"a tab's Python rewrites {speed:.1f} MB of modules a second (goal {MBS_MIN:g})")
    return 0 if speed >= MBS_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
