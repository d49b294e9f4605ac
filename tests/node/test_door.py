"""The local door: a verb through a Unix socket is the verb itself."""

from __future__ import annotations

import asyncio
import contextlib
import stat
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.node.hosting import on_loop

from promisegrid import dagcbor
from promisegrid.errors import LocalError, RemoteError
from promisegrid_node import door
from promisegrid_node.home import Home
from promisegrid_node.session import Session


async def echo(args: Mapping[str, Any], session: Session) -> dict[str, Any]:
    """Gives back what it is given, piece by piece."""
    size = 0
    async for piece in session.pieces():
        session.progress({"phase": "echo", "done": size})
        await session.emit(piece)
        size += len(piece)
    return {"size": size, **args}


async def refuse(args: Mapping[str, Any], session: Session) -> dict[str, Any]:
    raise RemoteError("not_found", "nobody has it")


async def object_to(args: Mapping[str, Any], session: Session) -> dict[str, Any]:
    raise LocalError("use another name")


async def fault(args: Mapping[str, Any], session: Session) -> dict[str, Any]:
    raise ZeroDivisionError("oops")


class Hanging:
    """A verb that never ends by itself."""

    def __init__(self) -> None:
        self.begun, self.stopped = asyncio.Event(), asyncio.Event()

    async def __call__(self, args: Mapping[str, Any], session: Session) -> dict[str, Any]:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.stopped.set()
        return {}


@contextlib.asynccontextmanager
async def opened(folder: Path, hang: Hanging | None = None) -> AsyncIterator[Home]:
    home = Home(folder)
    home.create()
    verbs: dict[str, Any] = {"echo": echo, "refuse": refuse, "object": object_to, "fault": fault}
    made = door.Door(home.door, verbs | ({"hang": hang} if hang else {}))
    await made.open()
    try:
        yield home
    finally:
        await made.close()


async def many(count: int, size: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number % 251]) * size


@on_loop
async def test_input_output_progress_and_value_pass(tmp_path: Path) -> None:
    async with opened(tmp_path) as home:
        got, seen = bytearray(), list[object]()

        async def emit(piece: bytes) -> None:
            got.extend(piece)

        args = {"a": 1, "cids": [None, True, "x"]}
        node = door.RemoteNode(home.door)
        value = await node.call(
            "echo", args, many(40, 1_000_000), emit, lambda detail: seen.append(detail["phase"])
        )
        assert value == {"size": 40_000_000, **args}
        assert bytes(got[:3]) == b"\0\0\0"
        assert len(got) == 40_000_000
        assert "echo" in seen


@on_loop
async def test_errors_keep_their_kind_code_and_text(tmp_path: Path) -> None:
    async with opened(tmp_path) as home:
        node = door.RemoteNode(home.door)
        with pytest.raises(RemoteError) as remote:
            await node.call("refuse", {})
        assert (remote.value.code, remote.value.text) == ("not_found", "nobody has it")
        with pytest.raises(LocalError, match="use another name"):
            await node.call("object", {})
        with pytest.raises(LocalError, match="knows no verb 'dance'"):
            await node.call("dance", {})
        with pytest.raises(RemoteError, match="ZeroDivisionError"):
            await node.call("fault", {})


@on_loop
async def test_an_error_in_the_callers_own_input_ends_the_call(tmp_path: Path) -> None:
    async def unreadable() -> AsyncIterator[bytes]:
        yield b"some"
        raise LocalError("disk.img cannot be read")

    async with opened(tmp_path) as home:
        with pytest.raises(LocalError, match=r"disk\.img"):
            await door.RemoteNode(home.door).call("echo", {}, unreadable())


@on_loop
async def test_a_verb_that_leaves_its_input_unread_still_answers(tmp_path: Path) -> None:
    async with opened(tmp_path) as home:
        with pytest.raises(RemoteError, match="nobody has it"):
            await door.RemoteNode(home.door).call("refuse", {}, many(4, 300_000))
        reader, writer = await asyncio.open_unix_connection(home.door)
        writer.write(door.frame("call", "refuse", {}))
        assert await door.read_frame(reader) is not None
        with pytest.raises(TimeoutError):  # the node waits for us to hang up first
            async with asyncio.timeout(0.05):
                await reader.read(1)
        writer.write(door.frame("end"))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


@on_loop
async def test_hanging_up_cancels_the_verb(tmp_path: Path) -> None:
    hang = Hanging()
    async with opened(tmp_path, hang) as home:
        call = asyncio.create_task(door.RemoteNode(home.door).call("hang", {}))
        await hang.begun.wait()
        call.cancel()
        await hang.stopped.wait()


@on_loop
async def test_a_node_that_stops_is_said_so(tmp_path: Path) -> None:
    hang = Hanging()
    async with opened(tmp_path, hang) as home:
        call = asyncio.create_task(door.RemoteNode(home.door).call("hang", {}))
        await hang.begun.wait()
    with pytest.raises(LocalError, match="stopped before"):
        await call


@on_loop
async def test_only_the_owner_may_open_it(tmp_path: Path) -> None:
    async with opened(tmp_path / "home") as home:
        assert stat.S_IMODE(home.door.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert not home.door.exists()


@on_loop
async def test_a_home_with_a_long_path_works(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    async with opened(deep) as home:
        assert await door.RemoteNode(home.door).call("echo", {"a": 1}, None) == {"size": 0, "a": 1}


@on_loop
async def test_a_door_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "door.sock").write_bytes(b"left behind")
    async with opened(tmp_path) as home:
        assert await door.RemoteNode(home.door).call("echo", {}) == {"size": 0}


@pytest.mark.parametrize(
    "bytes_in",
    [
        b"\0\0\0\0",
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"\0\0\0\x05junk!",
        door.frame("hello"),
        door.frame("call", 1, 2),
        (3).to_bytes(4, "big") + dagcbor.encode([[]]) + b"\0",
    ],
)
def test_rubbish_gets_a_sentence_and_the_door_stays_open(tmp_path: Path, bytes_in: bytes) -> None:
    @on_loop
    async def run() -> None:
        async with opened(tmp_path) as home:
            reader, writer = await asyncio.open_unix_connection(home.door)
            writer.write(bytes_in)
            writer.write_eof()
            answer = await door.read_frame(reader)
            assert answer is not None
            assert answer[:2] == ["failed", "local"]
            writer.close()
            assert await door.RemoteNode(home.door).call("echo", {}) == {"size": 0}

    run()


def test_a_home_in_use_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("promisegrid_node.home.SHARE_WAIT_S", 0.0)
    home, other = Home(tmp_path), Home(tmp_path)
    assert not other.is_held
    with home.hold():
        assert other.is_held
        with pytest.raises(LocalError, match="is used by"), other.hold():
            pass
    with home.share(), other.share():
        pass


def test_something_else_at_the_door_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "door.sock").mkdir()

    async def run() -> None:
        async with opened(tmp_path):
            pass

    with pytest.raises(LocalError, match=r"door\.sock .* remove it, or use --home"):
        asyncio.run(run())
