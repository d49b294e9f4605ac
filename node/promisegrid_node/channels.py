"""Direct channels to tabs and to other nodes, by aiortc: frames go in pieces over a WebRTC data channel.

Promises: nothing is made, so no address gathered, before the kernel asks; frames arrive whole and in order; a
link is reported down once; what waits for a slow peer is bounded; a piece that breaks the rules
(docs/protocols/signal.md) closes its link; no server is asked for help, no name of another's is looked up.
Does not know: what frames mean, who the peer is, who passed the descriptions on. Twin: worker/channels.mjs.

Only `up --webrtc` loads this file: aiortc is an extra.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from promisegrid.effects import Abandon, Describe, Establish, Failure
from promisegrid.limits import Limits
from promisegrid_node.host import Host

PIECE_BYTES: Final = 65_536
"""One message: what every browser takes, one byte of it ours."""
PIECE_MIN_BYTES: Final = 1024
"""Of one that is not a frame's last: each costs more than its bytes while the frame is not whole."""
HIGH_BYTES, LOW_BYTES = 1024 * 1024, 256 * 1024
"""The library's own buffer is kept between these."""
ROOM_BYTES: Final = 64 * 1024
"""What may wait here, besides, before no more blocks are taken."""
WAITING_BYTES: Final = 32 * 1024 * 1024
"""What may wait here for a slow peer, as for a WebSocket."""
CONNECTIONS_MAX: Final = 32
"""At once, with those being closed; the kernel asks for fewer (`Limits.direct`)."""
DESCRIBE_S: Final = 10.0
LINGER_S: Final = 1.0
"""How long a connection lives on after its channel was closed, for the last words on it."""
_OTHER_HASHES: Final = re.compile(r"a=fingerprint:(?!sha-256 ).*\r?\n", re.IGNORECASE)
_HIDDEN: Final = re.compile(r"(a=candidate: *\S+ +\d+ +\S+ +\d+ +)\S+\.local +\d+ ", re.IGNORECASE)
_NOWHERE: Final = r"\g<1>127.0.0.1 9 "
"""In place of an address that a browser hides behind a name: it finds us, and is known when it does."""
log = logging.getLogger("promisegrid")


class DataChannels:
    """The channels of one host. Make it on its loop; `close` it there."""

    def __init__(self, host: Host, limits: Limits) -> None:
        self._host, self._limits = host, limits
        self._made: dict[int, tuple[Any, Piecewise]] = {}
        self._ends: set[asyncio.Task[None]] = set()

    async def describe(self, effect: Describe) -> str | Failure:
        """See `effects.Describe`."""
        number = effect.number
        if len(self._made) + len(self._ends) >= CONNECTIONS_MAX:
            return Failure("busy", f"This node has {CONNECTIONS_MAX} connections already.")
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        channel = connection.createDataChannel("promisegrid", negotiated=True, id=0)
        piecewise = Piecewise(channel, self._limits.frame_bytes, self._host, lambda: self._let_go(number))
        self._made[number] = connection, piecewise

        def looked() -> None:
            if connection.connectionState in ("failed", "closed"):
                piecewise.end()

        connection.on("connectionstatechange", looked)
        try:
            async with asyncio.timeout(DESCRIBE_S):
                return await _described(connection, effect.offer)
        except TimeoutError:
            piecewise.end()
            return Failure("out_of_time", f"No channel was described within {DESCRIBE_S:.0f} seconds.")
        except asyncio.CancelledError:
            piecewise.end()
            raise
        except Exception as wrong:  # noqa: BLE001  a peer's description makes the library raise what it likes
            piecewise.end()
            return Failure("closed", f"No channel was made: {type(wrong).__name__}: {wrong}"[:200])

    def told(self, effect: Establish | Abandon) -> None:
        """See there."""
        connection, piecewise = self._made.get(effect.number, (None, None))
        if connection is None or piecewise is None:
            return
        if isinstance(effect, Abandon):
            piecewise.end()
            return
        piecewise.may_open(effect)
        if effect.answer is not None:
            self._spawn(self._answered(connection, piecewise, effect.answer))

    async def close(self) -> None:
        """Close all, at once."""
        for _, piecewise in list(self._made.values()):
            piecewise.end()
        for task in self._ends:
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def _answered(self, connection: Any, piecewise: Piecewise, answer: str) -> None:
        try:
            await connection.setRemoteDescription(RTCSessionDescription(_readable(answer), "answer"))
        except Exception as wrong:  # noqa: BLE001  as above
            log.info("the peer's answer does not fit: %s: %s", type(wrong).__name__, wrong)
            piecewise.end()

    def _let_go(self, number: int) -> None:
        connection, _ = self._made.pop(number)
        self._spawn(_lingering(connection))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)


