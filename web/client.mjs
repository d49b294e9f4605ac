// @ts-check
/**
 * The page's way to the node: one worker per browser profile, whichever tab happens to own it.
 *
 * The tab that holds the Web Lock leads: it made the worker and talks to it directly. Every other tab follows, over a
 * BroadcastChannel to the same worker. When the leader goes, the lock does, and a follower leads; when the worker has
 * not answered a follower for LOST_MS, the lock is stolen. A leader says that it leads until its worker speaks for
 * itself, so that a slow first download is not taken for silence; and it starts a worker that hangs again.
 *
 * Promises: `ready` settles, with a reason when it fails; a call settles when the node answers, is lost or is stopped.
 * Does not know: what the verbs mean.
 */
import { Direct } from "./direct.mjs";
import { CHANNEL, Calls, LOCK, LOST_MS, NodeError, PING_MS } from "./rpc.mjs";

/** A start that takes longer has failed; the first visit on a slow phone takes about ten seconds. */
const START_MS = 90_000;
/** A leader's own worker that says nothing for so long is started again; its longest honest turn is a few seconds. */
const HUNG_MS = 30_000;
/** A cancelled call that is not answered ends here. */
const CANCEL_MS = 10_000;

/** What a follower listens to; the rest of the channel is other tabs' calls. */
const TO_TABS = new Set(["leading", "phase", "ready", "failed", "event", "done", "error", "progress", "pong"]);

/** @typedef {import("./rpc.mjs").Config} Config */
/** @typedef {import("./rpc.mjs").Ready} Ready */

/** @param {{state: string, text: string}} link */
const said = ({ state, text }) => `${state} ${text}`;

export class Client extends EventTarget {
  #calls = new Calls();
  /** What the worker said last of its link. */
  #link = "";
  #client = crypto.randomUUID();
  /** @type {Worker | null} */
  #worker = null;
  /** @type {BroadcastChannel | null} */
  #channel = null;
  /** @type {{id: number, verb: string, args: any}[]} Calls made before there was a worker. */
  #early = [];
  #heard = 0;
  #spoke = false;
  /** Whether this tab's own worker has come up, or has failed. */
  #up = false;
  /** Which worker a follower follows; another one has not heard what was asked of the first. */
  #leading = "";
  /** Why this tab has no node and looks for none. @type {NodeError | null} */
  #gone = null;
  /** What was last told, so that a follower's pings do not tell it again. */
  #told = "";
  #asked = 0;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #pinging;
  /** @type {() => void} */
  #release = () => {};
  /** Connections to other tabs; those of the tab that leads. @type {Direct | null} */
  #direct = null;
  /** Whether a request of this tab waits for the lock. */
  #inLine = false;
  /** @type {"none" | "leader" | "follower"} */
  role = "none";
  /** @type {Ready | null} */
  node = null;
  /** @type {(ready: Ready) => void} */
  #resolve = () => {};
  /** @type {(error: Error) => void} */
  #reject = () => {};

  /** @param {Config} config */
  constructor(config) {
    super();
    this.config = config;
    /** Settles once: the first time a node is ready or has failed. @type {Promise<Ready>} */
    this.ready = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.ready.catch(() => {});
  }

