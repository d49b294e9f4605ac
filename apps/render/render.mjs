// @ts-check
/** An SVG in, a PNG out: resvg runs on the node of whoever opened this app. */
import { grid } from "./grid.js";

const SAMPLE = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 200">
  <defs>
    <linearGradient id="sky" x2="0" y2="1">
      <stop stop-color="#14235e"/><stop offset="1" stop-color="#e88a5b"/>
    </linearGradient>
  </defs>
  <rect width="320" height="200" fill="url(#sky)"/>
  <circle cx="214" cy="118" r="34" fill="#ffd9a0"/>
  <path d="M0 140 64 84l46 44 40-30 70 66H0z" fill="#27407f"/>
  <path d="M80 200 176 116l56 48 34-26 54 46v16z" fill="#101c47"/>
  <g fill="#fff">
    <circle cx="52" cy="36" r="1.6"/><circle cx="104" cy="22" r="1.2"/>
    <circle cx="168" cy="44" r="1.4"/><circle cx="262" cy="30" r="1.8"/>
  </g>
</svg>
`;

const SVG_MAX = 16 * 1024 * 1024;

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);
const source = byId("source");
const drop = byId("drop");
let url = "";
let name = "drawing";

source.value = SAMPLE;
byId("go").addEventListener("click", render);
byId("file").addEventListener("change", (/** @type {any} */ { target }) => target.files[0] && take(target.files[0]));
drop.addEventListener("dragover", (/** @type {DragEvent} */ event) => (event.preventDefault(), drop.classList.add("over")));
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (/** @type {DragEvent} */ event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (file) take(file);
});

/** @param {File} file */
async function take(file) {
  if (file.size > SVG_MAX) return say(`${file.name} is larger than ${SVG_MAX / 2 ** 20} MiB; a smaller drawing is needed.`, true);
  name = file.name.replace(/\.svgz?$/i, "");
  source.value = await file.text();
  await render();
}

/** @param {string} text @param {boolean} [bad] */
function say(text, bad = false) {
  byId("status").className = bad ? "bad" : "";
  byId("status").textContent = text;
}

async function render() {
  byId("go").disabled = true;
  say("Rendering");
  const started = performance.now();
  try {
    const width = Math.min(Math.max(Number(byId("width").value) || 640, 1), 8000);
    const done = await grid.run(
      { handler: "resvg", args: ["--width", `${width}`, "in.svg", "-c"], files: { "in.svg": source.value } },
      ({ phase }) => say({ fetch: "Fetching the renderer", compile: "Compiling the renderer, once", run: "Rendering" }[/** @type {string} */ (phase)] ?? phase),
    );
    if (done.exit !== 0) throw new Error(new TextDecoder().decode(done.stderr).trim() || `resvg ended with exit code ${done.exit}`);
    show(done, performance.now() - started);
  } catch (error) {
    say(`Not rendered: ${/** @type {Error} */ (error).message}`, true);
  } finally {
    byId("go").disabled = false;
  }
}

/** @param {any} done @param {number} ms */
function show(done, ms) {
  URL.revokeObjectURL(url);
  url = URL.createObjectURL(new Blob([done.stdout], { type: "image/png" }));
  byId("image").src = byId("save").href = url;
  byId("image").hidden = byId("save").hidden = false;
  byId("empty").hidden = true;
  say(done.cached ? `Known already, in ${Math.round(ms)} ms: nobody rendered it again.` : `Rendered on this node in ${Math.round(ms)} ms.`);
  byId("save").download = `${name}.png`;
  const facts = { result: done.result, by: done.by, receipt: done.receipt };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value })]));
}
