// @ts-check
/**
 * The store of a node under Node.js: LevelDB (npm's classic-level) in a folder. Twin of `IdbStore`.
 *
 * Promises: a durable write is synced before it is answered, and all of it is there after a crash, or none; several reads
 * are of one snapshot; one process at a time has the folder, another is refused. A row whose bytes have rotted is not
 * there: blocks are known by their CIDs, every other row carries a checksum. After a write that failed the database is
 * opened again before the next one, for LevelDB's log may end in a half record that would hide what follows it.
 * A list of files that a power cut left torn is put together again from the files (`mended` says so).
 * Does not know: what the bytes mean; keys and compiled modules, which a node under Node.js keeps elsewhere.
 */
import { mkdir, open } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { crc32 } from "node:zlib";
import { ClassicLevel } from "classic-level";
import { NOTHING, OrderedStore, StoreError, TABLES, above, same, settle } from "./store.common.mjs";

/** @typedef {import("./store.common.mjs").Asked} Asked */
/** @typedef {import("./store.common.mjs").Part} Part */
/** @typedef {import("./store.common.mjs").Read} Read */
/** @typedef {import("./store.common.mjs").Write} Write */
/** @typedef {ClassicLevel<Uint8Array, Uint8Array>} Level */

/** A table's byte in front of every key: its place in `TABLES`, which only ever grows at its end. */
const TAG = new Map(TABLES.map((table, i) => [table, i + 1]));
const OWN = 0;
const VERSION = Uint8Array.of(1);
const HOW = { keyEncoding: "view", valueEncoding: "view", createIfMissing: true, compression: true, writeBufferSize: 16 * 1024 * 1024 };
const FULL = /No space left|File too large|Disk quota exceeded/;

/** @param {number} tag @param {Uint8Array} key */
function row(tag, key) {
  const whole = new Uint8Array(1 + key.length);
  whole[0] = tag;
  whole.set(key, 1);
  return whole;
}

/** @param {string} table */
function tagOf(table) {
  const tag = TAG.get(table);
  if (tag === undefined) throw new StoreError("internal", `There is no table ${table}.`);
  return tag;
}

/** A value as it lies on the disk. @param {Uint8Array} name tag and key @param {Uint8Array} value */
function seal(name, value) {
  if (name[0] === TAG.get("blocks")) return value;
  const whole = new Uint8Array(4 + value.length);
  new DataView(whole.buffer).setUint32(0, crc32(value, crc32(name)));
  whole.set(value, 4);
  return whole;
}

/** A value from the disk; null where there is none, or none that can be believed. @param {Uint8Array} name @param {Uint8Array | undefined} data */
function unseal(name, data) {
  if (data === undefined) return null;
  if (name[0] === TAG.get("blocks")) return data;
  if (data.length < 4) return null;
  const value = data.subarray(4);
  return new DataView(data.buffer, data.byteOffset).getUint32(0) === crc32(value, crc32(name)) ? value : null;
}

/** Why LevelDB did not do it, in our words. @param {any} error @param {string} folder */
function refusal(error, folder) {
  if (error instanceof StoreError) return error;
  const [code, text] = [error?.cause?.code ?? error?.code, `${error?.cause?.message ?? error?.message ?? error}`];
  if (code === "LEVEL_LOCKED") return new StoreError("in_use", `Another process uses the store in ${folder}; stop it first.`);
  if (FULL.test(text)) return new StoreError("disk_full", `There is no room for the store in ${folder}; free some disk space and try again.`);
  return new StoreError("internal", `The store in ${folder} failed (${code ?? "error"}: ${text}).`);
}

export class DiskStore extends OrderedStore {
  kept = true;
  epoch = 0;
  #broken = false;
  /** @type {Map<Part, Promise<void>>} writes under way */
  #writing = new Map();

  /** @param {string} folder @param {Level} level @param {import("node:fs/promises").FileHandle} handle of the folder @param {string} mended */
  constructor(folder, level, handle, mended) {
    super();
    this.folder = folder;
    this.level = level;
    this.handle = handle;
    /** What was wrong when it was opened, or nothing: whoever runs the node should be told. */
    this.mended = mended;
  }

  /** The store in a folder, made when there is none. @param {string} folder @param {{writeBufferSize?: number}} [how] LevelDB's */
  static async open(folder, how = {}) {
    const level = new ClassicLevel(folder, { ...HOW, ...how });
    let handle;
    try {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      handle = await open(folder, "r");
      const mended = await whole(level, folder);
      const store = new DiskStore(folder, level, handle, mended);
      const found = await store.keepOnce("version", VERSION);
      if (!same(found, VERSION)) throw new StoreError("newer", `The store in ${folder} was made by a newer version; use that one.`);
      await named(folder);
      return store;
    } catch (error) {
      await level.close().catch(() => {});
      await handle?.close();
      throw refusal(error, folder);
    }
  }

  /** How many rows a table has: it looks at every key. @param {string} table */
  async count(table) {
    let count = 0;
    const tag = tagOf(table);
    for await (const _ of this.level.keys({ gte: Uint8Array.of(tag), lt: Uint8Array.of(tag + 1) })) count += 1;
    return count;
  }

  /** What this node keeps of its own: bytes. @param {string} key */
  async own(key) {
    const name = row(OWN, new TextEncoder().encode(key));
    return unseal(name, await this.level.get(name)) ?? undefined;
  }

  /** Keep `value` under `key` unless something is there; the value that is there now. @param {string} key @param {Uint8Array} value */
  async keepOnce(key, value) {
    const there = await this.own(key);
    if (there !== undefined) return there;
    const name = row(OWN, new TextEncoder().encode(key));
    await this.#put([{ type: "put", key: name, value: seal(name, value) }], true);
    return value;
  }

