"""The page in Chromium, with a real node: join, share, take over, run, serve, and what mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import OpenBrowser, RunNode
from e2e.harness import ROOT, Node, wait_for
from playwright.sync_api import BrowserContext, Page, expect

SLOW_MS = 60_000
RESVG = ROOT / "apps" / "render" / "handlers" / "resvg.wasm"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 4"><path d="M0 0h8v4z"/></svg>'
FROM_STDIN = ["--resources-dir", "/", "-", "-c"]
"""Without a folder named, resvg writes a warning before the picture."""
ABSENT = "bafkreih7f3nuv2nj6jptk6vhnwsnmw4mn3tlvkdcfxdpssnmq26tqthvwq"


def opened(context: BrowserContext, url: str) -> Page:
    """A tab on this URL; page errors and what the policy refuses are printed with a failing test."""
    page = context.new_page()
    page.set_default_timeout(SLOW_MS)
    page.on("pageerror", lambda error: print(f"page error: {error}"))
    page.on("console", lambda said: print(f"console: {said.text}"))
    page.goto(url)
    return page


def joined(context: BrowserContext, node: Node) -> Page:
    """A tab that is a node and sees its peer."""
    page = opened(context, node.join)
    page.wait_for_selector("#main:not([hidden])")
    page.wait_for_selector("#peer-list .copy")
    return page


def identity(page: Page) -> dict[str, Any]:
    """{did, grid} as the page promises it."""
    found = page.evaluate("promisegrid.ready")
    assert isinstance(found, dict)
    return found


@pytest.fixture
def resvg() -> Path:
    """The renderer as published with the app."""
    if not RESVG.exists():
        pytest.fail("apps/render/handlers/resvg.wasm is missing: run ./build.sh test, which puts it there")
    return RESVG


def choose(page: Page, program: Path, arguments: str) -> None:
    """Fill the form in as a person does."""
    page.set_input_files("#code-file", program)
    page.set_input_files("#files", {"name": "in.svg", "mimeType": "image/svg+xml", "buffer": SVG})
    page.fill("#args", arguments)


def test_a_tab_joins_and_keeps_its_identity(browser_context: BrowserContext, node: Node) -> None:
    page = joined(browser_context, node)
    first = identity(page)
    assert first["did"].startswith("did:key:z") and first["grid"] == node.grid
    assert [peer["did"] for peer in page.evaluate("promisegrid.peers()")] == [node.did]
    expect(page.locator("#link")).to_have_text("connected")
    assert "/join/" not in page.url
    page.reload()
    assert identity(page) == first


def test_tabs_share_one_node_and_the_next_one_takes_over(browser_context: BrowserContext, node: Node) -> None:
    leader = joined(browser_context, node)
    mine = identity(leader)
    second = opened(browser_context, node.url)
    assert identity(second) == mine
    expect(second.locator("#reading-shared")).to_be_visible()
    cid = second.evaluate("promisegrid.put('kept by the node, not by a tab')")
    leader.close()
    expect(second.locator("#reading-shared")).to_be_hidden()
    text = second.evaluate("async (cid) => new TextDecoder().decode(await promisegrid.get(cid))", cid)
    assert text == "kept by the node, not by a tab"
    assert identity(second) == mine
    second.wait_for_selector("#link[data-state=online]")


def test_a_program_runs_on_my_own_file(browser_context: BrowserContext, node: Node, resvg: Path) -> None:
    page = joined(browser_context, node)
    choose(page, resvg, "in.svg out.png")
    page.click("#go")
    page.wait_for_selector(".outcome")
    picture = page.locator(".shown img")
    expect(picture).to_have_attribute("alt", "The picture out.png, made by the program")
    assert picture.evaluate(
        "(image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight])"
    ) == [8, 4]
    assert page.locator(".shown").count() == 1, "the file that was given is not shown as made"
    expect(page.locator(".slip")).to_contain_text("this tab")
    result = page.locator('.slip [aria-label^="Copy the result"]').get_attribute("title")
    page.click("#go")
    expect(page.locator(".stamp")).to_be_visible()
    assert page.locator('.slip [aria-label^="Copy the result"]').get_attribute("title") == result
    expect(page.locator("#tape > li")).to_have_count(2)


def test_a_script_runs_programs_with_every_kind_of_input(
    browser_context: BrowserContext, node: Node, resvg: Path
) -> None:
    page = joined(browser_context, node)
    page.set_input_files("#code-file", resvg)
    done = page.evaluate(
        """async ([svg, FROM_STDIN]) => {
          const code = document.getElementById("code-file").files[0];
          const progress = [];
          promisegrid.addEventListener("progress", ({detail}) => progress.push(detail.phase));
          const bytes = new TextEncoder().encode(svg);
          const stored = await promisegrid.put(code.stream());
          const program = new Uint8Array(await code.arrayBuffer());
          const runs = [
            await promisegrid.run({code, args: FROM_STDIN, stdin: svg}),
            await promisegrid.run({code: program, args: FROM_STDIN, stdin: new Blob([bytes])}),
            await promisegrid.run({code: stored, args: FROM_STDIN, stdin: await promisegrid.put(bytes)}),
            await promisegrid.run({code, args: ["in.svg", "-c"], files: {"in.svg": bytes}}),
          ];
          return runs.map((run) => ({
            ...run, progress, bytes: run.stdout instanceof Uint8Array,
            stdout: [...run.stdout.subarray(0, 4)], stderr: new TextDecoder().decode(run.stderr),
          }));
        }""",
        [SVG.decode(), FROM_STDIN],
    )
    assert all(run["bytes"] and run["exit"] == 0 for run in done), [
        (run["exit"], run["stdout"], run["stderr"][:200]) for run in done
    ]
    assert all(run["stdout"] == [0x89, 0x50, 0x4E, 0x47] for run in done), [
        (run["exit"], run["stdout"], run["stderr"][:200]) for run in done
    ]
    assert len({run["result"] for run in done[:3]}) == 1
    assert [run["cached"] for run in done] == [False, True, True, False]
    assert {"store", "run"} <= set(done[0]["progress"])
    assert {"task", "result", "receipt", "exit", "stdout", "files", "cached", "fuel", "by"} <= set(done[0])


def test_a_stream_gives_back_what_was_put(browser_context: BrowserContext, node: Node) -> None:
    page = joined(browser_context, node)
    same = page.evaluate(
        """async () => {
          const bytes = new Uint8Array(9_000_001).map((_, at) => at * 7);
          const cid = await promisegrid.put(new Blob([bytes]).stream());
          const back = new Uint8Array(await new Response(promisegrid.stream(cid)).arrayBuffer());
          const same = back.every((byte, at) => byte === bytes[at]);
          return [back.length, same, cid === await promisegrid.put(bytes)];
        }"""
    )
    assert same == [9_000_001, True, True]


def test_errors_are_errors_with_a_code_and_a_sentence(browser_context: BrowserContext, node: Node) -> None:
    page = joined(browser_context, node)
    told = page.evaluate(
        """async (absent) => {
          const told = (error) => [error instanceof Error, error.code, error.message];
          const fails = (work) => work().then(() => null, told);
          return {
            cid: await fails(() => promisegrid.get("nonsense")),
            wasm: await fails(() => promisegrid.run({code: new Uint8Array([1, 2, 3])})),
            none: await fails(() => promisegrid.run({})),
            kind: await fails(() => promisegrid.put(42)),
            absent: await fails(() => promisegrid.get(absent)),
          };
        }""",
        ABSENT,
    )
    codes = {name: error[1] for name, error in told.items()}
    assert codes == {
        "cid": "bad_cid",
        "wasm": "not_wasm",
        "none": "bad_args",
        "kind": "bad_args",
        "absent": "not_found",
    }
    assert all(error[0] and len(error[2]) > 20 for error in told.values()), told


def test_the_form_says_what_is_wrong(browser_context: BrowserContext, node: Node, tmp_path: Path) -> None:
    page = joined(browser_context, node)
    error = page.locator("#run-error")
    page.click("#go")
    expect(error).to_contain_text("Choose a program first")
    page.fill("#code", "not-a-cid")
    page.click("#go")
    expect(error).to_contain_text("“not-a-cid” is not a CID")
    expect(page.locator("#code")).to_be_focused()
    (tmp_path / "picture.wasm").write_bytes(b"GIF89a and so on")
    page.set_input_files("#code-file", tmp_path / "picture.wasm")
    page.click("#go")
    expect(error).to_contain_text("WebAssembly")
    expect(page.locator("#go")).to_be_enabled()


def test_it_reconnects_when_the_node_comes_back(browser_context: BrowserContext, run_node: RunNode) -> None:
    node = run_node("back")
    page = joined(browser_context, node)
    node.stop()
    expect(page.locator("#link")).to_have_text("offline, reconnecting")
    expect(page.locator("#peer-list")).to_contain_text("Nobody right now")
    run_node("back", port=node.port)
    expect(page.locator("#link")).to_have_text("connected")
    page.wait_for_selector("#peer-list .copy")


def test_a_tab_serves_only_while_its_owner_says_so(
    browser_context: BrowserContext, node: Node, resvg: Path
) -> None:
    page = joined(browser_context, node)
    did = identity(page)["did"]
    drawing = node.cli.home / "in.svg"
    drawing.write_bytes(SVG)
    run = ("run", resvg, "--on", did, "--stdin", drawing, "--json", "--", *FROM_STDIN)
    refused = node.cli(*run)
    assert refused.code == 125 and "runs programs for others" in refused.err
    page.click("#serve-toggle")
    expect(page.locator("#serve-toggle")).to_have_attribute("aria-checked", "true")
    peer = wait_for(
        lambda: [peer for peer in node.cli.ok("peers", "--json").json["peers"] if peer.get("serves")]
    )
    assert peer[0]["did"] == did
    done = node.cli.ok(*run).json
    assert done["by"] == did and done["exit"] == 0
    expect(page.locator("#tape > li")).to_contain_text(["for "])
    page.click("#serve-toggle")
    expect(page.locator("#serve-toggle")).to_have_attribute("aria-checked", "false")


def test_another_grid_is_a_choice(open_browser: OpenBrowser, run_node: RunNode) -> None:
    mine, other = run_node("mine"), run_node("other")
    context = open_browser()
    page = joined(context, mine)
    did = identity(page)["did"]
    page.goto(f"{mine.url}#/join/{other.grid}")
    notice = page.locator(".notice.bad")
    expect(notice).to_contain_text("This browser belongs to grid")
    expect(notice.get_by_role("button", name="Leave it and join the other")).to_be_visible()
    assert identity(page) == {"did": did, "grid": mine.grid}


def test_a_page_that_is_not_secure_says_so(browser_context: BrowserContext, node: Node) -> None:
    page = browser_context.new_page()
    page.add_init_script("Object.defineProperty(globalThis, 'isSecureContext', {value: false})")
    page.goto(node.join)
    expect(page.locator(".notice.bad")).to_contain_text("secure page")
    link = page.get_by_role("link", name="Open the secure page")
    expect(link).to_have_attribute("href", node.join.replace("http:", "https:"))
    assert page.evaluate("promisegrid.ready.catch((error) => error.code)") == "insecure"


def test_the_keyboard_reaches_everything_and_nothing_is_wider_than_a_phone(
    browser_context: BrowserContext, node: Node
) -> None:
    page = joined(browser_context, node)
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    unnamed = page.evaluate(
        """[...document.querySelectorAll("main input, main select, main button")].filter((at) =>
          !at.labels?.length && !at.ariaLabel && !at.getAttribute("aria-labelledby") && !at.textContent.trim()
        ).map((at) => at.id)"""
    )
    assert unnamed == []


def test_light_and_dark_are_kept(browser_context: BrowserContext, node: Node) -> None:
    page = joined(browser_context, node)
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    before = page.evaluate(paper)
    page.click("#theme")
    after = page.evaluate(paper)
    assert before != after
    page.reload()
    assert page.evaluate(paper) == after
