// @ts-check
/**
 * A look into content by its CID: folders as lists, pictures of known kinds, text; anything to save, anything to pin.
 *
 * Promises: strangers' names and texts are shown as text, whatever they hold; a link in a folder is told, not followed;
 * of a file no more is read than is shown, until it is saved. Does not know: where content comes from.
 */
import { looksLikeCid } from "./api.mjs";
import { IMAGE_BYTES, TEXT_BYTES, asText, imageType, isSvg, svgUrl } from "./peek.mjs";
import { byId, copyable, el, nameOf, short, size, svg, filesUrl } from "./ui.mjs";

/** Entries shown at once; a folder may hold a hundred thousand. */
const PAGE = 250;
/** As people sort: folders first, 2 before 10. */
const COLLATOR = new Intl.Collator(undefined, { numeric: true });
const PATHS = { folder: "M2 5.5h6l1.5 2H18v8.5H2z", file: "M4.5 2h8l3.5 3.5V18h-11.5z", symlink: "M4 16l10-10M8 5.5h6.5V12", unknown: "M10 14v.5M7.5 7.5a2.5 2.5 0 1 1 2.5 3v1.5" };

/** @typedef {{cid: string, kind: "file" | "folder" | "symlink", size: number | null, target: string | null}} Found */
/** @typedef {{name: string, cid: string, size: number, kind: keyof typeof PATHS, target: string | null}} Entry */

export class Browser {
  #turn = 0;
  /** @type {string[]} object URLs of what is on show */
  #urls = [];
  /** @type {Found | null} */
  #on = null;
  #name = "";

