// The tab's ports by themselves, driven by e2e/test_worker_ports.py: store, keys and handler pool without Python.
import { Keys } from "/worker/keys.mjs";
import { Pool } from "/worker/pool.mjs";
import { Runtime } from "/worker/runtime.mjs";
import { IdbStore } from "/worker/store.mjs";
import { MemoryStore } from "/worker/store.memory.mjs";
import { MODULES, compile } from "/worker/wasi.mjs";

/** Every transaction of this worker, as it was asked for. */
const transactions = [];
const begin = IDBDatabase.prototype.transaction;
IDBDatabase.prototype.transaction = function (tables, mode, options) {
  const made = begin.call(this, tables, mode, options);
  transactions.push({ mode: made.mode, durability: made.durability, tables: [...made.objectStoreNames] });
  return made;
};

const waited = [];
const lost = [];
let store;
let keys;
let runtime;
let ticket = 0;
const bytes = (text) => new TextEncoder().encode(text);
const u8 = (array) => (array === null ? null : new Uint8Array(array));
/** Bytes no browser makes smaller. */
const noise = (size) => {
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536));
  return data;
};
const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (v instanceof Uint8Array ? [...v] : typeof v === "bigint" ? Number(v) : v)));

const COMMANDS = {
  async open(kind = "idb") {
    store = kind === "idb" ? await IdbStore.open({ onwait: (text) => waited.push(text), onlost: (text) => lost.push(text) }) : new MemoryStore();
    return store.epoch;
  },
  write: (writes, durable) => store.write(writes.map(([table, key, value]) => [table, u8(key), u8(value)]), durable),
  load: (table, ...all) => store.load(table, all.map(u8)),
  scan: (table, prefix, after, limit) => store.scan(table, u8(prefix), u8(after), limit),
  /** The same two, and of the values only how long they are: numbers travel faster. */
  lengths: async (table, ...all) => (await store.load(table, all.map(u8))).map((value) => value && value.length),
  scanned: async (table, limit) => (await store.scan(table, u8([]), u8([]), limit)).map(([, value]) => value.length),
  /** Several asked in one task: [method, …arguments] with sizes for values; each one's answer, or its refusal's code. */
  together: (asked) =>
    Promise.all(asked.map(([method, ...how]) => {
      const writes = how[0].map(([table, key, size]) => [table, u8(key), noise(size)]);
      return store[method](writes, ...how.slice(1)).catch((error) => error.code);
    })),
  /** The transactions since it was asked last. */
  transactions: () => transactions.splice(0),
  waited: async () => waited,
  lost: async () => lost,
  /** `count` values of `size` bytes in one transaction; the milliseconds it took. */
  async fill(table, count, size, durable) {
    const writes = Array.from({ length: count }, (_, i) => [table, bytes(`fill ${String(i).padStart(8, "0")}`), noise(size)]);
    const started = performance.now();
    await store.write(writes, durable);
    return performance.now() - started;
  },
  async identity() {
    keys = await Keys.open(store);
    const signature = await keys.sign(bytes("hello"));
    const private_ = keys.pair.privateKey;
    return { publicKey: [...keys.publicKey], signature: [...signature], extractable: private_.extractable };
  },
  verify: (alg, key, message, signature) => keys.verify(alg, u8(key), u8(message), u8(signature)),
  async pool(size, setup) {
    const modules = await compile(Object.fromEntries(MODULES.map((name) => [name, u8(setup[name])])));
    const spawn = () => new Worker("/worker/handler.worker.mjs", { type: "module" });
    runtime = new Runtime(new Pool(spawn, { op: "setup", wasi: modules }, size), store);
    runtime.pool.warm();
  },
  check: (data) => runtime.check(++ticket, u8(data)),
  keep: (code, data) => runtime.keep(++ticket, u8(code), u8(data), u8([1])),
  find: (code) => runtime.find(++ticket, u8(code)),
  async run(job) {
    const started = performance.now();
    const done = await runtime.run(++ticket, { ...job, code: u8(job.code), params: u8(job.params), wasi: u8(job.wasi) });
    return { ...done, ms: performance.now() - started };
  },
  async runAndCancel(job, afterMs) {
    const mine = ++ticket;
    setTimeout(() => runtime.cancel(mine), afterMs);
    return runtime.run(mine, { ...job, code: u8(job.code), params: u8(job.params), wasi: u8(job.wasi) });
  },
  running: () => runtime.pool.running,
};

globalThis.onmessage = async ({ data: { id, command, args } }) => {
  try {
    globalThis.postMessage({ id, value: plain((await COMMANDS[command](...args)) ?? null) });
  } catch (error) {
    globalThis.postMessage({ id, error: { code: error.code ?? error.name, message: `${error.message}` } });
  }
};
