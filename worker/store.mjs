// @ts-check
/**
 * The tab's store: IndexedDB, tables of bytes to bytes in key order, and what this node keeps of its own.
 *
 * Promises: what is asked in one task shares transactions (store.common.mjs says how). A durable write is flushed before
 * it is answered. Every write transaction first reads the epoch in that same transaction and changes nothing if a newer
 * leader has taken the node over. A full disk is `disk_full`, and has changed nothing.
 * Does not know: what the bytes mean; who may lead (the page's Web Lock decides that, the epoch enforces it).
 *
 * Durability: developer.mozilla.org, IDBDatabase.transaction; "relaxed" stops at the operating system's
 * buffer, "strict" at the disk.
 */
import { MODULES, OWN, SHELF, finished, openDatabase, refusal, remains, result, scanRange } from "./idb.mjs";
import { NOTHING, OrderedStore, StoreError, same, settle } from "./store.common.mjs";

/** @typedef {import("./store.common.mjs").Write} Write */
/** @typedef {import("./store.common.mjs").Read} Read */
/** @typedef {import("./store.common.mjs").Asked} Asked */
/** @typedef {import("./store.common.mjs").Part} Part */

export const SHELF_BYTES = 192 * 1024 * 1024;
export const SHELF_ROWS = 256;

/** @param {Uint8Array} bytes a value that owns its whole buffer: structured clone copies buffers, not views */
function whole(bytes) {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
}

/** @param {IDBTransaction} transaction @param {Write[]} writes */
function put(transaction, writes) {
  for (const [table, key, value] of writes) {
    const into = transaction.objectStore(table);
    if (value === null) into.delete(key);
    else into.put(whole(value), key);
  }
}

/** The answer of one read in a transaction. @param {IDBTransaction} transaction @param {Read} read @returns {Promise<any[]>} */
async function answer(transaction, [kind, table, ...how]) {
  const from = transaction.objectStore(table);
  if (kind === "load") {
    const rows = await Promise.all(/** @type {Uint8Array[]} */ (how[0]).map((key) => remains(from.get(key))));
    return rows.map((row) => row ?? null);
  }
  const [prefix, after, limit, keysOnly] = /** @type {[Uint8Array, Uint8Array, number, boolean?]} */ (/** @type {unknown} */ (how));
  const range = scanRange(prefix, after);
  if (range === undefined || limit === 0) return []; // to IndexedDB a limit of 0 is none
  const [keys, all] = await Promise.all([result(from.getAllKeys(range, limit)), keysOnly ? [] : remains(from.getAll(range, limit))]);
  const values = all ?? (await Promise.all(keys.map((key) => remains(from.get(key))))); // one that is lost hides all others
  const rows = keys.map((key, i) => [new Uint8Array(/** @type {ArrayBuffer} */ (key)), values[i] ?? NOTHING]);
  if (keysOnly || all || table === "blocks") return rows; // a lost block is for its reader to find wrong
  const found = rows.filter((_, i) => values[i]);
  if (found.length === rows.length || rows.length < limit) return found;
  const more = await answer(transaction, ["scan", table, prefix, rows[rows.length - 1][0], limit - found.length]); // fewer would mean the end
  return [...found, ...more];
}

/** @param {IDBTransaction} transaction @param {Read[]} reads */
const answers = (transaction, reads) => Promise.all(reads.map((read) => answer(transaction, read)));

/**
 * Compare and write, one after another, in one transaction.
 * @param {IDBTransaction} transaction @param {Asked[]} asked @param {(number | null)[]} outcomes filled in
 */
async function apply(transaction, asked, outcomes) {
  for (const { writes, seen } of asked) {
    const now = seen.length > 0 ? await answers(transaction, seen.map(([read]) => read)) : [];
    const at = now.findIndex((rows, i) => !same(rows, seen[i][1]));
    outcomes.push(at < 0 ? null : at);
    if (at < 0) put(transaction, writes);
  }
}

/** The store in IndexedDB. Make it with `IdbStore.open`. */
export class IdbStore extends OrderedStore {
  kept = true;

  /** @param {IDBDatabase} database @param {number} epoch */
  constructor(database, epoch) {
    super();
    this.database = database;
    this.epoch = epoch;
  }

  /**
   * Open, and take a new epoch: from here on no earlier leader can write.
   * @param {{onwait: (text: string) => void, onlost: (text: string) => void}} told
   */
  static async open(told) {
    const database = await openDatabase(told);
    const transaction = database.transaction(OWN, "readwrite", { durability: "strict" });
    const own = transaction.objectStore(OWN);
    const store = new IdbStore(database, 0);
    own.get("epoch").onsuccess = (event) => {
      store.epoch = (/** @type {IDBRequest<number|undefined>} */ (event.target).result ?? 0) + 1;
      own.put(store.epoch, "epoch");
    };
    await finished(transaction);
    return store;
  }

