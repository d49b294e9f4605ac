// @ts-check
/**
 * The Grid view: the grid as it is from this node, drawn and in words. Its place in the URL is #/grid.
 *
 * It looks once a second while somebody can see it, and not at all otherwise. What is drawn is bounded (net-plan.mjs),
 * and so are the lists. Does not know: how to draw (net-draw.mjs), or what a topic is (topics.mjs).
 */
import { KINDS, Picture, called, figures, jobsOf, reached, speed } from "./net-draw.mjs";
import { Watch, choose, layout, level, mostFor } from "./net-plan.mjs";
import { TopicsPanel } from "./topics.mjs";
import { byId, copyable, el, glyph, hueOf, named, number, short, size, svg, took } from "./ui.mjs";

const LOOK_MS = 1_000;
/** Rows of the list; the busiest come first, and those left out are counted. */
const LISTED = 200;
const NEAR_LISTED = 50;
const WORK_LISTED = 20;
/** Names beside the bar of a map. */
const SHARES = 12;

/** @typedef {import("./net-plan.mjs").Peer} Peer */
/** @typedef {import("./net-plan.mjs").Sight} Sight */
/** @typedef {import("./net-plan.mjs").Job} Job */

export class NetView {
  #watch = new Watch();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #looking = false;
  /** @type {string | null} */
  #chosen = null;
  /** @type {Set<string>} */
  #drawn = new Set();
  /** @type {Sight | null} */
  #sight = null;
  #kinds = "";
  #near = "";
  /** @type {Map<string, HTMLTableRowElement>} */
  #rows = new Map();

