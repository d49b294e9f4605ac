"""Good bytes, damaged by the ten thousand, and a node that takes them as fast as it can.

A law, for every kind of bytes that comes from outside: they are read, refused with a code, or give nothing;
never another exception, and the node goes on. The node's host believes every signature, so that damage gets
past the curve to what lies behind. A seed gives the same run again.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

from tests.scenes import FRAME_MAX, NUMBERS, add_one, claims_of, module, promised, sealed, with_claims
from tests.sim import Node, World

from promisegrid import claims, cose, envelope, forms, frames, gridtag, nested, peering
from promisegrid.capability import Terms
from promisegrid.cbor import CborError, Dialect
from promisegrid.cid import Cid
from promisegrid.effects import (
    Budget,
    Cancel,
    Commit,
    Digest,
    Effect,
    Failure,
    Load,
    Prepare,
    Read,
    Run,
    Save,
    Scan,
    Send,
    Sign,
    Verify,
)
from promisegrid.errors import CODES, RemoteError
from promisegrid.link import Link
from promisegrid.protocols import CAPABILITY_CALL, SCENARIO_TREE, edits
from promisegrid.protocols.promise import PROMISE
from promisegrid.state import State

Readers = Mapping[str, tuple[Sequence[bytes], Callable[[bytes], object]]]
"""What is read: some good examples, and the function that reads them."""
BATCH: Final = 2_500
"""Messages to one node, before the next one, fresh, takes over."""
_TABLE: Final = Dialect(name="claims", int_keys=True)
_CREDIT: Final = frames.encode(frames.Credit(1))
_EDGES: Final = (0, 1, 2, 23, 24, 32, 63, 64, 127, 128, 255)


def damage(rng: random.Random, good: Sequence[bytes]) -> bytes:
    """One of some good byte strings after a few accidents."""
    data = bytearray(rng.choice(good))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.choice(_EDGES)])
            case 1:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                del data[at : at + rng.randrange(1, 20)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                if at < len(data):
                    data[at] ^= 1 << rng.randrange(8)
            case _:
                other = rng.choice(good)
                begin = rng.randrange(len(other) + 1)
                data[at : at + rng.randrange(64)] = other[begin : begin + rng.randrange(64)]
    return bytes(data)


def change(rng: random.Random, value: Any, spare: Sequence[Any]) -> Any:
    """A value of decoded CBOR with one part of it exchanged, dropped or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        changed = {**value, key: change(rng, value[key], spare)}
        if rng.random() < 0.1:
            del changed[key]
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], change(rng, value[at], spare), *value[at + rng.choice((0, 1, 1, 1)) :]]
    if isinstance(value, bytes) and rng.random() < 0.6:
        return damage(rng, [value])
    if isinstance(value, int) and rng.random() < 0.6:
        return value + rng.choice((-1, 1, 60, 86_400, 1 << 31, -(1 << 40)))
    same = [other for other in spare if type(other) is type(value)]
    return rng.choice(same if same and rng.random() < 0.7 else spare)


@dataclass
class Taken:
    """What became of the bytes: how often each code, how often a reply, how often nothing."""

    codes: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    nothing: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.codes + other.codes, self.replies + other.replies, self.nothing + other.nothing)


