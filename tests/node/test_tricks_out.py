"""A hostile folder on its way to the disk: nothing lands outside, and nothing fills it up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.node.hosting import Hosted, hosted, on_loop
from tests.test_tricks import LEAF, folder

from promisegrid import dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.unixfs.node import Entry, write_directory, write_file
from promisegrid_node import api_content
from promisegrid_node.api import About, Api
from promisegrid_node.scatter import FolderWriter
from promisegrid_node.session import InProcess
from promisegrid_node.verbs_content import to_folder


async def written(node: Hosted, cid: Cid, target: Path) -> None:
    await to_folder(InProcess(Api(node.host, About(None)).verbs), str(cid), target)


async def save(node: Hosted, *blocks: Block) -> None:
    await node.host.ask(node.kernel.save(list(blocks)))


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("names", [("ok", ".."), ("ok", "../out"), ("ok", "/etc/x"), ("a", "a"), ("ok", "")])
def test_names_that_lead_out_leave_nothing_behind(tmp_path: Path, names: tuple[str, ...]) -> None:
    @on_loop
    async def run() -> None:
        async with hosted() as node:
            block = folder(*names)
            await save(node, block, LEAF)
            with pytest.raises(RemoteError):
                await written(node, block.cid, tmp_path / "target")
            assert left(tmp_path) == []

    run()


@on_loop
async def test_a_link_and_a_folder_of_one_name_cannot_lead_out(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with pytest.raises(LocalError, match="no folder"), FolderWriter(tmp_path / "target") as writer:
        await writer.take(dagcbor.encode(["a", "symlink", os.fsencode(outside)]))
        await writer.take(dagcbor.encode(["a/x", "file", b""]))
    assert left(tmp_path) == ["outside"]


@on_loop
async def test_a_folder_that_unfolds_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_content, "UNFOLDED", 100)
    async with hosted() as node:
        blocks = [LEAF]
        for _ in range(40):
            cid = blocks[-1].cid
            blocks.append(write_directory([Entry("a", cid, 4), Entry("b", cid, 4)]))
        await save(node, *blocks)
        with pytest.raises(RemoteError, match="unfolds") as refused:
            await written(node, blocks[-1].cid, tmp_path / "target")
        assert refused.value.code == "too_large"
        assert left(tmp_path) == []


@on_loop
async def test_a_folder_larger_than_the_disk_is_refused_before_it_fills_it(tmp_path: Path) -> None:
    async with hosted() as node:
        leaf = Block.of(b"x" * 1024)
        blocks, size, cid = [leaf], 1024, leaf.cid
        for _ in range(8):
            blocks.append(write_file([(cid, size, size)] * 64))
            cid, size = blocks[-1].cid, 64 * size
        root = write_directory([Entry("petabytes", cid, 4)])
        await save(node, *blocks, root)
        with pytest.raises(RemoteError, match="that are free"):
            await written(node, root.cid, tmp_path / "target")
        assert left(tmp_path) == []
