// @ts-check
/**
 * What a page and the node's worker say to each other: the types, and the few lines both sides share.
 *
 * The page that leads (holds the Web Lock) made the worker and talks by `postMessage`; every other tab sends the
 * same objects, with its own `client`, over the BroadcastChannel `CHANNEL`, on which the worker itself listens,
 * so a throttled page slows nobody down. Calls made before the node is ready wait for it; after a failure they
 * are refused with its reason. Bytes travel in the transfer list to the leader, as copies to followers.
 *
 * The verbs, their arguments → what they give (CIDs are texts, bytes are Uint8Array, `kind` is file, folder or symlink):
 *
 *     info                         → {did, grid, engine, serving, trust, url, kept, link: {state, text}, links}
 *     peers                        → [{did, via, rtt_ms, serves, engine}]
 *     put bytes                    → cid; or put.open {chunker} | null → handle, put.chunk {handle, data} → [[cid, bytes]…] (its blocks),
 *                                    put.close handle → cid, or put.end handle → {cid, tsize, blocks}
 *     putTree [{path, kind, data}] → cid; folder [{path, cid, tsize}] (stored files; without cid: an empty folder) → {cid, tsize}
 *     get cid                      → bytes, at most GET_BYTES; or read.open cid → handle, read.next handle → bytes | null, read.close handle
 *     ls cid                       → [{name, cid, size, kind, target}] (kind "unknown" far down a long listing, and of what is nowhere)
 *     look {cid, path}             → {cid, kind, size, target}: what a path names; links are not followed
 *     pin {cid, name, direct}; unpin cid → {cid, name, kind, at}, what is missing is fetched; whether it was pinned
 *     pins                         → [{cid, name, kind, at, size}], the newest first; at in s
 *     gc {dry_run, results}        → {dry_run, removed, freed, kept}: blocks that nobody keeps, bytes, blocks
 *     log; log {stream, limit}     → [{stream, heads: [Head]}]; {stream, heads: [cid], history: [Head]}; Head: {head, value, previous, height, by, at}
 *     log.move {stream, cid, previous} → Head: moves a stream on, after these heads or all there are
 *     gateways {add, rm} | null    → [{url, kept, failures, aside_ms}]: asked for what no peer has; the page's node must name them too
 *     tree cid                     → [{path, kind, data}]
 *     fetch cid                    → {blocks, bytes}: everything under it, into this node's store
 *     run {code, func, args, files, stdin, on, fuel, memory, timeout, output, fresh, verify}
 *                                  → {task, result, receipt, exit, value, stdout, stderr, stdout_cid, stderr_cid, files, cached, fuel, by, ms}
 *                                    args and value: plain data, BigInt past 2^53, a link is {"/": cid}; timeout in seconds
 *                                    on a peer: presents a promise of it that fits; one it keeps later → {deferred: call, by, promise}
 *                                    verify N: N peers run it and must agree; also → verified: [{did, result, receipt, fuel, engine}]
 *                                    on "anywhere": from memory, here or at a peer; also → why: a sentence about where the result came from
 *     map {code, func, inputs, here, fuel, memory, timeout} → {results, done, failed, by: {did: count}}
 *                                    inputs: [{args, files, stdin}]; a result as of run, CIDs for what it wrote, or {error, code, why}
 *     seen                         → {me, links, near, here, there, maps, …}: the grid from here, as kernel/promisegrid/seeing.py says; maps: the maps
 *                                    in work, [{code, func, total, done, failed, by}]; also alone: maps
 *     serve {cpu, memory} | false  → {cpu, memory} | null: the owner's promise to run for others
 *     trust {mode, dids, agree} | null → the policy; mode own, peers or agree
 *     ban {did, reason}; unban did; bans → nothing; whether it was banned; [{did, at, reason}]: whom this node has nothing to do with, at in s
 *     running; stop task           → [{task, code, func, for, since_ms}]; whether it was running
 *     history limit; receipt cid   → the latest calls; a receipt's fields and `valid`
 *     cap.ls; cap.show promise     → [Given]; one Given. A promise is named by its CID
 *     cap.grant {to, code | ability, func, policy, budget, uses, days, delegate, later}; cap.delegate {parent, to, …}
 *                                  → {promise, delivered, token}: token (bytes) is handed over where delivered is false
 *     cap.accept token             → promise: takes one that came by other ways
 *     cap.revoke {promise, reason} → the promise: taken back, with whatever rests on it
 *     cap.pending                  → [Pending]: calls whose promise this node keeps by hand
 *     cap.awaited                  → the same of calls that others are to keep for this node, with `by` for `for`
 *     cap.history                  → [{statement, about, state, by, at, receipt, result, reason}]: what was said, newest first
 *     cap.keep call; cap.break {call, reason}; cap.await {call, timeout} → as run, once the issuer has kept it
 *     topic.publish {topic, body}  → Entry: {entry, topic, by, at, body}, at in ms; to whoever follows it, as event "topic"
 *     topic.follow {topic}; topic.leave {topic} → {topic}; {topic, followed}; topic.ls → [topic]
 *     topic.entries {topic, limit} → {topic, entries: [Entry]}, the latest, the oldest of them first
 *     copies {cid, copies}         → {cid, copies, holders, missing}: so many others keep it; copies.ls → {wanted: [the same], kept: [{cid, for, bytes, until, at}]}
 *     publish {cid, name, description}; published; verify; leave; stat → {blocks, bytes, quota, heap, turns}
 *     storage                      → {used, quota, persisted}: bytes of this origin, and whether the browser promised to keep them
 *
 * @typedef {object} Given  a promise, as far as this node knows of it
 * @property {string} promise @property {string} issuer @property {string} holder
 * @property {string} root who keeps it: the issuer of the first promise of its chain
 * @property {{ability?: string, code?: string, protocol?: string}} what
 * @property {string | null} func @property {any[][] | null} policy @property {Record<string, number> | null} budget time in ms
 * @property {number | null} uses null: any number @property {number} used @property {number} delegate how many further hops
 * @property {boolean} later @property {number} expires_at s @property {string | null} parent @property {string} reason @property {boolean} given @property {boolean} held
 * @property {"offered"|"kept"|"deferred"|"broken"|"revoked"|"expired"|"used up"} state
 * @typedef {{call: string, promise: string, for: string, code: string, func: string | null, at: number}} Pending  at: s
 *
 * @typedef {{static: string, ws?: string, channel?: string, grid?: string, invite?: string, engine?: string, url?: string, direct?: {servers: any[]}}} Config
 *   ws: URL of the node's WebSocket; channel: host[:port]/path of it (made from ws if left out);
 *   grid, invite: from the join URL; engine: a name for receipts; url: what `ready` gives back (the page's origin)
 * @typedef {{type: "start", config: Config}} Start  leader only
 * @typedef {{type: "call", id: number, verb: string, args?: any, client?: string}} Call
 * @typedef {{type: "cancel", id: number, client?: string}} Cancel
 * @typedef {{type: "ping", client: string}} Ping  followers, every PING_MS
 * @typedef {{type: "direct", message: import("./channels.mjs").FromPage}} FromDirect  the leader's page, of its connections
 * @typedef {Start | Call | Cancel | Ping | FromDirect} ToWorker
 *
 * @typedef {{type: "phase", phase: "python"|"kernel"|"store"|"identity"|"grid"|"link", text: string, done?: number, total?: number}} PhaseMessage
 * @typedef {{did: string, grid: string | null, url: string, kept: boolean}} Ready  kept: false in a session that leaves nothing behind
 * @typedef {Ready & {type: "ready"}} ReadyMessage
 * @typedef {{type: "failed", code: string, message: string}} Failed  the node has stopped; code "superseded": another tab leads now
 * @typedef {{type: "event", kind: "peer"|"progress"|"receipt"|"message"|"promise"|"topic"|"grid"|"serving"|"link"|"fault", detail: any}} Event
 * @typedef {{type: "done", id: number, value: any, client?: string}} Done
 * @typedef {{type: "error", id: number, error: {code: string, message: string}, client?: string}} Refused
 * @typedef {{type: "progress", id: number, detail: any, client?: string}} Progress
 * @typedef {{type: "pong", client: string, ready: Ready | null, failed: Failed | null, link: {state: string, text: string} | null}} Pong  link: as in the event, which an old worker may have said last
 * @typedef {{type: "direct", message: import("./channels.mjs").ToPage}} ToDirect  to the leader's page alone
 * @typedef {PhaseMessage | ReadyMessage | Failed | Event | Done | Refused | Progress | Pong | ToDirect} ToPage
 */

