// @ts-check
/** The page: reads its own URL, starts the node or shares it, and puts the panels to work. */
import { PromiseGrid } from "./api.mjs";
import { Apps, showRecent } from "./apps.mjs";
import { Client } from "./client.mjs";
import { Direct } from "./direct.mjs";
import { looksLikeCid } from "./api.mjs";
import { Files } from "./files.mjs";
import { NetView } from "./net.mjs";
import { link, notice, panels } from "./panels.mjs";
import { persistAfter } from "./persist.mjs";
import { promisesPanel } from "./promises.mjs";
import { runPanel } from "./run-panel.mjs";
import { byId, el, keep, short, size, stored } from "./ui.mjs";

const STATIC = new URL(".", import.meta.url).href.replace(/\/$/, "");
const join = /^#\/join\/([a-z0-9]+)(?:\/([a-z2-7]+))?$/.exec(location.hash);
const wanted = join?.[1] ?? null;
const joinHash = location.hash;

const client = new Client({
  static: STATIC,
  ws: `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/grid`,
  channel: `${location.host}/grid`,
  grid: wanted ?? undefined,
  invite: join?.[2],
  url: location.origin,
  direct: directly(),
});
const grid = new PromiseGrid(client, open);
const apps = new Apps(client, grid);
const files = new Files(grid, client);
const net = new NetView(grid, client);
Object.defineProperty(globalThis, "promisegrid", { value: grid, enumerable: true });

theme();
phases();
persistAfter(client);
panels(client);
runPanel(grid, client, promisesPanel(grid, client));
showRecent();
client.addEventListener("ready", (event) => ready(/** @type {CustomEvent} */ (event).detail));
client.addEventListener("failed", (event) => failed(/** @type {CustomEvent} */ (event).detail));
client.addEventListener("event", (event) => heard(/** @type {CustomEvent} */ (event).detail));
addEventListener("hashchange", route);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  byId(files.shown ? "files-title" : net.shown ? "net-title" : "run-title").focus();
});
byId("app-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => {
  event.preventDefault();
  const cid = byId("app-cid").value.trim().replace(/^.*#\/app\//, "");
  byId("app-error").textContent = looksLikeCid(cid) ? "" : `“${cid.slice(0, 60)}” is not the CID of an app. It looks like bafybei…; copy it whole.`;
  if (looksLikeCid(cid)) location.hash = `#/app/${cid}`;
});
if (location.hash.startsWith("#/join/") && !join) notice("The address does not hold a whole join link; copy it again from where you got it.", true);
route();
client.start();

/** @param {string} cid */
async function open(cid) {
  if (location.hash !== `#/app/${cid}`) history.pushState(null, "", `#/app/${cid}`);
  await apps.show(cid);
}

function route() {
  if (location.hash.startsWith("#/join/") && client.node) return location.reload();
  if (location.hash && !location.hash.startsWith("#/")) return; // a place in the page
  view();
  const app = /^#\/app\/([^/]+)\/?$/.exec(location.hash);
  if (!app) return apps.hide();
  apps.show(decodeURIComponent(app[1])).catch((error) => error.code === "not_granted" && notice(error.message));
}

/** Programs, Files or Grid, once there is a node to look at. */
function view() {
  const up = client.node !== null;
  const named = /^#\/(files|grid)(?:\/|$)/.exec(location.hash)?.[1] ?? "";
  for (const [id, name] of [["main", ""], ["files-view", "files"], ["net-view", "grid"]]) byId(id).hidden = !up || name !== named;
  if (up) files.route(location.hash);
  net.route(up && named === "grid");
  for (const at of byId("views").children) {
    const here = at.getAttribute("href") === `#/${named}`;
    if (here) at.setAttribute("aria-current", "page");
    else at.removeAttribute("aria-current");
  }
}

