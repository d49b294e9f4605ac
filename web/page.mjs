// @ts-check
/** The page: reads its own URL, starts the node or shares it, and puts the panels to work. */
import { PromiseGrid } from "./api.mjs";
import { Apps, showRecent } from "./apps.mjs";
import { Client } from "./client.mjs";
import { link, notice, panels } from "./panels.mjs";
import { looksLikeCid } from "./api.mjs";
import { runPanel } from "./run-panel.mjs";
import { byId, el, short, size } from "./ui.mjs";

const STATIC = new URL(".", import.meta.url).href.replace(/\/$/, "");
const join = /^#\/join\/([a-z0-9]+)(?:\/([a-z2-7]+))?$/.exec(location.hash);
const wanted = join?.[1] ?? null;

const client = new Client({
  static: STATIC,
  ws: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/grid`,
  channel: `${location.host}/grid`,
  grid: wanted ?? undefined,
  invite: join?.[2],
  url: location.origin,
});
const grid = new PromiseGrid(client, open);
const apps = new Apps(client, grid);
Object.defineProperty(globalThis, "promisegrid", { value: grid, enumerable: true });

theme();
phases();
panels(client);
runPanel(grid, () => client.node?.did ?? "");
showRecent();
client.addEventListener("ready", (event) => ready(/** @type {CustomEvent} */ (event).detail));
client.addEventListener("failed", (event) => failed(/** @type {CustomEvent} */ (event).detail));
client.addEventListener("event", (event) => heard(/** @type {CustomEvent} */ (event).detail));
addEventListener("hashchange", route);
byId("app-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const cid = byId("app-cid").value.trim().replace(/^.*#\/app\//, "");
  byId("app-error").textContent = looksLikeCid(cid) ? "" : `“${cid.slice(0, 60)}” is not the CID of an app. It looks like bafybei…; copy it whole.`;
  if (looksLikeCid(cid)) location.hash = `#/app/${cid}`;
});
route();
client.start();

/** @param {string} cid */
async function open(cid) {
  if (location.hash !== `#/app/${cid}`) history.pushState(null, "", `#/app/${cid}`);
  await apps.show(cid);
}

function route() {
  const app = /^#\/app\/([^/]+)\/?$/.exec(location.hash);
  if (!app) return apps.hide();
  apps.show(decodeURIComponent(app[1])).catch((error) => error.code === "not_granted" && notice(error.message));
}

/** The way to being a node, step by step. */
function phases() {
  const list = byId("phases");
  client.addEventListener("phase", (event) => {
    const { text, done, total } = /** @type {CustomEvent} */ (event).detail;
    if (list.lastElementChild?.dataset.text !== text) list.append(el("li", {}, text));
    list.lastElementChild.dataset.text = text;
    const bar = byId("boot-progress");
    if (total) bar.value = done / total;
    else bar.removeAttribute("value");
    if (total) list.lastElementChild.textContent = `${text} · ${size(done)} of ${size(total)}`;
  });
  client.addEventListener("role", (event) => {
    const role = /** @type {CustomEvent} */ (event).detail;
    if (!client.node && role === "follower") list.append(el("li", {}, "Another tab runs this node; sharing it"));
  });
}

/** @param {import("./rpc.mjs").Ready} node */
function ready(node) {
  byId("boot").hidden = true;
  byId("main").hidden = false;
  if (!node.kept) notice("This browser keeps nothing here (a private window?). The node works, and is gone with this tab.");
  if (wanted && node.grid && node.grid !== wanted) otherGrid(node.grid, wanted);
  if (join) history.replaceState(null, "", "#/");
}

/** @param {{message: string, code: string}} error */
function failed(error) {
  byId("link").dataset.state = "failed";
  byId("link").textContent = "stopped";
  if (byId("main").hidden) {
    byId("phases").lastElementChild?.classList.add("bad");
    byId("boot-progress").hidden = true;
    byId("boot-title").textContent = "This tab could not become a node";
  }
  const https = el("a", { href: `https://${location.host}/` }, "Open the secure page");
  notice(error.message, true, ...(error.code === "insecure" ? [https] : [el("button", { class: "small", type: "button", onclick: () => location.reload() }, "Reload")]));
}

/** @param {{kind: string, detail: any}} event */
function heard({ kind, detail }) {
  if (kind === "link") link(detail);
  if (kind === "peer" && detail.event === "down" && detail.code && detail.code !== "closed") refused(detail);
  if (kind === "fault") notice(`A fault of this node, at “${detail.where}”. It goes on; the console has the details.`, true);
}

/** @param {{code: string, reason: string}} detail */
function refused({ code, reason }) {
  if (code === "wrong_grid" && client.node?.grid) return otherGrid(client.node.grid, wanted);
  notice(`The node at ${location.host} did not take this one in: ${reason}`, true);
}

let asked = false;

/** This browser is in one grid, the node here serves another. @param {string} mine @param {string | null} theirs */
function otherGrid(mine, theirs) {
  if (asked) return;
  asked = true;
  const leave = el("button", { class: "small", type: "button" }, "Leave it and join this one");
  leave.addEventListener("click", async () => {
    await client.call("leave");
    location.reload();
  });
  notice(`This browser belongs to grid ${short(mine)}, and the node at ${location.host} serves ${theirs ? `grid ${short(theirs)}` : "another grid"}. You can stay as you are, offline from it.`, true, leave);
}

/** Light, dark, or as the system says. */
function theme() {
  const root = document.documentElement;
  const kept = localStorage.getItem("promisegrid.theme");
  if (kept) root.dataset.theme = kept;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("promisegrid.theme", root.dataset.theme);
  });
}

