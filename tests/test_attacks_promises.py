"""Attacks with promises and with messages inside messages, each refused by name. See test_attacks.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pytest
from tests import edges, p256
from tests.scenes import (
    claims_of,
    forgive,
    hand,
    hand_frame,
    promised,
    read_reply,
    refusals,
    replies,
    sealed,
    with_claims,
)  # fmt: skip
from tests.test_attacks import OTHER_GRID, Scene, signed_refusal

from promisegrid import capability, claims, dagcbor, frames, nested
from promisegrid.capability import Terms
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Save, Verify
from promisegrid.limits import Limits
from promisegrid.protocols.promise import PROMISE


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


# -- promises in the wrong hands ---------------------------------------------------------------------


def code_of(scene: Scene, **terms: Any) -> Terms:
    return Terms(("code", scene.code), **terms)


def stolen(scene: Scene) -> tuple[bytes, ...]:
    """Ann's promise to Carol, presented by Bob."""
    return (promised(scene.ann, scene.carol.did, code_of(scene)),)


def rebound(scene: Scene) -> tuple[bytes, ...]:
    """The same, Carol's name exchanged for Bob's."""
    carol, bob = scene.carol.did.encode(), scene.bob.did.encode()
    return (stolen(scene)[0].replace(carol, bob),)


def forged(scene: Scene) -> tuple[bytes, ...]:
    """A promise in Ann's name that Bob signed."""
    return (promised(scene.ann, scene.bob.did, code_of(scene), secret=scene.bob.secret),)


def spliced(scene: Scene) -> tuple[bytes, ...]:
    """Ann promised Carol and allowed her to pass it on; Bob passes it on to himself."""
    root = promised(scene.ann, scene.carol.did, code_of(scene, delegate=3))
    return root, promised(scene.bob, scene.bob.did, code_of(scene), Cid.of(root))


def unrelated(scene: Scene) -> tuple[bytes, ...]:
    """A delegation that rests on another promise than the one shown with it."""
    root = promised(scene.ann, scene.bob.did, code_of(scene, delegate=3))
    return root, promised(scene.bob, scene.bob.did, code_of(scene), Cid.of(b"another promise"))


def beheaded(scene: Scene) -> tuple[bytes, ...]:
    """A chain without its first promise."""
    root = promised(scene.ann, scene.carol.did, code_of(scene, delegate=3))
    return (promised(scene.carol, scene.bob.did, code_of(scene), Cid.of(root)),)


def too_far(scene: Scene) -> tuple[bytes, ...]:
    """Passed on, though it was for Bob alone."""
    root = promised(scene.ann, scene.bob.did, code_of(scene))
    return root, promised(scene.bob, scene.bob.did, code_of(scene), Cid.of(root))


def unbound(scene: Scene) -> tuple[bytes, ...]:
    """Ann's promise to Bob, without the key it is bound to."""
    return (promised(scene.ann, scene.bob.did, code_of(scene), extra={}),)


def bound_to_another(scene: Scene) -> tuple[bytes, ...]:
    """Ann's promise to Bob, bound to Carol's key."""
    key = {3: scene.carol.did.encode()}
    return (promised(scene.ann, scene.bob.did, code_of(scene), extra={claims.CNF: key}),)


def of_another_grid(scene: Scene) -> tuple[bytes, ...]:
    """Ann's promise to Bob in another grid of hers."""
    body = code_of(scene).body(OTHER_GRID, None)
    return (promised(scene.ann, scene.bob.did, code_of(scene), body=body),)


def receipt_as_promise(scene: Scene) -> tuple[bytes, ...]:
    """A receipt that Ann really signed."""
    hand(scene.ann, scene.bob, scene.call())
    blocks = scene.ann.tables["blocks"].values()
    return (next(data for data in blocks if data.startswith(b"\xd2\x84") and b"grid-receipt" in data),)


def membership_as_promise(scene: Scene) -> tuple[bytes, ...]:
    """Bob's membership is a promise of Ann's to Bob, but not of any code."""
    return (promised(scene.ann, scene.bob.did, Terms(("ability", "member"))),)


