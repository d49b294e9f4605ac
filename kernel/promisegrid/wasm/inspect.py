"""What compiling a module may cost, read from its code without compiling it.

One pass over every function body, in time proportional to its bytes. A module beyond `ModuleLimits`, or
with an instruction this grid does not run, is refused by name before a compiler sees it. A compile still
belongs in bounds of its own: no static figure foresees everything.
"""

from __future__ import annotations

from dataclasses import dataclass

from promisegrid.errors import RemoteError
from promisegrid.wasm import opcodes
from promisegrid.wasm.binary import Reader
from promisegrid.wasm.layout import Layout, parse
from promisegrid.wasm.limits import ModuleLimits


@dataclass(slots=True)
class ModuleCost:
    """The largest figure of any function, and totals, in bytes. `ModuleLimits` says why each matters."""

    functions: int = 0
    body_bytes: int = 0
    locals: int = 0
    depth: int = 0
    loop_depth: int = 0
    branch_targets: int = 0
    loops_times_locals: int = 0
    depth_times_locals: int = 0
    edges: int = 0
    edges_times_locals: int = 0
    block_values: int = 0
    call_values: int = 0
    all_code_bytes: int = 0
    all_locals: int = 0
    all_loops_times_locals: int = 0
    all_edges_times_locals: int = 0


def inspect(data: bytes, limits: ModuleLimits | None = None) -> ModuleCost:
    """The cost figures of a module within the limits.

    RemoteError: not_wasm, invalid_wasm, unsupported, too_complex, too_large.
    """
    limits = limits or ModuleLimits()
    layout = parse(data, limits)
    cost = ModuleCost()
    results_max = max((len(kind.results) for kind in layout.types), default=0)
    for number, (start, end) in enumerate(bodies(layout), layout.imported_functions):
        body = _Body(layout, number, start, end, limits)
        body.scan(results_max)
        body.add_to(cost)
    _check_totals(cost, limits)
    return cost


def _check_totals(cost: ModuleCost, limits: ModuleLimits) -> None:
    """What no single function shows: many, each just within its limits."""
    for what, figure, limit in (
        ("bytes of code", cost.all_code_bytes, limits.all_code_bytes),
        ("locals", cost.all_locals, limits.all_locals),
        ("nested loops times locals", cost.all_loops_times_locals, limits.all_loops_times_locals),
        ("blocks and branches times locals", cost.all_edges_times_locals, limits.all_edges_times_locals),
    ):
        if figure > limit:
            text = f"The module's functions have {figure:,} {what} together"
            raise RemoteError("too_complex", f"{text}, above this node's limit of {limit:,}.")


def bodies(layout: Layout) -> list[tuple[int, int]]:
    """Where each function body lies, without its size prefix. RemoteError("invalid_wasm")."""
    if 10 not in layout.sections:
        return []
    reader = layout.reader(10, "the code section")
    found = []
    for _ in range(reader.u32()):
        size = reader.u32()
        start = reader.skip(size)
        found.append((start, start + size))
    reader.done()
    return found


def locals_of(reader: Reader, limits: ModuleLimits) -> int:
    """Pass the local groups at the start of a body; how many locals they declare."""
    total = 0
    for _ in range(reader.count("local groups", limits.locals)):
        total += reader.u32()
        reader.byte()
        if total > limits.locals:
            text = f"there are {total:,} locals, above this node's limit of {limits.locals:,}"
            reader.fail(text, "too_complex")
    return total


def pass_branch_table(reader: Reader, limits: ModuleLimits) -> int:
    """Pass the `br_table` at the reader; how many targets it has, the default among them."""
    reader.pos += 1
    count = reader.count("branch targets", limits.branch_targets) + 1
    for _ in range(count):
        reader.u32()
    return count


