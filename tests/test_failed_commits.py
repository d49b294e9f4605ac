"""A commit that fails leaves the book of promises as the disk has it; the same works once there is room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.scenes import add_one, module
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Cancel, Commit, Failure, Reply
from promisegrid.errors import LocalError, RemoteError
from promisegrid.task import Deferred, Task

FULL = Failure("disk_full", "The store is full.")


class Scene:
    """Ann promises; Bob holds one that is kept later and one that may be passed on; Eve holds nothing."""

    def __init__(self) -> None:
        self.world = World()
        self.ann, self.bob, self.eve = self.world.grid("ann", "bob", "eve")
        self.world.link(self.eve, self.bob)
        self.code = module(self.ann, add_one)
        self.later = self.given(self.bob, later=True)
        self.plain = self.given(self.bob, delegate=2, uses=9)
        self.first = self.run(self.bob, self.later, 1)
        self.second = self.run(self.bob, self.later, 2)

    def given(self, holder: Node, **terms: Any) -> Cid:
        made = self.ann.do(self.ann.kernel.promises.grant(holder.did, {"code": self.code}, **terms))
        name = made.promise
        assert isinstance(name, Cid)
        return name

    def passed_on(self) -> Cid:
        made = self.bob.do(self.bob.kernel.promises.delegate(self.plain, self.eve.did, delegate=1))
        assert made.delivered, "Eve can hold it"
        name = made.promise
        assert isinstance(name, Cid)
        return name

    def run(self, node: Node, name: Cid, number: int) -> Cid | None:
        asked = node.kernel.run(
            Task(self.code, "add_one", (number,)), Budget(), on=self.ann.did, proofs=(name,)
        )
        done = node.do(asked)
        return done.call if isinstance(done, Deferred) else None

    def token(self) -> bytes:
        """A promise to Bob that was not handed over."""
        for link in list(self.bob.links):
            self.world.cut(self.bob, link)
        self.world.run()
        made = self.ann.do(self.ann.kernel.promises.grant(self.bob.did, {"ability": "member"}, delegate=1))
        assert isinstance(made.token, bytes)
        return made.token


def book(node: Node) -> dict[str, Any]:
    """What a node knows of promises, and whether it is a member."""
    ledger = node.kernel.promises._ledger
    member = node.kernel._state.membership
    return {
        "known": set(ledger.known),
        "ours": ledger.known.ours(),
        "gone": set(ledger.gone),
        "calls": {name: call.state for name, call in ledger.calls.items()},
        "call_of": dict(ledger.call_of),
        "waits": set(ledger.waits),
        "said": sorted((at, str(name)) for at, name in ledger.said),
        "uses": {name: uses.count for name, uses in ledger._uses.items() if uses.count},
        "ending": set(ledger.ending),
        "member": None if member is None else member.proof,
    }


def on_disk(node: Node) -> dict[str, Any]:
    """What it would know after a restart."""
    twin = Node(node.world, node.name, node.limits, node.life + 1)
    twin.tables = node.tables
    twin.do(twin.kernel.owner.boot())
    return book(twin)


Deed = Callable[[Scene], Callable[[], Any]]
"""Sets the scene for something, and gives what is then done while a disk is full."""


def accepting(s: Scene) -> Callable[[], Any]:
    token = s.token()
    return lambda: s.bob.do(s.bob.kernel.promises.accept(token))


def presenting(s: Scene, **terms: Any) -> Callable[[], Any]:
    name = s.passed_on()
    return lambda: s.run(s.eve, name, 5)


def awaiting(s: Scene) -> Callable[[], Any]:
    assert s.first is not None
    s.ann.do(s.ann.kernel.promises.keep(s.first))
    return lambda: s.bob.do(s.bob.kernel.promises.awaiting(s.first, 1000))


DEEDS: dict[str, tuple[str, Deed]] = {
    "granting": ("ann", lambda s: lambda: s.given(s.eve)),
    "granting membership": (
        "ann",
        lambda s: lambda: s.ann.do(s.ann.kernel.promises.grant(s.bob.did, {"ability": "member"}, delegate=1)),
    ),
    "delegating": ("bob", lambda s: s.passed_on),
    "accepting": ("bob", accepting),
    "presenting what was passed on": ("ann", presenting),
    "using": ("ann", lambda s: lambda: s.run(s.bob, s.plain, 7)),
    "deferring": ("ann", lambda s: lambda: s.run(s.bob, s.later, 7)),
    "remembering what is deferred": ("bob", lambda s: lambda: s.run(s.bob, s.later, 7)),
    "keeping": ("ann", lambda s: lambda: s.ann.do(s.ann.kernel.promises.keep(s.first))),
    "breaking": ("ann", lambda s: lambda: s.ann.do(s.ann.kernel.promises.break_(s.first))),
    "awaiting": ("bob", awaiting),
    "hearing of a promise": ("eve", lambda s: s.passed_on),
}


@pytest.mark.parametrize("what", DEEDS)
def test_a_failed_commit_leaves_the_book_as_the_disk_has_it(what: str) -> None:
    scene = Scene()
    name, deed = DEEDS[what]
    node: Node = getattr(scene, name)
    do = deed(scene)
    before = book(node)
    assert before == on_disk(node)
    node.failing[Commit] = FULL
    with pytest.raises((RemoteError, LocalError, AssertionError)):
        do()
    assert book(node) == before == on_disk(node)
    node.failing.clear()
    do()
    assert book(node) == on_disk(node) != before


def test_what_is_being_kept_is_not_broken_meanwhile_and_is_carried_out_though_the_owner_gave_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    ann = scene.ann
    held: list[tuple[int, Commit]] = []
    perform, first = ann.perform, scene.first
    assert first is not None

    def holding(effects: list[tuple[int, Any]]) -> None:
        held.extend(one for one in effects if isinstance(one[1], Commit))
        perform([one for one in effects if not isinstance(one[1], Commit)])

    monkeypatch.setattr(ann, "perform", holding)
    ask = ann.start(ann.kernel.promises.keep(first))
    scene.world.run()
    while len(held) == 1 and not any(b"cap/call" in write.key for write in held[0][1].writes):
        perform([held.pop()])  # what the run itself writes
        scene.world.run()
    assert book(ann) == on_disk(ann) | {"ending": {first}, "said": book(ann)["said"]}
    with pytest.raises(LocalError, match="just now"):
        ann.do(ann.kernel.promises.break_(first))
    ann.perform(ann.kernel.cancel(ask, scene.world.now_ms))
    scene.world.run()
    assert [e for e in ann.log if isinstance(e, Reply) and e.ask == ask][-1].error is not None
    assert not [e for e in ann.log if isinstance(e, Cancel)], "the commit goes on"
    monkeypatch.undo()
    perform(held)
    scene.world.run()
    assert book(ann) == on_disk(ann)
    assert ann.kernel.promises._ledger.calls[first].state == "kept"
