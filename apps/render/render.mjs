// @ts-check
/** An SVG in, a PNG out: resvg runs on the node of whoever opened this app. */
import { grid } from "./grid.js";

const SAMPLE = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 320 200">
  <rect width="320" height="200" fill="#1d3b34"/>
  <g fill="none" stroke="#f3efe4" stroke-width="3" opacity=".85">
    <path d="M60 50h200v100H60zM60 100h200M160 50v100"/>
    <path d="M60 50l200 100M260 50L60 150"/>
  </g>
  <g fill="#ff7a45">
    <circle cx="60" cy="50" r="10"/><circle cx="260" cy="50" r="10"/>
    <circle cx="60" cy="150" r="10"/><circle cx="260" cy="150" r="10"/>
    <circle cx="160" cy="100" r="18"/>
  </g>
</svg>
`;

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);
const source = byId("source");
const drop = byId("drop");
let url = "";

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
  source.value = await file.text();
  await render();
}

async function render() {
  const status = byId("status");
  byId("go").disabled = true;
  status.className = "";
  status.textContent = "Rendering";
  const started = performance.now();
  try {
    const width = Math.min(Math.max(Number(byId("width").value) || 640, 1), 8000);
    const done = await grid.run(
      { handler: "resvg", args: ["--width", `${width}`, "in.svg", "-c"], files: { "in.svg": source.value } },
      ({ phase }) => (status.textContent = { fetch: "Fetching the renderer", compile: "Compiling the renderer, once", run: "Rendering" }[/** @type {string} */ (phase)] ?? phase),
    );
    if (done.exit !== 0) throw new Error(new TextDecoder().decode(done.stderr).trim() || `resvg ended with exit code ${done.exit}`);
    show(done, performance.now() - started);
  } catch (error) {
    status.className = "bad";
    status.textContent = `Not rendered: ${/** @type {Error} */ (error).message}`;
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
  byId("status").textContent = `${Math.round(ms)} ms, ${done.cached ? "remembered: nobody rendered it again" : "rendered on this node"}.`;
  const facts = { result: done.result, by: done.by, receipt: done.receipt };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [Object.assign(document.createElement("dt"), { textContent: name }), Object.assign(document.createElement("dd"), { textContent: value })]));
}
