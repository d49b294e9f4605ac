"""Content from this machine's disk into a node's store: what `put` does with what `gather` makes.

While one batch is on its way to the disk the next is sent, and the one after it read, cut and hashed. A node
is first asked which blocks of a batch it lacks, and only those are sent: content that was put before, a put
that was interrupted, or a file that has changed in places costs reading and hashing it. While all is new to
the node it is asked less and less often.

Promises: memory for a few batches, whatever the size; the names of what was left out are told.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from promisegrid.block import Block
from promisegrid.chunker import Chunker, Sized
from promisegrid.errors import LocalError
from promisegrid_node.ahead import ahead
from promisegrid_node.aside import aside
from promisegrid_node.gather import Gathered, Gatherer
from promisegrid_node.output import Watcher, complain
from promisegrid_node.session import Node

SKIP: Final = 15
"""Batches sent unasked, at most, after one of which the node had nothing: always asking costs a tenth."""
CHUNK_MAX: Final = 2 * 1024 * 1024
"""Bytes of a chunk: what one block may have (`limits.block_bytes`)."""


async def store(
    node: Node,
    source: Path | BinaryIO,
    watch: Watcher,
    hidden: bool = False,
    instead: dict[Path, bytes] | None = None,
    total: int | None = None,
    chunker: Chunker | None = None,
) -> Gathered:
    """Bring a file, folder or stream into the node's store; `instead` gives some files other content.

    total: how many bytes that will be, for `watch`, where it is known. Raises LocalError, RemoteError.
    """
    told = 0

    def count(size: int) -> None:
        nonlocal told
        told = size

    gatherer = Gatherer(hidden, count, instead, chunker)

    async def wanted() -> AsyncIterator[list[Block]]:
        skip = streak = 0
        async for batch in ahead(_off_loop(gatherer.batches(source))):
            watch({"phase": "put", "done": told, "total": total})
            if skip:
                skip -= 1
                yield batch
                continue
            lacked = await _lacked(node, batch)
            streak = min(2 * streak + 1, SKIP) if len(lacked) == len(batch) else 0
            skip = streak
            if lacked:
                yield lacked

    answer = await node.call("save", {}, pieces=ahead(wanted()))
    gatherer.found.stored = answer["bytes"]
    for path in gatherer.found.left_out:
        complain(f"{path} is neither a file, a folder nor a link: left out.")
    return gatherer.found


async def _off_loop(batches: Iterator[list[Block]]) -> AsyncIterator[list[Block]]:
    """Reading and hashing in a thread, a batch at a time."""
    while (batch := await aside(lambda: next(batches, None))) is not None:
        yield batch


async def _lacked(node: Node, batch: list[Block]) -> list[Block]:
    """Those of some blocks that the node does not have, each once."""
    known = {block.cid: block for block in batch}
    answer = await node.call("lacks", {"cids": list(known)})
    return [known[cid] for cid in answer["lacks"]]


def chunker(name: str) -> Chunker:
    """The chunker a person names: "buzhash" or "size-BYTES". LocalError says what is possible."""
    if name == "buzhash":
        made: Chunker = importlib.import_module("promisegrid_node.chunker").Buzhash()
        return made
    kind, _, size = name.partition("-")
    whole = size.isascii() and size.isdecimal() and len(size) < 9
    if kind == "size" and whole and 0 < int(size) <= CHUNK_MAX:
        return Sized(int(size))
    raise LocalError(f"{name!r} is no chunker: say buzhash, or size-BYTES with 1 to {CHUNK_MAX}.", "bad_args")
