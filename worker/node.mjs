// @ts-check
/**
 * A node in this thread: puts Python, store, keys, socket and handler pool together, and answers the page's verbs.
 *
 * Promises: `start` resolves when the node can be asked, or rejects with a NodeError that has one sentence; it never
 * hangs. Where the browser refuses a database the node runs all the same, in memory, and says so.
 * Does not know: pages, tabs and messages (node.worker.mjs does).
 */
import { boot } from "./boot.mjs";
import { joined } from "./bytes.mjs";
import { decode, encode } from "./cbor.mjs";
import { Channels } from "./channels.mjs";
import { Buzhash, Cutter } from "./chunker.mjs";
import { Keys } from "./keys.mjs";
import { Pool } from "./pool.mjs";
import { GET_BYTES, NodeError, PIECE_BYTES } from "./rpc.mjs";
import { Gateways } from "./gateway.mjs";
import { Runtime } from "./runtime.mjs";
import { Shell } from "./shell.mjs";
import { StoreError } from "./store.common.mjs";
import { IdbStore } from "./store.mjs";
import { MemoryStore } from "./store.memory.mjs";
import { size as readable } from "./units.mjs";
import { compile } from "./wasi.mjs";
import { Wire, channelOf } from "./wire.mjs";

const FRAME_BYTES = 2 * 1024 * 1024 + 64 * 1024; // promisegrid.limits.Limits.frame_bytes
const MEMORY_BYTES = 1024 ** 3; // of one program
/** How long `start` waits to be connected: to be admitted at first, to be back afterwards. */
const JOIN_MS = 10_000;
const BACK_MS = 3_000;
/** Bytes of one folder stored at once: it passes through Python whole. */
const TREE_BYTES = 256 * 1024 * 1024;
/** Refusals that another attempt will meet again, until a person does something. */
const LASTING = new Set(["wrong_grid", "not_member", "bad_invitation", "hello", "banned"]);
const RUNS_MAX = 4;
/** Files cut by content at once, as many as the kernel keeps handles. */
const CUTTERS_MAX = 128;
/** The second Python, of some 40 MB: how long it may take to start, and how long it is kept for the next large module. */
const METERS = { startMs: 120_000, idleMs: 60_000 };

/**
 * @typedef {object} Told
 * @property {(phase: string, text: string, done?: number, total?: number) => void} onphase
 * @property {(kind: string, detail: any) => void} onevent
 * @property {(code: string, message: string) => void} onfailed after `start` resolved: the node has stopped
 * @property {(message: import("./channels.mjs").ToPage) => void} [ondirect] what the page, which makes channels, is asked
 */
/**
 * What this thread lives in: a browser's worker, or Node.js (node/headless.mjs).
 * @typedef {object} Place
 * @property {(file: string, name: string) => Worker} worker  a worker from a file of this folder
 * @property {(told: Told, stop: (code: string, message: string) => void) => Promise<{store: any, keys: Keys}>} keeping
 */
/** One call of the page: `ask` the kernel, `progress` to the caller. @typedef {{ask: (verb: string, args?: any) => Promise<any>, progress: (detail: any) => void}} Context */

/** A browser's worker: the store in IndexedDB and the keys in it; in memory where the browser gives no database. @type {Place} */
const TAB = {
  worker: (file, name) => new Worker(new URL(file, import.meta.url), { type: "module", name }),
  keeping: async ({ onphase }, stop) => {
    onphase("store", "Opening the store");
    const onlost = (/** @type {string} */ text) => stop("superseded", text);
    try {
      const store = await IdbStore.open({ onwait: (text) => onphase("store", text), onlost });
      onphase("identity", "Finding this node's key");
      return { store, keys: await Keys.open(store) };
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      if (!["refused", "internal"].includes(error.code)) throw new NodeError(error.code, error.message);
      onphase("store", `${error.message} Nothing will be kept after this tab closes.`);
      const store = new MemoryStore();
      return { store, keys: await Keys.open(store) };
    }
  },
};

