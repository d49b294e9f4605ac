// @ts-check
/** What came of a run: its files and output as a person can look at them, and the receipt as a slip. */
import { asText, imageType } from "./peek.mjs";
import { copyable, el, filesUrl, glyph, number, short, size, took } from "./ui.mjs";

const SHOWN_FILES = 24;
const SHOWN_RESULTS = 500;

/** @typedef {{done: any, name: string, given: File[], me: string}} Ran done: as of run */

export class Outcome {
  /** @type {string[]} object URLs of what is on show */
  #urls = [];

  /** @param {import("./api.mjs").PromiseGrid} grid @param {HTMLElement} place */
  constructor(grid, place) {
    this.grid = grid;
    this.place = place;
  }

  clear() {
    this.place.replaceChildren();
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
  }

  /** @param {Ran} ran */
  async show(ran) {
    const { done } = ran;
    const ok = done.exit === null || done.exit === 0;
    const said = done.exit === null ? "It returned" : ok ? "Done" : `It ended with exit code ${done.exit}`;
    const how = done.cached ? `known already, in ${took(done.ms)}` : `in ${took(done.ms)}`;
    const shown = [el("p", { class: ok ? "verdict" : "verdict bad", role: "status" }, `${said} `, el("span", {}, how))];
    if (done.why) shown.push(el("p", { class: "hint why", title: done.why }, told(done.why, ran.me)));
    if (done.exit === null) shown.push(this.#piece("value", new TextEncoder().encode(written(done.value))));
    if (done.files) shown.push(...(await this.#changed(done.files, ran.given)));
    if (done.stdout.length) shown.push(this.#piece("standard output", done.stdout, "output"));
    if (done.stderr.length) shown.push(this.#piece("messages", done.stderr, "messages.txt"));
    if (!shown.some((one) => one.className === "shown")) shown.push(el("p", { class: "hint" }, "It wrote nothing."));
    const receipt = await this.grid.receipt(done.receipt).catch(() => null);
    this.clear();
    this.place.append(el("div", { class: "outcome" }, el("div", {}, ...shown), slip(ran, receipt)));
  }

  /** What came of one run for each file. @param {{results: any[], done: number, failed: number, by: Record<string, number>}} all @param {File[]} given @param {number} ms @param {string} me */
  each({ results, done, failed, by }, given, ms, me) {
    this.clear();
    const who = (/** @type {string} */ did) => el("span", { class: "name", title: did }, glyph(did), did === me ? "this tab" : short(did));
    const row = (/** @type {any} */ one, /** @type {number} */ at) => {
      const name = given[at]?.name ?? `${at + 1}`;
      if (one.error) return el("li", {}, el("span", { class: "grow" }, name), el("span", { class: "bad-text" }, one.error));
      const exit = one.exit ? el("span", { class: "bad-text" }, `exit code ${one.exit}`) : null;
      return el("li", {}, el("span", { class: "grow" }, one.stdout ? el("a", { href: filesUrl(one.stdout) }, name) : name), exit, one.cached ? el("span", { class: "tag hot" }, "known") : null, who(one.by));
    };
    const count = Object.keys(by).length;
    const how = `${done} of ${results.length}, in ${took(ms)}${count > 1 ? `, by ${count} nodes` : ""}`;
    const more = results.length - SHOWN_RESULTS;
    this.place.append(
      el("p", { class: failed ? "verdict bad" : "verdict", role: "status" }, failed ? "Some failed " : "Done ", el("span", {}, how)),
      el("ul", { class: "list each" }, ...results.slice(0, SHOWN_RESULTS).map(row), more > 0 ? el("li", { class: "hint" }, `and ${more} more`) : null),
    );
  }

  /**
   * A promise that its giver keeps later, and the way to what comes of it.
   * @param {{by: string, deferred: string}} done @param {() => void} wait
   */
  deferred({ by, deferred }, wait) {
    this.clear();
    const button = el("button", { type: "button" }, "Wait for it");
    button.addEventListener("click", () => ((button.disabled = true), wait()));
    const who = el("span", { class: "name" }, glyph(by), copyable(by, "who keeps it"));
    const text = el("p", { class: "verdict", role: "status" }, "Promised for later ", el("span", {}, "until its owner keeps it, by hand"));
    this.place.append(el("div", {}, text, el("p", {}, who), el("p", { class: "hint" }, "The call ", copyable(deferred, "the deferred call"), " is kept there, over a restart too."), button));
  }

  /** What the program made or changed, first of all. @param {string} folder @param {File[]} given */
  async #changed(folder, given) {
    const nodes = await this.grid.tree(folder).catch((/** @type {Error} */ error) => error.message);
    if (typeof nodes === "string") return [el("p", { class: "error" }, `Its files cannot be shown: ${nodes}`)];
    const before = new Map(given.map((file) => [file.name, file.size]));
    const files = nodes.filter((/** @type {any} */ node) => node.kind === "file" && before.get(node.path) !== node.data.length);
    const more = files.length - SHOWN_FILES;
    const pieces = files.slice(0, SHOWN_FILES).map((/** @type {any} */ node) => this.#piece(node.path, node.data));
    return more > 0 ? [...pieces, el("p", { class: "hint" }, `And ${more} more files, in ${folder}.`)] : pieces;
  }

  /** Bytes to look at, and a way to keep them. @param {string} name @param {Uint8Array} bytes @param {string} [file] */
  #piece(name, bytes, file = name.split("/").at(-1)) {
    const image = imageType(bytes);
    const url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (bytes)], { type: image ?? "application/octet-stream" }));
    this.#urls.push(url);
    const head = el("h3", {}, el("b", {}, name), el("span", { class: "hint" }, size(bytes.length)), el("a", { href: url, download: file }, "Save"));
    const text = image ? null : asText(bytes);
    const body = image ? el("img", { src: url, alt: `The picture ${name}, made by the program` }) : text === null ? el("p", { class: "hint" }, "Not text; save it to look at it.") : el("pre", { tabIndex: 0, ariaLabel: name }, text);
    return el("div", { class: "shown" }, head, body);
  }
}

/** The receipt, torn off. What it counts is the same wherever it ran; how long it took is said above. @param {Ran} ran @param {any} receipt */
function slip({ done, name, me }, receipt) {
  const rows = {
    program: name,
    exit: done.exit === null ? "a value" : `${done.exit}`,
    by: done.by === me ? "this tab" : copyable(done.by, "who ran it"),
    ...(done.verified ? { agreed: el("span", {}, ...agreeing(done).map((did) => copyable(did, "a peer that signed the same"))) } : {}),
    ...(done.fuel === null ? {} : { fuel: number(done.fuel) }),
    ...(receipt ? { memory: size(receipt.memory) } : {}),
    result: copyable(done.result, "the result's CID"),
    task: copyable(done.task, "the task's CID"),
    receipt: copyable(done.receipt, "the receipt's CID"),
  };
  const lines = Object.entries(rows).map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, value)));
  const stamp = done.cached ? el("p", { class: "stamp" }, "Known: nobody ran it again") : null;
  return el("section", { class: "slip", ariaLabel: "Receipt" }, el("h3", {}, glyph(done.by, 24), "Receipt"), el("dl", {}, ...lines), stamp);
}

/** Who signed this very result, of those it was compared with. @param {any} done @returns {string[]} */
const agreeing = ({ verified, result }) => verified.filter((/** @type {any} */ one) => one.result === result).map((/** @type {any} */ one) => one.did);

/** Why it came from where it came from, with names as they are shown elsewhere. @param {string} why @param {string} me */
const told = (why, me) => `${why.slice(0, 1).toUpperCase()}${why.slice(1)}.`.replace(/did:key:\w+/g, (did) => (did === me ? "this node" : short(did)));

/** A value for reading: JSON, with whole numbers of any size. @param {any} value */
function written(value) {
  return JSON.stringify(value, (_, item) => (typeof item === "bigint" ? `${item}` : item instanceof Uint8Array ? `${item.length} bytes` : item), 1)?.replace(/^"(-?\d+)"$/, "$1") ?? "nothing";
}
