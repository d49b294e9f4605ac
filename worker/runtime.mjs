// @ts-check
/**
 * The tab's runtime: modules made ready, kept, and run in the handler pool.
 *
 * Promises: compiling and running have a deadline and can be cancelled by their ticket; compiled modules are kept
 * within `KEPT_BYTES` of code, the guarded bytes behind them on the store's shelf, from where they come back after a
 * reload. Does not know: what a module may contain. Python inspects and guards it between `check` and `keep`; for a
 * large one (promisegrid_worker/runtime.py says which) a second Python does, in a worker of its own, within `METER_MS`.
 *
 * A guarded module serves every budget: what a run may have is told to the instance (handler.worker.mjs).
 */
import { Pool, TaskError } from "./pool.mjs";

const KEPT_BYTES = 128 * 1024 * 1024;
const KEPT = 32;
const CHECK_MS = 30_000;
const COMPILE_MS = 60_000;
/** Ten times what the largest module taken needs on a slow machine; of looking, and again of rewriting. */
const METER_MS = 60_000;

/** @typedef {{module: WebAssembly.Module, pages: import("./wasi.mjs").Pages | null, info: Uint8Array, bytes: number}} Kept */
/** @typedef {import("./handler.worker.mjs").Job & {code: Uint8Array, time: number}} Job */

/** @param {string} what @param {number} ms */
const tooComplex = (what, ms) => () => new TaskError("too_complex", `${what} the module took longer than ${ms / 1000} s.`);

export class Runtime {
  /** @type {Map<string, Kept>} in order of last use */
  #kept = new Map();
  #bytes = 0;
  /** @type {Map<number, () => void>} */
  #cancels = new Map();

  /**
   * @param {Pool} pool @param {{module: Function, shelve: Function}} store @param {Pool | null} [meters] workers with a Python (meter.worker.mjs)
   * @param {{meterMs?: number}} [patience] how long looking at a large module may take, and rewriting it
   */
  constructor(pool, store, meters = null, { meterMs = METER_MS } = {}) {
    this.meterMs = meterMs;
    this.pool = pool;
    this.store = store;
    this.meters = meters;
  }

  /** What is known about a module that is ready, or null. @param {number} ticket @param {Uint8Array} code @returns {Promise<Uint8Array | null>} */
  async find(ticket, code) {
    const kept = this.#use(code.join());
    if (kept) return kept.info;
    const shelved = await this.store.module(code).catch(() => null);
    if (!shelved) return null;
    await this.#compile(ticket, code, shelved.module, shelved.info);
    return shelved.info;
  }

  /** Whether the engine takes the module as it is; a TaskError says why not. @param {number} ticket @param {Uint8Array} data */
  check(ticket, data) {
    return this.#do(ticket, { op: "check", data }, { transfer: [data.buffer], ms: CHECK_MS, late: tooComplex("Validating", CHECK_MS) });
  }

  /** Compile a guarded module and keep it. @param {number} ticket @param {Uint8Array} code @param {Uint8Array} data @param {Uint8Array} info */
  async keep(ticket, code, data, info) {
    await this.#compile(ticket, code, data, info);
    this.store.shelve(code, data, info).catch(() => {}); // a cache: what is not kept is made again
    return null;
  }

  /** Everything from a large module's bytes to `keep`, off this thread; what is known about it.
   * @param {number} ticket @param {Uint8Array} code @param {Uint8Array} data @param {number} pages @returns {Promise<Uint8Array>} */
  async meter(ticket, code, data, pages) {
    const how = { ms: this.meterMs, late: tooComplex("Metering", this.meterMs) };
    const info = await this.#do(ticket, { op: "look", data }, how, this.meters);
    await this.check(ticket, data.slice());
    const guarded = await this.#do(ticket, { op: "guard", data, pages }, { ...how, transfer: [data.buffer] }, this.meters);
    await this.keep(ticket, code, guarded, info);
    return info;
  }

  /** @param {number} ticket @param {Job} job @returns {Promise<{values: Uint8Array, wasi: Uint8Array, memory: number}>} */
  async run(ticket, { code, time, ...job }) {
    const kept = this.#use(code.join());
    if (!kept) throw new TaskError("not_found", "The module is no longer in this tab's cache; run it again.");
    const late = () => new TaskError("out_of_time", `The program did not end within ${time} ms.`);
    const transfer = job.wasi.length > 0 ? [job.wasi.buffer] : [];
    return this.#do(ticket, { op: "run", module: kept.module, pages: kept.pages, job }, { transfer, ms: time, late });
  }

  /** End what that ticket has going, if anything. @param {number} ticket */
  cancel(ticket) {
    this.#cancels.get(ticket)?.();
  }

  close() {
    this.pool.close();
    this.meters?.close();
  }

  /** @param {number} ticket @param {object} message @param {{transfer?: Transferable[], ms: number, late: () => TaskError}} how @param {Pool | null} [pool] */
  async #do(ticket, message, how, pool = this.pool) {
    if (!pool) throw new TaskError("unsupported", "A module this large cannot be metered here: no worker is there for it.");
    const { done, cancel } = pool.do(message, how);
    this.#cancels.set(ticket, cancel);
    try {
      return await done;
    } finally {
      this.#cancels.delete(ticket);
    }
  }

  /** @param {number} ticket @param {Uint8Array} code @param {Uint8Array} data @param {Uint8Array} info */
  async #compile(ticket, code, data, info) {
    const how = { ms: COMPILE_MS, late: tooComplex("Compiling", COMPILE_MS) };
    const { module, pages } = await this.#do(ticket, { op: "compile", data }, how);
    const name = code.join();
    this.#drop(name);
    this.#kept.set(name, { module, pages, info, bytes: data.length });
    this.#bytes += data.length;
    for (const oldest of this.#kept.keys()) {
      if (oldest === name || (this.#bytes <= KEPT_BYTES && this.#kept.size <= KEPT)) break;
      this.#drop(oldest);
    }
  }

  /** @param {string} name */
  #use(name) {
    const kept = this.#kept.get(name);
    if (kept) {
      this.#kept.delete(name);
      this.#kept.set(name, kept);
    }
    return kept;
  }

  /** @param {string} name */
  #drop(name) {
    this.#bytes -= this.#kept.get(name)?.bytes ?? 0;
    this.#kept.delete(name);
  }
}
