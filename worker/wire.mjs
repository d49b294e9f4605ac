// @ts-check
/**
 * The tab's WebSocket to a node: opened, watched and opened again, for as long as the tab lives.
 *
 * Promises: frames arrive whole and in order; each connection is a new link number; a link is reported down once;
 * a frame above the bound, or a text frame, closes its link; so does a peer that does not take what is sent to it.
 * Does not know: what frames mean or who the peer is. The kernel proves that, anew on every link.
 */

/** Wait before the n-th attempt after a loss: doubling, with up to half again by chance, so a crowd comes back spread out. */
const RETRY_MS = [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000];
/** A connection that lasted this long starts the waits again from the first. */
const STEADY_MS = 10_000;
/** What may wait in the browser for a slow peer; four frames of the largest kind and more. */
const BUFFERED_BYTES = 32 * 1024 * 1024;
/** And what of it may be blocks that are not urgent: what is urgent stands behind them. */
const ROOM_BYTES = 256 * 1024;
/** How often a socket that has no room is looked at again: it does not say when it has. */
const LOOK_MS = 4;
const OPEN_MS = 15_000;
/** How long the peer may take to confirm a close; over a dead network a browser itself waits for ten seconds and more. */
const CLOSE_MS = 1_000;
/** An attempt that began before the network changed may wait for what will not come; a younger one is left alone. */
const YOUNG_MS = 1_000;

/**
 * @typedef {object} Told
 * @property {(link: number) => void} onopen
 * @property {(link: number, frame: Uint8Array) => void} onframe
 * @property {(link: number) => void} ondown
 * @property {(state: "online" | "offline", text: string) => void} onstate
 */

/** The channel name both sides sign: host, port unless it is the scheme's own, and path. @param {string} url */
export function channelOf(url) {
  const { host, pathname } = new URL(url); // URL lowers the host and drops the default port
  return host + pathname;
}

export class Wire {
  /** @type {Map<number, WebSocket>} */
  #links = new Map();
  #next = 1;
  #attempt = 0;
  /** One that is not open yet, and since when. @type {{socket: WebSocket, at: number} | null} */
  #opening = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;
  #stopped = false;

  /** @param {string} url @param {number} frameBytes @param {Told} told */
  constructor(url, frameBytes, told) {
    this.url = url;
    this.frameBytes = frameBytes;
    this.told = told;
  }

  /** Connect, now and after every loss. */
  start() {
    if (!this.#stopped) this.#open();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#retry);
    for (const socket of this.#links.values()) socket.close(1000);
  }

  /** The network may be back: do not wait out the pause, nor for an attempt of before. */
  awake() {
    if (this.#stopped || (this.#retry === undefined && !this.#opening)) return; // connected
    this.#attempt = 0;
    if (!this.#opening) this.#open();
    else if (Date.now() - this.#opening.at > YOUNG_MS) this.#opening.socket.close();
  }

  get open() {
    return [...this.#links.keys()];
  }

  /** A link that is gone swallows the frame. @param {number} link @param {Uint8Array} frame */
  send(link, frame) {
    const socket = this.#links.get(link);
    if (socket?.readyState !== WebSocket.OPEN) return;
    if (socket.bufferedAmount + frame.length > BUFFERED_BYTES) socket.close(4000, "does not take what is sent");
    else socket.send(frame);
  }

  /** Wait until little waits to be sent; at once on a link that is gone. @param {number} link */
  async room(link) {
    const crowded = () => {
      const socket = this.#links.get(link);
      return socket?.readyState === WebSocket.OPEN && socket.bufferedAmount > ROOM_BYTES;
    };
    while (crowded()) await new Promise((done) => setTimeout(done, LOOK_MS));
  }

  /** After what was sent. @param {number} link @param {string} code @param {string} text */
  close(link, code, text) {
    const socket = this.#links.get(link);
    const reason = `${code}: ${text}`.replace(/[^\x20-\x7e]/g, "?").slice(0, 120); // 123 bytes are allowed, a peer's may not be ASCII
    socket?.close(4000, reason);
    setTimeout(() => this.#links.get(link) === socket && socket?.onclose?.(/** @type {any} */ ({ reason: "" })), CLOSE_MS);
  }

  #open() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const link = this.#next++;
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    const late = setTimeout(() => socket.close(), OPEN_MS);
    this.#opening = { socket, at: Date.now() };
    let since = 0;
    socket.onopen = () => {
      clearTimeout(late);
      this.#opening = null;
      since = Date.now();
      this.#links.set(link, socket);
      this.told.onstate("online", `Connected to ${new URL(this.url).host}.`);
      this.told.onopen(link);
    };
    socket.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer && data.byteLength <= this.frameBytes) this.told.onframe(link, new Uint8Array(data));
      else socket.close(4000, "too_large");
    };
    socket.onclose = ({ reason }) => {
      clearTimeout(late);
      socket.onclose = socket.onmessage = null; // once
      if (this.#opening?.socket === socket) this.#opening = null;
      if (this.#links.delete(link)) this.told.ondown(link);
      if (since > 0 && Date.now() - since > STEADY_MS) this.#attempt = 0;
      this.#again(reason);
    };
  }

  /** @param {string} reason */
  #again(reason) {
    if (this.#stopped) return;
    const step = RETRY_MS[Math.min(this.#attempt++, RETRY_MS.length - 1)];
    const wait = Math.round(step * (1 + Math.random() / 2));
    const why = reason ? ` (${reason})` : "";
    this.told.onstate("offline", `Offline: no node reachable at ${new URL(this.url).host}${why}; trying again in ${(wait / 1000).toFixed(1)} s.`);
    this.#retry = setTimeout(() => this.#open(), wait);
  }
}
