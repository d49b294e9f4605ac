// @ts-check
/** The panels beside the run: who is there, serving, whose results count, this node, and the tape of what ran where. */
import { byId, copyable, durationBar, el, glyph, named, nameOf, short, took } from "./ui.mjs";

/** @typedef {import("./client.mjs").Client} Client */

const RUNNING_MS = 1_500;

/** @param {Client} client */
export function panels(client) {
  const refresh = soon(async () => {
    const [info, found] = await Promise.all([client.call("info"), client.call("peers")]);
    me(client, info);
    peers(found);
    serving(info.serving);
    trust(client, info.trust, found);
    if (info.link?.state) link(info.link);
    await Promise.all([running(client), tape(client, info.did)]);
  });
  client.addEventListener("ready", refresh);
  client.addEventListener("role", () => client.node && refresh());
  client.addEventListener("event", (event) => {
    const { kind } = /** @type {CustomEvent} */ (event).detail;
    if (["peer", "receipt", "message", "serving", "grid", "link"].includes(kind)) refresh();
  });
  for (let count = 2; count <= Math.min(4, navigator.hardwareConcurrency || 2); count++) byId("serve-cpu").append(el("option", {}, `${count}`));
  const set = async (/** @type {boolean} */ on) => {
    byId("serve-error").textContent = "";
    const promise = on ? { cpu: Number(byId("serve-cpu").value), memory: Number(byId("serve-memory").value) } : false;
    await client.call("serve", promise).catch((error) => (byId("serve-error").textContent = error.message));
    refresh();
  };
  const isOn = () => byId("serve-toggle").getAttribute("aria-checked") === "true";
  byId("serve-toggle").addEventListener("click", () => set(!isOn()));
  for (const id of ["serve-cpu", "serve-memory"]) byId(id).addEventListener("change", () => isOn() && set(true));
  setInterval(() => document.visibilityState === "visible" && client.node && running(client), RUNNING_MS);
}

/** Say something above everything else. @param {string} text @param {boolean} [bad] @param {...Node} actions */
export function notice(text, bad = false, ...actions) {
  const close = el("button", { class: "small", type: "button", ariaLabel: "Dismiss" }, "×");
  const made = el("div", { class: bad ? "notice bad" : "notice", role: bad ? "alert" : "status" }, el("p", {}, text), ...actions, close);
  close.addEventListener("click", () => made.remove());
  const same = [...byId("notices").children].find((other) => other.firstElementChild?.textContent === text);
  same?.remove();
  byId("notices").append(made);
  while (byId("notices").children.length > 3) byId("notices").firstElementChild?.remove();
  return made;
}

/** Run at most once at a time, and once more if asked meanwhile. @param {() => Promise<void>} work */
function soon(work) {
  let busy = false;
  let again = false;
  return async function go() {
    if (busy) return void (again = true);
    busy = true;
    try {
      await work();
    } catch {
      // the node is gone or starting: what it says on "failed" or "ready" matters, not this
    }
    busy = false;
    if (again) {
      again = false;
      setTimeout(go, 100);
    }
  };
}

