"""Processes killed at random moments: `python -m tests.node.killing FOLDER STORES NODES SEED`.

A child writes, and says through a pipe what was acknowledged; its parent kills it (SIGKILL) at any moment,
opening and recovering included, opens what it left, and compares all of it. A process that is killed leaves
its disk to the system, so even `Save`s are there, and there is exactly one state, or the next, that a store
may hold. Children are forked, because starting an interpreter takes longer than a round.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import random
import select
import shutil
import signal
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from tests.node import crashing

from promisegrid.effects import Commit, Save
from promisegrid.errors import LocalError, RemoteError
from promisegrid_node import store_file, storing
from promisegrid_node.api import About, Api
from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.door import Door, RemoteNode
from promisegrid_node.home import Home
from promisegrid_node.keys import Keys
from promisegrid_node.store import Store

_COUNT: Final = struct.Struct("<I")
KILLS: Final = 3
"""How often each home is left like that, and worked on again."""
LONGEST: Final = 300
"""Effects of a round, if it is let live."""


def fork(work: Callable[[int], None]) -> tuple[int, int]:
    """A child that does this with the writing end of a pipe: its process id, and the reading end."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        try:
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def heard(reading: int, until: float) -> list[int]:
    """What was acknowledged until then."""
    told = bytearray()
    while (left := until - time.monotonic()) > 0 and select.select([reading], [], [], left)[0]:
        piece = os.read(reading, 4096)
        if not piece:
            break
        told += piece
    return [number for (number,) in _COUNT.iter_unpack(told[: len(told) // 4 * 4])]


def kill(child: int, reading: int) -> list[int]:
    """End a child without a word; what it had acknowledged by then and was not read yet."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    rest = heard(reading, time.monotonic() + 5)
    os.close(reading)
    return rest


def kill_stores(folder: Path, rounds: int, seed: int) -> int:
    """So many rounds of a store; how many effects were acknowledged. AssertionError when one is lost."""
    dice, acknowledged = random.Random(seed), 0
    for turn in range(0, rounds, KILLS):
        home = folder / f"store{turn}"
        home.mkdir()
        effects = list(crashing.workload(seed * 1000 + turn, LONGEST))
        states, begin = crashing.states(effects), 0
        for again in range(min(KILLS, rounds - turn)):
            child, reading = fork(partial(_write, home, effects[begin:]))
            if dice.random() < 0.8:  # else it may not even be open
                select.select([reading], [], [], 10)
            told = heard(reading, time.monotonic() + dice.random() ** 2 * 0.12)
            done = max([*told, *kill(child, reading)], default=0)
            content = crashing.content(home)
            assert store_file.check(home / store_file.FILE) == []
            allowed = states[begin + done : begin + done + 2]
            assert content in allowed, f"seed {seed}, round {turn + again}, acknowledged {begin} + {done}"
            begin += done + allowed.index(content)
            acknowledged += done
        shutil.rmtree(home)
    return acknowledged


def _write(home: Path, effects: list[Save | Commit], writing: int) -> None:
    """In the child."""
    store = Store.open(home)
    store.log_pages = 20
    for number, effect in enumerate(effects, 1):
        assert store.perform([effect]) == [None]
        os.write(writing, _COUNT.pack(number))


def kill_nodes(folder: Path, rounds: int, seed: int) -> int:
    """So many rounds of a whole node; how many files its door acknowledged. AssertionError for one lost."""
    home, dice, kept = Home(folder / "node"), random.Random(seed), dict[str, bytes]()
    home.create()
    Keys.open(home.path)
    for turn in range(rounds + 1):
        child, reading = fork(partial(_serve, home))
        try:
            stay_s = None if turn == rounds else dice.random() * 0.2
            asyncio.run(_visit(home, child, reading, dice, kept, stay_s))
        finally:
            kill(child, reading)
        assert crashing.content(home.path), turn
    return len(kept)


def _serve(home: Home, writing: int) -> None:
    """In the child."""

    async def serve() -> None:
        with home.hold():
            async with open_host(home, node_limits()) as host:
                await Door(home.door, Api(host, About(None)).verbs).open()
                os.write(writing, _COUNT.pack(0))
                await asyncio.Event().wait()

    asyncio.run(serve())


async def _visit(
    home: Home, child: int, reading: int, dice: random.Random, kept: dict[str, bytes], stay_s: float | None
) -> None:
    """Read everything acknowledged, have it verified, and put more until the node is killed."""
    assert select.select([reading], [], [], 30)[0], "the node did not start"
    node = RemoteNode(home.door)
    for cid, data in kept.items():
        got = bytearray()

        async def emit(piece: bytes, got: bytearray = got) -> None:
            got.extend(piece)

        await node.call("read", {"cid": cid}, emit=emit)
        assert got == data, f"{cid} was acknowledged"
    found = await node.call("verify", {})
    assert found["checked"] >= len(kept) and not found["bad"] and not found["wrong"], found
    if stay_s is None:
        return
    one_is_put = asyncio.Event()
    if dice.random() < 0.2:
        one_is_put.set()
    puts = [_put(node, random.Random(dice.random()), kept, one_is_put) for _ in range(3)]
    await asyncio.gather(_end(child, one_is_put, stay_s), _collect(node), *puts)


async def _end(child: int, may: asyncio.Event, stay_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            await may.wait()
    await asyncio.sleep(stay_s)
    os.kill(child, signal.SIGKILL)


async def _collect(node: RemoteNode) -> None:
    """Collect garbage, again and again, until nobody answers; there is some since the last kill."""
    with contextlib.suppress(LocalError):
        while True:
            with contextlib.suppress(RemoteError):
                await node.call("gc", {})


async def _put(
    node: RemoteNode, dice: random.Random, kept: dict[str, bytes], one_is_put: asyncio.Event
) -> None:
    """Put files, one after another, and pin most, until nobody answers. Those that are pinned are kept."""
    with contextlib.suppress(LocalError):
        while True:
            data = dice.randbytes(dice.choice((10, 3000, 300_000, 2_500_000)))
            found = await storing.store(node, io.BytesIO(data), lambda _: None)
            if dice.random() < 0.7:
                await node.call("pin", {"cid": str(found.cid)})
                kept[str(found.cid)] = data
                one_is_put.set()


def main() -> None:
    """What the arguments say; prints what was acknowledged."""
    folder, stores, nodes, seed = Path(sys.argv[1]), *map(int, sys.argv[2:])
    print(kill_stores(folder, stores, seed), kill_nodes(folder, nodes, seed) if nodes else 0)


if __name__ == "__main__":
    main()
