// @ts-check
/**
 * Apps by CID: fetched and verified by this node, granted by its owner, shown in a frame that can do nothing else.
 *
 * The frame is sandboxed without `allow-same-origin`, so it has an opaque origin and no storage, and its policy leaves
 * it no network. It talks through one MessagePort, given to the first document it loads and to no later one, and may
 * call only what its `app.json` asks and its owner granted; every call is checked here.
 */
import { NodeError } from "./rpc.mjs";
import { byId, el, short } from "./ui.mjs";

const ASKS = {
  run: "run the programs it brings along, on this node",
  put: "store files on this node",
  get: "read files by their CID, here and from peers",
  peers: "see who is connected",
};
const CALLS_MAX = 8;
const BYTES_MAX = 64 * 1024 * 1024;
const ABOUT_MAX = 64 * 1024;
const GRANTS = "promisegrid.grants";

/** @typedef {{name: string, description: string, entry: string, handlers: Record<string, string>, asks: (keyof typeof ASKS)[]}} About */

export class Apps {
  #client;
  #grid;
  /** @type {MessagePort | null} */
  #port = null;
  #opening = 0;

  /** @param {import("./client.mjs").Client} client @param {import("./api.mjs").PromiseGrid} grid */
  constructor(client, grid) {
    this.#client = client;
    this.#grid = grid;
    byId("app-close").addEventListener("click", () => (location.hash = "#/"));
  }

  /** Show an app. Rejects with one sentence when it cannot be shown. @param {string} cid */
  async show(cid) {
    const turn = ++this.#opening;
    this.#bare(cid, "Fetching");
    try {
      await this.#client.ready;
      const fetched = await this.#client.call("fetch", cid, { onprogress: (/** @type {any} */ { done }) => turn === this.#opening && (byId("app-status").textContent = `Fetching ${Math.round(done / 1024)} KiB`) });
      const about = await this.#about(cid);
      if (turn !== this.#opening) return;
      byId("app-name").textContent = about.name;
      byId("app-status").textContent = "";
      document.title = `${about.name} · PromiseGrid`;
      if (!(await this.#granted(cid, about))) {
        location.hash = "#/";
        throw new NodeError("not_granted", `${about.name} was not opened: you did not allow what it asks.`);
      }
      byId("app-status").textContent = `${fetched.blocks} blocks verified`;
      if (turn === this.#opening) this.#frame(cid, about);
      remember(cid, about.name);
    } catch (error) {
      const { code, message } = /** @type {any} */ (error);
      byId("app-status").textContent = "";
      if (code !== "not_granted") byId("app-stage").replaceChildren(el("p", { class: "error", role: "alert" }, message));
      throw error;
    }
  }

  /** Back to the node's own page. */
  hide() {
    this.#opening += 1;
    this.#port?.close();
    this.#port = null;
    byId("app").hidden = true;
    byId("app-stage").replaceChildren();
    document.title = "PromiseGrid";
  }

  /** @param {string} cid @param {string} status */
  #bare(cid, status) {
    this.#port?.close();
    byId("app").hidden = false;
    byId("app-name").textContent = "App";
    byId("app-id").textContent = short(cid);
    byId("app-id").title = cid;
    byId("app-status").textContent = status;
    byId("app-stage").replaceChildren();
  }

  /** @param {string} cid @returns {Promise<About>} */
  async #about(cid) {
    const entries = await this.#client.call("ls", cid).catch((/** @type {any} */ error) => {
      throw error.code === "bad_file" ? new NodeError("bad_app", `${short(cid)} is not an app: it is not a folder.`) : error;
    });
    const found = entries.find((/** @type {any} */ entry) => entry.name === "app.json");
    if (!found) throw new NodeError("bad_app", `${short(cid)} is not an app: its folder has no app.json.`);
    if (found.size > ABOUT_MAX) throw new NodeError("bad_app", `The app.json of ${short(cid)} is too large.`);
    const about = read(await this.#client.call("get", found.cid), cid);
    if (!entries.some((/** @type {any} */ entry) => entry.name === about.entry.split("/")[0])) throw new NodeError("bad_app", `The app ${about.name} lacks its own page, ${about.entry}.`);
    return about;
  }

