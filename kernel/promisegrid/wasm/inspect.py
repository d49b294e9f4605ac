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
    """The largest figure of any function, and totals. Sizes are bytes."""

    functions: int = 0
    code_bytes: int = 0
    body_bytes: int = 0
    locals: int = 0
    depth: int = 0
    loop_depth: int = 0
    branch_targets: int = 0
    loops_times_locals: int = 0
    """The largest (deepest loop nesting × locals) of a function: what a compiler merges at loop heads."""
    blocks_times_locals: int = 0


def inspect(data: bytes, limits: ModuleLimits | None = None) -> ModuleCost:
    """The cost figures of a module within the limits.

    RemoteError: not_wasm, invalid_wasm, unsupported, too_complex, too_large.
    """
    limits = limits or ModuleLimits()
    layout = parse(data, limits)
    cost = ModuleCost()
    for number, (start, end) in enumerate(bodies(layout), layout.imported_functions):
        _Body(layout, number, start, end, limits).scan(cost)
    return cost


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
    """Read the local groups of a body; how many locals they declare. The reader ends at the first instruction."""
    total = 0
    for _ in range(reader.count("local groups", limits.locals)):
        total += reader.u32()
        reader.byte()
        if total > limits.locals:
            reader.fail(f"{total} locals, above this node's limit of {limits.locals}", "too_complex")
    return total


class _Body:
    """One function body under inspection."""

    def __init__(self, layout: Layout, number: int, start: int, end: int, limits: ModuleLimits) -> None:
        self.reader = Reader(layout.data, start, end, f"function {number}")
        self.params = len(layout.type_of(number).params)
        self.size, self.limits = end - start, limits

    def scan(self, cost: ModuleCost) -> None:
        """Walk to the last `end`, then add this body's figures."""
        reader, limits = self.reader, self.limits
        if self.size > limits.body_bytes:
            reader.fail(f"{self.size} bytes of code, above the limit of {limits.body_bytes}", "too_complex")
        count = locals_of(reader, limits) + self.params
        depth, loop_depth, blocks, targets = self._walk(count)
        if reader.pos != reader.end:
            reader.fail("instructions after the end of the function")
        cost.functions += 1
        cost.code_bytes += self.size
        cost.body_bytes = max(cost.body_bytes, self.size)
        cost.locals = max(cost.locals, count)
        cost.depth = max(cost.depth, depth)
        cost.loop_depth = max(cost.loop_depth, loop_depth)
        cost.branch_targets = max(cost.branch_targets, targets)
        cost.loops_times_locals = max(cost.loops_times_locals, loop_depth * count)
        cost.blocks_times_locals = max(cost.blocks_times_locals, blocks * count)

    def _walk(self, count: int) -> tuple[int, int, int, int]:
        """(deepest nesting, deepest nesting of loops, blocks, branch targets) of the body."""
        reader, limits = self.reader, self.limits
        data, end, step = reader.data, reader.end, opcodes.NEXT.match
        open_loops: list[bool] = [False]
        loops = deepest = deepest_loops = blocks = targets = 0
        while open_loops:
            match = step(data, reader.pos, end)
            assert match is not None, "the expression matches the empty run"
            reader.pos = match.end()
            if match.start(1) >= 0:
                is_loop = data[match.start(1)] == opcodes.LOOP
                open_loops.append(is_loop)
                loops += is_loop
                blocks += 1
                if len(open_loops) > deepest:
                    deepest = len(open_loops)
                    if deepest > limits.depth:
                        reader.fail(f"blocks nested deeper than {limits.depth}", "too_complex")
                if loops > deepest_loops:
                    deepest_loops = loops
                    if loops * count > limits.loops_times_locals:
                        reader.fail(f"{loops} nested loops over {count} locals", "too_complex")
            elif match.start(2) >= 0:
                if data[match.start(2)] == opcodes.END:
                    loops -= open_loops.pop()
            else:
                targets += self._other()
                if targets > limits.branch_targets:
                    reader.fail(f"more than {limits.branch_targets} branch targets", "too_complex")
        if blocks * count > limits.blocks_times_locals:
            reader.fail(f"{blocks} blocks over {count} locals", "too_complex")
        return deepest, deepest_loops, blocks, targets

    def _other(self) -> int:
        """What stops a run and opens nothing: br_table, memory.grow, or something refused. Branch targets."""
        reader = self.reader
        if reader.pos >= reader.end:
            reader.fail("the body is cut off")
        op = reader.data[reader.pos]
        if op == opcodes.BR_TABLE:
            reader.pos += 1
            count = reader.count("branch targets", self.limits.branch_targets) + 1
            for _ in range(count):
                reader.u32()
            return count
        if op == opcodes.MEMORY_GROW and reader.data[reader.pos + 1 : reader.pos + 2] == b"\0":
            reader.pos += 2
            return 0
        code, text = opcodes.refusal(reader.data, reader.pos, reader.end)
        raise RemoteError(code, f"{reader.where} at byte {reader.pos}: {text}")
