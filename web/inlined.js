// @ts-check
"use strict";
/**
 * Builds an app's page out of files handed to it, inside the app's own frame: there is no server behind this document.
 *
 * The page around it (inline.mjs) writes this script into the frame's srcdoc, by the only inline script its policy
 * allows. The frame is sandboxed: an opaque origin, so nothing here, and nothing of the app, is in the page's origin.
 *
 * Own files are named in the entry page (src, href of link and of SVG, srcset, poster), in style sheets (url(), @import)
 * and in modules (import and export … from "./x", import("./x"), new URL("./x", import.meta.url)): each becomes a blob:
 * URL of this frame. Not seen: names put together while the app runs, and modules that import each other in a circle.
 * As on a node there is no fetch, no inline script, no base and no refresh.
 */
(() => {
  /** @typedef {{path: string, type: string, bytes: Uint8Array<ArrayBuffer>}} File */
  /** @type {Map<string, File>} */
  const files = new Map();
  /** @type {Map<string, string>} */
  const urls = new Map();
  /** Being made: who names one of these goes round in a circle. @type {Set<string>} */
  const making = new Set();

  addEventListener("message", function take({ data, source }) {
    if (source !== parent || data?.type !== "promisegrid-inline" || self.origin !== "null") return;
    removeEventListener("message", take);
    for (const file of data.files) files.set(file.path, file);
    build(data.entry).catch((error) => parent.postMessage({ type: "promisegrid-inline", failed: `${error}` }, "*"));
  });
  parent.postMessage({ type: "promisegrid-inline" }, "*");

  /** The file of this app that a reference means, null when it means none. @param {string} reference @param {string} from */
  function own(reference, from) {
    if (/^([a-z][a-z0-9+.-]*:|[/#]|$)/i.test(reference)) return null;
    const url = new URL(reference, `http://app/${from}`);
    let path;
    try {
      path = decodeURIComponent(url.pathname).slice(1);
    } catch {
      return null;
    }
    return url.host === "app" && files.has(path) && !making.has(path) ? { path, hash: url.hash } : null;
  }

  /** What to write in a reference's place: itself, if it means no file of this app. @param {string} reference @param {string} from */
  function placed(reference, from) {
    const found = own(reference.trim(), from);
    return found ? url(found.path) + found.hash : reference;
  }

  /** @param {string} path */
  function url(path) {
    let made = urls.get(path);
    if (made) return made;
    const { type, bytes } = /** @type {File} */ (files.get(path));
    making.add(path);
    const rewrite = type.startsWith("text/javascript") ? modules : type.startsWith("text/css") ? styles : null;
    made = URL.createObjectURL(new Blob([rewrite ? rewrite(text(bytes), path) : bytes], { type }));
    making.delete(path);
    urls.set(path, made);
    return made;
  }

  /** @param {Uint8Array} bytes */
  const text = (bytes) => new TextDecoder().decode(bytes);

  /** @param {string} source @param {string} from */
  function modules(source, from) {
    return source
      .replace(/(\bfrom\s*|\bimport\s*\(?\s*)(["'])(\.{1,2}\/[^"'\n]*)\2/g, (_, head, quote, name) => head + quote + placed(name, from) + quote)
      .replace(/(\bnew\s+URL\s*\(\s*)(["'])([^"'\n]+)\2\s*,\s*import\.meta\.url\s*(?=\))/g, (whole, head, quote, name) => (own(name, from) ? head + quote + placed(name, from) + quote : whole));
  }

  /** @param {string} source @param {string} from */
  function styles(source, from) {
    return source
      .replace(/(\burl\(\s*)(["']?)([^"')]+)\2(?=\s*\))/g, (_, head, quote, name) => head + quote + placed(name, from) + quote)
      .replace(/(@import\s+)(["'])([^"'\n]+)\2/g, (_, head, quote, name) => head + quote + placed(name, from) + quote);
  }

  /** @param {string} entry */
  async function build(entry) {
    const made = new DOMParser().parseFromString(text(/** @type {File} */ (files.get(entry)).bytes), "text/html");
    for (const gone of made.querySelectorAll("base, meta[http-equiv], link[rel~=preload], link[rel~=modulepreload]")) gone.remove();
    for (const [name, where] of Object.entries({ src: "[src]", poster: "[poster]", href: "link[href], svg [href]" })) {
      for (const one of made.querySelectorAll(where)) one.setAttribute(name, placed(one.getAttribute(name) ?? "", entry));
    }
    for (const one of made.querySelectorAll("[srcset]")) {
      const parts = (one.getAttribute("srcset") ?? "").split(",").map((part) => part.trim().split(/\s+/));
      one.setAttribute("srcset", parts.map(([name, ...size]) => [placed(name, entry), ...size].join(" ")).join(", "));
    }
    for (const one of made.querySelectorAll("style")) one.replaceWith(sheet(styles(one.textContent ?? "", entry), one.media));
    const styled = [...made.querySelectorAll("[style]")].map((one) => /** @type {const} */ ([one, styles(one.getAttribute("style") ?? "", entry)]));
    for (const [one] of styled) one.removeAttribute("style");
    document.replaceChild(document.adoptNode(made.documentElement), document.documentElement);
    for (const [one, css] of styled) /** @type {HTMLElement} */ (one).style.cssText = css;
    await Promise.all([...document.querySelectorAll("script[src]")].map(started));
    document.dispatchEvent(new Event("DOMContentLoaded", { bubbles: true })); // the document itself was there before
    dispatchEvent(new Event("load"));
  }

  /** A style sheet of its own: the page's policy lets none be written into a page. @param {string} css @param {string} media */
  function sheet(css, media) {
    const href = URL.createObjectURL(new Blob([css], { type: "text/css" }));
    return Object.assign(document.createElement("link"), { rel: "stylesheet", href, media });
  }

  /** A parsed script does not run: one like it does, in its order. @param {Element} old @returns {Promise<unknown>} */
  function started(old) {
    const script = document.createElement("script");
    for (const { name, value } of old.attributes) script.setAttribute(name, value);
    script.async = old.hasAttribute("async");
    const over = new Promise((resolve) => (script.onload = script.onerror = resolve));
    old.replaceWith(script);
    return over;
  }
})();