class Piecewise:
    """Frames over one channel, as the host's `Transport`. ended: called once, when it is over."""

    def __init__(self, channel: Any, frame_bytes: int, host: Host, ended: Callable[[], None]) -> None:
        self._channel, self._frame_bytes, self._host, self._ended = channel, frame_bytes, host, ended
        self._link: int | None = None
        self._as: Establish | None = None
        self._waiting: deque[bytes] = deque()
        self._at = self._waits = self._size = 0
        self._parts: list[bytes] = []
        self._closing = self._is_over = False
        self.room = asyncio.Event()
        self.room.set()
        channel.bufferedAmountLowThreshold = LOW_BYTES
        channel.on("open", self._open)
        channel.on("bufferedamountlow", self._pump)
        channel.on("message", self._took)
        channel.on("close", self.end)

    def may_open(self, effect: Establish) -> None:
        """What the link is to be, once the channel opens."""
        self._as = effect
        if self._channel.readyState == "open":  # later: the host is in the middle of telling
            asyncio.get_running_loop().call_soon(self._open)

    def send(self, frame: bytes) -> None:
        """Queue a frame; a peer that lets too many pile up is cut off."""
        if self._is_over or self._closing:
            return
        self._waiting.append(frame)
        self._waits += len(frame)
        if self._waits > WAITING_BYTES:
            self.end()
        else:
            self._pump()

    def close(self, code: str, text: str) -> None:
        """When what was sent is on its way."""
        self._closing = True
        self._pump()

    def end(self) -> None:
        """At once."""
        if self._is_over:
            return
        self._is_over = True
        self._waiting.clear()
        self._parts = []
        self.room.set()
        with contextlib.suppress(Exception):  # it may never have been open
            self._channel.close()
        self._ended()
        if self._link is not None:  # later: the host may be in the middle of sending
            asyncio.get_running_loop().call_soon(self._host.disconnect, self._link)

    def _open(self) -> None:
        if self._link is None and not self._is_over and self._as is not None:
            self._link = self._host.connect(self, self._as.role, self._as.channel, "webrtc")
            self._pump()

    def _pump(self) -> None:
        channel = self._channel
        while self._waiting and channel.readyState == "open" and channel.bufferedAmount < HIGH_BYTES:
            frame = self._waiting[0]
            part = frame[self._at : self._at + PIECE_BYTES - 1]
            self._at += len(part)
            more = self._at < len(frame)
            channel.send((b"\x01" if more else b"\x00") + part)
            if not more:
                self._waiting.popleft()
                self._waits -= len(frame)
                self._at = 0
        if self._waits > ROOM_BYTES and not self._is_over:
            self.room.clear()
        else:
            self.room.set()
        if self._closing and not self._waiting:
            self.end()

    def _took(self, piece: bytes | str) -> None:
        if self._is_over:
            return
        self._open()  # a channel may speak before it says that it is open
        if not isinstance(piece, bytes) or not piece or len(piece) > PIECE_BYTES or self._link is None:
            self.end()
            return
        self._size += len(piece) - 1
        is_whole = piece[0] == 0
        is_sound = is_whole or (piece[0] == 1 and len(piece) > PIECE_MIN_BYTES)
        if not is_sound or self._size > self._frame_bytes:
            self.end()
            return
        self._parts.append(piece[1:])
        if is_whole:
            frame = b"".join(self._parts)
            self._parts, self._size = [], 0
            self._host.receive(self._link, frame)


async def _described(connection: Any, offer: str | None) -> str:
    """This side's description, with all its addresses; the certificate named by SHA-256 alone."""
    if offer is None:
        await connection.setLocalDescription(await connection.createOffer())
    else:
        await connection.setRemoteDescription(RTCSessionDescription(_readable(offer), "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
    return _OTHER_HASHES.sub("", str(connection.localDescription.sdp))


def _readable(description: str) -> str:
    """A peer's description, without names to look up."""
    return _HIDDEN.sub(_NOWHERE, description)


async def _lingering(connection: Any) -> None:
    """Close a connection, a moment after its channel."""
    try:
        await asyncio.sleep(LINGER_S)
    finally:
        with contextlib.suppress(Exception):
            await connection.close()
