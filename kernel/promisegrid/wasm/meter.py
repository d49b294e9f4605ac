"""Fuel, depth and growth, counted by the program itself: the pass that rewrites function bodies.

The specification is docs/meter.md; the count is a pure function of the module's bytes, the same on every
engine. In short: one unit an instruction, charged for a whole stretch of code where the stretch begins; a
stretch begins at a function, a loop, an arm of an `if`, and where branches meet. Bulk operations pay by
length, growth by the page. Fuel is looked at where functions and loops begin and before anything whose cost
depends on a number; below zero the program traps. A function that calls others pays for its frame in
`promisegrid:depth` and gets it back when it returns, so that recursion ends at the same call everywhere.

The program may therefore end *normally* with fuel below zero: the host treats that as fuel used up.
Does not validate: the engine has done that before, and does it again with what comes out.
"""

from __future__ import annotations

from typing import Final

from promisegrid.wasm import opcodes
from promisegrid.wasm.additions import Additions
from promisegrid.wasm.binary import Reader, sized, sleb, uleb
from promisegrid.wasm.inspect import bodies, locals_of
from promisegrid.wasm.layout import PAGES_MAX, VALUE_TYPES, Layout
from promisegrid.wasm.limits import ModuleLimits

RESERVED: Final = "promisegrid:"
FUEL: Final = "promisegrid:fuel"
"""The exported i64 global that holds what is left; the host sets it before each run."""
UNMETERED: Final = 1 << 62
"""Fuel nobody uses up: what a module has until it is given some."""
DEPTH: Final = "promisegrid:depth"
"""The exported i64 global that holds the bytes of stack left; below zero after too deep a recursion."""
GROW_FLAG: Final = "promisegrid:grow"
"""The exported i32 global that is 1 after a refused growth."""
GROW_PAGES: Final = "promisegrid:pages"
"""The exported i32 global that holds the budget in pages of 64 KiB; the host sets it before each run."""

STACK_BYTES: Final = 512 * 1024
"""What a chain of calls may take, counted as below: half of what engines met give a thread."""
FRAME_BYTES: Final = 128
LOCAL_BYTES: Final = 16
"""A frame's charge: 128 bytes and 16 for each parameter and local, as baseline compilers lay them out."""
BYTES_A_UNIT_SHIFT: Final = 4
"""Bulk operations: one unit for 16 bytes of memory, or 16 elements of a table."""
PAGE_UNITS: Final = 4096
"""One page grown: as for filling it."""

LEAF_UNITS: Final = 64
"""A function that calls nothing is not looked at where it begins, unless its body has more units than this:
else a row of calls of a long one would be work that nobody stops."""

_START_PAGES: Final = 256
_I32, _I64 = 0x7F, 0x7E
_TYPE_BYTES: Final = {name: byte for byte, name in VALUE_TYPES.items()}
_I32_TO_I32: Final = b"\x60\x01\x7f\x01\x7f"
_UNLESS_NEGATIVE: Final = b"\x42\x00\x53\x04\x40\x00\x0b"
"""(i64) -> (): i64.const 0; i64.lt_s; if; unreachable; end."""
_IF_LIVE, _IF_DEAD, _DEAD = -1, -2, -3
"""Kinds of open block beside the opcodes: after `else`, by whether the first arm reached its end; and opened
where nothing comes."""
_instructions = opcodes.ONE_SIMPLE.findall


