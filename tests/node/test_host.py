"""The host's loop: effects performed, answers brought back, nothing left waiting."""

from __future__ import annotations

import asyncio

import pytest
from tests.node.hosting import Hosted, add_one, add_one_module, hosted, on_loop

from promisegrid import unixfs
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Effect
from promisegrid.errors import RemoteError
from promisegrid.task import Task
from promisegrid_node.host import FRAMES_A_TURN

MODULE = b"\0asm add_one"


async def put(node: Hosted, data: bytes) -> Cid:
    cid, blocks = unixfs.import_bytes(data)
    await node.host.ask(node.kernel.save(blocks))
    return cid


async def module(node: Hosted) -> Cid:
    node.runtime.programs[MODULE] = (add_one_module(), add_one)
    return await put(node, MODULE)


@on_loop
async def test_a_booted_host_knows_its_did_and_grid() -> None:
    async with hosted() as node:
        assert (await node.host.start()) == {"did": node.keys.did, "grid": str(node.kernel.grid)}


@on_loop
async def test_what_is_saved_can_be_read() -> None:
    async with hosted() as node:
        cid = await put(node, b"x" * 3_000_000)
        source, read = node.kernel.read(cid), b""
        while (piece := await node.host.ask(node.kernel.piece(source))) is not None:
            read += piece
        assert read == b"x" * 3_000_000


@on_loop
async def test_store_effects_that_gather_go_together() -> None:
    async with hosted() as node:
        cids = [await put(node, bytes([n])) for n in range(20)]
        node.store.batches.clear()
        await asyncio.gather(*(node.host.ask(node.kernel.has(cid)) for cid in cids))
        assert sum(node.store.batches) == 20
        assert len(node.store.batches) <= 3


@on_loop
async def test_a_program_runs_once_and_its_result_is_remembered() -> None:
    async with hosted() as node:
        task = Task(await module(node), "add_one", (41,))
        first = await node.host.ask(node.kernel.run(task, Budget()))
        again = await node.host.ask(node.kernel.run(task, Budget()))
        assert (first.value, first.cached, again.value, again.cached) == (42, False, 42, True)
        assert node.host.runs == 1


@on_loop
async def test_cancelling_the_asker_stops_the_program() -> None:
    async with hosted() as node:
        task = Task(await module(node), "hang", (1,))
        asked = asyncio.create_task(node.host.ask(node.kernel.run(task, Budget())))
        await node.runtime.started.wait()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        while node.runtime.cancelled == 0:
            await asyncio.sleep(0)
        assert asked.cancelled()


@on_loop
async def test_a_fault_of_the_engine_is_a_refusal() -> None:
    async with hosted() as node:
        task = Task(await module(node), "fault", (1,))
        with pytest.raises(RemoteError) as refused:
            await node.host.ask(node.kernel.run(task, Budget()))
        assert refused.value.code == "internal"


@on_loop
async def test_a_fault_of_the_disk_is_a_refusal_and_the_host_lives_on() -> None:
    async with hosted() as node:
        node.store.broken = True
        with pytest.raises(RemoteError) as refused:
            await put(node, b"lost")
        assert refused.value.code == "internal"
        node.store.broken = False
        assert await put(node, b"kept")


@on_loop
async def test_a_full_disk_is_said_so() -> None:
    async with hosted() as node:
        node.store.full = True
        with pytest.raises(RemoteError) as refused:
            await put(node, b"too much")
        assert refused.value.code == "disk_full"


@on_loop
async def test_progress_reaches_the_asker() -> None:
    async with hosted() as node:
        seen: list[object] = []
        task = Task(await module(node), "add_one", (1,))
        await node.host.ask(node.kernel.run(task, Budget()), lambda detail: seen.append(detail["phase"]))
        assert "run" in seen


@on_loop
async def test_a_closed_host_leaves_nobody_waiting() -> None:
    async with hosted() as node:
        task = Task(await module(node), "hang", (1,))
        asked = asyncio.create_task(node.host.ask(node.kernel.run(task, Budget())))
        await node.runtime.started.wait()
        await node.host.close()
        await asyncio.gather(asked, return_exceptions=True)
        assert asked.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await node.host.ask(node.kernel.has(Cid.of(b"")))


class Unheard:
    """A connection nobody listens to."""

    room = asyncio.Event()

    def send(self, frame: bytes) -> None:
        pass

    def close(self, code: str, text: str) -> None:
        pass


@on_loop
async def test_a_fault_met_by_one_frame_costs_the_others_of_its_turn_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hosted() as node:
        seen: list[bytes] = []

        def receive(link: int, frame: bytes, now_ms: int) -> list[tuple[int, Effect]]:
            if frame == b"bug":
                raise RuntimeError("a bug of ours")
            seen.append(frame)
            return []

        link = node.host.connect(Unheard(), "responder", "b/grid")
        monkeypatch.setattr(node.kernel, "receive", receive)
        for frame in (b"one", b"bug", b"two"):
            node.host.receive(link, frame)
        await asyncio.sleep(0)
        assert seen == [b"one", b"two"]


@on_loop
async def test_frames_that_came_are_heard_before_their_connection_is_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with hosted() as node:
        seen: list[bytes] = []
        link = node.host.connect(Unheard(), "responder", "b/grid")
        monkeypatch.setattr(node.kernel, "receive", lambda link, frame, now_ms: seen.append(frame) or [])
        for number in range(FRAMES_A_TURN + 1):
            node.host.receive(link, b"%d" % number)
        node.host.disconnect(link)
        assert len(seen) == FRAMES_A_TURN + 1
        node.host.receive(link, b"too late")
        await asyncio.sleep(0)
        assert b"too late" not in seen
