"""Providers that routers name: asked after peers and gateways, believed by CID only, kept while they give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.effects import Cancel, Effect, Failure, Gateway, Providers
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.routing import read_router

DATA, MORE = b"wanted", b"wanted too"
WANTED, TOO = Cid.of(DATA), Cid.of(MORE)
ROUTER, FAR = "https://router.example", "https://far.example"
Answer = Callable[[Cid], object]


def holds(*blocks: bytes) -> Answer:
    """A gateway with these blocks."""
    kept = {Cid.of(block): block for block in blocks}
    return kept.get


def names(*urls: str) -> Answer:
    return lambda _: urls


def node(router: Answer, *gateways: Answer, limits: Limits | None = None) -> Node:
    """A node alone that asks one router, in a world with gateways: `FAR`, `FAR` and 1, and so on."""
    world = World()
    made = world.node("ann", limits)
    world.routers[ROUTER] = router
    for number, gateway in enumerate(gateways):
        world.gateways[f"{FAR}{number or ''}"] = gateway
    made.kernel.routing.use(ROUTER)
    made.log.clear()
    return made


def asked(made: Node, kind: type[Effect]) -> list[str]:
    return [effect.url for effect in made.log if isinstance(effect, kind) and hasattr(effect, "url")]


def test_a_provider_is_found_asked_as_a_stranger_and_believed_by_cid() -> None:
    ann = node(names(FAR), holds(DATA))
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert [effect for effect in ann.log if isinstance(effect, Gateway)] == [Gateway(FAR, WANTED, True)]
    assert ann.tables["blocks"][bytes(WANTED)] == DATA


def test_without_a_router_nobody_is_asked() -> None:
    ann = World().node("ann")
    with pytest.raises(RemoteError, match="no peer is connected"):
        ann.do(ann.kernel.block(WANTED))
    with pytest.raises(RemoteError, match="--routing URL"):
        ann.do(ann.kernel.routing.providers(WANTED))


def test_who_sent_one_block_is_asked_for_the_next_before_any_router() -> None:
    ann = node(names(FAR), holds(DATA, MORE))
    ann.do(ann.kernel.block(WANTED))
    assert ann.do(ann.kernel.block(TOO)) == MORE
    assert len(asked(ann, Providers)) == 1
    ann.world.pass_time(ann.limits.provider_ms + 1)
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.block(Cid.of(b"third")))
    assert len(asked(ann, Providers)) == 2


def test_a_silent_one_of_lately_is_overtaken_by_whom_the_router_names_now() -> None:
    ann = node(names(FAR), holds(DATA), holds(MORE))
    ann.do(ann.kernel.block(WANTED))
    ann.world.gateways[FAR] = lambda _: ...
    ann.world.routers[ROUTER] = names(FAR, f"{FAR}1")
    start = ann.world.now_ms
    assert ann.do(ann.kernel.block(TOO)) == MORE
    assert ann.world.now_ms - start == ann.limits.hedge_ms
    assert asked(ann, Gateway) == [FAR, FAR, f"{FAR}1"]


def test_a_liar_is_told_of_and_left_alone() -> None:
    ann = node(names(FAR), lambda _: b"a lie")
    with pytest.raises(RemoteError) as refused:
        ann.do(ann.kernel.block(WANTED))
    assert refused.value.code == "bad_block"
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.block(WANTED))
    assert asked(ann, Gateway) == [FAR]
    assert ann.kernel.routing.found()[0]["aside_ms"] == ann.limits.gateway_aside_max_ms
    assert bytes(WANTED) not in ann.tables["blocks"]


def test_the_owners_gateways_come_first() -> None:
    ann = node(names(FAR), holds(DATA))
    ann.world.gateways["http://own"] = holds(DATA)
    ann.do(ann.kernel.gateways.add("http://own"))
    ann.do(ann.kernel.block(WANTED))
    assert asked(ann, Gateway) == ["http://own"] and not asked(ann, Providers)


def test_what_nobody_provides_is_not_asked_about_at_once_again() -> None:
    ann = node(names())
    for _ in range(3):
        with pytest.raises(RemoteError, match="No router knows"):
            ann.do(ann.kernel.block(WANTED))
    assert len(asked(ann, Providers)) == 1
    ann.world.pass_time(ann.limits.nobody_ms)
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.block(WANTED))
    assert len(asked(ann, Providers)) == 2


def test_a_router_that_fails_again_and_again_is_left_alone() -> None:
    ann = node(lambda _: Failure("closed", "It is not there."))
    for _ in range(ann.limits.gateway_failures + 2):
        with pytest.raises(RemoteError) as refused:
            ann.do(ann.kernel.block(WANTED))
        assert refused.value.code == "not_found"
    assert len(asked(ann, Providers)) == ann.limits.gateway_failures
    ann.world.pass_time(ann.limits.gateway_aside_ms)
    ann.world.routers[ROUTER], ann.world.gateways[FAR] = names(FAR), holds(DATA)
    assert ann.do(ann.kernel.block(WANTED)) == DATA


def test_one_router_that_fails_does_not_keep_another_from_being_heard() -> None:
    ann = node(lambda _: Failure("closed", "It is not there."), holds(DATA))
    ann.world.routers["http://10.0.0.7"] = names(FAR, FAR)
    ann.kernel.routing.use("http://10.0.0.7/routing/v1/")
    assert ann.do(ann.kernel.routing.providers(WANTED)) == [FAR]
    assert ann.do(ann.kernel.block(WANTED)) == DATA


def test_a_slow_router_is_not_waited_for_once_another_has_named_somebody() -> None:
    ann = node(lambda _: ..., holds(DATA))
    ann.world.routers["https://quick.example"] = names(FAR)
    ann.kernel.routing.use("https://quick.example")
    start = ann.world.now_ms
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert ann.world.now_ms - start == ann.limits.hedge_ms
    assert any(isinstance(effect, Cancel) for effect in ann.log)


def test_a_node_does_not_ask_itself_and_not_on_a_peers_behalf() -> None:
    ann = node(names(FAR), holds(DATA))
    ann.kernel.routing.own = FAR
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.block(WANTED))
    assert not asked(ann, Gateway)
    world = World()
    bob, eve = world.grid("bob", "eve")
    world.routers[ROUTER], world.gateways[FAR] = names(FAR), holds(DATA)
    bob.kernel.routing.use(ROUTER)
    with pytest.raises(RemoteError):
        eve.do(eve.kernel.block(WANTED))
    assert not asked(bob, Providers)


def test_what_is_found_is_bounded() -> None:
    limits = Limits(providers=3, gateways=2, nobody=2)
    ann = node(names(*[f"{FAR}{number or ''}" for number in range(9)]), *[holds()] * 9, limits=limits)
    assert len(ann.do(ann.kernel.routing.providers(WANTED))) == 3
    for number in range(4):
        with pytest.raises(RemoteError):
            ann.do(ann.kernel.block(Cid.of(b"%d" % number)))
    assert len(ann.kernel.routing.found()) == 2
    for number in range(limits.routers - 1):
        ann.kernel.routing.use(f"https://{number}.example")
    with pytest.raises(LocalError, match="At most 4"):
        ann.kernel.routing.use("https://one-more.example")


def test_a_router_is_named_as_people_do() -> None:
    assert read_router(" https://Router.example/routing/v1/ ") == ROUTER
    assert read_router("http://127.0.0.1:8420/") == "http://127.0.0.1:8420"
    with pytest.raises(LocalError):
        read_router("router.example")
