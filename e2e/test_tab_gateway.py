"""In Chromium: a tab fetches what no peer has from a gateway its node's owner named, and from no other."""

from __future__ import annotations

from e2e.conftest import RunNode
from playwright.sync_api import BrowserContext

from promisegrid import unixfs


def test_a_tab_fetches_from_the_gateways_its_node_names(
    browser_context: BrowserContext, run_node: RunNode
) -> None:
    far, other = run_node("far"), run_node("other")
    near = run_node("near", "--gateway", far.url)
    data = {name: b"content of " + name.encode() for name in ("public", "private", "elsewhere")}
    cids = {name: str(unixfs.import_bytes(content)[0]) for name, content in data.items()}
    for node, name in ((far, "public"), (far, "private"), (other, "elsewhere")):
        assert node.cli.ok("put", "-", stdin=data[name]).text == cids[name]
    far.cli.ok("publish", cids["public"])
    other.cli.ok("publish", cids["elsewhere"])
    page = browser_context.new_page()
    page.on("console", lambda message: print(message.text))
    page.goto(near.join)
    page.evaluate("promisegrid.ready")

    def get(name: str) -> object:
        return page.evaluate(
            """(cid) => promisegrid.get(cid).then((bytes) => new TextDecoder().decode(bytes),
            (error) => ({code: error.code, text: error.message}))""",
            cids[name],
        )

    refused = get("public")
    assert isinstance(refused, dict)
    assert refused["code"] == "not_found"
    for node in (far, other):
        page.evaluate("(url) => promisegrid.gateways({add: url})", node.url)
    assert get("public") == data["public"].decode()
    for name in ("private", "elsewhere"):
        refused = get(name)
        assert isinstance(refused, dict), name
        assert refused["code"] == "not_found"
    told = {one["url"]: one["failures"] for one in page.evaluate("promisegrid.gateways()")}
    assert told[other.url.rstrip("/")] > 0
    near.cli.ok("gateways", "add", other.url)
    page.reload()
    page.evaluate("promisegrid.ready")
    assert get("elsewhere") == data["elsewhere"].decode()
