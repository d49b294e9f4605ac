"""What a message costs the kernel in a tab's Python against the same kernel on CPython, cryptography apart.

    python bench/tab_dispatch.py [--rounds 5] [--calls 400]

The node and its turns of sixteen distinct calls are those of bench/messages.py; a verification is answered
with yes and a signature with a constant, at once, on both Pythons. Pyodide runs under Node.js, whose engine
is Chromium's.
Goal: 0.35 of CPython's rate. Exit code 1 if it is missed.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GOAL = 0.35
SCRIPT = """
import { loadPyodide } from "pyodide";
import { realpathSync } from "node:fs";
const [root, rounds, calls] = process.argv.slice(1);
const pyodide = await loadPyodide({ enableRunUntilComplete: false, env: { PYTHONDONTWRITEBYTECODE: "1" } });
pyodide.mountNodeFS("/lib/python3.14/site-packages", realpathSync(`${root}/build/cache/test-site`));
for (const room of ["bench", "kernel"]) {
  pyodide.FS.mkdir(`/${room}`);
  pyodide.mountNodeFS(`/${room}`, `${root}/${room}`);
}
pyodide.runPython("import sys; sys.path[:0] = ['/bench', '/kernel']");
console.log(pyodide.pyimport("tab_dispatch").measure(Number(rounds), Number(calls)));
"""
POINTS = (
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    "047cf27b188d034f7e8a52380304b51ac3c08969e277f21b35a60b48fc47669978"
    "07775510db8ed040293d9ac69f7430dbba7dade63ce982299e04b79d227873d1",
)
"""Two public keys: the generator of P-256 and its double."""


class Keys:
    """Of a host whose cryptography costs nothing."""

    def __init__(self, point: bytes) -> None:
        from_point: Any = sys.modules["promisegrid.did"]
        self.public_key, self.did = point, from_point.encode_p256(point)

    @classmethod
    def open(cls, home: Path) -> Keys:
        """The founder's, or the member's."""
        return cls(bytes.fromhex(POINTS[home.name == "member"]))

    def verify(self, *_: object) -> bool:
        """Always."""
        return True

    def sign(self, _: bytes) -> bytes:
        """Always the same."""
        return (bytes(31) + b"\x01") * 2


def measure(rounds: int, calls: int) -> float:
    """Calls a second, the median round; in any Python that finds the kernel and this folder."""
    host: Any = types.ModuleType("promisegrid_node.keys")
    host.Keys = Keys
    sys.modules["promisegrid_node"] = types.ModuleType("promisegrid_node")
    sys.modules["promisegrid_node.keys"] = host
    messages: Any = __import__("messages")
    spent = []
    with tempfile.TemporaryDirectory() as folder:
        founder, member = messages.pair(Path(folder))
        code, promise = messages.served(founder, member)
        for turn in range(rounds):
            batch = messages.messages(founder, member, code, promise, calls, turn * calls)
            spent.append(messages.timed(founder, batch))
    return 1 / statistics.median(spent)


def inside(rounds: int, calls: int) -> float:
    """Messages a second in Pyodide."""
    words = ["node", "--input-type=module", "-e", SCRIPT, str(ROOT), str(rounds), str(calls)]
    return _said(words, ROOT / "worker")


def outside(rounds: int, calls: int) -> float:
    """The same in a CPython of its own."""
    code = f"import tab_dispatch as t; print(t.measure({rounds}, {calls}))"
    where = f"import sys; sys.path[:0] = [{str(ROOT / 'bench')!r}, {str(ROOT / 'kernel')!r}]; "
    return _said([sys.executable, "-c", where + code], ROOT)


def _said(words: list[str], where: Path) -> float:
    done = subprocess.run(words, cwd=where, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        sys.exit(f"tab_dispatch: {done.stderr.strip()[-2000:]}")
    return float(done.stdout.split()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=400)
    options = parser.parse_args()
    here = outside(options.rounds, options.calls)
    tab = inside(options.rounds, options.calls)
    print(f"calls dispatched a second: CPython {here:.0f}, a tab's Python {tab:.0f}")
    print(f"ratio {tab / here:.2f} (goal {GOAL})")
    return 0 if tab / here >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
