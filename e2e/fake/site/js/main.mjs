import { twice } from '../lib/twice.mjs';
import{grid}from"../grid.js";
export * from "../lib/twice.mjs";
/** @typedef {import("./main.mjs").Nothing} Nothing */
const later = await import("../lib/later.mjs");
const found = {};
const tries = {
  parent: () => parent.document.title,
  storage: () => localStorage.length,
  fetch: () => fetch("/healthz"),
  eval: () => eval("1"),
  socket: () => new Promise((go, stop) => { const s = new WebSocket(`ws://${new URL(document.baseURI).host}/grid`); s.onopen = go; s.onerror = () => stop({name: "refused"}); }),
  blob: () => import(URL.createObjectURL(new Blob(["export default 1"], {type: "text/javascript"}))),
  data: () => import("data:text/javascript,1"),
  nonsense: () => grid.get("x"),
};
for (const [name, act] of Object.entries(tries)) {
  try { await act(); found[name] = "done"; } catch (error) { found[name] = typeof error.code === "string" ? error.code : error.name; }
}
const image = new Image();
image.src = new URL("../dot.png", import.meta.url);
await image.decode();
document.body.dataset.found = JSON.stringify({
  ...found, order: [...order, twice(21), later.word, later.again], image: image.naturalWidth,
  dot: document.getElementById("dot").naturalWidth, set: document.getElementById("set").naturalWidth,
  out: document.getElementById("out").naturalWidth, origin: self.origin,
  width: getComputedStyle(written).width, height: getComputedStyle(written).height,
  color: getComputedStyle(written).color, background: getComputedStyle(document.body).backgroundImage.slice(0, 14),
});
