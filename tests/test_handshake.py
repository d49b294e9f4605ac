"""Nobody is in who has not proved a key, a grid and this very connection; and invitations are used once."""

from __future__ import annotations

from typing import Any

import pytest
from tests import p256
from tests.scenes import sent
from tests.sim import Node, World

from promisegrid import capability, claims, cose, dagcbor, did, frames, membership
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Send, Verify
from promisegrid.errors import LocalError
from promisegrid.frames import Hello, Join, Proof
from promisegrid.limits import Limits


def founder(limits: Limits | None = None) -> tuple[World, Node]:
    world = World()
    (ann,) = world.grid("ann", limits=limits)
    return world, ann


def why(node: Node) -> list[str]:
    """The codes of the links that failed, as the owner was told."""
    notes = [note.detail for note in node.notes if note.kind == "peer" and note.detail["event"] == "down"]
    return [str(detail["code"]) for detail in notes if detail["code"] is not None]


def test_both_sides_prove_themselves_and_meet() -> None:
    world, ann = founder()
    bob = world.node("bob")
    world.link(bob, ann, ann.do(ann.kernel.owner.invite()))
    assert ann.peers() == ["bob"] and bob.peers() == ["ann"]
    assert bob.kernel.grid == ann.kernel.grid is not None
    assert ann.do(ann.kernel.owner.members()) == [bob.did]
    kinds = [type(frame).__name__ for frame in sent(bob.log)]
    assert kinds[:3] == ["Hello", "Proof", "Join"]
    assert [type(frame).__name__ for frame in sent(ann.log)][:3] == ["Hello", "Proof", "Admitted"]


def test_a_member_needs_no_second_invitation_and_two_members_meet_without_the_founder() -> None:
    world = World()
    _, bob, carol = world.grid("ann", "bob", "carol")
    world.link(carol, bob)
    assert sorted(carol.peers()) == ["ann", "bob"]
    twin = Node(world, "bob")
    twin.tables = bob.tables
    world.nodes.remove(bob)
    world.nodes.append(twin)
    twin.do(twin.kernel.owner.boot())
    world.link(twin, carol)
    assert twin.peers() == ["carol"]


# -- strangers -----------------------------------------------------------------------------------------------


class Stranger:
    """A peer by hand: it may say anything. It claims a name, and signs with a key."""

    def __init__(self, node: Node, claimed: str, secret: int, grid: Cid | None = None) -> None:
        self.node, self.claimed, self.secret = node, claimed, secret
        self.grid = grid or node.kernel.grid
        self.link = node.next_link
        node.next_link += 1
        self.start = len(node.log)
        node.perform(node.kernel.connect(self.link, "responder", "b/grid", "ws", node.world.now_ms))
        node.world.run()

    def heard(self) -> list[frames.Frame]:
        effects = [e for e in self.node.log[self.start :] if not isinstance(e, Send) or e.link == self.link]
        return sent(effects)

    def say(self, frame: frames.Frame | bytes) -> None:
        data = frame if isinstance(frame, bytes) else frames.encode(frame)
        self.node.perform(self.node.kernel.receive(self.link, data, self.node.world.now_ms))
        self.node.world.run()

    def hello(self, channel: str = "b/grid", role: str = "initiator", version: int = 1) -> Hello:
        return Hello(version, self.claimed, b"n" * 32, self.grid, role, channel)

    def proof(self, mine: Hello, proved_on: str | None = None, member: bytes | None = None) -> Proof:
        (theirs,) = [frame for frame in self.heard() if isinstance(frame, Hello)]
        channel = proved_on or mine.channel
        nonces = (mine.nonce, theirs.nonce)
        transcript = dagcbor.encode(
            ["hello", 1, self.node.kernel.grid, channel, mine.role, mine.did, theirs.did, *nonces]
        )
        protected = cose.protected_header("grid-hello")
        raw = cose.low_s(p256.sign(self.secret, cose.to_be_signed(protected, transcript)))
        return Proof(cose.assemble(protected, None, raw), member, None)

    def refused(self) -> str:
        (refusal,) = [frame for frame in self.heard() if isinstance(frame, frames.Refusal)]
        assert self.node.closed[-1].link == self.link
        return refusal.code

    @property
    def is_in(self) -> bool:
        return any(peer["did"] == self.claimed for peer in self.node.kernel.peers())


