// @ts-check
/**
 * The promises this node knows of: who promised what to whom, drawn, and what became of it; giving one, keeping one.
 *
 * The picture is graph.mjs's; a promise chosen in it is told in words below, with what its owner can do about it.
 */
import { looksLikeCid } from "./api.mjs";
import { draw } from "./graph.mjs";
import { byId, copyable, el, named, nameOf, number, short, size, stored } from "./ui.mjs";

/** @typedef {import("./client.mjs").Client} Client */
/** @typedef {import("./api.mjs").PromiseGrid} PromiseGrid */
/** One promise, as cap.ls gives it. @typedef {import("./rpc.mjs").Given} Given */

/** Of the picture's place, both sides together, px. */
const PADDING = 8;
const HEARD = ["promise", "peer", "receipt", "message", "grid"];

/** @param {PromiseGrid} grid @param {Client} client */
export function promisesPanel(grid, client) {
  return new Promises(grid, client);
}

/** Tells "change" when what is known of promises may have changed, "wait" when a deferred call is to be waited for. */
export class Promises extends EventTarget {
  /** @type {Given[]} */
  #known = [];
  /** @type {string | null} */
  #chosen = null;
  #drawn = "";
  /** The held promise that the form passes on; null: it makes a new one. @type {Given | null} */
  #passing = null;

