// @ts-check
/**
 * A directed graph of who promised what to whom, drawn as SVG: names are boxes in columns, promises are lines with a label.
 *
 * Every line has a port of its own at both boxes, and its label sits at the port where it ends. Ports in neighbouring
 * columns are half a row apart and labels half a row high, so no two labels meet. A promise back to an earlier column runs the other way between them.
 *
 * Promises: the same edges give the same picture; everything in it is text or has one, and can be reached with the keyboard.
 * Does not know: what a promise is. `layout` is arithmetic; `draw` makes elements.
 */
import { glyph, svg } from "./ui.mjs";

const ROW = 68;
const LABEL = 36;
const EDGE = 4;
const NARROW = 560;
/** The least room between columns, for a label. */
const ROOM = { wide: 176, narrow: 156 };
const CHAR = 7.6;

/** @typedef {{id: string, from: string, to: string, label: string, says: string, title: string, state: string}} Edge label: what is promised; says: what became of it */
/** @typedef {{did: string, x: number, y: number, w: number, h: number}} Box */
/** @typedef {{edge: Edge, path: string, x: number, y: number, w: number, words: string[]}} Line x, y, w: its label's place */

/** Where everything goes. @param {Edge[]} edges @param {string} me @param {number} room px that are there */
export function layout(edges, me, room) {
  const narrow = room < NARROW;
  const w = narrow ? 68 : 140;
  const column = columns(edges, me);
  const count = Math.max(0, ...column.values()) + 1;
  const gap = Math.max(narrow ? ROOM.narrow : ROOM.wide, count > 1 ? (room - 2 * EDGE - count * w) / (count - 1) : 0);
  const step = w + Math.min(gap, 520);
  const ports = ends(edges, column);
  const boxes = place(column, ports, w, step);
  const lines = edges.map((edge) => line(edge, boxes, ports, column, Math.min(gap - 24, 230)));
  const bulge = edges.some((edge) => column.get(edge.from) === column.get(edge.to)) ? ROOM.narrow : 0;
  const height = Math.max(ROW, ...[...boxes.values()].map((box) => box.y + box.h)) + EDGE;
  return { width: 2 * EDGE + w + (count - 1) * step + bulge, height, boxes: [...boxes.values()], lines, narrow };
}

/** The column of each name: one to the right of everybody who promised it something, but for promises in a circle. @param {Edge[]} edges @param {string} me */
function columns(edges, me) {
  /** @type {Map<string, number>} */
  const found = new Map();
  const open = new Set();
  /** @type {Map<string, string[]>} */
  const from = new Map();
  for (const edge of edges) from.set(edge.to, [...(from.get(edge.to) ?? []), edge.from]);
  const depth = (/** @type {string} */ did) => {
    const known = found.get(did);
    if (known !== undefined) return known;
    open.add(did);
    const before = (from.get(did) ?? []).filter((other) => !open.has(other));
    const at = before.length ? Math.max(...before.map(depth)) + 1 : 0;
    open.delete(did);
    found.set(did, at);
    return at;
  };
  const all = [...new Set([me, ...edges.flatMap((edge) => [edge.from, edge.to])])];
  const promised = edges.filter((edge) => edge.from === me).map((edge) => edge.to);
  // Who promised us something stands left of us, unless we promised them something as well.
  for (const did of [...all.filter((did) => !from.has(did)), ...promised, ...all]) depth(did);
  return found;
}

/** Which lines end at which side of a box, from top to bottom. @param {Edge[]} edges @param {Map<string, number>} column */
function ends(edges, column) {
  /** @type {Map<string, {left: string[], right: string[]}>} */
  const ports = new Map([...column.keys()].map((did) => [did, { left: [], right: [] }]));
  for (const edge of edges) {
    const [a, b] = [column.get(edge.from) ?? 0, column.get(edge.to) ?? 0];
    ports.get(edge.from)?.[a <= b ? "right" : "left"].push(`${edge.id}>`);
    ports.get(edge.to)?.[a < b ? "left" : "right"].push(`>${edge.id}`);
  }
  return ports;
}

/** @param {Map<string, number>} column @param {Map<string, {left: string[], right: string[]}>} ports @param {number} w @param {number} step */
function place(column, ports, w, step) {
  /** @type {Map<string, Box>} */
  const boxes = new Map();
  /** @type {number[]} */
  const next = [];
  for (const [did, at] of column) {
    const { left, right } = ports.get(did) ?? { left: [], right: [] };
    const rows = Math.max(1, left.length, right.length);
    next[at] ??= EDGE + (at % 2) * (ROW / 2);
    boxes.set(did, { did, x: EDGE + at * step, y: next[at], w, h: rows * ROW });
    next[at] += rows * ROW;
  }
  return boxes;
}

