// @ts-check
/**
 * The workers that strangers' programs run in: kept warm, watched from outside, and thrown away at the first trouble.
 *
 * Promises: at most `size` at once, the rest wait in order; a task past its time is terminated, whatever it is
 * doing; after a trap, a limit, a cancel or much memory its worker is replaced, so no task meets another's leavings.
 * Does not know: what a task is; see handler.worker.mjs.
 */

/** Calls one worker serves before it is replaced anyway: whatever an engine leaks, it leaks with a bound. */
const CALLS_MAX = 500;
const START_MS = 20_000;
/** A worker that could not be loaded is tried again after so long, then twice as long: the network may be away for a moment. */
const AGAIN_MS = 250;
const TRIES = 4;

/** A task that failed: `code` is one of the kernel's refusal codes. */
export class TaskError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * @typedef {{message: object, transfer: Transferable[], ms: number, late: () => TaskError, resolve: (value: any) => void, reject: (error: Error) => void, hand: Hand | null}} Task
 */

/** One worker and the task it has. */
class Hand {
  /** @type {Task | null} */
  task = null;
  calls = 0;
  ready = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  timer;

  /** @param {Worker} worker */
  constructor(worker) {
    this.worker = worker;
  }
}

export class Pool {
  /** @type {Set<Hand>} */
  #hands = new Set();
  /** @type {Task[]} */
  #waiting = [];
  /** Workers in a row that never came up. */
  #broken = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} while nobody is hired */
  #pause;
  #closed = false;

  /**
   * @param {() => Worker} spawn @param {object} setup the first message to each worker @param {number} size
   * @param {{startMs?: number, idleMs?: number, againMs?: number}} [patience] idleMs: a worker without a task for so long is let go;
   *   without it one is always kept warm
   */
  constructor(spawn, setup, size, { startMs = START_MS, idleMs = 0, againMs = AGAIN_MS } = {}) {
    this.spawn = spawn;
    this.setup = setup;
    this.size = size;
    this.startMs = startMs;
    this.idleMs = idleMs;
    this.againMs = againMs;
  }

  /** Have one worker ready before anybody asks. */
  warm() {
    if (this.#hands.size === 0 && !this.#closed && this.#pause === undefined) this.#hire();
  }

  get running() {
    return [...this.#hands].filter((hand) => hand.task).length;
  }

  /**
   * Give a task to a worker, the next that is free. `cancel` ends it wherever it is.
   * @param {object} message @param {{transfer?: Transferable[], ms: number, late: () => TaskError}} how ms: from when it starts
   * @returns {{done: Promise<any>, cancel: () => void}}
   */
  do(message, { transfer = [], ms, late }) {
    /** @type {Task} */
    const task = { message, transfer, ms, late, resolve: () => {}, reject: () => {}, hand: null };
    const done = new Promise((resolve, reject) => Object.assign(task, { resolve, reject }));
    if (this.#closed) task.reject(new TaskError("cancelled", "The node is stopping."));
    else this.#waiting.push(task);
    this.#assign();
    return { done, cancel: () => this.#cancel(task) };
  }

  /** End every worker; what they had is refused. */
  close() {
    this.#closed = true;
    clearTimeout(this.#pause);
    for (const task of this.#waiting.splice(0)) task.reject(new TaskError("cancelled", "The node is stopping."));
    for (const hand of this.#hands) this.#dismiss(hand, new TaskError("cancelled", "The node is stopping."));
  }

  #assign() {
    for (const hand of this.#hands) {
      if (hand.ready && !hand.task && this.#waiting.length > 0) this.#start(hand, /** @type {Task} */ (this.#waiting.shift()));
    }
    if (this.#pause !== undefined) return;
    const starting = [...this.#hands].filter((hand) => !hand.ready).length;
    for (let n = starting; n < this.#waiting.length && this.#hands.size < this.size; n += 1) this.#hire();
  }

  #hire() {
    const hand = new Hand(this.spawn());
    this.#hands.add(hand);
    hand.timer = setTimeout(() => this.#failed(hand, "it did not start in time"), this.startMs);
    hand.worker.onmessage = ({ data }) => this.#heard(hand, data);
    hand.worker.onerror = (event) => {
      event.preventDefault?.();
      this.#failed(hand, event.message || "it could not be loaded");
    };
    hand.worker.postMessage(this.setup);
  }

  /** @param {Hand} hand @param {Task} task */
  #start(hand, task) {
    clearTimeout(hand.timer);
    hand.task = task;
    task.hand = hand;
    hand.calls += 1;
    hand.timer = setTimeout(() => this.#dismiss(hand, task.late()), task.ms);
    hand.worker.postMessage(task.message, task.transfer);
  }

  /** @param {Hand} hand @param {{ready?: true, value?: any, failure?: {code: string, text: string}, spent?: boolean}} said */
  #heard(hand, said) {
    clearTimeout(hand.timer);
    if (said.ready) {
      hand.ready = true;
      this.#broken = 0;
      this.#rest(hand);
      this.#assign();
      return;
    }
    const task = hand.task;
    hand.task = null;
    if (said.failure) task?.reject(new TaskError(said.failure.code, said.failure.text));
    else task?.resolve(said.value);
    if (said.spent || hand.calls >= CALLS_MAX) this.#dismiss(hand, null);
    else {
      this.#rest(hand);
      this.#assign();
    }
  }

  /** It has no task just now. @param {Hand} hand */
  #rest(hand) {
    if (this.idleMs > 0) hand.timer = setTimeout(() => this.#dismiss(hand, null), this.idleMs);
  }

  /** A worker that broke by itself. @param {Hand} hand @param {string} why */
  #failed(hand, why) {
    const error = new TaskError("internal", `A handler worker failed: ${why}.`);
    if (!hand.ready) {
      this.#broken += 1;
      if (this.#broken >= TRIES) for (const task of this.#waiting.splice(0)) task.reject(error);
      else this.#wait(this.againMs * 2 ** (this.#broken - 1));
    }
    this.#dismiss(hand, error);
  }

  /** @param {Hand} hand @param {TaskError | null} error what its task is told */
  #dismiss(hand, error) {
    clearTimeout(hand.timer);
    hand.worker.onmessage = hand.worker.onerror = null;
    hand.worker.terminate();
    this.#hands.delete(hand);
    if (error) hand.task?.reject(error);
    this.#assign();
    if (this.#broken < TRIES && this.idleMs === 0) this.warm();
  }

  /** Hire nobody for so long. @param {number} ms */
  #wait(ms) {
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#assign();
      if (this.idleMs === 0) this.warm();
    }, ms);
  }

  /** @param {Task} task */
  #cancel(task) {
    const error = new TaskError("cancelled", "The call was cancelled.");
    const at = this.#waiting.indexOf(task);
    if (at >= 0) {
      this.#waiting.splice(at, 1);
      task.reject(error);
    } else if (task.hand?.task === task) this.#dismiss(task.hand, error);
  }
}
