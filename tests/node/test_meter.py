"""What metered modules do in Wasmtime: the count of docs/meter.md, to the unit, and where it ends them."""

from __future__ import annotations

import base64
import json
import random
import shutil
import subprocess
from dataclasses import astuple, dataclass

import pytest
import wasmtime
from tests.wasm_count import Counter

from promisegrid.wasm.guard import DEPTH, FUEL, START, UNMETERED, guard

ENGINE = wasmtime.Engine()
PROGRAMS = """(module
  (memory (export "memory") 1 10)
  (table (export "table") 64 funcref)
  (func $fib (export "fib") (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (local.get 0))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1)))
                     (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "loop") (param i32) (result i32) (local i32)
    (loop (local.set 1 (i32.add (local.get 1) (local.get 0)))
      (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
    (local.get 1))
  (func $deep (export "deep") (param i32) (result i32)
    (if (i32.eqz (local.get 0)) (then (return (i32.const 7))))
    (call $deep (i32.sub (local.get 0) (i32.const 1))))
  (func (export "for ever") (loop (br 0)))
  (func (export "for ever, in two loops") (loop $a (loop $b) (br $a)))
  (func (export "for ever, by the inner loop") (loop $a (loop $b (br $a))))
  (func (export "for ever, by a table") (loop $a (block $b (br_table $a $a (i32.const 1)))))
  (func (export "for ever, by a guarded branch") (loop $a (block $b (br_if $b (i32.const 0)) (br $a))))
  (func $ping (export "for ever, by turns") (call $pong)) (func $pong (call $ping))
  (func (export "fill") (param i32) (memory.fill (i32.const 0) (i32.const 1) (local.get 0)))
  (func (export "copy") (param i32) (memory.copy (i32.const 0) (i32.const 1) (local.get 0)))
  (func (export "fill a table") (param i32) (table.fill (i32.const 0) (ref.null func) (local.get 0)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "two") (param i32) (result i32 i64)
    (if (local.get 0) (then (return (i32.const 1) (i64.const 2))))
    (drop (call $fib (i32.const 1))) (i32.const 3) (i64.const 4))
  (func (export "switch") (param i32) (result i32)
    (block $c (block $b (block $a (br_table $a $b $c (local.get 0)))
      (return (i32.const 10))) (return (i32.const 20))) (i32.const 30))
  (func (export "dead") (result i32)
    (block (result i32)
      (br 0 (i32.const 1)) (loop (br 0)) (if (then) (else)) (drop (memory.grow (i32.const 1)))))
  (func (export "trap") (drop (i32.const 1)) unreachable))"""


