// @ts-check
/**
 * The picture of the grid as SVG: this node, its peers as cards, links by kind, what moves along them, who runs what.
 *
 * A link's kind is its stroke (one line, two lines, dashes, dots) and stands in words on the card. What moves are squares
 * along the link, the faster and larger the more it is; the figures stand on the card. A triangle on a link points at
 * whoever runs a program for the other end, and a frame turns around its picture.
 *
 * Promises: what strangers send is only ever text; between two pictures of the same shape elements stay, so that
 * nothing starts anew and nobody loses the focus. Does not know: where figures come from (net-plan.mjs).
 */
import { level } from "./net-plan.mjs";
import { glyph, nameOf, short, size, svg } from "./ui.mjs";

/** @typedef {import("./net-plan.mjs").Plan} Plan */
/** @typedef {import("./net-plan.mjs").Peer} Peer */
/** @typedef {import("./net-plan.mjs").Sight} Sight */
/** @typedef {import("./net-plan.mjs").Box} Box */

/** The kinds of links, in words. */
export const KINDS = { ws: "WebSocket", webrtc: "WebRTC, direct", relay: "relayed by a peer", unix: "Unix socket" };

/** A rate, as people read it. @param {number} rate bytes a second */
export const speed = (rate) => `${size(Math.round(rate))}/s`;

/** What goes in and out, where it is anything. @param {{in: number, out: number}} flow */
export function figures({ in: come, out: gone }) {
  return [level(come) ? `↓ ${speed(come)}` : "", level(gone) ? `↑ ${speed(gone)}` : ""].filter(Boolean).join("  ");
}

/** What a program is called by this person. @param {{code: string, func: string}} job */
export const called = ({ code, func }) => (nameOf(code) ?? (func && func !== "_start" ? func : short(code))).slice(0, 80);

/** Several jobs in a few words. @param {import("./net-plan.mjs").Job[]} jobs */
export function jobsOf(jobs) {
  const names = [...new Set(jobs.map(called))];
  return `${names[0]}${jobs.length > 1 ? ` × ${jobs.length}` : ""}${names.length > 1 ? ", …" : ""}`;
}

/** The kinds of a peer's links, in a word each, and how far it is. @param {Peer} peer */
export const reached = ({ links, rtt_ms }) => `${[...new Set(links.map(({ via }) => via))].join(" + ")}${rtt_ms === null ? "" : ` · ${rtt_ms} ms`}`;

/** @param {string} kind @param {number} x @param {number} y @param {string} said @param {Record<string, string>} [more] */
function words(kind, x, y, said, more = {}) {
  const made = svg("text", { class: kind, x, y, ...more });
  made.textContent = said;
  return made;
}

/** A letter of 12 px type, in px; figures are a little wider, other letters narrower. */
const CHAR = 6.2;

/** @param {string} text @param {number} most px */
const cut = (text, most) => (text.length * CHAR > most ? `${text.slice(0, Math.max(1, Math.floor(most / CHAR) - 1))}…` : text);

/** One step of what moves, in px by level, and how often: all of it together, so that a picture is painted no oftener. */
const STEPS = [0, 1.2, 1.6, 2.2, 3];
const TURN = -2.6;
const STEP_MS = 80;
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

export class Picture {
  /** @type {(() => void)[]} what is said anew at each look */
  #fresh = [];
  #shape = "";
  /** @type {Sight | null} */
  #sight = null;
  /** @type {Map<string, Peer>} */
  #peers = new Map();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #moving;
  #step = 0;

  /** @param {HTMLElement} place @param {(did: string | null) => void} choose what a click on a card, or Enter, chooses; null: those that are not drawn */
  constructor(place, choose) {
    this.place = place;
    this.choose = choose;
  }

