"""Random programs for the WASI module: lists of calls, with what they poke into memory before each.

`program(seed)` is one; `run(program, target)` gives its trace and result blob on any target; targets are the
twin here, the module in Wasmtime (tests/node/test_wasi.py) and in Node.js (tests/worker/wasi_trace.mjs). The
three must agree on every errno and on every byte of memory after every call.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.oracle.wasi_descriptors import Ended, run
from tests.oracle.wasi_twin import Twin

SIGNATURES = {
    "args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
    "clock_res_get": "ii", "clock_time_get": "iIi", "random_get": "ii", "poll_oneoff": "iiii",
    "proc_exit": "i", "proc_raise": "i", "sched_yield": "",
    "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
    "fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i", "fd_sync": "i",
    "fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii", "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi", "fd_pwrite": "iiiIi", "fd_read": "iiii", "fd_write": "iiii",
    "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii", "fd_readdir": "iiiIi", "fd_renumber": "ii",
    "fd_seek": "iIii", "fd_tell": "ii",
    "path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii",
    "path_remove_directory": "iii", "path_rename": "iiiiii", "path_symlink": "iiiii",
    "path_unlink_file": "iii",
}  # fmt: skip
"""Every call's parameters: i for i32, I for i64. Source: wasi_snapshot_preview1.witx."""

MEMORY = 65536
PATH_ONE, PATH_TWO, VECTORS, DATA, OUT = 1000, 6000, 12000, 20000, 40000
NAMES = (
    b"a", b"b", b"c", b"d", b"d/e", b"d/e/f", b"link", b"loop", b"up", b"deep", b"out", "é".encode(), b"a.b",
    b"dangling", b"n1", b"n2", b"n3", b"d/n1", b"d/n2", b"d/e/n3", b"d/lf", b".", b"..", b"d/..", b"d/e/..",
)  # fmt: skip
STRANGE = (b"", b"/", b"/a", b"a\0b", b"\xff", b"\xed\xa0\x80", b"n" * 255, b"n" * 256, b"../a", b"d/../../a")
OPENED = ((b"a", 0, 0), (b"b", 1, 0), (b"d", 2, 0), (b"d/e/f", 0, 1))  # path, oflags, fdflags: 4 to 7
LONG = (b"d/" * 2047 + b"a", b"d/../" * 900 + b"a", b"n" * 4096)
NODES = (
    (1, b"a", b"alpha"), (0, b"d", b""), (0, b"d/e", b""), (1, b"d/e/f", b"f" * 3000), (2, b"d/lf", b"e/f"),
    (2, b"dangling", b"n1"), (2, b"deep", b"d/e/"), (2, b"link", b"d"), (2, b"loop", b"loop"),
    (2, b"out", b"/etc"), (2, b"up", b"d/../../x"),
)  # fmt: skip

OFTEN = (
    *("path_open",) * 4, *("fd_write", "fd_read", "fd_pread", "fd_pwrite", "fd_seek", "fd_readdir") * 2,
    *(name for name in SIGNATURES if name.startswith("path_")), "fd_filestat_set_size", "fd_filestat_get",
    "fd_fdstat_set_flags", "fd_fdstat_get", "fd_filestat_set_times", "fd_advise", "fd_close",
)  # fmt: skip
ENDING = ("proc_exit", "fd_renumber")

Step = tuple[list[tuple[int, bytes]], str, list[int]]


@dataclass(frozen=True)
class Program:
    """A job and what to do with it: each step pokes memory, then makes one call."""

    job: bytes
    steps: list[Step]


class Target(Protocol):
    """Something that has the 46 calls."""

    def poke(self, at: int, data: bytes) -> None: ...
    def call(self, name: str, *args: int) -> int: ...
    def memory(self) -> bytes: ...
    def result(self) -> bytes: ...


def job(
    args: Sequence[bytes] = (b"main",),
    environ: Sequence[bytes] = (),
    stdin: bytes = b"",
    nodes: Sequence[tuple[int, bytes, bytes]] = (),
    output_max: int = 1 << 20,
    seed: bytes = bytes(32),
) -> bytes:
    """A job blob, written here a second time: the kernel's encoder has its own tests."""
    out = [b"PGJ1", seed, struct.pack("<QI", output_max, len(args)), *map(run, args)]
    out += [struct.pack("<I", len(environ)), *map(run, environ), run(stdin), struct.pack("<I", len(nodes))]
    out += [bytes([kind]) + run(path) + run(data) for kind, path, data in nodes]
    return b"".join(out)


