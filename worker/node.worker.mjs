// @ts-check
/**
 * The node's worker: hears the page that made it and, on the BroadcastChannel, every other tab; answers each call once.
 *
 * Promises: it listens before it does anything slow; what is asked before the node is ready waits; once it has
 * failed every call is refused with that reason. Types: rpc.mjs. The node itself: node.mjs.
 */
import { Node } from "./node.mjs";
import { CHANNEL, NodeError, buffers } from "./rpc.mjs";

/** Calls of all tabs at once; a page that asks for more has lost its way. */
const CALLS_MAX = 1024;

/** @type {Node | null} */
let node = null;
/** @type {import("./rpc.mjs").Ready | null} */
let ready = null;
/** @type {import("./rpc.mjs").Failed | null} */
let failed = null;
/** @type {(value: void) => void} */
let open = () => {};
/** Resolves when the node is ready or has failed. @type {Promise<void>} */
const settled = new Promise((resolve) => (open = resolve));
/** @type {Map<string, {cancelled: boolean, ask: number | null}>} */
const calls = new Map();

const channel = openChannel();
globalThis.onmessage = (/** @type {MessageEvent} */ { data }) => heard(data, (message, transfer) => globalThis.postMessage(message, { transfer }));
globalThis.onerror = (/** @type {any} */ event) => fail("internal", `A fault of this node: ${event.message ?? event}`);
globalThis.onunhandledrejection = (/** @type {PromiseRejectionEvent} */ { reason }) => tell({ type: "event", kind: "fault", detail: { where: "promise", text: `${reason?.stack ?? reason}` } });

/** Null where the browser gives none: then this tab is alone. */
function openChannel() {
  try {
    const made = new BroadcastChannel(CHANNEL);
    made.onmessage = ({ data }) => {
      if (data && typeof data.client === "string") heard(data, (message) => made.postMessage({ ...message, client: data.client }));
    };
    return made;
  } catch {
    return null;
  }
}

/** To every tab. @param {any} message */
function tell(message) {
  globalThis.postMessage(message);
  if (failed?.code !== "superseded") channel?.postMessage(message); // it is closed then, and the tabs have another leader
}

/** @param {string} code @param {string} message */
function fail(code, message) {
  if (failed) return;
  failed = { type: "failed", code, message };
  if (code === "superseded") {
    channel?.close(); // the other tabs talk to the new leader now
    globalThis.postMessage(failed);
  } else tell(failed);
  open();
}

/** @param {any} message @param {(message: any, transfer: Transferable[]) => void} reply */
function heard(message, reply) {
  switch (message?.type) {
    case "start": return void start(message.config);
    case "ping": return reply({ type: "pong", client: message.client, ready, failed, link: node?.link ?? null }, []);
    case "call": return void answer(message, reply);
    case "direct": return node?.direct(message.message);
    case "awake": return node?.awake();
    case "cancel": return cancel(nameOf(message));
  }
}

/** @param {import("./rpc.mjs").Config} config */
async function start(config) {
  if (node) return;
  node = new Node(config, {
    onphase: (phase, text, done, total) => tell({ type: "phase", phase, text, done, total }),
    onevent: (kind, detail) => tell({ type: "event", kind, detail }),
    onfailed: fail,
    ondirect: (message) => globalThis.postMessage({ type: "direct", message }),
  });
  try {
    ready = await node.start();
    if (failed) return;
    tell({ type: "ready", ...ready });
    open();
  } catch (error) {
    const { code, message } = /** @type {any} */ (error);
    fail(error instanceof NodeError ? code : "internal", message || `${error}`);
  }
}

/** @param {import("./rpc.mjs").Call} call */
const nameOf = ({ client, id }) => `${client ?? ""} ${id}`;

/** @param {import("./rpc.mjs").Call} message @param {(message: any, transfer: Transferable[]) => void} reply */
async function answer(message, reply) {
  const { id, verb, args } = message;
  const name = nameOf(message);
  /** @type {{cancelled: boolean, ask: number | null}} */
  const state = { cancelled: false, ask: null };
  try {
    if (calls.size >= CALLS_MAX) throw new NodeError("busy", `${CALLS_MAX} calls are already waiting; try again later.`);
    calls.set(name, state);
    await settled;
    const running = node;
    if (failed || !running?.shell) throw new NodeError(failed?.code ?? "internal", failed?.message ?? "The node is not running.");
    const progress = (/** @type {any} */ detail) => reply({ type: "progress", id, detail }, []);
    const ask = (/** @type {string} */ question, /** @type {any} */ about = null) => {
      if (state.cancelled) return Promise.reject(new NodeError("cancelled", "The call was cancelled."));
      return /** @type {any} */ (running.shell).ask(question, about, { progress, begun: (/** @type {number} */ ask) => (state.ask = ask) });
    };
    const value = await running.call(verb, args ?? null, { ask, progress });
    reply({ type: "done", id, value }, buffers(value));
  } catch (error) {
    const { code, message: text } = /** @type {any} */ (error);
    reply({ type: "error", id, error: { code: typeof code === "string" ? code : "internal", message: text || `${error}` } }, []);
  } finally {
    calls.delete(name);
  }
}

/** @param {string} name */
function cancel(name) {
  const state = calls.get(name);
  if (!state) return;
  state.cancelled = true;
  if (state.ask !== null) node?.shell?.cancel(state.ask);
}