export const CHANNEL = "promisegrid";
export const LOCK = "promisegrid-node";
/** A follower asks this often whether the worker lives, and takes over after so long without an answer. */
export const PING_MS = 2_000;
export const LOST_MS = 5_000;
/** The most one `get` gives at once; read larger content with `read.open`. */
export const GET_BYTES = 256 * 1024 * 1024;
/** Bytes handed to Python in one turn; more would hold up everything else. */
export const PIECE_BYTES = 4 * 1024 * 1024;

/** A refusal of the node, as the page throws it. */
export class NodeError extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.name = "NodeError";
    this.code = code;
  }
}

/** The buffers inside a value, for a transfer list. @param {any} value @returns {ArrayBuffer[]} */
export function buffers(value) {
  if (value instanceof ArrayBuffer) return [value];
  if (ArrayBuffer.isView(value)) return value.byteLength === value.buffer.byteLength ? [/** @type {ArrayBuffer} */ (value.buffer)] : [];
  if (Array.isArray(value)) return value.flatMap(buffers);
  return value && typeof value === "object" ? Object.values(value).flatMap(buffers) : [];
}

/** Calls that wait for their answers: number them with `start`, settle them with `settle`. */
export class Calls {
  #next = 1;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void, onprogress?: (detail: any) => void}>} */
  #open = new Map();

  /** @param {(id: number) => void} send @param {(detail: any) => void} [onprogress] @returns {Promise<any>} */
  start(send, onprogress) {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#open.set(id, { resolve, reject, onprogress });
      send(id);
    });
  }

  /** Take a `done`, `error` or `progress` message; false if it is none of ours. @param {any} message */
  settle(message) {
    const call = this.#open.get(message.id);
    if (!call) return false;
    if (message.type === "progress") return call.onprogress?.(message.detail), true;
    if (message.type !== "done" && message.type !== "error") return false;
    this.#open.delete(message.id);
    if (message.type === "done") call.resolve(message.value);
    else call.reject(new NodeError(message.error.code, message.error.message));
    return true;
  }

  /** Refuse whatever is still open. @param {string} code @param {string} message */
  fail(code, message) {
    for (const call of this.#open.values()) call.reject(new NodeError(code, message));
    this.#open.clear();
  }
}
