"""The decision table of refusals: for every code a peer can provoke, how, and in what manner it is told.

- unsigned: a link frame, before a signature of the peer holds; costs us no signature and is rate-limited.
- signed: a reply, bound to the message it answers.
- closed: the link ends, and its last frame says why.

A code without a row fails `test_every_code_has_its_row`: add one when you add a code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

import pytest
from tests.scenes import (
    claims_of,
    hand,
    hand_frame,
    module,
    pair,
    promised,
    read_reply,
    refusals,
    replies,
    sealed,
    with_claims,
)
from tests.sim import Node, World

from promisegrid import frames, nested
from promisegrid.block import Block
from promisegrid.capability import Terms
from promisegrid.cbor import Dialect
from promisegrid.cid import Cid
from promisegrid.claims import EXP
from promisegrid.effects import Close, Effect, Failure, Outcome, Prepare, Run, Save
from promisegrid.errors import CODES
from promisegrid.limits import Limits
from promisegrid.protocols import DAG_EDIT, SCENARIO_TREE, edits

Manner = Literal["unsigned", "signed", "closed"]
Provoke = Callable[[Node, Node, Cid], list[Effect]]
"""What Bob, a member on Ann's link, does to Ann, who serves `add_one`; what she then did."""
TABLE: Final = Dialect(name="claims", int_keys=True)


def call(**changes: object) -> Provoke:
    """A call of Bob's that is in order but for some claims."""


    def provoke(ann: Node, bob: Node, code: Cid) -> list[Effect]:
        return hand(ann, bob, sealed(bob, code, with_claims(claims_of(bob, ann), **changes)))

    return provoke


def raw(change: Callable[[bytes], bytes]) -> Provoke:
    """A good call with its bytes changed."""
    return lambda ann, bob, code: hand(ann, bob, change(sealed(bob, code, claims_of(bob, ann))))


