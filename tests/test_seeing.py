"""What can be seen of a node: every frame is counted once, where it went; jobs are shown where they run."""

from __future__ import annotations

import json
from typing import Any

from tests.scenes import add_one, chain, claims_of, hand, module, never, sealed
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Send
from promisegrid.errors import CODES, RemoteError
from promisegrid.limits import Limits
from promisegrid.task import Task
from promisegrid.traffic import OTHER, Totals, Traffic

MIB = 1024 * 1024
Row = dict[str, Any]


def view(node: Node) -> Row:
    return node.kernel.seeing.view()


def link_of(node: Node, peer: Node, via: str = "ws") -> Row:
    """What a node's view says of its link to a peer."""
    (found,) = [one for one in view(node)["links"] if one["did"] == peer.did and one["via"] == via]
    row: Row = found
    return row


def serve(node: Node) -> None:
    node.do(node.kernel.owner.set_serving(2, MIB))


def call(node: Node, on: Node, number: int = 41) -> None:
    node.do(node.kernel.run(Task(module(node, add_one), "add_one", (number,)), Budget(), on=on.did))


def test_what_one_end_sends_the_other_receives() -> None:
    ann, bob = World().grid("ann", "bob")
    cid = bob.put(bytes(range(256)) * 4096)
    ann.get(cid)
    one, other = link_of(ann, bob), link_of(bob, ann)
    for what in ("bytes", "frames", "blocks"):
        assert one[f"{what}_in"] == other[f"{what}_out"] > 0
        assert one[f"{what}_out"] == other[f"{what}_in"]
    assert one["bytes_in"] > MIB > one["bytes_out"] and one["blocks_out"] == 0
    sent = [e.frame for e in bob.log if isinstance(e, Send)]
    assert (other["frames_out"], other["bytes_out"]) == (len(sent), sum(map(len, sent)))


def test_a_block_that_nobody_has_does_not_count() -> None:
    ann, bob = World().grid("ann", "bob")
    ask = ann.start(ann.kernel.block(Cid.of(b"nowhere")))
    ann.world.run(lambda: ask in ann.replies)
    assert link_of(ann, bob)["blocks_in"] == link_of(bob, ann)["blocks_out"] == 0


def test_a_block_nobody_asked_for_does_not_count() -> None:
    ann, bob = World().grid("ann", "bob")
    cid = bob.put(b"once")
    ann.get(cid)
    before = link_of(ann, bob)["blocks_in"]
    for send in [e for e in bob.log if isinstance(e, Send) and b"once" in e.frame]:
        bob.world.carry(bob, send)  # the same again
    ann.world.run()
    assert link_of(ann, bob)["blocks_in"] == before == 1


def test_calls_are_counted_on_both_ends() -> None:
    ann, bob = World().grid("ann", "bob")
    before = link_of(ann, bob)["asked"], link_of(bob, ann)["served"]
    serve(bob)
    call(ann, bob)
    assert link_of(ann, bob)["asked"] == before[0] + 1 and link_of(bob, ann)["served"] == before[1] + 1
    bob.do(bob.kernel.owner.set_serving(0, 0))
    ask = ann.start(ann.kernel.run(Task(module(ann, add_one), "add_one", (2,)), Budget(), on=bob.did))
    ann.world.run(lambda: ask in ann.replies)
    assert link_of(bob, ann)["refused"] == 1 and link_of(bob, ann)["served"] == before[1] + 1
    assert bob.kernel.seeing.counts()["refusals"] == {"not_serving": 1}


def test_where_results_came_from() -> None:
    ann, bob = World().grid("ann", "bob")
    serve(bob)
    task = Task(module(ann, add_one), "add_one", (1,))
    for on in (None, None, bob.did):
        ann.do(ann.kernel.run(task, Budget(), on=on))
    ann.do(ann.kernel.run(task, Budget(), on=bob.did))
    assert ann.kernel.seeing.counts()["answers"] == {
        "here": 1, "remembered": 1, "there": 1, "remembered_of_peer": 1,
    }  # fmt: skip
    assert bob.kernel.seeing.counts()["answers"] == {"here": 1, "remembered": 1}


def test_what_passes_through_is_counted_as_carried_and_on_the_links_below() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    serve(eve)
    call(ann, eve)
    cid = eve.put(bytes(MIB))
    before = link_of(bob, eve)
    circuit = next(one for one in ann.kernel._state.open_links() if one.did == eve.did)
    ann.do(ann.kernel._exchange.fetch(cid, circuit))
    relayed = link_of(ann, eve, "relay")
    assert relayed["through"] == bob.did and link_of(ann, bob)["through"] is None
    assert relayed["bytes_in"] == link_of(eve, ann, "relay")["bytes_out"] > MIB
    assert link_of(bob, eve)["carried"] - before["carried"] > MIB
    assert link_of(bob, eve)["carried"] == relayed["bytes_in"], "each byte once, where it came in"
    assert link_of(bob, ann)["carried"] == relayed["bytes_out"]
    assert link_of(ann, bob)["bytes_in"] > relayed["bytes_in"], "wrapped, on the link below"
    assert link_of(ann, bob)["carried"] == 0
    counts = bob.kernel.seeing.counts()
    assert counts["links"].keys() == {"ws"} and counts["circuits"] == 1
    assert ann.kernel.seeing.counts()["links"]["relay"]["bytes_in"] == relayed["bytes_in"]


def test_who_is_near_and_through_whom() -> None:
    ann, bob, eve = chain("ann", "bob", "eve")
    serve(eve)
    ann.world.pass_time(2_000)
    seen = view(ann)
    assert seen["near"] == [{"did": eve.did, "serves": True, "engine": "python", "through": bob.did}]
    assert seen["near_count"] == 1 and seen["me"] == ann.did and not seen["serves"]
    assert view(bob)["near"] == []


