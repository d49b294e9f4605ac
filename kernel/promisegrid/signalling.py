"""Direct channels between members who reach each other through others (docs/protocols/signal.md).

A browser cannot be dialled, but two of them can make a WebRTC data channel when each knows the other's
description. These go as signed messages over the links there are, a circuit at first. The channel then is a
link like any other, preferred while it is open; when it dies, calls go over circuits again.

Whose name is smaller offers. A peer with which no channel came about is left alone for a while, longer each
time. Nothing is described, so no address gathered, before there is a peer to make a channel with.

Does not know: what a channel is made of (the host does, `effects.Describe`), nor who passes its words on.
"""

from __future__ import annotations

from typing import Final

from promisegrid import description
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.description import Description
from promisegrid.effects import Abandon, Describe, Establish
from promisegrid.errors import LocalError, RemoteError
from promisegrid.link import Link, Neighbour
from promisegrid.relay import CHANNEL, Relay
from promisegrid.state import State, may_make_channels
from promisegrid.strand import Late, Pause, Signal

SIGNAL: Final = Cid.parse("bafkreigoyxq2bgf7jwwmmxfz6smagmm4uctgrlm7rnesf56lcl7q4i6s2u")
"""The raw CID of docs/protocols/signal.md."""
VIA: Final = "webrtc"


