"""A block: some bytes and the CID they hash to. The unit of storage, transfer and verification."""

from __future__ import annotations

from promisegrid.cid import Cid
from promisegrid.frozen import frozen


@frozen
class Block:
    """Bytes with their name. Who makes one either computed the CID or checked it; nobody checks again."""

    cid: Cid
    data: bytes

    @classmethod
    def of(cls, data: bytes, codec: str | int = "raw") -> Block:
        """The block of new content, named by sha2-256."""
        return cls(Cid.of(data, codec), data)
