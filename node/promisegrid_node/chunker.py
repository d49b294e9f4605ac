"""The buzhash chunker in Wasmtime. Twin of worker/chunker.mjs; the specification is promisegrid/chunker.

Promises: the same cuts as `promisegrid.chunker.Buzhash`, a thousand times as fast, and without Python's lock.
One `Buzhash` serves one thread at a time.
"""

from __future__ import annotations

import ctypes

import wasmtime

from promisegrid.chunker import LARGEST, ROOM, load


class Buzhash:
    """See `promisegrid.chunker.Chunker`. Compiles the module: a few milliseconds."""

    largest = LARGEST

    def __init__(self) -> None:
        engine = wasmtime.Engine()
        self._store = wasmtime.Store(engine)
        instance = wasmtime.Instance(self._store, wasmtime.Module(engine, load()), [])
        exports = instance.exports(self._store)
        calls = {name: exports[name] for name in ("input", "lengths", "cut")}
        memory = exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        self._input, self._lengths, self._cut = (_func(call) for call in calls.values())
        base = ctypes.addressof(memory.data_ptr(self._store).contents)
        room = (ctypes.c_ubyte * ROOM).from_address(base + self._input(self._store))
        self._room = memoryview(room).cast("B")  # the module never grows its memory, so this never moves
        self._found = base + self._lengths(self._store)

    def cut(self, data: memoryview, last: bool) -> list[int]:
        """See `Chunker`."""
        lengths: list[int] = []
        at = 0
        while at < len(data):
            piece = data[at : at + ROOM]
            self._room[: len(piece)] = piece
            count = self._cut(self._store, len(piece), int(last and at + len(piece) == len(data)))
            if not count:
                break
            found = list((ctypes.c_uint32 * count).from_address(self._found))
            lengths += found
            at += sum(found)
        return lengths


def _func(export: object) -> wasmtime.Func:
    assert isinstance(export, wasmtime.Func)
    return export
