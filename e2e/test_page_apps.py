"""Apps in the page: opened by CID, granted, served through the door and no further; mistakes are told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from e2e.harness import ROOT, Node
from e2e.test_page import ABSENT, joined, opened
from playwright.sync_api import BrowserContext, Page, expect

PROBE = ROOT / "e2e" / "fake" / "probe"
# (module (func (export "add_one") (param i32) (result i32) local.get 0 i32.const 1 i32.add))
ADD_ONE = bytes.fromhex(
    "0061736d0100000001060160017f017f03020100070b01076164645f6f6e650000 0a09010700200041016a0b".replace(
        " ", ""
    )
)


def folder(tmp_path: Path, **about: Any) -> Path:
    """An app's folder whose page tries everything."""
    made = tmp_path / "app"
    shutil.copytree(PROBE, made)
    (made / "handlers").mkdir()
    (made / "handlers" / "add.wasm").write_bytes(ADD_ONE)
    plain = {"name": "Probe", "description": "tries", "entry": "index.html", "asks": ["run"]}
    (made / "app.json").write_text(json.dumps({**plain, "handlers": {"add": "handlers/add.wasm"}, **about}))
    return made


def published(node: Node, made: Path) -> str:
    """The CID of a folder, as the command line publishes it."""
    return str(node.cli.ok("app", "publish", made, "--json").json["cid"])


def granted(page: Page) -> None:
    """The owner says yes."""
    page.wait_for_selector("#grant[open]")
    page.click("#grant button[value=yes]")


def test_an_app_gets_what_was_granted_and_no_more(
    browser_context: BrowserContext, node: Node, tmp_path: Path
) -> None:
    page = joined(browser_context, node)
    cid = published(node, folder(tmp_path))
    page.evaluate("(cid) => { promisegrid.open(cid); }", cid)
    page.wait_for_selector("#grant[open]")
    expect(page.locator("#grant-asks li")).to_have_text(["run the programs it brings along on this node"])
    expect(page.locator("#grant")).to_contain_text("WebRTC")
    granted(page)
    frame = page.frame_locator("#app-stage iframe")
    frame.locator("body[data-tried]").wait_for(state="attached")
    tried = json.loads(frame.locator("body").get_attribute("data-tried") or "{}")
    assert tried == {
        "get": "not_granted", "put": "not_granted",
        "other": "no_such_handler", "inherited": "no_such_handler",
        "files": "not_granted", "huge": "too_large", "own": 42, "crowd": True,
        "parent": "SecurityError", "network": "TypeError", "storage": "SecurityError",
        "granted": ["run"], "origin": "null",
    }  # fmt: skip
    assert page.title() == "Probe · PromiseGrid"
    assert page.locator("#app-stage iframe").get_attribute("sandbox") == "allow-scripts allow-downloads"
    page.reload()
    page.frame_locator("#app-stage iframe").locator("body[data-tried]").wait_for(state="attached")
    page.go_back()
    expect(page.locator("#app")).to_be_hidden()
    assert page.title() == "PromiseGrid"


def test_a_frame_that_goes_elsewhere_loses_its_access(
    browser_context: BrowserContext, node: Node, tmp_path: Path
) -> None:
    page = joined(browser_context, node)
    page.goto(f"{node.url}#/app/{published(node, folder(tmp_path))}")
    granted(page)
    frame = page.frame_locator("#app-stage iframe")
    frame.locator("body[data-tried]").wait_for(state="attached")
    frame.locator("a").click()
    expect(page.locator("#app-stage .error")).to_contain_text("has lost its access")
    assert page.locator("#app-stage iframe").count() == 0


def test_an_app_that_is_not_allowed_is_not_opened(
    browser_context: BrowserContext, node: Node, tmp_path: Path
) -> None:
    page = joined(browser_context, node)
    page.goto(f"{node.url}#/app/{published(node, folder(tmp_path))}")
    page.wait_for_selector("#grant[open]")
    page.keyboard.press("Escape")
    expect(page.locator("#notices")).to_contain_text("Probe was not opened")
    expect(page.locator("#app")).to_be_hidden()
    assert page.locator("#app-stage iframe").count() == 0


def test_render_makes_a_picture_in_a_fresh_tab(browser_context: BrowserContext, node: Node) -> None:
    cid = published(node, ROOT / "apps" / "render")
    page = opened(browser_context, f"{node.url}#/app/{cid}")
    granted(page)
    frame = page.frame_locator("#app-stage iframe")
    frame.locator("#go").click()
    frame.locator("#image").wait_for()
    size = frame.locator("#image").evaluate(
        "(image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    )
    assert size == [640, 400]
    expect(frame.locator("#status")).to_contain_text("Rendered on this node")
    frame.locator("#go").click()
    expect(frame.locator("#status")).to_contain_text("nobody rendered it again")


def test_what_is_wrong_with_an_app_is_told(
    browser_context: BrowserContext, node: Node, tmp_path: Path
) -> None:
    page = joined(browser_context, node)
    plain, bad = tmp_path / "plain", tmp_path / "bad"
    plain.mkdir()
    (plain / "a.txt").write_text("a")
    bad.mkdir()
    (bad / "app.json").write_text("{")
    cases = {
        "nonsense": "is not the CID of an app",
        node.cli.ok("put", "-", stdin=b"text").text: "it is not a folder",
        node.cli.ok("put", plain).text: "has no app.json",
        node.cli.ok("put", bad).text: "is not JSON",
        ABSENT: "",
    }
    for cid, sentence in cases.items():
        page.goto(f"{node.url}#/app/{cid}")
        expect(page.locator("#app-stage .error")).to_contain_text(sentence)
        assert len(page.locator("#app-stage .error").inner_text()) > 20
        page.goto(f"{node.url}#/")
        expect(page.locator("#app")).to_be_hidden()
    page.fill("#app-cid", "nonsense")
    page.keyboard.press("Enter")
    expect(page.locator("#app-error")).to_contain_text("“nonsense” is not the CID of an app")
