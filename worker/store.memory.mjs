// @ts-check
/**
 * A store for one session, where the browser refuses IndexedDB (some private windows, blocked site data).
 *
 * Promises: the same methods and answers as `IdbStore`, within `MEMORY_BYTES`; past that it is `disk_full`.
 * Keeps nothing: `kept` is false, and the page says so. Needs no fence, for no other tab can see it.
 */
import { StoreError, same } from "./store.mjs";

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
    return keys.map((key) => this.#table(table).get(hex(key))?.[1] ?? null);
  }

  /** @param {string} table @param {Uint8Array} prefix @param {Uint8Array} after @param {number} limit @param {boolean} [keysOnly] */
  async scan(table, prefix, after, limit, keysOnly) {
    const rows = this.#table(table);
    const [begin, past] = [hex(prefix), hex(after)];
    const keys = [...rows.keys()].filter((key) => key > past && key.startsWith(begin));
    const found = keys.sort().slice(0, limit).map((key) => /** @type {[Uint8Array, Uint8Array]} */ (rows.get(key)));
    return keysOnly ? found.map(([key]) => [key, new Uint8Array()]) : found;
  }

  /** @param {import("./store.mjs").Read[]} reads @returns {Promise<any[]>} */
  read(reads) {
    return Promise.all(
      reads.map(([kind, table, ...how]) =>
        kind === "load"
          ? this.load(table, /** @type {Uint8Array[]} */ (how[0]))
          : this.scan(table, .../** @type {[Uint8Array, Uint8Array, number, boolean?]} */ (/** @type {unknown} */ (how))),
      ),
    );
  }

  /** @param {import("./store.mjs").Write[]} writes @param {import("./store.mjs").Seen[]} seen @returns {Promise<number | null>} */
  async commit(writes, seen) {
    const now = await this.read(seen.map(([read]) => read));
    const at = now.findIndex((rows, i) => !same(rows, seen[i][1]));
    if (at >= 0) return at;
    await this.write(writes, true);
    return null;
  }

  /** @param {string} table */
  async count(table) {
    return this.#table(table).size;
  }

  /** @param {import("./store.mjs").Write[]} writes @param {boolean} _durable */
  async write(writes, _durable) {
    const growth = writes.reduce((sum, [table, key, value]) => {
      const old = this.#table(table).get(hex(key));
      return sum + (value ? key.length + value.length : 0) - (old ? old[0].length + old[1].length : 0);
    }, 0);
    if (growth > 0 && this.#bytes + growth > MEMORY_BYTES) {
      throw new StoreError("disk_full", "This private session holds as much as it may in memory; open the node in a normal window.");
    }
    this.#bytes += growth;
    for (const [table, key, value] of writes) {
      if (value) this.#table(table).set(hex(key), [key, value]);
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
