// The tab's store through the kernel's port, and bare: what bench/tab_store.py times.
import { FILES, court } from "./laws.mjs";

const noise = (size) => {
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(data.subarray(at, Math.min(at + 65536, size)));
  return data;
};

/** The CID of raw content, as bytes. */
async function name(data) {
  const cid = new Uint8Array(36);
  cid.set([0x01, 0x55, 0x12, 0x20]);
  cid.set(new Uint8Array(await crypto.subtle.digest("SHA-256", data)), 4);
  return cid;
}

const bare = {
  open: () => new Promise((resolve, reject) => {
    const request = indexedDB.open("bare", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("blocks");
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  }),
  async put(database, blocks) {
    const keys = await Promise.all(blocks.map(name));
    const transaction = database.transaction("blocks", "readwrite", { durability: "strict" });
    const table = transaction.objectStore("blocks");
    blocks.forEach((block, i) => table.put(block, keys[i]));
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    return keys;
  },
  async get(database, keys) {
    const table = database.transaction("blocks").objectStore("blocks");
    const rows = await Promise.all(keys.map((key) => new Promise((resolve, reject) => {
      const request = table.get(key);
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    })));
    const names = await Promise.all(rows.map(name));
    if (names.some((one, i) => indexedDB.cmp(one, keys[i]) !== 0)) throw new Error("a wrong block");
    return rows;
  },
};

globalThis.onmessage = async ({ data: { id, args: [base, work, rounds, size, count] } }) => {
  try {
    const part = (file) => import(new URL(file, base).href);
    const [{ boot }, { Shell }, { IdbStore }] = await Promise.all(["boot.mjs", "shell.mjs", "store.mjs"].map(part));
    const bytes = async (path) => (path ? new Uint8Array(await (await fetch(`/project/${path}`)).arrayBuffer()) : new Uint8Array());
    const files = Object.fromEntries(await Promise.all(Object.entries(FILES).map(async ([file, path]) => [file, await bytes(path)])));
    files["work.py"] = new TextEncoder().encode(work);
    const { pyodide } = await boot({ modules: ["promisegrid_worker.entry"] });
    const store = await IdbStore.open({ onwait() {}, onlost() {} });
    const keys = { digest: async (data) => new Uint8Array(await crypto.subtle.digest("SHA-256", data)) };
    const host = { store, keys, wire: null, runtime: { close() {}, cancel() {} }, onevent() {}, onfailed: console.error };
    const ours = new Shell(court(pyodide, files, "{'put': __import__('work').put, 'get': __import__('work').get}"), host);
    const database = await bare.open();
    const times = { put: [], barePut: [], get: [], bareGet: [] };
    const timed = async (list, work) => {
      const began = performance.now();
      const value = await work();
      list.push(performance.now() - began);
      return value;
    };
    for (let round = -1; round < rounds; round += 1) {
      const blocks = Array.from({ length: count }, () => noise(size));
      const keys = await timed(times.put, () => ours.ask("put", blocks));
      await timed(times.barePut, () => bare.put(database, blocks));
      await timed(times.get, () => ours.ask("get", keys));
      await timed(times.bareGet, () => bare.get(database, keys));
    }
    for (const list of Object.values(times)) list.shift(); // the first round warms up
    globalThis.postMessage({ id, value: times });
  } catch (error) {
    globalThis.postMessage({ id, error: { code: error.code ?? error.name, message: `${error.stack ?? error}` } });
  }
};
