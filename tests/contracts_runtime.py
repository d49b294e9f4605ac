"""What any Runtime must do, said in effects: programs end, and everybody agrees how. Twin of `contracts`.

The programs are those of `tests/programs.py`. Where a host does not meter (`Outcome.fuel` is None) the law of
fuel says nothing. Sentences are the host's own; codes are not.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from tests import programs
from tests.contracts import Law, Perform, one

from promisegrid import job as blobs
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Failure, Job, Outcome, Prepare, Run
from promisegrid.wasm.module import ModuleInfo

MIB: Final = 1 << 20
SECOND: Final = 1_000
PAGE: Final = 65_536


def work(
    code: bytes,
    func: str = "_start",
    params: bytes = b"",
    *,
    args: tuple[str, ...] = (),
    fuel: int | None = None,
    memory: int = 64 * MIB,
    time_ms: int = 60 * SECOND,
    output: int = MIB,
) -> Job:
    """A job of a program, its ABI by the function's name."""
    abi = "command" if func == "_start" else "handle" if func == "handle" else "plain"
    blob = blobs.encode_job(bytes(32), output, args, b"", [])
    return Job(Cid.of(code), abi, func, params, blob, fuel, memory, time_ms, output)


def prepare(code: bytes) -> Prepare:
    """Prepare it with its bytes."""
    return Prepare(Cid.of(code), code, Budget())


async def ran(
    perform: Perform, code: bytes, func: str = "_start", params: bytes = b"", **how: Any
) -> Outcome:
    """The outcome of a program that ends by itself."""
    assert isinstance(await one(perform, prepare(code)), ModuleInfo)
    outcome = await one(perform, Run(work(code, func, params, **how)))
    assert isinstance(outcome, Outcome), outcome
    return outcome


async def failed(perform: Perform, code: bytes, func: str = "_start", params: bytes = b"", **how: Any) -> str:
    """The code of a program's failure."""
    assert isinstance(await one(perform, prepare(code)), ModuleInfo)
    failure = await one(perform, Run(work(code, func, params, **how)))
    assert isinstance(failure, Failure), failure
    assert failure.text.endswith(".") and "\n" not in failure.text, failure.text
    return failure.code


def word(number: int) -> bytes:
    return number.to_bytes(8, "little", signed=True)


def low(number: int) -> bytes:
    """An i32 in its word: what the upper half holds is nobody's business."""
    return number.to_bytes(4, "little", signed=True) + bytes(4)


# -- preparing ---------------------------------------------------------------------------------------


async def a_module_is_prepared_once(perform: Perform) -> None:
    fresh = programs.numbers(seed=1)
    assert await perform([Prepare(Cid.of(fresh), None, Budget())]) == [None]
    with_bytes = await one(perform, prepare(fresh))
    assert isinstance(with_bytes, ModuleInfo) and with_bytes.memory is not None
    assert str(with_bytes.functions["add_one"]) == "(i64) -> (i64)"
    assert not any(export.startswith("promisegrid:") for export in with_bytes.functions)
    assert await one(perform, Prepare(Cid.of(fresh), None, Budget())) == with_bytes


async def what_is_no_program_is_refused(perform: Perform) -> None:
    broken = programs.NUMBERS.replace(b"\x42\x01\x7c", b"\x42\x01\x6a")  # i64.add becomes i32.add
    for code, data in (
        ("not_wasm", b""),
        ("not_wasm", b"#!/bin/sh\n"),
        ("invalid_wasm", programs.NUMBERS[:7]),
        ("invalid_wasm", programs.NUMBERS[:-12]),
        ("invalid_wasm", broken),
        ("bad_import", programs.IMPORTING),
        ("unsupported", b"\0asm\x0d\0\x01\0"),
        ("too_complex", programs.ruin()),
    ):
        answer = await one(perform, prepare(data))
        assert isinstance(answer, Failure), data[:20]
        assert answer.code == code and answer.text, (code, answer)
        assert await one(perform, Prepare(Cid.of(data), None, Budget())) is None


async def what_is_not_prepared_does_not_run(perform: Perform) -> None:
    answer = await one(perform, Run(work(programs.numbers(seed=2), "add_one", word(1))))
    assert isinstance(answer, Failure) and answer.code == "not_found"


# -- the three ABIs ----------------------------------------------------------------------------------


async def numbers_cross_as_words(perform: Perform) -> None:
    for number in (0, 41, -2, (1 << 63) - 2):
        assert (await ran(perform, programs.NUMBERS, "add_one", word(number))).values == word(number + 1)
    assert (await ran(perform, programs.NUMBERS, "add_one", word((1 << 63) - 1))).values == word(-(1 << 63))
    for number in (1.0, -0.0, 5e-324, 1.7976931348623157e308):
        half = await ran(perform, programs.NUMBERS, "half", struct.pack("<d", number))
        assert half.values == struct.pack("<d", number / 2)
    swapped = await ran(perform, programs.NUMBERS, "swap", low(-7) + word(-8))
    assert swapped.values[:12] == word(-8) + low(-7)[:4] and len(swapped.values) == 16


async def every_run_is_a_fresh_one(perform: Perform) -> None:
    for _ in range(3):
        assert (await ran(perform, programs.NUMBERS, "count")).values[:4] == low(41)[:4]


async def a_handler_is_given_bytes_and_gives_bytes(perform: Perform) -> None:
    for params in (b"", b"\x80" * 7, bytes(range(256)) * 200):
        outcome = await ran(perform, programs.HANDLER, "handle", params)
        assert outcome.values == params and outcome.wasi == b"PGR1" + bytes(20)


