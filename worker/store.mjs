// @ts-check
/**
 * The tab's store: IndexedDB, four tables of bytes to bytes in key order, and what this node keeps of its own.
 *
 * Promises: reads asked in one task share one transaction, and so do writes of the same kind. A durable
 * write is flushed before it is answered. Every write transaction first reads the epoch in that same
 * transaction and changes nothing if a newer leader has taken the node over. A full disk is `disk_full`.
 * Does not know: what the bytes mean; who may lead (the page's Web Lock decides that, the epoch enforces it).
 *
 * Durability: developer.mozilla.org, IDBDatabase.transaction; "relaxed" stops at the operating system's
 * buffer, "strict" at the disk.
 */

/** @typedef {[table: string, key: Uint8Array, value: Uint8Array | null]} Write */
/** @typedef {["load", string, Uint8Array[]] | ["scan", string, Uint8Array, Uint8Array, number, boolean?]} Read */
/** @typedef {[read: Read, answer: any[]]} Seen */

export const DATABASE = "promisegrid";
export const TABLES = ["blocks", "memo", "grid", "apps", "kv", "streams", "pins"];
const VERSION = 2; // 1 had no kv, streams and pins
const OPEN_MS = 10_000;
const NOTHING = new Uint8Array();
const OWN = "own"; // "epoch" → number, "identity" → CryptoKeyPair
const MODULES = "modules"; // derived: code CID → guarded module; a cache, never a block
const SHELF = "shelf"; // what MODULES holds: the same keys → {bytes, at, info}
export const SHELF_BYTES = 192 * 1024 * 1024;
export const SHELF_ROWS = 256;

/** A store that could not do it: `code` is one of the kernel's refusal codes, `refused` (the browser gives this page no
 * database), `late`, `newer`, or `superseded` (another tab leads now). */
export class StoreError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * The keys of a scan: greater than `after`, beginning with `prefix`; null for all of them.
 * @param {Uint8Array} prefix @param {Uint8Array} after
 */
export function scanRange(prefix, after) {
  let end = prefix.length;
  while (end > 0 && prefix[end - 1] === 0xff) end -= 1;
  const above = prefix.slice(0, end);
  if (end > 0) above[end - 1] += 1;
  const past = after.length > 0 && indexedDB.cmp(after, prefix) >= 0;
  if (past && end > 0 && indexedDB.cmp(after, above) >= 0) return undefined; // nothing can follow
  const lower = past ? after : prefix;
  if (end > 0) return IDBKeyRange.bound(lower, above, past, true);
  return lower.length > 0 ? IDBKeyRange.lowerBound(lower, past) : null;
}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(refusal(request.error));
  });
}

/** Why IndexedDB did not do it, in our words. @param {DOMException | null} error */
function refusal(error) {
  if (error?.name === "QuotaExceededError") {
    return new StoreError("disk_full", "This browser's storage for the node is full; free some disk space and try again.");
  }
  return new StoreError("internal", `The browser's database failed (${error?.name ?? "aborted"}: ${error?.message ?? "no reason given"}).`);
}

/** Why IndexedDB did not open. @param {DOMException | null} error */
function closed(error) {
  if (error?.name === "QuotaExceededError") return refusal(error);
  if (error?.name === "VersionError") return new StoreError("newer", "The store was made by a newer version of this page; reload to get it.");
  return new StoreError("refused", `This browser refuses the page its database (${error?.name ?? "no reason given"}).`);
}

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

/** Whether two answers of reads are the same bytes. @param {any} a @param {any} b @returns {boolean} */
export function same(a, b) {
  if (a === null || b === null) return a === b;
  if (a.length !== b.length) return false;
  if (a instanceof Uint8Array) return a.every((byte, i) => byte === b[i]);
  return a.every((/** @type {any} */ one, /** @type {number} */ i) => same(one, b[i]));
}

/** The request to open, or null where the browser throws instead of answering. */
function ask() {
  try {
    return indexedDB.open(DATABASE, VERSION);
  } catch {
    return null;
  }
}

/**
 * Open the database, or reject with a StoreError that a person can read.
 * @param {{onwait: (text: string) => void, onlost: (text: string) => void}} told
 * @returns {Promise<IDBDatabase>}
 */
function openDatabase({ onwait, onlost }) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(
      () => reject(new StoreError("late", "The browser's database did not open within 10 s; close other tabs of this node, then reload.")),
      OPEN_MS,
    );
    const request = ask();
    if (!request) return clearTimeout(late), reject(new StoreError("refused", "This browser refuses the page its database."));
    request.onblocked = () => {
      clearTimeout(late);
      onwait("Another tab holds an older version of the store; close it to go on.");
    };
    request.onupgradeneeded = () => {
      for (const name of [...TABLES, OWN, MODULES, SHELF]) {
        if (!request.result.objectStoreNames.contains(name)) request.result.createObjectStore(name);
      }
    };
    request.onerror = () => {
      clearTimeout(late);
      reject(closed(request.error));
    };
    request.onsuccess = () => {
      clearTimeout(late);
      const database = request.result;
      database.onversionchange = () => {
        database.close();
        onlost("A newer version of this page has taken over the store; reload this tab.");
      };
      database.onclose = () => onlost("The browser closed the node's database (its site data was cleared); reload this tab.");
      resolve(database);
    };
  });
}

