"""Build the WASI modules: C and WebAssembly text in this folder → `promisegrid/wasi/*.wasm`, reproducibly.

    python kernel/wasi/build.py            # write them, print what to pin
    python kernel/wasi/build.py --check    # exit 1 if what is committed is not what these sources give

Promises: the same sources and the same `ziglang` give the same bytes on any machine (no paths, no dates,
no debug sections).
Does not know: how the modules are linked; `promisegrid_node/wasi.py` and `worker/wasi.mjs` do.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from wasmtime import wat2wasm

from promisegrid.wasm.guard import guard

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "promisegrid" / "wasi"
TEXTS = ("gate", "peek", "bridge")
METERED = ("wasi", "bridge")  # what a call costs depends on what it is given
STACK_BYTES = 64 * 1024
MEMORY_MAX_BYTES = 1 << 30  # part of the specification: past it a program is refused, on every host

FLAGS = (
    "-target wasm32-freestanding -mcpu=mvp+bulk_memory -std=c17 -O2 -g0 -ffreestanding -nostdlib "
    "-Wall -Wextra -Werror "
    f"-Wl,--no-entry,--strip-all,-z,stack-size={STACK_BYTES},--max-memory={MEMORY_MAX_BYTES}"
).split()


def compile_c() -> bytes:
    """The WASI module. Raises CalledProcessError, the compiler's words on stderr, if it does not compile."""
    sources = sorted(path.name for path in HERE.glob("*.c"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "wasi.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *sources, "-o", str(out)]
        subprocess.run(command, cwd=HERE, check=True)
        return out.read_bytes()


def build() -> dict[str, bytes]:
    """Every module by name, without its `.wasm`."""
    modules = {name: bytes(wat2wasm((HERE / f"{name}.wat").read_text())) for name in TEXTS}
    modules["wasi"] = compile_c()
    for name in METERED:
        modules[name] = guard(modules[name], growth=False)
    return modules


def main(arguments: list[str]) -> int:
    """Write or check; 0 if all is as it should be."""
    different = []
    for name, data in build().items():
        path = TARGET / f"{name}.wasm"
        if not path.exists() or path.read_bytes() != data:
            different.append(name)
        if "--check" not in arguments:
            path.write_bytes(data)
        print(f'    "{name}": "{hashlib.sha256(data).hexdigest()}",  # {len(data):,} bytes')
    if "--check" not in arguments:
        return 0
    for name in different:
        print(f"{name}.wasm is not what kernel/wasi gives; run python kernel/wasi/build.py", file=sys.stderr)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
