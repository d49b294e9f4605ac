"""Whether peers are still there: asked now and then, and soon where it matters.

A link at rest is pinged every `ping_ms`, and closed after `silent_ms` without a word. Once somebody waits
for its peer it is *attended*: pinged every `awaited_ms` and closed after `awaited_silent_ms`, so that a call
to a tab that was frozen, or over a connection that only looks alive, ends or goes another way.

A host that was asleep (its clock has jumped), or whose network changed (`awake`), knows nothing of its links:
each is attended, as if it had just been heard, so that waking up closes none that is whole.
"""

from __future__ import annotations

from collections.abc import Callable

from promisegrid import frames
from promisegrid.link import Link
from promisegrid.state import State
from promisegrid.strand import Late, Pause


class Liveness:
    """The pings of one node's links. `awaits` tells whether anybody waits for an answer on a link."""

    def __init__(self, state: State, awaits: Callable[[Link], bool]) -> None:
        self._state, self._limits, self._awaits = state, state.limits, awaits

    async def keep(self, link: Link) -> None:
        """Watch over an open link until it is closed."""
        while link.is_open:
            self._ping(link)
            slept = await self._rest(link)
            if slept or link.attended.is_set:
                await self._attend(link, at_once=slept)
            elif self._state.steady_ms - link.heard_ms > self._limits.silent_ms:
                self._close(link)

    def awake(self) -> None:
        """Ask every peer at once whether it is there. When to call it: `Kernel.awake`."""
        for link in self._state.open_links():
            link.attend()
            self._ping(link)

    async def _rest(self, link: Link) -> bool:
        """Wait until a ping is due or somebody waits for the peer; whether this host slept meanwhile."""
        due_ms = self._state.steady_ms + self._limits.ping_ms
        try:
            await Pause(link.attended, self._limits.ping_ms)
        except Late:
            return self._state.steady_ms - due_ms > self._limits.awaited_ms
        return False

    async def _attend(self, link: Link, at_once: bool) -> None:
        """Ask often, until the peer was heard and nobody waits for it, or it was silent for too long."""
        since_ms = self._state.steady_ms
        if at_once:
            self._ping(link)
        while link.is_open:
            due_ms = self._state.steady_ms + self._limits.awaited_ms
            await Pause(None, self._limits.awaited_ms)
            now_ms = self._state.steady_ms
            if now_ms - due_ms > self._limits.awaited_ms:
                since_ms = now_ms
            elif now_ms - max(link.heard_ms, since_ms) >= self._limits.awaited_silent_ms:
                self._close(link)
            elif link.heard_ms >= max(since_ms, link.attended_ms) and not self._awaits(link):
                break
            if now_ms - link.heard_ms >= self._limits.awaited_ms:
                self._ping(link)
        link.attended = self._state.scheduler.signal()

    def _ping(self, link: Link) -> None:
        link.ping_number, link.ping_sent_ms = link.pings + 1, self._state.steady_ms
        link.pings += 1
        link.send(frames.Ping(link.pings))

    def _close(self, link: Link) -> None:
        link.is_silent = True
        link.close("closed", "The peer has been silent for too long.")
