"""Attacks by name, each refused by its own code, and nothing run, stored or signed for the attacker.

Bob is a member on Ann's link, Carol another; what they play with was really signed by somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Final

import pytest
from tests import ed25519, edges, p256, rsa_pss
from tests.scenes import (
    FRAME_MAX,
    add_one,
    claims_of,
    forgive,
    hand,
    hand_frame,
    module,
    read_reply,
    refusals,
    replies,
    sealed,
    with_claims,
)
from tests.sim import Node, World

from promisegrid import cose, envelope, frames, membership, receipt
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Close, Commit, Effect, Load, Notify, Prepare, Run, Save, Scan, Sign, Verify
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

COSTLY = (Load, Scan, Save, Commit, Prepare, Run, Sign)
OTHER_GRID: Final = Cid.of(b"another grid", "dag-cbor")


class Scene:
    """Ann serves; Bob and Carol are linked to her; `code` adds one."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.ann, self.bob, self.carol = World().grid("ann", "bob", "carol", limits=limits)
        self.ann.do(self.ann.kernel.owner.set_serving(1, 1 << 20))
        self.code = module(self.ann, add_one)

    def content(self, **changes: object) -> Claims:
        """The claims of a good call of Bob's."""
        return with_claims(claims_of(self.bob, self.ann), **changes)

    def call(self, **changes: object) -> bytes:
        return sealed(self.bob, self.code, self.content(**changes))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


def signed_refusal(effects: list[Effect], to: Node) -> str:
    """The code of the one signed refusal among some effects."""
    (reply,) = replies(effects)
    refusal = read_reply(reply, to).refusal
    assert refusal is not None and not refusals(effects)
    return refusal[0]


# -- replay ------------------------------------------------------------------------------------------


def test_replay_by_the_sender_is_answered_with_the_same_bytes_and_runs_nothing() -> None:
    scene = Scene()
    call = scene.call()
    first = replies(hand(scene.ann, scene.bob, call))
    again = hand(scene.ann, scene.bob, call)
    assert replies(again) == first and not [e for e in again if isinstance(e, (Run, Sign, Save, Commit))]


def test_replay_by_another_member() -> None:
    scene = Scene()
    call = scene.call()
    hand(scene.ann, scene.bob, call)
    effects = hand(scene.ann, scene.carol, call)
    assert signed_refusal(effects, scene.bob) == "not_member"
    assert not [effect for effect in effects if isinstance(effect, (Run, Save, Commit))]


def test_a_message_that_was_stolen_on_its_way_still_counts_for_its_signer() -> None:
    """Carol is quicker than Bob with Bob's own message; that neither answers it nor uses up its number."""
    scene = Scene()
    call = scene.call()
    assert signed_refusal(hand(scene.ann, scene.carol, call), scene.bob) == "not_member"
    (reply,) = replies(hand(scene.ann, scene.bob, call))
    assert read_reply(reply, scene.bob).refusal is None and len(scene.ann.runs) == 1


def test_replay_to_another_node(scene: Scene) -> None:
    carol_link = next(number for number, (peer, _) in scene.carol.links.items() if peer is scene.ann)
    assert carol_link and refusals(hand(scene.carol, scene.ann, scene.call())) == ["wrong_audience"]


def test_replay_of_a_number(scene: Scene) -> None:
    content = scene.content(cti=b"one number for two")
    hand(scene.ann, scene.bob, sealed(scene.bob, scene.code, content))
    other = sealed(scene.bob, scene.code, with_claims(content, call=("add_one", (1,))))
    assert signed_refusal(hand(scene.ann, scene.bob, other), scene.bob) == "bad_claims"


def test_replay_when_it_has_expired() -> None:
    scene = Scene()
    call = scene.call()
    hand(scene.ann, scene.bob, call)
    scene.ann.world.now_ms += 60_000 + scene.ann.limits.clock_skew_ms + 1000
    assert refusals(hand(scene.ann, scene.bob, call)) == ["expired"]


# -- what is refused without a curve or with one -----------------------------------------------------


