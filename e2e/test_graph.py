"""The arithmetic of the pictures, in Node.js: whatever is promised, whoever is linked, nothing is covered."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from e2e.harness import ROOT

LAYOUT = """
import { layout } from "./graph.mjs";
let seed = 1;
const dice = (sides) => (seed = (seed * 1103515245 + 12345) % 2147483648) % sides;
const room_of = (left, top, w, h) => ({ left, right: left + w, top, bottom: top + h });
const covers = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
for (let round = 0; round < 1500; round++) {
  const [names, count] = [2 + dice(5), 1 + dice(10)];
  const edges = Array.from({ length: count }, (_, at) => {
    const from = dice(names);
    const to = (from + 1 + dice(names - 1)) % names;
    const label = "rendering-a-long-name".slice(0, 3 + dice(18));
    const said = { label, says: "kept, 2 of 3", title: "", state: "kept" };
    return { id: `${at}`, from: `d${from}`, to: `d${to}`, ...said };
  });
  for (const room of [300, 780]) {
    const plan = layout(edges, "d0", room);
    const labels = plan.lines.map(({ x, y, w }) => room_of(x, y - 17, w, 34));
    const boxes = plan.boxes.map(({ x, y, w, h }) => room_of(x, y + 6, w, h - 12));
    const outside = labels.some((one) => one.left < 0 || one.right > plan.width);
    const before = (at) => [...boxes, ...labels.slice(0, at)];
    const bad = labels.some((one, at) => before(at).some((other) => covers(one, other)));
    if (bad || outside) throw new Error(`round ${round}, ${room} px: ${JSON.stringify(edges)}`);
  }
}
console.log("uncovered");
"""

NET = """
import { Watch, choose, layout, level, mostFor } from "./net-plan.mjs";
let seed = 7;
const dice = (sides) => (seed = (seed * 1103515245 + 12345) % 2147483648) % sides;
const check = (fine, why) => { if (!fine) throw new Error(why); };
const covers = (a, b) => a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
const none = { frames_in: 0, frames_out: 0, carried: 0, blocks_in: 0, blocks_out: 0, served: 0, asked: 0 };
function look(count, bytes) {
  const links = Array.from({ length: count }, (_, n) => ({ link: n, did: `d${n}`, via: "ws", rtt_ms: n,
    serves: n % 2, engine: "", since_ms: 0, bytes_in: bytes(n), bytes_out: 0, refused: 0, ...none }));
  for (let n = 0; n < count; n += 3) links.push({ ...links[n], link: 5000 + n, via: "relay" });
  const near = Array.from({ length: dice(60) }, (_, n) => ({ did: `n${n}`, through: `d${dice(count)}` }));
  const jobs = { here: [], there: [{ by: "d1" }], here_count: 0, there_count: 1, maps: [] };
  return { me: "me", serves: true, links, greeting: 0, near, near_count: near.length, ...jobs };
}
for (let round = 0; round < 300; round++) {
  const [count, room] = [1 + dice(round % 10 ? 18 : 1000), 250 + dice(1200)];
  const watch = new Watch();
  watch.take(look(count, () => 0), 0);
  const sight = watch.take(look(count, (n) => (n === count - 1 ? 9e6 : n)), 1000);
  const peers = choose(sight.peers, mostFor(room), new Set());
  check(peers.length === Math.min(count, mostFor(room)), "bounded");
  check(peers.some(({ did }) => did === `d${count - 1}`), "who moves most is drawn");
  check(count < 2 || peers.some(({ did }) => did === "d1"), "so is who runs something");
  const plan = layout(peers, count - peers.length, room);
  const spots = plan.spots.map(({ x, y, near, named, right }) => {
    const w = near && named ? 126 : 20;
    return { x: right ? x : x - w, y: y - 10, w, h: 20 };
  });
  const boxes = [plan.me, ...plan.cards, ...(plan.more ? [plan.more] : []), ...spots];
  boxes.forEach((a, at) => boxes.slice(0, at).forEach((b) => check(!covers(a, b), `covered: ${room} px`)));
  const inside = ({ x, y, w, h }) => x >= 0 && y >= 0 && x + w <= plan.width && y + h <= plan.height;
  boxes.forEach((box) => check(inside(box), `outside: ${room} px, ${JSON.stringify(box)}`));
  check(plan.width <= Math.max(room, 280), `too wide for ${room} px`);
}
const watch = new Watch();
for (let s = 0; s < 4; s++) watch.take(look(2, () => 1000 * s), 1000 * s);
check(watch.take(look(2, () => 4000), 4000).peers[1].in === 1000, "a rate");
check(watch.take(look(2, () => 4000), 9000).in < 1000, "and it ends");
const again = watch.take(look(2, () => 10), 9500);
check(again.in === 0, "a link that counts from nothing again moves nothing backwards");
check(level(1000) === 0 && level(2000) === 1 && level(1e9) === 4, "levels");
console.log("drawn");
"""


@pytest.mark.parametrize(
    ("script", "sources", "said"),
    [
        (LAYOUT, ("web/graph.mjs", "web/ui.mjs", "worker/units.mjs"), "uncovered"),
        (NET, ("web/net-plan.mjs",), "drawn"),
    ],
    ids=["promises", "grid"],
)
def test_nothing_is_covered(tmp_path: Path, script: str, sources: tuple[str, ...], said: str) -> None:
    for source in sources:
        shutil.copy(ROOT / source, tmp_path)
    (tmp_path / "check.mjs").write_text(script)
    done = subprocess.run(
        ["node", "check.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"{said}\n", done.stderr
