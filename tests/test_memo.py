"""Whose receipt spares a run is the owner's policy; a false one, however well signed, poisons nobody."""

from __future__ import annotations

import pytest
from tests import p256
from tests.scenes import (
    COMMAND,
    NUMBERS,
    add_one,
    claims_of,
    hand,
    module,
    printed,
    sealed,
    sent,
    with_claims,
)
from tests.sim import Node, World

from promisegrid import cose, did, frames
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Job, Outcome, Verify
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.receipt import Receipt, TrustPolicy
from promisegrid.task import Result, RunResult, Task


def lie(job: Job) -> Outcome:
    """What a dishonest engine answers, whatever was asked."""
    return Outcome((666).to_bytes(8, "little"), b"", 1, 0)


def grid(*names: str) -> tuple[list[Node], Cid]:
    """Nodes of one grid, all linked to the first and all serving; add_one in the store of each."""
    world = World()
    nodes = world.grid(*names)
    for node in nodes:
        node.do(node.kernel.owner.set_serving(1, 1 << 20))
        code = module(node, add_one)
    return nodes, code


def liar(node: Node, code: Cid) -> None:
    """From now on this node's engine lies about that code."""
    node.prepared[code] = (NUMBERS, lie)


def run(node: Node, code: Cid, on: Node | None = None) -> RunResult:
    done = node.do(node.kernel.run(Task(code, "add_one", (1,)), Budget(), on=on.did if on else None))
    assert isinstance(done, RunResult)
    return done


def test_a_member_who_lies_does_not_poison_a_node_that_trusts_itself() -> None:
    (ann, eve), code = grid("ann", "eve")
    liar(eve, code)
    assert run(ann, code, on=eve).value == 666, "ann asked eve, and eve said so"
    honest = run(ann, code)
    assert honest.value == 2 and not honest.cached and honest.by == ann.did
    again = run(ann, code)
    assert again.value == 2 and again.cached


def test_trusting_one_peer_does_not_mean_another() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    liar(eve, code)
    ann.do(ann.kernel.owner.set_trust("peers", [bob.did]))
    assert run(ann, code, on=eve).value == 666
    assert run(ann, code, on=bob).value == 2
    answer = run(ann, code)
    assert (answer.value, answer.cached, answer.by) == (2, True, bob.did)
    assert not ann.runs


def test_one_liar_is_no_agreement() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    liar(eve, code)
    ann.do(ann.kernel.owner.set_trust("agree", [], 2))
    assert run(ann, code, on=eve).value == 666
    assert run(ann, code, on=eve).value == 666, "the same one twice is still one"
    run(ann, code, on=bob)
    answer = run(ann, code)
    assert (answer.value, answer.cached) == (2, False), "they disagree, so it is run here"


def test_two_that_agree_spare_a_run() -> None:
    (ann, bob, carol), code = grid("ann", "bob", "carol")
    ann.do(ann.kernel.owner.set_trust("agree", [], 2))
    for peer in (bob, carol):
        run(ann, code, on=peer)
    assert run(ann, code).cached and not ann.runs


def test_a_policy_that_narrows_counts_at_once() -> None:
    (ann, eve), code = grid("ann", "eve")
    liar(eve, code)
    ann.do(ann.kernel.owner.set_trust("peers", [eve.did]))
    run(ann, code, on=eve)
    assert run(ann, code).value == 666, "the owner trusted eve"
    ann.do(ann.kernel.owner.set_trust("own", []))
    assert run(ann, code).value == 2


# -- replies made by hand ------------------------------------------------------------------------------------


def asked(ann: Node, eve: Node, code: Cid) -> tuple[int, Cid, Cid]:
    """Ann calls Eve, who says nothing: the ask, the message's name, the task."""
    eve.peer_drops = True
    before = len(ann.log)
    task = Task(code, "add_one", (1,))
    ask = ann.start(ann.kernel.run(task, Budget(), on=eve.did))
    ann.world.run()
    (message,) = [frame for frame in sent(ann.log[before:]) if isinstance(frame, frames.Message)]
    return ask, Cid.of(message.raw), task.block(ann.limits).cid


def receipt_by(secret: int, task: Cid, result: Cid, typ: cose.Typ = "grid-receipt") -> bytes:
    """A receipt signed by whatever key."""
    executor = did.encode_p256(p256.public_key(secret))
    payload = Receipt(task, result, executor, "", None, 0, None).payload()
    protected = cose.protected_header(typ)
    signature = cose.low_s(p256.sign(secret, cose.to_be_signed(protected, payload)))
    return cose.assemble(protected, payload, signature)