class Writer:
    """Draws one program's steps."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.pokes: list[tuple[int, bytes]] = []

    def program(self, length: int) -> Program:
        draw = self.draw
        blob = job(
            [b"main", *(draw.randbytes(3).hex().encode() for _ in range(draw.randrange(4)))],
            [b"K=v"] * draw.randrange(2),
            draw.randbytes(draw.randrange(200)),
            NODES,
            draw.choice((3000, 100_000, 1 << 20)),
            draw.randbytes(32),
        )
        opens = [self.opening(*some) for some in OPENED]
        return Program(blob, opens + [self.step() for _ in range(length)])

    def opening(self, path: bytes, oflags: int, fdflags: int) -> Step:
        rights = 0 if oflags == 2 else 66
        return [(PATH_ONE, path)], "path_open", [3, 1, PATH_ONE, len(path), oflags, rights, 0, fdflags, OUT]

    def step(self) -> Step:
        name = self.draw.choice(OFTEN if self.draw.random() < 0.7 else tuple(SIGNATURES))
        while name in ENDING and self.draw.random() < 0.9:
            name = self.draw.choice(tuple(SIGNATURES))
        group = name.split("_")[0]
        self.pokes = []
        if group == "path":
            args = self.path_call(name)
        elif name in ("fd_read", "fd_write", "fd_pread", "fd_pwrite"):
            args = self.vector_call(name)
        elif name == "poll_oneoff":
            args = self.poll_call()
        else:
            args = self.plain_call(name)
        return self.pokes, name, args

    def fd(self) -> int:
        draw = self.draw
        if draw.random() < 0.1:
            return draw.choice((0, 1, 2, 99, 0xFFFFFFFF))
        return draw.choice((4, 4, 5, 5, 6, 7, 7, 8))

    def base(self) -> int:
        """A descriptor for a path: mostly the root."""
        return 3 if self.draw.random() < 0.8 else self.fd()

    def pointer(self, near: int) -> int:
        draw = self.draw
        if draw.random() < 0.03:
            return draw.choice((65530, 65536, 0xFFFFFFFF, 0x80000000, draw.randrange(MEMORY)))
        return near + draw.randrange(64)

    def number(self, kind: str) -> int:
        draw = self.draw
        small = (0, 1, 2, 3, 4, 5, 8, 16, 100, 3000, draw.randrange(5000))
        large = (1 << 31, (1 << 31) - 1, 0xFFFFFFFF) if kind == "i" else (1 << 31, 1 << 63, (1 << 64) - 2)
        return draw.choice(large) if draw.random() < 0.06 else draw.choice(small)

    def path(self, at: int) -> tuple[int, int]:
        draw = self.draw
        odd = draw.random()
        path = draw.choice(LONG) if odd < 0.01 else draw.choice(STRANGE) if odd < 0.08 else draw.choice(NAMES)
        if draw.random() < 0.1:
            path += b"/" * draw.randrange(1, 3)
        self.pokes.append((at, path))
        return (at if draw.random() > 0.02 else self.pointer(at)), len(path)

    def path_call(self, name: str) -> list[int]:
        draw, flags = self.draw, self.draw.choice((0, 1) * 8 + (2,))
        one = self.path(PATH_ONE)
        fd = self.base()
        if name == "path_open":
            rights = draw.choice((0, 2, 2, 64, 66, 66, (1 << 30) - 1, 1 << 40))
            oflags = draw.choice((0, 0, 0, 1, 1, 1, 1, 2, 2, 4, 5, 8, 9, 3, 10, 16))
            fdflags = draw.choice((0, 0, 0, 0, 1, 4, 16, 32))
            return [fd, flags, *one, oflags, rights, 0, fdflags, self.pointer(OUT)]
        if name == "path_filestat_get":
            return [fd, flags, *one, self.pointer(OUT)]
        if name == "path_filestat_set_times":
            return [fd, flags, *one, self.number("I"), self.number("I"), draw.randrange(18)]
        if name == "path_readlink":
            return [fd, *one, self.pointer(DATA), draw.choice((0, 1, 3, 100)), self.pointer(OUT)]
        if name == "path_symlink":
            return [*one, fd, *self.path(PATH_TWO)]
        if name == "path_link":
            return [fd, draw.choice((0, 0, 0, 1)), *one, self.base(), *self.path(PATH_TWO)]
        if name == "path_rename":
            return [fd, *one, self.base(), *self.path(PATH_TWO)]
        return [fd, *one]

    def vector_call(self, name: str) -> list[int]:
        draw, count = self.draw, self.draw.choice((0, 1, 1, 2, 3, 5, 1025))
        size = draw.choice((1, 10, 500, 3000))
        spans = [(self.pointer(DATA), draw.randrange(size)) for _ in range(min(count, 5))]
        self.pokes.append((VECTORS, b"".join(struct.pack("<II", *span) for span in spans)))
        self.pokes.append((DATA, draw.randbytes(64)))
        offset = [self.number("I")] if name in ("fd_pread", "fd_pwrite") else []
        return [self.fd(), VECTORS, count, *offset, self.pointer(OUT)]

    def poll_call(self) -> list[int]:
        draw, count = self.draw, self.draw.choice((0, 1, 1, 2, 3, 1025))
        clocks_only = draw.random() < 0.6
        waits = b""
        for _ in range(min(count, 3)):
            tag = 0 if clocks_only else draw.choice((0, 1, 2, 1, 2, 3))
            which = draw.choice((0, 1, 2, 3, 4)) if tag == 0 else self.fd()
            times = draw.choice((0, 5, 10**9, 946_684_800 * 10**9 + 5000, (1 << 64) - 1))
            wait = draw.getrandbits(64), tag, which, times, 0, draw.choice((0, 1)), 7, 7
            waits += struct.pack("<QB7xI4xQQHHI", *wait)
        self.pokes.append((DATA, waits))
        return [DATA, self.pointer(OUT), count, self.pointer(VECTORS)]

    def plain_call(self, name: str) -> list[int]:
        args = [self.number(kind) for kind in SIGNATURES[name]]
        if name.startswith(("fd_", "sock_")):
            args[0] = self.fd()
        if name == "fd_renumber":
            args[1] = self.fd()
        if name == "fd_close" and self.draw.random() < 0.02:
            args[0] = 3
        if name == "fd_readdir":
            args[0] = self.draw.choice((3, 6, 6, args[0]))
            cookie = self.draw.choice((0, 0, 1, 2, 3, 5, 40, 1 << 40))
            room = self.draw.choice((0, 10, 24, 60, 300, 4096))
            args[1:] = [self.pointer(DATA), room, cookie, self.pointer(OUT)]
        elif name.endswith("_get") or name in ("fd_tell", "fd_seek"):
            args[-1] = self.pointer(OUT)
        if name in ("args_get", "environ_get", "args_sizes_get", "environ_sizes_get", "random_get"):
            args[0] = self.pointer(DATA)
        if name == "random_get":
            args[1] = self.draw.randrange(600)
        return args


def program(seed: int, length: int = 60) -> Program:
    """The random program of that number."""
    return Writer(seed).program(length)


def trace(program: Program, target: Target) -> tuple[list[str], bytes]:
    """What each call answered, with a checksum of all memory after it; and the result blob."""
    lines = []
    for pokes, name, args in program.steps:
        for at, data in pokes:
            target.poke(at, data)
        try:
            errno = str(target.call(name, *args))
        except Ended:
            lines.append("ended")
            break
        lines.append(f"{errno} {zlib.crc32(target.memory()):08x}")
    return lines, target.result()


class TwinTarget:
    """The twin, with its own memory."""

    def __init__(self, job: bytes) -> None:
        self.program_memory = bytearray(MEMORY)
        self.twin = Twin(job, self.program_memory)

    def poke(self, at: int, data: bytes) -> None:
        self.program_memory[at : at + len(data)] = data

    def call(self, name: str, *args: int) -> int:
        return self.twin.call(name, *args)

    def memory(self) -> bytes:
        return bytes(self.program_memory)

    def result(self) -> bytes:
        return self.twin.result()


def driver_wat() -> str:
    """A program that is nothing but the 46 calls: it imports them and exports them again."""
    lines = ["(module", "(memory (export \"memory\") 1 1)"]
    imports, exports = [], []
    for name, kinds in SIGNATURES.items():
        params = " ".join("i64" if kind == "I" else "i32" for kind in kinds)
        result = "" if name == "proc_exit" else "(result i32)"
        imports.append(
            f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) {result}))'
        )
        exports.append(f'(export "{name}" (func ${name}))')
    return "\n".join([lines[0], *imports, lines[1], *exports, ")"])