def reflected(scene: Scene) -> bytes:
    """Ann's own message to Bob, sent back to her."""
    return sealed(scene.ann, scene.code, claims_of(scene.ann, scene.bob))


def reflected_reply(scene: Scene) -> bytes:
    """Ann's reply to Bob, sent back to her as if it were an answer."""
    (reply,) = replies(hand(scene.ann, scene.bob, scene.call()))
    return reply


def renamed(scene: Scene) -> bytes:
    """Ann's message to Bob, its two names exchanged so that it is for her."""
    raw = sealed(scene.ann, scene.code, claims_of(scene.ann, scene.bob))
    ann, bob = scene.ann.did.encode(), scene.bob.did.encode()
    return raw.replace(ann, b"*" * len(ann)).replace(bob, ann).replace(b"*" * len(ann), bob)


def other_protocol(scene: Scene) -> bytes:
    """A signed call, its protocol exchanged for another."""
    return scene.call().replace(bytes(scene.code), bytes(Cid.of(b"another protocol")))


def other_grid(scene: Scene) -> bytes:
    """A message that was signed for another grid."""
    return sealed(scene.bob, scene.code, scene.content(), grid=OTHER_GRID)


def other_grid_renamed(scene: Scene) -> bytes:
    """The same, and this grid's name put in its place."""
    grid = scene.ann.kernel.grid
    assert grid is not None
    return other_grid(scene).replace(bytes(OTHER_GRID), bytes(grid))


def labelled(typ: str) -> Callable[[Scene], bytes]:
    """A call whose signature was made as something else."""
    return lambda scene: sealed(scene.bob, scene.code, scene.content(), typ=typ)


def relabelled(typ: cose.Typ) -> Callable[[Scene], bytes]:
    """The same, and the label exchanged: what was signed says otherwise."""

    def forge(scene: Scene) -> bytes:
        raw = sealed(scene.bob, scene.code, scene.content(), typ=typ)
        opened = raw.rindex(cose.assemble(cose.protected_header(typ), None, bytes(64))[:-64])
        return raw[:opened] + cose.assemble(cose.protected_header("grid-message"), None, raw[-64:])

    return forge


def token_as_message(scene: Scene) -> bytes:
    """Bob's membership, which Ann really signed, in the place of a message's signature."""
    proof = scene.bob.tables["grid"][b"membership"]
    return envelope.seal(envelope.prepare(scene.code, scene.ann.kernel.grid or OTHER_GRID, b"\xa0"), proof)


def signed_as(alg: int, signer: str, sign: Callable[[bytes], bytes]) -> Callable[[Scene], bytes]:
    """A call in the name of `signer` with a signature of some kind under some label."""

    def forge(scene: Scene) -> bytes:
        grid = scene.ann.kernel.grid
        assert grid is not None
        signed = envelope.prepare(scene.code, grid, scene.content(iss=signer).encode())
        protected = cose.protected_header("grid-message", alg)
        signature = sign(cose.to_be_signed(protected, signed))
        return envelope.seal(signed, cose.assemble(protected, None, signature))

    return forge


RSA: Final = rsa_pss.Key.of("mallory", 2048)
RSA_NAME: Final = edges.rsa_name(RSA.public)
ED: Final = ed25519.secret_of("mallory")
ED_NAME: Final = edges.ed25519_name(ed25519.public_key(ED))
EC_NAME: Final = edges.p256_name(p256.public_key(5))


def es256(data: bytes) -> bytes:
    return cose.low_s(p256.sign(5, data))


def eddsa(data: bytes) -> bytes:
    return ed25519.sign(ED, data)


