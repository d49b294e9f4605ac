// The contract suite in a tab's worker: the bundle's Python, the tab's own store and shell. Driven by e2e/test_store_laws.py.
import { FILES, court, tried } from "./laws.mjs";

globalThis.onmessage = async ({ data: { id, args: [base] } }) => {
  try {
    const part = (name) => import(new URL(name, base).href);
    const [{ boot }, { Shell }, { IdbStore }, { MemoryStore }] = await Promise.all(["boot.mjs", "shell.mjs", "store.mjs", "store.memory.mjs"].map(part));
    const bytes = async (path) => (path ? new Uint8Array(await (await fetch(`/project/${path}`)).arrayBuffer()) : new Uint8Array());
    const files = Object.fromEntries(await Promise.all(Object.entries(FILES).map(async ([name, path]) => [name, await bytes(path)])));
    const { pyodide } = await boot({ modules: ["promisegrid_worker.entry"] });
    const fresh = () => new Promise((resolve, reject) => {
      const request = indexedDB.deleteDatabase("promisegrid");
      request.onsuccess = resolve;
      request.onerror = () => reject(request.error);
    });
    const kept = async () => {
      await fresh();
      return IdbStore.open({ onwait() {}, onlost() {} });
    };
    const turn = court(pyodide, files);
    const value = { IndexedDB: await tried(turn, Shell, kept), memory: await tried(turn, Shell, async () => new MemoryStore()) };
    globalThis.postMessage({ id, value });
  } catch (error) {
    globalThis.postMessage({ id, error: { code: error.code ?? error.name, message: `${error.stack ?? error}` } });
  }
};
