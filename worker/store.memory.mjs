// @ts-check
/**
 * A store for one session, where the browser refuses IndexedDB (some private windows, blocked site data).
 *
 * Promises: the same methods and answers as `IdbStore`, within `MEMORY_BYTES`; past that it is `disk_full`.
 * Keeps nothing: `kept` is false, and the page says so. Needs no fence, for no other tab can see it.
 */
import { NOTHING, StoreError, same } from "./store.common.mjs";

/** @typedef {import("./store.common.mjs").Read} Read */
/** @typedef {import("./store.common.mjs").Write} Write */

export const MEMORY_BYTES = 512 * 1024 * 1024;

/** @param {Uint8Array} bytes text whose order is that of the bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class MemoryStore {
  kept = false;
  epoch = 0;
  #bytes = 0;
  /** @type {Map<string, Map<string, [Uint8Array, Uint8Array]>>} */
  #tables = new Map();
  /** @type {Map<string, any>} */
  #own = new Map();

  /** @param {string} table */
  #table(table) {
    let rows = this.#tables.get(table);
    if (!rows) this.#tables.set(table, (rows = new Map()));
    return rows;
  }

  /** @param {string} table @param {Uint8Array[]} keys */
  async load(table, keys) {
    return this.#answer(["load", table, keys]);
  }

  /** @param {string} table @param {Uint8Array} prefix @param {Uint8Array} after @param {number} limit @param {boolean} [keysOnly] */
  async scan(table, prefix, after, limit, keysOnly) {
    return this.#answer(["scan", table, prefix, after, limit, keysOnly]);
  }

  /** @param {Read[]} reads */
  async read(reads) {
    return reads.map((read) => this.#answer(read));
  }

  /** @param {Read} read @returns {any[]} */
  #answer([kind, table, ...how]) {
    const rows = this.#table(table);
    if (kind === "load") return /** @type {Uint8Array[]} */ (how[0]).map((key) => rows.get(hex(key))?.[1] ?? null);
    const [prefix, after, limit, keysOnly] = /** @type {[Uint8Array, Uint8Array, number, boolean?]} */ (/** @type {unknown} */ (how));
    const [begin, past] = [hex(prefix), hex(after)];
    const keys = [...rows.keys()].filter((key) => key > past && key.startsWith(begin));
    const found = keys.sort().slice(0, limit).map((key) => /** @type {[Uint8Array, Uint8Array]} */ (rows.get(key)));
    return keysOnly ? found.map(([key]) => [key, NOTHING]) : found;
  }

  /** @param {Write[]} writes @param {import("./store.common.mjs").Seen[]} seen @returns {Promise<number | null>} */
  async commit(writes, seen) {
    const at = seen.findIndex(([read, rows]) => !same(this.#answer(read), rows));
    if (at < 0) this.#put(writes);
    return at < 0 ? null : at;
  }

  /** @param {string} table */
  async count(table) {
    return this.#table(table).size;
  }

  /** @param {Write[]} writes @param {boolean} _durable */
  async write(writes, _durable) {
    this.#put(writes);
    return null;
  }

  /** @param {Write[]} writes */
  #put(writes) {
    /** @type {Map<string, number>} */
    const sizes = new Map(); // of what these writes leave: one key may be written twice
    for (const [table, key, value] of writes) sizes.set(`${table} ${hex(key)}`, value ? key.length + value.length : 0);
    let growth = 0;
    for (const [name, size] of sizes) {
      const [table, key] = name.split(" ");
      const old = this.#table(table).get(key);
      growth += size - (old ? old[0].length + old[1].length : 0);
    }
    if (growth > 0 && this.#bytes + growth > MEMORY_BYTES) {
      throw new StoreError("disk_full", "This private session holds as much as it may in memory; open the node in a normal window.");
    }
    this.#bytes += growth;
    for (const [table, key, value] of writes) {
      if (value) this.#table(table).set(hex(key), [key.slice(), value.slice()]); // not views: they would keep the whole turn
      else this.#table(table).delete(hex(key));
    }
  }

  /** @param {string} key @returns {Promise<any>} */
  async own(key) {
    return this.#own.get(key);
  }

  /** @param {string} key @param {any} value @returns {Promise<any>} */
  async keepOnce(key, value) {
    if (!this.#own.has(key)) this.#own.set(key, value);
    return this.#own.get(key);
  }

  /** The pool's own cache is enough for one session. @param {Uint8Array} _key @returns {Promise<null>} */
  async module(_key) {
    return null;
  }

  async shelve() {}

  close() {}
}
