"""Every way a start can fail ends in one sentence: boot.mjs under Node.js, its downloads tampered with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 40

SCRIPT = """
const {base, patience, modules} = JSON.parse(process.argv[1]);
const {boot} = await import(`${base}boot.mjs`);
const {fetchFile: read} = await import(`${base}boot.node.mjs`);
const phases = [];
console.warn = console.error = console.log;
const tamper = async (name, response, url) => { %s; return response; };
const fetchFile = async (url) => tamper(url.pathname.split("/").pop(), await read(url), url);
let told;
try {
  const {pyodide} = await boot({base, patience, modules, fetchFile, onPhase: (p) => phases.push(p)});
  told = {value: pyodide.runPython("import cbor2; cbor2.loads(cbor2.dumps([1, 2])) == [1, 2]")};
} catch (error) {
  told = {name: error.name, message: error.message};
}
process.stdout.write("\\n" + JSON.stringify({...told, phases}), () => process.exit(0));
"""
TYPE = '{headers: {"content-type": "application/wasm"}}'


def start(tamper: str = "", modules: list[str] | None = None, **patience: int) -> dict[str, object]:
    """Boot the bundle with every answer passed through the JavaScript ``tamper``; what it said in the end."""
    static = json.loads((ROOT / "build" / "web" / "manifest.json").read_text())["static"]
    base = (ROOT / "build" / "web" / static[1:]).as_uri() + "/"
    given = json.dumps({"base": base, "patience": patience, "modules": modules or ["promisegrid"]})
    command = ["node", "--input-type=module", "--eval", SCRIPT % tamper, given]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_it_starts_and_tells_its_phases() -> None:
    told = start()
    phases = told["phases"]
    assert isinstance(phases, list) and told.get("value") is True, told
    names = [phase["phase"] for phase in phases]
    assert names == sorted(names, key=["download", "python", "kernel", "ready"].index)
    assert names[-1] == "ready"
    downloads = [phase for phase in phases if phase["phase"] == "download"]
    assert downloads[-1]["loaded"] == downloads[-1]["total"] > 10_000_000


BODY = "new Uint8Array(await response.arrayBuffer())"
WASM = 'if (name === "pyodide.asm.wasm") return new Response'
ZIP = 'if (name === "python.zip") return new Response'
FAILURES = {
    "offline": ('throw new TypeError("fetch failed")', {}, "cannot be reached (fetch failed): start it"),
    "gone": (ZIP + '("", {status: 404})', {}, "answered 404 for python.zip"),
    "a page instead": (
        WASM + '("<html>", {headers: {"content-type": "text/html"}})',
        {},
        "The answer for pyodide.asm.wasm is not that file",
    ),
    "a page, mislabelled": (
        f'{WASM}("<html>", {TYPE})',
        {},
        "The answer for pyodide.asm.wasm is not that file",
    ),
    "truncated": (
        f"{WASM}(({BODY}).subarray(0, 5e6), {TYPE})",
        {},
        "pyodide.asm.wasm ended after 5000000 of ",
    ),
    "truncated archive": (
        f"{ZIP}(({BODY}).subarray(0, 1e6))",
        {},
        "python.zip ended after 1000000 of ",
    ),
    "not compilable": (
        f"{WASM}(({BODY}).fill(255, 4e6), {TYPE})",
        {},
        "This browser cannot compile Python's WebAssembly",
    ),
    "says nothing": (
        'if (name === "python.zip") await new Promise(() => {})',
        {"stall": 3000},
        "The download of Python got nothing more",
    ),
    "broken extension": (
        f'if (name.endsWith(".so")) return new Response(({BODY}).fill(0))',
        {},
        "The kernel could not be loaded: importing cbor2 failed with Error",
    ),
    "broken archive": (f"{ZIP}(({BODY}).fill(0, 4))", {}, "Python could not start: "),
    "another version": (
        'const about = JSON.stringify({...JSON.parse(name === "bundle.json" ? await response.text() : "{}"),'
        ' pyodide: "1.2"}); if (name === "bundle.json") return new Response(about)',
        {},
        "Python could not start: it is version 314.0.7, not 1.2",
    ),
    "too slow": ("", {"python": 1}, "Python did not start within 0.001 s: reload the page"),
}


@pytest.mark.parametrize(("tamper", "patience", "sentence"), FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_is_one_sentence(tamper: str, patience: dict[str, int], sentence: str) -> None:
    told = start(tamper, modules=["cbor2"], **patience)
    assert told.get("name") == "BootError", told
    assert sentence in str(told["message"])
    assert "\n" not in str(told["message"])


def test_a_kernel_that_does_not_import_is_named() -> None:
    told = start(modules=["nowhere"])
    message = "importing nowhere failed with ModuleNotFoundError: No module named 'nowhere'"
    assert message in str(told.get("message"))


def test_the_same_inputs_give_the_same_bundle(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "worker" / "bundle.py"), "--force", "--out"]
    made = []
    for name in ("one", "two"):
        subprocess.run([*command, str(tmp_path / name)], check=True, capture_output=True, timeout=SECONDS)
        made.append((tmp_path / name / "manifest.json").read_bytes())
    assert made[0] == made[1]
