"""Reading content by CID: blocks, files and folders, from the store or from peers. Verbs of the kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeVar

from promisegrid import unixfs
from promisegrid.cid import Cid
from promisegrid.errors import RemoteError
from promisegrid.exchange import Exchange
from promisegrid.runner import Watch
from promisegrid.state import State

T = TypeVar("T")


class Reading:
    """What a node can do with a CID, whoever has the content. A part of `Kernel`."""

    _state: State
    _exchange: Exchange

    def _watch(self) -> Watch:
        """The progress of the verb that is running."""
        raise NotImplementedError

    async def block(self, cid: Cid) -> bytes:
        """One verified block, from the store or from peers. RemoteError: not_found, bad_block."""
        return await self._exchange.block(cid)

    async def has(self, cid: Cid) -> bool:
        """Whether a verified block is in this node's own store."""
        return await self._exchange.stored(cid) is not None

    async def ls(self, cid: Cid) -> list[unixfs.Entry]:
        """The entries of a folder. RemoteError("bad_file") when it is none."""
        try:
            return await unixfs.list_directory(self._exchange.block, cid)
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{cid} cannot be listed: {error}.") from error

    async def resolve(self, root: Cid, path: str) -> Cid:
        """What a path inside a folder names. RemoteError: bad_file, not_found."""
        try:
            return await unixfs.resolve(self._exchange.block, root, path)
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{path!r} in {root}: {error}.") from error

    def read(self, cid: Cid, start: int = 0) -> AsyncIterator[bytes]:
        """A file's bytes from `start` on, to be pulled piece by piece with `piece`."""
        return unixfs.read_file(self._exchange.block, cid, start)

    def leaves(self, cid: Cid) -> AsyncIterator[tuple[Cid, int]]:
        """What a file's bytes hash to, in order: (raw CID, bytes); pulled with `piece`."""
        return unixfs.read_leaves(self._exchange.block, cid)

    async def piece(self, pieces: AsyncIterator[T]) -> T | None:
        """The next of `read` or `leaves`; None at the end. RemoteError: bad_file, not_found, bad_block."""
        try:
            return await pieces.__anext__()  # anext() with a default unpacks tuples sent to it (CPython 3.11)
        except StopAsyncIteration:
            return None
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"Not a file that can be read: {error}.") from error

    async def tree(self, cid: Cid) -> list[tuple[str, int, bytes]]:
        """A whole small folder: (path, kind, content). RemoteError("bad_file")."""
        limits = self._state.limits
        bounds = unixfs.TreeLimits(limits.input_bytes, limits.tree_nodes)
        try:
            return await unixfs.read_tree(self._exchange.block, cid, bounds)
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{cid} cannot be read as a folder: {error}.") from error

    async def fetch(self, cid: Cid) -> tuple[int, int]:
        """Bring everything under a CID into this node's store; (blocks, bytes)."""
        seen = (0, 0)
        watch = self._watch()

        def count(blocks: int, size: int) -> None:
            nonlocal seen
            seen = (blocks, size)
            watch("fetch", size, None)

        await self._exchange.fetch_dag(cid, self._state.limits.fetch_bytes, count)
        return seen