async def a_handler_cannot_point_outside(perform: Perform) -> None:
    assert await failed(perform, programs.HANDLER, "handle", bytes(1)) == "bad_result"
    assert await failed(perform, programs.HANDLER, "handle", bytes(2)) == "output_too_large"
    assert await failed(perform, programs.HANDLER, "handle", bytes(3)) == "bad_result"
    assert await failed(perform, programs.HANDLER, "handle", bytes(PAGE)) == "bad_result"
    assert await failed(perform, programs.HANDLER, "handle", bytes(4), output=3) == "output_too_large"


async def a_command_prints_and_exits(perform: Perform) -> None:
    for args, code, flags in (((), 0, 0), (("x",), 3, blobs.EXITED)):
        outcome = await ran(perform, programs.COMMAND, args=args)
        result = blobs.decode_result(outcome.wasi, 9)
        assert (result.exit, result.flags) == (code, flags)
        assert (result.stdout, result.stderr, result.nodes) == (b"hello\n", b"", ())
        assert outcome.values == b"" and outcome.memory_bytes == PAGE


async def sleeping_costs_no_time(perform: Perform) -> None:
    result = blobs.decode_result((await ran(perform, programs.COMMAND, args=("a",) * 3)).wasi, 9)
    assert result.exit == 0


async def a_reactor_is_initialized_first(perform: Perform) -> None:
    assert (await ran(perform, programs.REACTOR, "ready")).values[:4] == low(7)[:4]
    said = await ran(perform, programs.REACTOR, "say")
    assert blobs.decode_result(said.wasi, 9).stdout == b"hello\n" and said.values == b""


# -- endings -----------------------------------------------------------------------------------------


async def traps_are_told(perform: Perform) -> None:
    assert await failed(perform, programs.NUMBERS, "trap") == "trap"
    assert await failed(perform, programs.NUMBERS, "divide", low(0)) == "trap"
    assert await failed(perform, programs.NUMBERS, "long") == "trap"
    assert await failed(perform, programs.COMMAND, args=("a",) * 5) == "trap"
    assert await failed(perform, programs.REACTOR, "leave") == "trap"
    assert await failed(perform, programs.REACTOR, "abort") == "trap"
    assert (await ran(perform, programs.NUMBERS, "divide", low(1))).values[:4] == low(1)[:4]


async def a_loop_runs_out_of_time(perform: Perform) -> None:
    assert await failed(perform, programs.NUMBERS, "forever", time_ms=50) == "out_of_time"
    assert await failed(perform, programs.STARTING, "f", time_ms=50) == "out_of_time"
    assert await failed(perform, programs.COMMAND, args=("a",) * 4, time_ms=50) == "out_of_time"


async def fuel_runs_out_at_the_same_place(perform: Perform) -> None:
    used = (await ran(perform, programs.NUMBERS, "add_one", word(1), fuel=1_000)).fuel
    if used is None:
        return
    assert 0 < used < 100
    for enough in (None, used, used + 1):
        assert (await ran(perform, programs.NUMBERS, "add_one", word(1), fuel=enough)).fuel == used
    assert await failed(perform, programs.NUMBERS, "add_one", word(1), fuel=used - 1) == "out_of_fuel"
    for func, code in (("forever", programs.NUMBERS), ("f", programs.STARTING)):
        assert await failed(perform, code, func, fuel=100_000) == "out_of_fuel"
    hello = (await ran(perform, programs.COMMAND)).fuel
    assert hello is not None and (await ran(perform, programs.COMMAND)).fuel == hello
    assert await failed(perform, programs.COMMAND, fuel=hello - 1) == "out_of_fuel"


async def memory_is_refused_by_a_trap(perform: Perform) -> None:
    three, two = 3 * PAGE, low(2)
    grown = await ran(perform, programs.NUMBERS, "grow", two, memory=three)
    assert grown.values[:4] == low(1)[:4] and grown.memory_bytes == three
    assert await failed(perform, programs.NUMBERS, "grow", two, memory=three - 1) == "out_of_memory"
    assert await failed(perform, programs.NUMBERS, "bomb", memory=64 * MIB) == "out_of_memory"
    assert await failed(perform, programs.NUMBERS, "count", memory=PAGE - 1) == "out_of_memory"


async def recursion_ends(perform: Perform) -> None:
    assert await failed(perform, programs.NUMBERS, "recurse") == "stack_overflow"
    assert (await ran(perform, programs.NUMBERS, "count")).values[:4] == low(41)[:4]


async def output_is_bounded(perform: Perform) -> None:
    assert await failed(perform, programs.COMMAND, args=("a",) * 2) == "output_too_large"
    assert await failed(perform, programs.COMMAND, output=5) == "output_too_large"
    assert blobs.decode_result((await ran(perform, programs.COMMAND, output=6)).wasi, 9).stdout == b"hello\n"


RUNTIME: Final[tuple[Law, ...]] = (
    a_module_is_prepared_once,
    what_is_no_program_is_refused,
    what_is_not_prepared_does_not_run,
    numbers_cross_as_words,
    every_run_is_a_fresh_one,
    a_handler_is_given_bytes_and_gives_bytes,
    a_handler_cannot_point_outside,
    a_command_prints_and_exits,
    sleeping_costs_no_time,
    a_reactor_is_initialized_first,
    traps_are_told,
    a_loop_runs_out_of_time,
    fuel_runs_out_at_the_same_place,
    memory_is_refused_by_a_trap,
    recursion_ends,
    output_is_bounded,
)
