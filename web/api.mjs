// @ts-check
/**
 * `globalThis.promisegrid`: what a script or a console can ask of the node in this tab.
 *
 * A thin, typed face of the node's verbs (rpc.mjs): it turns files, blobs, texts and streams into content by CID first,
 * so that nothing but CIDs and small values is called with. Works the same in a tab that shares another tab's node.
 */
import { joined } from "./bytes.mjs";
import { Caps } from "./caps.mjs";
import { NodeError } from "./rpc.mjs";
import { keep, stored } from "./ui.mjs";

const DIRECT = "promisegrid.direct";
const PIECE = 4 * 1024 * 1024;
/** Peers tell of themselves; round trips and whether they serve are asked for this often, while somebody looks. */
const LOOK_MS = 3_000;

/** @typedef {{did: string, via: "ws" | "webrtc" | "relay", rtt_ms: number | null, serves: boolean, engine: string}} Peer */

/** @typedef {string | Uint8Array | ArrayBuffer | Blob} Content text, bytes or a file */
/** @typedef {{code: Content, func?: string, args?: any[], files?: string | FileList | File[] | Record<string, Content>, stdin?: Content, on?: string, fuel?: number, memory?: number, timeout?: number, fresh?: boolean, verify?: number, signal?: AbortSignal, onprogress?: (detail: any) => void}} Task on: a did, or "anywhere" */
/** @typedef {{args?: any[], files?: Task["files"], stdin?: Content}} Input what one task of a map is given; a list is its args */
/** @typedef {{topic: string, entry: string, by: string, at: number, body: any}} Entry at: ms since 1970, by its author's clock */

export class PromiseGrid extends EventTarget {
  #client;
  /** @type {Peer[]} */
  #peers = [];
  /** Maps in work. @type {Set<AbortController>} */
  #maps = new Set();
  /** @type {(cid: string) => Promise<void>} */
  #open;

  /** @param {import("./client.mjs").Client} client @param {(cid: string) => Promise<void>} open */
  constructor(client, open) {
    super();
    this.#client = client;
    this.#open = open;
    /** Promises given, held and kept. */
    this.caps = new Caps(client);
    /** Resolves with {did, grid}, or rejects with a reason. @type {Promise<{did: string, grid: string | null}>} */
    this.ready = client.ready.then(async ({ did, grid }) => {
      await this.#look();
      return { did, grid: client.node?.grid ?? grid };
    });
    this.ready.catch(() => {});
    setInterval(() => client.node && document.visibilityState === "visible" && this.#look(), LOOK_MS);
    client.addEventListener("event", (event) => {
      const { kind, detail } = /** @type {CustomEvent} */ (event).detail;
      if (kind === "peer") return void this.#look().then(() => this.dispatchEvent(new CustomEvent(kind, { detail })));
      this.dispatchEvent(new CustomEvent(kind, { detail }));
    });
  }

  /** Who is connected, as last heard: [{did, via, rtt_ms, serves, engine}]. @returns {Peer[]} */
  peers() {
    return this.#peers.map((peer) => ({ ...peer }));
  }

  /** The grid as it is from here: links and what goes over them, who is near, what runs where; see rpc.mjs. @returns {Promise<import("./net-plan.mjs").Seen>} */
  async seen() {
    return this.#client.call("seen");
  }

  async #look() {
    this.#peers = await this.#client.call("peers").catch(() => []);
  }

  /**
   * Store bytes, a Blob or a ReadableStream of any size, a few MiB at a time; its CID. `pin` keeps it past a `gc`.
   * @param {Content | ReadableStream<Uint8Array>} content @param {(detail: any) => void} [onprogress]
   * @param {{chunker?: string}} [how] where to cut: "buzhash" (by content), "size-BYTES"; as IPFS does by default @returns {Promise<string>}
   */
  async put(content, onprogress, how) {
    return (await this.putFile(content, onprogress, undefined, how)).cid;
  }

