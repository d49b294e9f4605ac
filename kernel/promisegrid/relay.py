"""Circuits: links that pass through other nodes, so that members reach each other who share no wire.

A *circuit* is to its two ends a link like any other: they greet, prove their keys, and from then on speak
frames, each wrapped in `Relayed` on the wires below. Who passes it on sees the frames and may drop them; it
cannot pass for either end, and what counts is signed or named by its hash. It pays for what it passes on, so
circuits are counted against the link that asked for them, and what is under way on one is bounded by a
window that only the far end opens again.

A circuit is found by asking: `Dial` goes to the neighbour that has a link to whom it names, else to those
who said they are near it, else to those who lead nearest to its key, some hops far and some neighbours
broad.

Does not know: what the frames inside say; how wires are made. A direct link, when there is one, is preferred
by `State.link_to`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from promisegrid import dagcbor
from promisegrid.circuit import Circuit, carry, hang_up
from promisegrid.did import DID_MAX
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frames import Dial, Dialled, HangUp, Near, Relayed, Window
from promisegrid.link import Link, Neighbour, Role
from promisegrid.nearness import leads, place_of
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal

RelayFrame = Dial | Dialled | HangUp | Relayed | Window | Near
CHANNEL: Final = "relay"
Key = tuple[int, int]
"""(number of the link below, number of the circuit on it)."""


class _Passage:
    """One direction of a circuit that passes through here."""

    def __init__(self, out: Link, number: int) -> None:
        self.out, self.number, self.under_way = out, number, 0


class Relay:
    """The circuits of one node: those that end here, and those that pass through."""

    def __init__(
        self,
        state: State,
        begin: Callable[[Link], None],
        drop: Callable[[Link, RemoteError | None], None],
    ) -> None:
        self._state, self._begin, self._drop = state, begin, drop
        self._ends: dict[Key, Link] = {}
        self._circuits: dict[Key, Circuit] = {}
        self._passages: dict[Key, _Passage] = {}
        self._dialling: dict[Key, Signal[None]] = {}
        self._reaching: dict[str, Signal[Link]] = {}
        self._count = self._numbers = 0
        self._telling = False
        self._told_ms = -state.limits.near_ms
        self.deliver: Callable[[Link, bytes], None] = lambda link, data: None
        """What takes the frames of links that end here."""
        self.changed: Callable[[], None] = lambda: None
        """Called when a neighbour has said who is near it."""

    # -- for those who call ----------------------------------------------------------------------------

    async def reach(self, did: str) -> Link:
        """An open link to a member: the one there is, or a circuit. LocalError("no_such_peer")."""
        link = self._state.link_to(did)
        if link is not None:
            return link
        if did in self._state.banned:
            raise LocalError(f"{did} is banned here; `promisegrid unban` ends that.", "banned")
        flight = self._reaching.get(did)
        if flight is None:
            flight = self._reaching[did] = self._state.scheduler.signal()
            self._state.scheduler.spawn(self._reach(did, flight))
        return await flight

    def near(self) -> dict[str, Neighbour]:
        """Members whom a neighbour says it is linked to, and this node is not."""
        mine = {link.did for link in self._state.open_links()} | {self._state.me} | self._state.banned
        found: dict[str, Neighbour] = {}
        for link in self._wires():
            found.update((did, one) for did, one in link.near.items() if did not in mine)
        return found

    # -- what happens on links -------------------------------------------------------------------------

    def take(self, link: Link, frame: RelayFrame) -> None:
        """A frame of an open link below. RemoteError when it breaks the rules: the link is closed."""
        if link.via == CHANNEL:
            raise RemoteError("malformed", "Circuits do not run through circuits.")
        if isinstance(frame, Near):
            link.near = _read_near(frame.peers, self._state.limits.near)
            link.near_places = tuple(map(place_of, link.near))
            self.changed()
            return
        key = (link.number, frame.circuit)
        match frame:
            case Dial():
                self._dialled(link, key, frame)
            case Dialled() if key in self._dialling:
                self._dialling[key].set(None)
            case HangUp(_, code, text):
                self._hung_up(key, RemoteError.from_wire(code, text))
            case Relayed(_, data):
                self._relayed(link, key, data)
            case Window(_, size):
                self._window(key, size)

    def link_down(self, link: Link) -> None:
        """A link is gone, and all circuits on it."""
        for key in [key for key in (*self._passages, *self._ends, *self._dialling) if key[0] == link.number]:
            self._hung_up(key, RemoteError("closed", "A node between the two is gone."))
        self.tell()

    def end(self, circuit: Circuit) -> None:
        """A circuit that ends here is over."""
        key = (circuit.below.number, circuit.number)
        self._ends.pop(key, None)
        if self._circuits.pop(key, None) is not None:
            self._count -= 1
            circuit.below.circuits -= 1

    def tell(self) -> None:
        """Who is linked here has changed: the neighbours hear of it soon, all changes at once."""
        if not self._telling:
            self._telling = True
            self._state.scheduler.spawn(self._tell())

    # -- dialling --------------------------------------------------------------------------------------

    async def _reach(self, did: str, flight: Signal[Link]) -> None:
        try:
            flight.set(await self._dial(did))
        except (RemoteError, LocalError) as wrong:
            flight.fail(wrong)
        finally:
            del self._reaching[did]

    async def _dial(self, did: str) -> Link:
        for below in self._ways(did, None, self._state.limits.relay_hops):
            number = self._number(below)
            if not await self._dials(below, number, did, self._state.limits.relay_hops):
                continue
            link = self._end(below, number, "initiator")
            try:
                await Pause(link.opened, self._state.limits.hello_ms)
            except (Late, RemoteError):
                self._drop(link, RemoteError("hello", "The greeting over this circuit failed."))
                continue
            if link.did == did:
                return link
            self._drop(link, RemoteError("hello", "This circuit leads to somebody else."))
        raise LocalError(
            f"{did} is not connected to this node, nor to those around it; `peers` lists who is.",
            "no_such_peer",
        )

    async def _dials(self, below: Link, number: int, did: str, hops: int) -> bool:
        """Ask a neighbour to make a circuit; whether it did. Who is farther on the way has half the time of
        who is nearer, so that one who stays silent there leaves time to ask others."""
        key = (below.number, number)
        answer: Signal[None] = self._state.scheduler.signal()
        self._dialling[key] = answer
        below.send(Dial(number, did, hops))
        below.attend()
        try:
            await Pause(answer, self._state.limits.dial_ms >> (self._state.limits.relay_hops - hops))
        except RemoteError:
            return False
        except Late:
            below.send(HangUp(number, "out_of_time", "The circuit took too long to make."))
            return False
        finally:
            del self._dialling[key]
        return True

    def _ways(self, did: str, source: Link | None, hops: int) -> Iterator[Link]:
        """Whom to ask; and when all failed a link to the member itself that came meanwhile: one who was
        reloaded comes back while its old link is asked in vain."""
        tried = self._next(did, source, hops)
        yield from tried
        others = [link for link in self._wires() if link is not source and link not in tried]
        yield from (link for link in others if link.did == did)

    def _next(self, did: str, source: Link | None, hops: int) -> list[Link]:
        """Whom to ask for a circuit to a member, the likeliest first."""
        direct = next((link for link in self._wires() if link.did == did and link is not source), None)
        if direct is not None:
            return [direct]
        if hops < 1:
            return []
        others = [link for link in self._wires() if link is not source]
        point = place_of(did)
        others.sort(key=lambda link: (did not in link.near, leads(link, point)))
        return others[: self._state.limits.relay_breadth]

    def _wires(self) -> list[Link]:
        return [link for link in self._state.open_links() if link.via != CHANNEL]

    def _number(self, link: Link) -> int:
        """A circuit's number on a link: even ones are the initiator's to give, odd ones the responder's."""
        link.circuit_number += 1
        return 2 * link.circuit_number + (link.role == "responder")

    # -- circuits that end here ------------------------------------------------------------------------

    def _end(self, below: Link, number: int, role: Role) -> Link:
        """The relayed link over a circuit; its greeting begins."""
        self._numbers -= 1
        scheduler, limits = self._state.scheduler, self._state.limits
        window, waiting_max = limits.relay_window, limits.relay_waiting
        circuit = Circuit(scheduler, below, number, window, waiting_max, self.end)
        link = Link(self._numbers, role, CHANNEL, CHANNEL, scheduler, limits, circuit)
        circuit.crowded = lambda: link.close("busy", "The peer takes nothing of what it asks for.")
        link.through = below.did
        self._count += 1
        below.circuits += 1
        self._ends[below.number, number], self._circuits[below.number, number] = link, circuit
        self._begin(link)
        return link

    # -- circuits that pass through --------------------------------------------------------------------

    def _dialled(self, link: Link, key: Key, frame: Dial) -> None:
        limits = self._state.limits
        if not _is_theirs(link, frame.circuit) or self._is_used(key):
            raise RemoteError("malformed", f"Circuit {frame.circuit} is not the peer's to open.")
        crowded = link.circuits >= limits.circuits_per_link or self._count >= limits.circuits
        crowded = crowded or len(self._state.links) >= limits.links
        if crowded or not 0 <= frame.hops <= limits.relay_hops or len(frame.to) > DID_MAX:
            link.send(HangUp(frame.circuit, "busy", "This node passes on no more circuits for now."))
        elif frame.to in self._state.banned:
            link.send(HangUp(frame.circuit, "banned", "This node has nothing to do with that member."))
        elif frame.to == self._state.me:
            link.send(Dialled(frame.circuit))
            self._end(link, frame.circuit, "responder")
        else:
            link.circuits += 1
            self._count += 1
            waits: Signal[None] = self._state.scheduler.signal()
            self._dialling[key] = waits  # so that a hang-up in between is heard
            self._state.scheduler.spawn(self._pass_on(link, key, frame, waits))

    async def _pass_on(self, link: Link, key: Key, frame: Dial, waits: Signal[None]) -> None:
        passed = False
        try:
            for out in self._ways(frame.to, link, frame.hops if link.may_miss() else 0):
                number = self._number(out)
                if not await self._dials(out, number, frame.to, frame.hops - 1):
                    continue
                if waits.is_set or link.is_closed:  # given up meanwhile
                    out.send(HangUp(number, "cancelled", "Nobody waits for this circuit any more."))
                    return
                self._passages[key] = _Passage(out, number)
                self._passages[out.number, number] = _Passage(link, frame.circuit)
                passed = True
                link.send(Dialled(frame.circuit))
                return
        finally:
            self._dialling.pop(key, None)
            if not passed:
                link.count_miss()
                link.circuits -= 1
                self._count -= 1
        link.send(HangUp(frame.circuit, "no_such_peer", "That member is not to be found around here."))

    def _is_used(self, key: Key) -> bool:
        return key in self._passages or key in self._ends or key in self._dialling

    def _relayed(self, link: Link, key: Key, data: bytes) -> None:
        passage, end = self._passages.get(key), self._ends.get(key)
        if end is not None:
            self._circuits[key].took(len(data))
            self.deliver(end, data)
        elif passage is not None:
            passage.under_way += len(data)
            link.traffic.carried += len(data)
            limits = self._state.limits
            most = limits.relay_window + limits.frame_bytes
            if passage.under_way <= most and carry(passage.out, passage.number, data) <= 2 * most:
                return  # the second, because the far end may say that it took what never left here
            link.send(HangUp(key[1], "busy", "More under way than the window allows."))
            self._hung_up(key, RemoteError("busy", "More under way than the window allows."))

    def _window(self, key: Key, size: int) -> None:
        """The far end of what was sent the other way took some of it."""
        passage, circuit = self._passages.get(key), self._circuits.get(key)
        if circuit is not None:
            circuit.opened(size)
        elif passage is not None:
            back = self._passages[passage.out.number, passage.number]
            back.under_way = max(0, back.under_way - max(size, 0))
            passage.out.send(Window(passage.number, size))

    def _hung_up(self, key: Key, wrong: RemoteError) -> None:
        """A circuit is over, from whichever side."""
        dialling, end = self._dialling.get(key), self._ends.get(key)
        if dialling is not None and not dialling.is_set:
            dialling.fail(wrong)
        if end is not None:
            self.end(self._circuits[key])
            self._drop(end, None)
        passage = self._passages.pop(key, None)
        if passage is not None:
            back = self._passages.pop((passage.out.number, passage.number))
            asked = back if _is_theirs(back.out, key[1]) else passage
            asked.out.circuits -= 1
            self._count -= 1
            hang_up(passage.out, passage.number, wrong.code, wrong.text[:200])

    # -- telling who is near ---------------------------------------------------------------------------

    async def _tell(self) -> None:
        near_ms = self._state.limits.near_ms
        await Pause(None, max(near_ms // 10, self._told_ms + near_ms - self._state.steady_ms))
        self._telling, self._told_ms = False, self._state.steady_ms
        wires = sorted(self._wires(), key=lambda link: (not link.serves, link.number))
        for link in wires:
            others = [other for other in wires if other.did != link.did][: self._state.limits.near]
            rows = [[other.did, other.serves, other.engine] for other in others]
            data = dagcbor.encode(rows)
            if data != link.near_told:
                link.near_told = data
                link.send(Near(data))


def _is_theirs(link: Link, number: int) -> bool:
    """Whether a circuit's number on a link is one that the peer gave."""
    return number > 0 and (number % 2 == 1) == (link.role == "initiator")


def _read_near(data: bytes, most: int) -> dict[str, Neighbour]:
    try:
        rows = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"Who is near a peer is not dag-cbor: {error}.") from error
    if not isinstance(rows, list) or len(rows) > most or not all(map(_is_row, rows)):
        raise RemoteError("malformed", f"Who is near a peer is a list of at most {most} members.")
    return {did: Neighbour(serves, engine) for did, serves, engine in rows}


def _is_row(row: object) -> bool:
    if not isinstance(row, Sequence) or len(row) != 3:
        return False
    did, serves, engine = row
    shaped = isinstance(did, str) and isinstance(serves, bool) and isinstance(engine, str)
    return shaped and 0 < len(did) <= DID_MAX and len(engine) <= 80
