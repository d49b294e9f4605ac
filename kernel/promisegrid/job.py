"""The job and result blobs: what goes into the WASI module before a run, and what comes out after it.

One layout for every host, read by `kernel/wasi/` in C. All integers are little-endian u32 unless said.

    job:    "PGJ1" seed[32] output_max:u64 argc (len bytes)* envc (len bytes)* stdin_len stdin nodes (node)*
    result: "PGR1" flags exit stdout_len stdout stderr_len stderr nodes (node)*
    node:   kind:u8 (0 folder, 1 file, 2 symlink) path_len path data_len data; byte order of path

flags: 1 the program called proc_exit, 2 the output limit was hit, 4 the module ran out of its own memory,
8 the folder was changed.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from promisegrid.errors import RemoteError

Node = tuple[str, int, bytes]
"""path relative to the root, kind, content or link target."""

EXITED: Final = 1
OUTPUT_LIMIT: Final = 2
NO_MEMORY: Final = 4
CHANGED: Final = 8
_ARGV0: Final = "main"
_WORDS_BYTES: Final = 700
"""So much of stderr goes into a sentence, which is cut at 1024 characters on its way."""


def encode_job(
    seed: bytes, output_max: int, args: Sequence[str], stdin: bytes, nodes: Sequence[Node]
) -> bytes:
    """The job blob. argv[0] is `main`; the environment is empty."""
    assert len(seed) == 32
    out = [b"PGJ1", seed, struct.pack("<Q", output_max), _u32(len(args) + 1), _run(_ARGV0.encode())]
    out.extend(_run(arg.encode()) for arg in args)
    out.extend((_u32(0), _run(stdin), _u32(len(nodes))))
    for path, kind, data in sorted(nodes, key=lambda node: node[0].encode()):
        out.extend((bytes([kind]), _run(path.encode()), _run(data)))
    return b"".join(out)


@dataclass(frozen=True, slots=True)
class JobResult:
    """A result blob, read. `exit` is 0 for a program that returned without calling proc_exit."""

    flags: int
    exit: int
    stdout: bytes
    stderr: bytes
    nodes: tuple[Node, ...]


def decode_result(blob: bytes, nodes_max: int) -> JobResult:
    """Read a result blob. RemoteError("bad_result") when it is not one (a program broke its memory)."""
    try:
        if blob[:4] != b"PGR1":
            raise ValueError("wrong magic")
        flags, code = struct.unpack_from("<II", blob, 4)
        stdout, at = _take(blob, 12)
        stderr, at = _take(blob, at)
        (count,) = struct.unpack_from("<I", blob, at)
        if count > nodes_max:
            raise RemoteError("output_too_large", f"{count} files; at most {nodes_max} are kept.")
        at, nodes = at + 4, []
        for _ in range(count):
            kind = blob[at]
            path, at = _take(blob, at + 1)
            data, at = _take(blob, at)
            nodes.append((path.decode(), kind, data))
        if at != len(blob):
            raise ValueError("trailing bytes")
    except (ValueError, struct.error, IndexError) as error:
        raise RemoteError("bad_result", f"The program's output cannot be read: {error}.") from error
    return JobResult(flags, code, stdout, stderr, tuple(nodes))


def last_words(blob: bytes) -> str:
    """The end of what a program wrote to stderr, as one line to put into a failure's text; "" if nothing.

    Control characters are replaced: it is a stranger's text on somebody's terminal.
    """
    try:
        _, at = _take(blob, 12)
        stderr, _ = _take(blob, at)
    except (ValueError, struct.error):
        return ""
    lines = stderr[-_WORDS_BYTES:].decode(errors="replace").split("\n")
    plain = ("".join(c if c.isprintable() else " " for c in line).strip() for line in lines)
    return " / ".join(line for line in plain if line)


def _u32(number: int) -> bytes:
    return struct.pack("<I", number)


def _run(data: bytes) -> bytes:
    return _u32(len(data)) + data


def _take(blob: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<I", blob, at)
    end = at + 4 + length
    if end > len(blob):
        raise ValueError("cut off")
    return blob[at + 4 : end], end