PRESENTED: Final[dict[str, tuple[str, Callable[[Scene], tuple[bytes, ...]]]]] = {
    "confused deputy: another holder's": ("not_holder", stolen),
    "another holder's, renamed": ("bad_capability", rebound),
    "forged": ("bad_capability", forged),
    "spliced": ("bad_capability", spliced),
    "unrelated": ("bad_capability", unrelated),
    "beheaded": ("bad_capability", beheaded),
    "passed on too far": ("widened", too_far),
    "bound to nobody": ("bad_capability", unbound),
    "bound to another": ("bad_capability", bound_to_another),
    "cross-grid": ("wrong_grid", of_another_grid),
    "cross-typ": ("bad_capability", receipt_as_promise),
    "cross-ability": ("not_permitted", membership_as_promise),
}


@pytest.mark.parametrize("what", PRESENTED)
def test_a_promise_is_worthless_in_other_hands_and_other_places(what: str, scene: Scene) -> None:
    code, make = PRESENTED[what]
    proofs = make(scene)
    before = len(scene.ann.runs)
    effects = hand(scene.ann, scene.bob, scene.call(proofs=proofs))
    assert signed_refusal(effects, scene.bob) == code
    assert len(scene.ann.runs) == before and not [e for e in effects if isinstance(e, (Save, Commit))]


def test_the_same_promise_in_the_right_hands_is_kept(scene: Scene) -> None:
    root = promised(scene.ann, scene.bob.did, code_of(scene, delegate=3))
    child = promised(scene.bob, scene.bob.did, code_of(scene, func="add_one"), Cid.of(root))
    for proofs in ((root,), (root, child)):
        (reply,) = replies(hand(scene.ann, scene.bob, scene.call(proofs=proofs)))
        assert read_reply(reply, scene.bob).refusal is None


def test_a_promise_that_was_read_before_is_still_looked_at() -> None:
    scene = Scene()
    ann, bob, carol = scene.ann, scene.bob, scene.carol
    now = ann.world.now_ms // 1000
    proofs = (promised(ann, bob.did, code_of(scene, func="add_one"), exp=now + 40),)
    verified = []
    for number in (1, 2):
        effects = hand(ann, bob, scene.call(proofs=proofs, call=("add_one", (number,))))
        assert read_reply(replies(effects)[0], bob).refusal is None
        verified.append(sum(isinstance(effect, Verify) for effect in effects))
    assert verified == [2, 1]  # the message's signature and the promise's; then the message's alone
    other = with_claims(claims_of(carol, ann), proofs=proofs)
    assert signed_refusal(hand(ann, carol, sealed(carol, scene.code, other)), carol) == "not_holder"
    wrong = scene.call(proofs=proofs, call=("sub", (1,)))
    assert signed_refusal(hand(ann, bob, wrong), bob) == "not_permitted"
    ann.world.now_ms += 101_000
    assert signed_refusal(hand(ann, bob, scene.call(proofs=proofs)), bob) == "expired"
    proofs = (promised(ann, bob.did, code_of(scene)),)
    assert read_reply(replies(hand(ann, bob, scene.call(proofs=proofs)))[0], bob).refusal is None
    ann.do(ann.kernel.promises.revoke(Cid.of(proofs[0])))
    assert signed_refusal(hand(ann, bob, scene.call(proofs=proofs)), bob) == "revoked"


def test_memberships_that_do_not_hold_close_a_link_like_bad_signatures() -> None:
    scene = Scene()
    for number in range(scene.bob.limits.link_bad_signatures):
        token = promised(scene.ann, scene.bob.did, Terms(("ability", "member")), secret=scene.carol.secret)
        chain = capability.pack([token[:-1] + bytes([number])])
        hand_frame(scene.bob, scene.ann, frames.encode(frames.Admitted(chain)))
    assert [close.code for close in scene.bob.closed] == ["bad_signature"]