  /** @param {Plan} plan @param {Sight} sight @param {string | null} chosen */
  show(plan, sight, chosen) {
    this.#sight = sight;
    this.#peers = new Map(sight.peers.map((peer) => [peer.did, peer]));
    const { cards, spots, lines, more, ...frame } = plan;
    const shape = JSON.stringify([frame, cards.map(({ peer, x, y }) => [peer.did, x, y]), lines.map(({ flow, path }) => [flow.link, flow.via, path]), spots.map(({ near, more, x, y }) => [near?.did, more, x, y]), more]);
    if (shape !== this.#shape) this.#draw(plan);
    this.#shape = shape;
    for (const fresh of this.#fresh) fresh();
    const moves = !STILL.matches && this.place.querySelector(".lane:not([data-level='0']), .frame[data-runs='1']") !== null;
    if (!moves) this.still();
    else this.#moving ??= setInterval(() => this.#move(), STEP_MS);
    for (const card of this.place.querySelectorAll("[data-did]")) card.setAttribute("aria-pressed", `${/** @type {SVGElement} */ (card).dataset.did === chosen}`);
  }

  /** Nothing moves until it is shown again. */
  still() {
    clearInterval(this.#moving);
    this.#moving = undefined;
  }

  #move() {
    this.#step += 1;
    for (const lane of this.place.querySelectorAll(".lane:not([data-level='0'])")) lane.setAttribute("stroke-dashoffset", `${-this.#step * STEPS[Number(lane.getAttribute("data-level"))]}`);
    for (const frame of this.place.querySelectorAll(".frame[data-runs='1']")) frame.setAttribute("stroke-dashoffset", `${this.#step * TURN}`);
  }

  /** @param {Plan} plan */
  #draw(plan) {
    const focused = /** @type {HTMLElement | null} */ (this.place.contains(document.activeElement) ? document.activeElement : null)?.dataset.did;
    this.#fresh = [];
    const picture = svg("svg", { class: `net ${plan.kind}`, viewBox: `0 0 ${plan.width} ${plan.height}`, width: plan.width, height: plan.height, role: "group", "aria-label": "The grid as it is from this node" });
    const links = svg("g", { "aria-hidden": "true" });
    if (plan.trunk) links.append(svg("path", { class: "trunk", d: plan.trunk }));
    for (const spot of plan.spots) if (spot.path) links.append(svg("path", { class: "far", d: spot.path }));
    for (const line of plan.lines) links.append(this.#link(line));
    picture.append(links, this.#me(plan), ...plan.cards.map((card) => this.#card(card)), ...plan.spots.map(spotOf));
    if (plan.more) picture.append(this.#more(plan));
    this.place.replaceChildren(picture);
    if (focused) [.../** @type {NodeListOf<SVGElement>} */ (this.place.querySelectorAll("[data-did]"))].find((card) => card.dataset.did === focused)?.focus();
  }

  /** @param {import("./net-plan.mjs").Line} line */
  #link({ peer: { did }, flow: { link, via }, path, back, x, y, turned }) {
    const kind = Object.hasOwn(KINDS, via) ? via : "other";
    const made = svg("g", { class: "link", "data-via": kind }, svg("path", { class: "line", d: path }));
    if (kind === "webrtc") made.append(svg("path", { class: "hollow", d: path }));
    const lanes = [svg("path", { class: "lane out", d: path }), svg("path", { class: "lane in", d: back })];
    const signs = [1, -1].map((way) => svg("path", { class: "runs", d: `M${x - 5 * way * (turned ? -1 : 1)} ${y - 7}l${11 * way * (turned ? -1 : 1)} 7l${-11 * way * (turned ? -1 : 1)} 7z` }));
    made.append(...lanes, ...signs);
    this.#fresh.push(() => {
      const peer = this.#peers.get(did);
      const flow = peer?.links.find((one) => one.link === link);
      if (!peer || !flow) return;
      const moving = [level(flow.out), level(flow.in)];
      lanes.forEach((lane, at) => set(lane, "data-level", moving[at]));
      set(made, "data-moving", Math.max(...moving));
      const first = peer.links[0].link === link;
      set(signs[0], "visibility", first && peer.there.length ? "visible" : "hidden");
      set(signs[1], "visibility", first && peer.here.length ? "visible" : "hidden");
    });
    return made;
  }

  /** @param {Plan} plan */
  #me({ me, kind }) {
    const did = /** @type {Sight} */ (this.#sight).seen.me;
    const wide = kind === "comb";
    const made = svg("g", { class: "card mine" }, svg("rect", { class: "plate", x: me.x, y: me.y, width: me.w, height: me.h, rx: 12 }));
    const [gx, gy] = wide ? [me.x + 14, me.y + 14] : [me.x + 14, me.y + 14];
    const { ring, badge } = plate(made, did, gx, gy, 40);
    const lines = [words("who", gx + 52, gy + 16, "this node"), words("soft mono", gx + 52, gy + 33, short(did))];
    const below = [words("says", gx, gy + 61, ""), words("says", gx, gy + 79, "")];
    if (wide) {
      below[0].setAttribute("y", `${gy + 58}`);
      below[1].setAttribute("x", `${me.x + me.w - 14}`);
      below[1].setAttribute("y", `${gy + 58}`);
      below[1].setAttribute("text-anchor", "end");
    }
    made.append(...lines, ...below);
    this.#fresh.push(() => {
      const sight = /** @type {Sight} */ (this.#sight);
      const { here, serves } = sight.seen;
      const running = here.filter((job) => !job.waits);
      set(ring, "data-runs", Number(running.length > 0));
      set(badge, "visibility", serves ? "visible" : "hidden");
      say(below[0], cut(running.length ? `▶ ${jobsOf(running)}` : "runs nothing", wide ? me.w * 0.5 : me.w - 28));
      set(below[0], "class", running.length ? "says run" : "soft");
      say(below[1], cut(figures(sight), wide ? me.w * 0.5 : me.w - 20) || "");
    });
    return made;
  }

