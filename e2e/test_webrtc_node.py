"""A tab and nodes that know each other through another: direct channels come about, and the other may go.

In a network of its own. Needs aiortc: `pip install -r requirements-webrtc.txt`.
"""

from __future__ import annotations

import signal
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from e2e.harness import Node, running, wait_for
from e2e.programs import add_one
from e2e.test_webrtc import HASH, PUT, RUN, did_of, put, serve, tab, via
from playwright.sync_api import Browser, expect

from promisegrid_node.keys import Keys

pytest.importorskip("aiortc", reason="aiortc is not installed: pip install -r requirements-webrtc.txt")


def homes(folder: Path, me: str) -> tuple[Path, Path]:
    """Two homes whose names come before and behind that one: one offers, the other answers."""
    found: dict[bool, Path] = {}
    for number in count():
        home = folder / f"far{number}"
        home.mkdir(mode=0o700)
        found[Keys.open(home).did > me] = home
        if len(found) == 2:
            break
    return found[False], found[True]


def peers(node: Node) -> dict[str, str]:
    """How a node is linked to whom."""
    return {one["did"]: one["via"] for one in node.cli.ok("peers", "--json").json["peers"]}


def test_a_tab_and_two_nodes_go_on_when_the_node_between_them_is_gone(
    browser: Browser, tmp_path: Path, web_bundle: Path
) -> None:
    with running(tmp_path / "relay", bundle=web_bundle) as relay, ExitStack() as stack:
        page = tab(browser, relay)
        serve(page)
        me, code = did_of(page), put(page, add_one())
        extra = ("--peer", relay.join, "--webrtc", "--serve")
        ann, bob = (
            stack.enter_context(running(home, *extra, bundle=web_bundle)) for home in homes(tmp_path, me)
        )
        assert ann.did < me < bob.did
        for far in (ann, bob):
            wait_for(lambda far=far: "webrtc" in via(page, far.did), what="a direct channel")
        wait_for(lambda: peers(ann).get(bob.did) == "webrtc", what="one between the nodes")

        relay.stop(signal.SIGKILL)
        expect(page.locator("#link")).to_have_attribute("data-state", "offline")
        cid = page.evaluate(PUT)
        for number, far in enumerate((ann, bob)):
            wait_for(lambda far=far: via(page, far.did) == ["webrtc"], what="the end of the circuit")
            assert page.evaluate(RUN, [code, "add_one", [number], far.did]) == number + 1
            assert far.cli.ok("call", code, "add_one", "5", "--on", me).text == "6"
            assert peers(far)[me] == "webrtc"
        assert ann.cli.ok("call", code, "add_one", "7", "--on", bob.did).text == "8"
        assert bob.cli.ok("get", cid).out[:3] == bytes([0, 31, 62])
        kept = ann.cli.ok("put", "-", stdin=bytes(3_000_000)).text
        assert page.evaluate(HASH, kept).startswith("3000000 ")

        page.context.close()
        wait_for(lambda: me not in peers(ann) | peers(bob), what="the end of the channels")
        assert [far.stop() for far in (ann, bob)] == [0, 0]
        complaints = (ann.said + bob.said).splitlines()
        assert all(f":{relay.port}/grid" in line for line in complaints), "of the relay, and of nothing else"