  /** @param {PromiseGrid} grid @param {Client} client */
  constructor(grid, client) {
    super();
    this.grid = grid;
    this.client = client;
    client.addEventListener("ready", () => this.#look());
    client.addEventListener("event", (event) => HEARD.includes(/** @type {CustomEvent} */ (event).detail.kind) && this.#look());
    grid.addEventListener("peer", () => this.#whom());
    new ResizeObserver(() => this.#picture()).observe(byId("promise-graph"));
    byId("give-form").addEventListener("submit", (/** @type {SubmitEvent} */ event) => (event.preventDefault(), this.#give()));
    byId("give-file").addEventListener("change", (/** @type {any} */ { target }) => target.files[0] && this.#store(target.files[0]));
    byId("give").addEventListener("toggle", () => (this.#whom(), programs(), byId("give").open || this.#pass(null)));
  }

  /** Who has promised this node a run that it can still ask for. @returns {Set<string>} */
  from() {
    const open = (/** @type {Given} */ given) => given.holder === this.#me && ["offered", "kept"].includes(given.state) && !given.what.ability;
    return new Set(this.#known.filter(open).map((given) => given.root));
  }

  get #me() {
    return this.client.node?.did ?? "";
  }

  #busy = false;
  #again = false;

  async #look() {
    if (this.#busy) return void (this.#again = true);
    this.#busy = true;
    try {
      const { caps } = this.grid;
      const [known, pending, awaited] = await Promise.all([caps.ls(), caps.pending(), caps.awaited()]);
      this.#known = known;
      this.#pending(pending);
      this.#awaited(awaited);
      this.#picture();
      this.dispatchEvent(new Event("change"));
    } catch {
      // the node is gone or starting; it says so elsewhere
    }
    this.#busy = false;
    if (this.#again) {
      this.#again = false;
      setTimeout(() => this.#look(), 150);
    }
  }

  // -- the picture ---------------------------------------------------------------------------------------

  #picture() {
    const place = byId("promise-graph");
    byId("promises-empty").hidden = this.#known.length > 0;
    place.hidden = this.#known.length === 0;
    const room = place.clientWidth - PADDING;
    if (!this.client.node || room <= 0) return;
    const asked = JSON.stringify([this.#known, this.#chosen, room]);
    if (asked === this.#drawn) return;
    this.#drawn = asked;
    const focused = /** @type {HTMLElement | null} */ (document.activeElement?.closest(".edge"))?.dataset.id;
    const chosen = this.#known.some((given) => given.promise === this.#chosen) ? this.#chosen : null;
    const picture = draw(this.#known.map((given) => edge(given, this.#me)), {
      me: this.#me,
      room,
      chosen,
      chain: this.#chain(chosen),
      name: (did, narrow) => (did === this.#me ? "this tab" : narrow ? `…${did.slice(-5)}` : `${did.replace(/^did:key:/, "").slice(0, 5)}…${did.slice(-5)}`),
      choose: (id) => this.#choose(id === this.#chosen ? null : id),
    });
    place.replaceChildren(picture);
    if (focused) picture.querySelector(`.edge[data-id="${focused}"]`)?.focus();
    this.#told(this.#known.find((given) => given.promise === chosen) ?? null);
  }

  /** The promises a chosen one rests on. @param {string | null} chosen */
  #chain(chosen) {
    const found = new Set();
    for (let at = chosen; at && !found.has(at); at = this.#known.find((given) => given.promise === at)?.parent ?? null) found.add(at);
    return found;
  }

  /** @param {string | null} id */
  #choose(id) {
    this.#chosen = id;
    this.#picture();
  }

  /** The chosen promise in words. @param {Given | null} given */
  #told(given) {
    const place = byId("promise-detail");
    if (!given) return place.replaceChildren();
    const who = (/** @type {string} */ did) => (did === this.#me ? el("span", { class: "name" }, "this tab") : named(did));
    const rows = Object.entries({
      promised: el("span", {}, promised(given), given.what.code ? copyable(given.what.code, "the program") : null),
      by: who(given.issuer),
      to: who(given.holder),
      state: el("span", { class: "tag", "data-state": given.state.replace(" ", "-") }, states(given)),
      ...(given.reason ? { because: given.reason } : {}),
      ...narrowing(given),
      ...(given.parent ? { "rests on": copyable(given.parent, "the promise it rests on") } : {}),
      promise: copyable(given.promise, "the promise"),
    });
    const lines = rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]);
    place.replaceChildren(el("h3", { tabIndex: -1 }, title(given, this.#me)), el("dl", { class: "facts" }, ...lines), this.#actions(given));
  }

  /** @param {Given} given */
  #actions(given) {
    const over = ["revoked", "expired", "broken"].includes(given.state);
    const mine = given.root === this.#me || given.issuer === this.#me;
    const buttons = [];
    if (mine && !over) buttons.push(this.#button("Revoke", () => this.grid.caps.revoke(given.promise)));
    if (given.holder === this.#me && !over && given.state !== "used up" && given.what.code) buttons.push(el("button", { type: "button", onclick: () => use(given) }, "Use it"));
    if (given.holder === this.#me && !over && given.delegate > 0) buttons.push(el("button", { type: "button", onclick: () => this.#pass(given) }, "Pass it on"));
    return el("div", { class: "actions" }, ...buttons);
  }

  // -- what waits for its owner ----------------------------------------------------------------------------

  /** @param {import("./rpc.mjs").Pending[]} pending */
  #pending(pending) {
    byId("pending-part").hidden = pending.length === 0;
    byId("pending").replaceChildren(
      ...pending.map((call) =>
        el(
          "li",
          { "data-call": call.call },
          el("span", { class: "grow" }, el("b", {}, program(call.code, call.func)), el("span", { class: "hint" }, " for "), named(call.for)),
          this.#button("Keep", () => this.grid.caps.keep(call.call)),
          this.#button("Break", () => this.grid.caps.break(call.call)),
        ),
      ),
    );
  }

  /** What this tab asked for, and others are to keep. @param {(import("./rpc.mjs").Pending & {by: string})[]} awaited */
  #awaited(awaited) {
    byId("awaited-part").hidden = awaited.length === 0;
    byId("awaited").replaceChildren(
      ...awaited.map((call) => {
        const wait = () => this.dispatchEvent(new CustomEvent("wait", { detail: { call: call.call, name: program(call.code, call.func) } }));
        return el("li", {}, el("span", { class: "grow" }, el("b", {}, program(call.code, call.func)), el("span", { class: "hint" }, " by "), named(call.by)), el("button", { type: "button", class: "small", onclick: wait }, "Wait for it"));
      }),
    );
  }

  /** A button whose work may fail, and says so. @param {string} text @param {() => Promise<any>} work */
  #button(text, work) {
    const made = el("button", { type: "button", class: "small" }, text);
    made.addEventListener("click", async () => {
      made.disabled = true;
      byId("promise-error").textContent = "";
      await work().catch((error) => (byId("promise-error").textContent = error.message));
      made.disabled = false;
      this.#look();
    });
    return made;
  }

  // -- giving --------------------------------------------------------------------------------------------

  #whom() {
    const list = byId("give-to");
    const kept = list.value;
    const peers = this.grid.peers();
    const options = peers.map((peer) => el("option", { value: peer.did, selected: peer.did === kept }, short(peer.did)));
    if (JSON.stringify(peers.map((peer) => peer.did)) === list.dataset.shown) return;
    list.dataset.shown = JSON.stringify(peers.map((peer) => peer.did));
    list.replaceChildren(...(options.length ? options : [el("option", { value: "", disabled: true, selected: true }, "nobody is connected")]));
  }

  /** Have the form pass a held promise on, or make a new one again. @param {Given | null} given */
  #pass(given) {
    if (!given && !this.#passing) return;
    this.#passing = given;
    byId("give-what").textContent = given ? `You pass on what you hold: ${what(given)}. What you leave empty stays as it is; close this form to promise something of your own.` : "";
    byId("give-code").value = given?.what.code ?? "";
    byId("give-func").value = given?.func ?? "";
    byId("give-days").value = given ? "" : "7";
    for (const id of ["give-code", "give-file", "give-later"]) byId(id).disabled = given !== null;
    byId("give").open = given !== null;
    if (given) byId("give-to").focus();
  }

  /** @param {File} file */
  async #store(file) {
    byId("give-error").textContent = "";
    try {
      byId("give-code").value = await this.grid.put(file);
    } catch (error) {
      byId("give-error").textContent = /** @type {Error} */ (error).message;
    }
  }

  async #give() {
    const text = (/** @type {string} */ id) => byId(id).value.trim();
    const wrong = byId("give-error");
    wrong.textContent = "";
    byId("give-done").textContent = "";
    try {
      const code = text("give-code");
      if (!text("give-to")) throw new Error("Nobody is connected; a promise is given to somebody who is there.");
      if (!this.#passing && !looksLikeCid(code)) throw new Error(code ? `“${code.slice(0, 60)}” is not the CID of a program; choose its file, or copy the CID whole.` : "Choose the program you promise to run.");
      const terms = {
        to: text("give-to"),
        func: text("give-func") || undefined,
        uses: Number(text("give-uses")) || undefined,
        days: Number(text("give-days")) || undefined,
        delegate: Number(text("give-delegate")) || 0,
        budget: budgetOf(text),
      };
      const { caps } = this.grid;
      const made = await (this.#passing ? caps.delegate({ ...terms, parent: this.#passing.promise }) : caps.grant({ ...terms, code, later: byId("give-later").checked }));
      byId("give-done").textContent = made.delivered ? "Promised; it has the promise already." : "Promised, but it could not be handed over: it will get it when it connects.";
      this.#chosen = made.promise;
      await this.#look();
    } catch (error) {
      wrong.textContent = /** @type {Error} */ (error).message;
    }
  }
}

// -- words ---------------------------------------------------------------------------------------------------

/** @param {string} code @param {string | null} func */
const program = (code, func) => [func === "_start" ? null : func, nameOf(code) ?? short(code)].filter(Boolean).join(" of ");

/** What is promised, in a few words. @param {Given} given */
function what({ what: { ability, code, protocol }, func }) {
  if (ability) return ability;
  return code ? `run ${program(code, func)}` : `answer ${short(protocol ?? "")}`;
}

/** What is promised, up to the program's CID. @param {Given} given */
function promised(given) {
  if (!given.what.code) return what(given);
  return `run ${[given.func, nameOf(given.what.code)].filter(Boolean).join(" of ")} `.replace("  ", " ");
}

/** Its state, with how often it was used. @param {Given} given */
function states({ state, uses, used }) {
  if (state === "revoked" || state === "expired" || state === "broken" || state === "deferred") return state;
  return uses ? `${state}, ${used} of ${uses}` : used ? `${state}, ${used === 1 ? "once" : `${used} times`}` : state;
}

/** @param {Given} given @param {string} me */
function title(given, me) {
  const name = (/** @type {string} */ did) => (did === me ? "this tab" : short(did));
  return `${name(given.issuer)} promised ${name(given.holder)}: ${what(given)}`.replace(/^this tab/, "This tab");
}

/** @param {Given} given @param {string} me @returns {import("./graph.mjs").Edge} */
function edge(given, me) {
  const { what: promised, func } = given;
  const label = promised.ability ?? func ?? nameOf(promised.code ?? "") ?? "run a program";
  return { id: given.promise, from: given.issuer, to: given.holder, state: given.state, label, says: states(given), title: `${title(given, me)}; ${states(given)}` };
}

/** The budget of the form, without what is left empty. @param {(id: string) => string} text @returns {Record<string, number>} */
function budgetOf(text) {
  const most = { fuel: Number(text("give-fuel")), memory: Number(text("give-memory")) * 1024 * 1024, time: Number(text("give-time")) * 1000 };
  return Object.fromEntries(Object.entries(most).filter(([, value]) => value > 0).map(([name, value]) => [name, Math.round(value)]));
}

/** What limits it, as rows. @param {Given} given @returns {Record<string, any>} */
function narrowing({ policy, budget, delegate, expires_at, later }) {
  const budgets = Object.entries(budget ?? {}).map(([name, value]) => `${name} ${name === "fuel" ? number(value) : name === "time" ? `${value / 1000} s` : size(value)}`);
  return {
    until: new Date(expires_at * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }),
    ...(policy?.length ? { arguments: policy.map((rule) => rule.map((/** @type {any} */ part) => (typeof part === "string" ? part : JSON.stringify(part))).join(" ")).join(", ") } : {}),
    ...(budgets.length ? { "at most": budgets.join(", ") } : {}),
    ...(delegate ? { "may be passed on": delegate === 1 ? "once" : `${delegate} times in a row` } : {}),
    ...(later ? { kept: "later, by hand" } : {}),
  };
}

/** Fill the run form with a held promise. @param {Given} given */
function use({ what: { code }, func, root }) {
  byId("code").value = code;
  byId("code").dispatchEvent(new Event("input"));
  byId("func").value = func ?? "";
  if (func) byId("more").open = true;
  /** @type {HTMLInputElement | null} */
  const place = document.querySelector(`#on input[value="${root}"]`);
  if (place) place.checked = true;
  byId("args").focus();
  byId("run").scrollIntoView({ block: "start" });
}

/** Programs this browser has a name for, to choose from. */
function programs() {
  const known = Object.entries(stored("promisegrid.names"));
  byId("give-known").replaceChildren(...known.map(([cid, name]) => el("option", { value: cid }, name)));
}
