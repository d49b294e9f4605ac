// @ts-check
/** A tab's links without room: what waits is told when there is some, or never will be. Prints a list of what is wrong. */
import { FIRST, Channels, Piecewise } from "../worker/channels.mjs";
import { Wire } from "../worker/wire.mjs";

/** @type {string[]} */
const wrong = [];
/** @param {boolean} holds @param {string} what */
const check = (holds, what) => void (holds || wrong.push(what));
const KIB = 1024;

/** Whether a promise has ended by now. @param {Promise<any> | undefined} promise */
async function over(promise) {
  let ended = false;
  Promise.resolve(promise).then(() => (ended = true));
  await new Promise((done) => setImmediate(done));
  return ended;
}

class Channel {
  readyState = "open";
  bufferedAmount = 0;
  sent = 0;
  /** @type {() => void} */ onbufferedamountlow = () => {};
  /** @param {Uint8Array} piece */
  send(piece) {
    this.sent += piece.length;
    this.bufferedAmount += piece.length;
  }
  drained() {
    this.bufferedAmount = 0;
    this.onbufferedamountlow();
  }
  close() {}
}

const told = { onopen() {}, onframe() {}, onclose() {} };
const channel = new Channel();
const link = new Piecewise(/** @type {any} */ (channel), 2 ** 21, told);
link.send(new Uint8Array(256 * KIB));
check(await over(link.room()), "a channel that takes what it is given has room");
link.send(new Uint8Array(256 * KIB));
link.send(new Uint8Array(256 * KIB));
const room = link.room();
check(!(await over(room)), "what waits here is no room");
check(channel.bufferedAmount < 512 * KIB, "the browser is handed little");
channel.drained();
channel.drained();
check(await over(room), "a channel that has taken it has room");
for (let number = 0; number < 4; number += 1) link.send(new Uint8Array(256 * KIB));
const never = link.room();
check(!(await over(never)), "it is full again");
link.end();
check(await over(never), "a channel that is gone keeps nobody waiting");
for (const [size, ends] of /** @type {[number, boolean][]} */ ([[1024, false], [1023, true]])) {
  let ended = false;
  const piecewise = new Piecewise(/** @type {any} */ (new Channel()), 2 ** 21, { ...told, onclose: () => (ended = true) });
  const piece = new Uint8Array(1 + size);
  piece[0] = 1;
  piecewise.channel.onmessage?.(/** @type {any} */ ({ data: piece.buffer }));
  check(ended === ends, `a piece of ${size} bytes that is not the last ${ends ? "breaks the rules" : "is taken"}`);
}
check(await over(new Channels(() => {}, 2 ** 21, { ...told, ondown() {} }).room(FIRST + 1)), "nor does one that never was");

class Socket {
  static OPEN = 1;
  static last = /** @type {any} */ (null);
  readyState = Socket.OPEN;
  bufferedAmount = 0;
  constructor() {
    Socket.last = this;
  }
  /** @param {Uint8Array} frame */
  send(frame) {
    this.bufferedAmount += frame.length;
  }
  close() {}
}

globalThis.WebSocket = /** @type {any} */ (Socket);
const wire = new Wire("ws://node.example/grid", 2 ** 21, { onopen() {}, onframe() {}, ondown() {}, onstate() {} });
wire.start();
Socket.last.onopen();
const [number] = wire.open;
check(await over(wire.room(number)), "a socket that is empty has room");
wire.send(number, new Uint8Array(512 * KIB));
const later = wire.room(number);
check(!(await over(later)), "a socket that is full has none");
Socket.last.bufferedAmount = 0;
await later;
check(await over(wire.room(99)), "a link that is gone keeps nobody waiting");
wire.stop();
process.stdout.write(JSON.stringify(wrong));
process.exit();