  /** Ask the owner, once for each app and what it asks. @param {string} cid @param {About} about */
  async #granted(cid, about) {
    const grants = stored(GRANTS);
    const asked = [...about.asks].sort().join(" ");
    if (!about.asks.length || grants[cid] === asked) return true;
    byId("grant-title").textContent = `${about.name} asks`;
    byId("grant-what").textContent = about.description;
    byId("grant-asks").replaceChildren(...about.asks.map((ask) => el("li", {}, `to ${ASKS[ask]}`)));
    const dialog = byId("grant");
    dialog.returnValue = "no";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "yes") return false;
    keep(GRANTS, { ...grants, [cid]: asked });
    return true;
  }

  /** @param {string} cid @param {About} about */
  #frame(cid, about) {
    const frame = el("iframe", { sandbox: "allow-scripts allow-downloads", allow: "", referrerPolicy: "no-referrer", title: about.name });
    let loads = 0;
    frame.addEventListener("load", () => {
      loads += 1;
      this.#port?.close();
      this.#port = null;
      if (loads > 1) return void (byId("app-status").textContent = "The app left its own page and has lost its access; open it again.");
      const { port1, port2 } = new MessageChannel();
      this.#port = port1;
      let open = 0;
      port1.onmessage = async ({ data }) => {
        if (!data || typeof data.id !== "number") return;
        try {
          if (++open > CALLS_MAX) throw new NodeError("busy", `An app may have ${CALLS_MAX} calls at once; wait for one to end.`);
          const progress = (/** @type {any} */ detail) => port1.postMessage({ id: data.id, progress: detail });
          port1.postMessage({ id: data.id, value: await this.#serve(about, data.verb, data.args ?? {}, progress) });
        } catch (error) {
          const { code = "internal", message = `${error}` } = /** @type {any} */ (error);
          port1.postMessage({ id: data.id, error: { code, message } });
        } finally {
          open -= 1;
        }
      };
      frame.contentWindow?.postMessage({ type: "promisegrid", app: cid, granted: about.asks }, "*", [port2]);
    });
    frame.src = `/app/${cid}/${about.entry.split("/").map(encodeURIComponent).join("/")}`;
    byId("app-stage").replaceChildren(frame);
  }

  /** One call of an app, checked. @param {About} about @param {string} verb @param {any} args @param {(detail: any) => void} onprogress */
  async #serve(about, verb, args, onprogress) {
    if (!about.asks.includes(/** @type {any} */ (verb))) throw new NodeError("not_granted", `The app was not granted “${String(verb).slice(0, 20)}”; name it under asks in app.json.`);
    if (weight(args) > BYTES_MAX) throw new NodeError("too_large", `An app may hand over ${BYTES_MAX} bytes at once.`);
    switch (verb) {
      case "run": {
        const code = Object.hasOwn(about.handlers, args.handler) ? about.handlers[args.handler] : null;
        if (!code) throw new NodeError("no_such_handler", `The app has no handler “${String(args.handler).slice(0, 40)}” in its app.json.`);
        const { func, args: words, files, stdin, timeout } = args;
        return this.#grid.run({ code, func, args: words, files, stdin, timeout, onprogress });
      }
      case "put": return this.#grid.put(args.content);
      case "get": return this.#grid.get(String(args.cid));
      case "peers": return this.#grid.peers();
    }
    throw new NodeError("bad_args", `There is no verb “${String(verb).slice(0, 20)}”.`);
  }
}

/** An app.json, checked. @param {Uint8Array} bytes @param {string} cid @returns {About} */
function read(bytes, cid) {
  let about;
  try {
    about = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new NodeError("bad_app", `The app.json of ${short(cid)} is not JSON.`);
  }
  const { name, description = "", entry = "index.html", handlers = {}, asks = [] } = about ?? {};
  const texts = [name, description, entry].every((text) => typeof text === "string" && text.length <= 500);
  if (!texts || !name || entry.startsWith("/") || entry.split("/").includes("..")) throw new NodeError("bad_app", `The app.json of ${short(cid)} must have a name, a description and an entry, as text.`);
  if (typeof handlers !== "object" || !Object.values(handlers).every((handler) => typeof handler === "string")) throw new NodeError("bad_app", `The handlers of ${name} must be CIDs; publish it with “promisegrid app publish”.`);
  if (!Array.isArray(asks) || !asks.every((ask) => Object.hasOwn(ASKS, ask))) throw new NodeError("bad_app", `${name} asks for something this page does not know; it knows ${Object.keys(ASKS).join(", ")}.`);
  return { name, description, entry, handlers, asks };
}

/** Bytes in a value, roughly. @param {any} value @returns {number} */
function weight(value) {
  if (value instanceof Blob) return value.size;
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return value.byteLength;
  if (typeof value === "string") return value.length;
  if (value && typeof value === "object") return Object.values(value).reduce((sum, part) => sum + weight(part), 16);
  return 8;
}

const RECENT = "promisegrid.apps";

/** @param {string} key @returns {any} */
function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/** @param {string} key @param {any} value */
function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // a private window: it will be asked again
  }
}

/** @param {string} cid @param {string} name */
function remember(cid, name) {
  const { [cid]: _, ...others } = stored(RECENT);
  keep(RECENT, Object.fromEntries([[cid, name], ...Object.entries(others)].slice(0, 12)));
  showRecent();
}

/** The list of apps opened here. */
export function showRecent() {
  byId("app-list").replaceChildren(...Object.entries(stored(RECENT)).map(([cid, name]) => el("li", {}, el("a", { href: `#/app/${cid}`, class: "grow" }, name), el("code", { class: "hint" }, short(cid)))));
}
