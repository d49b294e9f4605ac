"""Small WebAssembly programs in text, for what no real program does on purpose."""

from __future__ import annotations

import wasmtime

_WASI = '(import "wasi_snapshot_preview1" "{name}" (func ${name} {kind}))'
_IMPORTS = {
    "fd_read": "(param i32 i32 i32 i32) (result i32)",
    "fd_write": "(param i32 i32 i32 i32) (result i32)",
    "proc_exit": "(param i32)",
    "poll_oneoff": "(param i32 i32 i32 i32) (result i32)",
}


def _command(body: str, *imports: str, memory: str = "1") -> bytes:
    lines = [_WASI.format(name=name, kind=_IMPORTS[name]) for name in imports]
    text = f'(module {" ".join(lines)} (memory (export "memory") {memory}) (func (export "_start") {body}))'
    return bytes(wasmtime.wat2wasm(text))


def add_one() -> bytes:
    """add_one(i64) → i64, and half(f64) → f64."""
    return bytes(
        wasmtime.wat2wasm(
            '(module (func (export "add_one") (param i64) (result i64) local.get 0 i64.const 1 i64.add)'
            ' (func (export "half") (param f64) (result f64) local.get 0 f64.const 0.5 f64.mul))'
        )
    )


def cat() -> bytes:
    """Copies standard input to standard output."""
    return _command(
        """(loop $more
             (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
             (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
             (if (i32.load (i32.const 8)) (then
               (i32.store (i32.const 4) (i32.load (i32.const 8)))
               (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
               (br $more))))""",
        "fd_read",
        "fd_write",
    )


def exits(code: int) -> bytes:
    """Ends with an exit code."""
    return _command(f"(call $proc_exit (i32.const {code}))", "proc_exit")


def traps() -> bytes:
    """Executes `unreachable`."""
    return _command("unreachable")


def loops() -> bytes:
    """Never ends."""
    return _command("(loop $again (br $again))")


def grows() -> bytes:
    """Asks for memory until there is none."""
    return _command("(loop $again (drop (memory.grow (i32.const 1000))) (br $again))")


def recurses() -> bytes:
    """Calls itself for ever."""
    return bytes(
        wasmtime.wat2wasm('(module (memory (export "memory") 1) (func $f (export "_start") (call $f)))')
    )


def floods() -> bytes:
    """Writes 60 kB to standard output for ever."""
    return _command(
        """(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 60000))
           (loop $again (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
             (br $again))""",
        "fd_write",
    )


def imports(module: str, name: str) -> bytes:
    """Wants an import that nobody offers."""
    return bytes(
        wasmtime.wat2wasm(
            f'(module (import "{module}" "{name}" (func)) (memory (export "memory") 1)'
            ' (func (export "_start")))'
        )
    )


def counts_to() -> bytes:
    """count(i64) → i64: counts to its argument, at some billion steps a second, and gives it."""
    return bytes(
        wasmtime.wat2wasm(
            """(module (func (export "count") (param $to i64) (result i64) (local $at i64)
                 (loop $more
                   (local.set $at (i64.add (local.get $at) (i64.const 1)))
                   (br_if $more (i64.lt_u (local.get $at) (local.get $to))))
                 (local.get $at)))"""
        )
    )
