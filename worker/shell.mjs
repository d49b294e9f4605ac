// @ts-check
/**
 * The node's shell: it owns what JavaScript owns (store, keys, socket, workers, time) and drives the kernel in turns.
 *
 * A *turn* is one synchronous call into Python: what happened goes in as one CBOR list of records, what is to be
 * done comes out as another. Between turns nothing of Python runs, no PyProxy is made, and asyncio is not used.
 *
 * Promises: records that happen in one task share a turn; each ticket is answered once, also when the host fails;
 * an exception in Python becomes a refusal of its call, or a `fault` event, never silence.
 * Does not know: what the kernel thinks; which thread or page it serves (node.worker.mjs does).
 */
import { decode, encode } from "./cbor.mjs";
import { FIRST } from "./channels.mjs";
import { Calls, NodeError } from "./rpc.mjs";

/** A timer beyond this is set again when it ends; browsers keep delays in 31 bits. */
const TIMER_MS = 3600_000;

/**
 * @typedef {object} Host what the shell performs effects with
 * @property {import("./store.mjs").IdbStore | import("./store.memory.mjs").MemoryStore} store
 * @property {import("./keys.mjs").Keys} keys
 * @property {import("./runtime.mjs").Runtime} runtime
 * @property {import("./gateway.mjs").Gateways} gateways
 * @property {import("./wire.mjs").Wire | null} wire
 * @property {import("./channels.mjs").Channels | null} channels
 * @property {(kind: string, detail: any) => void} onevent
 * @property {(code: string, message: string) => void} onfailed the node cannot go on
 */

export class Shell {
  /** @type {any[][]} */
  #records = [];
  #scheduled = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #due = Infinity;
  #stopped = false;
  #calls = new Calls();
  turns = 0;

  /** @param {(turn: Uint8Array) => Uint8Array} python one turn @param {Host} host */
  constructor(python, host) {
    this.python = python;
    this.host = host;
  }

  /** Something happened; it goes into the next turn. @param {any[]} record */
  happened(record) {
    if (this.#stopped) return;
    this.#records.push(record);
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => this.#turn());
  }

  /** Ask the kernel; the promise ends with its reply. `begun` is told the number that `cancel` takes.
   * @param {string} verb @param {any} args @param {{progress?: (detail: any) => void, begun?: (ask: number) => void}} [watch] */
  ask(verb, args, { progress, begun } = {}) {
    if (this.#stopped) return Promise.reject(new NodeError("closed", "The node has stopped; reload the page."));
    return this.#calls.start((ask) => {
      begun?.(ask);
      this.happened(["call", ask, verb, args]);
    }, progress);
  }

  /** @param {number} ask */
  cancel(ask) {
    this.happened(["cancel", ask]);
  }

  /** No turn after this one. @param {string} code @param {string} message */
  stop(code, message) {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#calls.fail(code, message);
    this.host.wire?.stop();
    this.host.channels?.stop();
    this.host.runtime.close();
    this.host.store.close();
  }

  #turn() {
    this.#scheduled = false;
    if (this.#stopped) return;
    const records = this.#records;
    this.#records = [];
    this.turns += 1;
    let answer;
    try {
      answer = decode(this.python(encode([Date.now(), records])));
    } catch (error) {
      this.host.onfailed("internal", `The kernel stopped: ${error instanceof Error ? error.message.trim().split("\n").at(-1) : error}`);
      return;
    }
    const [timer, effects] = answer;
    for (const [name, ...fields] of effects) this.#perform(name, fields);
    this.#setTimer(timer);
  }