def reply(ann: Node, eve: Node, code: Cid, name: Cid, receipt: bytes, result: Result) -> None:
    """Eve's answer: that receipt and that result."""
    blocks = [[Cid.of(receipt), receipt], [result.block().cid, result.block().data]]
    body = {"receipt": Cid.of(receipt), "cached": True, "blocks": blocks}
    answer = with_claims(claims_of(eve, ann), call=None, reply_to=name, body=body)
    hand(ann, eve, sealed(eve, code, answer))


def test_many_keys_of_one_member_are_no_agreement() -> None:
    (ann, eve), code = grid("ann", "eve")
    ann.do(ann.kernel.owner.set_trust("agree", [], 2))
    false = Result(value=666)
    for secret in (p256.secret_of("sock"), p256.secret_of("puppet")):
        ask, name, task = asked(ann, eve, code)
        reply(ann, eve, code, name, receipt_by(secret, task, false.block().cid), false)
        assert ann.end(ask).value == 666
    answer = run(ann, code)
    assert (answer.value, answer.cached) == (2, False)


@pytest.mark.parametrize(
    "what", ["tampered", "another task", "another typ", "somebody's name", "not a result"]
)
def test_a_receipt_that_does_not_hold_is_refused_and_not_kept(what: str) -> None:
    (ann, eve), code = grid("ann", "eve")
    ask, name, task = asked(ann, eve, code)
    result = Result(value=666)
    made = receipt_by(eve.secret, task, result.block().cid)
    if what == "tampered":
        made = made.replace(b"memory\x00", b"memory\x01")
    elif what == "another task":
        made = receipt_by(eve.secret, Cid.of(b"another", "dag-cbor"), result.block().cid)
    elif what == "another typ":
        made = receipt_by(eve.secret, task, result.block().cid, "grid-capability")
    elif what == "somebody's name":
        made = made.replace(eve.did.encode(), ann.did.encode())
    else:
        made = receipt_by(eve.secret, task, Cid.of(made))
    reply(ann, eve, code, name, made, result)
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code in ("malformed", "not_found")
    assert not ann.tables["memo"]


def test_an_inline_block_under_a_wrong_name_is_refused() -> None:
    (ann, eve), code = grid("ann", "eve")
    ask, name, task = asked(ann, eve, code)
    made = receipt_by(eve.secret, task, Result(value=1).block().cid)
    blocks = [[Cid.of(made), made], [Result(value=1).block().cid, Result(value=666).block().data]]
    body = {"receipt": Cid.of(made), "cached": False, "blocks": blocks}
    hand(ann, eve, sealed(eve, code, with_claims(claims_of(eve, ann), call=None, reply_to=name, body=body)))
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code == "bad_block" and not ann.tables["memo"]


@pytest.mark.parametrize(
    "body", [None, 1, {}, {"receipt": 1, "cached": True, "blocks": []}, {"receipt": Cid.of(b""), "cached": 0}]
)
def test_a_reply_without_a_receipt(body: object) -> None:
    (ann, eve), code = grid("ann", "eve")
    ask, name, _ = asked(ann, eve, code)
    hand(ann, eve, sealed(eve, code, with_claims(claims_of(eve, ann), call=None, reply_to=name, body=body)))
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code == "malformed"


def test_only_the_one_who_was_asked_can_answer() -> None:
    (ann, bob, eve), code = grid("ann", "bob", "eve")
    ask, name, task = asked(ann, bob, code)
    false = Result(value=666)
    reply(ann, eve, code, name, receipt_by(eve.secret, task, false.block().cid), false)
    assert ask not in ann.replies
    hand_refusal = frames.encode(frames.Refusal("trap", "It trapped.", name))
    ann.perform(ann.kernel.receive(max(ann.links), hand_refusal, ann.world.now_ms))
    ann.world.run()
    assert ask not in ann.replies, "nor refuse"
    with pytest.raises(RemoteError) as wrong:
        ann.end(ask)
    assert wrong.value.code in ("out_of_time", "closed")


# -- content that is gone ------------------------------------------------------------------------------------


def test_a_result_that_is_lost_is_computed_again() -> None:
    (ann,), code = grid("ann")
    first = run(ann, code)
    for cid in (first.result, first.receipt):
        ann.kernel._memo.forget()
        kept = ann.tables["blocks"].pop(bytes(cid))
        assert not run(ann, code).cached
        assert ann.tables["blocks"][bytes(first.result)] and kept


