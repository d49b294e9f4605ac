"""The Files view in Chromium: what is dropped there, what a look into it shows, what is kept of it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from e2e.harness import Node
from e2e.test_page import ABSENT, joined
from playwright.sync_api import BrowserContext, Locator, Page, expect

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAIAAAABCAIAAAB7QOjdAAAAD0lEQVR4nGP4z8AARP8ZAAz/Af+J0fT6AAAAAElFTkSuQmCC"
)
SVG = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="4"><script>parent.hacked = 1</script>'
    b'<path d="M0 0h8v4z" onload="parent.hacked = 1"/></svg>'
)
BIG = bytes(range(251)) * 10_000
"""Three blocks of at most 1 MiB, and one that names them."""
HOSTILE = "<img src=x onerror=hacked=1>.html"
MARKUP = "<script>globalThis.hacked = 1</script><b>not bold</b>\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with something of every kind that a browser can be given."""
    made = tmp_path / "notes"
    (made / "sub" / "deep").mkdir(parents=True)
    (made / "empty").mkdir()
    (made / "sub" / "picture.png").write_bytes(PNG)
    (made / "sub" / "drawing.svg").write_bytes(SVG)
    (made / "sub" / "deep" / "big.bin").write_bytes(BIG)
    (made / HOSTILE).write_text(MARKUP)
    (made / "50% of #1?.txt").write_text("a name that means something in a URL")
    (made / ".hidden").write_text("left out, here and there")
    return made


def files_view(page: Page) -> None:
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


def look(page: Page, *names: str) -> None:
    """Follow names, from folder to folder."""
    for name in names:
        page.locator(".listing a").get_by_text(name, exact=True).click()
        expect(page.locator("#look-crumbs li").last).to_have_text(name)
        expect(page.locator("#look-found")).to_be_visible()


def test_a_dropped_folder_is_what_the_command_line_makes_of_it(
    browser_context: BrowserContext, node: Node, folder: Path
) -> None:
    page = joined(browser_context, node)
    files_view(page)
    drop(page, page.locator("#put"), folder)
    cid = stored(page, "notes/")
    assert cid == node.cli.ok("put", folder).text
    is_browsed_shown_as_what_it_is_and_saved_whole(page, node, folder)
    page.reload()
    page.wait_for_selector("#pin-list li a")
    expect(page.locator("#pin-list li a")).to_have_text("notes")
    expect(page.locator("#pin-list .amount")).to_have_text("2.4 MiB")
    assert [(kept["cid"], kept["name"]) for kept in page.evaluate("promisegrid.pins()")] == [(cid, "notes")]


def is_browsed_shown_as_what_it_is_and_saved_whole(page: Page, node: Node, folder: Path) -> None:
    """Content that a peer has, a symlink in it, by its CID."""
    (folder / "link").symlink_to("sub/picture.png")
    cid = node.cli.ok("put", folder).text
    page.fill("#look-cid", f"/ipfs/{cid}/")
    page.click("#look-form button")
    expect(page.locator(".listing tbody tr")).to_have_count(5)
    names = page.locator(".listing tbody td:first-child").all_inner_texts()
    assert names[:2] == ["empty", "sub"], "folders come first"
    assert set(names[2:]) == {"50% of #1?.txt", HOSTILE, "link → sub/picture.png"}

    look(page, HOSTILE)
    expect(page.locator("#look-body pre")).to_have_text(MARKUP)
    page.go_back()
    look(page, "50% of #1?.txt")
    expect(page.locator("#look-body pre")).to_contain_text("means something in a URL")
    page.go_back()
    look(page, "link")
    expect(page.locator("#look-body")).to_contain_text("A link to sub/picture.png; it is not followed here.")
    page.go_back()
    look(page, "empty")
    expect(page.locator("#look-body")).to_have_text("An empty folder.")
    page.go_back()

    for name, side, scheme in (("picture.png", 2, "blob:"), ("drawing.svg", 8, "data:image/svg+xml;base64,")):
        look(page, "sub", name)
        picture = page.get_by_alt_text(f"The picture {name}")
        assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") == side
        assert (picture.get_attribute("src") or "").startswith(scheme)
        page.locator("#look-crumbs a").first.click()
        expect(page.locator(".listing tbody tr")).to_have_count(5)

    look(page, "sub", "deep", "big.bin")
    expect(page.locator("#look-body")).to_have_text("Not text; save it to look at it.")
    with page.expect_download() as saving:
        page.click("#look-save")
    assert saving.value.suggested_filename == "big.bin"
    assert Path(saving.value.path()).read_bytes() == BIG
    assert page.evaluate("globalThis.hacked") is None


