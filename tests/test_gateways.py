"""Gateways the owner named: asked for what peers lack, believed by CID only, left alone when they fail."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.sim import Node, World

from promisegrid.cid import Cid
from promisegrid.effects import Cancel, Failure, Gateway
from promisegrid.errors import LocalError, RemoteError
from promisegrid.gateways import read_url
from promisegrid.limits import Limits

DATA = b"wanted"
WANTED = Cid.of(DATA)
Answer = Callable[[Cid], object]


def has(data: bytes = DATA) -> Answer:
    return lambda _: data


def has_none(_: Cid) -> None:
    return None


def fails(code: str) -> Answer:
    return lambda _: Failure(code, "It failed.")


def silent(_: Cid) -> object:
    return ...


def node(*answers: Answer, limits: Limits | None = None) -> Node:
    """A node alone, with a gateway for each answer: http://0, http://1 and so on."""
    world = World()
    made = world.node("ann", limits)
    for number, answer in enumerate(answers):
        world.gateways[f"http://{number}"] = answer
        made.do(made.kernel.gateways.add(f"http://{number}"))
    made.log.clear()
    return made


def asked(made: Node) -> list[str]:
    return [effect.url for effect in made.log if isinstance(effect, Gateway)]


def test_a_block_is_fetched_verified_and_kept() -> None:
    ann = node(has())
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert asked(ann) == ["http://0"]
    assert ann.tables["blocks"][bytes(WANTED)] == DATA


def test_without_gateways_nobody_is_asked() -> None:
    ann = node()
    with pytest.raises(RemoteError, match="no peer is connected"):
        ann.do(ann.kernel.block(WANTED))


def test_the_next_is_asked_at_once_when_one_has_none() -> None:
    ann = node(has_none, fails("closed"), has())
    start = ann.world.now_ms
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert ann.world.now_ms == start
    assert asked(ann) == ["http://0", "http://1", "http://2"]


def test_a_silent_one_is_overtaken_and_let_go() -> None:
    ann = node(silent, has())
    start = ann.world.now_ms
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert ann.world.now_ms - start == ann.limits.hedge_ms
    assert any(isinstance(effect, Cancel) for effect in ann.log)


def test_silence_of_all_ends() -> None:
    ann = node(silent, silent)
    start = ann.world.now_ms
    with pytest.raises(RemoteError) as refused:
        ann.do(ann.kernel.block(WANTED))
    assert refused.value.code == "not_found"
    assert ann.world.now_ms - start <= ann.limits.gateway_ms + 2 * ann.limits.hedge_ms


def test_a_liar_is_named_and_left_alone() -> None:
    ann = node(has(b"a lie"))
    with pytest.raises(RemoteError, match="http://0 sent bytes that do not hash") as refused:
        ann.do(ann.kernel.block(WANTED))
    assert refused.value.code == "bad_block"
    assert bytes(WANTED) not in ann.tables["blocks"]
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.block(WANTED))
    assert asked(ann) == ["http://0"]
    (told,) = ann.kernel.gateways.ls()
    assert told["aside_ms"] == ann.limits.gateway_aside_max_ms


def test_a_liar_does_not_keep_the_truth_away() -> None:
    ann = node(has(b"a lie"), has())
    assert ann.do(ann.kernel.block(WANTED)) == DATA


def test_one_that_fails_again_and_again_is_left_alone_longer_and_longer() -> None:
    ann = node(fails("closed"))
    limits = ann.limits

    def ask() -> None:
        with pytest.raises(RemoteError):
            ann.do(ann.kernel.block(WANTED))

    for _ in range(limits.gateway_failures + 2):
        ask()
    assert len(asked(ann)) == limits.gateway_failures
    ann.world.pass_time(limits.gateway_aside_ms)
    ask()
    ask()
    assert len(asked(ann)) == limits.gateway_failures + 1
    (told,) = ann.kernel.gateways.ls()
    assert told["aside_ms"] == 2 * limits.gateway_aside_ms
    ann.world.gateways["http://0"] = has()
    ann.world.pass_time(2 * limits.gateway_aside_ms)
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert ann.kernel.gateways.ls()[0]["failures"] == 0


