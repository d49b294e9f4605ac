"""What a module offers and asks for, as hosts and the kernel need to know it. Function bodies are not read.

`ModuleInfo` is small, plain data: it is kept beside compiled code, and every decision about how to call a
function follows from it, so that it falls the same way on every host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promisegrid.errors import RemoteError
from promisegrid.wasm.layout import Export, FuncType, Import, Memory, parse
from promisegrid.wasm.limits import ModuleLimits

_I32, _I64 = "i32", "i64"
_WASI: Final = "wasi_snapshot_preview1"


def _calls() -> dict[str, FuncType]:
    """The calls of WASI preview 1: i for i32, I for i64; every one but proc_exit gives an errno."""
    table = (
        "args_get ii|args_sizes_get ii|environ_get ii|environ_sizes_get ii|clock_res_get ii|"
        "clock_time_get iIi|fd_advise iIIi|fd_allocate iII|fd_close i|fd_datasync i|fd_fdstat_get ii|"
        "fd_fdstat_set_flags ii|fd_fdstat_set_rights iII|fd_filestat_get ii|fd_filestat_set_size iI|"
        "fd_filestat_set_times iIIi|fd_pread iiiIi|fd_prestat_get ii|fd_prestat_dir_name iii|"
        "fd_pwrite iiiIi|fd_read iiii|fd_readdir iiiIi|fd_renumber ii|fd_seek iIii|fd_sync i|fd_tell ii|"
        "fd_write iiii|path_create_directory iii|path_filestat_get iiiii|path_filestat_set_times iiiiIIi|"
        "path_link iiiiiii|path_open iiiiiIIii|path_readlink iiiiii|path_remove_directory iii|"
        "path_rename iiiiii|path_symlink iiiii|path_unlink_file iii|poll_oneoff iiii|proc_exit i|"
        "proc_raise i|random_get ii|sched_yield |sock_accept iii|sock_recv iiiiii|sock_send iiiii|"
        "sock_shutdown ii"
    )
    kinds = {"i": _I32, "I": _I64}
    calls = {}
    for line in table.split("|"):
        name, letters = line.split(" ")
        results = () if name == "proc_exit" else (_I32,)
        calls[name] = FuncType(tuple(kinds[letter] for letter in letters), results)
    return calls


WASI_CALLS: Final[Mapping[str, FuncType]] = _calls()
_ABORT: Final = FuncType((_I32,) * 4, ())
_HANDLE: Final = FuncType((_I32, _I32), (_I64,))
_ALLOC: Final = FuncType((_I32,), (_I32,))
_NO_EXPORT: Final = Export("", 0)
_START: Final = FuncType((), ())
_PLAIN: Final = re.compile(r"[!-~]*")


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """Imports, exported functions by name, the memory, and which ABIs it speaks."""

    imports: tuple[Import, ...]
    functions: Mapping[str, FuncType]
    memory: Memory | None
    exports_memory: bool
    """Whether it exports its memory, under the name `memory`."""
    has_start: bool

    @property
    def is_command(self) -> bool:
        """Whether it is a WASI command: exports `_start` of no parameters."""
        return self.functions.get("_start") == _START

    @property
    def is_handler(self) -> bool:
        """Whether it exports `handle(ptr, len) -> i64`, `alloc(len) -> i32` and its memory."""
        calls = self.functions.get("handle") == _HANDLE and self.functions.get("alloc") == _ALLOC
        return calls and self.exports_memory

    @property
    def has_initialize(self) -> bool:
        """Whether `_initialize` has to run before anything else (a WASI reactor)."""
        return self.functions.get("_initialize") == _START

    @property
    def uses_wasi(self) -> bool:
        """Whether it imports any WASI call."""
        return any(item.module == _WASI for item in self.imports)

    def to_value(self) -> dict[str, Any]:
        """Plain data, for dag-cbor or JSON."""
        memory = self.memory
        return {
            "imports": [[i.module, i.name, i.kind, _signature(i.type)] for i in self.imports],
            "functions": {name: _signature(kind) for name, kind in self.functions.items()},
            "memory": None if memory is None else [memory.imported, memory.min_pages, memory.max_pages],
            "exports_memory": self.exports_memory,
            "has_start": self.has_start,
        }

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> ModuleInfo:
        """The inverse of `to_value`, for data this node wrote itself."""
        memory = value["memory"]
        return cls(
            tuple(Import(where, name, kind, _func_type(of)) for where, name, kind, of in value["imports"]),
            {name: FuncType(tuple(s[0]), tuple(s[1])) for name, s in value["functions"].items()},
            None if memory is None else Memory(memory[0], memory[1], memory[2]),
            value["exports_memory"],
            value["has_start"],
        )


def describe(data: bytes, limits: ModuleLimits | None = None) -> ModuleInfo:
    """Read a module's declarations. RemoteError as `layout.parse`."""
    layout = parse(data, limits or ModuleLimits())
    functions = {
        name: layout.type_of(export.index) for name, export in layout.exports.items() if export.kind == "func"
    }
    exports_memory = layout.exports.get("memory", _NO_EXPORT).kind == "memory"
    return ModuleInfo(layout.imports, functions, layout.memory, exports_memory, layout.start is not None)


def check_imports(info: ModuleInfo) -> None:
    """RemoteError("bad_import") that names every import which is not offered."""
    missing = [_asked(item) for item in info.imports if not _offered(item)]
    if missing:
        names = ", ".join(missing[:8]) + (f" and {len(missing) - 8} more" if len(missing) > 8 else "")
        offer = "WASI preview 1, env.abort and a memory are"
        raise RemoteError("bad_import", f"The module asks for {names}, which is not offered ({offer}).")


def _asked(item: Import) -> str:
    """An import in a sentence: a stranger's name, cut short, and its signature if that is what is wrong.

    What is no plain name is quoted and spelled out: some letters look like others.
    """
    text = f"{item.module[:60]}.{item.name[:60]}"
    text = text if _PLAIN.fullmatch(text) else ascii(text)
    known = item.module == _WASI and item.name in WASI_CALLS
    return f"{text} as {item.type or item.kind}" if known or item.kind != "func" else text


def _offered(item: Import) -> bool:
    if item.module == _WASI:
        return item.kind == "func" and WASI_CALLS.get(item.name) == item.type
    if item.module == "env" and item.name == "abort":
        return item.kind == "func" and item.type == _ABORT
    return item.kind == "memory"


def _signature(kind: FuncType | None) -> list[list[str]] | None:
    return None if kind is None else [list(kind.params), list(kind.results)]


def _func_type(signature: list[list[str]] | None) -> FuncType | None:
    return None if signature is None else FuncType(tuple(signature[0]), tuple(signature[1]))