REFUSED: Final[dict[str, tuple[str, Callable[[Scene], bytes]]]] = {
    "reflection": ("wrong_audience", reflected),
    "reflection of a reply": ("wrong_audience", reflected_reply),
    "reflection under exchanged names": ("bad_signature", renamed),
    "cross-protocol": ("bad_signature", other_protocol),
    "cross-grid": ("wrong_grid", other_grid),
    "cross-grid, renamed": ("bad_signature", other_grid_renamed),
    **{
        f"cross-typ: a {typ} as a message": ("malformed", labelled(typ))
        for typ in ("grid-receipt", "grid-capability", "grid-hello", "grid-statement")
    },
    "cross-typ, relabelled": ("bad_signature", relabelled("grid-receipt")),
    "cross-typ: a token as a message's signature": ("malformed", token_as_message),
    "key confusion: ES256 under an RSA name": ("bad_signature", signed_as(-7, RSA_NAME, es256)),
    "key confusion: ES256 under an Ed25519 name": ("bad_signature", signed_as(-7, ED_NAME, es256)),
    "key confusion: EdDSA under a P-256 name": ("bad_signature", signed_as(-8, EC_NAME, eddsa)),
    "key confusion: EdDSA bytes called ES256": ("bad_signature", signed_as(-7, EC_NAME, eddsa)),
    "key confusion: ES256 bytes called EdDSA": ("bad_signature", signed_as(-8, ED_NAME, es256)),
    "key confusion: PS256 under a P-256 name": ("bad_signature", signed_as(-37, EC_NAME, RSA.sign)),
    "key confusion: PKCS #1 v1.5 called PS256": ("bad_signature", signed_as(-37, RSA_NAME, RSA.sign_v15)),
    "key confusion: an algorithm that is a MAC": ("bad_signature", signed_as(5, EC_NAME, es256)),
    "key confusion: an algorithm nobody knows": ("bad_signature", signed_as(0, EC_NAME, es256)),
    "key confusion: no signature": ("bad_signature", signed_as(-7, EC_NAME, lambda _: b"")),
}


@pytest.mark.parametrize("attack", REFUSED)
def test_it_is_refused_by_name_before_it_costs_anything(attack: str, scene: Scene) -> None:
    code, forge = REFUSED[attack]
    raw = forge(scene)
    forgive(scene.ann, scene.bob)
    effects = hand(scene.ann, scene.bob, raw)
    assert refusals(effects) == [code] and not replies(effects)
    assert not [effect for effect in effects if isinstance(effect, COSTLY)]


@pytest.mark.parametrize(
    "signed", [(-7, EC_NAME, es256), (-8, ED_NAME, eddsa), (-19, ED_NAME, eddsa), (-37, RSA_NAME, RSA.sign)]
)
def test_an_honest_signature_of_any_kind_holds(
    signed: tuple[int, str, Callable[[bytes], bytes]], scene: Scene
) -> None:
    """What follows is a signed refusal: the signer is a stranger, but it was he who signed."""
    effects = hand(scene.ann, scene.bob, signed_as(*signed)(scene))
    (raw,) = replies(effects)
    opened = envelope.open_message(raw, scene.ann.kernel.grid or OTHER_GRID, FRAME_MAX)
    assert b"not_member" in opened.claims and not refusals(effects)


# -- one kind of token in another's place ------------------------------------------------------------


def verified(verdict: Coroutine[Any, Any, Any]) -> Any:
    """The end of a coroutine that only verifies."""
    answer: object = None
    try:
        while True:
            answer = edges.pure(verdict.send(answer))
    except StopIteration as end:
        return end.value


def test_a_membership_is_no_receipt_and_a_receipt_no_membership(scene: Scene) -> None:
    proof = scene.bob.tables["grid"][b"membership"]
    grid = scene.ann.kernel.grid
    assert grid is not None
    assert verified(receipt.verify(proof)) is None
    hand(scene.ann, scene.bob, scene.call())
    blocks = scene.ann.tables["blocks"].values()
    made = next(data for data in blocks if data.startswith(b"\xd2\x84") and b"grid-receipt" in data)
    assert verified(receipt.verify(made)) is not None
    checked = membership.verify(
        made, grid, scene.ann.did, scene.bob.did, scene.ann.world.now_ms, scene.ann.limits
    )
    with pytest.raises(RemoteError) as refusal:
        verified(checked)
    assert refusal.value.code == "not_member"