  /** How many rows a table has. @param {string} table */
  count(table) {
    return result(this.database.transaction(table, "readonly").objectStore(table).count());
  }

  /** @param {Part} part */
  begin(part) {
    void (part.writes ? this.#write(part) : this.#read(part));
  }

  /** @param {Part} part */
  async #read({ tables, asked }) {
    try {
      const transaction = tables.size > 0 ? this.database.transaction([...tables], "readonly") : /** @type {any} */ (null);
      for (const { reads, resolve, reject } of asked) answers(transaction, reads).then(resolve, reject);
    } catch (error) {
      for (const { reject } of asked) reject(refusal(/** @type {DOMException} */ (error)));
    }
  }

  /** @param {Part} part */
  #write(part) {
    return settle(part, async (asked, durable) => {
      /** @type {(number | null)[]} */
      const outcomes = [];
      await this.fenced([...part.tables], durable, (transaction) => apply(transaction, asked, outcomes));
      return outcomes;
    });
  }

  /**
   * Run `change` in a write transaction that is still ours; resolves when it is complete.
   * @param {string[]} tables @param {boolean} durable @param {(transaction: IDBTransaction) => void | Promise<void>} change
   */
  async fenced(tables, durable, change) {
    const transaction = this.#open([...tables, OWN], durable);
    /** @type {any} */
    let wrong = null;
    const abort = (/** @type {any} */ reason) => {
      wrong ??= reason instanceof StoreError ? reason : new StoreError("internal", `The store could not write: ${reason}.`);
      try {
        transaction.abort();
      } catch {} // it has failed by itself, and says why
    };
    transaction.objectStore(OWN).get("epoch").onsuccess = async (event) => {
      const mine = /** @type {IDBRequest<number>} */ (event.target).result === this.epoch;
      if (!mine) return abort(new StoreError("superseded", "Another tab has taken this node over; this one stopped before writing."));
      try {
        await change(transaction);
      } catch (error) {
        abort(error);
      }
    };
    try {
      await finished(transaction);
    } catch (error) {
      throw /** @type {any} */ (error).code === "disk_full" ? error : wrong ?? error;
    }
  }

  /** @param {string[]} tables @param {boolean} durable */
  #open(tables, durable) {
    try {
      return this.database.transaction(tables, "readwrite", { durability: durable ? "strict" : "relaxed" });
    } catch (error) {
      throw refusal(/** @type {DOMException} */ (error));
    }
  }

  /** What this node keeps of its own. @param {string} key @returns {Promise<any>} */
  own(key) {
    return result(this.database.transaction(OWN, "readonly").objectStore(OWN).get(key));
  }

  /** Keep `value` under `key` unless something is there; the value that is there now. @param {string} key @param {any} value */
  async keepOnce(key, value) {
    await this.fenced([], true, (transaction) => {
      const own = transaction.objectStore(OWN);
      const there = own.getKey(key);
      there.onsuccess = () => {
        if (there.result === undefined) own.put(value, key);
      };
    });
    return this.own(key);
  }

  /** A guarded module from the shelf. @param {Uint8Array} key @returns {Promise<{module: Uint8Array, info: Uint8Array} | null>} */
  async module(key) {
    const transaction = this.database.transaction([MODULES, SHELF], "readonly");
    const [module, row] = await Promise.all([MODULES, SHELF].map((table) => result(transaction.objectStore(table).get(key))));
    return module && row ? { module, info: row.info } : null;
  }

  /** Put a guarded module on the shelf, the oldest making room. @param {Uint8Array} key @param {Uint8Array} module @param {Uint8Array} info */
  shelve(key, module, info) {
    if (module.length > SHELF_BYTES) return Promise.resolve();
    return this.fenced([MODULES, SHELF], false, (transaction) => {
      const shelf = transaction.objectStore(SHELF);
      const modules = transaction.objectStore(MODULES);
      const keys = shelf.getAllKeys();
      const rows = shelf.getAll();
      rows.onsuccess = () => {
        const rowsByAge = rows.result.map((row, i) => ({ key: keys.result[i], ...row })).sort((a, b) => a.at - b.at);
        let bytes = rowsByAge.reduce((sum, row) => sum + row.bytes, module.length);
        for (let count = rowsByAge.length + 1; rowsByAge.length > 0 && (bytes > SHELF_BYTES || count > SHELF_ROWS); count -= 1) {
          const oldest = rowsByAge.shift();
          bytes -= oldest.bytes;
          shelf.delete(oldest.key);
          modules.delete(oldest.key);
        }
        modules.put(whole(module), key);
        shelf.put({ bytes: module.length, at: Date.now(), info: whole(info) }, key);
      };
    });
  }

  close() {
    this.database.close();
  }
}
