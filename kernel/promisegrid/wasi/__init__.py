"""One WASI: preview 1 in memory as a small wasm module, the same bytes on every host.

The sources and the builder are in `kernel/wasi`; the hosts' twins `promisegrid_node/wasi.py` and
`worker/wasi.mjs` link these modules to a program.

Promises: `load` gives exactly the bytes pinned here, or raises.
Does not know: engines.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final

MODULES: Final[dict[str, str]] = {
    "wasi": "a81aa1d5255035eb5470993cffad62a463317db7cd3dd7cc6834a8479ed4e096",
    "gate": "01cf5778258927ad6ab7631ae03200c62ca667973dedf0c42aff4eb142cb5421",
    "peek": "838df931919ae70f4f80bb207e6325cfaaa0ca2c2c4eff92be292ddd7fdcd793",
    "bridge": "76844671f1cc266ab131ce7b89b64f46a340d14b3b346726f0c868094dfb0905",
}
"""The modules' names and the sha-256 of each. Another digest is another machine: receipts name `wasi`'s."""

WASI_SHA256: Final = MODULES["wasi"]

NAMESPACE: Final = "wasi_snapshot_preview1"

CALLS: Final[frozenset[str]] = frozenset(
    (
        "args_get", "args_sizes_get", "clock_res_get", "clock_time_get", "environ_get", "environ_sizes_get",
        "fd_advise", "fd_allocate", "fd_close", "fd_datasync", "fd_fdstat_get", "fd_fdstat_set_flags",
        "fd_fdstat_set_rights", "fd_filestat_get", "fd_filestat_set_size", "fd_filestat_set_times",
        "fd_pread", "fd_prestat_dir_name", "fd_prestat_get", "fd_pwrite", "fd_read", "fd_readdir",
        "fd_renumber", "fd_seek", "fd_sync", "fd_tell", "fd_write", "path_create_directory",
        "path_filestat_get", "path_filestat_set_times", "path_link", "path_open", "path_readlink",
        "path_remove_directory", "path_rename", "path_symlink", "path_unlink_file", "poll_oneoff",
        "proc_exit", "proc_raise", "random_get", "sched_yield", "sock_accept", "sock_recv", "sock_send",
        "sock_shutdown",
    )
)
"""All of preview 1. Source: wasi_snapshot_preview1.witx."""


def offers(module: str, name: str) -> bool:
    """Is this function import (not a memory) given to every program? Also `env.abort`, which traps."""
    return name in CALLS if module == NAMESPACE else (module, name) == ("env", "abort")


def load(name: str) -> bytes:
    """The bytes of one of `MODULES`. Raises ValueError if the installed file is not the pinned one."""
    data = (resources.files(__name__) / f"{name}.wasm").read_bytes()
    if hashlib.sha256(data).hexdigest() != MODULES[name]:
        raise ValueError(f"promisegrid/wasi/{name}.wasm is not the pinned module; install promisegrid again")
    return data
