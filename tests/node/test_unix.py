"""Links over a Unix socket: whole, bounded, bound to this very connection, and dialled again."""

from __future__ import annotations

import asyncio
import contextlib
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.node.hosting import Hosted, add_one, add_one_module, hosted, on_loop

from promisegrid import unixfs
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid.task import RunResult, Task
from promisegrid_node import unix, wire
from promisegrid_node.tls import Pins

GRID = Cid.of(b"grid", "dag-cbor")
LIMITS = replace(Limits(), frame_bytes=3 * 1024 * 1024, greeting_per_address=2)
SPLICER = """
import os, socket, sys, threading
real, fake = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX); listener.bind(fake); listener.listen()
print("ready", flush=True)
one, _ = listener.accept()
other = socket.socket(socket.AF_UNIX); other.connect(real)
def pump(a, b):
    while data := a.recv(65536):
        b.sendall(data)
    b.shutdown(socket.SHUT_WR)
threading.Thread(target=pump, args=(one, other), daemon=True).start()
pump(other, one)
"""
"""Passes everything on, both ways, from a process of its own."""


def test_a_peers_socket_is_read(tmp_path: Path) -> None:
    peer = unix.read_any(f"unix:{tmp_path}/a b#/join/{GRID}/aebagbaf")
    assert (peer.url.path, peer.grid, peer.invite) == (f"{tmp_path}/a b", GRID, b"\x01\x02\x03\x04\x05")
    assert peer.url.scheme == "unix" and unix.read_any("http://127.0.0.1:8420/").url.scheme == "ws"
    assert unix.read_any("unix:~/x").url.path == str(Path.home() / "x")
    for text in ("unix:", "unix:#/join/x", f"unix:/a#/join/{GRID}/NOT-BASE32", "unix:/a\0b"):
        with pytest.raises(LocalError, match="is not a peer's socket"):
            unix.read_any(text)


@contextlib.asynccontextmanager
async def listening(folder: Path, name: str = "ann") -> AsyncIterator[Hosted]:
    """A node with its door open, listening in a folder."""
    async with hosted(name, limits=LIMITS) as node:
        node.kernel.open_mode = True
        async with unix.Listener(node.host, folder / unix.SOCKET, LIMITS).listening():
            yield node


@contextlib.asynccontextmanager
async def dialling(node: Hosted, text: str) -> AsyncIterator[wire.Dialler]:
    """A node that keeps dialling a socket."""
    made = unix.dialler(node.host, unix.read_any(text), Pins(Path("/nowhere")), LIMITS)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(node: Hosted, event: str) -> dict[str, object]:
    """The next time a peer comes ("up") or goes ("down")."""
    heard: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def listen(kind: str, detail: object) -> None:
        assert isinstance(detail, object)
        if kind == "peer" and isinstance(detail, dict) and detail["event"] == event and not heard.done():
            heard.set_result(detail)

    ended = node.host.subscribe(listen)
    try:
        return await heard
    finally:
        ended()


def test_two_nodes_of_one_user_join_fetch_and_run(tmp_path: Path) -> None:
    """Over a socket whose path is too long for the system, too."""
    home = tmp_path / ("long" * 30)
    home.mkdir()

    @on_loop
    async def run() -> None:
        async with listening(home) as ann, hosted("bob", founds=False, limits=LIMITS) as bob:
            assert stat.S_IMODE((home / unix.SOCKET).stat().st_mode) == 0o600
            grid = ann.kernel.grid
            async with dialling(bob, f"unix:{home}#/join/{grid}"):
                await until(bob, "up")
                (peer,) = bob.kernel.peers()
                assert (peer["did"], peer["via"], bob.kernel.grid) == (ann.keys.did, "unix", grid)
                cid, blocks = unixfs.import_bytes(b"".join(n.to_bytes(4, "big") for n in range(1_300_000)))
                await ann.host.ask(ann.kernel.save(blocks))
                assert (await bob.host.ask(bob.kernel.fetch(cid)))[1] > 5_000_000
                bob.runtime.programs[b"\0asm"] = ann.runtime.programs[b"\0asm"] = (add_one_module(), add_one)
                await ann.host.ask(ann.kernel.owner.set_serving(1, 1 << 20))
                code, blocks = unixfs.import_bytes(b"\0asm")
                await bob.host.ask(bob.kernel.save(blocks))
                task = Task(code, "add_one", (41,))
                done = await bob.host.ask(bob.kernel.run(task, Budget(), on=ann.keys.did))
                assert isinstance(done, RunResult) and (done.value, done.by) == (42, ann.keys.did)
        assert not (home / unix.SOCKET).exists()

    run()


