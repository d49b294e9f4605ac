"""Compiling in a process of its own: a ruinous module is refused, by static limits first, and if they fail by
the process's own. Cancelling kills it, and nothing half-written stays."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests import programs
from tests.node.hosting import on_loop
from tests.ruinous import nested_loops

from promisegrid.effects import Failure
from promisegrid.wasm.module import ModuleInfo
from promisegrid_node import compiler
from promisegrid_node.compiler import CompileLimits, compile_module

UNCHECKED = (
    sys.executable,
    "-c",
    "from promisegrid_node import compiler; compiler.inspect = lambda data: None; compiler.main()",
)
"""The child without its static limits: the next line of defence."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "code.cwasm"


def test_a_ruinous_module_is_refused_before_it_is_compiled(place: Path) -> None:
    began = time.monotonic()
    refused = asyncio.run(compile_module(nested_loops(), place))
    assert isinstance(refused, Failure) and refused.code == "too_complex"
    assert "loops" in refused.text and time.monotonic() - began < 10
    assert not list(place.parent.iterdir())


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (CompileLimits(cpu_s=1), "more time or memory"),
        (CompileLimits(memory_bytes=300 << 20), "more (time or )?memory"),
        (CompileLimits(deadline_s=0.5), "within 0.5 s"),
    ],
    ids=["processor time", "memory", "deadline"],
)
def test_what_the_static_limits_miss_ends_at_the_process(
    place: Path, limits: CompileLimits, why: str
) -> None:
    refused = asyncio.run(compile_module(nested_loops(), place, limits, UNCHECKED))
    assert isinstance(refused, Failure) and refused.code == "too_complex", refused
    assert re.search(why, refused.text), refused.text
    assert not list(place.parent.iterdir())


def test_the_unchecked_child_compiles_what_is_harmless(place: Path) -> None:
    compiled = asyncio.run(compile_module(programs.NUMBERS, place, None, UNCHECKED))
    assert isinstance(compiled, ModuleInfo)


def test_cancelling_kills_the_compiler(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    children: list[int] = []
    real = asyncio.create_subprocess_exec

    async def noted(*args: Any, **how: Any) -> asyncio.subprocess.Process:
        child = await real(*args, **how)
        children.append(child.pid)
        return child

    monkeypatch.setattr(compiler.asyncio, "create_subprocess_exec", noted)

    @on_loop
    async def check() -> None:
        task = asyncio.create_task(compile_module(nested_loops(), place, None, UNCHECKED))
        while not children:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ProcessLookupError):
            os.kill(children[0], 0)

    check()
    assert not list(place.parent.iterdir())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    refused = asyncio.run(compile_module(programs.NUMBERS, tmp_path / "absent" / "code.cwasm"))
    assert isinstance(refused, Failure) and refused.code == "disk_full"
    assert str(tmp_path / "absent") in refused.text


@pytest.mark.parametrize("answer", [b"", b"\xa1", b"\xa1dinfo", b"\xa1acax", b"\x00", bytes(9 << 20)])
def test_a_child_that_said_half_of_something_was_killed(answer: bytes) -> None:
    read = compiler._read(answer, -9)
    assert isinstance(read, Failure) and read.code == "too_complex" and "signal 9" in read.text
