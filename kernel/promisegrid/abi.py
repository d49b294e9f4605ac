"""The three ways to call a module, and how arguments and values cross them.

- command: exports `_start`; WASI preview 1; arguments are text.
- handle: exports `handle(ptr, len) -> i64` and `alloc(len)`; dag-cbor arguments in, a dag-cbor value out.
- plain: any other exported function over numbers, called as itself; i64 as integers, and a result that
  is NaN or infinite is refused, because it has no dag-cbor spelling.

Which one a function is follows from the module alone, so a task means the same everywhere.
"""

from __future__ import annotations

import math
import struct
from typing import Final, Literal

from promisegrid import dagcbor
from promisegrid.errors import RemoteError
from promisegrid.wasm.layout import FuncType
from promisegrid.wasm.module import ModuleInfo

Abi = Literal["command", "handle", "plain"]
_NUMBERS: Final = frozenset({"i32", "i64", "f32", "f64"})
_WORD: Final = 8


def entry(info: ModuleInfo) -> str:
    """The function that is meant when none is named. RemoteError("no_such_function") when there is none."""
    if info.is_command:
        return "_start"
    if info.is_handler:
        return "handle"
    raise RemoteError("no_such_function", f"The module has no entry of its own; name one of: {_names(info)}.")


def choose(info: ModuleInfo, func: str) -> Abi:
    """How that export is called. RemoteError("no_such_function") names what there is."""
    if func == "_start" and info.is_command:
        return "command"
    if func == "handle" and info.is_handler:
        return "handle"
    signature = info.functions.get(func)
    if signature is None:
        text = f"The module exports no function {func!r}; it has: {_names(info)}."
        raise RemoteError("no_such_function", text)
    odd = sorted({kind for kind in (*signature.params, *signature.results) if kind not in _NUMBERS})
    if odd:
        raise RemoteError("no_such_function", f"{func!r} works on {', '.join(odd)}, not only on numbers.")
    return "plain"


def command_args(args: tuple[object, ...]) -> list[str]:
    """Text arguments without NUL. RemoteError("bad_args")."""
    for number, arg in enumerate(args, 1):
        if not isinstance(arg, str) or "\0" in arg:
            raise RemoteError("bad_args", f"Argument {number} of a command is text without NUL, not {arg!r}.")
    return [str(arg) for arg in args]


def pack(signature: FuncType, args: tuple[object, ...]) -> bytes:
    """Numbers as the 8-byte words of `effects.Job`. RemoteError("bad_args")."""
    if len(args) != len(signature.params):
        raise RemoteError("bad_args", f"The function takes {signature}, but {len(args)} were given.")
    return b"".join(
        _word(kind, arg, number)
        for number, (kind, arg) in enumerate(zip(signature.params, args, strict=True), 1)
    )


def unpack(signature: FuncType, words: bytes) -> object:
    """The value of a plain call: None, a number, or a list of them. RemoteError("bad_result")."""
    if len(words) != _WORD * len(signature.results):
        raise RemoteError("bad_result", "The host returned another number of results than the function has.")
    values = [
        _number(kind, words[at * _WORD : (at + 1) * _WORD]) for at, kind in enumerate(signature.results)
    ]
    if not values:
        return None
    return values[0] if len(values) == 1 else values


def handle_value(data: bytes) -> object:
    """The value a handler returned. RemoteError("bad_result") unless it is dag-cbor."""
    try:
        return dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("bad_result", f"The handler did not return dag-cbor: {error}.") from error


def _names(info: ModuleInfo) -> str:
    names = sorted(info.functions)
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "") if names else "nothing callable"


def _word(kind: str, arg: object, number: int) -> bytes:
    if kind in ("i32", "i64"):
        bits = 32 if kind == "i32" else 64
        if type(arg) is not int or not -(1 << (bits - 1)) <= arg < 1 << bits:
            raise RemoteError("bad_args", f"Argument {number} is an integer of {bits} bits, not {arg!r}.")
        return (arg & ((1 << bits) - 1)).to_bytes(_WORD, "little")
    if type(arg) not in (int, float):
        raise RemoteError("bad_args", f"Argument {number} must be a number, not {arg!r}.")
    try:
        packed = struct.pack("<f" if kind == "f32" else "<d", arg)
    except (OverflowError, struct.error) as error:
        raise RemoteError("bad_args", f"Argument {number} does not fit an {kind}: {arg!r}.") from error
    return packed.ljust(_WORD, b"\0")


def _number(kind: str, word: bytes) -> int | float:
    if kind in ("i32", "i64"):
        return int.from_bytes(word[: 4 if kind == "i32" else 8], "little", signed=True)
    value: float = struct.unpack("<f", word[:4])[0] if kind == "f32" else struct.unpack("<d", word)[0]
    if not math.isfinite(value):
        raise RemoteError("bad_result", "The function returned NaN or infinity, which a result cannot hold.")
    return value