def test_what_runs_where() -> None:
    ann, bob = World().grid("ann", "bob")
    serve(bob)
    code = module(ann, never)
    task = Task(code, "add_one", (1,))
    bob.world.pass_time(5_000)
    ask = ann.start(ann.kernel.run(task, Budget(), on=bob.did))
    ann.world.run()
    name = str(task.block(Limits()).cid)
    same = {"task": name, "code": str(code), "func": "add_one", "since_ms": ann.world.now_ms}
    assert view(ann)["there"] == [{**same, "by": bob.did}] and view(ann)["here"] == []
    assert view(bob)["here"] == [{**same, "for": ann.did, "waits": False}] and view(bob)["there"] == []
    counts = bob.kernel.seeing.counts()
    assert (counts["running"], counts["waiting"], ann.kernel.seeing.counts()["away"]) == (1, 0, 1)
    ann.perform(ann.kernel.cancel(ask, ann.world.now_ms))
    ann.world.run()
    assert view(ann)["there"] == view(bob)["here"] == []


def test_one_that_waits_for_its_turn_is_told_from_one_that_runs() -> None:
    ann, bob = World().grid("ann", "bob")
    bob.do(bob.kernel.owner.set_serving(1, MIB))
    code = module(ann, never)
    for number in range(2):
        ann.start(ann.kernel.run(Task(code, "add_one", (number,)), Budget(), on=bob.did))
    ann.world.run()
    assert sorted(row["waits"] for row in view(bob)["here"]) == [False, True]
    assert bob.kernel.seeing.counts()["waiting"] == 1


def test_lists_are_cut_and_say_so() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(seen_rows=1))
    bob.do(bob.kernel.owner.set_serving(4, MIB))
    code = module(ann, never)
    for number in range(3):
        ann.start(ann.kernel.run(Task(code, "add_one", (number,)), Budget(), on=bob.did))
    ann.world.run()
    seen = view(ann)
    assert (len(seen["there"]), seen["there_count"]) == (1, 3)
    assert (len(view(bob)["here"]), view(bob)["here_count"]) == (1, 3)


def test_what_a_link_counted_outlives_it() -> None:
    ann, bob = World().grid("ann", "bob")
    ann.get(bob.put(bytes(MIB)))
    was = ann.kernel.seeing.counts()["links"]["ws"]
    ann.world.cut(ann, next(iter(ann.links)))
    ann.world.run()
    now = ann.kernel.seeing.counts()["links"]["ws"]
    assert (was["open"], now["open"], now["opened"]) == (1, 0, 1) and view(ann)["links"] == []
    assert now["bytes_in"] >= was["bytes_in"] > MIB and now["blocks_in"] == was["blocks_in"] > 0
    ann.world.link(bob, ann)
    again = ann.kernel.seeing.counts()["links"]["ws"]
    assert again["opened"] == 2 and again["bytes_in"] > now["bytes_in"]


def test_a_bad_signature_and_an_unsigned_refusal_are_counted() -> None:
    ann, bob = World().grid("ann", "bob")
    raw = bytearray(sealed(bob, Cid.of(b"code"), claims_of(bob, ann)))
    raw[-1] ^= 1
    hand(ann, bob, bytes(raw))
    hand(ann, bob, b"no message")
    counts = ann.kernel.seeing.counts()
    assert counts["bad_signatures"] == 1
    assert counts["refusals"] == {"bad_signature": 1, "malformed": 1}
    ann.world.cut(ann, next(iter(ann.links)))
    ann.world.run()
    assert ann.kernel.seeing.counts()["bad_signatures"] == 1


def test_names_that_strangers_choose_do_not_make_it_grow() -> None:
    totals = Totals()
    for code in ("made up", "x" * 1000, "busy"):
        totals.refused(RemoteError.from_wire(code, ""))
    totals.ended("carrier pigeon", Traffic(bytes_in=3), 0)
    totals.ended("smoke", Traffic(bytes_in=4), 0)
    assert set(totals.refusals) <= set(CODES) and totals.refusals["busy"] == 1
    assert set(totals.gone) == {OTHER} and totals.gone[OTHER].bytes_in == 7


def test_a_view_is_plain_and_changes_nothing() -> None:
    ann, bob, _ = chain("ann", "bob", "eve")
    serve(bob)
    call(ann, bob)
    assert json.loads(json.dumps(view(ann))) == view(ann)
    assert json.loads(json.dumps(ann.kernel.seeing.counts())) == ann.kernel.seeing.counts()
    assert ann.kernel.tick(ann.world.now_ms) == []


def test_what_waits_to_be_sent_is_told() -> None:
    ann, bob = World().grid("ann", "bob", limits=Limits(link_credit=2))
    serve(bob)
    code = module(ann, never)
    for number in range(4):
        ann.start(ann.kernel.run(Task(code, "add_one", (number,)), Budget(), on=bob.did))
    ann.world.run()
    assert link_of(ann, bob)["unsent"] == 2 and link_of(bob, ann)["unsent"] == 0
    assert ann.kernel.seeing.counts()["links"]["ws"]["unsent"] == 2


def test_topics_are_counted() -> None:
    ann, bob = World().grid("ann", "bob")
    ann.do(ann.kernel.topics.follow("news"))
    bob.do(bob.kernel.topics.follow("news"))
    bob.do(bob.kernel.topics.publish("news", "hello"))
    ann.world.run()
    counts = ann.kernel.seeing.counts()
    assert (counts["topics"], counts["entries"]) == (1, 1)
