// @ts-check
/**
 * Direct channels to other tabs, as links: frames go in pieces over an RTCDataChannel that the page made and handed over.
 *
 * The page owns the connection (a worker has none): `describe` and `establish` ask it by messages, and it answers with
 * descriptions and with the channel itself, before the channel opens, so that nothing said on it is missed.
 *
 * Promises: frames arrive whole and in order; a link is reported down once; what waits for a slow peer is bounded, in
 * the browser's buffer and here; a piece that breaks the rules (docs/protocols/signal.md) closes its link.
 * Does not know: what frames mean, who the peer is, how the channel came about.
 */
import { joined } from "./bytes.mjs";

/** Numbers of these links: far from those of the WebSocket. Twin: promisegrid_worker/wire.py. */
export const FIRST = 2 ** 30;
/** One message: what every browser takes, one byte of it ours. */
const PIECE_BYTES = 65_536;
/** One that is not a frame's last: each costs more than its bytes while the frame is not whole. */
const PIECE_MIN_BYTES = 1024;
/** The browser's own buffer is kept between these: it breaks the channel at 16 MiB, and a call should not wait behind much. */
const HIGH_BYTES = 384 * 1024;
const LOW_BYTES = 128 * 1024;
/** What may wait here, besides, before no more blocks are taken. */
const ROOM_BYTES = 64 * 1024;
/** What may wait here for a slow peer, as for a WebSocket. */
const WAITING_BYTES = 32 * 1024 * 1024;
/** How long the page may take to describe a channel; it gathers addresses for a shorter time. */
const DESCRIBE_MS = 15_000;

/**
 * @typedef {object} Told
 * @property {(link: number) => void} onopen
 * @property {(link: number, frame: Uint8Array) => void} onframe
 * @property {(link: number) => void} ondown
 */
/**
 * What the page and this say to each other about the channel of a number.
 * @typedef {{op: "describe", number: number, offer: string | null} | {op: "answer", number: number, answer: string} | {op: "close", number: number}} ToPage
 * @typedef {{op: "described", number: number, sdp: string} | {op: "channel", number: number, channel: RTCDataChannel | MessagePort} | {op: "down", number: number, text: string}} FromPage
 */

export class Channels {
  /** @type {Map<number, Piecewise>} */
  #links = new Map();
  /** @type {Map<number, {resolve: (sdp: string) => void, reject: (error: Error) => void}>} */
  #describing = new Map();

  /** @param {(message: ToPage) => void} page @param {number} frameBytes @param {Told} told */
  constructor(page, frameBytes, told) {
    this.page = page;
    this.frameBytes = frameBytes;
    this.told = told;
  }

  /** This side's description of a new channel; with `offer`, the answer to it. @param {number} number @param {string | null} offer @returns {Promise<string>} */
  describe(number, offer) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => this.heard({ op: "down", number, text: "The page did not describe a channel in time." }), DESCRIBE_MS);
      const done = (/** @type {(value: any) => void} */ how) => (/** @type {any} */ value) => {
        clearTimeout(late);
        this.#describing.delete(number);
        how(value);
      };
      this.#describing.set(number, { resolve: done(resolve), reject: done(reject) });
      this.page({ op: "describe", number, offer });
    });
  }

  /** @param {number} number @param {string | null} answer the peer's, if ours was the offer */
  establish(number, answer) {
    if (answer !== null) this.page({ op: "answer", number, answer });
  }

  /** Let go of a channel, open or not. @param {number} number */
  abandon(number) {
    this.heard({ op: "down", number, text: "The channel was given up." });
  }

  /** @param {FromPage} message */
  heard(message) {
    const { number } = message;
    if (message.op === "described") this.#describing.get(number)?.resolve(message.sdp);
    if (message.op === "channel") this.#take(number, message.channel);
    if (message.op === "down") {
      this.#describing.get(number)?.reject(Object.assign(new Error(message.text), { code: "closed" }));
      this.#links.get(number)?.end();
      this.page({ op: "close", number });
    }
  }

  /** @param {number} link @param {Uint8Array} frame */
  send(link, frame) {
    this.#links.get(link - FIRST)?.send(frame);
  }

  /** Wait until little waits to be sent; at once on a link that is gone. @param {number} link */
  async room(link) {
    await this.#links.get(link - FIRST)?.room();
  }

  /** After what was sent. @param {number} link */
  close(link) {
    this.#links.get(link - FIRST)?.close();
  }

  stop() {
    for (const link of this.#links.values()) link.end();
  }

  get open() {
    return [...this.#links].filter(([, link]) => link.opened).map(([number]) => FIRST + number);
  }

  /** @param {number} number @param {RTCDataChannel | MessagePort} given */
  #take(number, given) {
    const channel = "readyState" in given ? given : new Ported(given);
    const link = new Piecewise(channel, this.frameBytes, {
      onopen: () => this.told.onopen(FIRST + number),
      onframe: (frame) => this.told.onframe(FIRST + number, frame),
      onclose: (opened) => {
        this.#links.delete(number);
        if (opened) this.told.ondown(FIRST + number);
        this.page({ op: "close", number });
      },
    });
    this.#links.set(number, link);
  }
}

