"""Several tabs, one node: who owns it when a tab is closed, throttled, hung, or wakes up too late.

The worker is hung for real, in a loop; what a tab shows is read from its page.
"""

from __future__ import annotations

from e2e.harness import Node, wait_for
from e2e.test_page import identity, joined, opened
from playwright.sync_api import BrowserContext, Page, expect

# A loop no message gets into; it ends by itself, so that a worker nobody terminates cannot outlive the test.
HANG = "(ms) => { setTimeout(() => { const until = Date.now() + ms; while (Date.now() < until); }, 0); }"
FOREVER_MS = 120_000
TAKEN_MS = 30_000


TITLES = """() => {
  const lamp = document.getElementById("link");
  globalThis.titles = [];
  new MutationObserver(() => titles.push(lamp.title)).observe(lamp, {attributes: true});
}"""


def hang(page: Page, ms: int = FOREVER_MS) -> None:
    """Hang the worker that this leading tab made."""
    worker = next(worker for worker in page.workers if worker.url.endswith("/node.worker.mjs"))
    worker.evaluate(HANG, ms)


def shares(page: Page) -> None:
    """Wait until this tab says that another one runs its node."""
    expect(page.locator("#reading-shared")).to_be_visible(timeout=TAKEN_MS)


def leads(page: Page) -> None:
    """Wait until this tab says that it runs the node itself, and is connected."""
    expect(page.locator("#reading-shared")).to_be_hidden(timeout=TAKEN_MS)
    expect(page.locator("#link")).to_have_text("connected", timeout=TAKEN_MS)


def has_nodes(page: Page, count: int) -> None:
    """Wait until this tab has so many node workers; a hung one takes a moment to end."""
    wait_for(
        lambda: page.evaluate("1") and sum(w.url.endswith("/node.worker.mjs") for w in page.workers) == count
    )


def stores(page: Page) -> None:
    """The tab's node keeps something and gives it back."""
    text = page.evaluate(
        """(text) => promisegrid.put(text).then((cid) => promisegrid.get(cid))
                     .then((bytes) => new TextDecoder().decode(bytes))""",
        "kept",
    )
    assert text == "kept"


def test_a_follower_does_what_a_leader_does(browser_context: BrowserContext, node: Node) -> None:
    leader = joined(browser_context, node)
    follower = opened(browser_context, node.url)
    assert identity(follower) == identity(leader)
    shares(follower)
    same = follower.evaluate(
        """async () => {
          const bytes = new Uint8Array(9_000_001).map((_, at) => at * 7);
          const cid = await promisegrid.put(bytes);
          const back = await promisegrid.get(cid);
          const streamed = new Uint8Array(await new Response(promisegrid.stream(cid)).arrayBuffer());
          const equal = (got) => got.length === bytes.length && got.every((byte, at) => byte === bytes[at]);
          return equal(back) && equal(streamed);
        }"""
    )
    assert same
    cid = node.cli.ok("put", "-", stdin=b"of the node").text
    assert follower.evaluate("(cid) => promisegrid.get(cid).then((bytes) => bytes.length)", cid) == 11
    assert [peer["did"] for peer in follower.evaluate("promisegrid.peers()")] == [node.did]
    has_nodes(leader, 1)
    has_nodes(follower, 0)


def test_a_call_of_a_tab_that_loses_its_leader_ends(browser_context: BrowserContext, node: Node) -> None:
    leader = joined(browser_context, node)
    follower = opened(browser_context, node.url)
    mine = identity(follower)
    shares(follower)
    hang(leader)
    call = "promisegrid.put('x').then(() => 'stored', (error) => error.code)"
    follower.evaluate(f"() => {{ globalThis.ended = {call}; }}")
    leader.close()
    leads(follower)
    assert follower.evaluate("ended") == "closed"
    assert identity(follower) == mine
    stores(follower)


def test_a_hung_leader_is_stolen_from_and_follows(browser_context: BrowserContext, node: Node) -> None:
    leader = joined(browser_context, node)
    follower = opened(browser_context, node.url)
    mine = identity(follower)
    shares(follower)
    hang(leader)
    leads(follower)
    shares(leader)
    has_nodes(leader, 0)
    has_nodes(follower, 1)
    assert identity(follower) == identity(leader) == mine
    stores(follower)
    stores(leader)
    follower.close()  # and the first one may lead again
    leads(leader)
    has_nodes(leader, 1)
    assert identity(leader) == mine
    stores(leader)


def test_a_leader_that_wakes_too_late_writes_nothing(browser_context: BrowserContext, node: Node) -> None:
    leader = joined(browser_context, node)
    follower = opened(browser_context, node.url)
    third = opened(browser_context, node.url)
    mine = identity(third)
    shares(follower)
    debugger = browser_context.new_cdp_session(leader)
    debugger.send("Debugger.enable")
    hang(leader, 9_000)
    debugger.send("Debugger.pause")  # the page as well: it cannot hear that its lock is gone
    # either of the two takes over, and the other shares with it
    follower.wait_for_function("promisegrid.put('a').then(() => true, () => false)")
    third.wait_for_function("promisegrid.put('b').then(() => true, () => false)")
    shared = "document.querySelector('#reading-shared').checkVisibility()"
    for _ in range(100):  # the one that has taken over says so when it has: it asks each page anew
        roles = [bool(page.evaluate(shared)) for page in (follower, third)]
        if sorted(roles) == [False, True]:
            break
        follower.evaluate("new Promise((done) => setTimeout(done, 100))")
    assert sorted(roles) == [False, True]
    debugger.send("Debugger.disable")
    debugger.detach()
    shares(leader)
    has_nodes(leader, 0)
    for page in (leader, follower, third):
        assert identity(page) == mine
        stores(page)
        expect(page.locator("#link")).to_have_text("connected")


def test_what_an_old_worker_said_last_is_put_right(browser_context: BrowserContext, node: Node) -> None:
    leader = joined(browser_context, node)
    follower = opened(browser_context, node.url)
    shares(follower)
    stale = {"type": "event", "kind": "link", "detail": {"state": "offline", "text": "of before"}}
    expect(follower.locator("#link")).to_have_text("connected")
    follower.evaluate(TITLES)
    leader.evaluate("(stale) => new BroadcastChannel('promisegrid').postMessage(stale)", stale)
    follower.wait_for_function("titles.includes('of before')")
    expect(follower.locator("#link")).to_have_text("connected")


def test_a_worker_that_does_not_load_is_told_to_every_tab(
    browser_context: BrowserContext, node: Node
) -> None:
    browser_context.route("**/node.worker.mjs", lambda route: route.abort())
    first = opened(browser_context, node.join)
    second = opened(browser_context, node.join)
    for page in (first, second):
        expect(page.locator("#link")).to_have_text("stopped")
        expect(page.locator(".notice.bad")).to_contain_text("could not be started")
        assert page.evaluate("promisegrid.ready.catch((error) => error.code)") == "internal"
