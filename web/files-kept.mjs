// @ts-check
/** What is pinned here, how much room there is, and what may be taken away. Tells "change" when pins have changed. */
import { byId, el, short, size, filesUrl } from "./ui.mjs";

const LISTED = 200;

/** @typedef {{cid: string, name: string, kind: string, at: number, size: number | null}} Pin */
/** @typedef {{cid: string, copies: number, holders: string[], missing: number}} Copies how many others should keep it, and who does */

export class Kept extends EventTarget {
  /** @type {Map<string, Pin>} */
  #pins = new Map();
  /** @type {Map<string, Copies>} */
  #copies = new Map();
  #turn = 0;

  /** @param {import("./api.mjs").PromiseGrid} grid */
  constructor(grid) {
    super();
    this.grid = grid;
    byId("persist").addEventListener("click", () => this.#persist());
    byId("gc-look").addEventListener("click", () => this.#look());
  }

  /** The pin of a CID. @param {string} cid */
  of(cid) {
    return this.#pins.get(cid) ?? null;
  }

  /** The copies others keep of a CID, where any are wanted. @param {string} cid */
  copiesOf(cid) {
    return this.#copies.get(cid) ?? null;
  }

  /** Look again: pins, copies and room. */
  async refresh() {
    const turn = ++this.#turn;
    const pins = /** @type {Pin[]} */ (await this.grid.pins().catch(() => []));
    const { wanted } = await this.grid.copies().catch(() => ({ wanted: [] }));
    if (turn !== this.#turn) return;
    this.#copies = new Map(wanted.map((/** @type {Copies} */ one) => [one.cid, one]));
    this.#pins = new Map(pins.map((pin) => [pin.cid, pin]));
    this.#list(pins);
    this.dispatchEvent(new Event("change"));
    await this.#room();
  }

  /** @param {string} cid @param {string} [name] */
  async pin(cid, name = "") {
    await this.grid.pin(cid, name);
    await this.refresh();
  }

  /** Have so many others keep it, because they promised to. @param {string} cid @param {number} count */
  async spread(cid, count) {
    await this.grid.copies(cid, count);
    await this.refresh();
  }

  /** @param {string} cid */
  async unpin(cid) {
    await this.grid.unpin(cid);
    await this.refresh();
  }

  /** @param {Pin[]} pins */
  #list(pins) {
    byId("pins-count").textContent = pins.length ? `${pins.length}` : "";
    byId("pins-empty").hidden = pins.length > 0;
    const more = pins.length - LISTED;
    const rows = pins.slice(0, LISTED).map((pin) => this.#row(pin));
    byId("pin-list").replaceChildren(...rows, ...(more > 0 ? [el("li", { class: "hint" }, `and ${more} older ones`)] : []));
  }

  /** @param {Pin} pin */
  #row(pin) {
    const name = pin.name || short(pin.cid);
    const letGo = el("button", { class: "small", type: "button", ariaLabel: `Unpin ${name}` }, "Unpin");
    letGo.addEventListener("click", async () => {
      letGo.disabled = true;
      const next = letGo.closest("li")?.nextElementSibling?.querySelector("a")?.getAttribute("href") ?? "";
      await this.unpin(pin.cid).catch((error) => (byId("pins-error").textContent = error.message));
      const after = [...byId("pin-list").querySelectorAll("a")].find((link) => link.getAttribute("href") === next);
      (after ?? byId("pins-title")).focus();
    });
    const when = new Date(pin.at * 1000);
    const since = el("time", { class: "hint", dateTime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleDateString());
    const facts = el("span", { class: "facts-line" }, el("span", { class: "amount" }, pin.size === null ? "" : size(pin.size)), since, copiesTag(this.copiesOf(pin.cid)));
    return el("li", {}, el("a", { href: filesUrl(pin.cid), title: pin.cid }, name), facts, letGo);
  }

  // -- room --------------------------------------------------------------------------------------------

  async #room() {
    const { used, quota, persisted } = await this.grid.storage().catch(() => ({ used: null, quota: null, persisted: false }));
    byId("room-bar").hidden = !quota;
    if (quota) byId("room-bar").value = Math.max((used ?? 0) / quota, 0.004);
    const left = quota === null || used === null ? "" : `${size(Math.max(0, quota - used))} left in this browser`;
    byId("room-text").textContent = used === null ? "This browser does not say how much room there is." : `${size(used)} used; ${left}.`;
    byId("persist-part").hidden = persisted;
    byId("persisted").hidden = !persisted;
  }

  async #persist() {
    const kept = await navigator.storage?.persist?.().catch(() => false);
    byId("persist-said").textContent = kept ? "" : "This browser did not agree yet. It tends to once the page is bookmarked, installed, or used a while; or allow “storage” for this site in its settings.";
    await this.#room();
  }

  /** Say what nobody keeps, and offer to take it away. */
  async #look() {
    const said = byId("gc-said");
    said.textContent = "Looking…";
    try {
      const { removed, freed } = await this.grid.gc({ dry_run: true });
      if (!removed) return void (said.textContent = "Nothing: all of it is pinned, in use, or just stored.");
      const go = el("button", { class: "small", type: "button" }, `Remove ${size(freed)}`);
      go.addEventListener("click", () => this.#collect(go));
      said.replaceChildren(`${removed} ${removed === 1 ? "block that nothing keeps" : "blocks that nothing keeps"}, ${size(freed)}. `, go);
    } catch (error) {
      said.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {HTMLButtonElement} go */
  async #collect(go) {
    go.disabled = true;
    try {
      const { removed, freed } = await this.grid.gc();
      byId("gc-said").textContent = `Removed ${removed} blocks, ${size(freed)}.`;
    } catch (error) {
      byId("gc-said").textContent = /** @type {Error} */ (error).message;
    }
    await this.#room();
  }
}

/** How many others keep it, of how many that should. @param {Copies | null} copies */
export function copiesTag(copies) {
  return copies && el("span", { class: copies.missing ? "tag" : "tag on", title: copies.holders.join("\n") }, `kept by ${copies.holders.length} of ${copies.copies} others`);
}
