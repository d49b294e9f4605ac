"""One verb between a command line and a node: what goes in, what comes out, and how it is told apart.

The same verbs are reached two ways, through the door of a running node (`door.py`) or inside this process
(`InProcess`). Both look like `Node` to the command line and like `Session` to a verb.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from promisegrid.block import Block

Args = Mapping[str, Any]
Emit = Callable[[bytes], Awaitable[None]]
Progress = Callable[[Mapping[str, Any]], None]
STDOUT: Final = b"\x01"
STDERR: Final = b"\x02"
"""What a piece of a run's output begins with."""


class Session(Protocol):
    """What a verb has besides its arguments."""

    def pieces(self) -> AsyncIterator[bytes]:
        """The input, piece by piece, to its end."""

    def blocks(self) -> AsyncIterator[list[Block]]:
        """The input of a verb that takes blocks: several at a time, each what its CID says."""

    async def emit(self, piece: bytes) -> None:
        """A piece of output; waits while the reader is slow."""

    def progress(self, detail: Mapping[str, Any]) -> None:
        """How far it is; may be lost."""


Pieces = AsyncIterator[bytes] | AsyncIterator[list[Block]]
"""The input of a verb: bytes, or blocks whose CIDs were computed here."""
Verb = Callable[[Args, Session], Awaitable[dict[str, Any]]]


class Node(Protocol):
    """What the command line needs of a node."""

    async def call(
        self,
        verb: str,
        args: Args,
        pieces: Pieces | None = None,
        emit: Emit | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """Carry out a verb. Raises RemoteError or LocalError, as the verb does."""


class InProcess:
    """A node inside this process: a verb is called, and that is all."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs

    async def call(
        self,
        verb: str,
        args: Args,
        pieces: Pieces | None = None,
        emit: Emit | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """See `Node`."""
        return await self._verbs[verb](args, _Direct(pieces, emit, progress))


class _Direct:
    def __init__(self, pieces: Pieces | None, emit: Emit | None, progress: Progress | None) -> None:
        self._pieces, self._emit, self._progress = pieces, emit, progress

    async def pieces(self) -> AsyncIterator[bytes]:
        if self._pieces is not None:
            async for piece in self._pieces:
                assert isinstance(piece, bytes), "this verb takes bytes"
                yield piece

    async def blocks(self) -> AsyncIterator[list[Block]]:
        if self._pieces is not None:
            async for piece in self._pieces:
                assert isinstance(piece, list), "this verb takes blocks"
                yield piece

    async def emit(self, piece: bytes) -> None:
        if self._emit is not None:
            await self._emit(piece)
        else:
            await asyncio.sleep(0)

    def progress(self, detail: Mapping[str, Any]) -> None:
        if self._progress is not None:
            self._progress(detail)
