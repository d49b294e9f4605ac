"""The Files view in Chromium: what is dropped there, what a look into it shows, what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import RunNode
from e2e.harness import Node, wait_for
from e2e.test_page import joined, opened
from playwright.sync_api import BrowserContext, Locator, Page, expect

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000002000000010802000000 7b40e8dd0000000f49444154789c63f8cfc0c0f0"
    "9f010007fe01ff 2a5a0c0e0000000049454e44ae426082".replace(" ", "")
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 4" width="8" height="4"><script>parent.hacked=1</script><path d="M0 0h8v4z"/></svg>'
BIG = bytes(range(251)) * 10_000
"""Three blocks of 1 MiB at most, and the one that names them."""
HOSTILE = "<img src=x onerror=globalThis.hacked=1>.txt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with something of every kind."""
    made = tmp_path / "notes"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "empty").mkdir()
    (made / "read me.txt").write_text("first line\n<b>not bold</b>\n")
    (made / "sub" / "picture.png").write_bytes(PNG)
    (made / "sub" / "drawing.svg").write_bytes(SVG)
    (made / "sub" / "deep" / "big.bin").write_bytes(BIG)
    (made / HOSTILE).write_text("text")
    (made / ".hidden").write_text("left out here and there")
    return made


def files_view(page: Page, node: Node) -> None:
    """Go to the Files view as a person does."""
    page.get_by_role("link", name="Files", exact=True).click()
    page.wait_for_selector("#files-view:not([hidden])")


def drop(page: Page, place: Locator, *paths: Path) -> None:
    """Drop things from the disk on a place, as the system does it."""
    box = place.bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **at})
    session.detach()


def stored(page: Page, name: str) -> str:
    """The CID of what has just been stored under a name."""
    row = page.locator("#put-done li", has_text=name).first
    row.wait_for()
    title = row.locator(".copy").get_attribute("title")
    assert title is not None
    return title


def test_a_dropped_folder_is_what_the_command_line_makes_of_it(
    browser_context: BrowserContext, node: Node, folder: Path
) -> None:
    page = joined(browser_context, node)
    files_view(page, node)
    drop(page, page.locator("#put"), folder)
    cid = stored(page, "notes/")
    assert cid == node.cli.ok("put", folder).text
    pin = page.locator("#pin-list li", has_text="notes")
    expect(pin.locator(".amount")).to_have_text("2.4 MiB")
    page.reload()
    expect(page.locator("#pin-list li a")).to_have_text("notes")
    assert [kept["cid"] for kept in page.evaluate("promisegrid.pins()")] == [cid]
