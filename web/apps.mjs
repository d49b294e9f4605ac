// @ts-check
/**
 * Apps by CID: fetched and verified by this node, granted by its owner, shown in a frame that can do nothing else.
 *
 * The frame is sandboxed without `allow-same-origin`, so it has an opaque origin and no storage, and its policy leaves
 * it no network. `allow-downloads` lets a person save what an app made. What it may ask of the node passes app-door.mjs.
 */
import { looksLikeCid } from "./api.mjs";
import { Door } from "./app-door.mjs";
import { Inliner, isServed } from "./inline.mjs";
import { NodeError } from "./rpc.mjs";
import { byId, copyable, el, glyph, keep, short, size, stored } from "./ui.mjs";

const ASKS = {
  run: "run the programs it brings along on this node",
  put: "store files on this node",
  get: "read files by their CID, here and from peers",
  peers: "see who is connected",
};
const ABOUT_MAX = 64 * 1024;
const GRANTS = "promisegrid.grants";

/** @typedef {{name: string, description: string, entry: string, handlers: Record<string, string>, asks: (keyof typeof ASKS)[]}} About */

export class Apps {
  #client;
  #grid;
  #inliner;
  /** @type {Door | null} */
  #door = null;
  #opening = 0;

  /** @param {import("./client.mjs").Client} client @param {import("./api.mjs").PromiseGrid} grid */
  constructor(client, grid) {
    this.#client = client;
    this.#grid = grid;
    this.#inliner = new Inliner(client, client.config.static);
  }

  /** Show an app. Rejects with one sentence when it cannot be shown. @param {string} cid */
  async show(cid) {
    const turn = ++this.#opening;
    this.#bare(cid, "Fetching");
    try {
      if (!looksLikeCid(cid)) throw new NodeError("bad_cid", `“${cid.slice(0, 60)}” is not the CID of an app. It looks like bafybei…; copy it whole.`);
      await this.#client.ready;
      const fetched = await this.#client.call("fetch", cid, { onprogress: (/** @type {any} */ { done }) => turn === this.#opening && (byId("app-status").textContent = `${size(done)} verified`) });
      const about = await this.#about(cid);
      if (turn !== this.#opening) return;
      byId("app-name").textContent = about.name;
      byId("app-status").textContent = "";
      document.title = `${about.name} · PromiseGrid`;
      if (!(await this.#granted(cid, about))) {
        location.hash = "#/";
        throw new NodeError("not_granted", `${about.name} was not opened: you did not allow what it asks.`);
      }
      byId("app-status").textContent = `${fetched.blocks} blocks, ${size(fetched.bytes)}, each verified by its CID`;
      await this.#frame(cid, about, turn);
      remember(cid, about.name);
    } catch (error) {
      const { code, message } = /** @type {any} */ (error);
      byId("app-status").textContent = "";
      if (code !== "not_granted") byId("app-stage").replaceChildren(stopped(message));
      throw error;
    }
  }

  /** Back to the node's own page. */
  hide() {
    this.#opening += 1;
    this.#door?.close();
    this.#door = null;
    document.body.classList.remove("in-app");
    byId("app").hidden = true;
    byId("app-stage").replaceChildren();
    document.title = "PromiseGrid";
  }

  /** @param {string} cid @param {string} status */
  #bare(cid, status) {
    this.#door?.close();
    document.body.classList.add("in-app");
    byId("app").hidden = false;
    byId("app-name").textContent = "App";
    byId("app-id").replaceChildren(copyable(cid, "the app's CID"));
    byId("app-status").textContent = status;
    byId("app-stage").replaceChildren(el("div", { class: "wait" }, el("p", {}, "Fetching the app and verifying every block of it."), el("progress", { ariaLabel: "Fetching" })));
    byId("app-name").focus();
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
    byId("grant-title").textContent = `Open “${about.name}”?`;
    byId("grant-what").textContent = about.description;
    byId("grant-asks").replaceChildren(...about.asks.map((ask) => el("li", {}, ASKS[ask])));
    const dialog = byId("grant");
    dialog.returnValue = "no";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (dialog.returnValue !== "yes") return false;
    keep(GRANTS, { ...grants, [cid]: asked });
    return true;
  }

  /** From the node; from this tab's own copy where the node has none or is gone. @param {string} cid @param {About} about @param {number} turn */
  async #frame(cid, about, turn) {
    const path = `/app/${cid}/${about.entry.split("/").map(encodeURIComponent).join("/")}`;
    const served = await isServed(path);
    if (turn !== this.#opening) return;
    const frame = el("iframe", { sandbox: "allow-scripts allow-downloads", allow: "", referrerPolicy: "no-referrer", title: about.name });
    this.#door?.close();
    const lost = (/** @type {string} */ text) => frame.parentElement?.replaceChildren(stopped(text));
    this.#door = new Door(frame, cid, about, this.#grid, lost);
    if (served) frame.src = path;
    else await this.#inliner.fill(frame, cid, about.entry, lost);
    if (turn !== this.#opening) return;
    if (!served) byId("app-status").textContent += ", shown from this tab's own copy";
    byId("app-stage").replaceChildren(frame);
  }
}

/** What is shown in an app's place. @param {string} why */
const stopped = (why) => el("div", { class: "stopped" }, el("h2", {}, "This app is not running"), el("p", { class: "error", role: "alert" }, why), el("button", { type: "button", onclick: () => location.reload() }, "Try again"));

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

const RECENT = "promisegrid.apps";

/** @param {string} cid @param {string} name */
function remember(cid, name) {
  const { [cid]: _, ...others } = stored(RECENT);
  keep(RECENT, Object.fromEntries([[cid, name], ...Object.entries(others)].slice(0, 12)));
  showRecent();
}

/** The list of apps opened here. */
export function showRecent() {
  const opened = Object.entries(stored(RECENT));
  byId("app-list").replaceChildren(...opened.map(([cid, name]) => el("li", {}, glyph(cid), el("a", { href: `#/app/${cid}`, class: "grow" }, name), el("span", { class: "hint" }, short(cid)))));
}
