"""The local door: a Unix socket in the home, over which the command line uses a running node.

One connection, one verb. A frame is four bytes of length, big-endian, and a dag-cbor list:

    command line → node   ["call", verb, {args}]  ["input", bytes]…  ["end"]
    node → command line   ["output", bytes]…  ["progress", {…}]…  then  ["done", {value}]
                          or  ["failed", "remote" | "local", code, text]

Hanging up cancels the verb. Who may come in: whoever the file system lets (0600), and of those only the
owner of the node's process, where the system tells who calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.block import Block
from promisegrid.cbor import head
from promisegrid.errors import CODES, LocalError, RemoteError
from promisegrid_node import batches
from promisegrid_node.home import short_path
from promisegrid_node.session import Args, Emit, Pieces, Progress, Verb
from promisegrid_node.sockets import bound, other_end

FRAME_MAX: Final = 8 * 1024 * 1024
CALL_S: Final = 10.0
"""How long a caller may take to say what it wants."""
LINGER_S: Final = 5.0
CALLERS_MAX: Final = 64

log = logging.getLogger("promisegrid")


async def read_frame(reader: asyncio.StreamReader) -> list[Any] | None:
    """The next frame; None at the end of the stream. LocalError for anything that is not a frame."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if not 0 < size <= FRAME_MAX:
            raise LocalError(f"A frame of {size} bytes at the node's door; at most {FRAME_MAX} are taken.")
        data = await reader.readexactly(size)
        frame = _read_bulk(data) or dagcbor.decode(data)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    except ValueError as error:
        raise LocalError(f"A frame at the node's door cannot be read: {error}.") from error
    if not isinstance(frame, list) or not frame or not isinstance(frame[0], str):
        raise LocalError("A frame at the node's door is not a list that begins with its kind.")
    return frame


def frame(kind: str, *fields: object) -> bytes:
    """The bytes of one frame."""
    data = dagcbor.encode([kind, *fields])
    return len(data).to_bytes(4, "big") + data


_BULK: Final = {b"\x82\x65input": "input", b"\x82\x66output": "output"}
"""How the frames begin that carry much: they are written and read without a copy more than needed."""


def bulk(kind: str, size: int) -> bytes:
    """The beginning of the frame [kind, bytes]; so many bytes are to follow it."""
    begins = next(start for start, name in _BULK.items() if name == kind) + head(2, size)
    return (len(begins) + size).to_bytes(4, "big") + begins


def _read_bulk(data: bytes) -> list[Any] | None:
    """A frame of `bulk`; None for any other."""
    for start, kind in _BULK.items():
        if data.startswith(start):
            for width in (1, 2, 3, 5):
                size = len(data) - len(start) - width
                if size >= 0 and data[len(start) : len(data) - size] == head(2, size):
                    return [kind, memoryview(data)[len(data) - size :]]
    return None


class Door:
    """The node's side: listens in the home and serves `verbs`."""

    def __init__(self, path: Path, verbs: Mapping[str, Verb]) -> None:
        self._path, self._verbs = path, verbs
        self._server: asyncio.Server | None = None
        self._callers: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begin to listen; a socket left by a node that died is replaced (the caller holds the home)."""
        listener = bound(self._path, "the node's door")
        self._server = await asyncio.start_unix_server(self._welcome, sock=listener, limit=FRAME_MAX)

    async def close(self) -> None:
        """Stop listening and cancel what is under way."""
        if self._server is not None:
            self._server.close()
        for caller in list(self._callers):
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._callers) >= CALLERS_MAX or not _is_owner(writer.get_extra_info("socket")):
            writer.close()
            return
        self._callers.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._callers.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _Caller(reader, writer)
        try:
            verb, args = await caller.wish()
            if verb not in self._verbs:
                raise LocalError(f"This node knows no verb {verb!r}; is it another version?")
            listening = asyncio.create_task(caller.listen())
            working = asyncio.ensure_future(self._verbs[verb](args, caller))
            await asyncio.wait((listening, working), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()  # the caller hung up
            listening.cancel()
            await asyncio.gather(listening, working, return_exceptions=True)
            if working.cancelled():
                return
            last = frame("done", working.result())
        except RemoteError as error:
            last = frame("failed", "remote", error.code, error.text)
        except LocalError as error:
            last = frame("failed", "local", error.code, error.text)
        except Exception as fault:
            log.exception("the verb failed")
            last = frame("failed", "remote", "internal", f"The node failed: {type(fault).__name__}: {fault}")
        writer.write(last)
        await writer.drain()
        await _linger(reader)


async def _linger(reader: asyncio.StreamReader) -> None:
    """Let the caller hang up first: its input still under way would otherwise break the answer off."""
    with contextlib.suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(LINGER_S):
            while await reader.read(65_536):
                pass


class _Caller:
    """A `Session` over one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._input: asyncio.Queue[bytes | memoryview | None] = asyncio.Queue(2)

    async def wish(self) -> tuple[str, Args]:
        """The verb and its arguments."""
        try:
            async with asyncio.timeout(CALL_S):
                asked = await read_frame(self._reader)
        except TimeoutError:
            raise LocalError("The caller at the node's door said nothing.") from None
        if asked is None:
            raise asyncio.CancelledError
        if (
            len(asked) != 3
            or asked[0] != "call"
            or not isinstance(asked[1], str)
            or not isinstance(asked[2], dict)
        ):
            raise LocalError('The first frame at the node\'s door must be ["call", verb, {args}].')
        return asked[1], asked[2]

    async def listen(self) -> None:
        """Take input as fast as the verb does; returns when the caller hung up."""
        with contextlib.suppress(LocalError):
            while (said := await read_frame(self._reader)) is not None:
                if said[0] == "input" and len(said) == 2 and isinstance(said[1], bytes | memoryview):
                    await self._input.put(said[1])
                elif said[0] == "end":
                    await self._input.put(None)

    async def pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._input.get()) is not None:
            yield bytes(piece)

    async def blocks(self) -> AsyncIterator[list[Block]]:
        while (piece := await self._input.get()) is not None:
            yield await asyncio.to_thread(batches.read, piece)

    async def emit(self, piece: bytes) -> None:
        self._writer.write(bulk("output", len(piece)))
        self._writer.write(piece)
        await self._writer.drain()

    def progress(self, detail: Mapping[str, Any]) -> None:
        if self._writer.transport.get_write_buffer_size() < 65_536:
            self._writer.write(frame("progress", dict(detail)))


