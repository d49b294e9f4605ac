"""What is written behind can be read at once, reaches the store soon, and is not lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.node.hosting import MemoryStore, on_loop

from promisegrid.effects import Commit, Failure, Load, Save, Scan, Write
from promisegrid_node import disk
from promisegrid_node.disk import LATER, Disk


class Waiting:
    """A store whose thread stands still until it is let go, and the answers that came."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.answers: dict[int, object] = {}
        self.disk = Disk(self.store, lambda answers: self.answers.update(answers))

    async def until(self, ticket: int) -> object:
        """The answer of that ticket."""
        async with asyncio.timeout(5):
            while ticket not in self.answers:
                await asyncio.sleep(0)
        return self.answers[ticket]


@asynccontextmanager
async def opened() -> AsyncIterator[Waiting]:
    made = Waiting()
    try:
        yield made
    finally:
        await made.disk.close()


def row(key: bytes, value: bytes | None = b"value") -> Save:
    return Save((Write("memo", key, value),))


@on_loop
async def test_a_small_save_is_answered_at_once_and_can_be_read() -> None:
    async with opened() as made:
        assert made.disk.at_once(row(b"a/1")) is None
        made.store.tables["memo"][b"a/0"] = b"older"
        made.store.tables["memo"][b"a/2"] = b"older"
        assert made.disk.at_once(Load("memo", (b"a/1",))) == (b"value",)
        assert made.disk.at_once(Load("memo", (b"a/1", b"a/2"))) is LATER, "not all of it is here"
        rows = made.disk.at_once(Scan("memo", b"a/", b"a/", 2))
        assert rows == ((b"a/0", b"older"), (b"a/1", b"value")), "in order, and no more than asked for"
        assert made.disk.at_once(Scan("memo", b"a/", b"a/1", 9)) == ((b"a/2", b"older"),)
        assert made.disk.at_once(Scan("memo", b"b", b"b", 9)) == ()
    assert made.store.tables["memo"][b"a/1"] == b"value", "closing writes everything down"


@on_loop
async def test_a_later_write_of_the_same_key_is_the_one_that_is_read() -> None:
    async with opened() as made:
        for value in (b"one", b"two"):
            made.disk.at_once(row(b"key", value))
        assert made.disk.at_once(Load("memo", (b"key",))) == (b"two",)
        made.disk.take(7, Load("memo", (b"key",)))
        assert await made.until(7) == (b"two",)
        assert made.disk.at_once(Load("memo", (b"key",))) is LATER, "it has reached the store"


@on_loop
async def test_what_is_large_or_removes_something_is_not_written_behind() -> None:
    async with opened() as made:
        for save in (row(b"key", bytes(disk.BEHIND_BYTES + 1)), row(b"key", None)):
            assert made.disk.at_once(save) is LATER
        assert made.disk.at_once(Commit((Write("grid", b"key", b"value"),))) is LATER
        assert made.disk.at_once(Scan("grid", b"", b"", 9)) is LATER


@on_loop
async def test_a_loss_is_told_to_the_next_who_writes_and_his_write_is_not_made() -> None:
    async with opened() as made:
        made.store.full = True
        made.disk.at_once(row(b"lost"))
        made.disk.take(1, Commit((Write("grid", b"root", b"of what was lost"),)))
        made.disk.take(2, Load("grid", (b"root",)))
        failure = await made.until(1)
        assert isinstance(failure, Failure) and failure.code == "disk_full"
        assert await made.until(2) == (None,)
        made.store.full = False
        assert made.disk.at_once(row(b"found")) is None, "once it has been told, all is as before"
        made.disk.take(3, Commit((Write("grid", b"root", b"new"),)))
        assert await made.until(3) is None
    assert b"lost" not in made.store.tables["memo"] and made.store.tables["grid"] == {b"root": b"new"}


@on_loop
async def test_while_a_loss_is_owed_saves_wait_for_the_disk() -> None:
    async with opened() as made:
        made.store.full = True
        made.disk.at_once(row(b"lost"))
        made.disk.take(1, Load("memo", (b"lost",)))
        assert await made.until(1) == (None,)
        assert made.disk.at_once(row(b"next")) is LATER


@on_loop
async def test_many_small_saves_go_together() -> None:
    async with opened() as made:
        for number in range(50):
            made.disk.at_once(row(b"%d" % number))
        made.disk.take(1, Load("memo", (b"49",)))
        assert await made.until(1) == (b"value",)
        assert made.store.batches == [51]