def test_what_is_pinned_stays_and_mistakes_are_told_and_storing_stops(
    browser_context: BrowserContext, node: Node, tmp_path: Path
) -> None:
    cid = node.cli.ok("put", "-", "--name", "told", stdin=b"somebody told me").text
    page = joined(browser_context, node)
    page.goto(f"{node.url}#/files/{cid}")
    pin = page.locator("#look-pin")
    expect(pin).to_have_text("Pin")
    pin.click()
    expect(pin).to_have_text("Unpin")
    expect(page.locator("#look-kept")).to_have_text("pinned: kept here")
    assert page.evaluate("promisegrid.gc({dry_run: true})")["removed"] == 0
    row = page.locator("#pin-list li")
    row.get_by_role("button", name="Unpin").click()
    expect(row).to_have_count(0)
    expect(pin).to_have_text("Pin")
    expect(page.locator("#pins-empty")).to_be_visible()
    page.click("#gc-look")
    expect(page.locator("#gc-said")).to_contain_text("Nothing: all of it is")
    expect(page.locator("#room-text")).to_contain_text("left in this browser")
    room = page.evaluate("promisegrid.storage()")
    assert room["quota"] > room["used"] > 0 and room["persisted"] in (True, False)
    mistakes_are_told(page, node)
    storing_is_watched_and_stopped(page, tmp_path)
    it_fits_keyboards_and_phones(page, node)


def mistakes_are_told(page: Page, node: Node) -> None:
    """In the view, and to a script."""
    error = page.locator("#look-error")
    page.fill("#look-cid", "<b>nonsense</b>")
    page.keyboard.press("Enter")
    expect(error).to_contain_text("“<b>nonsense<” is not a CID")
    page.goto(f"{node.url}#/files/bafkrei")
    expect(error).to_contain_text("bafkrei")
    page.goto(f"{node.url}#/files/{ABSENT}")
    expect(error).to_contain_text(ABSENT)
    cid = node.cli.ok("put", "-", stdin=b"no folder").text
    page.goto(f"{node.url}#/files/{cid}/inner/%ff")
    expect(error).to_contain_text("inner")
    expect(page.locator("#look-found")).to_be_hidden()
    told = page.evaluate(
        """async (absent) => {
          const fails = (work) => work.then(() => null, (error) => error.code);
          return [await fails(promisegrid.pin("x")), await fails(promisegrid.pin(absent)),
                  await fails(promisegrid.unpin(7)), await fails(promisegrid.ls(absent)),
                  await fails(promisegrid.putFolder([{path: "../x", file: "x"}])),
                  await fails(promisegrid.putFolder([{path: "a", file: "x"}, {path: "a/b", file: "x"}])),
                  await fails(promisegrid.putFolder([{path: "a", file: "x"}, {path: "a", file: "y"}]))];
        }""",
        ABSENT,
    )
    assert told == ["bad_cid", "not_found", "bad_cid", "not_found", "bad_args", "bad_args", "bad_args"]


def storing_is_watched_and_stopped(page: Page, tmp_path: Path) -> None:
    """Progress by bytes and blocks; nothing is kept of what was stopped."""
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(400_000_000)
    page.evaluate(
        """() => {
          globalThis.seen = [];
          promisegrid.addEventListener("progress", ({detail}) => {
            seen.push([detail.done, detail.total, detail.blocks.length]);
            if (seen.length === 3) document.getElementById("put-stop").click();
          });
        }"""
    )
    page.set_input_files("#put-files", large)
    expect(page.locator("#put-error")).to_have_text("Stopped; nothing of “large.bin” is kept.")
    expect(page.locator("#put-now")).to_be_hidden()
    seen = page.evaluate("seen")
    assert seen[0][:2] == [4 * 1024**2, 400_000_000] and 3 <= seen[0][2] <= 4 and len(seen) < 20
    assert page.evaluate("promisegrid.pins()") == []


def it_fits_keyboards_and_phones(page: Page, node: Node) -> None:
    """Every control has a name and is reached in order; the longest names make nothing wide."""
    page.set_viewport_size({"width": 360, "height": 740})
    name = "a-very-long-name-without-any-place-to-break-it" * 4
    made = page.evaluate(
        """async (name) => {
          const cid = await promisegrid.putFolder([{path: `${name}.txt`, file: "x"}]);
          await promisegrid.pin(cid, name);
          return cid;
        }""",
        name,
    )
    page.goto(f"{node.url}#/files/{made}/")
    expect(page.locator(".listing tbody tr")).to_have_count(1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#files-title")).to_be_focused()
    assert page.locator("#files-view").is_visible()
    reached = []
    for _ in range(13):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    ids = [at for at in reached if at.startswith(("put-", "look-c"))]
    assert ids == ["put-files", "put-folder", "look-cid", "look-copies"] and f"{name}.txt" in reached
    unnamed = page.evaluate(
        """[...document.querySelectorAll("#files-view :is(input, button, progress, nav, ul)")].filter((at) =>
          !at.labels?.length && !at.ariaLabel && !at.getAttribute("aria-labelledby") && !at.textContent.trim()
        ).map((at) => at.id)"""
    )
    assert unnamed == []
