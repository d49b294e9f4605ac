"""CARv1, written: a stream of blocks with their names. (Source: ipld.io/specs/transport/car/carv1.)"""

from __future__ import annotations

from collections.abc import Sequence

from promisegrid import dagcbor, varint
from promisegrid.block import Block
from promisegrid.cid import Cid


def header(roots: Sequence[Cid]) -> bytes:
    """What a CAR begins with."""
    data = dagcbor.encode({"roots": list(roots), "version": 1})
    return varint.encode(len(data)) + data


def section(block: Block) -> bytes:
    """One block of a CAR."""
    return varint.encode(len(block.cid.encoded) + len(block.data)) + block.cid.encoded + block.data