def test_one_that_asks_for_patience_gets_it() -> None:
    ann = node(fails("busy"), has())
    ann.do(ann.kernel.block(WANTED))
    with pytest.raises(RemoteError):
        ann.do(ann.kernel.block(Cid.of(b"another")))
    assert asked(ann) == ["http://0", "http://1", "http://1"]


def test_so_many_are_asked_of_one_at_once() -> None:
    ann = node(silent, limits=Limits(gateway_at_once=2))
    for number in range(5):
        ann.start(ann.kernel.block(Cid.of(b"%d" % number)))
    ann.world.run()
    assert len(asked(ann)) == 2


def test_peers_come_first_and_gateways_when_they_are_slow() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    bob.put(DATA)
    world.gateways["http://0"] = has()
    ann.do(ann.kernel.gateways.add("http://0"))
    assert ann.do(ann.kernel.block(WANTED)) == DATA
    assert not asked(ann)
    bob.peer_drops = True
    world.gateways["http://0"] = has(b"other")
    assert ann.do(ann.kernel.block(Cid.of(b"other"))) == b"other"


def test_gateways_are_not_asked_for_others() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    world.gateways["http://0"] = has()
    ann.do(ann.kernel.gateways.add("http://0"))
    with pytest.raises(RemoteError):
        bob.do(bob.kernel.block(WANTED))
    assert not asked(ann)


def test_those_named_are_remembered_and_those_of_one_start_are_not() -> None:
    ann = node(has())
    ann.kernel.gateways.use("https://today.example/")
    assert [one["url"] for one in ann.kernel.gateways.ls()] == ["http://0", "https://today.example"]
    again = Node(ann.world, "ann", life=1)
    again.tables = ann.tables
    again.do(again.kernel.owner.boot())
    assert [one["url"] for one in again.kernel.gateways.ls()] == ["http://0"]
    again.do(again.kernel.gateways.remove("http://0/ipfs/"))
    assert again.kernel.gateways.ls() == []
    assert b"gateways" not in again.tables["grid"]
    with pytest.raises(LocalError, match="not asked anyway"):
        again.do(again.kernel.gateways.remove("http://0"))


def test_so_many_may_be_named() -> None:
    ann = node(*[has()] * 2, limits=Limits(gateways=2))
    with pytest.raises(LocalError, match="At most 2"):
        ann.do(ann.kernel.gateways.add("http://2"))
    ann.do(ann.kernel.gateways.add("http://1"))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://IPFS.example", "https://ipfs.example"),
        ("https://ipfs.example:443/", "https://ipfs.example"),
        ("http://10.0.0.7:8080/ipfs/", "http://10.0.0.7:8080"),
        ("http://[::1]:8420", "http://[::1]:8420"),
        ("https://example.com/gateway/ipfs", "https://example.com/gateway"),
    ],
)
def test_an_address_has_one_spelling(text: str, url: str) -> None:
    assert read_url(text) == url
    assert read_url(url) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ipfs.example",
        "ftp://ipfs.example",
        "file:///etc/passwd",
        "https://",
        "https://user:word@ipfs.example",
        "https://ipfs.example/?a=b",
        "https://ipfs.example/#top",
        "https://ipfs.example:99999",
        "https://ipfs.example/../secret",
        "https://ipfs.example/; script-src *",
        "https://ipfs.example, https://evil.example",
        "https://ipfs example",
        "https://ipfs.example\\evil",
        "https://*.example",
        "https://ipfs.example/a\nb",
        "https://" + "x" * 600,
        "https://exämple",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(LocalError, match="not the address of a gateway"):
        read_url(text)