export class Node {
  /** @param {import("./rpc.mjs").Config} config @param {Told} told @param {Place} place */
  constructor(config, told, place = TAB) {
    this.config = config;
    this.told = told;
    this.place = place;
    /** @type {{state: "online" | "offline" | "refused", text: string}} */
    this.link = { state: "offline", text: "Not connected to any node." };
    /** Why the last connection was refused, until one is not. */
    this.refusal = "";
    this.did = "";
    /** @type {string | null} */
    this.grid = null;
    /** @type {Shell | null} */
    this.shell = null;
    this.kept = true;
    this.heap = () => 0;
    /** @type {Buzhash | null} */
    this.chunker = null;
    /** Files being put that are cut by content, by handle. @type {Map<number, Cutter>} */
    this.cutters = new Map();
    this.engine = config.engine || engineName(navigator.userAgent);
  }

  /** @returns {Promise<import("./rpc.mjs").Ready>} */
  async start() {
    const { place } = this;
    const [python, { store, keys }] = await Promise.all([this.#python(), place.keeping(this.told, this.stop)]);
    const { entry, wasi } = python;
    this.kept = store.kept;
    const runs = Math.max(1, Math.min(RUNS_MAX, navigator.hardwareConcurrency || 2));
    const meters = new Pool(() => place.worker("./meter.worker.mjs", "meter"), { op: "setup" }, 1, METERS);
    const spawn = () => place.worker("./handler.worker.mjs", "handler");
    const runtime = new Runtime(new Pool(spawn, { op: "setup", wasi }, 2 * runs + 1), store, meters); // the owner's, the guests', and one to compile
    const host = { store, keys, runtime, gateways: new Gateways(), wire: this.#wire(), channels: this.#channels(), onevent: this.#heard, onfailed: this.stop };
    this.shell = new Shell(this.#begin(entry, keys.publicKey, runs), host);
    this.told.onphase("kernel", "Waking the kernel");
    const booted = await this.shell.ask("boot", null);
    this.did = booted.did;
    this.grid = booted.grid;
    runtime.pool.warm();
    await this.#reachGrid();
    return this.ready();
  }

  /** @returns {import("./rpc.mjs").Ready} */
  ready() {
    return { did: this.did, grid: this.grid, url: this.config.url ?? "", kept: this.kept };
  }

  /** @param {string} code @param {string} message */
  stop = (code, message) => {
    this.shell?.stop(code, message);
    this.told.onfailed(code, message);
  };

  /** Answer one verb of the page. @param {string} verb @param {any} args @param {Context} context */
  async call(verb, args, context) {
    const own = Object.hasOwn(VERBS, verb) ? VERBS[verb] : null;
    return own ? own(this, context, args) : context.ask(verb, args);
  }

  /** The machine was asleep, or its network is another: whoever may be gone is asked. */
  awake() {
    this.shell?.host.wire?.awake();
    this.shell?.happened(["awake"]);
  }

  // -- coming up ---------------------------------------------------------------------------------------

  async #python() {
    const { pyodide } = await boot({ modules: ["promisegrid_worker.entry"], onPhase: this.#phase });
    this.heap = () => pyodide._module.HEAPU8.length;
    const entry = pyodide.pyimport("promisegrid_worker.entry");
    this.chunker = new Buzhash(await WebAssembly.compile(entry.chunker_module()));
    return { entry, wasi: await compile(decode(entry.wasi_modules())) };
  }

  /** @param {import("./boot.mjs").Phase} phase */
  #phase = (phase) => {
    if (phase.phase === "download") this.told.onphase("python", "Fetching Python", phase.loaded, phase.total);
    else if (phase.phase === "python") this.told.onphase("python", "Starting Python");
    else if (phase.phase === "kernel") this.told.onphase("kernel", "Loading the kernel");
  };

  /** The one call that hands things to Python; what it returns performs turns. @param {any} entry @param {Uint8Array} publicKey @param {number} runs */
  #begin(entry, publicKey, runs) {
    const { grid, invite, ws, channel } = this.config;
    const settings = {
      public_key: publicKey,
      entropy: crypto.getRandomValues(new Uint8Array(64)),
      engine: this.engine,
      runs,
      memory_bytes: MEMORY_BYTES,
      channel: channel ?? (ws ? channelOf(ws) : ""),
      grid: grid || null,
      invite: invite || null,
      direct: Boolean(this.config.direct && this.told.ondirect),
    };
    try {
      return entry.start(encode(settings));
    } catch (error) {
      const last = `${error instanceof Error ? error.message : error}`.trim().split("\n").at(-1) ?? "";
      throw new NodeError("bad_args", last.replace(/^[\w.]+Error: /, ""));
    } finally {
      entry.destroy();
    }
  }

  #wire() {
    if (!this.config.ws) return null;
    return new Wire(this.config.ws, FRAME_BYTES, {
      onopen: (link) => this.shell?.happened(["open", link]),
      onframe: (link, frame) => this.shell?.happened(["frame", link, frame]),
      ondown: (link) => this.shell?.happened(["down", link]),
      onstate: (state, text) => {
        const refused = state === "offline" && this.refusal;
        this.link = refused ? { state: "refused", text: this.refusal } : { state, text };
        this.told.onevent("link", this.link);
        this.#waiting?.("link", this.link);
      },
    });
  }

  #channels() {
    const { ondirect } = this.told;
    if (!this.config.direct || !ondirect) return null;
    return new Channels(ondirect, FRAME_BYTES, {
      onopen: (link) => this.shell?.happened(["open", link]),
      onframe: (link, frame) => this.shell?.happened(["frame", link, frame]),
      ondown: (link) => this.shell?.happened(["down", link]),
    });
  }

  /** The page tells of a channel. @param {import("./channels.mjs").FromPage} message */
  direct(message) {
    this.shell?.host.channels?.heard(message);
  }

  /** @param {string} kind @param {any} detail */
  #heard = (kind, detail) => {
    if (kind === "grid") this.grid = detail.grid ?? this.grid;
    if (kind === "peer" && detail.via === "ws") this.refusal = LASTING.has(detail.code) ? `The node at ${this.#host} refused this one: ${detail.reason}` : "";
    this.told.onevent(kind, detail);
    this.#waiting?.(kind, detail);
  };

