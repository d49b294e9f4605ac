"""put, get, ls: content in and out."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO, Final

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node.aside import standard_input
from promisegrid_node.output import Output
from promisegrid_node.resuming import to_file
from promisegrid_node.scatter import FolderWriter
from promisegrid_node.session import Emit, Node
from promisegrid_node.storing import chunker, store

MARKS: Final = {"folder": "/", "symlink": "@", "file": "", "unknown": "?"}
"""What stands behind a name in a listing; "unknown": its block is not here."""


async def put(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Store and pin a file, a folder or standard input; print its CID."""
    source: Path | BinaryIO = standard_input() if options.path == "-" else Path(options.path)
    if isinstance(source, Path) and not os.path.lexists(source):
        raise LocalError(f"{options.path} does not exist: give a file, a folder, or - for standard input.")
    total = size_of(source) if out.is_watched else None
    with out.watching() as watch:
        how = chunker(options.chunker)
        found = await store(node, source, watch, options.hidden, total=total, chunker=how)
        pinned: str | None = None
        if options.pin:
            name = options.name or ("" if options.path == "-" else Path(options.path).resolve().name)
            pinned = (await node.call("pin", {"cid": str(found.cid), "name": name}, progress=watch))["name"]
    out.answer(
        {"cid": str(found.cid), "bytes": found.size, "files": found.files, "pinned": pinned}, [str(found.cid)]
    )
    files = "" if found.files == 1 else f" in {found.files} files"
    kept = "not pinned: `promisegrid gc` may take it away" if pinned is None else f"pinned{called(pinned)}"
    out.note(f"{units.size(found.size)}{files}; {kept}.")
    return 0


def called(name: str) -> str:
    """A name in a sentence, where there is one."""
    return f" as “{name}”" if name else ""


def size_of(source: Path | BinaryIO) -> int | None:
    """Bytes that a file or folder on disk will come to, about; None where nobody can know."""
    if not isinstance(source, Path):
        return None
    try:
        info = source.stat()
        if not stat.S_ISDIR(info.st_mode):
            return info.st_size if stat.S_ISREG(info.st_mode) else None
        found = 0
        for folder, _, names in os.walk(source):
            found += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
        return found
    except OSError:
        return None


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
            size = found["size"]
            await to_file(node, found["cid"], target, size, watch)
        else:
            await to_folder(node, found["cid"], target)
            size = None
    out.answer({"cid": found["cid"], "path": str(target), "kind": found["kind"], "bytes": size})
    return 0


def _to_stdout(out: Output) -> Emit:
    async def emit(piece: bytes) -> None:
        out.raw(piece)

    return emit


async def to_folder(node: Node, cid: str, target: Path) -> None:
    """Write a folder by CID below a new or empty directory."""
    with FolderWriter(target) as writer:
        asked = {"cid": cid, "most": shutil.disk_usage(target.parent).free}
        await node.call("export", asked, emit=writer.take)


async def ls(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What a folder holds."""
    cid, path = split_path(options.cid)
    with out.watching() as watch:
        found = await node.call("locate", {"cid": cid, "path": path}, progress=watch)
        if found["kind"] != "folder":
            raise LocalError(
                f"{options.cid} is a {found['kind']}, no folder: `promisegrid get` writes it out."
            )
        value = await node.call("ls", {"cid": found["cid"]}, progress=watch)
    entries = value["entries"]
    names = [entry["name"] + MARKS[entry["kind"]] for entry in entries]
    width = max((len(units.size(entry["size"])) for entry in entries), default=0)
    sizes = [f"{units.size(entry['size']):>{width}}" for entry in entries]
    lines = [
        f"{entry['cid']}  {size}  {name}" for entry, size, name in zip(entries, sizes, names, strict=True)
    ]
    if options.long:
        leads = [f" → {entry['target']}" if entry["target"] else "" for entry in entries]
        kinds = [f"{entry['kind']:7}" for entry in entries]
        lines = ["  ".join((kind, line)) + lead for kind, line, lead in zip(kinds, lines, leads, strict=True)]
        total = sum(entry["size"] for entry in entries)
        lines.append(f"{len(entries)} {'entry' if len(entries) == 1 else 'entries'}, {units.size(total)}")
    out.answer(value, lines)
    return 0
