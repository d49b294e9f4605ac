// @ts-check
/**
 * What the stores of JavaScript hosts have in common: the tables, what is asked of them, in which order, and refusals.
 *
 * Promises: what is asked in one task goes into as few transactions as keep the order in which it was asked; a
 * transaction holds at most `BATCH_BYTES`, or one write that is larger by itself.
 * Does not know: where rows are kept.
 */

/** @typedef {[table: string, key: Uint8Array, value: Uint8Array | null]} Write */
/** @typedef {["load", string, Uint8Array[]] | ["scan", string, Uint8Array, Uint8Array, number, boolean?]} Read */
/** @typedef {[read: Read, answer: any[]]} Seen */

export const TABLES = ["blocks", "memo", "grid", "apps", "kv", "streams", "pins"];
export const NOTHING = new Uint8Array();
/** Bytes that writes of one task share a transaction up to: beyond it the gain is small, and the memory is not. */
export const BATCH_BYTES = 16 * 1024 * 1024;

/** A store that could not do it: `code` is one of the kernel's refusal codes, `refused` (the browser gives this page no
 * database), `late`, `newer`, `in_use` or `superseded` (another tab leads now). */
export class StoreError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Whether two answers of reads are the same bytes. @param {any} a @param {any} b @returns {boolean} */
export function same(a, b) {
  if (a === null || b === null) return a === b;
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) {
    if (a instanceof Uint8Array ? a[i] !== b[i] : !same(a[i], b[i])) return false;
  }
  return true;
}

/** The first key above all that begin with `prefix`, or null where there is none. @param {Uint8Array} prefix */
export function above(prefix) {
  let end = prefix.length;
  while (end > 0 && prefix[end - 1] === 0xff) end -= 1;
  if (end === 0) return null;
  const next = prefix.slice(0, end);
  next[end - 1] += 1;
  return next;
}

/**
 * @typedef {object} Asked one write of a caller, or its reads
 * @property {Read[]} reads @property {Write[]} writes @property {Seen[]} seen
 * @property {(answer: any) => void} resolve @property {(error: any) => void} reject
 */
/** One transaction to come. @typedef {{writes: boolean, durable: boolean, tables: Set<string>, bytes: number, asked: Asked[]}} Part */

/** What one task asks, put into parts; at the task's end each part is begun, in order. */
class Order {
  /** @type {Part[]} */
  #parts = [];

  /** @param {(part: Part) => void} begin */
  constructor(begin) {
    this.begin = begin;
  }

  /** Reads of one state. @param {Read[]} reads @returns {Promise<any[][]>} */
  read(reads) {
    const part = this.#part(false, reads.map(([, table]) => table), 0);
    return new Promise((resolve, reject) => part.asked.push({ reads, writes: [], seen: [], resolve, reject }));
  }

  /**
   * Writes, all or nothing, if every `seen` still reads as it did: null; or the number of the first that does not.
   * @param {Write[]} writes @param {Seen[]} seen @param {boolean} durable @returns {Promise<number | null>}
   */
  write(writes, seen, durable) {
    const tables = new Set(writes.map(([table]) => table));
    for (const [read] of seen) tables.add(read[1]);
    if (tables.size === 0) return Promise.resolve(null);
    const bytes = writes.reduce((sum, [, key, value]) => sum + key.length + (value?.length ?? 0), 0);
    const part = this.#part(true, [...tables], bytes);
    part.durable ||= durable;
    return new Promise((resolve, reject) => part.asked.push({ reads: [], writes, seen, resolve, reject }));
  }

  /** The part this belongs into: the latest of its kind, unless one behind it has to come first. @param {boolean} writes @param {string[]} tables @param {number} bytes */
  #part(writes, tables, bytes) {
    let part = null;
    for (let i = this.#parts.length - 1; i >= 0 && !part; i -= 1) {
      const one = this.#parts[i];
      if (one.writes === writes && one.bytes + bytes <= BATCH_BYTES) part = one;
      else if ((writes || one.writes) && tables.some((table) => one.tables.has(table))) break;
    }
    if (!part) {
      part = { writes, durable: false, tables: new Set(), bytes: 0, asked: [] };
      if (this.#parts.push(part) === 1) queueMicrotask(() => this.#flush());
    }
    for (const table of tables) part.tables.add(table);
    part.bytes += bytes;
    return part;
  }

  #flush() {
    const parts = this.#parts;
    this.#parts = [];
    for (const part of parts) this.begin(part);
  }
}

/** A store whose reads and writes share transactions: what a caller asks, put in order. `begin` is the store's own. */
export class OrderedStore {
  #order = new Order((part) => this.begin(part));

  /** Begin one transaction, and answer those who asked. @param {Part} part @returns {void} */
  begin(part) {
    throw new StoreError("internal", `This store cannot begin a transaction on ${[...part.tables]}.`);
  }

  /** The rows at these keys, null where there is none. @param {string} table @param {Uint8Array[]} keys */
  load(table, keys) {
    return this.#order.read([["load", table, keys]]).then(([rows]) => rows);
  }

  /**
   * Rows in key order; with `keysOnly` their values are empty.
   * @param {string} table @param {Uint8Array} prefix @param {Uint8Array} after @param {number} limit @param {boolean} [keysOnly]
   */
  scan(table, prefix, after, limit, keysOnly) {
    return this.#order.read([["scan", table, prefix, after, limit, keysOnly]]).then(([rows]) => rows);
  }

  /** Several reads of one state of the store. @param {Read[]} reads */
  read(reads) {
    return this.#order.read(reads);
  }

  /** All or nothing; `durable` means on the disk before it resolves. @param {Write[]} writes @param {boolean} durable */
  write(writes, durable) {
    return this.#order.write(writes, [], durable);
  }

  /**
   * Write all, durably, if every `seen` still reads as it did; else nothing, and the number of the first that does not.
   * @param {Write[]} writes @param {Seen[]} seen
   */
  commit(writes, seen) {
    return this.#order.write(writes, seen, true);
  }
}

/**
 * Carry out a part of writes by `attempt`, which answers them all or throws and has changed nothing. If the disk was too
 * full for all of them, each is tried by itself: a small one is not refused because a large one was asked beside it.
 * @param {Part} part @param {(asked: Asked[], durable: boolean) => Promise<(number | null)[]>} attempt
 */
export async function settle({ asked, durable }, attempt) {
  try {
    const answers = await attempt(asked, durable);
    asked.forEach((one, i) => one.resolve(answers[i]));
  } catch (error) {
    if (asked.length === 1 || /** @type {any} */ (error).code !== "disk_full") return asked.forEach((one) => one.reject(error));
    for (const one of asked) await attempt([one], durable).then(([answer]) => one.resolve(answer), one.reject);
  }
}
