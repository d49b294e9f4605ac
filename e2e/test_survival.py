"""Tabs that survive: a node that dies, sleep, a cut cable, being frozen, in a network of the test's own.

Two nodes of an invite-only grid at 10.77.0.1, over HTTPS; Ann's browser beside them, Bob's on a host of its
own at 10.77.0.2, so that his whole machine can be put to sleep and his cable pulled.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from e2e.harness import CHROMIUM, Node, chromium_path, command, environment, running, wait_for
from e2e.netspace import apart, neighbour
from e2e.programs import add_one, loops
from e2e.test_page import opened
from e2e.test_webrtc import HASH, PUT, RUN, did_of, put, serve, via
from playwright.sync_api import Browser, CDPSession, Page, Playwright, expect, sync_playwright

ARGS = [
    *CHROMIUM,
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--ignore-certificate-errors",  # as if the nodes had some that browsers trust
]
PORTS = {"one": 8420, "two": 8421}
NOTICED_S = 16
"""Limits.awaited_silent_ms and one more look."""
BACK_MS = 20_000
"""A machine that wakes, or a network that comes back: how long until a tab is linked again, at most."""
CALL = """([code, func, args, on]) => {
  const ended = promisegrid.run({code, func, args, on, timeout: 100});
  globalThis.ended = ended.then(() => 'done', (error) => error.code);
}"""


@dataclass
class Machine:
    """A Chromium that may be stopped: its tabs alone, or all of it."""

    browser: Browser
    session: CDPSession

    def pids(self, kind: str = "") -> list[int]:
        """The processes of a kind."""
        found = self.session.send("SystemInfo.getProcessInfo")["processInfo"]
        return [int(one["id"]) for one in found if one["type"].startswith(kind)]

    @contextmanager
    def stopped(self, kind: str = "") -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end: what it does not hear meanwhile it never hears."""
        pids = self.pids(kind)
        assert pids
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in reversed(pids):
                os.kill(pid, signal.SIGCONT)


@dataclass
class Cable:
    """What leads to Bob's machine."""

    visit: Callable[[], object]
    pid: int

    def ip(self, *words: str) -> None:
        """Over there."""
        subprocess.run(["nsenter", "-t", str(self.pid), "-n", "ip", *words], check=True)

    @contextmanager
    def pulled(self) -> Iterator[None]:
        """No packet gets through, and nobody is told that a connection ended."""
        self.ip("link", "set", "promise1", "down")
        try:
            yield
        finally:
            self.ip("link", "set", "promise1", "up")
            self.ip("route", "replace", "default", "via", "10.77.0.1", "dev", "promise1")


class Nodes:
    """Two nodes of one grid, started again on their homes when asked for and not running."""

    def __init__(self, stack: ExitStack, folder: Path, bundle: Path) -> None:
        self._stack, self._folder, self._bundle = stack, folder, bundle
        self._up: dict[str, Node] = {}

    def __call__(self, name: str) -> Node:
        """The node of that name, running."""
        node = self._up.get(name)
        if node is None or node.process.poll() is not None:
            more = () if name == "one" else ("--peer", self("one").join)
            listen = ("--listen", f"10.77.0.1:{PORTS[name]}", "--no-discover")
            start = running(self._folder / name, *listen, *more, bundle=self._bundle)
            self._up[name] = self._stack.enter_context(start)
            self._up[name].cli.ok("serve", "on", "--cpu", "1", "--memory", "64M")
        return self._up[name]

    def invite(self, name: str) -> str:
        """A join URL of one's own. The second node admits because the founder let it."""
        if name == "two":
            may = ("--ability", "member", "--delegate", "1")
            self("one").cli.ok("cap", "grant", self("two").did, *may)
        return str(self(name).cli.ok("invite", "--json").json["url"])


@pytest.fixture(scope="module")
def cable() -> Iterator[Cable]:
    """This thread in a network of its own, and another host in it."""
    with ExitStack() as stack:
        stack.enter_context(apart())
        visit = stack.enter_context(neighbour())
        with visit():
            host = subprocess.Popen(["sleep", "900"])
        stack.callback(host.wait)
        stack.callback(host.kill)
        yield Cable(visit, host.pid)


@pytest.fixture(scope="module")
def nodes(cable: Cable, tmp_path_factory: pytest.TempPathFactory, web_bundle: Path) -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(stack, tmp_path_factory.mktemp("survival"), web_bundle)


