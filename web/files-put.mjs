// @ts-check
/** Storing what a person drops or chooses: one thing after the other, each watched block by block, then pinned. */
import { BlockMap } from "./blocks.mjs";
import { fromDrop, fromHandle, fromInput, single } from "./gather.mjs";
import { byId, copyable, el, rememberName, size, took, filesUrl } from "./ui.mjs";

const CHUNK = 1024 * 1024;
/** A screen reader is told how far it is this often. */
const SAID_MS = 1_000;
const LISTED = 8;

/** @typedef {import("./gather.mjs").Gathered} Gathered */

export class PutPanel {
  /** @type {Gathered[]} */
  #waiting = [];
  /** @type {AbortController | null} */
  #storing = null;
  #said = 0;

  /** @param {import("./api.mjs").PromiseGrid} grid @param {import("./files-kept.mjs").Kept} kept */
  constructor(grid, kept) {
    this.grid = grid;
    this.kept = kept;
    this.map = new BlockMap(byId("put-blocks"));
    byId("put-files").addEventListener("change", (/** @type {any} */ { target }) => {
      this.#take([...target.files].map(single));
      target.value = "";
    });
    byId("put-folder").addEventListener("change", (/** @type {any} */ { target }) => {
      if (target.files.length) this.#take([fromInput(target.files)]);
      target.value = "";
    });
    byId("put-folder").addEventListener("click", (/** @type {Event} */ event) => this.#dialog(event));
    byId("put-stop").addEventListener("click", () => this.#storing?.abort());
    this.#dropping(byId("files-view"), byId("put"));
  }

  /** Anywhere in the view: what misses its mark would else replace the page. @param {HTMLElement} place @param {HTMLElement} marked */
  #dropping(place, marked) {
    const mark = (/** @type {boolean} */ on) => marked.classList.toggle("over", on);
    place.addEventListener("dragover", (event) => (event.preventDefault(), mark(true)));
    place.addEventListener("dragleave", () => mark(false));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(false);
      if (event.dataTransfer) this.#take(fromDrop(event.dataTransfer));
    });
  }

  /** The system's folder dialog, where there is one: it knows empty folders. @param {Event} event */
  async #dialog(event) {
    const choose = /** @type {any} */ (globalThis).showDirectoryPicker;
    if (!choose) return;
    event.preventDefault();
    const handle = await choose({ mode: "read" }).catch(() => null);
    if (handle) this.#take(fromHandle(handle).then((found) => [found]));
  }

  /** @param {Gathered[] | Promise<Gathered[]>} things */
  async #take(things) {
    byId("put-error").textContent = "";
    try {
      this.#waiting.push(...(await things));
    } catch (error) {
      byId("put-error").textContent = /** @type {Error} */ (error).message;
    }
    if (!this.#storing) await this.#work();
  }

  async #work() {
    for (let thing = this.#waiting.shift(); thing; thing = this.#waiting.shift()) {
      this.#storing = new AbortController();
      byId("put-now").hidden = false;
      try {
        await this.#store(thing, this.#storing.signal);
      } catch (error) {
        const { name, message } = /** @type {any} */ (error);
        const stopped = name === "AbortError";
        byId("put-error").textContent = stopped ? `Stopped; nothing of “${thing.name}” is kept.` : `“${thing.name}” was not stored: ${message}`;
        if (stopped) this.#waiting = [];
      }
    }
    this.#storing = null;
    byId("put-now").hidden = true;
    byId("put-status").textContent = "";
    await this.kept.refresh();
  }

  /** @param {Gathered} thing @param {AbortSignal} signal */
  async #store(thing, signal) {
    const since = performance.now();
    let blocks = 0;
    byId("put-name").textContent = thing.folder ? `${thing.name}/` : thing.name;
    byId("put-progress").value = 0;
    this.map.begin(thing.files.reduce((sum, { file }) => sum + Math.max(1, Math.ceil(file.size / CHUNK)), 0));
    this.#said = 0;
    const watch = (/** @type {any} */ detail) => {
      blocks += detail.blocks.length;
      for (const [cid] of detail.blocks) this.map.add(cid);
      this.#tell(detail.done, thing.size, blocks, performance.now() - since);
    };
    this.#tell(0, thing.size, 0, 0);
    const cid = thing.folder ? await this.grid.putFolder(thing.files, thing.empty, watch, signal) : (await this.grid.putFile(thing.files[0].file, watch, signal)).cid;
    await this.grid.pin(cid, thing.name);
    rememberName(cid, thing.name);
    this.#done(thing, cid, performance.now() - since);
  }

  /** @param {number} done @param {number} total @param {number} blocks @param {number} ms */
  #tell(done, total, blocks, ms) {
    byId("put-progress").value = total ? done / total : 1;
    const speed = ms > 500 ? `, ${size(Math.round((done / ms) * 1000))}/s` : "";
    const text = `${size(done)} of ${size(total)}, ${blocks} ${blocks === 1 ? "block" : "blocks"}${speed}`;
    byId("put-amount").textContent = text;
    if (performance.now() - this.#said < SAID_MS) return;
    this.#said = performance.now();
    byId("put-status").textContent = `Storing: ${text}`;
  }

  /** @param {Gathered} thing @param {string} cid @param {number} ms */
  #done(thing, cid, ms) {
    const files = thing.folder ? `${thing.files.length} ${thing.files.length === 1 ? "file" : "files"}, ` : "";
    const row = el(
      "li",
      {},
      el("a", { href: filesUrl(cid), class: "grow" }, thing.folder ? `${thing.name}/` : thing.name),
      el("span", { class: "hint" }, `${files}${size(thing.size)} in ${took(ms)}`),
      copyable(cid, "its CID"),
    );
    byId("put-done").prepend(row);
    while (byId("put-done").children.length > LISTED) byId("put-done").lastElementChild.remove();
    byId("put-said").textContent = `Stored and pinned ${thing.name}`;
  }
}
