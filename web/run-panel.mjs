// @ts-check
/** "Run a program": from what a person chose to a task, and from its result to something to look at. */
import { looksLikeCid } from "./api.mjs";
import { byId, copyable, dropzone, el, short, size, took, words } from "./ui.mjs";

const SHOWN_TEXT = 64 * 1024;
const PHASES = { fetch: "Fetching", compile: "Compiling", run: "Running", store: "Storing" };
const IMAGES = [
  { type: "image/png", magic: [0x89, 0x50, 0x4e, 0x47] },
  { type: "image/jpeg", magic: [0xff, 0xd8, 0xff] },
  { type: "image/gif", magic: [0x47, 0x49, 0x46, 0x38] },
];

/** @typedef {import("./api.mjs").PromiseGrid} PromiseGrid */

/** Wire the form up. @param {PromiseGrid} grid @param {() => string} me this node's did */
export function runPanel(grid, me) {
  /** @type {File | null} */
  let program = null;
  /** @type {File[]} */
  let files = [];
  /** @type {AbortController | null} */
  let running = null;
  /** @type {string[]} object URLs of the result on show */
  const urls = [];
  const code = byId("code");
  const list = byId("files-list");

  const choose = (/** @type {File} */ file) => {
    program = file;
    code.value = `${file.name} (${size(file.size)})`;
  };
  const add = (/** @type {File[]} */ more) => {
    files = [...files, ...more];
    showFiles();
  };
  const showFiles = () => {
    const chips = files.map((file) => el("span", {}, `${file.name} · ${size(file.size)} `, el("button", { class: "copy", type: "button", ariaLabel: `Remove ${file.name}`, onclick: () => ((files = files.filter((other) => other !== file)), showFiles()) }, "×")));
    list.replaceChildren(...(chips.length ? chips : ["none — drop some here"]));
  };

  code.addEventListener("input", () => (program = null));
  byId("code-file").addEventListener("change", (/** @type {any} */ { target }) => target.files[0] && choose(target.files[0]));
  byId("files").addEventListener("change", (/** @type {any} */ { target }) => add([...target.files]));
  dropzone(byId("code-field"), ([file]) => choose(file));
  dropzone(byId("files-field"), add);
  byId("stop").addEventListener("click", () => running?.abort());

  byId("run-form").addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    busy(true);
    const started = performance.now();
    try {
      const done = await grid.run(task(running.signal));
      show(done, performance.now() - started);
    } catch (error) {
      byId("result").replaceChildren(refusal(/** @type {any} */ (error)));
    } finally {
      running = null;
      busy(false);
    }
  });

  /** @param {AbortSignal} signal @returns {import("./api.mjs").Task} */
  function task(signal) {
    const named = code.value.trim();
    if (!program && !named) throw problem("Choose a program first: drop a .wasm file, or paste its CID.");
    if (!program && !looksLikeCid(named)) throw problem(`“${named.slice(0, 60)}” is not a CID. A CID looks like bafkrei… or Qm…; copy it whole, or choose a file.`);
    const asInput = byId("as").value === "stdin";
    if (asInput && files.length > 1) throw problem("Standard input is one file; give several as a folder.");
    const func = byId("func").value.trim();
    return {
      code: program ?? named,
      func: func || undefined,
      args: func && func !== "_start" ? words(byId("args").value).map(parsed) : words(byId("args").value),
      files: !asInput && files.length ? files : undefined,
      stdin: asInput ? files[0] : undefined,
      on: byId("on").value || undefined,
      signal,
      onprogress: (/** @type {any} */ detail) => progress(detail),
    };
  }

  /** @param {boolean} on */
  function busy(on) {
    byId("go").disabled = on;
    byId("stop").hidden = !on;
    byId("run-progress").hidden = !on;
    byId("run-progress").removeAttribute("value");
    byId("run-status").textContent = on ? "Starting" : "";
    if (on) byId("result").replaceChildren();
    for (const url of on ? urls.splice(0) : []) URL.revokeObjectURL(url);
  }

  /** @param {{phase: string, done: number, total: number | null}} detail */
  function progress({ phase, done, total }) {
    const bar = byId("run-progress");
    if (total && phase !== "compile" && phase !== "run") bar.value = done / total;
    else bar.removeAttribute("value");
    const amount = phase === "fetch" || phase === "store" ? ` ${size(done)}${total ? ` of ${size(total)}` : ""}` : "";
    byId("run-status").textContent = `${PHASES[/** @type {keyof typeof PHASES} */ (phase)] ?? phase}${amount}`;
  }

  /** @param {any} done @param {number} ms */
  async function show(done, ms) {
    const ok = done.exit === null || done.exit === 0;
    const where = done.by === me() ? "this tab" : short(done.by);
    const head = el(
      "p",
      { class: ok ? "verdict" : "verdict bad" },
      el("b", {}, done.exit === null ? "Value" : ok ? "Done" : `Ended with exit code ${done.exit}`),
      el("span", {}, `${took(ms)} · `, done.cached ? "remembered from " : "ran on ", where),
      el("span", { class: done.cached ? "tag hot" : "tag" }, done.cached ? "nobody ran it again" : "fresh"),
    );
    const parts = [head];
    if (done.exit === null) parts.push(shown("value", new TextEncoder().encode(JSON.stringify(done.value, null, 1) ?? "nothing")));
    if (done.stdout.length) parts.push(shown("output", done.stdout));
    if (done.stderr.length) parts.push(shown("messages", done.stderr));
    if (done.files) parts.push(...(await changed(done.files)));
    parts.push(
      el("dl", { class: "facts" }, ...facts("result", done.result), ...facts("task", done.task), ...facts("receipt", done.receipt), el("dt", {}, "by"), el("dd", {}, copyable(done.by, "executor"))),
    );
    byId("result").replaceChildren(...parts);
  }

  /** @param {string} folder */
  async function changed(folder) {
    const nodes = await grid.tree(folder).catch(() => []);
    const given = new Set(files.map((file) => file.name));
    const made = nodes.filter((/** @type {any} */ node) => node.kind === "file" && !given.has(node.path)).slice(0, 24);
    return made.map((/** @type {any} */ node) => shown(node.path, node.data));
  }

  /** Bytes as a person can look at them, and a way to keep them. @param {string} name @param {Uint8Array} bytes */
  function shown(name, bytes) {
    const image = IMAGES.find(({ magic }) => magic.every((byte, at) => bytes[at] === byte));
    const url = URL.createObjectURL(new Blob([/** @type {BlobPart} */ (bytes)], { type: image?.type ?? "application/octet-stream" }));
    urls.push(url);
    const head = el("h3", {}, name, el("span", { class: "hint" }, size(bytes.length)), el("a", { href: url, download: name.split("/").at(-1) }, "Save"));
    if (image) return el("div", { class: "shown" }, head, el("img", { src: url, alt: `What the program made: ${name}` }));
    const text = asText(bytes);
    return el("div", { class: "shown" }, head, text === null ? el("p", { class: "hint" }, "Not text.") : el("pre", { tabIndex: 0 }, text));
  }
}

/** @param {string} name @param {string} cid */
const facts = (name, cid) => [el("dt", {}, name), el("dd", {}, copyable(cid, name))];

/** @param {string} text */
const problem = (text) => Object.assign(new Error(text), { code: "usage" });

/** @param {{message: string, code?: string}} error */
const refusal = (error) => el("div", { class: "error", role: "alert" }, el("b", {}, error.code === "cancelled" ? "Stopped. " : "It did not run. "), error.message, error.code && error.code !== "usage" ? el("span", { class: "hint" }, ` (${error.code})`) : null);

/** @param {string} word */
function parsed(word) {
  try {
    return JSON.parse(word);
  } catch {
    return word;
  }
}

/** @param {Uint8Array} bytes */
function asText(bytes) {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, SHOWN_TEXT), { stream: bytes.length > SHOWN_TEXT });
    return text.includes("\0") ? null : text + (bytes.length > SHOWN_TEXT ? "\n…" : "");
  } catch {
    return null;
  }
}
