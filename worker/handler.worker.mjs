// @ts-check
/**
 * One worker for strangers' programs: compiles a module, or runs one call of it on a fresh instance.
 *
 * Promises: a program is given the WASI module's functions and nothing of JavaScript's; each task has one answer,
 * `{value}` or `{failure: {code, text}}`, with `spent` when this worker should not be used again.
 * Does not know: time (the pool terminates it from outside), caches, CIDs.
 *
 * Failure codes are the kernel's (promisegrid/errors.py). Job ABIs: promisegrid/effects.py, Job.
 */
import { number, size } from "./units.mjs";
import { LinkError, importedMemory, link } from "./wasi.mjs";

/** Beyond this the memory is better given back at once, by ending the worker, than at some collection. */
const SPENT_BYTES = 32 * 1024 * 1024;
/** Exports the guard adds (promisegrid/wasm/guard.py): how many pages a run may have, and whether more were refused. */
const BUDGET = "promisegrid:pages";
const REFUSED = "promisegrid:grow";
const PAGE = 65_536;
const EXITED = 1;
const OUTPUT_LIMIT = 2;
const NO_MEMORY = 4;
/** Of stderr, repeated when a program traps (promisegrid/job.py). */
const WORDS_BYTES = 700;

/**
 * @typedef {{module: WebAssembly.Module, pages: import("./wasi.mjs").Pages | null}} Prepared
 * @typedef {{abi: "command" | "handle" | "plain", func: string, params: Uint8Array, wasi: Uint8Array, output: number, budget: number, fuel: number | bigint, initialize: boolean,
 *   signature: {params: string[], results: string[]}}} Job
 *   budget: pages of memory; fuel: units of the meter; initialize: whether it is a WASI reactor; signature: of `func`, for "plain"
 */

/** @type {import("./wasi.mjs").Wasi | undefined} */
let wasi;