def test_a_membership_is_worthless_to_anybody_else(scene: Scene) -> None:
    """It is bound to Bob's key (RFC 8747): Carol, who proved another, cannot present it."""
    proof = scene.bob.tables["grid"][b"membership"]
    grid = scene.ann.kernel.grid
    assert grid is not None
    now, limits = scene.ann.world.now_ms, scene.ann.limits
    mine = verified(membership.verify(proof, grid, scene.ann.did, scene.bob.did, now, limits))
    assert isinstance(mine, membership.Membership) and mine.member == scene.bob.did
    with pytest.raises(RemoteError, match="somebody else"):
        verified(membership.verify(proof, grid, scene.ann.did, scene.carol.did, now, limits))


# -- what a stranger, or a member, can make us pay ---------------------------------------------------


def strangers(ann: Node, count: int) -> list[int]:
    """Connections from nobody in particular that say nothing."""
    first = 1000 + len(ann.log)
    for number in range(first, first + count):
        ann.perform(ann.kernel.connect(number, "responder", "b/grid", "ws", ann.world.now_ms))
    ann.world.run()
    return list(range(first, first + count))


def test_strangers_who_hold_every_place_do_not_keep_a_member_out() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob", limits=Limits(links=4))
    world.cut(ann, next(iter(ann.links)))
    world.run()
    silent = strangers(ann, 4)
    assert not ann.closed
    world.link(bob, ann)
    assert ann.peers() == ["bob"]
    assert [(close.link, close.code) for close in ann.closed] == [(silent[0], "busy")]


def test_open_links_are_not_given_up_for_strangers() -> None:
    ann, *_ = World().grid("ann", "bob", "carol", limits=Limits(links=2))
    (newcomer,) = strangers(ann, 1)
    assert sorted(ann.peers()) == ["bob", "carol"]
    assert [(close.link, close.code) for close in ann.closed] == [(newcomer, "busy")]


def test_a_greeting_takes_no_more_memory_than_it_may() -> None:
    world = World()
    (ann,) = world.grid("ann", limits=Limits(greeting_bytes=10_000))
    (stranger,) = strangers(ann, 1)
    for _ in range(11):  # at once, before any answer of the host
        effects = ann.kernel.receive(stranger, bytes(1000), world.now_ms)
        if [effect for _, effect in effects if isinstance(effect, Close)]:
            return
    raise AssertionError("the link is still open")


def test_names_that_are_no_keys_close_a_link_like_bad_signatures() -> None:
    scene = Scene()
    for number in range(scene.ann.limits.link_bad_signatures):
        name = edges.rsa_name(RSA.public[:-1] + bytes([2 * number]))
        hand(scene.ann, scene.bob, scene.call(iss=name, cti=b"number %d" % number))
    assert [close.code for close in scene.ann.closed] == ["bad_signature"]


def test_a_reply_that_nobody_awaits_costs_no_curve() -> None:
    scene = Scene()
    effects = hand(scene.ann, scene.bob, scene.call(call=None, reply_to=Cid.of(b"never sent"), body=1))
    assert not [effect for effect in effects if isinstance(effect, Verify)]
    assert not refusals(effects) and not replies(effects)


def test_idle_talk_is_no_news_for_the_owner() -> None:
    scene = Scene()
    said = [frames.Pong(1), frames.Pong(1), frames.Pong(7), *[frames.Status(True, "an engine")] * 3]
    effects = [effect for frame in said for effect in hand_frame(scene.ann, scene.bob, frames.encode(frame))]
    assert len([effect for effect in effects if isinstance(effect, Notify)]) <= 1


def test_a_peer_that_cannot_make_up_its_mind_is_news_now_and_then() -> None:
    ann, bob = World().grid("ann", "bob")
    before = len(ann.notes)
    for number in range(101):
        hand_frame(ann, bob, frames.encode(frames.Status(number % 2 == 0, f"engine {number}")))
    assert len(ann.notes) - before <= 1
    ann.world.pass_time(2 * ann.limits.near_ms)
    assert len(ann.notes) - before <= 2
    (link,) = ann.kernel._state.open_links()
    assert link.serves and link.engine == "engine 100", "its last word counts"