class Believer:
    """A node whose host believes every signature and answers at once; Bob is a member on its link."""

    def __init__(self) -> None:
        world = World()
        self.ann, self.bob = world.grid("ann", "bob")
        self.ann.do(self.ann.kernel.owner.set_serving(1, 1 << 20))
        self.ann.do(self.ann.kernel.carriage.promise(1 << 20, 1))
        self.code = module(self.ann, add_one)
        self.now_ms = world.now_ms
        self.taken = Taken()
        self._link = 100
        self.connect()

    def connect(self) -> None:
        """A new link of Bob's, greeted without ado."""
        self._link += 1
        bob = self.bob.did

        async def believe(state: State, link: Link) -> None:
            link.did, link.is_open = bob, True

        with mock.patch.object(peering, "greet", believe):
            self._perform(self.ann.kernel.connect(self._link, "responder", "b/grid", "ws", self.now_ms))

    @property
    def link(self) -> Link | None:
        """Bob's link while it is open."""
        return self.ann.kernel._state.links.get(self._link)

    def message(self, raw: bytes) -> None:
        """Hand over a message and count what became of it."""
        codes, replies = sum(self.taken.codes.values()), self.taken.replies
        self.frame(frames.encode(frames.Message(raw)))
        if (codes, replies) == (sum(self.taken.codes.values()), self.taken.replies):
            self.taken.nothing += 1

    def frame(self, data: bytes) -> None:
        """Hand over a frame."""
        link = self.link
        if link is None:
            self.connect()
        else:
            link.bad_signatures = link._refusals = 0
        self._perform(self.ann.kernel.receive(self._link, data, self.now_ms))
        if (link := self.link) is not None and len(link.work) > 8:
            self.now_ms += 60_000
            self._perform(self.ann.kernel.tick(self.now_ms))

    def _perform(self, effects: list[tuple[int, Effect]]) -> None:
        waiting = deque(effects)
        while waiting:
            ticket, effect = waiting.popleft()
            if isinstance(effect, Send):
                waiting.extend(self._sent(effect))
            elif isinstance(effect, Cancel):
                waiting.extend(self._answer(effect.ticket, Failure("cancelled", "The call was cancelled.")))
            elif ticket:
                waiting.extend(self._answer(ticket, self._done(effect)))

    def _answer(self, ticket: int, value: object) -> list[tuple[int, Effect]]:
        return self.ann.kernel.answer(ticket, value, self.now_ms)

    def _sent(self, send: Send) -> list[tuple[int, Effect]]:
        """Bob never has a block; his refusals and replies are counted."""
        if send.frame == _CREDIT:
            return []
        frame = frames.decode(send.frame, FRAME_MAX)
        if isinstance(frame, frames.Refusal):
            assert frame.code in CODES and frame.text
            self.taken.codes[frame.code] += 1
        elif isinstance(frame, frames.Message):
            refusal = refusal_in(frame.raw, self.ann)
            self.taken.codes[refusal or "answered"] += 1
            self.taken.replies += 1
            return self.ann.kernel.receive(self._link, _CREDIT, self.now_ms)
        if isinstance(frame, frames.Want) and self.link is not None:
            nothing = frames.encode(frames.BlockFrame(frame.cid, None))
            return self.ann.kernel.receive(self._link, nothing, self.now_ms)
        return []

    def _done(self, effect: Effect) -> object:
        match effect:
            case Verify():
                return True
            case Sign():
                return b"\1" * 64
            case Load() | Scan() | Read() | Save() | Commit():
                return self.ann.base.answer(effect)
            case Digest():
                return bytes(32)
            case Prepare(code, data, _):
                known = code == self.code
                return NUMBERS if known else None if data is None else Failure("not_wasm", "Not a module.")
            case Run(job):
                return add_one(job)
        raise AssertionError(f"an effect no host knows: {effect!r}")


def refusal_in(raw: bytes, ann: Node) -> str | None:
    """The code of a signed refusal; None of any other reply. What Ann sends must be readable."""
    assert ann.kernel.grid is not None
    if gridtag.is_tagged(raw):
        _, content = forms.open_known(gridtag.open_tagged(raw, FRAME_MAX), ann.kernel.grid, ann.limits)
    else:
        opened = envelope.open_message(raw, ann.kernel.grid, FRAME_MAX)
        content = claims.decode(opened.claims, ann.limits)
    assert content.refusal is None or content.refusal[0] in CODES
    return content.refusal[0] if content.refusal else None


def good_calls(believer: Believer) -> list[tuple[Cid, bytes]]:
    """The protocol and claims of messages that would be answered, and of some that would not."""
    ann, bob, code = believer.ann, believer.bob, believer.code
    plain = claims_of(bob, ann)
    rich = with_claims(
        plain,
        nbf=1,
        call=("add_one", (1, "two", code, [None, {"a": 1.5}], b"x")),
        files=code,
        stdin=code,
        budget=Budget(1, 2, 3, 4),
        proofs=(bob.tables["grid"][b"membership"],),
        fresh=True,
    )
    root = promised(ann, bob.did, Terms(("code", code), uses=9, delegate=2))
    child = promised(bob, bob.did, Terms(("code", code), func="add_one"), Cid.of(root))
    redeeming = with_claims(plain, proofs=(root, child))
    inner = sealed(bob, code, with_claims(plain, cti=b"inside another"))
    outer = with_claims(plain, call=("add_one", ({nested.KEY: inner},)))
    body = {"receipt": code, "cached": True, "blocks": [[code, b"module"]]}
    reply = with_claims(plain, call=None, reply_to=code, body=body)
    refused = with_claims(plain, call=None, reply_to=code, refusal=("trap", "It trapped."))
    told = with_claims(plain, call=("told", ({"chain": [root, child]}, {"chain": [root]})))
    found = [(code, one.encode()) for one in (plain, plain, rich, reply, refused, redeeming, outer)]
    return [*found, (PROMISE, told.encode())]