  /** @param {string} name @param {any[]} fields */
  #perform(name, fields) {
    const effect = EFFECTS[name];
    if (effect) effect(this.host, fields, this);
    else {
      const [ticket, ...rest] = fields;
      this.#answer(ticket, (async () => ANSWERED[name](this.host, ticket, rest))());
    }
  }

  /** @param {number} ticket @param {Promise<any>} work */
  #answer(ticket, work) {
    work.then(
      (value) => this.happened(["answer", ticket, value ?? null]),
      (error) => {
        if (error.code === "superseded") this.host.onfailed("superseded", error.message);
        else this.happened(["failure", ticket, typeof error.code === "string" ? error.code : "internal", `${error.message ?? error}`]);
      },
    );
  }

  /** @param {any} message */
  settle(message) {
    this.#calls.settle(message);
  }

  /** @param {number | null} due unix milliseconds */
  #setTimer(due) {
    const at = due ?? Infinity;
    if (at === this.#due) return;
    clearTimeout(this.#timer);
    this.#due = at;
    if (at === Infinity) return;
    const wait = Math.min(Math.max(at - Date.now(), 0), TIMER_MS);
    this.#timer = setTimeout(() => {
      this.#due = Infinity;
      this.happened(["tick"]);
    }, wait);
  }
}

/** Records that want no answer. @type {Record<string, (host: Host, fields: any[], shell: Shell) => void>} */
const EFFECTS = {
  send: ({ wire, channels }, [link, frame]) => (link < FIRST ? wire : channels)?.send(link, frame),
  close: ({ wire, channels }, [link, code, text]) => (link < FIRST ? wire : channels)?.close(link, code, text),
  establish: ({ channels }, [number, answer]) => channels?.establish(number, answer),
  abandon: ({ channels }, [number]) => channels?.abandon(number),
  notify: ({ onevent }, [kind, detail]) => onevent(kind, detail),
  progress: (_, [id, detail], shell) => shell.settle({ type: "progress", id, detail }),
  reply: (_, [id, value], shell) => shell.settle({ type: "done", id, value }),
  refused: (_, [id, code, message], shell) => shell.settle({ type: "error", id, error: { code, message } }),
  fail: (_, [ticket, code, text], shell) => shell.happened(["failure", ticket, code, text]),
  cancel: ({ runtime, gateways }, [ticket]) => {
    runtime.cancel(ticket);
    gateways.cancel(ticket);
  },
  fault: ({ onevent }, [where, text]) => {
    console.error(`${where}: ${text}`);
    onevent("fault", { where, text });
  },
};

/** Records that begin with a ticket, and whose promise is its answer. @type {Record<string, (host: Host, ticket: number, fields: any[]) => Promise<any>>} */
const ANSWERED = {
  load: ({ store }, _, [table, keys]) => store.load(table, keys),
  scan: ({ store }, _, [table, prefix, after, limit, keysOnly]) => store.scan(table, prefix, after, limit, keysOnly),
  read: ({ store }, _, [reads]) => store.read(reads),
  save: ({ store }, _, [writes]) => store.write(writes, false),
  commit: ({ store }, _, [writes, seen]) => store.commit(writes, seen),
  sign: ({ keys }, _, [message]) => keys.sign(message),
  verify: ({ keys }, _, [alg, key, message, signature]) => keys.verify(alg, key, message, signature),
  digest: ({ keys }, _, [data]) => keys.digest(data),
  find: ({ runtime }, ticket, [code]) => runtime.find(ticket, code),
  check: ({ runtime }, ticket, [data]) => runtime.check(ticket, data),
  keep: ({ runtime }, ticket, [code, data, info]) => runtime.keep(ticket, code, data, info),
  meter: ({ runtime }, ticket, [code, data, pages]) => runtime.meter(ticket, code, data, pages),
  run: ({ runtime }, ticket, [job]) => runtime.run(ticket, job),
  push: async ({ wire, channels }, _, [link, frame]) => {
    const way = link < FIRST ? wire : channels;
    way?.send(link, frame);
    await way?.room(link);
  },
  describe: ({ channels }, _, [number, offer]) => /** @type {import("./channels.mjs").Channels} */ (channels).describe(number, offer),
  gateway: ({ gateways }, ticket, [url, cid, most, ms]) => gateways.block(ticket, url, cid, most, ms),
};
