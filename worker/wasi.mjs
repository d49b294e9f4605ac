// @ts-check
/**
 * Link a program to the WASI module in the JavaScript engine at hand. Twin of promisegrid_node/wasi.py.
 *
 *     const wasi = await compile({wasi, gate, peek, bridge});   // bytes of promisegrid/wasi/*.wasm, once
 *     const linked = link(wasi, module, job);                   // everything but calling the program
 *     linked.instance.exports._start();                         // returns, or throws
 *     linked.result();                                          // the result blob (promisegrid/job.py decodes it)
 *
 * The order: gate → wasi (imports the gate) → program (imports wasi) → peek and bridge (import the program's
 * memory and fill the gate's table). No JavaScript function takes part in a call.
 *
 * Promises: a program gets only what it asks for, and nothing outside what `offers` says and `extra` holds.
 * Does not know: what a budget is for, what a job means, which thread it is on (it needs no worker, no DOM, no Node.js).
 */

/** @typedef {{wasi: WebAssembly.Module, gate: WebAssembly.Module, peek: WebAssembly.Module, bridge: WebAssembly.Module}} Wasi */
/** @typedef {Record<string, Record<string, WebAssembly.ImportValue>>} Extra further imports, such as a meter's */
/** @typedef {{initial: number, maximum?: number}} Pages limits of a memory, in pages of 64 KiB */
/**
 * @typedef {object} Linked
 * @property {WebAssembly.Instance} instance
 * @property {WebAssembly.Memory | null} memory the program's own, exported or imported
 * @property {() => Uint8Array} result the result blob, also after a trap; a copy
 * @property {(units: bigint) => void} setFuel what the program may use from now on, and WASI on its behalf
 * @property {(units: bigint) => bigint} fuelUsed since `setFuel(units)`, by both together; also after a trap
 * @property {() => boolean} tooDeep whether the metered stack ended it
 * @property {() => void} start run what was the module's start function
 */

export const MODULES = /** @type {const} */ (["wasi", "gate", "peek", "bridge"]);
/** What the meter exports (promisegrid/wasm/meter.py). */
const [FUEL, DEPTH, START] = ["promisegrid:fuel", "promisegrid:depth", "promisegrid:start"];
/** Fuel nobody uses up: for a run without a budget, and for handing out the result. */
export const UNMETERED = 1n << 62n;
const NAMESPACE = "wasi_snapshot_preview1";
const OWN = /^k_/; // exports of the WASI module that are for the host, not for programs

/** What a program that asks for nothing of WASI leaves behind: "PGR1" and zeros. */
export const EMPTY_RESULT = Uint8Array.of(0x50, 0x47, 0x52, 0x31, ...new Array(20).fill(0));

const MALFORMED =
  "the job is malformed: a name or link in the folder is empty, longer than 255 bytes, '.' or '..', or not UTF-8 text; rename it";

/** The program cannot be linked; the message names the cause. */
export class LinkError extends Error {}

/**
 * Compile the four modules; they can be posted to other workers.
 * @param {Record<typeof MODULES[number], BufferSource>} bytes
 * @returns {Promise<Wasi>}
 */
export async function compile(bytes) {
  const modules = await Promise.all(MODULES.map((name) => WebAssembly.compile(bytes[name])));
  return /** @type {Wasi} */ (Object.fromEntries(MODULES.map((name, i) => [name, modules[i]])));
}

/**
 * Is this function import given to every program? All of preview 1, and `env.abort`, which traps.
 * @param {Wasi} wasi @param {string} module @param {string} name
 */
export function offers(wasi, module, name) {
  if (module === "env") return name === "abort";
  if (module !== NAMESPACE || name === "abort" || OWN.test(name)) return false;
  return WebAssembly.Module.exports(wasi.wasi).some((item) => item.kind === "function" && item.name === name);
}

/**
 * The imports nobody offers, as "module.name", sorted. Call it before anything is instantiated.
 * @param {Wasi} wasi @param {WebAssembly.Module} module @param {Extra} [extra]
 */
export function missingImports(wasi, module, extra = {}) {
  const missing = WebAssembly.Module.imports(module).filter(
    (item) =>
      !given(extra, item) && item.kind !== "memory" && !(item.kind === "function" && offers(wasi, item.module, item.name)),
  );
  return [...new Set(missing.map((item) => `${item.module}.${item.name}`))].sort();
}

/** @param {Extra} extra @param {{module: string, name: string}} item */
const given = (extra, item) => Object.hasOwn(extra, item.module) && Object.hasOwn(extra[item.module], item.name);

/**
 * Instantiate the program with its job loaded; nothing of it runs until `Linked.start`.
 *
 * `memory` are the limits of the memory it imports, if it imports one (`importedMemory` reads them from its
 * bytes; engines do not tell). Throws LinkError, or what the engine throws.
 * @param {Wasi} wasi @param {WebAssembly.Module} module @param {Uint8Array} job
 * @param {{extra?: Extra, memory?: Pages | null}} [options]
 * @returns {Linked}
 */