EVE = p256.secret_of("eve")
EVE_DID = did.encode_p256(p256.public_key(EVE))


def membership_of(ann: Node, member: str, secret: int | None = None, **changes: Any) -> bytes:
    """A membership by hand."""
    now = ann.world.now_ms // 1000
    fields: dict[str, Any] = {
        "iss": ann.did,
        "aud": member,
        "exp": now + 1000,
        "cti": b"12345678",
        "body": {"grid": ann.kernel.grid, "promise": {"ability": "member"}, "delegate": 0},
        "extra": {claims.CNF: {3: member.encode()}},
        **{name: value(ann) if callable(value) else value for name, value in changes.items()},
    }
    payload = claims.Claims(**fields).encode()
    protected = cose.protected_header("grid-capability")
    raw = p256.sign(secret or ann.secret, cose.to_be_signed(protected, payload))
    return capability.pack([cose.assemble(protected, payload, cose.low_s(raw))])


def test_the_strangers_of_this_file_get_in_when_they_are_honest() -> None:
    _, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(hello := eve.hello())
    eve.say(eve.proof(hello, member=membership_of(ann, EVE_DID)))
    assert eve.is_in


def test_somebody_who_claims_anothers_key() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    eve = Stranger(ann, bob.did, EVE)
    proved = ann.tables["grid"][b"member/" + bob.did.encode()]
    eve.say(hello := eve.hello())
    eve.say(eve.proof(hello, member=proved))
    assert eve.refused() == "hello" and ann.peers() == ["bob"]


def test_a_proof_made_for_another_connection() -> None:
    _, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(hello := eve.hello())
    eve.say(eve.proof(hello, proved_on="elsewhere/grid", member=membership_of(ann, EVE_DID)))
    assert eve.refused() == "hello" and not eve.is_in


def test_a_relay_in_the_middle_has_another_channel() -> None:
    world, ann = founder()
    bob = world.node("bob")
    secret = ann.do(ann.kernel.owner.invite())
    world.link(bob, ann, secret, channels=("relay.example/grid", "b/grid"))
    assert not ann.peers() and not bob.peers() and bob.kernel.grid is None
    assert "hello" in why(ann) + why(bob)
    world.link(bob, ann, secret)
    assert ann.peers() == ["bob"], "and the invitation is not used up"


def test_a_hello_played_back_to_its_sender() -> None:
    _, ann = founder()
    mirror = Stranger(ann, ann.did, EVE)
    (hello,) = [frame for frame in mirror.heard() if isinstance(frame, Hello)]
    mirror.say(hello)
    assert mirror.refused() == "hello"


def test_a_proof_played_back_is_of_the_other_role() -> None:
    _, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(eve.hello())
    (theirs,) = [frame for frame in eve.heard() if isinstance(frame, Proof)]
    eve.say(theirs)
    assert eve.refused() == "hello"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"version": 2}, "hello"),
        ({"role": "responder"}, "hello"),
        ({"role": "both"}, "hello"),
        ({"nonce": b"short"}, "hello"),
        ({"channel": "other.example/grid"}, "hello"),
        ({"grid": Cid.of(b"another", "dag-cbor")}, "wrong_grid"),
        ({"did": "did:web:eve"}, "bad_claims"),
    ],
)
def test_a_hello_that_does_not_fit(change: dict[str, object], code: str) -> None:
    _, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    fields = {name: getattr(eve.hello(), name) for name in Hello.__slots__} | change
    hello = Hello(**fields)
    eve.say(hello)
    if not any(isinstance(frame, frames.Refusal) for frame in eve.heard()):
        eve.say(eve.proof(hello))
    assert eve.refused() == code and not eve.is_in


