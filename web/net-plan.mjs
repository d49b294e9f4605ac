// @ts-check
/**
 * The arithmetic of the picture of the grid: from looks at the node to peers with rates, whom to draw, and where.
 *
 * Rates are of the last few seconds, from two looks. Of many peers those that move most are drawn; one that is drawn
 * stays until another moves more, and the order is that in which they were first seen, so that nothing jumps about.
 *
 * Promises: bounded, whatever strangers send: at most `most` cards and NEAR_MOST members beside each.
 * Does not know: elements. `Watch` keeps state; everything else is a function of its arguments.
 */

/** @typedef {"ws" | "webrtc" | "relay" | "unix"} Via */
/** @typedef {{link: number, did: string, via: Via, through: string | null, rtt_ms: number | null, serves: boolean, engine: string, since_ms: number, bytes_in: number, bytes_out: number, carried: number, blocks_in: number, blocks_out: number, served: number, refused: number, asked: number}} Link */
/** @typedef {{did: string, serves: boolean, engine: string, through: string}} Near */
/** @typedef {{task: string, code: string, func: string, since_ms: number, for?: string, by?: string, waits?: boolean}} Job here: for whom; there: by whom */
/** @typedef {{code: string, func: string, total: number, done: number, failed: number, by: Record<string, number>}} Map_ */
/** @typedef {{me: string, serves: boolean, engine: string, links: Link[], greeting: number, near: Near[], here: Job[], there: Job[], near_count: number, here_count: number, there_count: number, maps: Map_[]}} Seen as kernel/promisegrid/seeing.py tells it */

/** @typedef {Link & {in: number, out: number}} Flow in, out: bytes a second */
/** @typedef {{did: string, links: Flow[], near: Near[], there: Job[], here: Job[], serves: boolean, engine: string, rtt_ms: number | null, in: number, out: number, heat: number, since: number}} Peer there: it runs for us; here: we run for it */
/** @typedef {{seen: Seen, peers: Peer[], in: number, out: number, served: number, asked: number}} Sight */

/** @typedef {{x: number, y: number, w: number, h: number}} Box */
/** @typedef {Box & {peer: Peer}} Card */
/** @typedef {{peer: Peer, flow: Flow, path: string, back: string, x: number, y: number, turned: boolean}} Line back: the same from its end; x, y: its middle; turned: drawn from right to left */
/** @typedef {{x: number, y: number, near: Near | null, more: number, path: string, named: boolean, right: boolean}} Spot a member further on, or how many more there are */
/** @typedef {{kind: "sides" | "side" | "comb", width: number, height: number, me: Box, cards: Card[], lines: Line[], spots: Spot[], more: Box | null, trunk: string}} Plan */

/** Rates are over so long. */
const WINDOW_MS = 3_200;
/** What moved is forgotten by half in so long. */
const HALF_MS = 20_000;
/** Who is drawn is left out only for one that moves so many times more. */
const STICKY = 4;
/** What a task that runs weighs beside bytes. */
const JOB_HEAT = 1e7;
const NEAR_MOST = 3;
const NEAR_ROW_MOST = 8;
const EDGE = 3;
const CARD = { w: 208, h: 72 };
const ME = { w: 184, h: 116 };
const STEP = 88;
const NEAR = { w: 127, gap: 28, step: 27 };
const GAP = { least: 88, most: 230 };
/** From so much room on, peers stand on both sides; below the second one they hang under this node. */
const SIDES = 2 * EDGE + ME.w + 2 * (GAP.least + CARD.w + NEAR.gap + NEAR.w);
const SIDE = 2 * EDGE + ME.w + GAP.least + CARD.w + NEAR.gap + NEAR.w;
const COMB = { x: 92, trunk: 26, near: 28 };

/** Looks, one after the other: what each link moved between them. */
export class Watch {
  /** @type {{at: number, counts: Map<number, [number, number]>}[]} */
  #looks = [];
  /** @type {Map<string, {since: number, heat: number}>} */
  #known = new Map();
  #count = 0;

