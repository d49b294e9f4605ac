"""Blocks on their way into a node: several in one piece of a verb's input, checked where they arrive.

A piece is what a CAR holds behind its header: for each block the length of what follows as a varint, its CID,
its bytes. Nothing is copied to write one, and a block once to read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from promisegrid import varint
from promisegrid.block import Block
from promisegrid.cid import CidError, take
from promisegrid.errors import LocalError, RemoteError

PIECE: Final = 1024 * 1024
"""Bytes of a piece, about: a reader that is busy elsewhere is not kept from the first by the last."""


def write(blocks: Iterable[Block]) -> Iterator[list[bytes]]:
    """Blocks as pieces of input, each as the parts to send one after another."""
    parts, size = list[bytes](), 0
    for block in blocks:
        cid = bytes(block.cid)
        parts += [varint.encode(len(cid) + len(block.data)) + cid, block.data]
        size += len(block.data)
        if size >= PIECE:
            yield parts
            parts, size = [], 0
    if parts:
        yield parts


def read(piece: bytes | memoryview) -> list[Block]:
    """The blocks of a piece, each hashed: best done in a thread.

    RemoteError("bad_block") for one that is not what its CID says, LocalError for what is no piece.
    """
    view, at, blocks = memoryview(piece), 0, []
    try:
        while at < len(view):
            size, start = varint.decode(view, at)
            cid, data = take(view, start)
            at = start + size
            if not data <= at <= len(view):
                raise LocalError("A piece of blocks that is cut off.")
            blocks.append(Block(cid, bytes(view[data:at])))
    except (varint.VarintError, CidError) as error:
        raise LocalError(f"A piece of blocks that cannot be read: {error}.") from error
    for block in blocks:
        if not (block.cid.verifiable and block.cid.holds(block.data)):
            raise RemoteError("bad_block", f"The bytes given for {block.cid} do not hash to it.")
    return blocks
