// @ts-check
/**
 * Runs freeze.py inside stock Pyodide under Node.js, so that the tab's standard library can be traced and compiled by
 * the very CPython that will load it, on a machine that has no CPython 3.14.
 *
 * usage: node freeze.mjs SITE_DIR SOURCE_ZIP OUT_ZIP MODULE…
 *   SITE_DIR    unpacked wheels (cbor2); SOURCE_ZIP  our packages as .py and package data
 *   OUT_ZIP     written: the archive the tab starts from; next to it OUT_ZIP.json, what freeze.py reports
 */
import { readFileSync, writeFileSync } from "node:fs";
import { loadPyodide } from "pyodide";

const [site, sources, out, ...modules] = process.argv.slice(2);

/** A browser's globals that Node.js lacks: worker modules may name them when they are imported, not use them. */
const jsglobals = new Proxy(globalThis, {
  has: () => true,
  get: (target, name) => (name in target ? Reflect.get(target, name) : typeof name === "string" ? () => undefined : undefined),
});

const pyodide = await loadPyodide({
  jsglobals,
  enableRunUntilComplete: false,
  env: { PYTHONHASHSEED: "0", PYTHONDONTWRITEBYTECODE: "1" },
});
pyodide.mountNodeFS("/lib/python3.14/site-packages", site);
pyodide.FS.writeFile("/sources.zip", readFileSync(sources));
await pyodide.runPythonAsync(readFileSync(new URL("freeze.py", import.meta.url), "utf8"), { filename: "freeze.py" });
const freeze = pyodide.globals.get("freeze");
try {
  const report = freeze(pyodide.toPy(modules), "/sources.zip", "/out.zip");
  writeFileSync(out, pyodide.FS.readFile("/out.zip"));
  writeFileSync(`${out}.json`, report);
} catch (error) {
  const lines = String(error instanceof Error ? error.message : error).trim().split("\n");
  console.error(lines.slice(-12).join("\n"));
  process.exit(1);
}