class Signalling:
    """The direct channels of one node."""

    def __init__(self, state: State, caller: Caller) -> None:
        self._state, self._caller = state, caller
        self._relay: Relay | None = None
        self._making: dict[str, Signal[None]] = {}
        self._failures: dict[str, int] = {}
        self._after_ms: dict[str, int] = {}
        self._number = 0
        self._waking_ms: int | None = None
        self._invited: dict[str, None] = {}

    @property
    def enabled(self) -> bool:
        """Whether this node makes channels; its host says so."""
        return self._state.makes_channels

    @enabled.setter
    def enabled(self, is_able: bool) -> None:
        self._state.makes_channels = is_able

    def over(self, relay: Relay) -> None:
        """Use this relay to know who is near."""
        self._relay = relay
        relay.changed = self.look

    # -- what happens ----------------------------------------------------------------------------------

    def opened(self, link: Link) -> None:
        """A peer is in."""
        if link.via == VIA:
            self._failures.pop(link.did, None)
            making = self._making.get(link.did)
            if making is not None and not making.is_set:
                making.set(None)
        self.look()

    def closed(self, link: Link) -> None:
        """A peer is gone; if it was a channel, another attempt is due after a while."""
        if link.via == VIA and link.did:
            self._put_off(link.did)
        self.look()

    def look(self) -> None:
        """Offer a channel to whoever should have one and has not."""
        if not self.enabled or self._relay is None or self._state.grid is None:
            return
        now_ms, wake_ms = self._state.steady_ms, None
        for did in self._wanted():
            due_ms = self._after_ms.get(did, 0)
            if due_ms > now_ms:
                wake_ms = due_ms if wake_ms is None else min(wake_ms, due_ms)
            elif not self._is_full():
                self._making[did] = self._state.scheduler.signal()
                self._state.scheduler.spawn(self._offer(did))
        if wake_ms is not None and (self._waking_ms is None or wake_ms < self._waking_ms):
            self._waking_ms = wake_ms
            self._state.scheduler.spawn(self._wake(wake_ms))

    def invite(self, did: str) -> bool:
        """Try to have a channel to this member, wherever it is; False when this side has none to offer."""
        if not self.enabled or self._is_full() or self._state.me.encode() >= did.encode():
            return False
        while len(self._invited) >= self._state.limits.direct:  # who was invited first had its chance
            del self._invited[next(iter(self._invited))]
        self._invited[did] = None
        self.look()
        return True

    async def answer(self, did: str, offer: object) -> str:
        """Take a peer's offer; this side's description. RemoteError as docs/protocols/signal.md says."""
        if not self.enabled:
            raise RemoteError("no_such_protocol", "This node makes no direct channels.")
        if did.encode() >= self._state.me.encode():
            raise RemoteError("bad_args", "The member whose name is the smaller one offers.")
        theirs = description.read(offer, self._state.limits.description_bytes)
        if did in self._making or self._is_full() or self._after_ms.get(did, 0) > self._state.steady_ms:
            raise RemoteError("busy", "This node makes no channel with that member just now.")
        self._making[did] = self._state.scheduler.signal()
        try:
            number, mine = await self._describe(theirs)
        except BaseException:
            self._put_off(did)
            del self._making[did]
            raise
        channel = description.channel(theirs, mine)
        self._state.scheduler.emit(Establish(number, "responder", channel, None))
        self._state.scheduler.spawn(self._await(did, number))
        return mine.text

    # -- one channel -----------------------------------------------------------------------------------

    async def _offer(self, did: str) -> None:
        try:
            number, mine = await self._describe(None)
        except RemoteError:
            self._put_off(did)
            del self._making[did]
            self.look()
            return
        try:
            theirs = await self._ask(did, mine.text)
        except (RemoteError, LocalError) as wrong:
            self._state.scheduler.emit(Abandon(number))
            self._put_off(did, for_long=isinstance(wrong, RemoteError) and wrong.code == "no_such_protocol")
            del self._making[did]
            self.look()
            return
        channel = description.channel(mine, theirs)
        self._state.scheduler.emit(Establish(number, "initiator", channel, theirs.text))
        await self._await(did, number)

    async def _ask(self, did: str, offer: str) -> Description:
        limits = self._state.limits
        body = await self._caller.ask(did, SIGNAL, "offer", (offer,), limits.direct_ms)
        if not isinstance(body, dict) or set(body) != {"answer"}:
            raise RemoteError("malformed", f"{did} answered an offer with something else.")
        return description.read(body["answer"], limits.description_bytes)

    async def _describe(self, offer: Description | None) -> tuple[int, Description]:
        self._number += 1
        number = self._number
        try:
            text = await Describe(number, None if offer is None else offer.text)
            return number, description.own(text, self._state.limits.description_bytes)
        except BaseException:
            self._state.scheduler.emit(Abandon(number))
            raise

    async def _await(self, did: str, number: int) -> None:
        """Wait until the channel is a link."""
        try:
            await Pause(self._making[did], self._state.limits.direct_ms)
        except Late:
            self._state.scheduler.emit(Abandon(number))
            self._put_off(did)
        finally:
            del self._making[did]
        self.look()

    # -- whom and when ---------------------------------------------------------------------------------

    def _wanted(self) -> list[str]:
        """Members to offer a channel to: reached through others, able as it seems, behind us in order."""
        assert self._relay is not None
        found: dict[str, Neighbour] = dict(self._relay.near())
        direct = set()
        for link in self._state.open_links():
            if link.via == CHANNEL:
                found[link.did] = Neighbour(link.serves, link.engine)
            else:
                direct.add(link.did)
        me = self._state.me.encode()
        asked = [did for did in self._invited if did not in direct and did not in self._making]
        return asked + [
            did
            for did, one in found.items()
            if did not in asked
            and did not in direct
            and did not in self._making
            and me < did.encode()
            and may_make_channels(one.engine)
        ]

    def _is_full(self) -> bool:
        channels = {link.did for link in self._state.open_links() if link.via == VIA}
        return len(channels | self._making.keys()) >= self._state.limits.direct

    def _put_off(self, did: str, for_long: bool = False) -> None:
        limits = self._state.limits
        failures = self._failures.get(did, 0)
        longest = limits.direct_retry_max_ms
        wait_ms = longest if for_long else min(limits.direct_retry_ms << min(failures, 16), longest)
        if did.encode() < self._state.me.encode():  # theirs to offer, and to be patient: only not at once
            wait_ms = limits.direct_retry_ms // 2
        if len(self._after_ms) >= limits.links:  # who has been left alone for longest is forgotten
            oldest = next(iter(self._after_ms))
            del self._after_ms[oldest]
            self._failures.pop(oldest, None)
        self._after_ms.pop(did, None)
        self._after_ms[did] = self._state.steady_ms + wait_ms
        self._failures[did] = failures + 1

    async def _wake(self, due_ms: int) -> None:
        await Pause(None, max(due_ms - self._state.steady_ms, 0))
        if self._waking_ms == due_ms:
            self._waking_ms = None
            self.look()
