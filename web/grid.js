// @ts-check
/**
 * What an app imports: `import { grid } from "./grid.js"`. The node serves this file inside every app's folder.
 *
 *     await grid.ready                                        // {app, granted}
 *     await grid.run({handler, func, args, files, stdin, timeout}, onprogress)
 *     await grid.put(bytes | Blob)          await grid.get(cid)          await grid.peers()
 *
 * Only what app.json asks for and the node's owner granted is answered; the rest is refused with a sentence.
 */

/** @type {MessagePort | null} */
let port = null;
let next = 1;
/** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void, onprogress?: (detail: any) => void}>} */
const open = new Map();

/** @type {Promise<{app: string, granted: string[]}>} */
const ready = new Promise((resolve) => {
  addEventListener("message", function take({ data, ports, source }) {
    if (source !== parent || data?.type !== "promisegrid" || !ports[0]) return;
    removeEventListener("message", take);
    port = ports[0];
    port.onmessage = ({ data: { id, value, error, progress } }) => {
      const call = open.get(id);
      if (!call) return;
      if (progress) return call.onprogress?.(progress);
      open.delete(id);
      if (error) call.reject(Object.assign(new Error(error.message), { code: error.code }));
      else call.resolve(value);
    };
    resolve({ app: data.app, granted: data.granted });
  });
});

/** @param {string} verb @param {any} args @param {(detail: any) => void} [onprogress] @returns {Promise<any>} */
async function call(verb, args, onprogress) {
  await ready;
  return new Promise((resolve, reject) => {
    const id = next++;
    open.set(id, { resolve, reject, onprogress });
    port?.postMessage({ id, verb, args });
  });
}

export const grid = {
  ready,
  /** Run a handler named in app.json. @param {any} task @param {(detail: any) => void} [onprogress] */
  run: (task, onprogress) => call("run", task, onprogress),
  /** Store bytes; their CID. @param {Uint8Array | Blob} content */
  put: (content) => call("put", { content }),
  /** Bytes by CID. @param {string} cid */
  get: (cid) => call("get", { cid }),
  peers: () => call("peers", {}),
};