  /** Lead or follow. Never throws: `ready` tells. */
  start() {
    if (!isSecureContext || !navigator.locks) {
      const https = `https://${location.host}/`;
      this.#fail("insecure", `A browser gives a node its key and its store only on a secure page. Open ${https} instead.`);
      return;
    }
    setTimeout(() => this.#late(), START_MS);
    addEventListener("pagehide", () => this.#direct?.close()); // so that peers need not find out
    for (const kind of ["online", "offline", "pageshow"]) addEventListener(kind, () => this.#wake());
    for (const kind of ["resume", "visibilitychange"]) document.addEventListener(kind, () => document.visibilityState === "visible" && this.#wake());
    this.#openChannel();
    this.#elect();
  }

  /** The machine may have slept, or its network changed: the node asks its peers whether they are there. */
  #wake() {
    if (this.node) this.#send({ type: "awake" });
  }

  /** Call a verb of the node. @param {string} verb @param {any} [args] @param {{onprogress?: (detail: any) => void, signal?: AbortSignal}} [options] @returns {Promise<any>} */
  call(verb, args = null, { onprogress, signal } = {}) {
    if (this.#gone) return Promise.reject(this.#gone);
    if (signal?.aborted) return Promise.reject(new NodeError("cancelled", "The call was cancelled."));
    const done = this.#calls.start((id) => {
      const sent = this.#send({ type: "call", id, verb, args });
      if (!sent) this.#early.push({ id, verb, args });
      signal?.addEventListener("abort", () => this.#cancel(id), { once: true });
    }, onprogress);
    done.then(() => this.dispatchEvent(new CustomEvent("called", { detail: verb })), () => {});
    return done;
  }

  /** @param {number} id */
  #cancel(id) {
    this.#early = this.#early.filter((call) => call.id !== id);
    this.#send({ type: "cancel", id });
    const error = { code: "cancelled", message: "The call was cancelled; the node has not confirmed it." };
    setTimeout(() => this.#calls.settle({ type: "error", id, error }), CANCEL_MS);
  }

  // -- who owns the worker -------------------------------------------------------------------------------

  /** Lead if nobody does. */
  #elect() {
    this.#request({ ifAvailable: true });
  }

  /** Ask for the lock, and lead for as long as it is held. @param {LockOptions} options */
  #request(options) {
    const held = (/** @type {Lock | null} */ lock) => {
      if (!lock) return this.#follow(), undefined;
      if (this.#gone) return undefined;
      if (!options.steal) this.#inLine = false;
      this.#lead();
      return new Promise((resolve) => (this.#release = () => resolve(undefined)));
    };
    navigator.locks.request(LOCK, options, held).catch((error) => this.#lost(error));
  }

  /** Wait behind whoever holds the lock, once. */
  #queue() {
    if (this.#inLine) return;
    this.#inLine = true;
    this.#request({});
  }

  #lead() {
    if (this.#worker) return;
    this.#role("leader");
    this.#begin();
    this.#watch(() => this.#beat());
    this.#flush();
  }

  #begin() {
    this.#spoke = this.#up = false;
    this.#leading = crypto.randomUUID();
    this.#channel?.postMessage({ type: "leading", worker: this.#leading });
    this.#worker = new Worker(`${this.config.static}/node.worker.mjs`, { type: "module", name: "promisegrid" });
    this.#direct?.close();
    const worker = this.#worker;
    this.#direct = new Direct((message, transfer) => worker.postMessage({ type: "direct", message }, transfer), () => this.config.direct?.servers ?? []);
    this.#worker.onmessage = ({ data }) => {
      this.#spoke = true;
      this.#up ||= data.type === "ready" || data.type === "failed";
      this.#heard = Date.now();
      this.#hear(data);
    };
    this.#worker.onerror = (event) => {
      event.preventDefault();
      if (this.#spoke) return void this.#hear({ type: "event", kind: "fault", detail: { where: "worker", text: event.message } });
      this.#giveUp(new NodeError("internal", `The node's worker could not be started: ${event.message || "its script did not load"}. Is the node at ${location.host} still running? Reload to try again.`));
    };
    this.#worker.postMessage({ type: "start", config: this.config });
  }

  /** No worker, no node: another tab may try. @param {NodeError} error */
  #giveUp(error) {
    this.#gone = error;
    clearInterval(this.#pinging);
    this.#worker = null;
    this.role = "none";
    this.#release();
    this.#fail(error.code, error.message);
  }

  /** The leader's watch over its own worker. */
  #beat() {
    if (!this.#up) this.#channel?.postMessage({ type: "leading", worker: this.#leading });
    if (this.node && this.#silence() > HUNG_MS) return this.#restart();
    this.#send({ type: "ping", client: this.#client });
  }

  #restart() {
    this.#worker?.terminate();
    this.#drop("The node stopped answering and was started again; try again.");
    this.#heard = Date.now();
    this.#begin();
    this.dispatchEvent(new CustomEvent("event", { detail: { kind: "fault", detail: { where: "worker", text: "no answer" } } }));
  }

  #follow() {
    this.#spoke = false;
    this.#role("follower");
    this.#watch(() => this.#ping());
    this.#queue();
  }

  /** @param {() => void} look every PING_MS, and now */
  #watch(look) {
    clearInterval(this.#pinging);
    this.#heard = this.#asked = Date.now();
    this.#pinging = setInterval(look, PING_MS);
    look();
  }

  /** How long the worker has said nothing while this tab was awake. */
  #silence() {
    const now = Date.now();
    if (now - this.#asked > 2 * PING_MS) this.#heard = Math.max(this.#heard, now - PING_MS); // this tab slept, not the worker
    this.#asked = now;
    return now - this.#heard;
  }

  #ping() {
    if (this.#silence() > LOST_MS) return this.#steal();
    this.#send({ type: "ping" });
  }

  #steal() {
    clearInterval(this.#pinging);
    this.#drop("The tab that ran this node stopped answering. This tab has taken over; try again.");
    this.#request({ steal: true });
  }

  /** The lock was stolen: another tab leads. @param {any} error */
  #lost(error) {
    if (error?.name !== "AbortError") return this.#fail("internal", `This browser gave no lock for the node: ${error?.message ?? error}.`);
    this.#stepDown();
  }

  /** Another tab leads now; told by the lock, by the store, or by both. */
  #stepDown() {
    if (this.role !== "leader") return;
    this.#direct?.close();
    this.#worker?.terminate();
    this.#worker = null;
    this.#release();
    this.#drop("Another tab took the node over; try again.");
    this.#follow();
  }

