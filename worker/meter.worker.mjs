// @ts-check
/**
 * A second Python, to look at large modules and to write the meter into them while the kernel's thread answers others.
 *
 * Promises: started when the first large module comes, let go when none has come for a while (pool.mjs); each task
 * has one answer, `{value}` or `{failure: {code, text}}`. Does not know: time (the pool terminates it), the kernel.
 */
import { boot } from "./boot.mjs";
import { decode } from "./cbor.mjs";

/** @type {Promise<any> | undefined} promisegrid_worker.metering */
let metering;

const TASKS = {
  look: (/** @type {any} */ python, /** @type {any} */ { data }) => python.look_at(data),
  guard: (/** @type {any} */ python, /** @type {any} */ { data, pages }) => python.guarded(data, pages),
};

/** @param {string} name */
async function start(name) {
  const { pyodide } = await boot({ modules: [name] });
  return pyodide.pyimport(name);
}

globalThis.onmessage = async (/** @type {MessageEvent} */ { data: message }) => {
  try {
    if (message.op === "setup") {
      metering = start("promisegrid_worker.metering");
      await metering;
      globalThis.postMessage({ ready: true });
      return;
    }
    const [code, said] = decode(TASKS[/** @type {keyof typeof TASKS} */ (message.op)](await metering, message));
    if (code) globalThis.postMessage({ failure: { code, text: said } });
    else globalThis.postMessage({ value: said });
  } catch (error) {
    globalThis.reportError(error); // the pool is told by its worker's `onerror`
  }
};
