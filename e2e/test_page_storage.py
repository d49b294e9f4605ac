"""A tab's store in its page: when the browser is asked to keep it; what rots in it is fetched again."""

from __future__ import annotations

from typing import Any

from e2e.harness import Node
from e2e.test_page import joined
from playwright.sync_api import BrowserContext, Page

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


def call(page: Page, verb: str, args: Any = None) -> Any:
    """A verb of the tab's node, as another tab asks it."""
    return page.evaluate(CALL, [verb, args])


def test_the_browser_is_asked_to_keep_what_is_worth_it_and_a_rotten_block_is_fetched_again(
    browser_context: BrowserContext, node: Node
) -> None:
    text = b"a text that rots in the tab, and not in the node" * 50
    cid = node.cli.ok("put", "-", stdin=text).text.split()[-1]
    browser_context.add_init_script(COUNT)
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
    room = call(page, "storage")
    assert room["quota"] > room["used"] > 0 and room["persisted"] in (True, False)

    assert call(page, "verify")["bad"] == []
    assert page.evaluate(FLIP, len(text)) == 1
    assert call(page, "verify")["bad"] == [cid]
    assert page.evaluate(read, cid) == text.decode()  # from the node
    assert call(page, "verify")["bad"] == []
    assert page.evaluate(FLIP, len(text)) == 1
    assert call(page, "verify", {"mend": True})["mended"] == [cid]
    assert call(page, "verify")["bad"] == []