def modules(text: str) -> tuple[wasmtime.Module, wasmtime.Module]:
    """As it was, and metered. Both validate."""
    binary = bytes(wasmtime.wat2wasm(text))
    return wasmtime.Module(ENGINE, binary), wasmtime.Module(ENGINE, guard(binary))


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended: its value or its trap, the fuel used, the stack left."""

    value: object
    trapped: bool
    used: int
    depth: int


def call(module: wasmtime.Module, name: str, *args: int, fuel: int = UNMETERED) -> End:
    """One call on a fresh instance."""
    store = wasmtime.Store(ENGINE)
    exports = wasmtime.Instance(store, module, []).exports(store)
    counters = [exports.get(FUEL), exports.get(DEPTH)]
    if isinstance(counters[0], wasmtime.Global):
        counters[0].set_value(store, fuel)
    function = exports[name]
    assert isinstance(function, wasmtime.Func)
    value, trapped = None, False
    try:
        value = function(store, *args)
    except wasmtime.Trap:
        trapped = True
    left, depth = (one.value(store) if isinstance(one, wasmtime.Global) else 0 for one in counters)
    return End(value, trapped, fuel - left, depth)


@pytest.fixture(scope="module")
def plain_and_metered() -> tuple[wasmtime.Module, wasmtime.Module]:
    return modules(PROGRAMS)


Both = tuple[wasmtime.Module, wasmtime.Module]


@pytest.mark.parametrize(
    ("name", "arg", "units"),
    [
        ("loop", 1000, 9 * 1000 + 1),  # four to add, four to count down, the branch; at last a local.get
        ("deep", 0, 2 + 1 + 2),  # eqz of a local, the if, the constant and its return
        ("deep", 10, 10 * (3 + 4) + 5),
        ("fill", 65_536, 4 + 65_536 // 16),
        ("fill", 15, 4),
        ("copy", 1600, 4 + 100),
        ("fill a table", 64, 4 + 64 // 16),
        ("grow", 3, 2 + 3 * 4096),
        ("grow", 20, 2),  # past the declared maximum: -1, and nothing grew
        ("two", 1, 2 + 3),
        ("switch", 0, 2 + 2),
        ("switch", 1, 2 + 2),
        ("switch", 9, 2 + 1),
        ("dead", None, 2),
        ("trap", None, 3),
    ],
)
def test_what_costs_what(plain_and_metered: Both, name: str, arg: int | None, units: int) -> None:
    plain, metered = plain_and_metered
    args = () if arg is None else (arg,)
    before, after = call(plain, name, *args), call(metered, name, *args)
    assert (after.value, after.trapped) == (before.value, before.trapped)
    assert after.used == units


@pytest.mark.parametrize(
    ("name", "arg"), [("fib", 15), ("loop", 500), ("deep", 40), ("two", 0), ("fill", 4096)]
)
def test_a_budget_is_met_to_the_unit(plain_and_metered: Both, name: str, arg: int) -> None:
    _, metered = plain_and_metered
    whole = call(metered, name, arg)
    assert call(metered, name, arg, fuel=whole.used) == whole
    short = call(metered, name, arg, fuel=whole.used - 1)
    assert short.used > whole.used - 1, "it trapped, or came back overdrawn, which the host tells by the fuel"
    for part in (0, 1, whole.used // 2):
        assert call(metered, name, arg, fuel=part).trapped
        assert call(metered, name, arg, fuel=part).used > part


@pytest.mark.parametrize(
    "name",
    [
        "for ever",
        "for ever, in two loops",
        "for ever, by the inner loop",
        "for ever, by a table",
        "for ever, by a guarded branch",
    ],
)
def test_no_loop_escapes_the_meter(plain_and_metered: Both, name: str) -> None:
    ended = call(plain_and_metered[1], name, fuel=100_000)
    assert ended.trapped and 100_000 < ended.used < 100_010


def test_recursion_ends_at_the_same_call_everywhere(plain_and_metered: Both) -> None:
    _, metered = plain_and_metered
    frame = 128 + 16 * 1
    most = 512 * 1024 // frame
    assert not call(metered, "deep", most - 1).trapped
    over = call(metered, "deep", most)
    assert over.trapped and over.depth < 0 and over.used == most * 7 + 3
    assert call(metered, "deep", 40).depth == 512 * 1024, "what returns gives its frame back"
    turns = call(metered, "for ever, by turns")
    assert turns.trapped and turns.depth < 0


def test_a_bulk_operation_is_paid_before_it_is_done(plain_and_metered: Both) -> None:
    store = wasmtime.Store(ENGINE)
    exports = wasmtime.Instance(store, plain_and_metered[1], []).exports(store)
    fuel, memory, fill = exports[FUEL], exports["memory"], exports["fill"]
    assert isinstance(fuel, wasmtime.Global) and isinstance(memory, wasmtime.Memory)
    assert isinstance(fill, wasmtime.Func)
    fuel.set_value(store, 100)
    with pytest.raises(wasmtime.Trap):
        fill(store, 65_536)
    assert memory.read(store, 0, 16) == bytes(16)


def test_a_start_function_waits_for_its_budget() -> None:
    _, metered = modules(
        '(module (global (export "g") (mut i32) (i32.const 0)) (func $s (global.set 0 (i32.const 5)))'
        "(start $s))"
    )
    store = wasmtime.Store(ENGINE)
    exports = wasmtime.Instance(store, metered, []).exports(store)
    value, start = exports["g"], exports[START]
    assert isinstance(value, wasmtime.Global) and isinstance(start, wasmtime.Func)
    assert value.value(store) == 0
    start(store)
    assert value.value(store) == 5


# -- random programs -----------------------------------------------------------------------------------------


class Maker:
    """Writes functions that always end: forward branches, counted loops, calls of earlier functions.

    Beside the text it predicts nothing: the plain module is the judge of values, the metered one of itself.
    """

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def module(self) -> str:
        bodies = "\n".join(self.function(number) for number in range(5))
        return f"(module (memory 1) (global $g (mut i32) (i32.const 1))\n{bodies})"

    def function(self, number: int) -> str:
        code = self.statements(3, 0, number)
        return (
            f'(func $f{number} (export "f{number}") (param $a i32) (param $b i32) (result i32) '
            "(local $i0 i32) (local $i1 i32) (local $i2 i32) (local $i3 i32) (local $x i32)\n"
            f"{code}\n(local.get $x))"
        )

    def statements(self, depth: int, labels: int, number: int) -> str:
        return "\n".join(self.statement(depth, labels, number) for _ in range(self.dice.randint(1, 4)))

    def statement(self, depth: int, labels: int, number: int) -> str:
        kinds = ["set", "global", "branch", "call", "return", "store"] + ["block", "loop", "if", "switch"] * (
            depth > 0
        )
        kind = self.dice.choice(kinds)
        value = self.value(2)
        if kind == "global":
            return f"(global.set $g {value})"
        if kind == "store":
            return f"(i32.store (i32.and {value} (i32.const 0xfff0)) {self.value(1)})"
        if kind == "branch" and labels:
            to = self.dice.randrange(labels)
            return f"(br_if {to} {value})" if self.dice.random() < 0.7 else f"(br {to})"
        if kind == "call" and number:
            callee = self.dice.randrange(number)
            return f"(local.set $x (call $f{callee} {self.value(1)} {value}))"
        if kind == "return" and self.dice.random() < 0.3:
            return f"(return {value})"
        if kind == "block":
            return f"(block {self.statements(depth - 1, labels + 1, number)})"
        if kind == "if":
            other = (
                f"(else {self.statements(depth - 1, labels + 1, number)})" if self.dice.random() < 0.6 else ""
            )
            return f"(if {value} (then {self.statements(depth - 1, labels + 1, number)}) {other})"
        if kind == "switch":
            inner = self.statements(depth - 1, labels + 2, number)
            return f"(block (block {inner} (br_table 0 1 0 {value})) {self.statement(0, labels + 1, number)})"
        if kind == "loop":
            count = f"$i{depth}"
            inner = self.statements(depth - 1, 0, number)  # no branch leaves it but its own
            return (
                f"(local.set {count} (i32.const {self.dice.randint(1, 5)})) (loop {inner} "
                f"(br_if 0 (local.tee {count} (i32.sub (local.get {count}) (i32.const 1)))))"
            )
        return f"(local.set $x {value})"

    def value(self, depth: int) -> str:
        if depth == 0:
            return self.dice.choice(["(local.get $a)", "(local.get $x)", "(global.get $g)", "(i32.const 3)"])
        op = self.dice.choice(["add", "sub", "xor", "and", "lt_u", "eq"])
        if self.dice.random() < 0.15:
            return f"(if (result i32) {self.value(depth - 1)} (then {self.value(0)}) (else {self.value(0)}))"
        return f"(i32.{op} {self.value(depth - 1)} {self.value(0)})"


@pytest.mark.parametrize("seed", range(60))
def test_a_random_program_gives_what_it_gave_and_pays_for_it(seed: int) -> None:
    plain, metered = modules(Maker(seed).module())
    for name in ("f4", "f3"):
        before, after = call(plain, name, seed, 7), call(metered, name, seed, 7)
        assert (after.value, after.trapped) == (before.value, before.trapped)
        assert after.used > 0 and after.depth == 512 * 1024
        assert call(metered, name, seed, 7) == after
        assert call(metered, name, seed, 7, fuel=after.used) == after
        assert call(metered, name, seed, 7, fuel=after.used - 1).used > after.used - 1


@pytest.mark.parametrize("seed", range(60, 160))
def test_a_count_is_what_an_interpreter_counts(seed: int) -> None:
    """An independent reading of docs/meter.md, executed on the module as it was."""
    binary = bytes(wasmtime.wat2wasm(Maker(seed).module()))
    metered = wasmtime.Module(ENGINE, guard(binary))
    for number in (4, 3, 2):
        counter = Counter(binary)
        value = counter.call(number, seed, 7)
        end = call(metered, f"f{number}", seed, 7)
        assert isinstance(end.value, int)
        assert (end.value & 0xFFFF_FFFF, end.used) == (value, counter.used)


# -- another engine ------------------------------------------------------------------------------------------

SCRIPT = """
const ends = [];
for (const { wasm, calls } of JSON.parse(require("fs").readFileSync(0))) {
  const module = new WebAssembly.Module(Buffer.from(wasm, "base64"));
  for (const [name, args, fuel] of calls) {
    const { exports } = new WebAssembly.Instance(module);
    exports["promisegrid:fuel"].value = BigInt(fuel);
    let value = null, trapped = false;
    try { value = exports[name](...args) ?? null; } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      trapped = true;
    }
    const used = Number(BigInt(fuel) - exports["promisegrid:fuel"].value);
    ends.push([value, trapped, used, Number(exports["promisegrid:depth"].value)]);
  }
}
console.log(JSON.stringify(ends));
"""
Call = tuple[str, tuple[int, ...], int]


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
def test_v8_counts_the_same_and_stops_at_the_same_place() -> None:
    plenty = 10_000_000
    programs: list[tuple[str, list[Call]]] = [(Maker(seed).module(), []) for seed in range(40)]
    for text, calls in programs:
        module = modules(text)[1]
        for name in ("f4", "f3", "f2"):
            used = call(module, name, 5, 7).used
            calls.extend((name, (5, 7), fuel) for fuel in (plenty, used, used - 1, used // 2, used // 10, 0))
    deep = [("deep", (n,), plenty) for n in (3639, 3640, 3641, 100_000)]
    loops = [("for ever", (), fuel) for fuel in range(95, 105)]
    fills = [("fill", (65_536,), 4099), ("fill", (65_536,), 4100)]
    others = [*fills, ("grow", (3,), plenty), ("grow", (20,), 5)]
    programs.append((PROGRAMS, [*deep, *loops, *others, ("for ever, by turns", (), plenty)]))
    wanted, asked = [], []
    for text, calls in programs:
        metered = guard(bytes(wasmtime.wat2wasm(text)))
        module = wasmtime.Module(ENGINE, metered)
        wanted += [list(astuple(call(module, name, *args, fuel=fuel))) for name, args, fuel in calls]
        asked.append({"wasm": base64.b64encode(metered).decode(), "calls": calls})
    command = ["node", "-e", SCRIPT]
    ran = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == wanted
    assert sum(end[1] for end in wanted) > 100, "many end in the middle, or this shows little"
