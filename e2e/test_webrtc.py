"""Two browsers and a node: a direct channel comes about, and the node may go. In a network of its own."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.harness import Node, free_port, running, wait_for
from e2e.programs import add_one, counts_to, loops
from e2e.test_page import joined
from playwright.sync_api import Browser, Page, expect

Start = Callable[[], Node]
RUN = "([code, func, args, on]) => promisegrid.run({code, func, args, on}).then((done) => done.value)"
HASH = """async (cid) => {
  const bytes = await promisegrid.get(cid);
  const name = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return bytes.length + ' ' + Array.from(name, (byte) => byte.toString(16).padStart(2, '0')).join('');
}"""
PUT = """async () => {
  const bytes = new Uint8Array(5_000_001).map((_, at) => at * 31 + (at >> 8));
  return promisegrid.put(bytes);
}"""
NO_TRANSFER = """{
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (message, transfer) {
    const handed = Array.isArray(transfer) && transfer.some((one) => one instanceof RTCDataChannel);
    if (handed) throw new DOMException('not here', 'DataCloneError');
    return post.call(this, message, transfer);
  };
}"""

NOTED = """{
  const Made = RTCPeerConnection;
  globalThis.made = [];
  globalThis.RTCPeerConnection = function (...given) {
    made.push(new Made(...given));
    return made.at(-1);
  };
}"""
BEGIN = """([code, func, args, on]) => {
  const onprogress = ({phase}) => { globalThis.phase = phase; };
  const run = promisegrid.run({code, func, args, on, timeout: 60, onprogress});
  globalThis.ended = null;
  globalThis.end = run.then(({value}) => value ?? 'done', (error) => error.code);
  end.then((value) => { globalThis.ended = value; });
}"""


def did_of(page: Page) -> str:
    """The tab's name."""
    return str(page.evaluate("promisegrid.ready.then(({did}) => did)"))


def via(page: Page, did: str) -> list[str]:
    """How a tab is linked to a member."""
    found = page.evaluate("(did) => promisegrid.peers().filter((p) => p.did === did).map((p) => p.via)", did)
    return list(found)


def meet(*pages: Page) -> None:
    """Wait until each has a direct channel to each."""
    names = [did_of(page) for page in pages]
    for page in pages:
        for name in names:
            if name != did_of(page):
                wait_for(lambda page=page, name=name: "webrtc" in via(page, name), what="a direct channel")


def tab(browser: Browser, node: Node, script: str = "") -> Page:
    """A member in a profile of its own."""
    context = browser.new_context(service_workers="block")
    if script:
        context.add_init_script(script)
    return joined(context, node)


def serve(page: Page) -> None:
    page.evaluate("promisegrid.serve({cpu: 1, memory: 64 * 2 ** 20})")


def put(page: Page, program: bytes) -> str:
    return str(page.evaluate("(bytes) => promisegrid.put(new Uint8Array(bytes))", list(program)))


@pytest.fixture(scope="module")
def start(browser: Browser, tmp_path_factory: pytest.TempPathFactory, web_bundle: Path) -> Iterator[Start]:
    """The one node of these tests, on its home and port: started, unless it runs."""
    home, port = tmp_path_factory.mktemp("webrtc") / "home", free_port()
    nodes: list[Node] = []
    with ExitStack() as stack:

        def begin() -> Node:
            if not nodes or nodes[-1].process.poll() is not None:
                nodes.append(stack.enter_context(running(home, bundle=web_bundle, port=port)))
            return nodes[-1]

        yield begin


@pytest.fixture(scope="module")
def ann(browser: Browser, start: Start) -> Page:
    """A tab that lives through all of it."""
    return tab(browser, start())


def test_two_tabs_go_on_without_their_node_and_are_whole_when_it_is_back(
    browser: Browser, start: Start, ann: Page
) -> None:
    node = start()
    bob = tab(browser, node)
    serve(bob)
    meet(ann, bob)
    code = put(ann, add_one())
    assert ann.evaluate(RUN, [code, "add_one", [41], did_of(bob)]) == 42
    assert [peer["via"] for peer in ann.evaluate("promisegrid.peers()")].count("webrtc") == 1
    ann.evaluate("location.hash = '#/grid'")
    drawn = ann.locator(f"#net-picture .card[data-did='{did_of(bob)}']")
    expect(drawn).to_have_attribute("aria-label", re.compile("linked by WebRTC, direct"))
    expect(ann.locator("#net-picture .link[data-via=webrtc] .hollow")).to_have_count(1)
    ann.evaluate("location.hash = '#/'")

    node.stop(signal.SIGKILL)
    expect(ann.locator("#link")).to_have_attribute("data-state", "offline")
    assert ann.evaluate(RUN, [code, "add_one", [1], did_of(bob)]) == 2
    cid = bob.evaluate(PUT)
    assert ann.evaluate(HASH, cid) == bob.evaluate(HASH, cid)
    assert via(ann, did_of(bob)) == ["webrtc"], "and nothing else: the circuits went with the node"

    again = start()
    for page in (ann, bob):
        expect(page.locator("#link")).to_have_attribute("data-state", "online", timeout=30_000)
        wait_for(lambda page=page: via(page, again.did) == ["ws"], what="the node")
    assert ann.evaluate(RUN, [code, "add_one", [2], did_of(bob)]) == 3
    kept = again.cli.ok("put", "-", stdin=b"of the node").text
    assert ann.evaluate(HASH, kept).startswith("11 ")
    assert "webrtc" in via(ann, did_of(bob))
    bob.context.close()


def test_a_channel_that_dies_in_the_middle_of_a_call_is_not_missed_and_replaced(
    browser: Browser, start: Start, ann: Page
) -> None:
    """The answer comes through the node, and a new channel after a while."""
    dan = tab(browser, start(), NOTED)
    serve(dan)
    meet(ann, dan)
    name, code = did_of(dan), put(ann, counts_to())
    ann.evaluate(BEGIN, [code, "count", [1_000_000_000], name])
    wait_for(lambda: ann.evaluate("globalThis.phase") == "run", what="the run")
    dan.evaluate("made.forEach((one) => one.close())")
    wait_for(lambda: "webrtc" not in via(ann, name), what="the end of the channel")
    assert ann.evaluate("globalThis.ended") is None, "it runs still"
    assert ann.evaluate("end") == 1_000_000_000
    meet(ann, dan)
    assert ann.evaluate(RUN, [code, "count", [7], name]) == 7
    dan.context.close()


def test_a_channel_through_the_page_and_its_end_in_the_middle_of_a_call(
    browser: Browser, start: Start, ann: Page
) -> None:
    """Where a channel cannot be handed to the worker; then the tab is closed while it runs a program."""
    node = start()
    eve = tab(browser, node, NO_TRANSFER)
    serve(eve)
    meet(ann, eve)
    name, code = did_of(eve), put(ann, loops())
    node.stop(signal.SIGKILL)
    for one, other in ((ann, eve), (eve, ann)):
        cid = one.evaluate(PUT)
        assert other.evaluate(HASH, cid) == one.evaluate(HASH, cid)
    ann.evaluate(BEGIN, [code, "_start", None, name])
    wait_for(lambda: ann.evaluate("globalThis.phase") == "run", what="the run")
    eve.close(run_before_unload=True)
    assert ann.evaluate("end") == "closed"
    wait_for(lambda: via(ann, name) == [], what="the end of the channel")