class Failed extends Error {
  /** @param {string} code @param {string} text */
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

globalThis.onmessage = (/** @type {MessageEvent} */ { data: message }) => {
  if (message.op === "setup") {
    wasi = message.wasi;
    globalThis.postMessage({ ready: true });
    return;
  }
  try {
    const { value, transfer = [], spent = false } = TASKS[/** @type {keyof typeof TASKS} */ (message.op)](message);
    globalThis.postMessage({ value, spent }, { transfer });
  } catch (error) {
    const { code, text } = told(error);
    globalThis.postMessage({ failure: { code, text }, spent: true });
  }
};

const TASKS = { check, compile, run };

/** Whether the engine takes the module as its author made it. @param {{data: Uint8Array}} task @returns {Done} */
function check({ data }) {
  if (WebAssembly.validate(data)) return { value: null };
  try {
    new WebAssembly.Module(data);
  } catch (error) {
    throw new Failed("invalid_wasm", `The module does not validate: ${plain(error).replace(/^WebAssembly\.Module\(\): /, "")}.`);
  }
  throw new Failed("invalid_wasm", "The module does not validate.");
}

/** @typedef {{value: any, transfer?: Transferable[], spent?: boolean}} Done */

/** @param {{data: Uint8Array}} task @returns {Done} */
function compile({ data }) {
  try {
    return { value: { module: new WebAssembly.Module(data), pages: importedMemory(data) } };
  } catch (error) {
    if (error instanceof LinkError) throw new Failed("unsupported", plain(error));
    throw new Failed("too_complex", `The browser's engine refuses the guarded module: ${plain(error)}.`);
  }
}

/** @param {Prepared & {job: Job}} task @returns {Done} */
function run({ module, pages, job }) {
  /** @type {import("./wasi.mjs").Linked | undefined} */
  let linked;
  let values = new Uint8Array();
  let wrong = null;
  try {
    linked = link(/** @type {any} */ (wasi), module, job.wasi, { memory: pages });
    limit(linked, job.budget);
    linked.setFuel(BigInt(job.fuel));
    linked.start();
    values = call(linked, job);
  } catch (error) {
    wrong = error;
  }
  if (!linked) throw wrong;
  const fuel = linked.fuelUsed(BigInt(job.fuel));
  count(linked, fuel, job);
  const blob = linked.result();
  settle(linked, job, blob, wrong);
  const memory = linked.memory?.buffer.byteLength ?? 0;
  return { value: { values, wasi: blob, fuel, memory }, transfer: [blob.buffer], spent: memory > SPENT_BYTES };
}

/** Hold the instance to its budget of memory. @param {import("./wasi.mjs").Linked} linked @param {number} budget pages */
function limit({ instance, memory }, budget) {
  const bytes = memory?.buffer.byteLength ?? 0;
  if (bytes > budget * PAGE) throw new Failed("out_of_memory", `The program begins with ${size(bytes)} of memory; its budget is ${size(budget * PAGE)}.`);
  const pages = instance.exports[BUDGET];
  if (pages instanceof WebAssembly.Global) pages.value = budget;
}

/** Endings that fall at the same instruction on every engine. @param {import("./wasi.mjs").Linked} linked @param {bigint} fuel @param {Job} job */
function count(linked, fuel, job) {
  if (fuel > BigInt(job.fuel)) throw new Failed("out_of_fuel", `The program used up its fuel of ${number(job.fuel)}.`);
  if (linked.tooDeep()) throw new Failed("stack_overflow", "The program recursed too deeply.");
}

/** Turn what was thrown, and what the blob says, into a failure; return if the call ended well. @param {import("./wasi.mjs").Linked} linked @param {Job} job @param {Uint8Array} blob @param {unknown} wrong */
function settle(linked, job, blob, wrong) {
  const flags = new DataView(blob.buffer, blob.byteOffset).getUint32(4, true);
  const refused = /** @type {any} */ (linked.instance.exports[REFUSED]);
  if (flags & OUTPUT_LIMIT) throw new Failed("output_too_large", `The program wrote more than its budget of ${size(job.output)}.`);
  if (flags & NO_MEMORY) throw new Failed("out_of_memory", "The program's files outgrew the memory of its file system.");
  if (wrong && refused instanceof WebAssembly.Global && refused.value) {
    throw new Failed("out_of_memory", `The program asked for more memory than its budget; it had ${size(linked.memory?.buffer.byteLength ?? 0)}.`);
  }
  if (flags & EXITED && job.abi === "command") return;
  if (flags & EXITED) throw new Failed("trap", "The function called proc_exit instead of returning.");
  if (wrong instanceof WebAssembly.RuntimeError) throw new Failed("trap", `The program trapped: ${plain(wrong)}.${said(blob)}`);
  if (wrong) throw wrong;
}

/** What it had to say before it trapped, as a sentence of its own (promisegrid/job.py, last_words). @param {Uint8Array} blob */
function said(blob) {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const at = 16 + view.getUint32(12, true);
  const stderr = blob.subarray(at + 4, at + 4 + view.getUint32(at, true)).slice(-WORDS_BYTES);
  const lines = new TextDecoder().decode(stderr).split("\n").map((line) => line.replace(/[^\P{C}]|[\p{Zl}\p{Zp}]/gu, " ").trim());
  const words = lines.filter(Boolean).join(" / ").replace(/\.+$/, "");
  return words && ` It had written to stderr: ${words}.`;
}

/** @param {import("./wasi.mjs").Linked} linked @param {Job} job @returns {Uint8Array} */
function call({ instance, memory }, job) {
  const exports = /** @type {Record<string, any>} */ (instance.exports);
  if (job.abi === "command") {
    exports._start();
    return new Uint8Array();
  }
  if (job.initialize) exports._initialize();
  return job.abi === "handle" ? handle(exports, memory, job) : numbers(exports, job);
}

/** @param {Record<string, any>} exports @param {WebAssembly.Memory | null} memory @param {Job} job */
function handle(exports, memory, job) {
  if (!memory) throw new Failed("bad_result", "The module has `handle` but exports no memory.");
  const at = exports.alloc(job.params.length) >>> 0;
  if (at + job.params.length > memory.buffer.byteLength) throw new Failed("bad_result", "`alloc` gave an address outside the memory.");
  new Uint8Array(memory.buffer).set(job.params, at);
  const packed = BigInt.asUintN(64, exports.handle(at, job.params.length));
  const [from, length] = [Number(packed >> 32n), Number(packed & 0xffffffffn)];
  if (length > job.output) throw new Failed("output_too_large", `The result is ${size(length)}; its budget is ${size(job.output)}.`);
  if (from + length > memory.buffer.byteLength) throw new Failed("bad_result", "`handle` gave a result outside the memory.");
  return new Uint8Array(memory.buffer, from, length).slice();
}

/** How a number lies in its eight-byte word. @type {Record<string, [(view: DataView, at: number) => any, (view: DataView, at: number, value: any) => void]>} */
const WORDS = {
  i32: [(view, at) => view.getInt32(at, true), (view, at, value) => view.setInt32(at, value, true)],
  i64: [(view, at) => view.getBigInt64(at, true), (view, at, value) => view.setBigInt64(at, value, true)],
  f32: [(view, at) => view.getFloat32(at, true), (view, at, value) => view.setFloat32(at, value, true)],
  f64: [(view, at) => view.getFloat64(at, true), (view, at, value) => view.setFloat64(at, value, true)],
};

/** @param {Record<string, any>} exports @param {Job} job */
function numbers(exports, { func, params, signature }) {
  const view = new DataView(params.buffer, params.byteOffset, params.byteLength);
  const given = signature.params.map((type, i) => WORDS[type][0](view, 8 * i));
  const got = exports[func](...given);
  const results = signature.results.length === 1 ? [got] : signature.results.length ? [...got] : [];
  const out = new Uint8Array(8 * results.length);
  const into = new DataView(out.buffer);
  signature.results.forEach((type, i) => WORDS[type][1](into, 8 * i, results[i]));
  return out;
}

/** @param {unknown} error */
const plain = (error) => (error instanceof Error ? error.message : String(error));

/** What was thrown, as a refusal. @param {unknown} error */
function told(error) {
  const text = plain(error);
  if (error instanceof Failed) return { code: error.code, text };
  if (error instanceof LinkError || error instanceof WebAssembly.LinkError) return { code: "bad_import", text };
  if (/call stack|too much recursion/i.test(text)) return { code: "stack_overflow", text: "The program recursed too deeply." };
  if (error instanceof WebAssembly.RuntimeError) return { code: "trap", text: `The program trapped: ${text}.` };
  if (error instanceof RangeError && /memory|allocat/i.test(text)) return { code: "out_of_memory", text: "The browser has not the memory this program begins with." };
  return { code: "internal", text: `The handler worker failed: ${text}` };
}
