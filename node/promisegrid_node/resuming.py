"""A file out of a node that may take several tries: what is there already is checked, and the rest written.

Until it is whole, a file is kept beside its target as NAME.….part; the dots are the end of its CID. Another
try reads it, as far as its bytes are those that the CID promises, and goes on from there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Final

from promisegrid import dagcbor
from promisegrid.cid import Cid
from promisegrid.errors import LocalError
from promisegrid_node.aside import aside
from promisegrid_node.output import Watcher
from promisegrid_node.session import Node

_NAME: Final = 100
_END: Final = 12
"""Characters of the target's name and of the CID that name the unfinished file."""
_LEAF_MAX: Final = 2 * 1024 * 1024
"""Bytes of a block: a leaf that says it is larger is none."""


async def to_file(node: Node, cid: str, target: Path, size: int, watch: Watcher) -> int:
    """Write a file by CID, of so many bytes; how many were there already. LocalError, RemoteError."""
    with part_file(target, cid) as file:
        kept = await _checked(node, cid, file) if file.seek(0, os.SEEK_END) else 0
        file.truncate(kept)
        file.seek(kept)
        done = kept

        async def emit(piece: bytes) -> None:
            nonlocal done
            with _named(target):
                _write(file, piece)
            done += len(piece)
            watch({"phase": "get", "done": done, "total": size})

        await node.call("read", {"cid": cid, "start": kept}, emit=emit)
    return kept


@contextlib.contextmanager
def part_file(target: Path, cid: str) -> Iterator[FileIO]:
    """What there is of a file, to be gone on with; it takes the target's place when the block ends well."""
    part = target.with_name(f"{target.name[:_NAME]}.{cid[-_END:]}.part")
    with _named(target):
        opened = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(opened, "r+b", buffering=0) as file:
        _lock(file, part)
        try:
            yield file
            with _named(target):
                os.replace(part, target)
        except BaseException:
            if not os.fstat(opened).st_size:
                part.unlink()
            raise


@contextlib.contextmanager
def _named(target: Path) -> Iterator[None]:
    """What the system refuses, in our words."""
    try:
        yield
    except OSError as error:
        raise LocalError(f"{target} cannot be written: {error.strerror}.") from error


def _write(file: FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _lock(file: FileIO, part: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
            return
    except (BlockingIOError, FileNotFoundError):
        pass
    raise LocalError(f"{part} is being written by another command: wait for it, or stop it.")


async def _checked(node: Node, cid: str, file: FileIO) -> int:
    """How many bytes the file begins with that are the ones the CID promises, in whole leaves."""
    good, is_good = 0, True

    def compare(leaves: list[tuple[Cid, int]]) -> None:
        nonlocal good, is_good
        for leaf, size in leaves:
            is_good = is_good and size <= _LEAF_MAX and leaf.holds(file.read(size))
            good += size if is_good else 0

    async def emit(piece: bytes) -> None:
        if is_good:
            await aside(lambda: compare(dagcbor.decode(piece)))

    file.seek(0)
    await node.call("leaves", {"cid": cid}, emit=emit)
    return good
