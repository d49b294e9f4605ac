// @ts-check
/**
 * The door between an app's frame and this node: one port for one document, and every call checked.
 *
 * The frame's document asks with a nonce; the page answers the frame it made, and no other window, with one port, which
 * opens when the nonce comes back over it. So a document that was swapped in meanwhile has a port that stays shut.
 * A second asking, or a second load, closes the door for good: a frame that went elsewhere has no access.
 *
 * Promises: only verbs the owner granted, only handlers named in app.json, bounded in number, rate and size.
 * Does not know: how grants are asked for, or what an app looks like.
 */
import { NodeError } from "./rpc.mjs";

const CALLS_MAX = 8;
/** Calls a second, and how many may come at once after a pause. */
const RATE = 20;
const BURST = 60;
const BYTES_MAX = 64 * 1024 * 1024;
const TIMEOUT_MAX_S = 120;

/** @typedef {{name: string, handlers: Record<string, string>, asks: string[]}} Granted */

export class Door {
  /** @type {MessagePort | null} */
  #port = null;
  #asked = false;
  #shut = false;
  #open = 0;
  #tokens = BURST;
  #at = performance.now();

  /**
   * @param {HTMLIFrameElement} frame @param {string} cid @param {Granted} about
   * @param {import("./api.mjs").PromiseGrid} grid @param {(text: string) => void} onlost
   */
  constructor(frame, cid, about, grid, onlost) {
    this.frame = frame;
    this.cid = cid;
    this.about = about;
    this.grid = grid;
    this.onlost = onlost;
    let loads = 0;
    frame.addEventListener("load", () => ++loads > 1 && this.#lose());
    addEventListener("message", this.#greet);
  }

  close() {
    this.#shut = true;
    removeEventListener("message", this.#greet);
    this.#port?.close();
    this.#port = null;
  }

  #lose() {
    if (this.#shut) return;
    this.close();
    this.onlost("The app left its own page and has lost its access. Open it again to go on.");
  }

  /** @param {MessageEvent} event */
  #greet = ({ source, origin, data }) => {
    if (!source || source !== this.frame.contentWindow || origin !== "null") return;
    if (data?.type !== "promisegrid" || typeof data.nonce !== "string" || data.nonce.length > 64) return;
    if (this.#asked) return this.#lose();
    this.#asked = true;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.onmessage = (event) => {
      if (event.data?.nonce !== data.nonce) return this.#lose();
      port1.onmessage = (call) => void this.#answer(port1, call.data);
    };
    const hello = { type: "promisegrid", nonce: data.nonce, app: this.cid, granted: this.about.asks };
    this.frame.contentWindow?.postMessage(hello, "*", [port2]);
  };

  /** @param {MessagePort} port @param {any} call */
  async #answer(port, call) {
    if (!call || typeof call.id !== "number") return;
    this.#open += 1;
    try {
      this.#admit();
      const progress = (/** @type {any} */ detail) => port.postMessage({ id: call.id, progress: detail });
      port.postMessage({ id: call.id, value: await this.#serve(call.verb, call.args ?? {}, progress) });
    } catch (error) {
      const { code = "internal", message = `${error}` } = /** @type {any} */ (error);
      port.postMessage({ id: call.id, error: { code, message } });
    } finally {
      this.#open -= 1;
    }
  }

  #admit() {
    const now = performance.now();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#at) / 1000) * RATE) - 1;
    this.#at = now;
    if (this.#tokens < 0) {
      this.#tokens = 0;
      throw new NodeError("busy", `An app may call ${RATE} times a second; wait a moment.`);
    }
    if (this.#open > CALLS_MAX) throw new NodeError("busy", `An app may have ${CALLS_MAX} calls at once; wait for one to end.`);
  }

  /** One call of the app, checked. @param {unknown} verb @param {any} args @param {(detail: any) => void} onprogress */
  async #serve(verb, args, onprogress) {
    if (typeof verb !== "string" || !this.about.asks.includes(verb)) {
      throw new NodeError("not_granted", `The app was not granted “${String(verb).slice(0, 20)}”; name it under asks in app.json.`);
    }
    if (weight(args) > BYTES_MAX) throw new NodeError("too_large", `An app may hand over ${BYTES_MAX} bytes at once.`);
    switch (verb) {
      case "run": return this.#run(args, onprogress);
      case "put": return this.grid.put(args.content);
      case "get": return this.grid.get(String(args.cid));
      case "peers": return this.grid.peers();
    }
    throw new NodeError("bad_args", `There is no verb “${verb.slice(0, 20)}”.`);
  }

  /** @param {any} task @param {(detail: any) => void} onprogress */
  #run({ handler, func, args, files, stdin, timeout }, onprogress) {
    const code = Object.hasOwn(this.about.handlers, handler) ? this.about.handlers[handler] : null;
    if (!code) throw new NodeError("no_such_handler", `The app has no handler “${String(handler).slice(0, 40)}” in its app.json.`);
    // A handler reads what it is given: content named by CID is for an app that may read content.
    if (typeof files === "string" && !this.about.asks.includes("get")) throw new NodeError("not_granted", "The app was not granted “get”, so it gives files by their bytes, not by a CID.");
    const input = typeof stdin === "string" && !this.about.asks.includes("get") ? new Blob([stdin]) : stdin;
    const seconds = Math.min(Number(timeout) || TIMEOUT_MAX_S, TIMEOUT_MAX_S);
    return this.grid.run({ code, func, args, files, stdin: input, timeout: seconds, onprogress });
  }
}

/** Bytes in a value, roughly. @param {any} value @returns {number} */
function weight(value) {
  if (value instanceof Blob) return value.size;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return value.byteLength;
  if (typeof value === "string") return value.length;
  if (value && typeof value === "object") return Object.values(value).reduce((sum, part) => sum + weight(part), 16);
  return 8;
}
