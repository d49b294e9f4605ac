"""Each way of not keeping to the protocol, and what becomes of it by name."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from tests.simulation.byzantine import Byzantine
from tests.simulation.life import LIMITS
from tests.simulation.world import Host, Weather, Wire, World, worked

from promisegrid.cid import Cid
from promisegrid.effects import Budget, Job, Outcome, Reply
from promisegrid.errors import LocalError, RemoteError
from promisegrid.task import RunResult, Task

DATA = bytes(range(256)) * 40


class Scene:
    """ann founded; bob is honest; mal is linked to both and behaves in one way."""

    def __init__(self, way: str) -> None:
        self.world = World(7)
        self.code = Cid.of(b"program")
        self.world.codes[self.code] = b"program"
        self.ann = Host(self.world, "ann", LIMITS)
        self.bob = Host(self.world, "bob", LIMITS)
        self.mal = Byzantine(self.world, "mal", LIMITS, way)
        self.do(self.ann, self.ann.kernel.owner.found("test"))
        for host in (self.bob, self.mal):
            invite = self.do(self.ann, self.ann.kernel.owner.invite())
            self.link(host, self.ann, invite)
        for host in (self.bob, self.mal):
            self.do(host, host.kernel.owner.set_serving(2, 1 << 20))

    def link(self, host: Host, to: Host, invite: bytes | None = None) -> None:
        wire = Wire(self.world, host, to, Weather((1, 9)), "test/grid")
        near, far = wire.numbers
        dial = ("initiator", "test/grid", "ws")
        host.enter(lambda: host.kernel.connect(near, *dial, host.now_ms, invite=invite))
        to.enter(lambda: to.kernel.connect(far, "responder", "test/grid", "ws", to.now_ms))
        self.world.run(self.world.now_ms + 1_000)

    def do(self, host: Host, verb: Coroutine[Any, Any, Any]) -> Any:
        """Ask and wait, three virtual minutes at most."""
        ends: list[Reply] = []
        host.ask(verb, ends.append)
        for _ in range(360):
            if ends:
                break
            self.world.run(self.world.now_ms + 500)
        assert ends, "it never ended"
        if ends[0].error is not None:
            raise ends[0].error
        return ends[0].value

    def put(self, host: Host, data: bytes = DATA) -> Cid:
        cid = host.put(data, lambda reply: None)
        self.world.run(self.world.now_ms + 500)
        return cid

    def linked(self) -> bool:
        return self.mal.did in [peer["did"] for peer in self.ann.kernel.peers()]


def refusal(scene: Scene, host: Host, verb: Coroutine[Any, Any, Any]) -> str:
    with pytest.raises(RemoteError) as wrong:
        scene.do(host, verb)
    return wrong.value.code


def test_wrong_blocks_are_not_stored_and_the_link_is_closed() -> None:
    scene = Scene("wrong blocks")
    cids = [scene.put(scene.mal, DATA + bytes([n])) for n in range(LIMITS.link_bad_signatures)]
    codes = [refusal(scene, scene.ann, scene.ann.read(cid)) for cid in cids]
    assert set(codes[:4]) == {"bad_block"} and not scene.linked()
    assert not [cid for cid in cids if bytes(cid) in scene.ann.base.tables["blocks"]]


def test_what_a_liar_about_blocks_withholds_comes_from_another() -> None:
    for way in ("wrong blocks", "eclipse", "silence"):
        scene = Scene(way)
        cid = scene.put(scene.bob)
        scene.put(scene.mal)
        assert scene.do(scene.ann, scene.ann.read(cid)) == DATA, way


def test_silence_ends_in_a_deadline() -> None:
    scene = Scene("silence")
    cid = scene.put(scene.mal)
    began = scene.world.now_ms
    assert refusal(scene, scene.ann, scene.ann.read(cid)) == "not_found"
    assert scene.world.now_ms - began <= LIMITS.fetch_ms + 2_000


def test_who_says_nothing_at_all_is_let_go() -> None:
    scene = Scene("nothing unusual")
    scene.mal.is_mute = True
    scene.world.run(scene.world.now_ms + LIMITS.silent_ms + LIMITS.ping_ms + 1_000)
    assert not scene.linked()


def test_what_only_an_eclipsing_neighbour_has_is_not_found() -> None:
    scene = Scene("eclipse")
    cid = scene.put(scene.mal)
    assert refusal(scene, scene.ann, scene.ann.read(cid)) == "not_found"


def test_forged_replies_are_bad_signatures_and_close_the_link() -> None:
    scene = Scene("forged receipts")
    scene.do(scene.ann, scene.ann.kernel.save([]))
    scene.put(scene.ann, b"program")
    done = 0
    for number in range(30):
        task = Task(scene.code, "work", (number,))
        try:
            result = scene.do(scene.ann, scene.ann.kernel.run(task, Budget(), on=scene.mal.did))
        except (RemoteError, LocalError) as wrong:
            assert wrong.code in {"closed", "no_such_peer", "bad_signature", "malformed"}
            break
        assert isinstance(result, RunResult) and isinstance(result.value, int)
        assert result.value & 0xFFFFFFFF == worked(scene.code, number)
        done += 1
    assert not scene.linked() and done < 30


def test_a_liar_s_result_carries_his_name_and_two_who_disagree_are_evidence() -> None:
    scene = Scene("liar")
    scene.put(scene.ann, b"program")
    task = Task(scene.code, "work", (5,))
    told = scene.do(scene.ann, scene.ann.kernel.run(task, Budget(), on=scene.mal.did))
    assert told.by == scene.mal.did and told.value & 0xFFFFFFFF != worked(scene.code, 5)
    own = scene.do(scene.ann, scene.ann.kernel.run(task, Budget()))
    assert own.value & 0xFFFFFFFF == worked(scene.code, 5), "his word answers nothing here"
    assert refusal(scene, scene.ann, scene.ann.kernel.run_verified(task, Budget(), 2)) == "disagreement"
    (evidence,) = scene.do(scene.ann, scene.ann.kernel.owner.evidence())
    assert scene.mal.did in str(evidence)


def test_garbage_closes_its_own_link_only() -> None:
    scene = Scene("garbage")
    for _ in range(40):
        scene.world.run(scene.world.now_ms + 3_000)
    assert not scene.linked()
    assert scene.bob.did in [peer["did"] for peer in scene.ann.kernel.peers()]


def test_a_message_sent_thrice_is_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene("replay")
    scene.do(scene.ann, scene.ann.kernel.owner.set_serving(2, 1 << 20))
    scene.put(scene.mal, b"program")
    scene.world.run(scene.world.now_ms + 1_000)
    runs: list[Job] = []
    real = Host.outcome

    def counted(host: Host, job: Job) -> Outcome:
        runs.append(job)
        return real(host, job)

    monkeypatch.setattr(Host, "outcome", counted)
    task = Task(scene.code, "work", (3,))
    done = scene.do(scene.mal, scene.mal.kernel.run(task, Budget(), on=scene.ann.did))
    assert done.by == scene.ann.did and len(runs) == 1


def test_a_flood_does_not_keep_an_honest_caller_waiting() -> None:
    def took(way: str) -> int:
        scene = Scene(way)
        scene.do(scene.ann, scene.ann.kernel.owner.set_serving(4, 1 << 20))
        scene.put(scene.bob, b"program")
        for wire in [*scene.mal.wires.values()] * 200 if way == "flood" else ():
            scene.mal.flood(wire)
        began = scene.world.now_ms
        scene.do(scene.bob, scene.bob.read(scene.put(scene.ann)))
        return scene.world.now_ms - began

    assert took("flood") <= 2 * took("nothing unusual") + 500