/** @param {Client} client @param {any} info */
function me(client, info) {
  const shared = client.role === "follower";
  byId("reading-me").replaceChildren(named(info.did, "this node's name"));
  byId("reading-grid").replaceChildren(info.grid ? copyable(info.grid, "the grid") : "none yet");
  byId("reading-shared").hidden = !shared;
  byId("me-glyph").replaceChildren(glyph(info.did, 56));
  const rows = {
    name: copyable(info.did, "this node's name"),
    grid: info.grid ? copyable(info.grid, "the grid") : "none yet",
    engine: info.engine,
    kept: info.kept ? "in this browser" : "nothing: a private window",
    runs: shared ? "in another tab, shared" : "in this tab",
  };
  byId("me-facts").replaceChildren(...Object.entries(rows).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/**
 * Peers by name: one may have several links; the first that is not relayed counts.
 * @template {{did: string, via: string, serves: boolean}} T @param {T[]} found @returns {(T & {vias: string[]})[]}
 */
export function together(found) {
  /** @type {Map<string, T & {vias: string[]}>} */
  const peers = new Map();
  for (const link of [...found].sort((one, other) => Number(one.via === "relay") - Number(other.via === "relay"))) {
    const known = peers.get(link.did);
    if (!known) peers.set(link.did, { ...link, vias: [link.via] });
    else if (!known.vias.includes(link.via)) known.vias.push(link.via);
  }
  return [...peers.values()];
}

/** Peers listed beside the run; the Grid view has them all. */
const PEERS_LISTED = 12;

/** @param {any[]} all */
function peers(all) {
  const found = together(all);
  byId("reading-peers").textContent = `${found.length}`;
  const rows = found.slice(0, PEERS_LISTED).map((peer) =>
    el("li", {}, el("span", { class: "grow" }, named(peer.did, "peer")), peer.serves ? el("span", { class: "tag on" }, "serves") : null, el("span", { class: "hint" }, reached(peer))),
  );
  if (found.length > rows.length) rows.push(el("li", {}, el("a", { href: "#/grid" }, `and ${found.length - rows.length} more`)));
  byId("peer-list").replaceChildren(...(rows.length ? rows : [el("li", { class: "hint" }, "Nobody right now. Open this page in another browser, or start another node.")]));
}

/** @param {{via: string, vias?: string[], rtt_ms: number | null}} peer */
export const reached = ({ via, vias = [via], rtt_ms }) => `${vias.join(" + ")}${rtt_ms === null ? "" : ` · ${rtt_ms} ms`}`;

/** The lamp at the top. @param {{state: string, text: string}} state */
export function link({ state, text }) {
  const words = { online: "connected", offline: "offline, reconnecting", starting: "starting" };
  const lamp = byId("link");
  if (lamp.dataset.state === state && lamp.title === (text ?? "")) return;
  lamp.dataset.state = state;
  lamp.textContent = words[/** @type {keyof typeof words} */ (state)] ?? state;
  lamp.title = text ?? "";
}

/** @param {{cpu: number, memory: number} | null} promise */
function serving(promise) {
  byId("serve-toggle").setAttribute("aria-checked", promise ? "true" : "false");
  byId("serve-text").textContent = promise
    ? `On. Members of this grid may run ${promise.cpu === 1 ? "one program" : `${promise.cpu} programs`} at a time here, sealed off. Switch it off to pause.`
    : "Off. When on, members of this grid may have this tab run their programs, sealed off, within what you allow.";
  if (!promise || document.activeElement?.closest("#serving .row")) return;
  byId("serve-cpu").value = `${promise.cpu}`;
  byId("serve-memory").value = `${promise.memory}`;
}

/** @param {Client} client */
async function running(client) {
  const found = await client.call("running").catch(() => []);
  const stop = (/** @type {string} */ task) => client.call("stop", task).catch((error) => (byId("serve-error").textContent = error.message));
  byId("running").replaceChildren(
    ...found.map((/** @type {any} */ run) =>
      el("li", {}, el("span", { class: "grow" }, `${nameOf(run.code) ?? short(run.code)} for ${run.for === client.node?.did ? "you" : short(run.for)}`), el("span", { class: "hint" }, took(Date.now() - run.since_ms)), el("button", { class: "small", type: "button", onclick: () => stop(run.task) }, "Stop")),
    ),
  );
}

/** @param {Client} client @param {string} self */
async function tape(client, self) {
  const rows = await client.call("history", 30);
  byId("history-empty").hidden = rows.length > 0;
  byId("tape").replaceChildren(...rows.map((/** @type {any} */ row) => printed(row, self)));
}

/** One line of the tape. @param {any} row @param {string} self */
function printed(row, self) {
  const at = new Date(row.at_ms);
  const who = (/** @type {string} */ did) => el("span", { class: "name", title: did }, glyph(did), did === self ? "this tab" : short(did));
  const program = nameOf(row.code);
  return el(
    "li",
    {},
    el("time", { dateTime: at.toISOString() }, at.toLocaleTimeString([], { hour12: false })),
    el("span", { class: "what" }, program ? el("b", {}, program) : copyable(row.code, "program"), row.for === self ? null : el("span", { class: "hint" }, `for ${short(row.for)}`)),
    row.result ? el("span", { class: "came" }, copyable(row.result, "result")) : el("span", { class: "came bad", title: row.text ?? "" }, row.text ?? row.refused),
    el("span", { class: "by" }, row.by ? who(row.by) : "—"),
    el("span", { class: "took" }, el("span", { class: "name" }, el("span", { class: "ms" }, took(row.ms)), row.cached ? el("span", { class: "tag hot" }, "known") : null), durationBar(row.ms)),
  );
}

/** @param {Client} client @param {any} policy @param {any[]} found */
function trust(client, policy, found) {
  const place = byId("trust-choices");
  if (place.contains(document.activeElement)) return;
  const error = byId("trust-error");
  const chosen = new Set(policy.mode === "own" ? [] : policy.dids);
  const set = async (/** @type {string} */ did, /** @type {boolean} */ on) => {
    if (on) chosen.add(did);
    else chosen.delete(did);
    error.textContent = "";
    await client.call("trust", { mode: chosen.size ? "peers" : "own", dids: [...chosen] }).catch((wrong) => (error.textContent = wrong.message));
  };
  const known = [...new Set([...chosen, ...found.map((peer) => peer.did)])];
  const boxes = known.map((did) => el("label", {}, el("input", { type: "checkbox", checked: chosen.has(did), onchange: (/** @type {any} */ { target }) => set(did, target.checked) }), glyph(did), short(did)));
  place.replaceChildren(el("legend", { class: "under" }, "Whose receipts answer"), el("label", {}, el("input", { type: "checkbox", checked: true, disabled: true }), "this node’s own, always"), ...boxes);
}