def good_tagged(believer: Believer) -> list[tuple[Cid, Any, dict[int, Any]]]:
    """The protocol, payload and claims of messages under the grid's tag."""
    bob, code = believer.bob, believer.code
    plain = with_claims(claims_of(bob, believer.ann), call=None, grid=bob.kernel.grid)
    table = _TABLE.decode(plain.encode())
    stamp, note = "2026-11-21T09:00:00Z", {"claims": [{"description": "text", "detail": [1, code]}]}
    said = [
        edits.edit("insert", bob.did, stamp, "target", note),
        edits.edit("query", bob.did, stamp, "target", {"criteria": {"since": 0}}),
        edits.edit("subscribe", bob.did, stamp, "target", {"criteria": {}}),
        (SCENARIO_TREE, [code, code]),
        (Cid.of(b"unknown"), [1, {"a": code}]),
    ]
    call = (CAPABILITY_CALL, [0, code, [41]], {**table, claims.FUNC: "add_one"})
    return [call, call, *((protocol, payload, table) for protocol, payload in said)]


def tagged(protocol: Cid, payload: bytes, table: bytes) -> bytes:
    """A message under the grid's tag with a signature that only a believer takes."""
    first = b"\xd8\x2a" + _TABLE.encode(b"\0" + bytes(protocol))
    protected = b"\xa3\x01\x26\x0f" + table + b"\x10\x6bgrid-tagged"
    signature = cose.assemble(protected, None, b"\1" * 64)
    return b"\xda\x67\x72\x69\x64\x83" + first + payload + signature


def messages(believer: Believer, rng: random.Random) -> Callable[[], bytes]:
    """Makes damaged messages: as a whole, in their claims, or in one value of these."""
    ann, bob = believer.ann, believer.bob
    assert ann.kernel.grid is not None
    grid, calls = ann.kernel.grid, good_calls(believer)
    whole = [sealed(bob, protocol, data) for protocol, data in calls]
    tables = [(protocol, _TABLE.decode(data)) for protocol, data in calls]
    spare: list[Any] = [None, True, 0, -1, 1.5, "", "text", b"", bytes(9), [], {}, believer.code]
    spare += [ann.did, bob.did]
    spare += [value for _, table in tables for value in table.values()]
    sign1 = cose.assemble(cose.protected_header("grid-message"), None, b"\1" * 64)

    others = good_tagged(believer)
    whole += [tagged(protocol, _TABLE.encode(payload), _TABLE.encode(t)) for protocol, payload, t in others]

    def changed_tagged() -> bytes:
        protocol, payload, table = rng.choice(others)
        table = {**table, claims.CTI: rng.randbytes(12)}
        try:
            if rng.random() < 0.5:
                payload = change(rng, payload, spare)
            else:
                table = change(rng, table, spare)
            return tagged(protocol, _TABLE.encode(payload), _TABLE.encode(table))
        except CborError:
            return tagged(protocol, b"\xf6", b"\xa0")

    def make() -> bytes:
        kind = rng.randrange(12)
        if kind < 4:
            return damage(rng, whole)
        if kind > 9:
            return changed_tagged()
        protocol, data = rng.choice(calls)
        if kind < 6:
            return envelope.seal(envelope.prepare(protocol, grid, damage(rng, [data])), sign1)
        protocol, table = rng.choice(tables)
        changed = {**table, claims.CTI: rng.randbytes(12)}
        for _ in range(rng.choice((1, 1, 2))):
            changed = change(rng, changed, spare)
            if not isinstance(changed, dict):
                break
        try:
            data = _TABLE.encode(changed)
        except CborError:
            data = b"\xa0"
        return envelope.seal(envelope.prepare(protocol, grid, data), sign1)

    return make


def run(seed: object, count: int) -> Taken:
    """So many damaged messages to nodes, `BATCH` to each."""
    taken = Taken()
    for start in range(0, count, BATCH):
        rng, believer = random.Random(f"{seed} {start}"), Believer()
        make = messages(believer, rng)
        for _ in range(min(BATCH, count - start)):
            believer.message(make())
        taken += believer.taken
    return taken


def opened(seed: object, count: int) -> Counter[str]:
    """So many damaged messages, only opened: structure, claims, audience, times. How often which code."""
    rng, believer = random.Random(f"{seed}"), Believer()
    make, codes = messages(believer, rng), Counter[str]()
    for _ in range(count):
        codes[read_or_refused(believer.ann.kernel._dispatcher._open, make())] += 1
    return codes


def pieces(seed: object, count: int, readers: Readers) -> Counter[str]:
    """So many damaged pieces of every kind, each read by its reader; how often which code, "" when read."""
    codes: Counter[str] = Counter()
    for what, (good, read) in readers.items():
        rng = random.Random(f"{seed} {what}")
        for _ in range(count):
            codes[read_or_refused(read, damage(rng, good))] += 1
    return codes


def read_or_refused(read: Callable[[bytes], object], data: bytes) -> str:
    """ "" when it is read, else the refusal's code; any other exception comes out."""
    try:
        read(data)
    except RemoteError as refusal:
        assert refusal.code in CODES and refusal.text.endswith("."), refusal.text
        return refusal.code
    return ""
