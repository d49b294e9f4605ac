// @ts-check
/**
 * Connections to other tabs: the page's half of worker/channels.mjs. A worker has no RTCPeerConnection, the page has.
 *
 * Promises: nothing is made, so no address gathered, before the worker asks; each channel is handed over in the task
 * that made it, or its messages are passed on through a port; what is given up or fails is closed, here and there.
 * Does not know: who the peer is, nor what is said. Which STUN or TURN servers help is the owner's to say; by default none.
 */

/** @typedef {import("./channels.mjs").ToPage} ToPage */
/** @typedef {import("./channels.mjs").FromPage} FromPage */

/** Connections at once, with those being closed; the kernel asks for fewer (Limits.direct). */
const CONNECTIONS_MAX = 32;
/** Addresses of this machine are there in a tenth of a second; servers that do not answer are not waited for. */
const GATHER_MS = 3_000;
/** How long a peer that stopped answering, which takes the browser some seconds to see, may take to be back. */
const SILENT_MS = 3_000;
/** How long a connection lives on after its channel was closed, for the last words on it. */
const LINGER_MS = 1_000;
/** What the browser may buffer of a channel whose messages pass through here. */
const HIGH_BYTES = 1024 * 1024;

export class Direct {
  /** @type {Map<number, RTCPeerConnection>} */
  #made = new Map();

  /** @param {(message: FromPage, transfer: Transferable[]) => void} worker @param {() => RTCIceServer[]} servers */
  constructor(worker, servers) {
    this.worker = worker;
    this.servers = servers;
  }

  /** Whether this browser has any. */
  static get isAble() {
    return typeof RTCPeerConnection === "function";
  }

  /** @param {ToPage} message */
  heard(message) {
    const { number } = message;
    if (message.op === "describe") {
      this.#describe(number, message.offer).catch((error) => this.#down(number, `This browser made no channel: ${error.message}`));
    }
    if (message.op === "answer") {
      const answered = this.#made.get(number)?.setRemoteDescription({ type: "answer", sdp: message.answer });
      answered?.catch((error) => this.#down(number, `The peer's answer does not fit: ${error.message}`));
    }
    if (message.op === "close") this.#linger(number);
  }

  /** The worker is gone. */
  close() {
    for (const number of [...this.#made.keys()]) this.#close(number);
  }

  /** @param {number} number @param {string | null} offer */
  async #describe(number, offer) {
    if (this.#made.size >= CONNECTIONS_MAX) throw new Error("there are too many connections");
    const connection = new RTCPeerConnection({ iceServers: this.servers() });
    this.#made.set(number, connection);
    connection.onconnectionstatechange = () => this.#looked(number, connection);
    this.#hand(number, connection.createDataChannel("promisegrid", { negotiated: true, id: 0 }));
    if (offer !== null) await connection.setRemoteDescription({ type: "offer", sdp: offer });
    await connection.setLocalDescription();
    await gathered(connection);
    this.worker({ op: "described", number, sdp: /** @type {RTCSessionDescription} */ (connection.localDescription).sdp }, []);
  }

  /** Silence is an end after a while, sooner than the browser finds: what goes on can go another way. @param {number} number @param {RTCPeerConnection} connection */
  #looked(number, connection) {
    const over = () => this.#made.get(number) === connection && this.#down(number, "The connection broke.");
    const look = () => connection.connectionState === "disconnected" && over();
    if (connection.connectionState === "failed") over();
    if (connection.connectionState === "disconnected") setTimeout(look, SILENT_MS);
  }

  /** @param {number} number @param {RTCDataChannel} channel */
  #hand(number, channel) {
    try {
      this.worker({ op: "channel", number, channel }, [/** @type {any} */ (channel)]);
    } catch (error) {
      if (/** @type {DOMException} */ (error).name !== "DataCloneError") throw error;
      const port = ported(channel);
      this.worker({ op: "channel", number, channel: port }, [port]);
    }
  }

  /** @param {number} number @param {string} text */
  #down(number, text) {
    this.#close(number);
    this.worker({ op: "down", number, text }, []);
  }

  /** @param {number} number */
  #linger(number) {
    const connection = this.#made.get(number);
    this.#made.delete(number);
    setTimeout(() => connection?.close(), LINGER_MS);
  }

  /** @param {number} number */
  #close(number) {
    this.#made.get(number)?.close();
    this.#made.delete(number);
  }
}

/** Wait until all addresses are in the description. @param {RTCPeerConnection} connection @returns {Promise<void>} */
function gathered(connection) {
  return new Promise((resolve) => {
    const look = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", look);
    setTimeout(resolve, GATHER_MS);
    look();
  });
}

/** The other end of a port over which a channel's messages pass, for browsers that cannot hand a channel over. @param {RTCDataChannel} channel */
function ported(channel) {
  const { port1, port2 } = new MessageChannel();
  /** @type {ArrayBuffer[]} The worker bounds it: it counts them as buffered. */
  const waiting = [];
  const pump = () => {
    let took = 0;
    while (waiting.length && channel.readyState === "open" && channel.bufferedAmount < HIGH_BYTES) {
      const piece = /** @type {ArrayBuffer} */ (waiting.shift());
      channel.send(piece);
      took += piece.byteLength;
    }
    if (took) port1.postMessage({ took });
  };
  channel.binaryType = "arraybuffer";
  channel.bufferedAmountLowThreshold = HIGH_BYTES / 4;
  channel.onbufferedamountlow = pump;
  channel.onopen = () => port1.postMessage({ open: true });
  channel.onclose = () => port1.postMessage({ closed: true });
  channel.onmessage = ({ data }) => (data instanceof ArrayBuffer ? port1.postMessage(data, [data]) : channel.close());
  port1.onmessage = ({ data }) => {
    if (!(data instanceof ArrayBuffer)) return channel.close();
    waiting.push(data);
    pump();
  };
  return port2;
}