def test_a_peer_that_says_nothing_is_let_go() -> None:
    world, ann = founder()
    silent = Stranger(ann, EVE_DID, EVE)
    world.pass_time(ann.limits.hello_ms - 1)
    assert not ann.closed
    world.pass_time(1)
    assert silent.refused() == "hello"
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(eve.hello())
    world.pass_time(ann.limits.hello_ms)
    assert eve.refused() == "hello", "nor does half a greeting help"


@pytest.mark.parametrize("frame", [frames.Ping(1), frames.Want(Cid.of(b""), 1), frames.Message(b""), b"\xff"])
def test_nothing_but_a_greeting_is_heard_at_first(frame: frames.Frame | bytes) -> None:
    _, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(frame)
    assert eve.refused() in ("hello", "malformed")
    assert not [effect for effect in ann.log[eve.start :] if isinstance(effect, Verify | Commit)]


def test_a_link_that_goes_down_while_it_is_greeted_never_opens() -> None:
    world, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(hello := eve.hello())
    proof = frames.encode(eve.proof(hello, member=membership_of(ann, EVE_DID)))
    effects = ann.kernel.receive(eve.link, proof, world.now_ms)
    ann.perform(ann.kernel.disconnect(eve.link, world.now_ms))
    ann.perform(effects)
    world.run()
    assert not eve.is_in
    assert [n for n in ann.notes if n.kind == "peer" and n.detail["event"] == "up"] == []


# -- membership ----------------------------------------------------------------------------------------------

YEAR = 365 * 24 * 3600


def _body(**changes: Any) -> Any:
    """The body of a membership, of ann's grid unless said otherwise."""
    return lambda ann: {
        "grid": ann.kernel.grid, "promise": {"ability": "member"}, "delegate": 0, **changes
    }  # fmt: skip


FALSE_MEMBERSHIPS: dict[str, dict[str, Any]] = {
    "another key's": {"aud": "did:key:zDnaerx9CtbPJ1q36T5Ln5wYt3MQYeGRG5ehnPAmxcf5mDZpv"},
    "another grid's": {"body": _body(grid=Cid.of(b"another", "dag-cbor"))},
    "another ability": {"body": _body(promise={"ability": "guest"})},
    "with a budget": {"body": _body(budget={"fuel": 1})},
    "for so many uses": {"body": _body(uses=1)},
    "of the first shape": {"body": {"ability": "member"}},
    "by somebody else": {"iss": EVE_DID, "secret": EVE},
    "forged": {"secret": EVE},
    "bound to another key": {"extra": {claims.CNF: {3: b"did:key:zOther"}}},
    "bound to no key": {"extra": {}},
    "expired": {"exp": 1_700_000_000},
}


@pytest.mark.parametrize("what", FALSE_MEMBERSHIPS)
def test_a_membership_that_does_not_hold(what: str) -> None:
    _, ann = founder()
    eve = Stranger(ann, EVE_DID, EVE)
    eve.say(hello := eve.hello())
    eve.say(eve.proof(hello, member=membership_of(ann, EVE_DID, **FALSE_MEMBERSHIPS[what])))
    assert eve.refused() == "not_member" and not eve.is_in


def test_a_membership_of_no_shape() -> None:
    _, ann = founder()
    for number, proof in enumerate((b"", b"\xff", b"x" * 1000)):
        eve = Stranger(ann, EVE_DID, EVE)
        eve.say(hello := eve.hello())
        eve.say(eve.proof(hello, member=proof))
        assert eve.refused() == "not_member", number