/** The store in IndexedDB. Make it with `IdbStore.open`. */
export class IdbStore {
  kept = true;
  /** @type {IDBTransaction | null} reads of this task */
  #reading = null;
  /** @type {Map<boolean, {writes: Write[], done: Promise<void>}>} writes of this task, by durability */
  #writing = new Map();

  /** @param {IDBDatabase} database @param {number} epoch */
  constructor(database, epoch) {
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

  /** The rows at these keys, null where there is none. @param {string} table @param {Uint8Array[]} keys */
  load(table, keys) {
    return this.#one(this.#read(), ["load", table, keys]);
  }

  /**
   * Rows in key order; with `keysOnly` their values are empty.
   * @param {string} table @param {Uint8Array} prefix @param {Uint8Array} after @param {number} limit @param {boolean} [keysOnly]
   */
  scan(table, prefix, after, limit, keysOnly) {
    return this.#one(this.#read(), ["scan", table, prefix, after, limit, keysOnly]);
  }

  /** Several reads of one state of the store. @param {Read[]} reads */
  read(reads) {
    return Promise.all(reads.map((one) => this.#one(this.#read(), one)));
  }

  /** @param {IDBTransaction} transaction @param {Read} read @returns {Promise<any[]>} */
  async #one(transaction, [kind, table, ...how]) {
    const from = transaction.objectStore(table);
    if (kind === "load") {
      const rows = await Promise.all(/** @type {Uint8Array[]} */ (how[0]).map((key) => result(from.get(key))));
      return rows.map((row) => row ?? null);
    }
    const [prefix, after, limit, keysOnly] = /** @type {[Uint8Array, Uint8Array, number, boolean?]} */ (/** @type {unknown} */ (how));
    const range = scanRange(prefix, after);
    if (range === undefined) return [];
    const rows = keysOnly ? [] : result(from.getAll(range, limit));
    const [keys, values] = await Promise.all([result(from.getAllKeys(range, limit)), rows]);
    return keys.map((key, i) => [new Uint8Array(/** @type {ArrayBuffer} */ (key)), values[i] ?? NOTHING]);
  }

  /**
   * Write all, durably, if every `seen` still reads as it did; else nothing, and the number of the first that does not.
   * @param {Write[]} writes @param {Seen[]} seen @returns {Promise<number | null>}
   */
  async commit(writes, seen) {
    if (seen.length === 0) return this.write(writes, true).then(() => null);
    await null; // what was written before in this task has its transaction before ours
    let at = -1;
    const tables = [...new Set([...writes.map(([table]) => table), ...seen.map(([read]) => read[1])])];
    await this.fenced(tables, true, (transaction) => {
      Promise.all(seen.map(([read]) => this.#one(transaction, read))).then(
        (now) => {
          at = now.findIndex((rows, i) => !same(rows, seen[i][1]));
          if (at < 0) put(transaction, writes);
        },
        () => {}, // the transaction is aborted, and says why
      );
    });
    return at < 0 ? null : at;
  }

  /** How many rows a table has. @param {string} table */
  count(table) {
    return result(this.#read().objectStore(table).count());
  }

  /** All or nothing; `durable` means on the disk before it resolves. @param {Write[]} writes @param {boolean} durable */
  write(writes, durable) {
    let batch = this.#writing.get(durable);
    if (!batch) {
      const fresh = { writes: /** @type {Write[]} */ ([]), done: Promise.resolve() };
      fresh.done = Promise.resolve().then(() => {
        this.#writing.delete(durable);
        return this.#apply(fresh.writes, durable);
      });
      this.#writing.set(durable, (batch = fresh));
    }
    for (const write of writes) batch.writes.push(write);
    return batch.done;
  }

  /** @param {Write[]} writes @param {boolean} durable */
  #apply(writes, durable) {
    const tables = [...new Set(writes.map(([table]) => table))];
    if (tables.length === 0) return Promise.resolve();
    return this.fenced(tables, durable, (transaction) => put(transaction, writes));
  }

  /**
   * Run `change` in a write transaction that is still ours; resolves when it is complete.
   * @param {string[]} tables @param {boolean} durable @param {(transaction: IDBTransaction) => void} change
   */
  async fenced(tables, durable, change) {
    const transaction = this.database.transaction([...tables, OWN], "readwrite", { durability: durable ? "strict" : "relaxed" });
    let superseded = false;
    transaction.objectStore(OWN).get("epoch").onsuccess = (event) => {
      superseded = /** @type {IDBRequest<number>} */ (event.target).result !== this.epoch;
      if (superseded) transaction.abort();
      else change(transaction);
    };
    try {
      await finished(transaction);
    } catch (error) {
      throw superseded ? new StoreError("superseded", "Another tab has taken this node over; this one stopped before writing.") : error;
    }
  }

  /** What this node keeps of its own. @param {string} key @returns {Promise<any>} */
  own(key) {
    return result(this.#read().objectStore(OWN).get(key));
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
    const [module, row] = await Promise.all([
      result(this.#read().objectStore(MODULES).get(key)),
      result(this.#read().objectStore(SHELF).get(key)),
    ]);
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

  #read() {
    if (this.#reading) return this.#reading;
    this.#reading = this.database.transaction([...TABLES, OWN, MODULES, SHELF], "readonly");
    queueMicrotask(() => (this.#reading = null));
    return this.#reading;
  }
}

/** @param {IDBTransaction} transaction @returns {Promise<void>} */
function finished(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(refusal(transaction.error));
  });
}
