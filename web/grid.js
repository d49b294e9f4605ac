// @ts-check
/**
 * What an app imports: `import { grid } from "./grid.js"`. The node serves this file inside every app's folder.
 *
 *     await grid.ready                                        // {app, granted}; rejects when the page gives no access
 *     await grid.run({handler, func, args, files, stdin, timeout}, onprogress)
 *     await grid.put(bytes | Blob | text)   await grid.get(cid)   await grid.peers()
 *
 * Only what app.json asks for and the node's owner granted is answered; the rest is refused with an Error that has a
 * `code` and a sentence. The access belongs to this document: another page in the same frame has none.
 */

/** A page that knows this protocol answers at once. */
const GREET_MS = 10_000;

/** @typedef {{app: string, granted: string[]}} Access */

/** Proves over the port that the document that asked is the one that got it. */
const nonce = crypto.getRandomValues(new Uint32Array(4)).join("-");
/** @type {MessagePort | null} */
let port = null;
let next = 1;
/** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void, onprogress?: (detail: any) => void}>} */
const open = new Map();

/** @param {{code: string, message: string}} error */
const refusal = ({ code, message }) => Object.assign(new Error(message), { code });

/** @type {Promise<Access>} */
const ready = new Promise((resolve, reject) => {
  const late = () => reject(refusal({ code: "no_access", message: "The page around this app gave it no access to the grid; open the app by its address in a tab that joined." }));
  const timer = setTimeout(late, GREET_MS);
  addEventListener("message", function take({ data, ports, source }) {
    if (source !== parent || data?.type !== "promisegrid" || data.nonce !== nonce || !ports[0]) return;
    removeEventListener("message", take);
    clearTimeout(timer);
    port = ports[0];
    port.onmessage = hear;
    port.postMessage({ nonce });
    resolve({ app: data.app, granted: data.granted });
  });
  if (parent !== window) parent.postMessage({ type: "promisegrid", nonce }, "*");
});
ready.catch(() => {});

/** @param {MessageEvent} event */
function hear({ data: { id, value, error, progress } }) {
  const call = open.get(id);
  if (!call) return;
  if (progress) return call.onprogress?.(progress);
  open.delete(id);
  if (error) call.reject(refusal(error));
  else call.resolve(value);
}

/** @param {string} verb @param {any} args @param {(detail: any) => void} [onprogress] @returns {Promise<any>} */
async function call(verb, args, onprogress) {
  await ready;
  return new Promise((resolve, reject) => {
    const id = next++;
    open.set(id, { resolve, reject, onprogress });
    port?.postMessage({ id, verb, args });
  });
}

export const grid = Object.freeze({
  ready,
  /** Run a handler named in app.json: {handler, func, args, files: {name: content}, stdin, timeout}. @param {any} task @param {(detail: any) => void} [onprogress] */
  run: (task, onprogress) => call("run", task, onprogress),
  /** Store bytes; their CID. @param {Uint8Array | Blob | string} content */
  put: (content) => call("put", { content }),
  /** Bytes by CID. @param {string} cid @returns {Promise<Uint8Array>} */
  get: (cid) => call("get", { cid }),
  /** Who is connected. */
  peers: () => call("peers", {}),
});