  /**
   * The same, and what a folder needs to know of it. Progress tells the blocks as well: {phase, done, total, blocks: [[cid, bytes]…]}.
   * @param {Content | ReadableStream<Uint8Array>} content @param {(detail: any) => void} [onprogress] @param {AbortSignal} [signal] @param {{chunker?: string}} [how]
   * @returns {Promise<{cid: string, tsize: number, size: number}>}
   */
  async putFile(content, onprogress, signal, how) {
    const stream = content instanceof ReadableStream ? content : blobOf(content).stream();
    const total = content instanceof ReadableStream ? null : blobOf(content).size;
    const handle = await this.#client.call("put.open", how ?? null);
    let size = 0;
    let before = Promise.resolve(); // one piece is cut and hashed while the one before it is written
    for await (const data of pieces(stream)) {
      const bytes = data.length;
      const piece = this.#client.call("put.chunk", { handle, data });
      piece.catch(() => {}); // awaited one round later
      await before;
      signal?.throwIfAborted();
      before = piece.then((blocks) => {
        size += bytes;
        this.#progress({ phase: "store", done: size, total, blocks }, onprogress);
      });
      before.catch(() => {});
    }
    await before;
    const { cid, tsize, blocks } = await this.#client.call("put.end", handle);
    this.#progress({ phase: "store", done: size, total: size, blocks }, onprogress);
    return { cid, tsize, size };
  }

