"""One link: a connection to one peer, from its first frame to its last.

A link counts what its peer costs us (frames waiting, bad signatures, refusals, messages in work) and what
we owe it (credit). Limits count here first, because a link is dear and a did:key is free.

States: greeting → open → closed. Only an open link belongs to a member whose key is proved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from promisegrid import frames
from promisegrid.cid import Cid
from promisegrid.effects import Close, Push, Send
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.membership import Membership
from promisegrid.outbox import Outbox
from promisegrid.strand import Late, Pause, Scheduler, Signal, Slots, Strand
from promisegrid.traffic import Traffic

Role = Literal["initiator", "responder"]


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A member somebody else is linked to, as that one says."""

    serves: bool
    engine: str


class Wire(Protocol):
    """What carries a link's frames."""

    def send(self, data: bytes) -> None:
        """One frame, whole and in order."""

    async def push(self, data: bytes) -> None:
        """As `send`, and wait until there is room for another: what is sent then stands behind little."""

    def close(self, code: str, text: str) -> None:
        """No more, and why."""


class HostWire:
    """A connection that the host owns."""

    def __init__(self, scheduler: Scheduler, number: int) -> None:
        self._scheduler, self._number = scheduler, number

    def send(self, data: bytes) -> None:
        """See `effects.Send`."""
        self._scheduler.emit(Send(self._number, data))

    async def push(self, data: bytes) -> None:
        """See `effects.Push`."""
        await Push(self._number, data)

    def close(self, code: str, text: str) -> None:
        """See `effects.Close`."""
        self._scheduler.emit(Close(self._number, code, text))


