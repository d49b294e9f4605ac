// @ts-check
/** Small things every panel needs: making elements, showing names, sizes and times. No state. */

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

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const units = ["KiB", "MiB", "GiB"];
  let unit = -1;
  do (bytes /= 1024), (unit += 1);
  while (bytes >= 1024 && unit < units.length - 1);
  return `${bytes.toFixed(bytes < 10 ? 1 : 0)} ${units[unit]}`;
}

/** @param {number} ms */
export function took(ms) {
  if (ms < 1) return "< 1 ms";
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
}

/** A picture of a name: 8 × 8, symmetrical, the same everywhere. @param {HTMLCanvasElement} canvas @param {string} name */
export async function glyph(canvas, name) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(name)));
  const pen = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const hue = ((digest[0] << 8) | digest[1]) % 360;
  pen.fillStyle = `hsl(${hue} 35% 22%)`;
  pen.fillRect(0, 0, 8, 8);
  for (let at = 0; at < 32; at++) {
    if (!(digest[2 + (at >> 3)] & (1 << (at & 7)))) continue;
    pen.fillStyle = `hsl(${(hue + (digest[8 + at] % 3) * 40) % 360} 70% ${55 + (digest[8 + at] % 20)}%)`;
    const [x, y] = [at % 4, at >> 2];
    pen.fillRect(x, y, 1, 1);
    pen.fillRect(7 - x, y, 1, 1);
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
