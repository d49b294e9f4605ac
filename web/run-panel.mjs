// @ts-check
/** "Run a program": from what a person chose to a task, with its progress; what came of it is shown by outcome.mjs. */
import { looksLikeCid } from "./api.mjs";
import { Outcome } from "./outcome.mjs";
import { reached, together } from "./panels.mjs";
import { byId, dropzone, el, glyph, rememberName, short, size, svg, words } from "./ui.mjs";

const ANYWHERE = "anywhere";
const PHASES = { fetch: "Fetching", compile: "Compiling, once", run: "Running", store: "Storing" };

/** @typedef {import("./api.mjs").PromiseGrid} PromiseGrid */
/** @typedef {import("./client.mjs").Client} Client */

/** Wire the form up. @param {PromiseGrid} grid @param {Client} client @param {import("./promises.mjs").Promises} promises */
export function runPanel(grid, client, promises) {
  new RunPanel(grid, client, promises);
}

class RunPanel {
  /** @type {{file: File, cid: string | null} | null} */
  #program = null;
  /** @type {File[]} */
  #files = [];
  /** @type {AbortController | null} */
  #running = null;

  /** @param {PromiseGrid} grid @param {Client} client @param {import("./promises.mjs").Promises} promises */
  constructor(grid, client, promises) {
    this.promises = promises;
    promises.addEventListener("change", () => this.#places());
    promises.addEventListener("wait", (event) => {
      const { call, name } = /** @type {CustomEvent} */ (event).detail;
      byId("run").scrollIntoView({ block: "start" });
      this.#wait(call, name, []);
    });
    this.grid = grid;
    this.client = client;
    this.outcome = new Outcome(grid, byId("result"));
    byId("code").addEventListener("input", () => (this.#program = null));
    byId("code-file").addEventListener("change", (/** @type {any} */ { target }) => target.files[0] && this.#choose(target.files[0]));
    byId("files").addEventListener("change", (/** @type {any} */ { target }) => (this.#add([...target.files]), (target.value = "")));
    dropzone(byId("code-field"), ([file]) => this.#choose(file));
    dropzone(byId("files-field"), (files) => this.#add(files));
    for (const as of document.querySelectorAll("input[name=as]")) as.addEventListener("change", () => this.#places());
    byId("stop").addEventListener("click", () => this.#running?.abort());
    byId("run-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#run()));
    for (const at of [client, grid]) for (const kind of ["ready", "peer"]) at.addEventListener(kind, () => this.#places());
    this.#add([]);
    this.#places();
  }

  /** @param {File} file */
  #choose(file) {
    this.#program = { file, cid: null };
    byId("code").value = `${file.name} (${size(file.size)})`;
    byId("run-error").textContent = "";
  }

  /** @param {File[]} more a file of the same name replaces the one before */
  #add(more) {
    const fresh = new Set(more.map((file) => file.name));
    this.#files = [...this.#files.filter((file) => !fresh.has(file.name)), ...more];
    const chips = this.#files.map((file) =>
      el("li", {}, el("span", {}, file.name), el("span", { class: "hint" }, size(file.size)), el("button", { class: "small", type: "button", ariaLabel: `Remove ${file.name}`, onclick: () => this.#remove(file) }, "×")),
    );
    byId("files-list").replaceChildren(...(chips.length ? chips : [el("li", { class: "none" }, "None. Drop files here, if the program needs any.")]));
  }

  /** @param {File} file */
  #remove(file) {
    this.#files = this.#files.filter((other) => other !== file);
    this.#add([]);
  }

  /** Where it may run: here, on each peer that serves, and on those that promised it. */
  #places() {
    if (this.#as() === "each") return byId("on").replaceChildren(el("p", { class: "hint" }, "This tab and everybody who serves: each takes the next file when it has done one."));
    const chosen = this.#on();
    const promised = this.promises.from();
    const serving = together(this.grid.peers()).filter((peer) => peer.serves || promised.has(peer.did));
    const place = (/** @type {string} */ did, /** @type {string} */ name, /** @type {string} */ hint) =>
      el("label", {}, el("input", { type: "radio", name: "on", value: did, checked: did === chosen }), el("span", { class: "name" }, did === ANYWHERE ? anyone() : glyph(did || (this.client.node?.did ?? "")), name), el("span", { class: "hint" }, hint));
    const places = [place("", "this tab", ""), ...serving.map((peer) => place(peer.did, short(peer.did), promised.has(peer.did) ? "promised" : (reached(peer).split(" · ")[1] ?? "")))];
    if (serving.length) places.splice(1, 0, place(ANYWHERE, "where it is quickest", ""));
    if (chosen !== ANYWHERE && !serving.some((peer) => peer.did === chosen)) places[0].firstElementChild.checked = true;
    const none = serving.length ? null : el("p", { class: "hint" }, "No peer serves right now. One that switches on “Run for others” appears here.");
    byId("on").replaceChildren(...places, ...(none ? [none] : []));
  }

  #on() {
    const checked = /** @type {HTMLInputElement | null} */ (document.querySelector("#on input:checked"));
    return checked?.value ?? "";
  }

  async #run() {
    if (this.#running) return;
    this.#running = new AbortController();
    const { signal } = this.#running;
    byId("run-error").textContent = "";
    try {
      const task = this.#task();
      this.#busy(true);
      const code = await this.#code(signal);
      const given = this.#files;
      if (this.#as() === "each") return await this.#each(code, task, given, signal);
      const done = await this.grid.run({ ...task, code, signal, onprogress: (detail) => this.#progress(detail) });
      const name = this.#program?.file.name ?? short(code);
      if (done.deferred) this.outcome.deferred(done, () => this.#wait(done.deferred, name, given));
      else await this.#show(done, name, given);
    } catch (error) {
      this.#refused(/** @type {any} */ (error));
    } finally {
      this.#running = null;
      this.#busy(false);
    }
  }

  /** One run for each file, wherever there is room. @param {string} code @param {import("./api.mjs").Task} task @param {File[]} given @param {AbortSignal} signal */
  async #each(code, { args = [], timeout }, given, signal) {
    const began = performance.now();
    const inputs = given.map((file) => ({ args, stdin: file }));
    const done = await this.grid.map({ code, inputs, timeout, signal, onprogress: (detail) => this.#progress(detail) });
    this.outcome.each(done, given, performance.now() - began, this.client.node?.did ?? "");
  }

  /** How the files are given to the program. @returns {string} */
  #as() {
    return /** @type {HTMLInputElement} */ (document.querySelector("input[name=as]:checked")).value;
  }

  /** @param {any} done @param {string} name @param {File[]} given */
  async #show(done, name, given) {
    await this.outcome.show({ done, name, given, me: this.client.node?.did ?? "" });
  }

  /** Until the other side has kept its promise. @param {string} call @param {string} name @param {File[]} given */
  async #wait(call, name, given) {
    if (this.#running) return;
    this.#running = new AbortController();
    this.#busy(true, "Waiting for it to be kept");
    try {
      await this.#show(await this.grid.caps.await(call, { signal: this.#running.signal }), name, given);
    } catch (error) {
      this.#refused(/** @type {any} */ (error));
    } finally {
      this.#running = null;
      this.#busy(false);
    }
  }

  /** The program's CID; a file is stored first, once. @param {AbortSignal} signal */
  async #code(signal) {
    if (!this.#program) return byId("code").value.trim();
    this.#program.cid ??= await this.grid.put(this.#program.file, (detail) => this.#progress(detail));
    rememberName(this.#program.cid, this.#program.file.name);
    if (signal.aborted) throw Object.assign(new Error("The call was cancelled."), { code: "cancelled" });
    return this.#program.cid;
  }

  /** What the form says. Throws a sentence when that is no task. @returns {import("./api.mjs").Task} */
  #task() {
    const named = byId("code").value.trim();
    if (!this.#program && !named) throw problem("Choose a program first: drop a .wasm file, or paste its CID.");
    if (!this.#program && !looksLikeCid(named)) throw problem(`“${named.slice(0, 60)}” is not a CID. A CID looks like bafkrei… or Qm…; copy it whole, or choose a file.`);
    const [asInput, each] = [this.#as() === "stdin", this.#as() === "each"];
    if (asInput && this.#files.length > 1) throw problem("Standard input is one file; remove the others, or give them as a folder.");
    if (each && !this.#files.length) throw problem("A run for each file: add the files first.");
    const func = byId("func").value.trim();
    if (each && func && func !== "_start") throw problem("A run for each file gives it as standard input, and a function has none; leave the function empty.");
    const line = words(byId("args").value);
    const peers = byId("compare").value.trim();
    if (peers && !(Number(peers) >= 2 && Number.isInteger(Number(peers)))) throw problem("Comparing takes a whole number of peers, at least 2; leave it empty to have one run it.");
    return {
      code: named,
      func: func || undefined,
      args: func && func !== "_start" ? line.map(parsed) : line,
      files: !asInput && !each && this.#files.length ? this.#files : undefined,
      stdin: asInput ? this.#files[0] : undefined,
      on: peers ? undefined : this.#on() || undefined,
      verify: Number(peers) || undefined,
      timeout: Number(byId("timeout").value) || undefined,
      fresh: byId("fresh").checked || undefined,
    };
  }

  /** @param {boolean} on @param {string} [status] */
  #busy(on, status = "Starting") {
    byId("go").disabled = on;
    byId("stop").hidden = !on;
    byId("run-progress").hidden = !on;
    byId("run-progress").removeAttribute("value");
    byId("run-status").textContent = on ? status : "";
    if (on) this.outcome.clear();
  }

  /** @param {{phase: string, done: number, total: number | null}} detail */
  #progress({ phase, done, total }) {
    const bar = byId("run-progress");
    const counted = phase === "fetch" || phase === "store";
    if (phase === "map") {
      bar.value = total ? done / total : 0;
      byId("run-status").textContent = `${done} of ${total} done`;
      return;
    }
    if (total && counted) bar.value = done / total;
    else bar.removeAttribute("value");
    const amount = counted && done ? ` ${size(done)}${total ? ` of ${size(total)}` : ""}` : "";
    byId("run-status").textContent = `${PHASES[/** @type {keyof typeof PHASES} */ (phase)] ?? phase}${amount}`;
  }

  /** @param {{message: string, code?: string}} error */
  #refused({ message, code }) {
    byId("run-error").textContent = code === "cancelled" ? "Stopped. Nothing was kept of it." : message;
    byId("run-error").dataset.code = code ?? "";
    if (code === "usage") byId("code").focus();
    byId("run-error").scrollIntoView({ block: "nearest" });
  }
}

/** The picture of no one in particular. */
const anyone = () => svg("svg", { viewBox: "0 0 20 20", width: 20, height: 20, "aria-hidden": "true", class: "icon" }, svg("path", { d: "M10 3v14M3 10h14M5 5l10 10M15 5L5 15" }));

/** @param {string} text */
const problem = (text) => Object.assign(new Error(text), { code: "usage" });

/** An argument of a called function: JSON, whole numbers beyond 2⁵³ kept whole, anything else text. @param {string} word */
function parsed(word) {
  if (/^-?\d{16,20}$/.test(word)) return BigInt(word);
  try {
    return JSON.parse(word);
  } catch {
    return word;
  }
}
