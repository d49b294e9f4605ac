"""A tab's store in its page: when the browser is asked to keep it; what rots in it is fetched again."""

from __future__ import annotations

from typing import Any

import pytest
from e2e.harness import Node
from e2e.test_page import joined
from playwright.sync_api import BrowserContext, Error, Page, Route

COUNT = """asked = 0; touched = false;
navigator.storage.persist = async () => (asked += 1, true);
Object.defineProperty(navigator, "userActivation", { value: { get hasBeenActive() { return touched; } } });
"""  # a script of a test counts as a person's touch
FLIP = """digest => new Promise((resolve, reject) => {
  const request = indexedDB.open("promisegrid");
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const transaction = request.result.transaction("blocks", "readwrite");
    const table = transaction.objectStore("blocks");
    let flipped = 0;
    table.openCursor().onsuccess = ({ target: { result: cursor } }) => {
      if (!cursor) return;
      if (cursor.value.length === digest) {
        cursor.value[0] ^= 1;
        cursor.update(cursor.value);
        flipped += 1;
      }
      cursor.continue();
    };
    transaction.oncomplete = () => (request.result.close(), resolve(flipped));
  };
})"""
CALL = """async ([verb, args]) => {
  const { CHANNEL, Calls } = await import(document.querySelector("script[src*='/static/']").src.replace(/[^/]*$/, "rpc.mjs"));
  const [channel, calls, client] = [new BroadcastChannel(CHANNEL), new Calls(), crypto.randomUUID()];
  channel.onmessage = ({ data }) => data.client === client && calls.settle(data);
  return calls.start((id) => channel.postMessage({ type: "call", id, verb, args, client })).finally(() => channel.close());
}"""  # noqa: E501


SPY = """
const begun = IDBDatabase.prototype.transaction;
const spy = new BroadcastChannel("spy");
const seen = [];
spy.onmessage = () => spy.postMessage(seen.splice(0));
IDBDatabase.prototype.transaction = function (...how) {
  const made = begun.apply(this, how);
  seen.push([made.mode, made.durability, ...made.objectStoreNames]);
  return made;
};
"""
SEEN = """() => new Promise((resolve) => {
  const spy = new BroadcastChannel("spy");
  spy.onmessage = ({ data }) => (spy.close(), resolve(data));
  spy.postMessage(null);
})"""
NOISE = """noise = (size) => {
  const data = new Uint8Array(size);
  for (let at = 0; at < size; at += 65536) crypto.getRandomValues(data.subarray(at, at + 65536));
  return data;
};"""
ROOM = 16_000_000


def spied(route: Route) -> None:
    """The worker's database module, with a list of the transactions that are begun."""
    response = route.fetch()
    route.fulfill(response=response, body=response.text() + SPY)


def call(page: Page, verb: str, args: Any = None) -> Any:
    """A verb of the tab's node, as another tab asks it."""
    return page.evaluate(CALL, [verb, args])


def test_the_browser_is_asked_to_keep_what_is_worth_it_and_a_rotten_block_is_fetched_again(
    browser_context: BrowserContext, node: Node
) -> None:
    text = b"a text that rots in the tab, and not in the node" * 50
    cid = node.cli.ok("put", "-", stdin=text).text.split()[-1]
    (bare,) = browser_context.pages
    bare.goto(f"{node.url}manifest.json")  # not yet the store: how much room there is is remembered
    room = browser_context.new_cdp_session(bare)
    quota = {"origin": node.url.rstrip("/"), "quotaSize": ROOM}
    room.send("Storage.overrideQuotaForOrigin", quota)
    browser_context.add_init_script(COUNT + NOISE)
    browser_context.route("**/idb.mjs", spied)
    page = joined(browser_context, node)

    read = "async (cid) => new TextDecoder().decode(await promisegrid.get(cid))"
    assert page.evaluate(read, cid) == text.decode()
    page.evaluate("promisegrid.put('nobody has touched this page')")
    assert page.evaluate("asked") == 0
    page.evaluate("touched = true")
    page.evaluate("cid => promisegrid.ls(cid).catch(() => {})", cid)
    assert page.evaluate("asked") == 0
    for word in ("first", "second"):
        page.evaluate("word => promisegrid.put(word)", word)
        assert page.evaluate("asked") == 1
    what_is_acknowledged_is_strict(page)
    a_full_disk_is_told(page)
    room.send("Storage.overrideQuotaForOrigin", {**quota, "quotaSize": 10 * ROOM})
    page.evaluate("promisegrid.put(noise(20_000_000))")

    assert call(page, "verify")["bad"] == []
    assert page.evaluate(FLIP, len(text)) == 1
    assert call(page, "verify")["bad"] == [cid]
    assert page.evaluate(read, cid) == text.decode()  # from the node
    assert call(page, "verify")["bad"] == []
    assert page.evaluate(FLIP, len(text)) == 1
    assert call(page, "verify", {"mend": True})["mended"] == [cid]
    assert call(page, "verify")["bad"] == []


def what_is_acknowledged_is_strict(page: Page) -> None:
    """Content, pins and what is published are answered from transactions that were flushed."""
    page.evaluate(SEEN)
    for act in (
        "async () => { cid = await promisegrid.put(noise(9_000_000)); }",
        "() => promisegrid.pin(cid, 'name')",
        "() => promisegrid.putTree({'a.txt': 'a', 'b/c.txt': 'c'})",
        "() => promisegrid.unpin(cid)",
    ):
        page.evaluate(act)
        wrote = [rest for mode, *rest in page.evaluate(SEEN) if mode == "readwrite"]
        assert wrote and {durability for durability, *_ in wrote} == {"strict"}, act


def a_full_disk_is_told(page: Page) -> None:
    """With a quota of the browser's own; what was stored of a file that did not fit is nobody's."""
    told = call(page, "storage")
    assert told["quota"] > told["used"] > 9_000_000  # Chromium tells no page the true quota
    assert told["persisted"] in (True, False)
    pins = call(page, "pins")
    with pytest.raises(Error, match="This browser's storage for the node is full; free some disk space"):
        page.evaluate("promisegrid.put(noise(20_000_000))")
    assert call(page, "verify")["bad"] == []
    assert call(page, "pins") == pins