  /** @param {import("./net-plan.mjs").Card} card */
  #card({ peer: { did }, x, y, w, h }) {
    const made = svg("g", { class: "card", "data-did": did, tabindex: 0, role: "button" }, titled(did), svg("rect", { class: "plate", x, y, width: w, height: h, rx: 9 }));
    const { ring, badge } = plate(made, did, x + 12, y + 11, 32);
    const room = w - 66;
    const [name, how, says] = [words("mono", x + 55, y + 22, short(did)), words("soft", x + 55, y + 39, ""), words("says", x + 12, y + 62, "")];
    made.append(name, how, says);
    made.addEventListener("click", () => this.choose(did));
    made.addEventListener("keydown", (event) => pressed(event) && this.choose(did));
    this.#fresh.push(() => {
      const peer = this.#peers.get(did);
      if (!peer) return;
      set(ring, "data-runs", Number(peer.there.length > 0));
      set(badge, "visibility", peer.serves ? "visible" : "hidden");
      say(how, cut(reached(peer), room));
      const work = peer.there.length ? `▶ ${jobsOf(peer.there)}` : peer.here.length ? `◀ ${jobsOf(peer.here)}` : "";
      const moved = work ? figures(peer.in > peer.out ? { in: peer.in, out: 0 } : { in: 0, out: peer.out }) : figures(peer);
      say(says, cut([work, moved].filter(Boolean).join("   ") || resting(peer), w - 22));
      set(says, "class", work ? "says run" : moved ? "says" : "soft");
      set(made, "aria-label", `${did}, ${kindsOf(peer)}${peer.serves ? ", serves" : ""}${peer.there.length ? `, runs ${jobsOf(peer.there)} for this node` : ""}`);
    });
    return made;
  }

  /** @param {Plan} plan */
  #more({ more, cards }) {
    const { x, y, w, h } = /** @type {Box} */ (more);
    const made = svg("g", { class: "card rest", tabindex: 0, role: "button" }, svg("rect", { class: "plate", x, y, width: w, height: h, rx: 9 }));
    const [count, moved] = [words("who", x + 14, y + (h > 50 ? 30 : 27), ""), words("says", h > 50 ? x + 14 : x + w - 14, y + (h > 50 ? 51 : 27), "", h > 50 ? {} : { "text-anchor": "end" })];
    made.append(count, moved);
    made.addEventListener("click", () => this.choose(null));
    made.addEventListener("keydown", (event) => pressed(event) && this.choose(null));
    const drawn = new Set(cards.map(({ peer }) => peer.did));
    this.#fresh.push(() => {
      const rest = [...this.#peers.values()].filter(({ did }) => !drawn.has(did));
      say(count, `and ${rest.length} more`);
      say(moved, figures({ in: rest.reduce((sum, peer) => sum + peer.in, 0), out: rest.reduce((sum, peer) => sum + peer.out, 0) }) || "in the list below");
    });
    return made;
  }
}

