"""A second opinion on what a program costs: an interpreter that counts as docs/meter.md says.

It rewrites nothing: it runs the module as its author made it, over i32 only, enough for programs written to
compare counts. It shares no code with the meter but the reader of numbers and sections; what it knows of
stretches is written down again, over a tree instead of over bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from promisegrid.wasm.binary import Reader
from promisegrid.wasm.inspect import bodies
from promisegrid.wasm.layout import FuncType, Layout, parse
from promisegrid.wasm.limits import ModuleLimits

_MASK: Final = 0xFFFF_FFFF
_BINARY: Final[dict[int, Callable[[int, int], int]]] = {
    0x46: lambda a, b: int(a == b),
    0x49: lambda a, b: int(a < b),
    0x6A: lambda a, b: a + b & _MASK,
    0x6B: lambda a, b: a - b & _MASK,
    0x71: lambda a, b: a & b,
    0x73: lambda a, b: a ^ b,
}
_ONE_NUMBER: Final = frozenset((0x0C, 0x0D, 0x10, 0x20, 0x21, 0x22, 0x23, 0x24, 0x41))


@dataclass(slots=True, eq=False)
class Node:
    """One instruction; for a block, what is inside, and the stretches that its borders begin."""

    op: int
    numbers: tuple[int, ...] = ()
    results: int = 0
    inner: list[Node] = field(default_factory=list)
    other: list[Node] = field(default_factory=list)
    borders: dict[str, Stretch] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Stretch:
    """Code that is paid for together."""

    cost: int = 0


class _Branch(Exception):
    """On its way out, by so many labels more."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label


class Counter:
    """A module's functions by index, its global, its memory, and the units used so far."""

    def __init__(self, wasm: bytes) -> None:
        layout: Layout = parse(wasm, ModuleLimits())
        self.types: list[FuncType] = [layout.type_of(number) for number in range(len(layout.functions))]
        self.functions = []
        for start, end in bodies(layout):
            reader = Reader(wasm, start, end, "a function")
            extra = 0
            for _ in range(reader.u32()):
                extra += reader.u32()
                reader.byte()
            code, _ = _tree(reader)
            self.functions.append((extra, code, _Stretches().of(code)))
        self.globals = [1]
        self.stores: dict[int, int] = {}
        self.used = 0

    def call(self, number: int, *args: int) -> int:
        """The one result of a function."""
        extra, code, first = self.functions[number]
        frame = [*args, *[0] * extra]
        stack: list[int] = []
        self.used += first.cost
        with contextlib.suppress(_Branch):
            self._run(code, frame, stack)
        return stack[-1]

    def _run(self, code: list[Node], frame: list[int], stack: list[int]) -> None:
        for node in code:
            if node.op in (2, 3, 4):
                self._block(node, frame, stack)
            else:
                self._plain(node, frame, stack)

    def _block(self, node: Node, frame: list[int], stack: list[int]) -> None:
        arm = node.inner
        if node.op == 4:
            taken = bool(stack.pop())
            arm = node.inner if taken else node.other
            self._pass(node, "then" if taken else "else")
        height = len(stack)
        while True:
            if node.op == 3:
                self._pass(node, "head")
            try:
                self._run(arm, frame, stack)
            except _Branch as way:
                if way.label:
                    raise _Branch(way.label - 1) from None
                kept = node.results if node.op != 3 else 0
                stack[height:] = stack[len(stack) - kept :]
                if node.op == 3:
                    continue
            break
        self._pass(node, "end")

    def _pass(self, node: Node, border: str) -> None:
        """A stretch begins here, perhaps."""
        stretch = node.borders.get(border)
        self.used += 0 if stretch is None else stretch.cost

    def _plain(self, node: Node, frame: list[int], stack: list[int]) -> None:
        op, number = node.op, node.numbers[0] if node.numbers else 0
        if op in _BINARY:
            second = stack.pop()
            stack.append(_BINARY[op](stack.pop(), second))
        elif op == 0x0C or (op == 0x0D and stack.pop()):
            raise _Branch(number)
        elif op == 0x0E:
            raise _Branch(node.numbers[min(stack.pop(), len(node.numbers) - 1)])
        elif op == 0x0F:
            raise _Branch(1 << 30)
        elif op == 0x10:
            count = len(self.types[number].params)
            args = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            stack.append(self.call(number, *args))
        elif op == 0x20:
            stack.append(frame[number])
        elif op in (0x21, 0x22):
            frame[number] = stack.pop() if op == 0x21 else stack[-1]
        elif op == 0x23:
            stack.append(self.globals[number])
        elif op == 0x24:
            self.globals[number] = stack.pop()
        elif op == 0x36:
            value = stack.pop()
            self.stores[stack.pop()] = value
        elif op == 0x41:
            stack.append(number & _MASK)
        else:
            assert op == 0x0D, hex(op)


def _tree(reader: Reader) -> tuple[list[Node], int]:
    """The instructions up to the next `else` or `end`, and which it was."""
    code: list[Node] = []
    while True:
        op = reader.byte()
        if op in (0x05, 0x0B):
            return code, op
        node = Node(op)
        if op in (2, 3, 4):
            node.results = int(reader.byte() != 0x40)
            node.inner, ended = _tree(reader)
            if ended == 0x05:
                node.other, _ = _tree(reader)
                node.numbers = (1,)  # it has an `else`
        elif op == 0x0E:
            node.numbers = tuple([reader.u32() for _ in range(reader.u32() + 1)])
        elif op in _ONE_NUMBER:
            node.numbers = (_signed(reader) if op == 0x41 else reader.u32(),)
        elif op == 0x36:
            reader.u32(), reader.u32()
        code.append(node)


def _signed(reader: Reader) -> int:
    value = shift = 0
    while True:
        byte = reader.byte()
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value - (1 << shift) if byte & 0x40 else value


class _Stretches:
    """Cuts one body: every border of a block that begins a stretch gets one; instructions add to the last."""

    def __init__(self) -> None:
        self.now = Stretch()
        self.named: list[bool] = []

    def of(self, code: list[Node]) -> Stretch:
        """The stretch that the whole body begins with."""
        first = self.now
        self.walk(code)
        return first

    def begin(self, node: Node, border: str) -> None:
        self.now = node.borders[border] = Stretch()

    def walk(self, code: list[Node]) -> bool:
        """Whether the end of this code can be reached, given that its beginning can."""
        for node in code:
            if node.op in (2, 3, 4):
                if not self.block(node):
                    return False
                continue
            self.now.cost += 1
            if node.op in (0x0C, 0x0D, 0x0E):
                for label in node.numbers:
                    if label < len(self.named):
                        self.named[-1 - label] = True
            if node.op in (0x00, 0x0C, 0x0E, 0x0F):
                return False
        return True

    def block(self, node: Node) -> bool:
        """The same for a block and what follows it."""
        self.named.append(False)
        if node.op == 4:
            self.now.cost += 1
            self.begin(node, "then")
        elif node.op == 3:
            self.begin(node, "head")
        out = self.walk(node.inner)
        if node.op == 4 and node.numbers:
            self.begin(node, "else")
            out = self.walk(node.other) or out
        elif node.op == 4:
            out = True
        named = self.named.pop()
        out = out or (named and node.op != 3)
        if out and (node.op != 2 or named):
            self.begin(node, "end")
        return out