def seconds(ahead: int, **names: str) -> Provoke:
    """A claim (`name="exp"`) so many seconds from now."""
    name = names["name"]
    return lambda ann, bob, code: call(**{name: ann.world.now_ms // 1000 + ahead})(ann, bob, code)


def program(outcome: object) -> Provoke:
    """Code whose run ends like this."""
    return lambda ann, bob, code: call()(ann, bob, module(ann, lambda job: outcome, name=b"another"))


def host(effect: type[Effect], code: str) -> Provoke:
    """Ann's host fails at one kind of effect."""

    def provoke(ann: Node, bob: Node, module_: Cid) -> list[Effect]:
        ann.failing[effect] = Failure(code, "It went wrong.")
        return call()(ann, bob, module_)

    return provoke


def without_expiry(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    table = TABLE.decode(claims_of(bob, ann).encode())
    del table[EXP]
    return hand(ann, bob, sealed(bob, code, TABLE.encode(table)))


def another_protocol(raw: bytes) -> bytes:
    """The same message, its first CID's version spoilt."""
    at = raw.index(b"\0\1\x55")
    return raw[: at + 1] + b"\7" + raw[at + 2 :]


def too_many(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """More messages than are remembered of one sender."""
    small = World()
    ann, bob = small.grid("ann", "bob", limits=Limits(replay_per_sender=1))
    hand(ann, bob, sealed(bob, code, claims_of(bob, ann)))
    return hand(ann, bob, sealed(bob, code, with_claims(claims_of(bob, ann), cti=b"another number")))


def of_somebody_else(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """Bob hands over a message that Eve, who is no member, has signed."""
    eve = Node(ann.world, "eve")
    eve.kernel._state.grid = ann.kernel.grid
    ann.world.nodes.append(eve)
    return hand(ann, bob, sealed(eve, code, claims_of(eve, ann)))


def wrong_block(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """Bob names code that only he has, and sends other bytes for it."""
    ann.peer_drops = True  # what Ann asks does not reach Bob's own, honest kernel
    missing = Cid.of(b"code of Bob's")
    call()(ann, bob, missing)
    return hand_frame(ann, bob, frames.encode(frames.BlockFrame(missing, b"other bytes")))


def first_frame(frame: frames.Frame) -> Provoke:
    """A stranger connects to Ann and says this."""

    def provoke(ann: Node, bob: Node, code: Cid) -> list[Effect]:
        number, ann.next_link, before = ann.next_link, ann.next_link + 1, len(ann.log)
        ann.perform(ann.kernel.connect(number, "responder", "b/grid", "ws", ann.world.now_ms))
        ann.perform(ann.kernel.receive(number, frames.encode(frame), ann.world.now_ms))
        ann.world.run()
        return ann.log[before:]

    return provoke


def uninvited(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """Eve comes with an invitation that nobody gave her."""
    eve = ann.world.node("eve")
    before = len(ann.log)
    ann.world.link(eve, ann, b"sixteen bytes .!")
    return ann.log[before:]


def banned(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """Ann has nothing to do with Eve, who comes."""
    eve = ann.world.node("eve")
    ann.do(ann.kernel.bans.ban(eve.did))
    before = len(ann.log)
    ann.world.link(eve, ann)
    return ann.log[before:]


def from_another_grid(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    return hand(ann, bob, sealed(bob, code, claims_of(bob, ann), grid=Cid.of(b"other", "dag-cbor")))


def from_another_signer(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    return hand(ann, bob, sealed(bob, code, claims_of(bob, ann), secret=12345))


def connects_again(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    before = len(ann.log)
    ann.world.link(bob, ann)
    return ann.log[before:]


def no_file(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """The standard input is a block, but no file."""
    block = Block(Cid.of(b"\xa0", "dag-cbor"), b"\xa0")
    ann.do(ann.kernel.save([block]))
    return call(stdin=block.cid)(ann, bob, code)


Token = Callable[[Node, Node, Cid, Cid | None], bytes]
"""Makes a capability about code, resting on the one before it in its chain: (Ann, Bob, code, parent)."""


def shown(*tokens: Token, times: int = 1) -> Provoke:
    """A call of Bob's that presents a chain of capabilities, so many times over, each time anew."""

    def provoke(ann: Node, bob: Node, code: Cid) -> list[Effect]:
        chain: list[bytes] = []
        for token in tokens:
            chain.append(token(ann, bob, code, Cid.of(chain[-1]) if chain else None))
        effects: list[Effect] = []
        for number in range(times):
            effects = call(proofs=tuple(chain), cti=b"number %6d" % number)(ann, bob, code)
        return effects

    return provoke


def by_ann(to: str = "", about: Cid | None = None, **terms: Any) -> Token:
    """Ann's promise, to Bob and of the code that is called unless said otherwise."""
    return lambda ann, bob, code, parent: promised(
        ann, to or bob.did, Terms(("code", about or code), **terms), parent
    )


def by_bob(**terms: Any) -> Token:
    """Bob's own promise to himself, or his delegation of what he was promised."""
    return lambda ann, bob, code, parent: promised(bob, bob.did, Terms(("code", code), **terms), parent)


def taken_back(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """Ann has revoked it."""
    token = by_ann()(ann, bob, code, None)
    ann.kernel._state.revoked.add(Cid.of(token))
    return call(proofs=(token,))(ann, bob, code)


def inside(message: bytes) -> dict[str, bytes]:
    """An argument that is a message."""
    return {nested.KEY: message}


def of_a_third(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """Bob puts a message of Carol's, who did not mean him, among his arguments."""
    carol = ann.world.node("carol")
    ann.world.link(carol, ann, ann.do(ann.kernel.owner.invite()))
    inner = sealed(carol, code, claims_of(carol, ann))
    return call(call=("add_one", (inside(inner),)))(ann, bob, code)


def too_deep(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """One message in another in another …"""
    args: tuple[object, ...] = (1,)
    for level in range(ann.limits.nested_depth + 1):
        content = with_claims(claims_of(bob, ann), call=("add_one", args), cti=b"level %2d" % level)
        args = (inside(sealed(bob, code, content)),)
    return call(call=("add_one", args))(ann, bob, code)


def says(protocol: Cid, body: object) -> Provoke:
    """Bob says something in a protocol that is known here."""

    def provoke(ann: Node, bob: Node, code: Cid) -> list[Effect]:
        return hand(ann, bob, sealed(bob, protocol, with_claims(claims_of(bob, ann), call=None, body=body)))

    return provoke


def unknown_edit(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """An edit that builds on one nobody has seen."""
    payload = {"claims": [{"description": "text", "detail": 1}]}
    stamp = "2026-11-21T09:00:00Z"
    _, edit = edits.edit("insert", bob.did, stamp, "target", payload, (Cid.of(b"unseen"),))
    return says(DAG_EDIT, edit)(ann, bob, code)


def no_tree(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    """A scenario tree that is a poem."""
    poem = ann.put(b"a poem")
    return says(SCENARIO_TREE, [poem, poem])(ann, bob, code)


def not_serving(ann: Node, bob: Node, code: Cid) -> list[Effect]:
    ann, bob, code = pair(serving=False)
    return call()(ann, bob, code)


ROWS: Final[dict[str, tuple[Manner, Provoke]]] = {
    # -- before the signature holds
    "malformed": ("unsigned", raw(lambda data: data[:-1])),
    "too_large": ("unsigned", raw(lambda data: data + bytes(1024 * 1024))),
    "not_grid": ("unsigned", raw(lambda data: data.replace(b"\x64grid", b"\x64grip"))),
    "future_grid": ("unsigned", raw(lambda data: data.replace(b"\x64grid", b"\x65grid2"))),
    "wrong_grid": ("unsigned", from_another_grid),
    "bad_cid": ("unsigned", raw(another_protocol)),
    "bad_claims": ("unsigned", call(iss="did:web:bob")),
    "no_expiry": ("unsigned", without_expiry),
    "expired": ("unsigned", seconds(-61, name="exp")),
    "not_yet_valid": ("unsigned", seconds(62, name="nbf")),
    "wrong_audience": ("unsigned", call(aud="did:key:zSomebodyElse")),
    "bad_signature": ("unsigned", from_another_signer),
    "busy": ("signed", too_many),
    # -- the link
    "hello": ("closed", first_frame(frames.Hello(99, "did:key:z", b"n" * 32, None, "initiator", "b/grid"))),
    "bad_invitation": ("closed", uninvited),
    "banned": ("closed", banned),
    "closed": ("closed", connects_again),
    # -- after it
    "not_member": ("signed", of_somebody_else),
    "not_serving": ("signed", not_serving),
    "bad_capability": ("signed", call(proofs=(b"no capability",))),
    "not_holder": ("signed", shown(by_ann(to="did:key:zSomebodyElse"))),
    "not_my_promise": ("signed", shown(by_bob())),
    "not_permitted": ("signed", shown(by_ann(about=Cid.of(b"other code")))),
    "widened": ("signed", shown(by_ann(delegate=1, func="add_one"), by_bob(func="add_two"))),
    "used_up": ("signed", shown(by_ann(uses=2), times=3)),
    "revoked": ("signed", taken_back),
    "no_such_protocol": ("signed", call(call=None)),
    "not_for_you": ("signed", of_a_third),
    "too_deep": ("signed", too_deep),
    "unknown_edit": ("signed", unknown_edit),
    "bad_tree": ("signed", no_tree),
    "not_found": ("signed", lambda ann, bob, code: call()(ann, bob, Cid.of(b"lost"))),
    "bad_block": ("signed", wrong_block),
    "bad_args": ("signed", call(call=("add_one", ("one",)))),
    "bad_file": ("signed", no_file),
    "not_wasm": ("signed", lambda ann, bob, code: call()(ann, bob, ann.put(b"a poem"))),
    "no_such_function": ("signed", call(call=("add_two", (1,)))),
    **{
        code: ("signed", host(Prepare, code))
        for code in ("invalid_wasm", "bad_import", "unsupported", "too_complex")
    },
    **{
        code: ("signed", program(Failure(code, "It went wrong.")))
        for code in (
            "trap",
            "out_of_fuel",
            "out_of_time",
            "out_of_memory",
            "stack_overflow",
            "output_too_large",
        )
    },
    "bad_result": ("signed", program(Outcome(b"", b"", None, 0))),
    "disk_full": ("signed", host(Save, "disk_full")),
    "internal": ("signed", host(Run, "internal")),
}
ASIDE: Final = {
    "cancelled": "only the owner and the end of a link cancel, and then nobody is left to be told",
    "broken": "what one who awaits a promise reads in a statement, which is an answer",
    "disagreement": "what the one who asked several peers finds out by itself",
}
"""Codes that no peer is told, and why."""


def said(effects: list[Effect], ann: Node) -> list[tuple[Manner, str]]:
    """What Ann refused among some effects; the last frame of a link that closes counts with its end."""
    closed: list[tuple[Manner, str]] = [("closed", e.code) for e in effects if isinstance(e, Close)]
    unsigned: list[tuple[Manner, str]] = [
        ("unsigned", code) for code in refusals(effects) if ("closed", code) not in closed
    ]
    signed: list[tuple[Manner, str]] = []
    for reply in replies(effects):
        (to,) = [node for node in ann.world.nodes if node is not ann and node.did.encode() in reply]
        content = read_reply(reply, to)
        assert content.refusal is not None
        signed.append(("signed", content.refusal[0]))
    return [*unsigned, *signed, *closed]


@pytest.mark.parametrize("code", ROWS)
def test_a_refusal_is_told_in_its_manner(code: str) -> None:
    ann, bob, add = pair()
    manner, provoke = ROWS[code]
    effects = provoke(ann, bob, add)
    assert said(effects, ann) == [(manner, code)]


def test_every_code_has_its_row() -> None:
    assert not set(ROWS) & set(ASIDE)
    missing = set(CODES) - set(ROWS) - set(ASIDE)
    assert not missing, f"say in ROWS how a peer provokes {sorted(missing)}, or in ASIDE why none can"
    assert not (set(ROWS) | set(ASIDE)) - set(CODES)