def test_a_result_that_has_rotted_is_computed_again() -> None:
    (ann,), code = grid("ann")
    first = run(ann, code)
    ann.tables["blocks"][bytes(first.result)] += b"\0"
    assert run(ann, code).cached, "a value just computed is at hand, whatever became of its block"
    ann.kernel._memo.forget()
    again = run(ann, code)
    assert not again.cached and again.result == first.result and run(ann, code).cached


def test_a_lost_leaf_of_a_large_output_is_computed_again() -> None:
    (ann,), _ = grid("ann")
    content = bytes(range(256)) * 5000
    code = module(ann, lambda job: printed(content), COMMAND, b"large")
    first = ann.do(ann.kernel.run(Task(code), Budget()))
    leaf = max(ann.tables["blocks"], key=lambda key: len(ann.tables["blocks"][key]))
    del ann.tables["blocks"][leaf]
    again = ann.do(ann.kernel.run(Task(code), Budget()))
    assert not again.cached and again.result == first.result and ann.get(again.stdout) == content
    assert ann.do(ann.kernel.run(Task(code), Budget())).cached


def test_an_answer_in_memory_whose_content_is_gone_is_computed_again() -> None:
    (ann,), _ = grid("ann")
    task = Task(module(ann, lambda job: printed(b"some output"), COMMAND, b"prints"))
    first = ann.do(ann.kernel.run(task, Budget()))
    assert ann.do(ann.kernel.run(task, Budget())).cached and first.stdout is not None
    del ann.tables["blocks"][bytes(first.stdout)]
    assert not ann.do(ann.kernel.run(task, Budget())).cached
    assert ann.get(first.stdout) == b"some output"


def test_a_receipt_is_verified_once() -> None:
    (ann,), code = grid("ann")
    run(ann, code)
    before = len(ann.log)
    ann.kernel._memo.forget()
    assert run(ann, code).cached
    assert not [effect for effect in ann.log[before:] if isinstance(effect, Verify)]


def test_what_is_remembered_survives_a_restart() -> None:
    (ann,), code = grid("ann")
    first = run(ann, code)
    twin = Node(ann.world, "ann")
    twin.tables = ann.tables
    ann.world.nodes[:] = [twin]
    twin.do(twin.kernel.owner.boot())
    again = run(twin, code)
    assert again.cached and again.receipt == first.receipt and not twin.runs
    assert twin.do(twin.kernel.owner.serving()) == {"cpu": 1, "memory": 1 << 20}


def test_trust_is_checked_when_it_is_given() -> None:
    (ann,), _ = grid("ann")
    for mode, dids, agree in (("all", [], 2), ("agree", [], 1), ("peers", ["bob"], 2)):
        with pytest.raises(LocalError):
            ann.do(ann.kernel.owner.set_trust(mode, dids, agree))
    assert ann.do(ann.kernel.owner.trust()) == {"mode": "own", "dids": [], "agree": 2}


A, B = Cid.of(b"a"), Cid.of(b"b")
POLICIES: list[tuple[TrustPolicy, list[tuple[str, Cid]], Cid | None]] = [
    (TrustPolicy(), [], None),
    (TrustPolicy(), [("bob", A)], None),
    (TrustPolicy(), [("bob", A), ("me", B)], B),
    (TrustPolicy("own", frozenset({"bob"})), [("bob", A)], None),
    (TrustPolicy("peers", frozenset({"bob"})), [("eve", B), ("bob", A)], A),
    (TrustPolicy("peers", frozenset({"bob"})), [("eve", B)], None),
    (TrustPolicy("agree"), [("bob", A), ("bob", A)], None),
    (TrustPolicy("agree"), [("bob", A), ("eve", A)], A),
    (TrustPolicy("agree"), [("bob", A), ("eve", A), ("dan", B)], None),
    (TrustPolicy("agree", agree=3), [("bob", A), ("eve", A)], None),
    (TrustPolicy("agree"), [("me", B), ("bob", A), ("eve", A)], B),
]


@pytest.mark.parametrize("case", range(len(POLICIES)))
def test_the_policy_as_a_table(case: int) -> None:
    policy, said, expected = POLICIES[case]
    assert policy.choose("me", said) == expected


@pytest.mark.parametrize(("most", "kept"), [(8, 1), (7, 0)])
def test_only_short_answers_are_kept_in_memory(most: int, kept: int) -> None:
    """Four thousand values of a megabyte would be many gigabytes; they are answered from the store."""
    (ann,) = World().grid("ann", limits=Limits(memo_recent_bytes=most))
    code = module(ann, add_one)
    first, again = run(ann, code), run(ann, code)
    assert (first.cached, again.cached) == (False, True) and len(ann.runs) == 1
    assert len(Result(value=2).block().data) == 8 and len(ann.kernel._memo._recent) == kept