  /** @param {Seen} seen @param {number} at ms of a steady clock @returns {Sight} */
  take(seen, at) {
    const before = this.#looks.at(-1);
    const counts = new Map(seen.links.map((link) => [link.link, /** @type {[number, number]} */ ([link.bytes_in, link.bytes_out])]));
    while (this.#looks.length > 1 && at - this.#looks[1].at >= WINDOW_MS) this.#looks.shift();
    while (this.#looks.length && at - this.#looks[0].at > 3 * WINDOW_MS) this.#looks.shift(); // nobody looked for long
    const oldest = this.#looks[0];
    this.#looks.push({ at, counts });
    const rate = (/** @type {Link} */ link, /** @type {0 | 1} */ way) => {
      if (!oldest || at <= oldest.at) return 0;
      const now = way ? link.bytes_out : link.bytes_in;
      const then = oldest.counts.get(link.link)?.[way] ?? 0;
      return (Math.max(0, now - then) * 1000) / (at - oldest.at);
    };
    const flows = seen.links.map((link) => ({ ...link, in: rate(link, 0), out: rate(link, 1) }));
    const peers = peersOf(seen, flows);
    this.#warm(peers, before ? at - before.at : 0);
    const sum = (/** @type {(flow: Flow) => number} */ of) => flows.reduce((total, flow) => total + of(flow), 0);
    // a circuit's bytes count again on the link below it
    const own = (/** @type {Flow} */ flow) => flow.via !== "relay";
    return { seen, peers, in: sum((flow) => (own(flow) ? flow.in : 0)), out: sum((flow) => (own(flow) ? flow.out : 0)), served: sum((flow) => flow.served), asked: sum((flow) => flow.asked) };
  }

  /** @param {Peer[]} peers @param {number} passed ms */
  #warm(peers, passed) {
    const cooler = 0.5 ** (passed / HALF_MS);
    /** @type {typeof this.#known} */
    const known = new Map();
    for (const peer of peers) {
      const { since, heat } = this.#known.get(peer.did) ?? { since: this.#count++, heat: 0 };
      peer.since = since;
      peer.heat = heat * cooler + ((peer.in + peer.out) * passed) / 1000 + JOB_HEAT * (peer.here.length + peer.there.length);
      known.set(peer.did, { since, heat: Math.min(peer.heat, 1e12) });
    }
    this.#known = known;
    peers.sort((one, other) => one.since - other.since);
  }
}

/** Links by whom they lead to; who is near stands with the peer that says so. @param {Seen} seen @param {Flow[]} flows @returns {Peer[]} */
function peersOf(seen, flows) {
  /** @type {Map<string, Flow[]>} */
  const links = new Map();
  for (const flow of flows) links.set(flow.did, [...(links.get(flow.did) ?? []), flow]);
  return [...links].map(([did, own]) => {
    own.sort((one, other) => Number(one.via === "relay") - Number(other.via === "relay") || one.link - other.link);
    const times = own.flatMap((flow) => (flow.rtt_ms === null ? [] : [flow.rtt_ms]));
    return {
      did,
      links: own,
      near: seen.near.filter((one) => one.through === did),
      there: seen.there.filter((job) => job.by === did),
      here: seen.here.filter((job) => job.for === did),
      serves: own.some((flow) => flow.serves),
      engine: own[0].engine,
      rtt_ms: times.length ? Math.min(...times) : null,
      in: own.reduce((sum, flow) => sum + flow.in, 0),
      out: own.reduce((sum, flow) => sum + flow.out, 0),
      heat: 0,
      since: 0,
    };
  });
}

/** How many cards there is room for. @param {number} room px */
export const mostFor = (room) => (room >= SIDES ? 14 : room >= SIDE ? 8 : 10);

/** Those to draw, in the order they were first seen. @param {Peer[]} peers @param {number} most @param {Set<string>} drawn who is drawn now */
export function choose(peers, most, drawn) {
  if (peers.length <= most) return peers;
  const worth = (/** @type {Peer} */ peer) => (peer.heat + 1) * (drawn.has(peer.did) ? STICKY : 1);
  const best = [...peers].sort((one, other) => worth(other) - worth(one) || one.since - other.since).slice(0, most);
  return best.sort((one, other) => one.since - other.since);
}

/** How much moves, in steps that are told apart by eye: 0 is next to nothing. @param {number} rate bytes a second */
export const level = (rate) => [1024, 64 * 1024, 1024 ** 2, 16 * 1024 ** 2].filter((least) => rate >= least).length;

/** Where everything goes. @param {Peer[]} peers those to draw @param {number} more how many there are besides @param {number} room px @returns {Plan} */
export function layout(peers, more, room) {
  if (room < SIDE) return comb(peers, more, room);
  const both = room >= SIDES && peers.length + Number(more > 0) > 1;
  return columns(peers, more, room, both);
}

/** This node in the middle or at the left, its peers beside it. @param {Peer[]} peers @param {number} more @param {number} room @param {boolean} both @returns {Plan} */
function columns(peers, more, room, both) {
  const all = [...peers, ...(more > 0 ? [null] : [])];
  const right = both ? all.filter((_, at) => at % 2 === 0) : all;
  const left = both ? all.filter((_, at) => at % 2 === 1) : [];
  const far = peers.some((peer) => peer.near.length) ? NEAR.gap + NEAR.w : 0;
  const used = ME.w + (both ? 2 : 1) * (CARD.w + far);
  const gap = Math.max(GAP.least, Math.min(GAP.most, (room - 2 * EDGE - used) / (both ? 2 : 1)));
  const width = Math.max(room, used + (both ? 2 : 1) * gap + 2 * EDGE);
  const x = both ? (width - ME.w) / 2 : (width - used - gap) / 2;
  const tall = (/** @type {(Peer | null)[]} */ side) => side.reduce((sum, peer) => sum + stepOf(peer), 0);
  const height = Math.max(ME.h + 40, tall(left), tall(right)) + 2 * EDGE;
  const me = { x, y: (height - ME.h) / 2, ...ME };
  /** @type {Plan} */
  const plan = { kind: both ? "sides" : "side", width, height, me, cards: [], lines: [], spots: [], more: null, trunk: "" };
  for (const [side, isRight] of /** @type {[(Peer | null)[], boolean][]} */ ([[right, true], [left, false]])) {
    const at = isRight ? me.x + me.w + gap : me.x - gap - CARD.w;
    let y = (height - tall(side)) / 2;
    side.forEach((peer, number) => {
      const step = stepOf(peer);
      const box = { x: at, y: y + (step - CARD.h) / 2, ...CARD };
      y += step;
      if (!peer) return void (plan.more = box);
      plan.cards.push({ peer, ...box });
      curves(plan, peer, box, isRight, (number + 1) / (side.length + 1));
      beside(plan, peer, box, isRight);
    });
  }
  return plan;
}

/** @param {Peer | null} peer */
const stepOf = (peer) => Math.max(STEP, peer ? rowsOf(peer) * NEAR.step + 8 : 0);
/** @param {Peer} peer */
const rowsOf = (peer) => Math.min(peer.near.length, NEAR_MOST) + Number(peer.near.length > NEAR_MOST);

/** Its links, as curves from this node. @param {Plan} plan @param {Peer} peer @param {Box} box @param {boolean} right @param {number} share where at this node's side, 0 to 1 */
function curves(plan, peer, box, right, share) {
  const { me } = plan;
  peer.links.slice(0, 3).forEach((flow, number, all) => {
    const off = (number - (all.length - 1) / 2) * 20;
    const a = { x: right ? me.x + me.w : me.x, y: me.y + 12 + (me.h - 24) * share + off / 2.5 };
    const b = { x: right ? box.x : box.x + box.w, y: box.y + box.h / 2 + off };
    const bend = (b.x - a.x) / 2;
    const path = `M${a.x} ${a.y}C${a.x + bend} ${a.y} ${b.x - bend} ${b.y} ${b.x} ${b.y}`;
    const back = `M${b.x} ${b.y}C${b.x - bend} ${b.y} ${a.x + bend} ${a.y} ${a.x} ${a.y}`;
    plan.lines.push({ peer, flow, path, back, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, turned: !right });
  });
}

/** Who is one hop further on, beside its card. @param {Plan} plan @param {Peer} peer @param {Box} box @param {boolean} right */
function beside(plan, peer, box, right) {
  const rows = rowsOf(peer);
  for (let row = 0; row < rows; row++) {
    const y = box.y + box.h / 2 + (row - (rows - 1) / 2) * NEAR.step;
    const from = right ? box.x + box.w : box.x;
    const x = right ? from + NEAR.gap : from - NEAR.gap;
    const bend = (x - from) / 2;
    const path = `M${from} ${box.y + box.h / 2}C${from + bend} ${box.y + box.h / 2} ${x - bend} ${y} ${x} ${y}`;
    const more = row === NEAR_MOST ? peer.near.length - NEAR_MOST : 0;
    plan.spots.push({ x, y, near: more ? null : peer.near[row], more, path, named: true, right });
  }
}

/** This node above, its peers below it like teeth: for narrow screens. @param {Peer[]} peers @param {number} more @param {number} room @returns {Plan} */
function comb(peers, more, room) {
  const width = Math.max(room, 280);
  const me = { x: EDGE, y: EDGE, w: width - 2 * EDGE, h: 84 };
  /** @type {Plan} */
  const plan = { kind: "comb", width, height: 0, me, cards: [], lines: [], spots: [], more: null, trunk: "" };
  let y = me.y + me.h + 18;
  for (const peer of peers) {
    const box = { x: COMB.x, y, w: width - COMB.x - EDGE, h: CARD.h };
    plan.cards.push({ peer, ...box });
    peer.links.slice(0, 3).forEach((flow, number, all) => {
      const at = y + CARD.h / 2 + (number - (all.length - 1) / 2) * 20;
      plan.lines.push({ peer, flow, path: `M${COMB.trunk} ${at}H${COMB.x}`, back: `M${COMB.x} ${at}H${COMB.trunk}`, x: (COMB.trunk + COMB.x) / 2, y: at, turned: false });
    });
    y += CARD.h;
    if (peer.near.length) {
      const fit = Math.max(1, Math.min(NEAR_ROW_MOST, Math.floor((box.w - 70) / COMB.near)));
      peer.near.slice(0, fit).forEach((near, at) => plan.spots.push({ x: COMB.x + 22 + at * COMB.near, y: y + 17, near, more: 0, path: at ? "" : `M${COMB.x + 10} ${y}v17h10`, named: false, right: true }));
      if (peer.near.length > fit) plan.spots.push({ x: COMB.x + 22 + fit * COMB.near, y: y + 17, near: null, more: peer.near.length - fit, path: "", named: true, right: true });
      y += 30;
    }
    y += 16;
  }
  if (more > 0) {
    plan.more = { x: COMB.x, y, w: width - COMB.x - EDGE, h: 44 };
    y += 60;
  }
  const last = plan.more ? plan.more.y + plan.more.h / 2 : Math.max(0, ...plan.lines.map((line) => line.y));
  if (last) plan.trunk = `M${COMB.trunk} ${me.y + me.h}V${last}${plan.more ? `H${COMB.x}` : ""}`;
  plan.height = Math.max(y - 10, me.y + me.h + EDGE);
  return plan;
}
