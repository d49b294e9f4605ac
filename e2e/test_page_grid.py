"""Several tabs and a node in the page: work spread over them, topics, and the picture of it all."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import NO_CHANNELS
from e2e.harness import CHROMIUM, Node, chromium_path, running, wait_for
from e2e.programs import cat, counts_to
from e2e.test_page import identity, joined
from playwright.sync_api import Browser, FilePayload, Page, Playwright, expect

STEPS = 60_000_000
"""Counted by one task: some tenths of a second."""
MAP = """async ([code, inputs]) => {
  globalThis.progress = [];
  const onprogress = ({done, total}) => progress.push([done, total]);
  globalThis.mapped = promisegrid.map({code, func: "count", inputs, onprogress});
}"""


@pytest.fixture(scope="module")
def browser(playwright: Playwright) -> Iterator[Browser]:
    """One Chromium; each tab has a profile of its own."""
    made = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM)
    yield made
    made.close()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, web_bundle: Path) -> Iterator[Node]:
    """A node that runs programs for others."""
    with running(
        tmp_path_factory.mktemp("grid") / "home", "--serve", "--cpu", "1", bundle=web_bundle
    ) as node:
        yield node


def tab(browser: Browser, node: Node) -> Page:
    """A member in a profile of its own."""
    context = browser.new_context(service_workers="block")
    context.add_init_script(NO_CHANNELS)
    return joined(context, node)


@pytest.fixture(scope="module")
def ann(browser: Browser, serving: Node) -> Page:
    """A tab that lives through all of it."""
    return tab(browser, serving)


@pytest.fixture(scope="module")
def bob(browser: Browser, serving: Node) -> Page:
    """Another, that serves, until the last test closes it."""
    page = tab(browser, serving)
    page.evaluate("promisegrid.serve({cpu: 1, memory: 64 * 2 ** 20})")
    return page


def put(page: Page, program: bytes) -> str:
    return str(page.evaluate("(bytes) => promisegrid.put(new Uint8Array(bytes))", list(program)))


def did_of(page: Page) -> str:
    return str(identity(page)["did"])


def seen(page: Page) -> dict[str, Any]:
    found = page.evaluate("promisegrid.seen()")
    assert isinstance(found, dict)
    return found


def test_topics_between_two_tabs(ann: Page, bob: Page) -> None:
    heard = """(topic) => {
      globalThis.heard = [];
      promisegrid.addEventListener("topic", ({detail}) => heard.push(detail));
      return promisegrid.follow(topic);
    }"""
    for page in (ann, bob):
        page.evaluate(heard, "news")
    said = ann.evaluate("promisegrid.publish('news', new Uint8Array([1, 2, 3]))")
    assert said["by"] == did_of(ann) and said["topic"] == "news"
    bodies = "heard.map(({body}) => body instanceof Uint8Array ? [...body] : body)"
    wait_for(lambda: bob.evaluate(bodies) == [[1, 2, 3]], what="the entry")
    bob.evaluate("promisegrid.publish('news', {text: 'hello', about: [1]})")
    wait_for(lambda: ann.evaluate(bodies) == [[1, 2, 3], {"text": "hello", "about": [1]}], what="the answer")
    entries = ann.evaluate("promisegrid.entries('news')")
    assert [one["by"] for one in entries] == [did_of(ann), did_of(bob)]
    assert bob.evaluate("promisegrid.topics()") == ["news"]
    assert bob.evaluate("promisegrid.leave('news')") is True


def test_the_panel_shows_what_is_said_also_while_somebody_never_pauses(ann: Page, bob: Page) -> None:
    ann.evaluate("location.hash = '#/grid'")
    ann.fill("#topic-name", "talk")
    ann.press("#topic-name", "Enter")
    expect(ann.locator("#topic-title")).to_have_text("talk")
    tell = "promisegrid.dispatchEvent(new Event('topic'))"
    ann.evaluate(f"globalThis.noise = setInterval(() => {tell}, 10)")
    bob.evaluate("promisegrid.publish('talk', '<img src=x onerror=alert(1)>')")
    expect(ann.locator("#topic-said li p").last).to_have_text("<img src=x onerror=alert(1)>")
    assert ann.locator("#topic-said img").count() == 0
    ann.evaluate("clearInterval(noise)")
    ann.click("#topic-leave")
    expect(ann.locator("#topic-title")).not_to_have_text("talk")


def test_what_is_pinned_is_kept_by_others_who_promised(serving: Node, ann: Page) -> None:
    cid = ann.evaluate(
        "promisegrid.put('worth keeping').then(async (cid) => (await promisegrid.pin(cid), cid))"
    )
    ann.goto(f"{serving.url}#/files/{cid}")
    ann.select_option("#look-copies", "1")
    expect(ann.locator("#look-held")).to_contain_text("kept by 0 of 1")
    serving.cli.ok("cap", "grant", did_of(ann), "--ability", "store")
    ann.select_option("#look-copies", "2")
    expect(ann.locator("#look-held")).to_contain_text("kept by 1 of 2")
    expect(ann.locator("#pin-list")).to_contain_text("kept by 1 of 2 others")
    assert serving.cli.ok("get", cid).text == "worth keeping"
    assert ann.evaluate("(cid) => promisegrid.copies(cid, 0)", cid)["holders"] == []
    ann.goto(f"{serving.url}#/")


def test_the_picture_shows_links_by_kind_what_moves_and_who_runs_what(
    serving: Node, ann: Page, bob: Page
) -> None:
    name, code = did_of(bob), put(ann, counts_to())
    ann.get_by_role("link", name="Grid", exact=True).click()
    expect(ann.locator("#net-title")).to_be_visible()
    card = ann.locator(f"#net-picture .card[data-did='{serving.did}']")
    expect(card).to_have_attribute("aria-label", re.compile("linked by WebSocket, serves"))
    expect(ann.locator("#further-list")).to_contain_text("serves")
    ann.evaluate(
        """([code, on, to]) => {
          globalThis.stop = new AbortController();
          const task = {code, func: "count", args: [to], on, signal: stop.signal};
          globalThis.stopped = promisegrid.run(task).catch((error) => error.code);
        }""",
        [code, name, 10**12],
    )
    theirs = ann.locator(f"#net-picture .card[data-did='{name}']")
    expect(theirs).to_have_attribute("aria-label", re.compile("relayed by a peer, serves, runs count for"))
    expect(ann.locator("#work-list")).to_contain_text("count")
    vias = ann.locator("#net-picture .link").evaluate_all("(all) => all.map((one) => one.dataset.via).sort()")
    assert vias == ["relay", "ws"]
    assert ann.locator("#links-rows tr").count() == 2
    big = serving.cli.ok("put", "-", stdin=random.Random(1).randbytes(6_000_000)).text
    ann.evaluate("(cid) => promisegrid.get(cid).then((bytes) => bytes.length)", big)
    moving = ann.locator("#net-picture .link[data-via=ws] .lane.in:not([data-level='0'])")
    expect(moving).to_have_count(1)
    expect(card).to_contain_text("iB/s")
    ann.evaluate("stop.abort()")
    assert ann.evaluate("stopped") == "cancelled"
    card.focus()
    ann.keyboard.press("Enter")
    expect(ann.locator("#net-detail")).to_contain_text("WebSocket")
    size = ann.viewport_size
    assert size is not None
    ann.set_viewport_size({"width": 360, "height": 740})
    expect(ann.locator("#net-picture .net.comb")).to_be_visible()
    assert ann.evaluate("document.documentElement.scrollWidth") <= 360
    ann.set_viewport_size(size)
    ann.get_by_role("link", name="Programs", exact=True).click()
    expect(ann.locator("#main")).to_be_visible()


def test_a_run_for_each_file_from_the_form(ann: Page, bob: Page) -> None:
    ann.set_input_files("#code-file", {"name": "cat.wasm", "mimeType": "application/wasm", "buffer": cat()})
    texts = {f"{name}.txt": f"of {name}".encode() for name in ("ann", "bob", "eve")}
    files: list[FilePayload] = [
        {"name": name, "mimeType": "text/plain", "buffer": data} for name, data in texts.items()
    ]
    ann.set_input_files("#files", files)
    ann.get_by_text("a run each").click()
    ann.click("#go")
    expect(ann.locator("#result .verdict")).to_contain_text("Done 3 of 3")
    ann.locator("#result .each").get_by_role("link", name="eve.txt").click()
    expect(ann.locator("#look-body pre")).to_have_text("of eve")
    ann.get_by_role("link", name="Programs", exact=True).click()
    ann.get_by_text("a folder", exact=True).click()
    for _ in texts:
        ann.locator("#files-list button").first.click()


def test_a_map_can_be_given_up_and_one_task_goes_anywhere(serving: Node, ann: Page) -> None:
    code = put(ann, counts_to())
    ended = ann.evaluate(
        """async ([code, steps]) => {
          const stop = new AbortController();
          const inputs = Array.from({length: 500}, (_, at) => [steps + 1000 + at]);
          const onprogress = ({done}) => done && stop.abort();
          const map = promisegrid.map({code, func: "count", inputs, signal: stop.signal, onprogress});
          return map.then(() => "done", (error) => error.code);
        }""",
        [code, STEPS],
    )
    assert ended == "cancelled" and seen(ann)["maps"] == []
    run = "([code, on]) => promisegrid.run({code, func: 'count', args: [7], on})"
    done = ann.evaluate(run, [code, "anywhere"])
    assert done["value"] == 7 and done["why"].startswith("run ")
    ann.evaluate(run, [code, None])
    assert ann.evaluate(run, [code, "anywhere"])["why"].startswith("remembered")


def test_a_map_is_finished_although_a_tab_is_closed_in_the_middle(
    serving: Node, ann: Page, bob: Page
) -> None:
    name = did_of(bob)
    inputs = [STEPS + number for number in range(40)]
    ann.evaluate(MAP, [put(ann, counts_to()), [[number] for number in inputs]])
    wait_for(lambda: any(one["by"].get(name) for one in seen(ann)["maps"]), 60, "a result of bob's")
    assert any(one["by"] == name for one in seen(ann)["there"])
    bob.context.close()
    done = ann.evaluate("mapped")
    assert [one.get("value") for one in done["results"]] == inputs
    assert done["failed"] == 0 and done["done"] == 40
    assert 0 < done["by"].pop(name) < 40 and set(done["by"]) == {did_of(ann), serving.did}
    progress = ann.evaluate("progress")
    assert progress[-1] == [40, 40] and progress == sorted(progress)
    assert seen(ann)["maps"] == []