/** Frames over one channel. */
export class Piecewise {
  /** Frames that wait, the first of them from byte `#at` on. @type {Uint8Array[]} */
  #waiting = [];
  #at = 0;
  #waits = 0;
  /** Who waits for room. @type {(() => void)[]} */
  #crowded = [];
  /** @type {Uint8Array[]} */
  #parts = [];
  #size = 0;
  #closing = false;
  #ended = false;
  opened = false;

  /** @param {RTCDataChannel | Ported} channel @param {number} frameBytes
   * @param {{onopen: () => void, onframe: (frame: Uint8Array) => void, onclose: (opened: boolean) => void}} told */
  constructor(channel, frameBytes, told) {
    this.channel = channel;
    this.frameBytes = frameBytes;
    this.told = told;
    channel.binaryType = "arraybuffer";
    channel.bufferedAmountLowThreshold = LOW_BYTES;
    channel.onopen = () => this.#open();
    channel.onbufferedamountlow = () => this.#pump();
    channel.onmessage = (/** @type {{data: any}} */ { data }) => this.#took(data);
    channel.onclose = () => this.end();
    if (channel.readyState === "open") this.#open();
    if (channel.readyState === "closed") queueMicrotask(() => this.end());
  }

  /** @param {Uint8Array} frame */
  send(frame) {
    if (this.#ended || this.#closing) return;
    this.#waiting.push(frame);
    this.#waits += frame.length;
    if (this.#waits > WAITING_BYTES) this.end();
    else this.#pump();
  }

  /** Wait until little waits here, or nothing ever will. @returns {Promise<void> | undefined} */
  room() {
    if (this.#waits > ROOM_BYTES && !this.#ended) return new Promise((done) => this.#crowded.push(done));
  }

  /** When what was sent is on its way. */
  close() {
    this.#closing = true;
    this.#pump();
  }

  /** At once. */
  end() {
    if (this.#ended) return;
    this.#ended = true;
    this.#waiting = this.#parts = [];
    for (const done of this.#crowded.splice(0)) done();
    this.channel.close();
    this.told.onclose(this.opened);
  }

  #open() {
    if (this.opened || this.#ended) return;
    this.opened = true;
    this.told.onopen();
    this.#pump();
  }

  #pump() {
    const { channel } = this;
    while (this.#waiting.length && !this.#ended && channel.readyState === "open" && channel.bufferedAmount < HIGH_BYTES) {
      const frame = this.#waiting[0];
      const part = frame.subarray(this.#at, this.#at + PIECE_BYTES - 1);
      this.#at += part.length;
      const more = this.#at < frame.length;
      const piece = new Uint8Array(1 + part.length);
      piece[0] = more ? 1 : 0;
      piece.set(part, 1);
      channel.send(piece);
      if (more) continue;
      this.#waiting.shift();
      this.#waits -= frame.length;
      this.#at = 0;
    }
    if (this.#waits <= ROOM_BYTES) for (const done of this.#crowded.splice(0)) done();
    if (this.#closing && !this.#waiting.length) this.end();
  }

  /** @param {unknown} data */
  #took(data) {
    if (this.#ended) return;
    this.#open(); // a channel may speak before it says that it is open
    const piece = data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array();
    const whole = piece[0] === 0;
    this.#size += piece.length - 1;
    const sound = whole || (piece[0] === 1 && piece.length > PIECE_MIN_BYTES);
    if (!sound || piece.length > PIECE_BYTES || this.#size > this.frameBytes) return this.end();
    this.#parts.push(piece.subarray(1));
    if (!whole) return;
    const frame = this.#parts.length === 1 ? this.#parts[0] : joined(this.#parts, this.#size);
    [this.#parts, this.#size] = [[], 0];
    this.told.onframe(frame);
  }
}

/**
 * A channel that its page could not hand over: each message passes through the page (web/direct.mjs), by a port. What is
 * under way there counts as buffered until the page says that the channel took it.
 */
export class Ported {
  /** @type {"connecting" | "open" | "closed"} */
  readyState = "connecting";
  binaryType = "arraybuffer";
  bufferedAmount = 0;
  bufferedAmountLowThreshold = 0;
  /** @type {(() => void) | null} */ onopen = null;
  /** @type {(() => void) | null} */ onclose = null;
  /** @type {(() => void) | null} */ onbufferedamountlow = null;
  /** @type {((event: {data: any}) => void) | null} */ onmessage = null;

  /** @param {MessagePort} port */
  constructor(port) {
    this.port = port;
    port.onmessage = ({ data }) => {
      if (data instanceof ArrayBuffer) this.onmessage?.({ data });
      else if (data.open) this.#is("open", this.onopen);
      else if (data.closed) this.#is("closed", this.onclose);
      else if (data.took) this.#took(data.took);
    };
  }

  /** @param {Uint8Array} piece */
  send(piece) {
    this.bufferedAmount += piece.length;
    this.port.postMessage(piece.buffer, [/** @type {ArrayBuffer} */ (piece.buffer)]);
  }

  close() {
    this.readyState = "closed";
    this.port.postMessage({ close: true });
  }

  /** @param {"open" | "closed"} state @param {(() => void) | null} told */
  #is(state, told) {
    this.readyState = state;
    told?.();
  }

  /** @param {number} size */
  #took(size) {
    const before = this.bufferedAmount;
    this.bufferedAmount -= size;
    if (before > this.bufferedAmountLowThreshold && this.bufferedAmount <= this.bufferedAmountLowThreshold) this.onbufferedamountlow?.();
  }
}
