"""Large files in and out: in bounded memory, and what was interrupted goes on where it stopped."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.node.hosting import hosted, on_loop
from tests.test_chunker import stream

from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError
from promisegrid_node import door
from promisegrid_node.ahead import ahead
from promisegrid_node.api import About, Api
from promisegrid_node.chunker import Buzhash
from promisegrid_node.gather import BATCH_BYTES
from promisegrid_node.home import Home
from promisegrid_node.resuming import part_file, to_file
from promisegrid_node.session import Emit, InProcess, Node, Pieces, Progress
from promisegrid_node.storing import store

MIB = 1024 * 1024
DATA = stream(31, 9 * MIB + 7)


class Cut(Exception):
    """Somebody stopped the command."""


class Counting:
    """A node that counts the bytes going in and out, and breaks off after so many, once some are stored."""

    def __init__(self, node: Node, stored: Mapping[bytes, bytes]) -> None:
        self._node, self.stored = node, stored
        self.sent = self.read = 0
        self.breaks_at: int | None = None

    async def call(
        self,
        verb: str,
        args: Mapping[str, Any],
        pieces: Pieces | None = None,
        emit: Emit | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        heard = emit

        async def counted() -> AsyncIterator[list[Block]]:
            assert pieces is not None
            async for blocks in pieces:
                assert isinstance(blocks, list)
                while self._is_spent(self.sent) and not self.stored:
                    await asyncio.sleep(0)
                self._spend(self.sent)
                yield blocks
                self.sent += sum(len(block.data) for block in blocks)

        async def told(piece: bytes) -> None:
            assert heard is not None
            if verb == "read":
                self._spend(self.read)
                self.read += len(piece)
            await heard(piece)

        given = counted() if pieces else None
        return await self._node.call(verb, args, given, told if emit else None, progress)

    def _is_spent(self, spent: int) -> bool:
        return self.breaks_at is not None and spent >= self.breaks_at

    def _spend(self, spent: int) -> None:
        if self._is_spent(spent):
            raise Cut


def quiet(_: Mapping[str, Any]) -> None:
    """Nobody looks at the progress."""


@on_loop
async def test_a_put_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    async with hosted() as made:
        node = Counting(InProcess(Api(made.host, About(None)).verbs), made.store.tables["blocks"])
        node.breaks_at = BATCH_BYTES
        with pytest.raises(Cut):
            await store(node, tmp_path / "f", quiet)
        node.breaks_at, node.sent = None, 0
        found = await store(node, tmp_path / "f", quiet)
        assert 0 < node.sent < len(DATA) - BATCH_BYTES + MIB
        assert found.stored == node.sent
        assert found.size == len(DATA)
        assert (await store(node, tmp_path / "f", quiet)).stored == 0
        await to_file(node, str(found.cid), tmp_path / "out", len(DATA), quiet)
        assert (tmp_path / "out").read_bytes() == DATA


@on_loop
async def test_both_go_on_through_the_door(tmp_path: Path) -> None:
    """The client is cut off in the middle of a put, and of a get: what was acknowledged is not sent again."""
    (tmp_path / "f").write_bytes(DATA)
    home = Home(tmp_path / "home")
    home.create()
    async with hosted() as made:
        opened = door.Door(home.door, Api(made.host, About(None)).verbs)
        await opened.open()
        node = Counting(door.RemoteNode(home.door), made.store.tables["blocks"])
        node.breaks_at = 2 * BATCH_BYTES
        with pytest.raises(Cut):
            await store(node, tmp_path / "f", quiet)
        node.breaks_at, node.sent = None, 0
        found = await store(node, tmp_path / "f", quiet)
        assert 0 < node.sent == found.stored < len(DATA)
        node.breaks_at = 5 * MIB
        with pytest.raises(Cut):
            await to_file(node, str(found.cid), tmp_path / "out", len(DATA), quiet)
        node.breaks_at, node.read = None, 0
        assert await to_file(node, str(found.cid), tmp_path / "out", len(DATA), quiet) == 5 * MIB
        assert (tmp_path / "out").read_bytes() == DATA
        await opened.close()


@on_loop
async def test_an_edit_sends_a_few_chunks(tmp_path: Path) -> None:
    async with hosted() as made:
        node = Counting(InProcess(Api(made.host, About(None)).verbs), made.store.tables["blocks"])
        (tmp_path / "f").write_bytes(DATA)
        await store(node, tmp_path / "f", quiet, chunker=Buzhash())
        (tmp_path / "f").write_bytes(DATA[:3_000_000] + b"!" + DATA[3_000_000:])
        found = await store(node, tmp_path / "f", quiet, chunker=Buzhash())
        assert found.size == len(DATA) + 1
        assert 0 < found.stored < 1_500_000


@on_loop
async def test_a_rotten_block_is_sent_again(tmp_path: Path) -> None:
    async with hosted() as made:
        node = Counting(InProcess(Api(made.host, About(None)).verbs), made.store.tables["blocks"])
        (tmp_path / "f").write_bytes(DATA)
        found = await store(node, tmp_path / "f", quiet)
        made.store.tables["blocks"][bytes(Cid.of(DATA[:MIB]))] = DATA[1:MIB]
        again = await store(node, tmp_path / "f", quiet)
        assert (again.cid, again.stored) == (found.cid, MIB)


@on_loop
async def test_a_get_goes_on_where_it_stopped(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(DATA)
    target = tmp_path / "out"
    async with hosted() as made:
        node = Counting(InProcess(Api(made.host, About(None)).verbs), made.store.tables["blocks"])
        found = await store(node, tmp_path / "f", quiet)
        node.breaks_at = 5 * MIB
        with pytest.raises(Cut):
            await to_file(node, str(found.cid), target, len(DATA), quiet)
        assert not target.exists()
        (part,) = tmp_path.glob("out.*.part")
        assert part.stat().st_size == 5 * MIB
        with part.open("r+b") as file:
            file.seek(3 * MIB + 5)
            file.write(b"damage")
        node.breaks_at, node.read = None, 0
        assert await to_file(node, str(found.cid), target, len(DATA), quiet) == 3 * MIB
        assert node.read == len(DATA) - 3 * MIB
        assert target.read_bytes() == DATA
        assert not part.exists()


@on_loop
async def test_a_part_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    async with hosted() as made:
        node = Counting(InProcess(Api(made.host, About(None)).verbs), made.store.tables["blocks"])
        (tmp_path / "f").write_bytes(b"content")
        cid = str((await store(node, tmp_path / "f", quiet)).cid)
        part = tmp_path / f"out.{cid[-12:]}.part"
        part.write_bytes(b"content and more than that")
        assert await to_file(node, cid, tmp_path / "out", 7, quiet) == 7
        assert (tmp_path / "out").read_bytes() == b"content"
        part.symlink_to(tmp_path / "f")
        with pytest.raises(LocalError, match="cannot be written"):
            await to_file(node, cid, tmp_path / "out", 7, quiet)
        assert (tmp_path / "f").read_bytes() == b"content"


def test_one_at_a_time_writes_a_part(tmp_path: Path) -> None:
    with part_file(tmp_path / "out", "bafk") as file:
        file.write(b"x")
        with pytest.raises(LocalError, match="another command"), part_file(tmp_path / "out", "bafk"):
            pass
    assert (tmp_path / "out").read_bytes() == b"x"
    assert list(tmp_path.glob("*.part")) == []


@on_loop
async def test_one_thing_is_made_ahead_and_no_more() -> None:
    made = []

    async def count() -> AsyncIterator[int]:
        for number in range(5):
            made.append(number)
            yield number
        raise ConnectionError("at the end")

    taken = []
    with pytest.raises(ConnectionError):
        async for number in ahead(count()):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            taken.append(number)
            assert len(made) <= number + 2
    assert taken == made == list(range(5))


def peak(*words: str) -> int:
    """The most memory of a command of ours, in bytes."""
    script = "import sys, resource\nfrom promisegrid_node.cli import main\n"
    script += "code = main(sys.argv[1:])\n"
    script += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\nsys.exit(code)"
    command = [sys.executable, "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(done.stdout)
    return int(done.stderr.split()[-1]) * 1024


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file larger than the bound goes in and out: nobody holds all of it."""
    home = ["--home", str(tmp_path / "home")]
    (tmp_path / "small").write_bytes(b"x")
    with (tmp_path / "large").open("wb") as file:
        for number in range(160):
            file.write(os.urandom(64) + bytes([number]) * (MIB - 64))
    idle = peak("put", *home, str(tmp_path / "small"))
    assert peak("put", *home, "--name", "large", str(tmp_path / "large")) - idle < 100 * MIB
