"""What only a tab's store does: it is strict, it is fenced, it fills up, it grows a version, it rots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e.pages.site import ROOT, chromium, serve
from e2e.test_worker_ports import begin
from playwright.sync_api import BrowserContext, Error, Page, Playwright

MOUNTS = {"/worker/": ROOT / "worker", "/pages/": ROOT / "e2e" / "pages"}
FIRST = ["blocks", "memo", "grid", "apps", "own", "modules", "shelf"]
"""The tables of version 1."""


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    context = chromium(playwright, tmp_path_factory.mktemp("profile"))
    yield context
    context.close()


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A page of an origin that nobody used: a browser remembers for a while how much room there was."""
    with serve(MOUNTS) as origin:
        page = browser.new_page()
        page.goto(f"{origin}/pages/blank.html")
        page.wait_for_function("document.title === 'begun'")
        yield page
        page.close()


def test_what_is_acknowledged_was_written_strictly_in_one_transaction(page: Page) -> None:
    ask = begin(page)
    ask("open")
    (opened,) = [one for one in ask("transactions") if one["mode"] == "readwrite"]
    assert opened["durability"] == "strict"  # the epoch
    small = [["blocks", [n], 10] for n in range(50)]
    ask("together", [["commit", small, []], ["commit", [["kv", [1], 1], ["pins", [1], 1]], []]])
    assert ask("transactions") == [
        {"mode": "readwrite", "durability": "strict", "tables": ["blocks", "kv", "own", "pins"]}
    ]
    ask("together", [["write", small, False]])
    assert [one["durability"] for one in ask("transactions")] == ["relaxed"]
    ask("together", [["write", small, False], ["commit", [["grid", [1], 1]], []]])  # one asks for the disk
    assert [one["durability"] for one in ask("transactions")] == ["strict"]
    ask("identity")
    assert {one["durability"] for one in ask("transactions") if one["mode"] == "readwrite"} == {"strict"}


def test_large_writes_are_split_between_transactions_never_within_one_write(page: Page) -> None:
    ask = begin(page)
    ask("open")
    ask("transactions")
    large = [["blocks", [n], 1_000_000] for n in range(10)]
    asked = [["commit", writes, []] for writes in (large, large, large * 2)]
    assert ask("together", asked) == [None] * 3
    assert len(ask("transactions")) == 3


def test_an_old_leader_cannot_write(page: Page) -> None:
    old, new = begin(page, "old"), begin(page, "new")
    first = old("open")
    old("write", [["grid", [1], [1]]], True)
    assert new("open") == first + 1
    for durable in (True, False):
        with pytest.raises(Error, match="superseded: Another tab has taken this node over"):
            old("write", [["grid", [1], [2]], ["blocks", [9], [9]]], durable)
    assert new("load", "grid", [1]) == [[1]]
    assert new("load", "blocks", [9]) == [None]
    new("write", [["grid", [1], [3]]], True)
    assert old("load", "grid", [1]) == [[3]]


def test_a_full_disk_is_said_and_changes_nothing(page: Page) -> None:
    origin = page.url.partition("/pages")[0]
    session = page.context.new_cdp_session(page)
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 2_000_000})
    ask = begin(page)
    ask("open")
    with pytest.raises(Error, match="disk_full: This browser's storage"):
        ask("fill", "blocks", 40, 1_000_000, True)
    assert ask("scan", "blocks", [], [], 9) == []
    large = [["blocks", [n], 1_000_000] for n in range(9)]
    asked = [["commit", large, []], ["commit", [["grid", [1], 1]], []], ["write", large, False]]
    assert ask("together", asked) == ["disk_full", None, "disk_full"]  # the small one has room
    assert len(ask("load", "grid", [1])[0]) == 1
    assert ask("scan", "blocks", [], [], 9) == []
    session.send("Storage.overrideQuotaForOrigin", {"origin": origin, "quotaSize": 200_000_000})
    assert ask("together", asked) == [None] * 3