  get #host() {
    return this.config.ws ? new URL(this.config.ws).host : "";
  }

  /** @type {((kind: string, detail: any) => void) | null} */
  #waiting = null;

  /** Connect, and wait for the first answer, whatever it is. A refusal ends a start only if the node is in no grid. */
  async #reachGrid() {
    const wire = this.shell?.host.wire;
    if (!wire) return;
    const member = this.grid !== null;
    this.told.onphase("grid", `${member ? "Connecting to" : "Joining"} the grid at ${this.#host}`);
    const refused = await new Promise((resolve) => {
      const late = setTimeout(resolve, member ? BACK_MS : JOIN_MS, null);
      this.#waiting = (kind, detail) => {
        const refused = kind === "peer" && detail.via === "ws" && LASTING.has(detail.code);
        if (kind === "grid" || refused || (kind === "link" && detail.state === "offline")) {
          clearTimeout(late);
          resolve(refused ? detail : null);
        }
      };
      wire.start();
    });
    this.#waiting = null;
    if (refused && !member) throw this.#refusal(refused);
    if (this.link.state !== "online") this.told.onphase("link", this.link.text);
  }

  /** @param {{code: string, reason: string}} detail */
  #refusal({ code, reason }) {
    this.shell?.stop(code, reason);
    return new NodeError(code, `The grid did not take this node in: ${reason}`);
  }
}

/** A short name of the engine for receipts. @param {string} agent */
export function engineName(agent) {
  const found = /(Firefox|Edg|Chrome)\/([\d.]+)/.exec(agent) ?? /(?:Version)\/([\d.]+).*(Safari)/.exec(agent);
  if (!found) return "browser";
  if (found[2] === "Safari") return `Safari/${found[1]}`;
  return `${{ Chrome: "Chromium", Edg: "Edge" }[found[1]] ?? found[1]}/${found[2].replace(/(\.0)+$/, "")}`;
}

/** A file's bytes, at most `GET_BYTES`. @param {Context} context @param {string} cid */
async function whole(context, cid) {
  const handle = await context.ask("read.open", cid);
  /** @type {Uint8Array[]} */
  const pieces = [];
  let size = 0;
  try {
    for (let piece = await context.ask("read.next", handle); piece; piece = await context.ask("read.next", handle)) {
      pieces.push(piece);
      size += piece.length;
      if (size > GET_BYTES) throw new NodeError("too_large", `${cid} is larger than ${readable(GET_BYTES)}; read it piece by piece with promisegrid.stream.`);
    }
  } finally {
    context.ask("read.close", handle).catch(() => {});
  }
  return joined(pieces, size);
}