@pytest.fixture(scope="module")
def playwright(cable: Cable) -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def here(playwright: Playwright) -> Iterator[Browser]:
    """Ann's."""
    browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGS)
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def there(
    playwright: Playwright, cable: Cable, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """Bob's, on the other host."""
    found = chromium_path() or playwright.chromium.executable_path
    script = tmp_path_factory.mktemp("machine") / "chromium"
    script.write_text(f'#!/bin/sh\nexec nsenter -t {cable.pid} -n "{found}" "$@"\n')
    script.chmod(0o755)
    browser = playwright.chromium.launch(executable_path=script, args=ARGS)
    yield Machine(browser, browser.new_browser_cdp_session())
    browser.close()


def tab(browser: Browser, url: str) -> Page:
    """A member in a profile of its own that serves; it remembers whether its page was loaded anew."""
    page = opened(browser.new_context(), url)
    linked(page)
    serve(page)
    page.evaluate("globalThis.first = true")
    return page


@pytest.fixture(scope="module")
def ann(here: Browser, nodes: Nodes) -> Page:
    return tab(here, nodes.invite("one"))


@pytest.fixture(scope="module")
def bob(there: Machine, nodes: Nodes, ann: Page) -> Page:
    return tab(there.browser, nodes.invite("two"))


def linked(page: Page, node: Node | None = None) -> None:
    """Wait until a tab says that it is connected to its node; and that one too, if a tab that slept may not
    know yet what it missed."""
    if node is not None:
        name = did_of(page)
        wait_for(lambda: name in node.cli.ok("peers", "--json").out.decode(), BACK_MS / 1000, "the tab")
    expect(page.locator("#link")).to_have_attribute("data-state", "online", timeout=BACK_MS)
    found = "promisegrid.peers().some(({via}) => via === 'ws')"
    wait_for(lambda: page.evaluate(found), BACK_MS / 1000, "the node among the peers")


def adds(page: Page, code: str, on: str, number: int) -> None:
    """A program that was not run with this number before is run over there."""
    assert page.evaluate(RUN, [code, "add_one", [number], on]) == number + 1


def runs(page: Page, code: str, on: str) -> None:
    """Begin a call that goes on for ever."""
    page.evaluate(CALL, [code, "_start", None, on])


def cli(node: Node, *arguments: str) -> subprocess.Popen[bytes]:
    """A verb under way."""
    pipe = subprocess.PIPE
    return subprocess.Popen(command(*arguments), env=environment(node.cli.home), stdout=pipe, stderr=pipe)


def test_a_tab_joins_by_its_address_and_the_invitation_is_sent_to_no_server(
    here: Browser, nodes: Nodes
) -> None:
    url = nodes.invite("one")
    secret = url.rpartition("/")[2]
    assert url.startswith("https://10.77.0.1:8420/#/join/") and len(secret) == 26
    context = here.new_context()
    said: list[str] = []
    context.on("request", lambda one: said.append(one.url.partition("#")[0]))
    context.on("request", lambda one: said.append(f"{one.headers} {one.post_data}"))
    page = opened(context, url)
    linked(page)
    assert secret not in page.url
    page.reload()
    linked(page)
    assert len(said) > 20 and not [text for text in said if secret in text]
    stranger = opened(here.new_context(), nodes("one").url)
    expect(stranger.locator("#phases .bad")).to_be_visible(timeout=BACK_MS)
    assert stranger.evaluate("promisegrid.ready.catch((error) => error.code)") == "bad_invitation"
    stranger.context.close()
    context.close()


def test_two_tabs_go_on_when_both_their_nodes_die_and_all_is_whole_when_they_are_back(
    nodes: Nodes, ann: Page, bob: Page
) -> None:
    code, names = put(ann, add_one()), {ann: did_of(ann), bob: did_of(bob)}
    pairs = ((ann, bob), (bob, ann))
    for page, other in pairs:
        adds(page, code, names[other], 10)  # over both nodes at first
    wait_for(lambda: all("webrtc" in via(page, names[other]) for page, other in pairs), what="a channel")
    first = {name: nodes(name).did for name in PORTS}
    for name in PORTS:
        nodes(name).stop(signal.SIGKILL)
    for page, other in pairs:
        expect(page.locator("#link")).to_have_attribute("data-state", "offline")
        adds(page, code, names[other], 20)
        cid = page.evaluate(PUT)
        assert other.evaluate(HASH, cid) == page.evaluate(HASH, cid)
    for name in PORTS:
        assert nodes(name).did == first[name]
    for number, (page, other) in enumerate(pairs):
        linked(page)
        assert "webrtc" in via(page, names[other])
        adds(page, code, names[other], 30)
        adds(page, code, first["two" if page is ann else "one"], 40 + number)
        assert page.evaluate("globalThis.first"), "it was not loaded anew"


def test_a_tab_that_is_reloaded_is_the_same_and_is_found_again(nodes: Nodes, ann: Page, bob: Page) -> None:
    name, peer = did_of(ann), did_of(bob)
    code = put(bob, add_one())
    cid = ann.evaluate("promisegrid.put('of before')")
    ann.evaluate("promisegrid.follow('news').then(() => promisegrid.publish('news', 'said and gone'))")
    ann.reload()
    linked(ann, nodes("one"))
    assert did_of(ann) == name
    text = "async (cid) => new TextDecoder().decode(await promisegrid.get(cid))"
    assert ann.evaluate(text, cid) == "of before"
    adds(bob, code, name, 50)  # and it serves as it did
    bob.evaluate("promisegrid.follow('news')")
    said = "promisegrid.entries('news').then((all) => all.map(({by}) => by))"
    wait_for(lambda: name in bob.evaluate(said), what="what it said before")
    assert ann.evaluate("promisegrid.topics()") == ["news"]
    wait_for(lambda: "webrtc" in via(bob, name), what="a new channel")
    adds(ann, code, peer, 60)


def test_a_frozen_tab_is_noticed_and_back_when_it_goes_on(
    nodes: Nodes, ann: Page, bob: Page, there: Machine
) -> None:
    """Its process stopped in the middle of calls: a node's, by its socket, and a tab's, by their channel."""
    name = did_of(bob)
    code, quick = put(ann, loops()), put(ann, add_one())
    two = nodes("two")
    adds(ann, quick, name, 65)
    wait_for(lambda: "webrtc" in via(ann, name), what="a channel")
    runs(ann, code, name)
    asked = cli(two, "run", code, "--on", name, "--timeout", "100")
    wait_for(lambda: bob.locator("#running li").count() > 0, what="the run")
    with there.stopped("renderer"):
        spread = cli(two, "map", quick, "--func", "add_one", *map(str, range(100, 120)))
        assert ann.evaluate("ended") == "closed"
        _, said = asked.communicate(timeout=2 * NOTICED_S)
        assert asked.returncode == 125 and b"disconnected before it answered" in said
        out, _ = spread.communicate(timeout=2 * NOTICED_S)
        assert spread.returncode == 0 and out.split() == [str(n).encode() for n in range(101, 121)]
        wait_for(lambda: via(ann, name) == [], what="the end of the channel")
        later = cli(two, "run", code, "--on", name)
        _, said = later.communicate(timeout=2 * NOTICED_S)
        assert later.returncode == 125 and b"not connected" in said
    linked(bob, two)
    adds(ann, quick, name, 70)
    adds(bob, quick, did_of(ann), 71)


def test_a_machine_that_slept_while_its_node_went_is_linked_again(
    nodes: Nodes, ann: Page, bob: Page, there: Machine, cable: Cable
) -> None:
    """All of the browser stops; when it goes on its connections are to a node that does not know them."""
    with there.stopped():
        with cable.pulled():
            nodes("two").stop(signal.SIGKILL)
        nodes("two")
    linked(bob, nodes("two"))
    adds(bob, put(bob, add_one()), nodes("two").did, 80)
    adds(bob, put(bob, add_one()), did_of(ann), 81)


def test_a_tab_whose_cable_is_cut_says_so_and_is_linked_again(nodes: Nodes, bob: Page, cable: Cable) -> None:
    code = put(bob, add_one())
    adds(bob, code, nodes("two").did, 90)
    with cable.pulled():
        expect(bob.locator("#link")).to_have_attribute("data-state", "offline", timeout=1500 * NOTICED_S)
        assert bob.evaluate("promisegrid.put('meanwhile').then(() => true)")
        assert bob.evaluate("promisegrid.peers()") == []
    linked(bob, nodes("two"))
    adds(bob, code, nodes("two").did, 91)


def test_a_browser_that_is_online_again_dials_at_once(nodes: Nodes, bob: Page) -> None:
    """The pauses between attempts had grown; the node is there, and the browser says that it is back."""
    nodes("two").stop(signal.SIGKILL)
    waits = re.compile(r"again in ([4-9]|1\d)\.")
    expect(bob.locator("#link")).to_have_attribute("title", waits, timeout=BACK_MS)
    nodes("two")
    bob.evaluate("dispatchEvent(new Event('online'))")
    expect(bob.locator("#link")).to_have_attribute("data-state", "online", timeout=3_000)


def test_a_tab_killed_while_it_serves(nodes: Nodes, bob: Page, there: Machine) -> None:
    """The last of Bob: his callers are told at once, and work that was spread goes on elsewhere."""
    two = nodes("two")
    name, code, quick = did_of(bob), put(bob, loops()), put(bob, add_one())
    two.cli.ok("get", quick, "-o", two.cli.home / "quick.wasm")
    asked = cli(two, "run", code, "--on", name, "--timeout", "100")
    wait_for(lambda: bob.locator("#running li").count() > 0, what="the run")
    spread = cli(two, "map", "--elsewhere", quick, "--func", "add_one", *map(str, range(200, 300)))
    for pid in there.pids("renderer"):
        os.kill(pid, signal.SIGKILL)
    _, said = asked.communicate(timeout=NOTICED_S)
    assert asked.returncode == 125 and b"disconnected before it answered" in said
    out, _ = spread.communicate(timeout=2 * NOTICED_S)
    assert spread.returncode == 0 and len(out.split()) == 100