class _Body:
    """One function body under inspection: its own figures, checked as they grow."""

    def __init__(self, layout: Layout, number: int, start: int, end: int, limits: ModuleLimits) -> None:
        self.reader = Reader(layout.data, start, end, f"function {number}")
        self.layout, self.limits = layout, limits
        self.params = len(layout.type_of(number).params)
        self.size = end - start
        self.locals = self.depth = self.loop_depth = self.blocks = self.targets = 0
        self.block_values = self.call_values = self.edges = 0

    def scan(self, results_max: int) -> None:
        """Walk to the last `end`; RemoteError where a figure passes its limit."""
        reader, limits = self.reader, self.limits
        self._check("bytes of code", self.size, limits.body_bytes)
        start = reader.pos
        self.locals = locals_of(reader, limits) + self.params
        self._walk()
        if reader.pos != reader.end:
            reader.fail("there are instructions after the end of the function")
        # br_if, and the few other bytes that look like it
        conditional = reader.data.count(b"\x0d", start, reader.end)
        self.edges = conditional + self.blocks + self.targets
        self._check("blocks and branches", self.edges, limits.edges)
        self._check("blocks and branches times locals", self.edges * self.locals, limits.edges_times_locals)
        if results_max > 1:
            calls = sum(reader.data.count(op, start, reader.end) for op in (b"\x10", b"\x11"))
            self.call_values = calls * results_max
            self._check("values returned by calls", self.call_values, limits.call_values)

    def add_to(self, cost: ModuleCost) -> None:
        """Add this body's figures to the module's."""
        cost.functions += 1
        cost.all_code_bytes += self.size
        cost.all_locals += self.locals
        cost.body_bytes = max(cost.body_bytes, self.size)
        cost.locals = max(cost.locals, self.locals)
        cost.depth = max(cost.depth, self.depth)
        cost.loop_depth = max(cost.loop_depth, self.loop_depth)
        cost.branch_targets = max(cost.branch_targets, self.targets)
        cost.loops_times_locals = max(cost.loops_times_locals, self.loop_depth * self.locals)
        cost.depth_times_locals = max(cost.depth_times_locals, self.depth * self.locals)
        cost.edges = max(cost.edges, self.edges)
        cost.edges_times_locals = max(cost.edges_times_locals, self.edges * self.locals)
        cost.block_values = max(cost.block_values, self.block_values)
        cost.call_values = max(cost.call_values, self.call_values)
        cost.all_loops_times_locals += self.loop_depth * self.locals
        cost.all_edges_times_locals += self.edges * self.locals

    def _check(self, what: str, figure: int, limit: int) -> None:
        if figure > limit:
            text = f"there are {figure:,} {what}, above this node's limit of {limit:,}"
            self.reader.fail(text, "too_complex")

    def _walk(self) -> None:
        """Count what is nested in what. The stack of open blocks is as deep as `limits.depth` allows."""
        reader, limits = self.reader, self.limits
        data, end, step, pos = reader.data, reader.end, opcodes.NEXT.match, reader.pos
        nesting: list[bool] = [False]
        loops = 0
        while nesting:
            match = step(data, pos, end)
            assert match is not None, "the expression matches the empty run"
            reader.pos = pos = match.end()
            at, closing = match.start(1), match.start(2)
            if at >= 0:
                is_loop = data[at] == opcodes.LOOP
                nesting.append(is_loop)
                loops += is_loop
                self.blocks += 1
                if len(nesting) > self.depth:
                    self.depth = len(nesting)
                    self._check("nested blocks", self.depth, limits.depth)
                    product = self.depth * self.locals
                    self._check("nested blocks times locals", product, limits.depth_times_locals)
                if loops > self.loop_depth:
                    self.loop_depth = loops
                    self._check("nested loops times locals", loops * self.locals, limits.loops_times_locals)
                if pos - at > 2 or data[at + 1] < 0x40:
                    self._block_type(at + 1)
            elif closing >= 0:
                if data[closing] == opcodes.END:
                    loops -= nesting.pop()
            else:
                self._other()
                pos = reader.pos

    def _block_type(self, at: int) -> None:
        """A block whose type is an index: how many values it takes and leaves."""
        index = Reader(self.reader.data, at, self.reader.end, self.reader.where).u32()
        if index >= len(self.layout.types):
            self.reader.fail(f"type {index} does not exist")
        kind = self.layout.types[index]
        self.block_values += len(kind.params) + len(kind.results)
        self._check("parameters and results of blocks", self.block_values, self.limits.block_values)

    def _other(self) -> None:
        """What stops a run and opens nothing: br_table, memory.grow, or something refused."""
        reader = self.reader
        if reader.pos >= reader.end:
            reader.fail("the module is truncated: the body is cut off")
        op, memory = reader.data[reader.pos], reader.data[reader.pos + 1 : min(reader.pos + 2, reader.end)]
        if op == opcodes.BR_TABLE:
            self.targets += pass_branch_table(reader, self.limits)
            self._check("branch targets", self.targets, self.limits.branch_targets)
        elif op == opcodes.MEMORY_GROW and memory == b"\0":
            reader.pos += 2
        else:
            code, text = opcodes.refusal(reader.data, reader.pos, reader.end)
            reader.fail(text, code)
