"""Build the chunker: `chunker.c` → `promisegrid/chunker/chunker.wasm`, reproducibly.

    python kernel/chunker/build.py            # write it, print the CID to pin
    python kernel/chunker/build.py --check    # exit 1 if what is committed is not what the source gives

Promises: the same source and the same `ziglang` give the same bytes on any machine (no paths, no dates, no
debug sections). The numbers come from `promisegrid.chunker`, which is the specification.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from promisegrid.chunker import LARGEST, MASK, ROOM, SMALLEST, WINDOW
from promisegrid.chunker.table import TABLE
from promisegrid.cid import Cid

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "promisegrid" / "chunker" / "chunker.wasm"
FLAGS = [
    *("-target", "wasm32-freestanding", "-mcpu=mvp", "-std=c17", "-O2", "-g0", "-ffreestanding", "-nostdlib"),
    *("-Wall", "-Wextra", "-Werror", "-Wl,--no-entry,--strip-all,-z,stack-size=4096"),
]


def table() -> str:
    """The header that the source includes."""
    numbers = {"SMALLEST": SMALLEST, "LARGEST": LARGEST, "MASK": MASK, "WINDOW": WINDOW, "ROOM": ROOM}
    lines = [f"#define {name} {value}u" for name, value in numbers.items()]
    words = ", ".join(f"{word}u" for word in TABLE)
    return "\n".join([*lines, f"static const unsigned int TABLE[256] = {{{words}}};", ""])


def build() -> bytes:
    """The module. Raises CalledProcessError, the compiler's words on stderr, if it does not compile."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "chunker.wasm"
        (Path(folder) / "table.h").write_text(table())
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, "-I", folder, "chunker.c", "-o", str(out)]
        subprocess.run(command, cwd=HERE, check=True)
        return out.read_bytes()


def main(arguments: list[str]) -> int:
    """Write or check; 0 if all is as it should be."""
    data = build()
    same = TARGET.exists() and TARGET.read_bytes() == data
    if "--check" not in arguments:
        TARGET.write_bytes(data)
    print(f"{Cid.of(data)}  {len(data):,} bytes")
    if "--check" in arguments and not same:
        print("chunker.wasm is not what kernel/chunker gives; run its build.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
