// @ts-check
/** The panels beside the run: this node, who is there, serving, whose results count, what ran where. */
import { byId, copyable, el, glyph, short, took } from "./ui.mjs";

/** @typedef {import("./client.mjs").Client} Client */

/** @param {Client} client */
export function panels(client) {
  /** @type {any} */
  let info = {};
  const refresh = soon(async () => {
    info = await client.call("info");
    me(client, info);
    await Promise.all([peers(client, info), running(client), history(client), trust(client)]);
    serving(info.serving);
  });
  client.addEventListener("ready", refresh);
  client.addEventListener("role", () => client.node && refresh());
  client.addEventListener("event", (event) => {
    const { kind } = /** @type {CustomEvent} */ (event).detail;
    if (["peer", "receipt", "message", "serving", "grid", "link"].includes(kind)) refresh();
  });
  byId("serve-form").addEventListener("submit", async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const on = byId("serve-toggle").getAttribute("aria-pressed") !== "true";
    navigator.storage?.persist?.().catch(() => false);
    const promise = on ? { cpu: Number(byId("serve-cpu").value), memory: Number(byId("serve-memory").value) } : false;
    await client.call("serve", promise).catch((error) => notice(error.message, true));
    refresh();
  });
  setInterval(() => document.visibilityState === "visible" && client.node && running(client), 2000);
  return { refresh };
}

/** Say something above everything else. @param {string} text @param {boolean} [bad] @param {...Node} actions */
export function notice(text, bad = false, ...actions) {
  const close = el("button", { class: "small", type: "button", ariaLabel: "Dismiss" }, "×");
  const made = el("div", { class: bad ? "notice bad" : "notice", role: bad ? "alert" : "status" }, el("p", {}, text), ...actions, close);
  close.addEventListener("click", () => made.remove());
  byId("notices").append(made);
  while (byId("notices").children.length > 4) byId("notices").firstElementChild?.remove();
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
  glyph(byId("glyph"), info.did);
  const rows = [
    ["name", copyable(info.did, "this node's name")],
    ["grid", info.grid ? copyable(info.grid, "the grid") : el("span", {}, "none yet")],
    ["engine", el("span", {}, info.engine)],
    ["kept", el("span", {}, info.kept ? "in this browser" : "nothing, this is a private window")],
  ];
  if (client.role === "follower") rows.push(["here", el("span", {}, "shared with another tab")]);
  byId("me-facts").replaceChildren(el("dl", { class: "facts" }, ...rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
}

/** @param {Client} client @param {any} info */
async function peers(client, info) {
  const found = await client.call("peers");
  const rows = found.map((/** @type {any} */ peer) =>
    el("li", {}, el("span", { class: "grow" }, copyable(peer.did, "peer")), el("span", { class: "hint" }, `${peer.via}${peer.rtt_ms === null ? "" : ` · ${peer.rtt_ms} ms`}`), peer.serves ? el("span", { class: "tag" }, "serves") : null),
  );
  byId("peer-list").replaceChildren(...(rows.length ? rows : [el("li", { class: "hint" }, "Nobody right now.")]));
  const chosen = byId("on").value;
  const serving = found.filter((/** @type {any} */ peer) => peer.serves);
  byId("on").replaceChildren(el("option", { value: "" }, "this tab"), ...serving.map((/** @type {any} */ peer) => el("option", { value: peer.did }, `${short(peer.did)} · ${peer.engine}`)));
  byId("on").value = serving.some((/** @type {any} */ peer) => peer.did === chosen) ? chosen : "";
  if (info.link?.state) link(info.link);
}

/** The pill at the top. @param {{state: string, text: string}} state */
export function link({ state, text }) {
  const words = { open: "connected", connecting: "connecting", offline: "offline, trying again" };
  byId("link").dataset.state = state;
  byId("link").textContent = words[/** @type {keyof typeof words} */ (state)] ?? state;
  byId("link").title = text ?? "";
}

/** @param {{cpu: number, memory: number} | null} promise */
function serving(promise) {
  const button = byId("serve-toggle");
  button.setAttribute("aria-pressed", promise ? "true" : "false");
  button.textContent = promise ? "Serving — press to pause" : "Serve";
  if (promise) byId("serve-cpu").value = promise.cpu;
}

/** @param {Client} client */
async function running(client) {
  const found = await client.call("running").catch(() => []);
  byId("running").replaceChildren(
    ...found.map((/** @type {any} */ run) =>
      el("li", {}, el("span", { class: "grow" }, `${run.func} of ${short(run.code)}, for ${short(run.for)}`), el("button", { class: "small", type: "button", onclick: () => client.call("stop", run.task) }, "Stop")),
    ),
  );
}

/** @param {Client} client */
async function history(client) {
  const rows = await client.call("history", 30);
  byId("history-empty").hidden = rows.length > 0;
  byId("history-rows").replaceChildren(
    ...rows.map((/** @type {any} */ row) =>
      el(
        "tr",
        {},
        el("td", {}, new Date(row.at_ms).toLocaleTimeString()),
        el("td", {}, copyable(row.code, "program")),
        el("td", {}, row.result ? copyable(row.result, "result") : el("span", { title: row.text ?? "" }, row.refused)),
        el("td", {}, row.by ? short(row.by) : "—", row.cached ? el("span", { class: "tag hot" }, "remembered") : null),
        el("td", {}, short(row.for)),
        el("td", {}, took(row.ms)),
      ),
    ),
  );
}

/** @param {Client} client */
async function trust(client) {
  const [policy, found] = await Promise.all([client.call("trust"), client.call("peers")]);
  const set = (/** @type {any} */ next) => client.call("trust", next).catch((error) => notice(error.message, true));
  const known = [...new Set([...policy.dids, ...found.map((/** @type {any} */ peer) => peer.did)])];
  const boxes = known.map((did) => {
    const box = el("input", { type: "checkbox", checked: policy.mode === "peers" && policy.dids.includes(did) });
    box.addEventListener("change", () => {
      const dids = box.checked ? [...policy.dids, did] : policy.dids.filter((/** @type {string} */ other) => other !== did);
      set({ mode: dids.length ? "peers" : "own", dids });
    });
    return el("label", {}, box, `those of ${short(did)}`);
  });
  byId("trust-choices").replaceChildren(el("legend", { class: "under" }, "Whose receipts answer"), el("label", {}, el("input", { type: "checkbox", checked: true, disabled: true }), "my own"), ...boxes);
}