  /** @param {"leader" | "follower"} role */
  #role(role) {
    if (this.role === "follower" && role === "leader") {
      this.#drop("The tab that ran this node was closed. This tab has taken over; try again.");
    }
    this.role = role;
    this.dispatchEvent(new CustomEvent("role", { detail: role }));
  }

  // -- messages ------------------------------------------------------------------------------------------

  #openChannel() {
    this.#channel = new BroadcastChannel(CHANNEL);
    this.#channel.onmessage = ({ data }) => {
      if (this.role !== "follower" || (data?.client && data.client !== this.#client)) return;
      if (!TO_TABS.has(data?.type)) return;
      this.#heard = Date.now();
      if (data.type === "leading") return this.#another(data.worker);
      if (data.type === "pong" && !this.#spoke) {
        this.#spoke = true;
        this.#flush();
      }
      this.#hear(data);
    };
  }

  /** Calls that nobody will answer. @param {string} text */
  #drop(text) {
    this.#early = [];
    this.#calls.fail("closed", text);
  }

  /** A worker is starting: calls wait for its first answer. @param {string} worker */
  #another(worker) {
    if (worker === this.#leading) return;
    this.#leading = worker;
    if (this.#spoke) this.#drop("Another tab took the node over; try again.");
    this.#spoke = false;
  }

  /** False when nobody hears it yet. @param {any} message */
  #send(message) {
    if (this.role === "leader" && this.#worker) this.#worker.postMessage(message);
    else if (this.role === "follower" && (this.#spoke || message.type === "ping")) this.#channel?.postMessage({ ...message, client: this.#client });
    else return false;
    return true;
  }

  #flush() {
    for (const call of this.#early.splice(0)) this.#send({ type: "call", ...call });
  }

  /** @param {any} message */
  #hear(message) {
    switch (message?.type) {
      case "ready": return this.#isReady(message);
      case "pong":
        if (message.failed) this.#fail(message.failed.code, message.failed.message);
        else if (message.ready) this.#isReady(message.ready);
        if (message.ready && message.link && this.#link !== said(message.link)) this.#hear({ type: "event", kind: "link", detail: message.link });
        return;
      case "failed": return message.code === "superseded" && this.role === "leader" ? this.#stepDown() : this.#fail(message.code, message.message);
      case "event":
        if (message.kind === "link") this.#link = said(message.detail);
        if (message.kind === "grid" && this.node) this.node.grid = message.detail?.grid ?? this.node.grid;
        return void this.dispatchEvent(new CustomEvent("event", { detail: message }));
      case "direct": return this.#direct?.heard(message.message);
      case "phase": return void this.dispatchEvent(new CustomEvent(message.type, { detail: message }));
      default: this.#calls.settle(message);
    }
  }

  /** @param {Ready} ready */
  #isReady(ready) {
    const { did, grid, url, kept } = ready;
    const first = this.node?.did !== did || this.node?.grid !== grid;
    this.node = { did, grid, url, kept };
    this.#told = "";
    this.#resolve(this.node);
    if (first) this.dispatchEvent(new CustomEvent("ready", { detail: this.node }));
  }

  #late() {
    if (!this.node) this.#fail("late", `The node did not start within ${START_MS / 1000} s. Reload to try again; close other tabs of this page if that does not help.`);
  }

  /** @param {string} code @param {string} text */
  #fail(code, text) {
    if (this.#told === `${code} ${text}`) return;
    this.#told = `${code} ${text}`;
    const error = new NodeError(code, text);
    this.#reject(error);
    this.#calls.fail(code, text);
    this.dispatchEvent(new CustomEvent("failed", { detail: error }));
  }
}