class Link:
    """A connection, as the kernel sees it. `did` is proved once `is_open`."""

    def __init__(
        self,
        number: int,
        role: Role,
        channel: str,
        via: str,
        scheduler: Scheduler,
        limits: Limits,
        wire: Wire | None = None,
    ) -> None:
        self._wire: Wire = wire or HostWire(scheduler, number)
        self.number, self.role, self.channel, self.via = number, role, channel, via
        self.invitation: bytes | None = None
        self.expected_grid: Cid | None = None
        self.did = ""
        self.membership: Membership | None = None
        self.is_open = self.is_closed = False
        self.serves, self.engine = False, ""
        self.rtt_ms: int | None = None
        self.traffic, self.since_ms = Traffic(), scheduler.now_ms
        self.through: str | None = None  # the next hop of one that passes through others
        self.ping_number = self.pings = 0
        self.attended: Signal[None] = scheduler.signal()
        self.attended_ms = self.news_ms = 0  # news_ms: when its owner may be told of it again
        self.is_silent = self.renewing = self.is_news = False
        self.ping_sent_ms = self.heard_ms = scheduler.steady_ms
        self.wants: dict[Cid, list[Signal[bytes | None]]] = {}
        self.want_slots = Slots(scheduler, limits.wants_per_link, limits.links * limits.wants_per_link)
        self._wants = limits.wants_per_link
        self.verifying = Slots(scheduler, limits.link_verifies, limits.link_credit)
        self.parts: dict[Cid, list[bytes]] = {}
        self.moved_ms = 0  # when something of a block that was wanted came last
        self.serve_slots = Slots(scheduler, limits.blocks_in_hand, limits.wants_served_per_link)
        self.pass_slots = Slots(scheduler, limits.blocks_in_hand, limits.wants_served_per_link)
        self.serving: dict[Strand[None], Cid] = {}
        self.work: dict[Strand[None], Cid] = {}
        self.hints: dict[Cid, frames.Progress] = {}
        self._hinting = False
        self.opened: Signal[None] = scheduler.signal()
        self.ended: Signal[RemoteError] = scheduler.signal()
        self.parting: RemoteError | None = None
        """Why the peer ended it, in the peer's words."""
        self.near: dict[str, Neighbour] = {}
        self.near_told = b""
        self.place = 0
        self.near_places: tuple[int, ...] = ()
        self.topics: dict[str, int] = {}
        self.topics_told: dict[str, int] = {}
        self.circuits = self.circuit_number = self.bad_signatures = 0
        self._scheduler, self._limits = scheduler, limits
        self._inbox: deque[bytes] = deque()
        self._greeting_bytes = 0
        self._arrived: Signal[None] = scheduler.signal()
        self._credit = limits.link_credit
        self._taken, self._give_at = 0, max(1, limits.link_credit // 4)
        self._unsent: deque[bytes] = deque()
        self.outbox = Outbox(scheduler, self._push, lambda wrong: self.close(wrong.code, wrong.text))
        self._refusals, self._refusals_since = 0, 0
        self._misses, self._misses_since = 0, 0

    # -- frames in ---------------------------------------------------------------------------------

    def arrived(self, data: bytes) -> None:
        """A frame came in during the greeting. A peer that sends faster than we read is cut off."""
        if self.is_closed:
            return
        self.heard_ms = self._scheduler.steady_ms
        self._greeting_bytes += len(data)
        crowded = len(self._inbox) >= self._limits.link_inbox
        if crowded or self._greeting_bytes > self._limits.greeting_bytes:
            self.close("busy", "More frames than this node can read.")
            return
        self._inbox.append(data)
        self._arrived.set(None)

    async def next_frame(self, wait_ms: int | None = None) -> frames.Frame:
        """The next frame, in order. RemoteError: malformed, too_large, closed; hello after `wait_ms`."""
        while not self._inbox:
            if self.is_closed:
                raise RemoteError("closed", "The peer closed the link.")
            self._arrived = self._scheduler.signal()
            try:
                await Pause(self._arrived, wait_ms)
            except Late:
                raise RemoteError("hello", f"The peer said nothing for {wait_ms} ms.") from None
        return frames.decode(self._inbox.popleft(), self._limits.frame_bytes)

    def take_inbox(self) -> Iterator[frames.Frame]:
        """The frames that came in while the greeting was not over yet. RemoteError: malformed, too_large."""
        while self._inbox:
            yield frames.decode(self._inbox.popleft(), self._limits.frame_bytes)

    def attend(self) -> None:
        """Somebody waits for this peer: it is asked more often whether it is there (`liveness.py`)."""
        self.attended_ms = self._scheduler.steady_ms
        self.attended.set(None)

    # -- frames out --------------------------------------------------------------------------------

    def send(self, frame: frames.Frame) -> None:
        """Send a frame, in order; a closed link swallows it."""
        if not self.is_closed:
            data = frames.encode(frame)
            self.traffic.frames_out += 1
            self.traffic.bytes_out += len(data)
            self._wire.send(data)

    async def _push(self, data: bytes) -> None:
        self.traffic.frames_out += 1
        self.traffic.bytes_out += len(data)
        await self._wire.push(data)

    def send_message(self, raw: bytes) -> None:
        """Send a message when the peer has credit for it. RemoteError("busy") when too many wait."""
        if self._credit > 0:
            self._credit -= 1
            self.send(frames.Message(raw))
        elif len(self._unsent) < self._limits.link_credit:
            self._unsent.append(raw)
        else:
            raise RemoteError("busy", "The peer has not taken the earlier messages yet; try again later.")

    @property
    def unsent(self) -> int:
        """What waits to be sent: messages for credit; blocks, and what circuits carry, for their turn."""
        return len(self._unsent) + self.outbox.waiting

    def recall(self, raw: bytes, name: Cid) -> None:
        """The answer to a message is not wanted any more: it is not sent, or the peer is told."""
        if raw in self._unsent:
            self._unsent.remove(raw)
        else:
            self.send(frames.Cancel(name))

    def hint(self, progress: frames.Progress) -> None:
        """Tell the peer how its message gets on: the latest word on each, every `progress_ms` at most."""
        self.hints[progress.about] = progress
        if not self._hinting:
            self._hinting = True
            self._scheduler.spawn(self._send_hints())

    async def _send_hints(self) -> None:
        while self.hints and not self.is_closed:
            await Pause(None, self._limits.progress_ms)
            hints, self.hints = self.hints, {}
            for progress in hints.values():
                self.send(progress)
        self._hinting = False

    def took(self) -> None:
        """A message of the peer has been dealt with: it gets its credit back, with that of some others."""
        self._taken += 1
        if self._taken >= self._give_at:
            self.send(frames.Credit(self._taken))
            self._taken = 0

    def add_credit(self, messages: int) -> None:
        """The peer can take more messages."""
        self._credit = min(self._credit + max(messages, 0), self._limits.link_credit)
        while self._credit and self._unsent:
            self._credit -= 1
            self.send(frames.Message(self._unsent.popleft()))

    def refuse(self, wrong: RemoteError, about: Cid | None) -> None:
        """Tell the peer why, unsigned; silently drop it when there are too many a second."""
        now_s = self._scheduler.now_ms // 1000
        if now_s != self._refusals_since:
            self._refusals, self._refusals_since = 0, now_s
        self._refusals += 1
        if self._refusals <= self._limits.link_refusals_per_second:
            self.send(frames.Refusal(wrong.code, wrong.text[: self._limits.text_chars], about))

    def count_bad_signature(self) -> None:
        """A signature of this link did not hold; after a few the link is closed."""
        self.bad_signatures += 1
        if self.bad_signatures >= self._limits.link_bad_signatures:
            self.close("bad_signature", "Too many signatures that do not hold.")

    def count_miss(self) -> None:
        """We asked our peers for a block this one wants, and nobody had it."""
        now_s = self._scheduler.now_ms // 1000
        self._misses = self._misses + 1 if now_s == self._misses_since else 1
        self._misses_since = now_s

    def may_miss(self) -> bool:
        """Whether to ask our peers on behalf of this one: one word of his costs one to every peer of ours."""
        this_second = self._scheduler.now_ms // 1000 == self._misses_since
        return not this_second or self._misses < self._limits.link_misses_per_second

    def pace(self, took_ms: int) -> None:
        """A block that was wanted took so long to come: fewer are asked for at once where it is long.

        What is under way stands before what is asked for next, and a call may need it.
        """
        limits = self._limits
        if took_ms > limits.want_ms and self._wants > limits.wants_per_link // 4:
            self._wants -= 1
            self.want_slots.resize(-1)
        elif took_ms < limits.want_ms // 2 and self._wants < limits.wants_per_link:
            self._wants += 1
            self.want_slots.resize(1)

    # -- the end -----------------------------------------------------------------------------------

    def close(self, code: str, text: str) -> None:
        """Ask the host to close the connection, once."""
        if not self.is_closed:
            self._wire.close(code, text)
            self.down()

    def down(self) -> None:
        """The connection is gone: everyone who waits for something from this peer is told."""
        self.is_closed, self.is_open = True, False
        self._inbox.clear()
        self._unsent.clear()
        self.outbox.close()
        self._arrived.set(None)
        closed = RemoteError("closed", "The peer closed the link.")
        if not self.opened.is_set:
            self.opened.fail(closed)
        self.ended.set(closed)
        wants, self.wants = self.wants, {}
        for answers in wants.values():
            for answer in answers:
                answer.set(None)