class Meter:
    """Rewrites the bodies of one module; what it needs appended goes into `added`."""

    def __init__(self, layout: Layout, added: Additions, limits: ModuleLimits, growth: bool = True) -> None:
        self.layout, self.limits = layout, limits
        self._added = added
        self._charges: dict[int, bytes] = {}
        fuel, depth = added.counter(_I64, FUEL, UNMETERED), added.counter(_I64, DEPTH, STACK_BYTES)
        self.get_fuel, self.set_fuel = b"\x23" + uleb(fuel), b"\x24" + uleb(fuel)
        self.get_depth, self.set_depth = b"\x23" + uleb(depth), b"\x24" + uleb(depth)
        self.by_length = b"\x10" + uleb(added.function(_I32_TO_I32, self._by_length()))
        self.grow = b"\x40\x00"
        if growth and layout.memory is not None:
            self.grow = b"\x10" + uleb(added.function(_I32_TO_I32, self._grow()))

    def code(self) -> bytes:
        """The entries of the code section, rewritten. RemoteError: as `inspect`."""
        layout, out = self.layout, []
        for number, (start, end) in enumerate(bodies(layout), layout.imported_functions):
            out.append(sized(Body(self, number, start, end).rewritten()))
        return b"".join(out)

    def block_type(self, results: tuple[str, ...]) -> bytes:
        """The type of a block that leaves these values."""
        if len(results) > 1:
            kinds = bytes(_TYPE_BYTES[kind] for kind in results)
            return sleb(self._added.type(b"\x60\x00" + uleb(len(kinds)) + kinds))
        return bytes((_TYPE_BYTES[results[0]],)) if results else b"\x40"

    def charge(self, units: int) -> bytes:
        """Take units off, unlooked at."""
        known = self._charges.get(units)
        if known is None:
            known = b"".join((self.get_fuel, b"\x42", sleb(units), b"\x7d", self.set_fuel)) if units else b""
            self._charges[units] = known
        return known

    def _by_length(self) -> bytes:
        """`(n) -> n`: charges for n bytes or elements, of which n is the operand on top."""
        return b"".join(
            (
                b"\x01\x01\x7e",  # local 1: what is left
                self.get_fuel + b"\x20\x00\xad\x42" + sleb(BYTES_A_UNIT_SHIFT) + b"\x88\x7d\x22\x01",
                self.set_fuel + b"\x20\x01" + _UNLESS_NEGATIVE + b"\x20\x00\x0b",
            )
        )

    def _grow(self) -> bytes:
        """`(delta) -> old`: -1 past the declared maximum; a trap past the budget or the engine's bound."""
        layout = self.layout
        smallest = layout.memory.min_pages if layout.memory is not None else 0
        declared = layout.memory.max_pages if layout.memory is not None else None
        flag = self._added.counter(_I32, GROW_FLAG, 0)
        pages = self._added.counter(_I32, GROW_PAGES, min(smallest + _START_PAGES, PAGES_MAX))
        most = PAGES_MAX if declared is None else min(declared, PAGES_MAX)
        refuse = b"\x04\x40\x41\x01\x24" + uleb(flag) + b"\x00\x0b"
        return b"".join(
            (
                b"\x02\x01\x7f\x01\x7e",  # local 1: old pages (i32), local 2: wanted pages, then fuel left
                b"\x3f\x00\xad\x20\x00\xad\x7c\x22\x02",  # wanted = memory.size + delta, unsigned
                b"\x42" + sleb(most) + b"\x56\x04\x40\x41\x7f\x0f\x0b",  # wanted > declared: return -1
                b"\x20\x02\x23" + uleb(pages) + b"\xad\x56" + refuse,  # wanted > budget: refuse
                self.get_fuel + b"\x20\x00\xad\x42" + sleb(PAGE_UNITS) + b"\x7e\x7d\x22\x02",
                self.set_fuel + b"\x20\x02" + _UNLESS_NEGATIVE,
                b"\x20\x00\x40\x00\x22\x01\x41\x7f\x46" + refuse,  # memory.grow gave -1: refuse
                b"\x20\x01\x0b",
            )
        )