  /** No shelf: modules are compiled again after a restart. @param {Uint8Array} _key @returns {Promise<null>} */
  async module(_key) {
    return null;
  }

  async shelve() {}

  /** Closes when what was begun has ended. */
  async close() {
    await Promise.all(this.#writing.values());
    await this.level.close();
    await this.handle.close();
  }

  // -- inside ------------------------------------------------------------------------------------------

  /** Reads wait for writes to what they read, writes for all writes before them. @param {Part} part */
  begin(part) {
    const all = part.writes || this.#broken;
    const before = [...this.#writing].filter(([one]) => all || [...part.tables].some((table) => one.tables.has(table)));
    const done = Promise.all(before.map(([, ended]) => ended)).then(() => (part.writes ? this.#write(part) : this.#read(part)));
    if (part.writes) this.#writing.set(part, done.finally(() => this.#writing.delete(part)));
  }

  /** @param {Part} part */
  async #read({ asked }) {
    let snapshot;
    try {
      snapshot = this.level.snapshot();
      for (const { reads, resolve } of asked) resolve(await this.#answers(reads, snapshot));
    } catch (error) {
      for (const { reject } of asked) reject(refusal(error, this.folder));
    } finally {
      await snapshot?.close();
    }
  }

  /** @param {Part} part */
  async #write({ asked, durable, ...part }) {
    /** @type {Asked[]} */
    let group = [];
    for (const one of [...asked, null]) {
      if (group.length > 0 && (one === null || one.seen.length > 0 || group[0].seen.length > 0)) {
        await settle({ ...part, asked: group, durable }, (some, sync) => this.#attempt(some, sync)); // what it wrote is seen by the next
        group = [];
      }
      if (one) group.push(one);
    }
  }

  /** One batch: several writes that saw nothing, or one that did. @param {Asked[]} asked @param {boolean} sync */
  async #attempt(asked, sync) {
    try {
      if (this.#broken) await this.#reopen();
      const { seen } = asked[0];
      const now = await this.#answers(seen.map(([read]) => read));
      const at = now.findIndex((rows, i) => !same(rows, seen[i][1]));
      if (at >= 0) return [at];
      const batch = asked.flatMap(({ writes }) => writes).map(([table, key, value]) => {
        const name = row(tagOf(table), key);
        return value === null ? { type: "del", key: name } : { type: "put", key: name, value: seal(name, value) };
      });
      await this.#put(batch, sync).catch((error) => {
        this.#broken = true;
        throw error;
      });
      return asked.map(() => null);
    } catch (error) {
      throw refusal(error, this.folder);
    }
  }

  /** LevelDB syncs the log, and not that its folder names it: a log just begun would be lost whole. @param {any[]} batch @param {boolean} sync */
  async #put(batch, sync) {
    await this.level.batch(batch, /** @type {any} */ ({ sync }));
    if (sync) await this.handle.sync();
  }

  async #reopen() {
    await this.level.close();
    await this.level.open();
    this.#broken = false;
  }

  /** @param {Read[]} reads @param {any} [snapshot] */
  #answers(reads, snapshot) {
    return Promise.all(reads.map((read) => this.#answer(read, snapshot)));
  }

  /** @param {Read} read @param {any} snapshot @returns {Promise<any[]>} */
  async #answer([kind, table, ...how], snapshot) {
    const tag = tagOf(table);
    if (kind === "load") {
      const names = /** @type {Uint8Array[]} */ (how[0]).map((key) => row(tag, key));
      const rows = await this.level.getMany(names, { snapshot });
      return rows.map((data, i) => unseal(names[i], data));
    }
    const [prefix, after, limit, keysOnly] = /** @type {[Uint8Array, Uint8Array, number, boolean?]} */ (/** @type {unknown} */ (how));
    const begin = row(tag, prefix);
    const range = { gte: begin, gt: row(tag, after), lt: /** @type {Uint8Array} */ (above(begin)), snapshot };
    const found = [];
    if (limit === 0) return found;
    for await (const [name, data] of this.#rows(range, keysOnly === true)) {
      const value = keysOnly ? NOTHING : unseal(name, data);
      if (value !== null) found.push([name.subarray(1), value]);
      if (found.length === limit) break;
    }
    return found;
  }

  /** @param {any} range @param {boolean} keysOnly */
  #rows({ gte, gt, ...rest }, keysOnly) {
    const past = Buffer.compare(gt, gte) >= 0;
    return this.level.iterator({ ...(past ? { gt } : { gte }), ...rest, values: !keysOnly });
  }
}

/**
 * Open a database; one whose list of files was cut off by a power cut is put together again from the files themselves.
 * All that was acknowledged is in them; a row removed long ago may be back. Returns what was wrong, or nothing.
 * @param {Level} level @param {string} folder
 */
async function whole(level, folder) {
  try {
    await level.open();
    return "";
  } catch (error) {
    const { code, message } = /** @type {any} */ (error).cause ?? {};
    if (code !== "LEVEL_CORRUPTION" && !/MANIFEST-\d+: No such file/.test(message)) throw error;
    await ClassicLevel.repair(folder);
    await level.open();
    return message;
  }
}

/** The folders above are on the disk, as far up as we may look: LevelDB syncs what is in its own. @param {string} folder */
async function named(folder) {
  for (let at = resolve(folder); dirname(at) !== at; at = dirname(at)) {
    const handle = await open(dirname(at), "r").catch(() => null);
    if (!handle) return;
    await handle.sync().finally(() => handle.close());
  }
}
