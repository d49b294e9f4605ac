// @ts-check
/**
 * An app without a node: its verified files are handed to a frame that builds the page of them itself (inlined.js).
 *
 * Promises: the frame is as sealed off as the one a node serves: sandboxed without `allow-same-origin`, and its policy
 * that of a node's /app, but for `blob:` where the folder's address would stand; what no policy forbids (preconnect) only
 * browsers with Connection-Allowlist keep from it, which it inherits from this page. Only the frame made here is given
 * anything, only while its origin is opaque, and the files only once.
 * Does not know: grants and what the app may ask (apps.mjs, app-door.mjs).
 */
import { NodeError } from "./rpc.mjs";
import { size } from "./units.mjs";

/** What a frame is made of passes through memory at once. */
const BYTES_MAX = 64 * 1024 * 1024;
const FILES_MAX = 2_000;
/** A frame that has not asked for its files by then never will. */
const GREET_MS = 10_000;
const SERVED_MS = 3_000;
/** Media types of what a page is made of, as a node says them. Files of no such type are not handed over: a page may fetch nothing. */
const TYPES = {
  html: "text/html; charset=utf-8", htm: "text/html; charset=utf-8", css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8", mjs: "text/javascript; charset=utf-8", svg: "image/svg+xml",
  png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp", avif: "image/avif", ico: "image/x-icon",
  woff: "font/woff", woff2: "font/woff2", ttf: "font/ttf", otf: "font/otf",
  mp3: "audio/mpeg", ogg: "audio/ogg", wav: "audio/wav", mp4: "video/mp4", webm: "video/webm",
};

/** @typedef {{path: string, type: string, bytes: Uint8Array}} File */
/** @typedef {import("./client.mjs").Client} Client */

/** Whether the node behind this page serves a path; a node that is silent does not. @param {string} path */
export async function isServed(path) {
  const asked = { signal: AbortSignal.timeout(SERVED_MS) };
  return fetch(path, asked).then(({ ok }) => ok, () => false);
}

/** What every app without a node needs, fetched while there is one. */
export class Inliner {
  #client;
  #own;

  /** @param {Client} client @param {string} base where the files of this page are */
  constructor(client, base) {
    this.#client = client;
    const own = (/** @type {string} */ name) => fetch(`${base}/${name}`).then((answer) => (answer.ok ? answer.text() : null), () => null);
    this.#own = Promise.all([own("inlined.js"), own("grid.js")]);
  }

  /** Make a frame show an app's own copy. Rejects with one sentence. @param {HTMLIFrameElement} frame @param {string} cid @param {string} entry @param {(text: string) => void} onfailed */
  async fill(frame, cid, entry, onfailed) {
    const [boot, grid] = await this.#own;
    if (boot === null || grid === null) throw new NodeError("closed", "The node is gone, and this tab came up too late to show apps without it. Reload once it is back.");
    const found = await this.#files(cid);
    if (!found.some(({ path }) => path === entry)) throw new NodeError("bad_app", `The app lacks its own page, ${entry}.`);
    const files = [...found.filter(({ path }) => path !== "grid.js"), { path: "grid.js", type: TYPES.js, bytes: new TextEncoder().encode(grid) }];
    const greeted = (/** @type {MessageEvent} */ { source, origin, data }) => {
      if (!source || source !== frame.contentWindow || origin !== "null" || data?.type !== "promisegrid-inline") return;
      if (typeof data.failed === "string") return onfailed(`This app cannot be shown without its node: ${data.failed.slice(0, 200)}`);
      frame.contentWindow?.postMessage({ type: "promisegrid-inline", entry, files: files.splice(0) }, "*");
    };
    addEventListener("message", greeted);
    setTimeout(() => removeEventListener("message", greeted), GREET_MS);
    frame.srcdoc = await written(boot);
  }

  /** All files of a folder that a page can be made of. @param {string} root @returns {Promise<File[]>} */
  async #files(root) {
    /** @type {File[]} */
    const files = [];
    let left = BYTES_MAX;
    const folders = [{ cid: root, path: "" }];
    for (let folder = folders.shift(); folder; folder = folders.shift()) {
      for (const { name, cid, kind, size: bytes } of await this.#client.call("ls", folder.cid)) {
        const path = folder.path + name;
        if (kind === "folder" || kind === "directory") folders.push({ cid, path: `${path}/` });
        const type = /** @type {Record<string, string>} */ (TYPES)[name.split(".").at(-1).toLowerCase()];
        if (kind !== "file" || !type) continue;
        left -= bytes;
        if (left < 0 || files.length + folders.length > FILES_MAX) throw new NodeError("too_large", `Without its node an app is shown up to ${size(BYTES_MAX)} and ${FILES_MAX} files; this one has more.`);
        files.push({ path, type, bytes: await this.#client.call("get", cid) });
      }
    }
    return files;
  }
}

/** The frame's document: a policy and one script, which is all that may run as written. @param {string} boot */
async function written(boot) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(boot)));
  const hash = `'sha256-${btoa(String.fromCharCode(...digest))}'`;
  const policy =
    `default-src 'none'; script-src ${hash} 'wasm-unsafe-eval' blob:; worker-src blob:; connect-src 'none'; style-src blob: 'unsafe-inline'; ` +
    "img-src blob: data:; media-src blob: data:; font-src blob:; frame-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'";
  return `<!doctype html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${policy}"><meta name="referrer" content="no-referrer"><meta http-equiv="x-dns-prefetch-control" content="off"><script>${boot}</script>`;
}
