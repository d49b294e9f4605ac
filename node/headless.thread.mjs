// @ts-check
/**
 * Node.js's threads as the workers a browser has, and what both have that Node.js has not: fetch of files, WebSocket.
 *
 * Imported by the node it makes `Thread`s; run as a thread it gives the file it was made for the globals of a worker.
 */
import { readFile } from "node:fs/promises";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

/** Let the bundle's files fetch one another from the disk. */
function fetchFiles() {
  const own = globalThis.fetch;
  globalThis.fetch = async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : String(input));
    if (url.protocol !== "file:") return own(input, init);
    const type = url.pathname.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
    return new Response(await readFile(url), { headers: { "content-type": type } });
  };
}

/** Before anything of the bundle is imported. */
export async function readyForThreads() {
  fetchFiles();
  globalThis.WebSocket ??= /** @type {any} */ ((await import("../worker/socket.node.mjs")).WebSocket);
}

/** As much of a browser's Worker as the pool uses. */
export class Thread {
  /** @type {((event: {data: any}) => void) | null} */
  onmessage = null;
  /** @type {((event: {message: string}) => void) | null} */
  onerror = null;

  /** @param {URL} file */
  constructor(file) {
    this.worker = new Worker(new URL(import.meta.url), { workerData: file.href });
    this.worker.on("message", (data) => this.onmessage?.({ data }));
    this.worker.on("error", (error) => this.onerror?.({ message: error.message }));
  }

  /** @param {any} message @param {any[]} [transfer] */
  postMessage(message, transfer = []) {
    this.worker.postMessage(message, transfer);
  }

  terminate() {
    void this.worker.terminate();
  }
}

if (!isMainThread && parentPort && typeof workerData === "string") {
  const port = parentPort;
  fetchFiles();
  globalThis.postMessage = /** @type {any} */ ((/** @type {any} */ message, /** @type {any} */ { transfer = [] } = {}) => port.postMessage(message, transfer));
  globalThis.reportError = (error) => {
    throw error;
  };
  const waiting = /** @type {any[]} */ ([]);
  const early = (/** @type {any} */ data) => void waiting.push(data);
  port.on("message", early); // what is said before the file is there is kept for it
  await import(workerData);
  port.off("message", early);
  port.on("message", (data) => globalThis.onmessage?.(/** @type {any} */ ({ data })));
  for (const data of waiting) globalThis.onmessage?.(/** @type {any} */ ({ data }));
}
