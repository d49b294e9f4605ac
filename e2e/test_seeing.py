"""Seeing real nodes: bytes move over the link they are said to move over, live and for Prometheus."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from e2e.harness import Node, command, environment, running, wait_for
from prometheus_client import parser
from tests.node.hosting import make_bundle

SIZE = 3 * 1024 * 1024


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Three nodes in a row: ann – bob – eve."""
    folder = tmp_path_factory.mktemp("seeing")
    page = folder / "page"
    make_bundle(page)
    with ExitStack() as stack:
        bob = stack.enter_context(running(folder / "bob", bundle=page))
        ann = stack.enter_context(running(folder / "ann", "--peer", bob.join, bundle=page))
        eve = stack.enter_context(running(folder / "eve", "--peer", bob.join, bundle=page))
        wait_for(lambda: len(bob.cli.ok("peers", "--json").json["peers"]) == 2)
        yield [ann, bob, eve]


def metrics(node: Node) -> dict[str, float]:
    """What a node tells Prometheus, by name and labels."""
    with urllib.request.urlopen(f"{node.url}metrics") as answer:
        families = parser.text_string_to_metric_families(answer.read().decode())
    return {
        ",".join([sample.name, *(sample.labels[key] for key in sorted(sample.labels))]): sample.value
        for family in families
        for sample in family.samples
    }


class Watch:
    """`peers --watch --json`, line by line."""

    def __init__(self, node: Node, *words: str) -> None:
        self.process = subprocess.Popen(
            command("peers", "--watch", "--json", "--every", "0.1", *words),
            env=environment(node.cli.home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def next(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def link(self, did: str) -> dict[str, Any]:
        """The next look's link to a member."""
        links: list[dict[str, Any]] = self.next()["links"]
        return next(link for link in links if link["did"] == did)


def test_bytes_move_over_the_link_they_are_said_to(chain: list[Node], tmp_path: Path) -> None:
    ann, bob, eve = chain
    data = tmp_path / "data"
    data.write_bytes(os.urandom(SIZE))
    cid = eve.cli.ok("put", data).text.split()[0]
    before = metrics(bob)
    watching = Watch(bob)
    was = {node.did: watching.link(node.did) for node in (ann, eve)}
    assert was[ann.did]["via"] == "ws" and was[ann.did]["through"] is None
    assert ann.cli.ok("get", cid, "-o", tmp_path / "copy").code == 0

    def moved(node: Node, way: str) -> int:
        """What went over since, as the next look that is later than the copy has it."""
        name = f"bytes_{way}"
        return int(watching.link(node.did)[name]) - int(was[node.did][name])

    wait_for(lambda: moved(ann, "out") > SIZE)  # the looks before it were written down while it ran
    assert moved(eve, "in") > SIZE
    assert moved(eve, "out") < SIZE // 10 > moved(ann, "in")
    watching.process.send_signal(signal.SIGINT)
    _, err = watching.process.communicate(timeout=20)
    assert (watching.process.returncode, err) == (0, "")
    after = metrics(bob)
    for way in ("in", "out"):
        name = f"promisegrid_link_bytes_total,{way},ws"
        assert after[name] - before[name] > SIZE
    assert after["promisegrid_links,ws"] == after["promisegrid_peers"] == 2
    assert after["promisegrid_links,webrtc"] == 0


def test_a_terminal_shows_it_and_ctrl_c_ends_it_well(chain: list[Node]) -> None:
    ann, bob, _ = chain
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command("peers", "--watch", "--every", "0.1"),
        env={**environment(ann.cli.home), "TERM": "xterm", "COLUMNS": "130", "LINES": "30"},
        stdin=child, stdout=child, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(child)
    shown, end = b"", time.monotonic() + 30
    while bob.did[-12:].encode() not in shown or b"near" not in shown:
        assert time.monotonic() < end, shown
        if select.select([parent], [], [], 1)[0]:
            shown += os.read(parent, 65_536)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    os.close(parent)
    assert (process.returncode, err) == (0, b"")


def test_metrics_are_for_this_machine_unless_the_owner_says_so(chain: list[Node]) -> None:
    asked = urllib.request.Request(f"{chain[0].url}metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(asked)