def _is_owner(connection: socket.socket) -> bool:
    """Whether the caller runs as this process's user; True where the system does not tell."""
    told = other_end(connection)
    return told is None or told[1] in (os.geteuid(), 0)


class RemoteNode:
    """The command line's side: a running node as a `Node`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def call(
        self,
        verb: str,
        args: Args,
        pieces: Pieces | None = None,
        emit: Emit | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        """See `Node`. LocalError when no node listens."""
        try:
            with short_path(self._path) as path:
                reader, writer = await asyncio.open_unix_connection(path, limit=FRAME_MAX)
        except OSError as error:
            raise LocalError(f"The node does not open its door {self._path}: {error.strerror}.") from error
        feeding = asyncio.create_task(_feed(writer, verb, args, pieces))
        try:
            return await self._listen(reader, feeding, emit, progress)
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            writer.close()

    async def _listen(
        self,
        reader: asyncio.StreamReader,
        feeding: asyncio.Task[None],
        emit: Emit | None,
        progress: Progress | None,
    ) -> dict[str, Any]:
        while True:
            said = await self._next(reader, feeding)
            match said:
                case ["output", (bytes() | memoryview()) as piece]:
                    if emit is not None:
                        await emit(bytes(piece))
                case ["progress", dict(detail)]:
                    if progress is not None:
                        progress(detail)
                case ["done", dict(value)]:
                    return value
                case ["failed", "remote", str(code), str(text)] if code in CODES:
                    raise RemoteError(code, text)
                case ["failed", _, str(code), str(text)]:
                    raise LocalError(text, code)
                case None:
                    raise LocalError("The node stopped before it had answered.")
                case _:
                    raise LocalError(f"The node answered with {said[0]!r}; is it another version?")

    async def _next(self, reader: asyncio.StreamReader, feeding: asyncio.Task[None]) -> list[Any] | None:
        """The next frame; an input that cannot be read (the caller's file) ends the verb with its error."""
        reading = asyncio.ensure_future(read_frame(reader))
        try:
            if not feeding.done():
                await asyncio.wait((reading, feeding), return_when=asyncio.FIRST_COMPLETED)
            if feeding.done() and not feeding.cancelled():
                wrong = feeding.exception()
                if wrong is not None and not isinstance(wrong, ConnectionError):
                    raise wrong
            return await reading
        finally:
            reading.cancel()


async def _feed(writer: asyncio.StreamWriter, verb: str, args: Args, pieces: Pieces | None) -> None:
    try:
        writer.write(frame("call", verb, dict(args)))
    except ValueError as error:
        raise LocalError(f"What was asked of the node cannot be written for it: {error}.") from error
    if pieces is not None:
        async for piece in pieces:
            for parts in [[piece]] if isinstance(piece, bytes) else batches.write(piece):
                writer.write(bulk("input", sum(map(len, parts))))
                for part in parts:
                    writer.write(part)
                    await writer.drain()
    writer.write(frame("end"))
    await writer.drain()