class Body:
    """One function body on its way through the meter."""

    def __init__(self, meter: Meter, number: int, start: int, end: int) -> None:
        self.meter = meter
        self.type = meter.layout.type_of(number)
        self.reader = Reader(meter.layout.data, start, end, f"function {number}")
        self.locals = len(self.type.params) + locals_of(self.reader, meter.limits)
        self.local_groups = meter.layout.data[start : self.reader.pos]
        self.frames: list[int] = []
        self.targeted: list[bool] = []
        self.returns: list[tuple[int, int]] = []
        self.live = True  # whether the code at hand can be reached
        self.calls = self.has_loops = False
        self.pieces: list[bytes] = [b""]
        self.copied = self.reader.pos  # up to here the original is in the pieces
        self.open_at, self.checked, self.cost, self.entry_cost, self.units = 0, False, 0, 0, 0

    def rewritten(self) -> bytes:
        """The body's bytes, its locals first. RemoteError: as `inspect`."""
        data, end, step, pos = self.reader.data, self.reader.end, opcodes.TO_CALL.match, self.reader.pos
        while True:
            match = step(data, pos, end)
            assert match is not None, "the expression matches the empty run"
            stop = match.end(1)
            if stop > pos and self.live:
                self.cost += len(_instructions(data, pos, stop))
            pos = match.end()
            op = data[stop] if pos > stop else -1
            if op == opcodes.BR_IF:
                self._branch(data[stop + 1], stop + 1)
            elif op == opcodes.END:
                if not self.frames:
                    break
                self._end(pos)
            elif op in (opcodes.BLOCK, opcodes.LOOP, opcodes.IF):
                self._open(op, pos)
            elif op in (opcodes.CALL, opcodes.CALL_INDIRECT):
                self.calls, step = True, opcodes.PAST_CALLS.match
                self.cost += self.live
            elif op >= 0:
                self._rare(op, stop, pos)
            else:
                pos = self._other(pos)
        if pos != end:
            self.reader.pos = pos
            self.reader.fail("there are instructions after the end of the function")
        self._copy(end)
        return self._assembled()

    # -- instruction by instruction ------------------------------------------------------------------

    def _copy(self, to: int, past: int | None = None) -> None:
        """The original up to there; what lies between `to` and `past` is left out."""
        self.pieces.append(self.reader.data[self.copied : to])
        self.copied = to if past is None else past

    def _branch(self, label: int, at: int) -> None:
        """`br` or `br_if` with its label, whose first byte is given."""
        if not self.live:
            return
        self.cost += 1
        if label > 0x7F:
            label = Reader(self.reader.data, at, self.reader.end, self.reader.where).u32()
        self._aim(label)

    def _rare(self, op: int, stop: int, pos: int) -> None:
        """What there is less of: the instruction `op` at `stop`, up to `pos`."""
        if op == opcodes.ELSE:
            self._else(pos)
        elif op == opcodes.BR:
            self._branch(self.reader.data[stop + 1], stop + 1)
            self.live = False
        elif op == opcodes.UNREACHABLE:
            self._pay(last=True)
        elif op == opcodes.RETURN:
            self._copy(stop, pos)
            self.returns.append((len(self.pieces), len(self.frames)))
            self.pieces.append(b"\x0f")
            self._pay(last=True)
        elif op == opcodes.MEMORY_GROW:
            self._copy(stop, pos)
            self.pieces.append(self.meter.grow)
            self._pay()
        else:
            self._copy(stop)
            self.pieces.append(self.meter.by_length)
            self._pay()

    def _other(self, start: int) -> int:
        """`br_table`, or what is refused; where it ends."""
        reader = self.reader
        reader.pos = start
        if start >= reader.end:
            reader.fail("the module is truncated: the body is cut off")
        if reader.data[start] != opcodes.BR_TABLE:
            code, text = opcodes.refusal(reader.data, start, reader.end)
            reader.fail(text, code)
        reader.pos += 1
        for _ in range(reader.count("branch targets", self.meter.limits.branch_targets) + 1):
            label = reader.u32()
            if self.live:
                self._aim(label)
        self._pay(last=True)
        return reader.pos

    def _open(self, op: int, pos: int) -> None:
        """A block begins: its kind is its opcode."""
        self.frames.append(op if self.live else _DEAD)
        self.targeted.append(False)
        if self.live and op != opcodes.BLOCK:
            self.cost += op == opcodes.IF
            self._begin(pos, checked=op == opcodes.LOOP)

    def _else(self, pos: int) -> None:
        if not self.frames or self.frames[-1] not in (opcodes.IF, _DEAD):
            self.reader.pos = pos
            self.reader.fail("an else has no if")
        if self.frames[-1] == opcodes.IF:
            self.frames[-1] = _IF_LIVE if self.live else _IF_DEAD
            self.live = True
            self._begin(pos)

    def _end(self, pos: int) -> None:
        kind, targeted = self.frames.pop(), self.targeted.pop()
        if kind == _DEAD:
            return
        if kind in (opcodes.IF, _IF_LIVE):
            self.live = True
        elif kind != opcodes.LOOP:
            self.live = self.live or targeted
        if self.live and (kind != opcodes.BLOCK or targeted):
            self._begin(pos)

    def _aim(self, label: int) -> None:
        """A branch to that label, from code that can be reached: what follows its end is reached twice."""
        if label < len(self.targeted):
            self.targeted[-1 - label] = True

    def _pay(self, last: bool = False) -> None:
        """Count an instruction; after the `last` one of a stretch, nothing is reached."""
        if self.live:
            self.cost += 1
            self.live = not last

    # -- stretch by stretch --------------------------------------------------------------------------

    def _begin(self, pos: int, checked: bool = False) -> None:
        """The stretch so far is over, and another begins here."""
        self._charge()
        self._copy(pos)
        self.open_at, self.checked, self.cost = len(self.pieces), checked, 0
        self.pieces.append(b"")

    def _charge(self) -> None:
        """Put the charge of the open stretch where it begins. That of the whole function waits."""
        self.units += self.cost
        if self.open_at == 0:
            self.entry_cost = self.cost
        elif self.checked:
            self.has_loops = True
            self.pieces[self.open_at] = self._checked(self.cost)
        else:
            self.pieces[self.open_at] = self.meter.charge(self.cost)

    def _checked(self, units: int) -> bytes:
        """Take units off and trap below zero. A loop without a cost of its own is looked at all the same."""
        meter, left = self.meter, uleb(self.locals)
        if not units:
            return meter.get_fuel + _UNLESS_NEGATIVE
        taken = b"".join((meter.get_fuel, b"\x42", sleb(units), b"\x7d\x22", left, meter.set_fuel))
        return b"".join((taken, b"\x20", left, _UNLESS_NEGATIVE))

    def _assembled(self) -> bytes:
        self._charge()
        is_long = self.units > LEAF_UNITS
        scratch = 2 if self.calls else 1 if self.has_loops or is_long else 0
        if not self.calls:
            entry = self._checked if is_long else self.meter.charge
            self.pieces[0] = entry(self.entry_cost)
            return b"".join((self._locals(scratch), *self.pieces))
        frame = sleb(FRAME_BYTES + LOCAL_BYTES * self.locals)
        for at, depth in self.returns:
            self.pieces[at] = b"\x0c" + uleb(depth)
        self.pieces[0] = self._entry(frame) + b"\x02" + self.meter.block_type(self.type.results)
        give_back = b"".join((self.meter.get_depth, b"\x42", frame, b"\x7c", self.meter.set_depth, b"\x0b"))
        return b"".join((self._locals(scratch), *self.pieces, give_back))

    def _entry(self, frame: bytes) -> bytes:
        """Fuel and depth taken off and looked at together: either is below zero if their `or` is."""
        meter, left, deep = self.meter, uleb(self.locals), uleb(self.locals + 1)
        return b"".join(
            (
                *(meter.get_fuel, b"\x42", sleb(self.entry_cost), b"\x7d\x22", left, meter.set_fuel),
                *(meter.get_depth, b"\x42", frame, b"\x7d\x22", deep, meter.set_depth),
                *(b"\x20", left, b"\x20", deep, b"\x84", _UNLESS_NEGATIVE),
            )
        )

    def _locals(self, scratch: int) -> bytes:
        """The declared locals, and so many more i64."""
        if not scratch:
            return self.local_groups
        reader = Reader(self.local_groups, 0, len(self.local_groups), self.reader.where)
        groups = reader.u32()
        return uleb(groups + 1) + self.local_groups[reader.pos :] + uleb(scratch) + bytes((_I64,))
