"""What Prometheus is told, read by Prometheus's own parser; and who is told."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import parser
from tests.node.hosting import Hosted, hosted, make_bundle, on_loop
from tests.sim import World

from promisegrid import unixfs
from promisegrid.errors import CODES
from promisegrid.limits import Limits
from promisegrid.traffic import KINDS
from promisegrid_node import headers, metrics
from promisegrid_node.metrics import Family
from promisegrid_node.web import Site


@contextlib.asynccontextmanager
async def served(
    folder: Path, for_all: bool = False
) -> AsyncIterator[tuple[Hosted, TestClient[web.Request, web.Application]]]:
    async with hosted() as node:
        site = Site(node.host, make_bundle(folder), headers.served_names("127.0.0.1"), Limits(), for_all)
        async with TestClient(TestServer(site.application(), host="127.0.0.1")) as client:
            yield node, client


def read(text: str) -> dict[str, float]:
    """Every sample by its name and labels, as the parser writes them."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


# -- the text ------------------------------------------------------------------------------------------


@on_loop
async def test_what_is_served_is_what_the_node_holds(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, client):
        before = read(await (await client.get("/metrics")).text())
        _, blocks = unixfs.import_bytes(b"one more")
        await node.host.ask(node.kernel.save(blocks))
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"
        after = read(await answer.text())
    assert after["promisegrid_store_blocks"] == before["promisegrid_store_blocks"] + 1
    assert after["promisegrid_store_bytes"] == before["promisegrid_store_bytes"] + 8
    assert after["promisegrid_peers"] == 0 and after["promisegrid_links{kind=relay}"] == 0
    assert after["process_resident_memory_bytes"] > 10_000_000
    assert 0 < after["process_cpu_seconds_total"] < 10_000
    assert 1_600_000_000 < after["process_start_time_seconds"] < 10_000_000_000


@on_loop
async def test_each_metric_is_named_and_explained_as_prometheus_wants(tmp_path: Path) -> None:
    async with served(tmp_path) as (node, _):
        families = [*await metrics.of_host(node.host), *metrics.of_process()]
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    read_back = {one.name: one for one in parser.text_string_to_metric_families(metrics.exposition(families))}
    for family in families:
        one = read_back[family.name.removesuffix("_total")]
        assert (one.type, one.documentation) == (family.kind, family.help)
        assert family.name.endswith("_total") == (family.kind == "counter"), family.name
        assert family.name.startswith(("promisegrid_", "process_")) and family.help.endswith(".")
        assert not any(word in family.name for word in ("_ms", "_kib", "_mib")), "base units only"
        assert [sample.value for sample in one.samples] == [value for _, value in family.samples]


def test_what_goes_over_links_is_told_by_kind() -> None:
    ann, bob = World().grid("ann", "bob")
    ann.get(bob.put(bytes(100_000)))
    counts = ann.kernel.seeing.counts()
    told = read(metrics.exposition(metrics.of_node(counts, 1, {"blocks": 0, "bytes": 0}, 0, WAITS)))
    assert told["promisegrid_links{kind=ws}"] == told["promisegrid_links_opened_total{kind=ws}"] == 1
    assert told["promisegrid_link_bytes_total{direction=in,kind=ws}"] == counts["links"]["ws"]["bytes_in"]
    assert told["promisegrid_link_bytes_total{direction=in,kind=ws}"] > 100_000
    assert told["promisegrid_link_bytes_total{direction=in,kind=webrtc}"] == 0
    assert told["promisegrid_link_blocks_total{direction=in,kind=ws}"] == 1
    assert told["promisegrid_link_blocks_total{direction=out,kind=ws}"] == 0


def test_refusals_for_a_capability_are_added_up() -> None:
    counts = World().grid("ann")[0].kernel.seeing.counts() | {
        "refusals": {"widened": 2, "revoked": 1, "busy": 40}, "answers": {"here": 3},
    }  # fmt: skip
    told = read(metrics.exposition(metrics.of_node(counts, 0, {"blocks": 0, "bytes": 0}, 7, WAITS)))
    assert told["promisegrid_capability_refusals_total"] == 3
    assert told["promisegrid_refusals_total{code=busy}"] == 40
    assert told["promisegrid_results_total{source=here}"] == 3
    assert told["promisegrid_results_total{source=there}"] == 0, "there before the first: a rate needs it"
    assert told["promisegrid_runs_total"] == 7


def test_strangers_cannot_make_it_longer_nor_be_read_in_it() -> None:
    world = World()
    ann, *others = world.grid("ann", "bob", "eve", "joe")
    for number, other in enumerate(others):
        other.world.link(other, ann, via=f"pigeon {number}")
    text = metrics.exposition(
        metrics.of_node(ann.kernel.seeing.counts(), 3, {"blocks": 0, "bytes": 0}, 0, WAITS)
    )
    assert "did:key" not in text and "pigeon" not in text
    kinds = {label for name in read(text) if "kind=" in name for label in [name.split("kind=")[1][:-1]]}
    assert kinds == {*KINDS, "other"}
    assert len(read(text)) < 20 * len(kinds) + len(CODES)


def test_numbers_are_written_as_they_are() -> None:
    family = Family("a_total", "counter", "A.", ((((("b", "c"),)), 2**63), ((("b", "d"),), 0.25)))
    assert list(family.lines())[2:] == ['a_total{b="c"} 9223372036854775808', 'a_total{b="d"} 0.25']


WAITS = {"disk": 0, "disk_bytes": 0, "asks": 0}


# -- who is told ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "here", "for_all"),
    [
        ({}, 200, 200),
        ({"X-Forwarded-For": "192.0.2.7"}, 403, 200),  # a proxy on this machine, for somebody else
        ({"Sec-Fetch-Site": "cross-site"}, 403, 403),  # another site's page, in a browser here
        ({"Sec-Fetch-Site": "same-origin"}, 200, 200),
    ],
)
def test_who_may_read_it(tmp_path: Path, sent: dict[str, str], here: int, for_all: int) -> None:
    @on_loop
    async def run() -> None:
        for asked, expected in ((False, here), (True, for_all)):
            async with served(tmp_path, asked) as (_, client):
                answer = await client.get("/metrics", headers=sent)
                assert answer.status == expected
                if expected == 403:
                    assert "up --metrics" in await answer.text()
                assert "Access-Control-Allow-Origin" not in answer.headers

    run()


@on_loop
async def test_another_machine_is_told_only_if_the_owner_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp.web.BaseRequest.remote", "198.51.100.7")
    for for_all, expected in ((False, 403), (True, 200)):
        async with served(tmp_path, for_all) as (_, client):
            assert (await client.get("/metrics")).status == expected