def test_the_founder_renews_a_membership_in_its_second_half() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    before = bob.tables["grid"][b"membership"]
    world.cut(bob, max(bob.links))
    world.run()
    world.link(bob, ann)
    assert bob.tables["grid"][b"membership"] == before
    world.cut(bob, max(bob.links))
    world.run()
    world.now_ms += (membership.LIFE_S // 2 + 1) * 1000
    world.link(bob, ann)
    world.run()
    after = bob.tables["grid"][b"membership"]
    assert after != before and ann.peers() == ["bob"]
    state = bob.kernel._state
    assert state.membership is not None and state.membership.proof == after


def test_a_member_that_comes_back_after_its_membership_expired_is_admitted_anew() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    world.cut(bob, max(bob.links))
    world.run()
    world.now_ms += (membership.LIFE_S + 3600) * 1000
    twin = Node(world, "bob")
    twin.tables = bob.tables
    world.nodes.append(twin)
    assert twin.do(twin.kernel.owner.boot())["grid"] == str(ann.kernel.grid)
    world.link(twin, ann)
    assert twin.kernel._state.membership is not None and len(ann.kernel.peers()) == 1


# -- joining -------------------------------------------------------------------------------------------------


def test_an_invitation_is_used_as_often_as_it_says() -> None:
    world, ann = founder()
    twice = ann.do(ann.kernel.owner.invite(uses=2))
    joiners = [world.node(name) for name in ("bob", "carol", "dan")]
    for joiner in joiners:
        world.link(joiner, ann, twice)
    assert sorted(ann.peers()) == ["bob", "carol"]
    assert why(joiners[2]) == ["bad_invitation"] and joiners[2].kernel.grid is None
    assert not [key for key in ann.tables["grid"] if key.startswith(b"invitation/")], "and is forgotten then"


def test_two_race_for_one_invitation() -> None:
    world, ann = founder()
    secret = ann.do(ann.kernel.owner.invite())
    bob, carol = world.node("bob"), world.node("carol")
    for joiner in (bob, carol):
        near, far = joiner.next_link, ann.next_link
        joiner.next_link, ann.next_link = near + 1, far + 1
        joiner.links[near], ann.links[far] = (ann, far), (joiner, near)
        joiner.perform(joiner.kernel.connect(near, "initiator", "b/grid", "ws", world.now_ms, invite=secret))
        ann.perform(ann.kernel.connect(far, "responder", "b/grid", "ws", world.now_ms))
    world.run()
    assert len(ann.peers()) == 1 and len(ann.do(ann.kernel.owner.members())) == 1
    assert sorted(why(bob) + why(carol)) == ["bad_invitation"]


@pytest.mark.parametrize("secret", [None, b"", b"0123456789abcdef"])
def test_no_invitation_or_a_wrong_one(secret: bytes | None) -> None:
    world, ann = founder()
    bob = world.node("bob")
    world.link(bob, ann, secret)
    assert why(bob) == ["bad_invitation"] and not ann.peers()


def test_an_invitation_expires() -> None:
    world, ann = founder()
    secret = ann.do(ann.kernel.owner.invite(days=1))
    world.now_ms += 24 * 3600 * 1000 + 1000
    bob = world.node("bob")
    world.link(bob, ann, secret)
    assert why(bob) == ["bad_invitation"]
    for _ in range(2):
        ann.do(ann.kernel.owner.invite())
    keys = [key for key in ann.tables["grid"] if key.startswith(b"invitation/")]
    assert membership.invitation_key(secret) not in keys, "stale ones are swept away"


def test_the_store_of_a_founder_invites_nobody() -> None:
    _, ann = founder()
    secret = ann.do(ann.kernel.owner.invite())
    assert not any(secret in key + value for key, value in ann.tables["grid"].items())


def test_the_door_may_stand_open() -> None:
    world, ann = founder()
    ann.kernel.open_mode = True
    bob = world.node("bob")
    world.link(bob, ann)
    assert ann.peers() == ["bob"] and ann.do(ann.kernel.owner.members()) == [bob.did]


def test_whoever_was_admitted_in_person_needs_no_invitation() -> None:
    world, ann = founder()
    bob = world.node("bob")
    ann.do(ann.kernel.owner.admit(bob.did))
    world.link(bob, ann)
    assert ann.peers() == ["bob"]
    with pytest.raises(LocalError):
        ann.do(ann.kernel.owner.admit("bob"))


def test_a_member_whose_membership_may_not_be_passed_on_admits_nobody() -> None:
    world = World()
    _, bob = world.grid("ann", "bob")
    carol = world.node("carol")
    world.link(carol, bob)
    assert why(carol) == ["not_member"] and carol.kernel.grid is None
    for verb in (bob.kernel.owner.invite(), bob.kernel.owner.admit(carol.did)):
        with pytest.raises(LocalError, match="may not admit"):
            bob.do(verb)


def test_a_membership_from_the_wrong_hand_is_not_taken() -> None:
    world, ann = founder()
    bob = world.node("bob")
    link = bob.next_link
    bob.perform(bob.kernel.connect(link, "initiator", "b/grid", "ws", world.now_ms))
    eve = Stranger.__new__(Stranger)
    eve.node, eve.claimed, eve.secret, eve.grid, eve.link, eve.start = (
        bob,
        EVE_DID,
        EVE,
        ann.kernel.grid,
        link,
        0,
    )
    hello = eve.hello(role="responder")
    eve.say(hello)
    bob.kernel._state.genesis_data = None
    (theirs,) = [frame for frame in eve.heard() if isinstance(frame, Hello)]
    transcript = dagcbor.encode(
        ["hello", 1, eve.grid, "b/grid", "responder", EVE_DID, bob.did, hello.nonce, theirs.nonce]
    )
    protected = cose.protected_header("grid-hello")
    raw = cose.low_s(p256.sign(EVE, cose.to_be_signed(protected, transcript)))
    genesis = ann.tables["grid"][b"genesis"]
    eve.say(Proof(cose.assemble(protected, None, raw), membership_of(ann, EVE_DID), genesis))
    assert not [frame for frame in eve.heard() if isinstance(frame, Join)], "eve is not the founder"
    assert why(bob) == ["not_member"] and bob.kernel.grid is None


def test_two_that_are_in_no_grid() -> None:
    world = World()
    bob, carol = world.node("bob"), world.node("carol")
    world.link(bob, carol)
    assert "hello" in why(bob) and bob.kernel.grid is None


def test_two_grids_do_not_mix() -> None:
    world = World()
    (ann,) = world.grid("ann")
    (bob,) = world.grid("bob")
    world.link(bob, ann)
    assert not ann.peers() and "wrong_grid" in why(ann) + why(bob)


def test_a_node_that_reaches_itself() -> None:
    world, ann = founder()
    world.link(ann, ann)
    assert not ann.peers() and set(why(ann)) <= {"hello", "closed"}


def test_a_second_link_of_a_peer_replaces_the_first() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    world.link(bob, ann)
    assert ann.peers() == ["bob"] and bob.peers() == ["ann"]
    assert [close.code for close in ann.closed + bob.closed]


def test_links_are_bounded() -> None:
    world, ann = founder(Limits(links=2))
    for number in range(3):
        ann.perform(ann.kernel.connect(100 + number, "responder", "b/grid", "ws", world.now_ms))
    assert [(close.link, close.code) for close in ann.closed] == [(100, "busy")], "the oldest stranger goes"


def test_strangers_are_bounded() -> None:
    """However much room there is: each may have half a frame in our memory."""
    world, ann = founder(Limits(greeting=2))
    ann.perform(ann.kernel.connect(99, "initiator", "a/grid", "ws", world.now_ms))
    for number in range(4):
        ann.perform(ann.kernel.connect(100 + number, "responder", "b/grid", "ws", world.now_ms))
    assert [(close.link, close.code) for close in ann.closed] == [(100, "busy"), (101, "busy")]


def test_another_key_in_the_same_home_is_told_what_to_do() -> None:
    world = World()
    _, bob = world.grid("ann", "bob")
    carol = Node(world, "carol")
    carol.tables = bob.tables
    with pytest.raises(LocalError, match="use another home"):
        carol.do(carol.kernel.owner.boot())
