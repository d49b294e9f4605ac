// @ts-check
/** Small things every panel needs: making elements, showing names, sizes and times. No state. */
export { number, size } from "./units.mjs";

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

/**
 * An element: `el("p", {class: "hint"}, "text", child)`; a function property is a listener. Text is never markup.
 * @param {string} tag @param {Record<string, any>} [props] @param {...(Node | string | null | undefined | false)} children @returns {any}
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") made.addEventListener(name.replace(/^on/, ""), value);
    else if (name in made && name !== "list") /** @type {any} */ (made)[name] = value;
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false).map((child) => /** @type {any} */ (child)));
  return made;
}

/** The beginning and the end of a long name. @param {string | null} name */
export function short(name) {
  if (!name) return "—";
  const bare = name.replace(/^did:key:/, "");
  return bare.length > 20 ? `${bare.slice(0, 8)}…${bare.slice(-6)}` : bare;
}

/** Where the Files view shows content. @param {string} cid @param {string} [path] */
export const filesUrl = (cid, path = "") => `#/files/${[cid, ...path.split("/")].filter(Boolean).map(encodeURIComponent).join("/")}`;

/** A name that is copied by a click. @param {string | null} name @param {string} what */
export function copyable(name, what) {
  if (!name) return el("span", {}, "—");
  const button = el("button", { class: "copy", type: "button", title: name, ariaLabel: `Copy ${what} ${name}` }, short(name));
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(name).then(
      () => (button.textContent = "copied"),
      () => (button.textContent = name),
    );
    setTimeout(() => (button.textContent = short(name)), 1500);
  });
  return button;
}

/** @param {number} ms */
export function took(ms) {
  if (ms < 1) return "< 1 ms";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

const SVG = "http://www.w3.org/2000/svg";

/** An SVG element. @param {string} tag @param {Record<string, string | number>} props @param {...Node} children */
export function svg(tag, props, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) made.setAttribute(name, `${value}`);
  made.append(...children);
  return made;
}

/** A picture of a name, the same everywhere: a plate of 5 × 5 holes, punched in symmetry. @param {string} name @param {number} [side] */
export function glyph(name, side = 20) {
  const bits = hash(name);
  const hue = hueOf(name);
  const plate = svg("svg", { viewBox: "0 0 24 24", width: side, height: side, class: "glyph", "aria-hidden": "true" });
  plate.append(svg("rect", { width: 24, height: 24, fill: `hsl(${hue} 48% 34%)` }));
  for (let at = 0; at < 15; at++) {
    const kind = (bits[1] >>> (2 * at)) & 3;
    const [column, row] = [at % 3, Math.floor(at / 3)];
    const fill = kind === 3 ? `hsl(${(hue + 150) % 360} 75% 72%)` : "#fff";
    const radius = [0.55, 1.1, 1.75, 1.75][kind];
    for (const x of new Set([column, 4 - column])) plate.append(svg("circle", { cx: 4 + x * 4, cy: 4 + row * 4, r: radius, fill }));
  }
  return plate;
}

/** The colour of that picture's plate, in degrees. @param {string} name */
export function hueOf(name) {
  const bits = hash(name);
  return (bits[0] ^ bits[3]) % 360;
}

/** Four 32-bit numbers of a text; for pictures only. @param {string} text */
function hash(text) {
  const state = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  for (let at = 0; at < text.length; at++) {
    for (let lane = 0; lane < 4; lane++) state[lane] = Math.imul(state[lane] ^ (text.charCodeAt(at) + lane * 131), [0x01000193, 0x5bd1e995, 0x9e3779b1, 0x85ebca77][lane]) >>> 0;
  }
  return state.map((word) => (word ^ (word >>> 15) ^ (word >>> 7)) >>> 0);
}

/** A did with its picture, copied by a click. @param {string} did @param {string} [what] */
export const named = (did, what = "name") => el("span", { class: "name" }, glyph(did), copyable(did, what));

/** A duration on a logarithmic scale, 1 ms to 100 s. @param {number} ms */
export function durationBar(ms) {
  const share = Math.min(1, Math.max(0.02, Math.log10(Math.max(ms, 1)) / 5));
  return svg("svg", { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { width: 100, height: 4 }), svg("rect", { width: 100 * share, height: 4 }));
}

const NAMES = "promisegrid.names";

/** What a person called the content with this CID; kept in this browser. @param {string} cid @returns {string | null} */
export const nameOf = (cid) => stored(NAMES)[cid] ?? null;

/** @param {string} cid @param {string} name */
export function rememberName(cid, name) {
  const { [cid]: _, ...others } = stored(NAMES);
  keep(NAMES, Object.fromEntries([[cid, name.slice(0, 80)], ...Object.entries(others)].slice(0, 200)));
}

/** An object kept in this browser; empty when there is none. @param {string} key @returns {any} */
export function stored(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "{}") ?? {};
  } catch {
    return {};
  }
}

/** @param {string} key @param {any} value */
export function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // a private window: it is forgotten with it
  }
}

/** Files dropped on a place. @param {HTMLElement} place @param {(files: File[]) => void} take */
export function dropzone(place, take) {
  const mark = (/** @type {boolean} */ on) => place.classList.toggle("over", on);
  place.addEventListener("dragover", (event) => (event.preventDefault(), mark(true)));
  place.addEventListener("dragleave", () => mark(false));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length) take(files);
  });
}

/** A command line as a person types it: quotes keep spaces. @param {string} line */
export function words(line) {
  const found = [];
  for (const match of line.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+)/g)) {
    found.push(match[1] !== undefined ? match[1].replace(/\\(.)/g, "$1") : (match[2] ?? match[3]));
  }
  return found;
}