  /** @param {import("./api.mjs").PromiseGrid} grid @param {import("./client.mjs").Client} client */
  constructor(grid, client) {
    this.grid = grid;
    this.client = client;
    this.picture = new Picture(byId("net-picture"), (did) => this.#choose(did));
    this.topics = new TopicsPanel(grid, client);
    document.addEventListener("visibilitychange", () => this.#look());
    client.addEventListener("ready", () => this.#look());
    grid.addEventListener("peer", () => this.#look());
    byId("map-stop").addEventListener("click", () => grid.stopMaps());
    new ResizeObserver(() => this.#sight && this.#show(this.#sight)).observe(byId("net-picture"));
  }

  get shown() {
    return !byId("net-view").hidden;
  }

  /** Show the view or leave it. @param {boolean} on */
  route(on) {
    if (!on) return this.#rest();
    this.#look();
    this.topics.refresh();
  }

  #rest() {
    clearTimeout(this.#timer);
    this.picture.still();
  }

  /** Look now, and again in a while if anybody still sees it. */
  async #look() {
    clearTimeout(this.#timer);
    if (!this.shown || document.visibilityState !== "visible") return this.#rest();
    if (this.#looking || !this.client.node) return;
    this.#looking = true;
    try {
      const seen = await this.grid.seen();
      this.#sight = this.#watch.take(seen, performance.now());
      this.#show(this.#sight);
    } catch {
      // the node is gone or starting: the page says so, and this shows the last look
    }
    this.#looking = false;
    this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  /** @param {Sight} sight */
  #show(sight) {
    const room = byId("net-picture").clientWidth - 10;
    if (room < 50) return;
    const peers = choose(sight.peers, mostFor(room), this.#drawn);
    this.#drawn = new Set(peers.map(({ did }) => did));
    this.picture.show(layout(peers, sight.peers.length - peers.length, room), sight, this.#chosen);
    this.#summary(sight);
    this.#legend(sight);
    this.#list(sight);
    this.#detail(sight);
    this.#further(sight);
    this.#work(sight);
  }

  /** @param {string | null} did */
  #choose(did) {
    if (did === null) return byId("links-title").focus();
    this.#chosen = this.#chosen === did ? null : did;
    if (this.#sight) this.#show(this.#sight);
  }

  /** @param {Sight} sight */
  #summary({ seen, peers, in: come, out: gone, served, asked }) {
    const counts = [`${number(peers.length)} ${peers.length === 1 ? "peer" : "peers"}`, seen.near_count ? `${number(seen.near_count)} one hop further` : "", `${number(served)} answered for others`, `${number(asked)} asked of them`];
    byId("net-sum").textContent = [...counts, `↓ ${speed(come)}`, `↑ ${speed(gone)}`].filter(Boolean).join(" · ");
    byId("net-alone").hidden = peers.length > 0;
  }

  /** The kinds of links that are there, each with its stroke. @param {Sight} sight */
  #legend({ peers, seen }) {
    const there = new Set(peers.flatMap(({ links }) => links.map(({ via }) => via)));
    const kinds = /** @type {(keyof typeof KINDS)[]} */ (Object.keys(KINDS)).filter((kind) => there.has(kind));
    const key = `${kinds} ${seen.near_count > 0}`;
    if (key === this.#kinds) return;
    this.#kinds = key;
    const sample = (/** @type {string} */ via, /** @type {string} */ text, /** @type {Node[]} */ ...drawn) => shown(40, text, svg("g", { class: "link", "data-via": via }, ...drawn));
    const shown = (/** @type {number} */ width, /** @type {string} */ text, /** @type {Node} */ drawn) => el("li", {}, svg("svg", { width, height: 14, viewBox: `0 0 ${width} 14`, "aria-hidden": "true" }, drawn), text);
    const line = (/** @type {string} */ kind) => svg("path", { class: kind, d: "M1 7H39" });
    byId("net-legend").replaceChildren(
      ...kinds.map((kind) => sample(kind, KINDS[kind], line("line"), ...(kind === "webrtc" ? [line("hollow")] : []))),
      ...(seen.near_count ? [sample("", "one hop further", line("far"))] : []),
      ...(kinds.length ? [sample("", "blocks and messages, to a peer or from it", svg("path", { class: "lane out", "data-level": 2, d: "M1 8H39" }), svg("path", { class: "lane in", "data-level": 2, d: "M39 6H1" })), shown(14, "points at who runs it", svg("g", { class: "link" }, svg("path", { class: "runs", d: "M2 1l11 6l-11 6z" }))), shown(14, "serves others", svg("g", { class: "serves" }, svg("circle", { cx: 7, cy: 7, r: 6 }), svg("path", { d: "M4 7l2.2 2.4l3.8 -4.6" })))] : []),
    );
  }

  /** The same as the picture, in words and figures; of everybody. @param {Sight} sight */
  #list({ peers }) {
    const step = (/** @type {Peer} */ { heat }) => Math.round(Math.log2(heat + 1) / 4); // so that rows do not change places all the time
    const order = [...peers].sort((one, other) => step(other) - step(one) || one.since - other.since);
    /** @type {Map<string, HTMLTableRowElement>} */
    const known = new Map();
    for (const peer of order.slice(0, LISTED)) {
      const row = this.#rows.get(peer.did) ?? el("tr", {}, el("td", {}, named(peer.did, "peer")), ...["", "n", "n", "n rare", "n", "n", ""].map((kind) => el("td", { class: kind })));
      known.set(peer.did, row);
      const total = (/** @type {"bytes_in" | "bytes_out" | "served" | "asked" | "blocks_in" | "blocks_out"} */ what) => peer.links.reduce((sum, link) => sum + link[what], 0);
      const texts = [reached(peer), moved(peer.in, total("bytes_in")), moved(peer.out, total("bytes_out")), `${number(total("blocks_in"))} / ${number(total("blocks_out"))}`, number(total("served")), number(total("asked")), peer.serves ? "yes" : "no"];
      texts.forEach((text, at) => row.cells[at + 1].textContent === text || (row.cells[at + 1].textContent = text));
      if (peer.did === this.#chosen) row.setAttribute("aria-current", "true");
      else row.removeAttribute("aria-current");
    }
    this.#rows = known;
    const rows = [...known.values()];
    byId("links-table").hidden = !rows.length;
    byId("links-empty").hidden = rows.length > 0;
    const more = peers.length - rows.length;
    byId("links-more").textContent = more > 0 ? `and ${number(more)} more` : "";
    const place = byId("links-rows");
    const same = place.children.length === rows.length && rows.every((row, at) => place.children[at] === row);
    if (!same && !place.contains(document.activeElement) && !getSelection()?.toString()) place.replaceChildren(...rows);
  }

  /** All there is to know of the one chosen. @param {Sight} sight */
  #detail({ peers }) {
    const place = byId("net-detail");
    const peer = peers.find(({ did }) => did === this.#chosen);
    if (!peer) return place.replaceChildren();
    if (place.contains(document.activeElement)) return;
    const facts = peer.links.flatMap((link) => {
      const through = link.through ? el("span", { title: link.through }, ` through ${short(link.through)}`) : null;
      return [
        ["link", el("span", {}, KINDS[link.via] ?? link.via, through)],
        ["since", new Date(link.since_ms).toLocaleTimeString([], { hour12: false })],
        ["came", `${size(link.bytes_in)}, ${number(link.blocks_in)} blocks`],
        ["went", `${size(link.bytes_out)}, ${number(link.blocks_out)} blocks`],
        ["answered for it", `${number(link.served)}${link.refused ? `, refused ${number(link.refused)}` : ""}`],
        ["asked of it", number(link.asked)],
        ...(link.carried ? [["passed on for others", size(link.carried)]] : []),
      ];
    });
    const rows = [["engine", peer.engine.slice(0, 80) || "—"], ["serves", peer.serves ? "yes" : "no"], ...facts];
    place.replaceChildren(
      el("p", { class: "bar-of" }, named(peer.did, "peer"), el("span", { class: "hint" }, figures(peer) || "nothing moves just now")),
      el("dl", { class: "facts" }, ...rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    );
  }

  /** @param {Sight} sight */
  #further({ seen }) {
    byId("further").hidden = !seen.near.length;
    if (byId("further").contains(document.activeElement)) return;
    const key = JSON.stringify([seen.near_count, seen.near]);
    if (key === this.#near) return;
    this.#near = key;
    const rows = seen.near.slice(0, NEAR_LISTED).map((one) => el("li", {}, el("span", { class: "grow" }, named(one.did, "member")), one.serves ? el("span", { class: "tag on" }, "serves") : null, el("span", { class: "hint", title: one.through }, `through ${short(one.through)}`)));
    const more = seen.near_count - rows.length;
    byId("further-list").replaceChildren(...rows, ...(more > 0 ? [el("li", { class: "hint" }, `and ${number(more)} more`)] : []));
  }

  /** What runs where: maps in work, what this node runs and for whom, what others run for it. @param {Sight} sight */
  #work({ seen }) {
    const now = Date.now();
    const row = (/** @type {Job[]} */ jobs) => {
      const [{ by, for: whom = seen.me, waits }] = jobs;
      const did = by ?? whom;
      const where = by ? `at ${short(by)}` : whom === seen.me ? "here" : `here, for ${short(whom)}`;
      const since = Math.min(...jobs.map((job) => job.since_ms));
      return el("li", {}, el("span", { class: "grow" }, `${by ? "▷" : "▶"} ${jobsOf(jobs)}`), el("span", { class: "name", title: did }, glyph(did), where), el("span", { class: "hint" }, waits ? "waits for its turn" : took(Math.max(0, now - since))));
    };
    const all = [...seen.here, ...seen.there];
    const groups = grouped(all);
    const rows = groups.slice(0, WORK_LISTED).map(row);
    const more = groups.slice(WORK_LISTED).flat().length + seen.here_count + seen.there_count - all.length;
    byId("work-empty").hidden = rows.length > 0 || seen.maps.length > 0;
    byId("work-list").replaceChildren(...rows, ...(more > 0 ? [el("li", { class: "hint" }, `and ${number(more)} more`)] : []));
    byId("maps").replaceChildren(...seen.maps.slice(0, 5).flatMap((map) => bar(map, seen.me)));
    byId("map-stop").hidden = !this.grid.mapping;
  }
}

/** Now, or so far. @param {number} rate @param {number} total */
const moved = (rate, total) => (level(rate) ? speed(rate) : size(total));

/** Jobs of one program at one place together. @param {Job[]} jobs @returns {Job[][]} */
function grouped(jobs) {
  /** @type {Map<string, Job[]>} */
  const found = new Map();
  for (const job of jobs) {
    const key = JSON.stringify([job.by, job.for, job.code, job.func, job.waits]);
    found.set(key, [...(found.get(key) ?? []), job]);
  }
  return [...found.values()];
}

/** A map in work: who did how much of it. @param {import("./net-plan.mjs").Map_} map @param {string} me @returns {Node[]} */
function bar(map, me) {
  const by = Object.entries(map.by);
  const part = (/** @type {number} */ count, /** @type {string} */ color) => {
    const made = el("span", {});
    made.style.flex = `${count} 0 0`;
    if (color) made.style.background = color;
    return made;
  };
  const color = (/** @type {string} */ did) => (did === me ? "var(--accent)" : `hsl(${hueOf(did)} 48% 46%)`);
  const failed = part(map.failed, "");
  failed.className = "failed";
  const left = map.total - map.done - map.failed;
  const rest = part(left, "transparent");
  const parts = [...by.map(([did, count]) => part(count, color(did))), ...(map.failed ? [failed] : []), rest];
  const share = (/** @type {[string, number]} */ [did, count]) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = color(did);
    return el("li", { title: did }, swatch, did === me ? "this node" : short(did), el("b", {}, number(count)));
  };
  const others = by.slice(SHARES).reduce((sum, [, count]) => sum + count, 0);
  const words = `${called(map)}: ${number(map.done)} of ${number(map.total)} done${map.failed ? `, ${number(map.failed)} failed` : ""}`;
  return [
    el("p", { class: "hint" }, words),
    el("div", { class: "spread", role: "progressbar", ariaLabel: words, ariaValueMax: `${map.total}`, ariaValueNow: `${map.done + map.failed}` }, ...parts),
    el("ul", { class: "shares" }, ...by.slice(0, SHARES).map(share), others ? el("li", {}, "others", el("b", {}, number(others))) : null),
  ];
}
