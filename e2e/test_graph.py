"""The arithmetic of the promise picture, in Node.js: whatever is promised to whom, no label is covered."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

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


def test_no_label_is_covered(tmp_path: Path) -> None:
    for source in ("web/graph.mjs", "web/ui.mjs", "worker/units.mjs"):
        shutil.copy(ROOT / source, tmp_path)
    (tmp_path / "check.mjs").write_text(LAYOUT)
    done = subprocess.run(
        ["node", "check.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "uncovered\n", done.stderr