def test_one_who_passes_promises_on_to_names_he_made_up_does_not_fill_the_book() -> None:
    scene = Scene(Limits(promises_per_holder=6))
    root = promised(scene.ann, scene.bob.did, code_of(scene, delegate=2))
    told = []
    for number in range(4):
        secret = p256.secret_of(f"nobody {number}")
        nobody = edges.p256_name(p256.public_key(secret))
        child = promised(scene.bob, nobody, code_of(scene, delegate=1), Cid.of(root))
        last = promised(scene.bob, scene.bob.did, code_of(scene), Cid.of(child), secret=secret, iss=nobody)
        call = scene.call(proofs=(root, child, last), cti=b"number %d" % number)
        effects = hand(scene.ann, scene.bob, call)
        (reply,) = replies(effects)
        told.append((read_reply(reply, scene.bob).refusal or ("",))[0])
    assert told == ["", "", "busy", "busy"]
    chain = (promised(scene.ann, scene.carol.did, code_of(scene)),)
    call = sealed(scene.carol, scene.code, with_claims(claims_of(scene.carol, scene.ann), proofs=chain))
    (reply,) = replies(hand(scene.ann, scene.carol, call))
    assert read_reply(reply, scene.carol).refusal is None, "there is room for others"


def told(scene: Scene, *items: dict[str, object]) -> int:
    """Bob tells Ann about promises; how many she took."""
    content = scene.content(call=("told", items), cti=str(len(scene.ann.log)).encode().rjust(12))
    (reply,) = replies(hand(scene.ann, scene.bob, sealed(scene.bob, PROMISE, content)))
    body = read_reply(reply, scene.bob).body
    assert isinstance(body, dict)
    return int(body["taken"])


def test_one_who_tells_of_promises_he_made_up_does_not_fill_the_book() -> None:
    scene = Scene(Limits(promises_per_holder=3))
    for number, taken in enumerate((1, 1, 1, 0, 0)):
        secret = p256.secret_of(f"nobody {number}")
        nobody = edges.p256_name(p256.public_key(secret))
        root = promised(scene.bob, scene.bob.did, code_of(scene, delegate=2), secret=secret, iss=nobody)
        gift = promised(scene.bob, scene.ann.did, code_of(scene), Cid.of(root))
        assert told(scene, {"chain": [root, gift]}) == taken
    gift = promised(scene.ann, scene.bob.did, code_of(scene))
    (reply,) = replies(hand(scene.ann, scene.bob, scene.call(proofs=(gift,))))
    assert read_reply(reply, scene.bob).refusal is None, "there is room for what Ann promised"


def test_whoever_tells_forgeries_does_not_get_the_rest_verified() -> None:
    scene = Scene()
    forgeries = [
        {"chain": [promised(scene.bob, scene.ann.did, code_of(scene, uses=number + 1), secret=7)]}
        for number in range(20)
    ]
    before = len(scene.ann.log)
    assert told(scene, *forgeries) == 0
    assert len([effect for effect in scene.ann.log[before:] if isinstance(effect, Verify)]) == 2


def test_a_membership_is_no_gift_from_one_who_could_take_it_back() -> None:
    """Bob may admit others; Carol is a member already, by the founder's own word."""
    scene = Scene()
    ann, bob, carol = scene.ann, scene.bob, scene.carol
    mine = carol.kernel._state.membership
    assert mine is not None
    member = Terms(("ability", "member"), delegate=1)
    forever = ann.world.now_ms // 1000 + 10**9
    admitter = promised(ann, bob.did, member, exp=forever)
    gift = promised(bob, carol.did, Terms(("ability", "member")), Cid.of(admitter), exp=forever)
    hand_frame(carol, ann, frames.encode(frames.Admitted(capability.pack([admitter, gift]))))
    assert carol.kernel._state.membership == mine
    own = promised(ann, carol.did, Terms(("ability", "member")), exp=forever)
    hand_frame(carol, ann, frames.encode(frames.Admitted(capability.pack([own]))))
    kept = carol.kernel._state.membership
    assert kept is not None and kept.until == forever, "the founder's better word is taken"


# -- messages inside messages ------------------------------------------------------------------------


def carols(scene: Scene, **changes: Any) -> bytes:
    """A good call of Carol's to Ann."""
    return sealed(scene.carol, scene.code, with_claims(claims_of(scene.carol, scene.ann), **changes))


def flipped(raw: bytes) -> bytes:
    return raw[:-1] + bytes([raw[-1] ^ 1])