/** @param {Edge} edge @param {Map<string, Box>} boxes @param {Map<string, {left: string[], right: string[]}>} ports @param {Map<string, number>} column @param {number} most px for a label @returns {Line} */
function line(edge, boxes, ports, column, most) {
  const end = (/** @type {string} */ did, /** @type {string} */ port) => {
    const box = /** @type {Box} */ (boxes.get(did));
    const sides = ports.get(did) ?? { left: [], right: [] };
    const side = sides.left.includes(port) ? "left" : "right";
    return { side, x: side === "left" ? box.x : box.x + box.w, y: box.y + (sides[side].indexOf(port) + 0.5) * ROW };
  };
  const [a, b] = [end(edge.from, `${edge.id}>`), end(edge.to, `>${edge.id}`)];
  const out = (/** @type {{side: string}} */ at) => (at.side === "left" ? -1 : 1);
  const bend = column.get(edge.from) === column.get(edge.to) ? 90 : Math.abs(b.x - a.x) / 2;
  const tip = b.x + out(b) * 9;
  const path = `M${a.x} ${a.y}C${a.x + out(a) * bend} ${a.y} ${tip + out(b) * bend} ${b.y} ${tip} ${b.y}`;
  const chars = Math.max(6, Math.floor((most - 34) / CHAR));
  const words = [edge.label, edge.says].map((text) => (text.length > chars ? `${text.slice(0, chars - 1)}…` : text));
  const w = Math.max(...words.map((text) => text.length)) * CHAR + 34;
  return { edge, path, x: b.side === "left" ? tip - 6 - w : tip + 6, y: b.y, w, words };
}

/** What a state looks like besides its colour: a sign in front of its word. */
const SIGNS = { offered: "○", kept: "✓", deferred: "…", broken: "✕", revoked: "⊘", expired: "⊘", "used up": "✓" };

/**
 * The picture. `choose` is called with the id of a promise that was clicked, or opened with Enter or Space.
 * @param {Edge[]} edges @param {{me: string, room: number, chosen: string | null, chain: Set<string>, name: (did: string, narrow: boolean) => string, choose: (id: string) => void}} options
 */
export function draw(edges, { me, room, chosen, chain, name, choose }) {
  const plan = layout(edges, me, room);
  const picture = svg("svg", { class: "graph", viewBox: `0 0 ${plan.width} ${plan.height}`, width: plan.width, height: plan.height, role: "group", "aria-label": "Who promised what to whom" });
  const looks = (/** @type {Edge} */ { id, state }) => ({ class: `edge${id === chosen ? " chosen" : chain.has(id) ? " chain" : ""}`, "data-state": state.replace(" ", "-") });
  const below = svg("g", { "aria-hidden": "true" }); // no line runs over a box or a label
  for (const each of plan.lines) {
    const made = svg("g", looks(each.edge), svg("path", { class: "line", d: each.path }), tipOf(each));
    made.addEventListener("click", () => choose(each.edge.id));
    below.append(made);
  }
  const boxes = plan.boxes.map((box) => boxOf(box, box.did === me, name(box.did, plan.narrow), plan.narrow));
  picture.append(below, ...boxes, ...plan.lines.map((each) => labelled(each, looks(each.edge), each.edge.id === chosen, choose)));
  return picture;
}

/** A label that is a button. @param {Line} line @param {Record<string, string>} looks @param {boolean} pressed @param {(id: string) => void} choose */
function labelled(line, looks, pressed, choose) {
  const { id, title } = line.edge;
  const made = svg("g", { ...looks, "data-id": id, tabindex: 0, role: "button", "aria-pressed": `${pressed}`, "aria-label": title }, ...labelOf(line));
  made.addEventListener("click", () => choose(id));
  made.addEventListener("keydown", (event) => {
    if (!["Enter", " "].includes(/** @type {KeyboardEvent} */ (event).key)) return;
    event.preventDefault();
    choose(id);
  });
  return made;
}

/** @param {Box} box @param {boolean} mine @param {string} name @param {boolean} narrow its name is below its picture */
function boxOf({ did, x, y, w, h }, mine, name, narrow) {
  const made = svg("g", { class: mine ? "who mine" : "who" });
  const plate = glyph(did, 24);
  plate.setAttribute("x", `${narrow ? x + w / 2 - 12 : x + 9}`);
  plate.setAttribute("y", `${y + h / 2 - (narrow ? 21 : 12)}`);
  const title = svg("title", {});
  title.textContent = did;
  const text = svg("text", narrow ? { x: x + w / 2, y: y + h / 2 + 18, "text-anchor": "middle" } : { x: x + 41, y: y + h / 2 + 4 });
  text.textContent = name;
  made.append(title, svg("rect", { x, y: y + 6, width: w, height: h - 12, rx: 8 }), plate, text);
  return made;
}

/** @param {Line} line */
function tipOf({ path }) {
  const [x, y] = path.split(" ").slice(-2).map(Number);
  const before = Number(path.split("C")[1].split(" ")[2]);
  const out = before < x ? 1 : -1;
  return svg("path", { class: "tip", d: `M${x + out * 9} ${y}l${-out * 10} -5v10z` });
}

/** @param {Line} line */
function labelOf({ edge, x, y, w, words }) {
  const text = (/** @type {string} */ kind, /** @type {number} */ right, /** @type {number} */ down, /** @type {string} */ said) => {
    const made = svg("text", { class: kind, x: x + right, y: y + down });
    made.textContent = said;
    return made;
  };
  const sign = SIGNS[/** @type {keyof typeof SIGNS} */ (edge.state)] ?? "○";
  return [svg("rect", { x, y: y - LABEL / 2 + 1, width: w, height: LABEL - 2, rx: 9 }), text("sign", 9, 4, sign), text("what", 25, -3, words[0]), text("says", 25, 12, words[1])];
}
