// @ts-check
/**
 * Runs the kernel's fast suite, tests/test_*.py, unchanged inside Pyodide under Node.js: the same code on both Pythons.
 * Prints what pytest prints and exits with its code.
 *
 * usage: node worker/tests-in-pyodide.mjs [PYTEST ARGUMENT…]
 * The wheels pytest needs lie in build/cache/test-site (`python worker/bundle.py --test-site`).
 */
import { existsSync, readdirSync, realpathSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { loadPyodide } from "pyodide";

process.on("uncaughtException", (error) => {
  console.error(`tests-in-pyodide: ${String(error?.message ?? error).trim().split("\n").pop()}`);
  process.exit(1); // said in one line: Node.js would print the megabyte of JavaScript it happened in
});

const root = fileURLToPath(new URL("..", import.meta.url));
const wheels = `${root}build/cache/test-site`;
if (!existsSync(`${wheels}/pytest`)) {
  console.error("tests-in-pyodide: pytest for Pyodide is missing: run `.venv/bin/python worker/bundle.py --test-site`.");
  process.exit(2);
}

const pyodide = await loadPyodide({
  enableRunUntilComplete: false,
  env: { PYTHONDONTWRITEBYTECODE: "1", HYPOTHESIS_STORAGE_DIRECTORY: "/tmp/hypothesis", COLUMNS: "100" },
});
pyodide.setStdout({ write: (bytes) => writeSync(1, bytes) });
pyodide.setStderr({ write: (bytes) => writeSync(2, bytes) });
pyodide.mountNodeFS("/lib/python3.14/site-packages", realpathSync(wheels));
pyodide.FS.mkdir("/project");
pyodide.mountNodeFS("/project", root);

const files = readdirSync(`${root}tests`).filter((name) => /^test_.*\.py$/.test(name)).sort();
const given = process.argv.slice(2);
const options = ["-p", "no:faulthandler", "-o", "timeout=0"]; // neither threads nor alarms here; our caller has a limit in time
const chosen = given.some((word) => !word.startsWith("-")) ? given : [...given, ...files.map((name) => `tests/${name}`)];
const main = pyodide.runPython(`
import os, sys
os.chdir("/project")
sys.path[:] = [entry for entry in sys.path if entry]
import pytest
lambda words: int(pytest.main(list(words)))
`);
process.exitCode = main(pyodide.toPy([...options, ...chosen]));