  /**
   * Store a folder of any size, file by file; its CID. Progress is that of all its bytes.
   * @param {{path: string, file: Content}[]} files @param {string[]} [empty] empty folders in it
   * @param {(detail: any) => void} [onprogress] @param {AbortSignal} [signal] @returns {Promise<string>}
   */
  async putFolder(files, empty = [], onprogress, signal) {
    const total = files.reduce((sum, { file }) => sum + blobOf(file).size, 0);
    const nodes = /** @type {any[]} */ (empty.map((path) => ({ path })));
    let before = 0;
    for (const { path, file } of files) {
      const passed = (/** @type {any} */ detail) => onprogress?.({ ...detail, done: before + detail.done, total, path });
      const { cid, tsize, size } = await this.putFile(file, passed, signal);
      nodes.push({ path, cid, tsize });
      before += size;
    }
    return (await this.#client.call("folder", nodes)).cid;
  }

  /** Store a folder of files; its CID. @param {FileList | File[] | Record<string, Content>} files @returns {Promise<string>} */
  async putTree(files) {
    const many = files instanceof FileList || Array.isArray(files);
    /** @type {[string, Content][]} */
    const named = many ? [...files].map((file) => [file.webkitRelativePath || file.name, file]) : Object.entries(files);
    const twice = named.find(([path], at) => named.findIndex(([other]) => other === path) < at);
    if (twice) throw new NodeError("bad_args", `Two files are named “${twice[0]}”; a folder takes one of them.`);
    const nodes = await Promise.all(
      named.map(async ([path, content]) => ({ path, kind: "file", data: new Uint8Array(await blobOf(content).arrayBuffer()) })),
    );
    return this.#client.call("putTree", nodes);
  }

  /** A file's bytes. @param {string} cid @returns {Promise<Uint8Array>} */
  async get(cid) {
    return this.#client.call("get", cid);
  }

  /** A file's bytes as they come. @param {string} cid @returns {ReadableStream<Uint8Array>} */
  stream(cid) {
    const call = this.#client.call.bind(this.#client);
    /** @type {number | null} */
    let handle = null;
    return new ReadableStream({
      async pull(controller) {
        handle ??= await call("read.open", cid);
        const piece = await call("read.next", handle);
        if (piece) controller.enqueue(piece);
        else controller.close();
      },
      async cancel() {
        if (handle !== null) await call("read.close", handle);
      },
    });
  }

  /** The entries of a folder: [{name, cid, size, kind, target}]. @param {string} cid */
  async ls(cid) {
    return this.#client.call("ls", cid);
  }

  /** What a path names: {cid, kind, size, target}; links are told, not followed. @param {string} cid @param {string} [path] */
  async look(cid, path = "") {
    return this.#client.call("look", { cid, path });
  }

  /** Keep content and all below it; what is missing is fetched: {cid, name, kind, at}. @param {string} cid @param {string} [name] */
  async pin(cid, name = "") {
    return this.#client.call("pin", { cid, name });
  }

  /** Let content go, for the next `gc` to take; whether it was pinned. @param {string} cid @returns {Promise<boolean>} */
  async unpin(cid) {
    return this.#client.call("unpin", cid);
  }

  /** What is pinned, the newest first: [{cid, name, kind, at, size}]. */
  async pins() {
    return this.#client.call("pins");
  }

  /** Take away what nobody keeps: {dry_run, removed, freed, kept}. @param {{dry_run?: boolean, results?: boolean}} [how] */
  async gc(how = {}) {
    return this.#client.call("gc", how);
  }

  /** Room in this browser, in bytes, and whether it promised to keep what is here. @returns {Promise<{used: number | null, quota: number | null, persisted: boolean}>} */
  async storage() {
    return this.#client.call("storage");
  }

  /** Gateways asked for what no peer has, one added or taken away; the node of this page must name them too.
   * @param {{add?: string, rm?: string}} [how] @returns {Promise<{url: string, kept: boolean, failures: number, aside_ms: number}[]>} */
  async gateways(how = {}) {
    return this.#client.call("gateways", how);
  }

  /** A small folder whole: [{path, kind, data}]. @param {string} cid */
  async tree(cid) {
    return this.#client.call("tree", cid);
  }

  /** Run a program here, or on a peer that serves. @param {Task} task */
  async run({ code, files, stdin, signal, onprogress, ...rest }) {
    if (code === undefined || code === null) throw new NodeError("bad_args", "run needs code: a CID, or a program's bytes.");
    const args = { ...rest, code: await this.#code(code, onprogress), ...(await this.#given({ files, stdin }, onprogress)) };
    return this.#client.call("run", args, { signal, onprogress: (detail) => this.#progress(detail, onprogress) });
  }

  /**
   * Run one program on many inputs, over this node and all who serve; a task whose peer goes is run by another.
   * Gives what became of each, in their order: a result as of `run`, but stdout and stderr are CIDs, with `why` it was
   * run where it was; or {error, code, why}. Progress is {phase: "map", done, total}. here: false leaves it to others.
   * @param {{code: Content, func?: string, inputs: (any[] | Input)[], here?: boolean, fuel?: number, memory?: number, timeout?: number, signal?: AbortSignal, onprogress?: (detail: any) => void}} work
   * @returns {Promise<{results: any[], done: number, failed: number, by: Record<string, number>}>} by: how many each ran
   */
  async map({ code, inputs, signal, onprogress, ...rest }) {
    if (!Array.isArray(inputs)) throw new NodeError("bad_args", "map needs inputs: a list, for each task its arguments, or {args, files, stdin}.");
    const stop = new AbortController();
    const giveUp = () => stop.abort();
    if (signal?.aborted) giveUp();
    signal?.addEventListener("abort", giveUp, { once: true });
    this.#maps.add(stop);
    try {
      const named = await this.#code(code, onprogress);
      const given = [];
      for (const input of inputs) {
        const { args = [], ...content } = Array.isArray(input) ? { args: input } : input;
        given.push({ args, ...(await this.#given(content, undefined)) });
      }
      const progress = (/** @type {any} */ detail) => this.#progress(detail, onprogress);
      return await this.#client.call("map", { ...rest, code: named, inputs: given }, { signal: stop.signal, onprogress: progress });
    } finally {
      this.#maps.delete(stop);
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /** How many maps of this tab are in work. */
  get mapping() {
    return this.#maps.size;
  }

  /** Give up every map of this tab: each rejects with code "cancelled". */
  stopMaps() {
    for (const stop of this.#maps) stop.abort();
  }

  /** Say something to whoever follows a topic: bytes, a text, or data with links as {"/": cid}; at most 16 KiB. @param {string} topic @param {any} body @returns {Promise<Entry>} */
  async publish(topic, body) {
    return this.#client.call("topic.publish", { topic, body: body instanceof ArrayBuffer ? new Uint8Array(body) : body });
  }

  /** Follow a topic, also after a reload: what is new in it is told by "topic" events, what was said is in `entries`. @param {string} topic */
  async follow(topic) {
    await this.#client.call("topic.follow", { topic });
    this.dispatchEvent(new Event("topics"));
  }

  /** Follow a topic no more; whether it was followed. @param {string} topic @returns {Promise<boolean>} */
  async leave(topic) {
    const { followed } = await this.#client.call("topic.leave", { topic });
    this.dispatchEvent(new Event("topics"));
    return followed;
  }

  /** The topics this node follows. @returns {Promise<string[]>} */
  async topics() {
    return this.#client.call("topic.ls");
  }

  /** The latest entries of a topic, the oldest of them first. @param {string} topic @param {number} [limit] @returns {Promise<Entry[]>} */
  async entries(topic, limit = 50) {
    return (await this.#client.call("topic.entries", { topic, limit })).entries;
  }

  /**
   * Have so many other nodes, who promised to store, keep content; 0 for none any more. Without a CID: what copies are
   * wanted of, and what is kept here for others.
   * @param {string} [cid] @param {number} [count] @returns {Promise<any>} {cid, copies, holders, missing}; {wanted: [the same], kept: [{cid, for, bytes, until, at}]}
   */
  async copies(cid, count = 1) {
    return cid === undefined ? this.#client.call("copies.ls") : this.#client.call("copies", { cid, copies: count });
  }

  /** The owner's promise to run programs for others, or false to end it. @param {{cpu?: number, memory?: number} | false} promise */
  async serve(promise) {
    return this.#client.call("serve", promise);
  }

  /**
   * Direct channels to other tabs, kept in this browser and heeded from its next start on; without an argument: what is kept.
   * servers: STUN and TURN servers, as RTCPeerConnection takes them; none unless the owner names some.
   * @param {{off?: boolean, servers?: {urls: string | string[], username?: string, credential?: string}[]}} [how]
   */
  direct(how) {
    if (how) keep(DIRECT, { off: Boolean(how.off), servers: how.servers ?? [] });
    return { off: false, servers: [], ...stored(DIRECT) };
  }

  /** Show an app by its CID in this tab. @param {string} cid */
  async open(cid) {
    return this.#open(cid);
  }

  /** A receipt, read and verified. @param {string} cid */
  async receipt(cid) {
    return this.#client.call("receipt", cid);
  }

  /** A program's CID. @param {Content} code @param {any} onprogress */
  async #code(code, onprogress) {
    return typeof code === "string" ? code : this.put(code, onprogress);
  }

  /** What a task is given, by CID. @param {{files?: Task["files"], stdin?: Content}} what @param {any} onprogress */
  async #given({ files, stdin }, onprogress) {
    return {
      files: files === undefined || files === null || typeof files === "string" ? (files ?? null) : await this.putTree(files),
      stdin: stdin === undefined || stdin === null ? null : await this.#input(stdin, onprogress),
    };
  }

  /** A CID is taken as one; any other text is the input itself. @param {Content} stdin @param {any} onprogress */
  async #input(stdin, onprogress) {
    return typeof stdin === "string" && looksLikeCid(stdin) ? stdin : this.put(stdin, onprogress);
  }

  /** @param {any} detail @param {((detail: any) => void) | undefined} also */
  #progress(detail, also) {
    also?.(detail);
    this.dispatchEvent(new CustomEvent("progress", { detail }));
  }
}

/** Whether a text has the shape of a CID. @param {string} text */
export function looksLikeCid(text) {
  return /^(b[a-z2-7]{20,200}|Qm[1-9A-HJ-NP-Za-km-z]{44}|k[0-9a-z]{20,200}|z[1-9A-HJ-NP-Za-km-z]{20,200})$/.test(text);
}

/** @param {Content} content @returns {Blob} */
function blobOf(content) {
  if (content instanceof Blob) return content;
  if (typeof content === "string" || content instanceof ArrayBuffer || ArrayBuffer.isView(content)) return new Blob([/** @type {BlobPart} */ (content)]);
  throw new NodeError("bad_args", `Content is bytes, a Blob or text, not ${typeof content}.`);
}

/** A stream in pieces of at least PIECE bytes, the last one smaller. @param {ReadableStream<Uint8Array>} stream */
async function* pieces(stream) {
  const reader = stream.getReader();
  /** @type {Uint8Array[]} */
  let kept = [];
  let size = 0;
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) {
    if (!(value instanceof Uint8Array)) throw new NodeError("bad_args", "A stream to put must give Uint8Array pieces.");
    kept.push(value);
    size += value.length;
    if (size < PIECE) continue;
    yield joined(kept, size);
    [kept, size] = [[], 0];
  }
  if (size) yield joined(kept, size);
}