/** What the browser says of the origin's disk space. */
async function room() {
  const { usage = null, quota = null } = (await navigator.storage?.estimate?.().catch(() => null)) ?? {};
  return { used: usage, quota };
}

/** A run's answer with what it wrote. @param {Context} context @param {any} done */
async function left(context, done) {
  const [stdout, stderr] = await Promise.all([done.stdout, done.stderr].map((cid) => (cid ? whole(context, cid) : new Uint8Array())));
  return { ...done, stdout_cid: done.stdout, stderr_cid: done.stderr, stdout, stderr };
}

/** The end of a file being put. @param {Node} node @param {Context} context @param {number} handle @returns {Promise<{cid: string, tsize: number, blocks: any[]}>} */
async function ended(node, context, handle) {
  const cutter = node.cutters.get(handle);
  node.cutters.delete(handle);
  const before = cutter ? await context.ask("put.chunk", { handle, ...cutter.take(new Uint8Array(), true) }) : [];
  const end = await context.ask("put.end", handle);
  return { ...end, blocks: [...before, ...end.blocks] };
}

/** Verbs that are more than one question to the kernel, or none. @type {Record<string, (node: Node, context: Context, args: any) => Promise<any>>} */
const VERBS = {
  info: async (node, context) => ({ ...(await context.ask("info")), engine: node.engine, url: node.config.url ?? "", kept: node.kept, link: node.link, links: (node.shell?.host.wire?.open.length ?? 0) + (node.shell?.host.channels?.open.length ?? 0) }),

  put: async (_, context, data) => {
    const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
    const handle = await context.ask("put.open");
    let before = Promise.resolve(); // one piece is hashed while the one before it is written
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      const piece = context.ask("put.chunk", { handle, data: bytes.subarray(at, at + PIECE_BYTES) });
      piece.catch(() => {}); // awaited one round later
      await before;
      context.progress({ phase: "store", done: at, total: bytes.length });
      before = piece;
    }
    await before;
    return context.ask("put.close", handle);
  },

  "put.open": async (node, context, args) => {
    const handle = await context.ask("put.open", args);
    if (args?.chunker === "buzhash") node.cutters.set(handle, new Cutter(/** @type {Buzhash} */ (node.chunker)));
    if (node.cutters.size > CUTTERS_MAX) node.cutters.delete(node.cutters.keys().next().value ?? 0);
    return handle;
  },

  "put.chunk": async (node, context, { handle, data }) => {
    const cutter = node.cutters.get(handle);
    return context.ask("put.chunk", { handle, ...(cutter ? cutter.take(data, false) : { data }) });
  },

  "put.end": async (node, context, handle) => ended(node, context, handle),
  "put.close": async (node, context, handle) => (await ended(node, context, handle)).cid,

  putTree: async (_, context, nodes) => {
    const size = nodes.reduce((/** @type {number} */ sum, /** @type {any} */ node) => sum + (node.data?.length ?? node.data?.byteLength ?? 0), 0);
    if (size > TREE_BYTES) throw new NodeError("too_large", `A folder of ${readable(size)} is too large to store at once; ${readable(TREE_BYTES)} are taken.`);
    return context.ask("putTree", nodes);
  },

  leave: async (node, context) => {
    await context.ask("leave");
    node.grid = null;
    return null;
  },

  get: async (_, context, cid) => whole(context, cid),

  run: async (_, context, args) => {
    const done = await context.ask("run", args);
    return done.deferred ? done : left(context, done);
  },

  "cap.await": async (_, context, args) => left(context, await context.ask("cap.await", args)),

  serve: async (node, context, promise) => {
    await context.ask("serve", promise || null);
    const serving = (await context.ask("info")).serving;
    node.told.onevent("serving", serving);
    return serving;
  },

  /** blocks and what the origin takes up on the disk; quota: what the browser would give; heap: Python's memory. */
  stat: async (node) => {
    const { used, quota } = await room();
    const shell = /** @type {Shell} */ (node.shell);
    return { blocks: await shell.host.store.count("blocks"), bytes: used, quota, heap: node.heap(), turns: shell.turns };
  },

  /** Bytes the origin takes up and may take up, null where the browser does not say; whether it promised to keep them. */
  storage: async (node) => ({ ...(await room()), persisted: node.kept && ((await navigator.storage?.persisted?.().catch(() => false)) ?? false) }),
};