INSIDE: Final[dict[str, tuple[str, Callable[[Scene], bytes]]]] = {
    "confused deputy: meant for nobody": ("not_for_you", carols),
    "confused deputy: meant for another": ("not_for_you", lambda s: carols(s, sub=s.ann.did)),
    "forged": ("bad_signature", lambda s: flipped(carols(s, sub=s.bob.did))),
    "for another node": ("wrong_audience", lambda s: carols(s, sub=s.bob.did, aud=s.bob.did)),
    "expired": ("expired", lambda s: carols(s, sub=s.bob.did, exp=s.ann.world.now_ms // 1000 - 99)),
    "cross-typ": (
        "malformed",
        lambda s: sealed(
            s.carol, s.code, with_claims(claims_of(s.carol, s.ann), sub=s.bob.did), typ="grid-receipt"
        ),
    ),
    "cross-grid": (
        "wrong_grid",
        lambda s: sealed(s.carol, s.code, claims_of(s.carol, s.ann), grid=OTHER_GRID),
    ),
    "a reply": ("bad_args", lambda s: carols(s, sub=s.bob.did, call=None, reply_to=s.code, body=1)),
    "another holder's promise": (
        "not_holder",
        lambda s: carols(s, sub=s.bob.did, proofs=(promised(s.ann, s.bob.did, code_of(s)),)),
    ),
    "no message": ("malformed", lambda s: b"no message"),
}


@pytest.mark.parametrize("what", INSIDE)
def test_a_message_inside_a_message_is_refused_by_name(what: str, scene: Scene) -> None:
    code, make = INSIDE[what]
    forgive(scene.ann, scene.bob)
    inner = make(scene)
    before = len(scene.ann.runs)
    effects = hand(scene.ann, scene.bob, scene.call(call=("add_one", ({nested.KEY: inner},))))
    assert signed_refusal(effects, scene.bob) == code and len(scene.ann.runs) == before


def test_a_message_inside_a_message_has_its_own_signers_authority_and_no_more() -> None:
    """Ann serves nobody. Carol was promised one use, and lets Bob present her call as often as he likes."""
    scene = Scene()
    scene.ann.do(scene.ann.kernel.owner.set_serving(0, 0))
    of_carol = promised(scene.ann, scene.carol.did, code_of(scene, uses=1))
    of_bob = promised(scene.ann, scene.bob.did, code_of(scene))
    inner = carols(scene, sub=scene.bob.did, proofs=(of_carol,), fresh=True)
    argument = ("add_one", ({nested.KEY: inner},))
    for number, fine in enumerate((True, True)):
        call = scene.call(call=argument, proofs=(of_bob,), cti=b"number %d" % number)
        (reply,) = replies(hand(scene.ann, scene.bob, call))
        assert (read_reply(reply, scene.bob).refusal is None) is fine
    assert len(scene.ann.runs) == 2, "Carol's one, and Bob's one"
    naked = scene.call(call=argument, cti=b"without a promise")
    assert signed_refusal(hand(scene.ann, scene.bob, naked), scene.bob) == "not_serving"
    another = carols(scene, sub=scene.bob.did, proofs=(of_carol,), cti=b"another one")
    call = scene.call(call=("add_one", ({nested.KEY: another},)), proofs=(of_bob,), cti=b"one use too many")
    assert signed_refusal(hand(scene.ann, scene.bob, call), scene.bob) == "used_up"


def test_one_who_hands_over_many_tiny_messages_to_carry_leaves_room_for_others() -> None:
    scene = Scene(Limits(carried=8))
    scene.ann.do(scene.ann.kernel.carriage.promise(1 << 20, 1))
    unknown = b"\xda\x67\x72\x69\x64\x82\xd8\x2a" + dagcbor.encode(b"\0" + bytes(Cid.of(b"unknown")))
    tiny = [unknown + bytes([number]) for number in range(4)]
    said = [refusals(hand(scene.ann, scene.bob, raw)) for raw in tiny]
    assert said == [[], [], ["busy"], ["busy"]]
    assert refusals(hand(scene.ann, scene.carol, tiny[3])) == []
