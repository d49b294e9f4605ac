"""What is appended to a module: entries of its sections, and the index each one gets.

Everything is appended and nothing renumbered, so that no instruction of the module has to change its meaning.
That is sound only for a module the engine has validated before: one that names the index after its last
function or global is invalid as it came, and would be valid with our additions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from promisegrid.wasm.binary import sized, sleb, uleb
from promisegrid.wasm.layout import Layout

_CONST: Final = {0x7F: 0x41, 0x7E: 0x42}


@dataclass(slots=True)
class Additions:
    """Encoded entries, section by section."""

    layout: Layout
    types: dict[bytes, int] = field(default_factory=dict)
    """By signature, in order: the index of each."""
    functions: list[bytes] = field(default_factory=list)
    globals: list[bytes] = field(default_factory=list)
    exports: list[bytes] = field(default_factory=list)
    code: list[bytes] = field(default_factory=list)

    def counter(self, kind: int, export: str, value: int) -> int:
        """A mutable global of value type 0x7f (i32) or 0x7e (i64), exported; its index."""
        index = self.layout.globals + len(self.globals)
        self.globals.append(bytes((kind, 1, _CONST[kind])) + sleb(value) + b"\x0b")
        self.exports.append(sized(export.encode()) + b"\x03" + uleb(index))
        return index

    def type(self, signature: bytes) -> int:
        """A function type; its index."""
        return self.types.setdefault(signature, len(self.layout.types) + len(self.types))

    def function(self, signature: bytes, body: bytes) -> int:
        """A helper function; its index. Its body is written without the size before it."""
        index = len(self.layout.functions) + len(self.functions)
        self.functions.append(uleb(self.type(signature)))
        self.code.append(sized(body))
        return index

    def export_function(self, name: str, index: int) -> None:
        """Export a function under another name."""
        self.exports.append(sized(name.encode()) + b"\x00" + uleb(index))
