"""put, get, ls: content in and out."""

from __future__ import annotations

import argparse
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node.aside import aside, standard_input
from promisegrid_node.gather import Gathered, Gatherer
from promisegrid_node.output import Output, Watcher, complain
from promisegrid_node.scatter import FolderWriter, whole_file
from promisegrid_node.session import Emit, Node


async def store(
    node: Node,
    source: Path | BinaryIO,
    watch: Watcher,
    hidden: bool = False,
    instead: dict[Path, bytes] | None = None,
) -> Gathered:
    """Bring a file, folder or stream into the node's store; `instead` gives some files other content."""
    gatherer = Gatherer(hidden, lambda size: watch({"phase": "put", "done": size}), instead)
    await node.call("save", {}, pieces=_off_loop(gatherer.pieces(source)))
    for path in gatherer.found.left_out:
        complain(f"{path} is neither a file, a folder nor a link: left out.")
    return gatherer.found


async def _off_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Reading and hashing in a thread, a piece at a time."""
    while (piece := await aside(lambda: next(pieces, None))) is not None:
        yield piece


async def put(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Print the CID of a file, folder or standard input."""
    source: Path | BinaryIO = standard_input() if options.path == "-" else Path(options.path)
    if isinstance(source, Path) and not os.path.lexists(source):
        raise LocalError(f"{options.path} does not exist: give a file, a folder, or - for standard input.")
    with out.watching() as watch:
        found = await store(node, source, watch, options.hidden)
    value = {"cid": str(found.cid), "bytes": found.size, "files": found.files}
    out.answer(value, [str(found.cid)])
    return 0


def split_path(text: str) -> tuple[str, str]:
    """A CID and a path inside it: "CID", "CID/a/b", "/ipfs/CID/a/b" or "ipfs://CID/a/b"."""
    for prefix in ("ipfs://", "/ipfs/"):
        text = text.removeprefix(prefix)
    cid, _, path = text.partition("/")
    return cid, path.strip("/")


async def get(options: argparse.Namespace, node: Node, out: Output) -> int:
    """A file or folder out, to stdout or to `-o`."""
    cid, path = split_path(options.cid)
    with out.watching() as watch:
        found = await node.call("locate", {"cid": cid, "path": path}, progress=watch)
        name = path.rpartition("/")[2] or cid
        if options.output is None:
            if found["kind"] != "file":
                raise LocalError(
                    f"{options.cid} is a {found['kind']}: use -o DIR to write it, or `promisegrid ls`."
                )
            await node.call("read", {"cid": found["cid"]}, emit=_to_stdout(out))
            return 0
        target = Path(options.output)
        if found["kind"] == "file":
            target = target / name if target.is_dir() else target
            size = await _to_file(node, found["cid"], target, watch)
        else:
            await to_folder(node, found["cid"], target)
            size = None
    out.answer({"cid": found["cid"], "path": str(target), "kind": found["kind"], "bytes": size})
    return 0


def _to_stdout(out: Output) -> Emit:
    async def emit(piece: bytes) -> None:
        out.raw(piece)

    return emit


async def _to_file(node: Node, cid: str, target: Path, watch: Watcher) -> int:
    size = 0
    with whole_file(target) as file:

        async def emit(piece: bytes) -> None:
            nonlocal size
            file.write(piece)
            size += len(piece)
            watch({"phase": "get", "done": size})

        await node.call("read", {"cid": cid}, emit=emit)
    return size


async def to_folder(node: Node, cid: str, target: Path) -> None:
    """Write a folder by CID below a new or empty directory."""
    with FolderWriter(target) as writer:
        await node.call("export", {"cid": cid}, emit=writer.take)


async def ls(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What a folder holds."""
    cid, path = split_path(options.cid)
    found = await node.call("locate", {"cid": cid, "path": path})
    value = await node.call("ls", {"cid": found["cid"]})
    marks = {"folder": "/", "symlink": "@", "file": ""}
    entries = value["entries"]
    width = max((len(units.size(entry["size"])) for entry in entries), default=0)
    lines = [
        f"{entry['cid']}  {units.size(entry['size']):>{width}}  {entry['name']}{marks[entry['kind']]}"
        for entry in entries
    ]
    out.answer(value, lines)
    return 0