/** The way to being a node, step by step; steps overlap, so each has its own line. */
function phases() {
  /** @type {Map<string, HTMLElement>} */
  const lines = new Map();
  const line = (/** @type {string} */ text) => {
    const known = lines.get(text) ?? el("li", {}, text, el("span", {}));
    if (!lines.has(text)) byId("phases").append(known);
    lines.set(text, known);
    return known;
  };
  client.addEventListener("phase", (event) => {
    const { text, done, total } = /** @type {CustomEvent} */ (event).detail;
    const fresh = !lines.has(text);
    if (fresh) for (const [other, made] of lines) if (other !== "Fetching Python" || text === "Starting Python") made.classList.add("done");
    const made = line(text);
    const bar = byId("boot-progress");
    if (!total) return text === "Fetching Python" || bar.value === 1 || bar.removeAttribute("value");
    bar.value = done / total;
    /** @type {HTMLElement} */ (made.lastElementChild).textContent = `${size(done)} of ${size(total)}`;
  });
  client.addEventListener("role", (event) => {
    const role = /** @type {CustomEvent} */ (event).detail;
    if (!client.node && role === "follower") line("Another tab runs this node; sharing it");
  });
}

/** @param {import("./rpc.mjs").Ready} node */
function ready(node) {
  byId("boot").hidden = true;
  byId("views").hidden = false;
  byId("readings").hidden = false;
  if (byId("link").dataset.state === "starting") link({ state: "online", text: "" });
  if (!node.kept) notice("This browser keeps nothing here (a private window?). The node works, and is gone with this tab.");
  if (wanted && node.grid && node.grid !== wanted) otherGrid(node.grid, wanted);
  if (join) history.replaceState(null, "", "#/");
  view();
  keepCopy();
}

/** Have a copy of this page kept, so that it can be reloaded while the node is gone. Its absence costs only that. */
async function keepCopy() {
  const found = await navigator.serviceWorker?.register("/sw.js").catch(() => null);
  if (!found) return;
  navigator.serviceWorker.addEventListener("message", ({ data }) => data === "kept" && (document.documentElement.dataset.offline = "ready"));
  (await navigator.serviceWorker.ready).active?.postMessage("keep");
}

/** @param {{message: string, code: string}} error */
function failed(error) {
  byId("link").dataset.state = "failed";
  byId("link").textContent = "stopped";
  if (!byId("boot").hidden) {
    byId("phases").lastElementChild?.classList.add("bad");
    byId("boot-progress").hidden = true;
    byId("boot-title").textContent = "This tab could not become a node";
  }
  const https = el("a", { class: "button", href: `https://${location.host}/${location.hash}` }, "Open the secure page");
  notice(error.message, true, ...(error.code === "insecure" ? [https] : [el("button", { class: "small", type: "button", onclick: () => location.reload() }, "Reload")]));
}

/** @param {{kind: string, detail: any}} event */
function heard({ kind, detail }) {
  if (kind === "link") link(detail);
  if (kind === "peer" && detail.event === "down" && detail.via === "ws" && detail.code && detail.code !== "closed") refused(detail);
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
  const leave = el("button", { class: "small", type: "button" }, "Leave it and join the other");
  leave.addEventListener("click", async () => {
    try {
      await client.call("leave");
      location.hash = theirs ? joinHash : "#/";
      location.reload();
    } catch (error) {
      notice(/** @type {Error} */ (error).message, true);
    }
  });
  notice(`This browser belongs to grid ${short(mine)}, and the node at ${location.host} is in ${theirs ? `grid ${short(theirs)}` : "another one"}. Stay as you are, and work without that node; or leave: this node's key and files stay, its membership goes.`, true, leave);
}

/** Direct channels to other tabs, with the STUN and TURN servers the owner named; null where there are none to be. */
function directly() {
  const { off = false, servers = [] } = stored("promisegrid.direct");
  return Direct.isAble && !off ? { servers } : undefined;
}

/** Light, dark, or as the system says. */
function theme() {
  const root = document.documentElement;
  const { theme: kept } = stored("promisegrid.look");
  if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  byId("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    keep("promisegrid.look", { theme: root.dataset.theme });
  });
}

