/** The laws of tests/contracts.py against a store of a JavaScript host, in a Pyodide with the kernel; see laws.py. */

/** A turn function for a shell. @param {any} pyodide @param {Record<string, Uint8Array>} files tests/contracts.py and what it imports, by module path
 * @param {string} [work] a Python expression of it */
export function court(pyodide, files, work = "laws.LAWS") {
  for (const [path, data] of Object.entries(files)) {
    pyodide.FS.mkdirTree(`/laws/${path}`.replace(/\/[^/]*$/, ""));
    pyodide.FS.writeFile(`/laws/${path}`, data);
  }
  return pyodide.runPython(`
import sys
sys.path.insert(0, "/laws")
import laws
from pyodide.ffi import to_js
court = laws.Court(${work})
lambda data: to_js(court.turn(data.to_bytes()))
`);
}

/** The files to hand over, from the project's root. */
export const FILES = { "tests/__init__.py": null, "tests/contracts.py": "tests/contracts.py", "tests/p256.py": "tests/p256.py", "laws.py": "e2e/pages/laws.py" };

/** Try every law, each on an empty store. @param {any} turn @param {typeof import("../../worker/shell.mjs").Shell} Shell @param {() => Promise<any>} empty
 * @returns {Promise<Record<string, string | null>>} what is wrong with each */
export async function tried(turn, Shell, empty) {
  const host = (store) => ({ store, keys: null, wire: null, runtime: { close() {}, cancel() {} }, onevent() {}, onfailed(code, text) { throw new Error(`${code}: ${text}`); } });
  const names = await new Shell(turn, host(null)).ask("names");
  const found = {};
  for (const name of names) {
    const store = await empty();
    found[name] = await new Shell(turn, host(store)).ask(name).then(() => null, (error) => error.message);
    store.close();
  }
  return found;
}