MAKE_OLD = """(tables) => new Promise((resolve, reject) => {
  const request = indexedDB.open("promisegrid", 1);
  request.onupgradeneeded = () => tables.forEach((name) => request.result.createObjectStore(name));
  request.onerror = () => reject(request.error);
  request.onsuccess = () => {
    const database = globalThis.old = request.result;
    database.onversionchange = () => { globalThis.told = true; if (!globalThis.stubborn) database.close(); };
    const transaction = database.transaction(["blocks", "own"], "readwrite");
    transaction.objectStore("blocks").put(new Uint8Array([7]), new Uint8Array([1]));
    transaction.objectStore("own").put(41, "epoch");
    transaction.oncomplete = resolve;
  };
})"""


def test_a_store_of_version_1_is_brought_up_to_date_in_place_and_its_tab_is_told(page: Page) -> None:
    page.evaluate(MAKE_OLD, FIRST)
    ask = begin(page)
    assert ask("open") == 42
    assert page.evaluate("globalThis.told") is True
    assert ask("load", "blocks", [1]) == [[7]]
    ask("write", [["kv", [1], [2]], ["streams", [1], [2]], ["pins", [1], [2]]], True)
    assert ask("scan", "pins", [], [], 9) == [[[1], [2]]]


def test_a_tab_that_keeps_an_old_store_open_is_waited_for(page: Page) -> None:
    page.evaluate("globalThis.stubborn = true")
    page.evaluate(MAKE_OLD, FIRST)
    ask = begin(page)
    page.evaluate("() => { ask('a', 'open').then((epoch) => (globalThis.epoch = epoch)); }")
    page.wait_for_function("globalThis.told")
    assert ask("waited") == ["Another tab holds an older version of the store; close it to go on."]
    page.evaluate("old.close()")
    page.wait_for_function("globalThis.epoch === 42")


def test_a_newer_store_is_refused_with_the_remedy(page: Page) -> None:
    page.evaluate(MAKE_OLD.replace(", 1)", ", 99)"), FIRST)
    page.evaluate("old.close()")
    with pytest.raises(Error, match="newer: The store was made by a newer version of this page; reload"):
        begin(page)("open")


def test_a_tab_is_told_when_a_newer_version_takes_the_store(page: Page) -> None:
    ask = begin(page)
    ask("open")
    page.evaluate("() => new Promise((done) => { indexedDB.open('promisegrid', 99).onsuccess = done; })")
    (lost,) = ask("lost")
    assert lost.startswith("A newer version of this page has taken over the store")
    with pytest.raises(Error, match="internal: The browser's database failed"):
        ask("write", [["grid", [1], [1]]], True)


def test_a_value_whose_file_has_rotted_is_missing_and_hides_no_other(
    playwright: Playwright, tmp_path: Path
) -> None:
    """Browsers keep large values in files of their own: one is cut short, one is gone."""
    with serve(MOUNTS) as origin:
        for visit in ("write", "read"):
            context = chromium(playwright, tmp_path)
            page = context.new_page()
            page.goto(f"{origin}/pages/blank.html")
            page.wait_for_function("document.title === 'begun'")
            ask = begin(page)
            ask("open")
            if visit == "write":
                large = [[table, [n], 200_000 + n] for table in ("blocks", "kv") for n in (1, 2, 3)]
                ask("together", [["commit", [*large, ["kv", [9], 9]], []]])
                context.close()
                files = [path for path in tmp_path.rglob("*.blob/**/*") if path.is_file()]
                files.sort(key=lambda path: path.stat().st_size)
                files[0].write_bytes(files[0].read_bytes()[:-100])
                files[-1].unlink()
        found = [ask("lengths", table, [1], [2], [3]) for table in ("blocks", "kv")]
        lost = [lengths.count(None) for lengths in found]
        assert sum(lost) == 2
        assert ask("lengths", "kv", [9]) == [9]
        assert ask("scanned", "blocks", 9) == [length or 0 for length in found[0]]  # for `verify` to find
        left = [length for length in found[1] if length]
        assert ask("scanned", "kv", 9) == [*left, 9]
        assert ask("scanned", "kv", len(left) + 1) == [*left, 9]  # a page is full as long as there is more
        context.close()