def test_it_is_dialled_again_when_the_peer_is_back(tmp_path: Path) -> None:
    @on_loop
    async def run() -> None:
        async with hosted("bob", founds=False, limits=LIMITS) as bob, hosted("ann", limits=LIMITS) as ann:
            ann.kernel.open_mode = True
            async with dialling(bob, f"unix:{tmp_path}#/join/{ann.kernel.grid}") as dialler:
                await asyncio.sleep(0)
                for _ in range(2):
                    (tmp_path / unix.SOCKET).touch()  # as a node leaves it that is killed
                    up, down = (asyncio.create_task(until(bob, event)) for event in ("up", "down"))
                    async with unix.Listener(ann.host, tmp_path / unix.SOCKET, LIMITS).listening():
                        assert (await up)["via"] == "unix" and dialler.state == "open"
                    await down
                    assert bob.kernel.peers() == []

    run()


@pytest.mark.parametrize("moved", [False, True], ids=["elsewhere", "in its place"])
def test_nobody_passes_a_greeting_on(tmp_path: Path, moved: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process that listens elsewhere, where the system does not tell who is at the other end; and one in
    the very place of the node's socket, which it moved away."""
    if moved and sys.platform != "linux":
        pytest.skip("this system does not tell who is at the other end")
    real = fake = tmp_path / unix.SOCKET
    aside = tmp_path / "aside.sock"
    if not moved:
        fake, aside = tmp_path / "fake.sock", real
        monkeypatch.setattr(unix, "other_end", lambda connection: None)

    @on_loop
    async def run() -> None:
        async with listening(tmp_path) as ann, hosted("bob", founds=False, limits=LIMITS) as bob:
            if moved:
                real.rename(aside)
            asked = [sys.executable, "-c", SPLICER, str(aside), str(fake)]
            between = subprocess.Popen(asked, stdout=subprocess.PIPE)
            try:
                assert between.stdout is not None
                assert await asyncio.to_thread(between.stdout.readline) == b"ready\n"
                async with dialling(bob, f"unix:{fake}#/join/{ann.kernel.grid}"):
                    detail = await until(bob, "down")
                assert detail["code"] == "hello" and "between the two" in str(detail["reason"])
                assert bob.kernel.grid is None and ann.kernel.peers() == []
            finally:
                between.kill()
                between.communicate()

    run()


def test_strangers_hold_few_places_and_rubbish_costs_its_sender(tmp_path: Path) -> None:
    @on_loop
    async def run() -> None:
        async with listening(tmp_path) as ann:
            path = str(tmp_path / unix.SOCKET)
            silent = [await asyncio.open_unix_connection(path) for _ in range(2)]
            hello = [await reader.readexactly(4) for reader, _ in silent]
            assert all(hello)
            reader, writer = await asyncio.open_unix_connection(path)
            assert await reader.read() == b"", "a third stranger is let go at once"
            writer.close()
            silent[0][1].write((LIMITS.frame_bytes + 1).to_bytes(4, "big"))
            silent[1][1].write(b"\0\0\0\4junk")
            for reader, writer in silent:
                await reader.read()
                writer.close()
            assert ann.host.link_count == 0 and ann.kernel.peers() == []

    run()


def test_another_users_process_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix, "other_end", lambda connection: (1, 4242))

    @on_loop
    async def run() -> None:
        async with listening(tmp_path) as ann:
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / unix.SOCKET))
            assert await reader.read() == b"" and ann.host.link_count == 0
            writer.close()

    run()


def test_what_is_in_the_way_of_the_socket_is_told(tmp_path: Path) -> None:
    (tmp_path / unix.SOCKET / "x").mkdir(parents=True)

    @on_loop
    async def run() -> None:
        with pytest.raises(LocalError, match="cannot be replaced"):
            async with listening(tmp_path):
                pass

    run()