/** What a peer did so far, where nothing moves. @param {Peer} peer */
function resting({ links }) {
  const [come, gone] = [links.reduce((sum, link) => sum + link.bytes_in, 0), links.reduce((sum, link) => sum + link.bytes_out, 0)];
  return `↓ ${size(come)}  ↑ ${size(gone)} so far`;
}

/** @param {Peer} peer */
const kindsOf = ({ links }) => `linked by ${[...new Set(links.map(({ via }) => (Object.hasOwn(KINDS, via) ? KINDS[via] : via)))].join(" and ")}`;

/** A name's picture, and the frame around it that turns while it runs something. @param {Element} into @param {string} did @param {number} x @param {number} y @param {number} side */
function plate(into, did, x, y, side) {
  const made = glyph(did, side);
  made.setAttribute("x", `${x}`);
  made.setAttribute("y", `${y}`);
  const ring = svg("rect", { class: "frame", x: x - 4, y: y - 4, width: side + 8, height: side + 8, rx: 8, pathLength: 100, "aria-hidden": "true" });
  const [cx, cy] = [x + side, y + side - 1];
  const badge = svg("g", { class: "serves", "aria-hidden": "true", visibility: "hidden" }, svg("circle", { cx, cy, r: 6.5 }), svg("path", { d: `M${cx - 3} ${cy}l2.2 2.4l3.8 -4.6` }));
  into.append(made, ring, badge);
  return { ring, badge };
}

/** @param {import("./net-plan.mjs").Spot} spot */
function spotOf({ x, y, near, more, named, right }) {
  const end = right ? {} : { "text-anchor": "end" };
  if (!near) return words("soft", named && right ? x + 2 : x - 2, y + 4, `+${more}`, end);
  const side = 20;
  const made = svg("g", { class: "near" }, titled(`${near.did}${near.serves ? ", serves" : ""}: one hop further`));
  const small = glyph(near.did, side);
  small.setAttribute("x", `${right ? x : x - side}`);
  small.setAttribute("y", `${y - side / 2}`);
  made.append(small);
  if (named) made.append(words("mono small", right ? x + side + 7 : x - side - 7, y + 4, short(near.did), end));
  if (near.serves) made.append(svg("g", { class: "serves" }, svg("circle", { cx: right ? x + side - 1 : x - 1, cy: y + side / 2 - 1, r: 4 })));
  return made;
}

/** @param {string} text */
function titled(text) {
  const made = svg("title", {});
  made.textContent = text.slice(0, 300);
  return made;
}

/** @param {Event} event whether it opens what has the focus */
function pressed(event) {
  if (!["Enter", " "].includes(/** @type {KeyboardEvent} */ (event).key)) return false;
  event.preventDefault();
  return true;
}

/** @param {Element} at @param {string} name @param {string | number} value */
const set = (at, name, value) => void (at.getAttribute(name) === `${value}` || at.setAttribute(name, `${value}`));
/** @param {Element} at @param {string} text */
const say = (at, text) => void (at.textContent === text || (at.textContent = text));
