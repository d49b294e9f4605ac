"""Strangers' modules on the node: each ends as its entry says, in time, and the node answers after it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from tests import programs
from tests.contracts_runtime import prepare, word, work
from tests.hostile import ALL, Hostile

from promisegrid.effects import Failure, Outcome
from promisegrid.errors import CODES
from promisegrid.limits import Limits
from promisegrid_node.runtime import Runtime


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Runtime]]:
    """One loop and one runtime for all: what one module breaks, the next one would notice."""
    with asyncio.Runner() as runner:

        async def make() -> Runtime:
            return Runtime(tmp_path_factory.mktemp("home"), Limits(runs=2))

        runtime = runner.run(make())
        yield runner, runtime
        runner.run(runtime.close())


async def ending(runtime: Runtime, one: Hostile) -> Failure | Outcome:
    """How it is refused, or ends."""
    data = one.make()
    prepared = await runtime.prepare(prepare(data))
    if isinstance(prepared, Failure):
        return prepared
    assert prepared is not None
    budget = {"fuel": one.fuel, "memory": one.memory, "output": one.output, "time_ms": one.time_ms}
    return await runtime.run(work(data, one.func, **budget))


async def answers(runtime: Runtime) -> bool:
    """Whether a plain program still runs."""
    await runtime.prepare(prepare(programs.NUMBERS))
    outcome = await runtime.run(work(programs.NUMBERS, "add_one", word(41)))
    return isinstance(outcome, Outcome) and outcome.values == word(42)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_a_hostile_module_is_contained(one: Hostile, loop: tuple[asyncio.Runner, Runtime]) -> None:
    runner, runtime = loop
    began = time.monotonic()
    ended = runner.run(ending(runtime, one))
    if isinstance(ended, Failure):
        assert ended.code == one.ends, ended
        assert ended.code in CODES
        assert ended.text[0].isupper() and ended.text.endswith(".") and "\n" not in ended.text, ended.text
    else:
        assert one.ends == "ok", ended
        assert ended.fuel is not None and ended.fuel > 0
    assert runner.run(answers(runtime))
    assert time.monotonic() - began < 30


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len({one.name for one in ALL}) == len(ALL) > 20