  /** @param {import("./api.mjs").PromiseGrid} grid @param {import("./files-kept.mjs").Kept} kept */
  constructor(grid, kept) {
    this.grid = grid;
    this.kept = kept;
    kept.addEventListener("change", () => this.#pinned());
    byId("look-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#open(byId("look-cid").value)));
    byId("look-save").addEventListener("click", () => this.#save());
    byId("look-pin").addEventListener("click", () => this.#pin());
    byId("look-copies").addEventListener("change", () => this.#copy());
  }

  /** What a person typed: a CID, with or without a path or the ways it is written in URLs. @param {string} text */
  #open(text) {
    const [cid = "", ...path] = text.trim().replace(/^(ipfs:\/\/|.*\/ipfs\/|.*#\/files\/)/, "").split("/").filter(Boolean);
    const fine = looksLikeCid(cid);
    byId("look-error").textContent = fine ? "" : `“${cid.slice(0, 60)}” is not a CID. A CID looks like bafybei… or Qm…; copy it whole.`;
    if (fine) location.hash = filesUrl(cid, path.join("/"));
  }

  clear() {
    this.#turn++;
    this.#empty();
  }

  #empty() {
    this.#on = null;
    byId("look-found").hidden = true;
    byId("look-body").replaceChildren();
    byId("look-status").textContent = "";
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
  }

  /** Show content, or nothing for "". Never throws. @param {string} cid @param {string[]} path */
  async show(cid, path) {
    const turn = ++this.#turn;
    this.#empty();
    byId("look-error").textContent = "";
    byId("look-cid").value = cid;
    byId("look-crumbs").replaceChildren(...(cid ? this.#crumbs(cid, path) : []));
    byId("look-hint").hidden = Boolean(cid);
    if (!cid) return;
    byId("look-status").textContent = "Fetching";
    try {
      await this.grid.ready;
      const found = await this.grid.look(cid, path.join("/"));
      const body = await this.#body(found, path.at(-1) ?? this.#called(cid), cid, path.join("/"));
      if (turn !== this.#turn) return;
      this.#on = found;
      this.#name = path.at(-1) ?? this.#called(cid);
      byId("look-status").textContent = "";
      this.#facts(found);
      byId("look-body").replaceChildren(...body);
    } catch (error) {
      if (turn !== this.#turn) return;
      byId("look-status").textContent = "";
      byId("look-error").textContent = /** @type {Error} */ (error).message;
    }
  }

  /** What this person calls a CID. @param {string} cid */
  #called(cid) {
    return this.kept.of(cid)?.name || nameOf(cid) || short(cid);
  }

  /** @param {string} cid @param {string[]} path */
  #crumbs(cid, path) {
    const all = [this.#called(cid), ...path];
    return all.map((name, at) => {
      const last = at === all.length - 1;
      const href = filesUrl(cid, path.slice(0, at).join("/"));
      return el("li", {}, last ? el("span", { ariaCurrent: "page" }, name) : el("a", { href }, name));
    });
  }

  /** @param {Found} found */
  #facts(found) {
    const kinds = { file: "file", folder: "folder", symlink: "link" };
    byId("look-facts").replaceChildren(el("span", { class: "tag" }, kinds[found.kind]), found.size === null ? "" : el("span", {}, size(found.size)), copyable(found.cid, "its CID"));
    byId("look-save").hidden = found.kind !== "file";
    byId("look-found").hidden = false;
    this.#pinned();
  }

  #pinned() {
    if (!this.#on) return;
    const pin = this.kept.of(this.#on.cid);
    byId("look-pin").textContent = pin ? "Unpin" : "Pin";
    byId("look-kept").textContent = pin ? "pinned: kept here" : "";
    const copies = this.kept.copiesOf(this.#on.cid);
    byId("look-spread").hidden = !pin && !copies;
    const many = byId("look-copies");
    if (copies && copies.copies >= many.length) many.append(el("option", { value: `${copies.copies}` }, `${copies.copies} others`)); // more than are offered here
    many.value = `${copies?.copies ?? 0}`;
    byId("look-held").textContent = !copies ? "" : `kept by ${copies.holders.length} of ${copies.copies}${copies.missing ? ": more are asked as they come; a member offers room by promising you “store”" : ""}`;
  }

  async #pin() {
    const found = this.#on;
    if (!found) return;
    byId("look-pin").disabled = true;
    try {
      if (this.kept.of(found.cid)) await this.kept.unpin(found.cid);
      else await this.kept.pin(found.cid, this.#name);
    } catch (error) {
      byId("look-error").textContent = /** @type {Error} */ (error).message;
    }
    byId("look-pin").disabled = false;
  }

  async #copy() {
    const found = this.#on;
    if (!found) return;
    byId("look-held").textContent = "asking";
    byId("look-error").textContent = "";
    try {
      await this.kept.spread(found.cid, Number(byId("look-copies").value));
    } catch (error) {
      byId("look-error").textContent = /** @type {Error} */ (error).message;
      this.#pinned();
    }
  }

  // -- what it is --------------------------------------------------------------------------------------

  /** @param {Found} found @param {string} name @param {string} root @param {string} path @returns {Promise<Node[]>} */
  async #body(found, name, root, path) {
    if (found.kind === "symlink") return [el("p", {}, "A link to ", el("code", {}, found.target ?? ""), "; it is not followed here.")];
    if (found.kind === "folder") return this.#folder(await this.grid.ls(found.cid), root, path, found.cid);
    return [await this.#file(found, name)];
  }

  /** @param {Entry[]} entries @param {string} root @param {string} path @param {string} cid @returns {Node[]} */
  #folder(entries, root, path, cid) {
    if (!entries.length) return [el("p", { class: "hint" }, "An empty folder.")];
    entries.sort((one, other) => Number(other.kind === "folder") - Number(one.kind === "folder") || COLLATOR.compare(one.name, other.name));
    const names = new Set(entries.map(({ name }) => name));
    const app = names.has("app.json") && names.has("index.html") ? [el("p", {}, el("a", { class: "button", href: `#/app/${cid}` }, "Open it as an app"))] : [];
    const rows = el("tbody", {});
    const more = el("button", { class: "small", type: "button" });
    const show = () => {
      const at = rows.children.length;
      rows.append(...entries.slice(at, at + PAGE).map((entry) => row(entry, root, path)));
      const rest = entries.length - rows.children.length;
      more.hidden = rest <= 0;
      more.textContent = `Show ${Math.min(PAGE, rest)} more of ${rest}`;
    };
    more.addEventListener("click", show);
    show();
    const head = el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Name"), el("th", { scope: "col" }, "Size"), el("th", { scope: "col" }, "Kind")));
    return [...app, el("table", { class: "listing" }, el("caption", { class: "under" }, `${entries.length} entries`), head, rows), more];
  }

  /** @param {Found} found @param {string} name */
  async #file(found, name) {
    const whole = found.size ?? 0;
    const drawn = isSvg(name, whole);
    const first = await this.#begin(found.cid, drawn ? whole : TEXT_BYTES);
    const type = imageType(first);
    if (drawn && asText(first) !== null) return this.#picture(svgUrl(first), name);
    if (type && whole <= IMAGE_BYTES) {
      const bytes = first.length >= whole ? first : await this.grid.get(found.cid);
      const url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (bytes)], { type }));
      this.#urls.push(url);
      return this.#picture(url, name);
    }
    const text = type ? null : asText(first, whole);
    if (text === null) return el("p", { class: "hint" }, type ? "A picture too large to show; save it to look at it." : "Not text; save it to look at it.");
    return whole ? el("pre", { tabIndex: 0, ariaLabel: name }, text) : el("p", { class: "hint" }, "An empty file.");
  }

  /** @param {string} src @param {string} name */
  #picture(src, name) {
    const picture = el("img", { src, alt: `The picture ${name}` });
    picture.addEventListener("error", () => picture.replaceWith(el("p", { class: "hint" }, "It looks like a picture, but this browser cannot show it.")));
    return picture;
  }

  /** How a file begins: at least so many bytes of it, if it has them. @param {string} cid @param {number} bytes */
  async #begin(cid, bytes) {
    const reader = this.grid.stream(cid).getReader();
    /** @type {Uint8Array[]} */
    const parts = [];
    let length = 0;
    for (let { done, value } = await reader.read(); !done && value; { done, value } = await reader.read()) {
      parts.push(value);
      length += value.length;
      if (length >= bytes) break;
    }
    reader.cancel().catch(() => {});
    return new Uint8Array(await new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer());
  }

  // -- saving ------------------------------------------------------------------------------------------

  /** The file to the disk: straight there where the browser can, else by way of its own store of blobs. */
  async #save() {
    const [found, name] = [this.#on, this.#name];
    if (!found) return;
    byId("look-save").disabled = true;
    try {
      await this.#saved(found, name);
      byId("look-status").textContent = "";
    } catch (error) {
      const { name: kind, message } = /** @type {Error} */ (error);
      byId("look-status").textContent = "";
      if (kind !== "AbortError") byId("look-error").textContent = message;
    }
    byId("look-save").disabled = false;
  }

  /** @param {Found} found @param {string} name */
  async #saved(found, name) {
    let done = 0;
    const watched = new TransformStream({
      transform: (piece, to) => {
        done += piece.length;
        byId("look-status").textContent = `${size(done)} of ${size(found.size ?? done)}`;
        to.enqueue(piece);
      },
    });
    const stream = this.grid.stream(found.cid).pipeThrough(watched);
    const blob = await new Response(stream, { headers: { "content-type": "application/octet-stream" } }).blob();
    const url = URL.createObjectURL(blob);
    el("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

/** One entry of a folder. @param {Entry} entry @param {string} root @param {string} path */
function row(entry, root, path) {
  const leads = entry.kind === "symlink" ? el("span", { class: "hint" }, ` → ${entry.target}`) : null;
  const name = entry.kind === "unknown" ? el("span", {}, entry.name) : el("a", { href: filesUrl(root, `${path}/${entry.name}`) }, entry.name);
  const icon = svg("svg", { viewBox: "0 0 20 20", width: 18, height: 18, class: `icon ${entry.kind}`, "aria-hidden": "true" }, svg("path", { d: PATHS[entry.kind] }));
  const kinds = { file: "file", folder: "folder", symlink: "link", unknown: "not here" };
  return el("tr", {}, el("td", {}, el("span", { class: "name" }, icon, el("span", {}, name, leads))), el("td", {}, size(entry.size)), el("td", {}, kinds[entry.kind]));
}