export function link(wasi, module, job, { extra = {}, memory: pages = null } = {}) {
  const missing = missingImports(wasi, module, extra);
  if (missing.length) {
    const names = missing.slice(0, 8).join(", ");
    throw new LinkError(`the module imports ${names}, which no host offers; build it for WASI preview 1`);
  }
  const wanted = WebAssembly.Module.imports(module);
  const asks = wanted.some((item) => offers(wasi, item.module, item.name));
  const gate = asks ? new WebAssembly.Instance(wasi.gate) : null;
  const system = gate && new WebAssembly.Instance(wasi.wasi, { gate: gate.exports });
  if (system) loadJob(system, job);

  /** @type {WebAssembly.Memory | null} */
  let imported = null;
  /** @type {Extra} */
  const imports = {};
  for (const item of wanted) {
    const group = (imports[item.module] ??= Object.create(null));
    if (given(extra, item)) group[item.name] = extra[item.module][item.name];
    else if (item.kind === "memory") group[item.name] = imported ??= newMemory(pages);
    else if (system) group[item.name] = system.exports[item.name];
    if (group[item.name] instanceof WebAssembly.Memory) imported ??= /** @type {WebAssembly.Memory} */ (group[item.name]);
  }
  const instance = new WebAssembly.Instance(module, imports);
  const memory = instance.exports.memory instanceof WebAssembly.Memory ? instance.exports.memory : imported;
  if (memory && memory.buffer instanceof ArrayBuffer === false) {
    throw new LinkError("the module has a shared memory; build it without threads");
  }
  const metered = [instance];
  if (gate && system) {
    const program = { memory: memory ?? new WebAssembly.Memory({ initial: 0, maximum: 0 }) }; // without one every address is a fault
    const peek = new WebAssembly.Instance(wasi.peek, { program });
    metered.push(system, new WebAssembly.Instance(wasi.bridge, { wasi: system.exports, gate: gate.exports, peek: peek.exports }));
  }
  const fuels = counters(metered, FUEL);
  const depths = counters(metered, DEPTH);
  const setFuel = (/** @type {bigint} */ units) => fuels.forEach((fuel) => (fuel.value = units));
  return {
    instance,
    memory,
    setFuel,
    fuelUsed: (units) => fuels.reduce((used, fuel) => used + units - fuel.value, 0n),
    tooDeep: () => depths.some((depth) => depth.value < 0n),
    start: () => /** @type {any} */ (instance.exports[START])?.(),
    result() {
      if (!system) return EMPTY_RESULT.slice();
      setFuel(UNMETERED);
      return readResult(system);
    },
  };
}

/** The meter's globals of that name. @param {WebAssembly.Instance[]} instances @param {string} name @returns {WebAssembly.Global<"i64">[]} */
function counters(instances, name) {
  return /** @type {any} */ (instances.map(({ exports }) => exports[name]).filter((found) => found instanceof WebAssembly.Global));
}

/** @param {Pages | null} pages */
function newMemory(pages) {
  if (!pages) throw new LinkError("the module imports a memory; hand link its limits (importedMemory reads them)");
  return new WebAssembly.Memory(pages);
}

/** @param {WebAssembly.Instance} system @param {Uint8Array} job */
function loadJob(system, job) {
  const { memory, k_alloc, k_load } = /** @type {any} */ (system.exports);
  const at = k_alloc(job.length) >>> 0;
  new Uint8Array(memory.buffer).set(job, at);
  if (k_load(at, job.length)) throw new LinkError(MALFORMED);
}

/** @param {WebAssembly.Instance} system */
function readResult(system) {
  const { memory, k_result, k_result_len } = /** @type {any} */ (system.exports);
  let at;
  try {
    at = k_result();
  } catch (error) {
    if (!(error instanceof WebAssembly.RuntimeError)) throw error;
    at = k_result(); // no memory left to build it: the second answer carries only the flags
  }
  return new Uint8Array(memory.buffer, at >>> 0, k_result_len() >>> 0).slice();
}

/**
 * The limits of the first memory a module imports, or null. Reads only its import section.
 * @param {Uint8Array} bytes a module the engine has validated
 * @returns {Pages | null}
 */
export function importedMemory(bytes) {
  let at = 8;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (!(byte & 0x80)) return value;
    }
  };
  const skipText = () => void (at = number() + at);
  const limits = () => {
    const flags = number();
    if (flags & ~1) throw new LinkError("the module has a shared or 64-bit memory; build it without threads, for wasm32");
    const initial = number();
    return flags & 1 ? { initial, maximum: number() } : { initial };
  };
  while (at < bytes.length) {
    const id = bytes[at++];
    const size = number();
    if (id !== 2) {
      at += size;
      continue;
    }
    for (let left = number(); left > 0; left--) {
      skipText();
      skipText();
      const kind = bytes[at++];
      if (kind === 2) return limits();
      if (kind === 0) number(); // a function: its type
      else if (kind === 1) (at += 1), limits(); // a table: element type, limits
      else if (kind === 3) at += 2; // a global: value type, mutability
      else throw new LinkError("the module imports what is neither function, table, memory nor global");
    }
    return null;
  }
  return null;
}
