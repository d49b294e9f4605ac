"""Programs in the page: the same result wherever one runs, and the sentence for each that misbehaves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from e2e import programs
from e2e.conftest import RunNode
from e2e.harness import Node
from e2e.test_page import RESVG, SVG, identity, joined
from playwright.sync_api import BrowserContext, Error, Page, Route, expect

pytestmark = pytest.mark.engine


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder of programs that do what no program should."""
    made = {
        "loops.wasm": programs.loops(),
        "grows.wasm": programs.grows(),
        "recurses.wasm": programs.recurses(),
        "floods.wasm": programs.floods(),
        "traps.wasm": programs.traps(),
        "imports.wasm": programs.imports("env", "launch"),
        "half.wasm": programs.cat()[:100],
        "exits.wasm": programs.exits(3),
    }
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_tab_and_node_and_command_line_give_one_result(
    browser_context: BrowserContext, run_node: RunNode
) -> None:
    node = run_node("serving", "--serve")
    page = joined(browser_context, node)
    drawing = node.cli.home / "in.svg"
    drawing.write_bytes(SVG)
    here = node.cli.ok("run", RESVG, "--stdin", drawing, "--json", "--", "-", "-c").json
    code = node.cli.ok("put", RESVG).text
    run = "([code, svg, more]) => promisegrid.run({code, args: ['-', '-c'], stdin: svg, ...more})"
    run = f"(asked) => ({run})(asked).then(({{task, result, cached, by}}) => ({{task, result, cached, by}}))"
    theirs = page.evaluate(run, [code, SVG.decode(), {"on": node.did}])
    assert theirs == {"task": here["task"], "result": here["result"], "cached": True, "by": node.did}, (
        "it had run it"
    )
    mine = page.evaluate(run, [code, SVG.decode(), {}])
    me = identity(page)["did"]
    assert mine == {"task": here["task"], "result": here["result"], "cached": False, "by": me}
    again = page.evaluate(run, [code, SVG.decode(), {}])
    assert again == {**mine, "cached": True}


def test_the_page_offers_peers_that_serve(browser_context: BrowserContext, run_node: RunNode) -> None:
    node = run_node("serving", "--serve")
    page = joined(browser_context, node)
    cid = node.cli.ok("put", RESVG).text
    page.fill("#code", cid)
    page.fill("#args", "in.svg out.png")
    page.set_input_files("#files", {"name": "in.svg", "mimeType": "image/svg+xml", "buffer": SVG})
    page.locator(f"#on input[value='{node.did}']").check(force=True)
    page.click("#go")
    page.wait_for_selector(".outcome")
    expect(page.locator(".shown img")).to_be_visible()
    expect(page.locator(".slip")).not_to_contain_text("this tab")
    assert page.locator(f'.slip [title="{node.did}"]').count() == 1
    page.click("#more summary")
    for peers, sentence in (("1", "at least 2"), ("2", "2 peers are to run it")):
        page.fill("#compare", peers)
        page.click("#go")
        expect(page.locator("#run-error")).to_contain_text(sentence)


SENTENCES = {
    "loops": ("out_of_time", "did not end within 3000 ms"),
    "grows": ("out_of_memory", "memory"),
    "recurses": ("stack_overflow", "too deeply"),
    "floods": ("", "output|wrote"),
    "traps": ("trap", "unreachable"),
    "imports": ("", "launch"),
    "half": ("invalid_wasm", "truncated"),
}


def test_a_bad_program_is_told_and_costs_only_itself(shared: Page, bad: Path) -> None:
    error = shared.locator("#run-error")
    for name, (code, sentence) in SENTENCES.items():
        shared.set_input_files("#code-file", bad / f"{name}.wasm")
        shared.click("#go")
        shared.locator("#run-error:not(:empty)").wait_for()
        told = (error.get_attribute("data-code") or "", error.inner_text())
        print(name, *told)
        assert code in told[0] and re.search(sentence, told[1]), (name, told)
        expect(shared.locator("#go")).to_be_enabled()
    assert shared.evaluate("promisegrid.put('still here')")


def test_an_exit_code_is_a_result(shared: Page, bad: Path) -> None:
    shared.set_input_files("#code-file", bad / "exits.wasm")
    shared.click("#go")
    expect(shared.locator("#result")).to_contain_text("3")


def test_a_run_is_stopped_by_its_owner(shared: Page, bad: Path) -> None:
    shared.click("#more summary")
    shared.fill("#timeout", "60")
    shared.set_input_files("#code-file", bad / "loops.wasm")
    shared.click("#go")
    shared.click("#stop")
    expect(shared.locator("#run-form")).to_contain_text("Stopped. Nothing was kept of it.")
    expect(shared.locator("#go")).to_be_enabled()


def test_a_reload_while_the_node_is_gone_loses_nothing(
    browser_context: BrowserContext, run_node: RunNode
) -> None:
    """The browser says that it cannot reach the node; once the node is back, so is everything else."""
    node = run_node("gone")
    page = joined(browser_context, node)
    mine = identity(page)
    cid = page.evaluate("promisegrid.put('kept in this browser')")
    node.stop()
    with pytest.raises(Error, match="ERR_CONNECTION_REFUSED"):
        page.reload()
    run_node("gone", port=node.port)
    page.goto(node.url)
    assert identity(page) == mine
    assert page.evaluate("(cid) => promisegrid.get(cid).then((bytes) => bytes.length)", cid) == 20


def test_without_a_database_a_tab_still_runs_and_says_so(browser_context: BrowserContext, node: Node) -> None:
    """The worker's own indexedDB is taken away: its script is served with a first line that does it."""

    def refuse(route: Route) -> None:
        answer = route.fetch()
        line = "IDBFactory.prototype.open = () => { throw new DOMException('no', 'SecurityError'); };\n"
        route.fulfill(response=answer, body=line + answer.text())

    browser_context.route("**/store.mjs", refuse)
    page = joined(browser_context, node)
    expect(page.locator("#notices")).to_contain_text("keeps nothing")
    expect(page.locator("#me-facts")).to_contain_text("nothing: a private window")
    assert (
        page.evaluate("promisegrid.put('x').then((cid) => promisegrid.get(cid)).then((b) => b.length)") == 1
    )


@pytest.fixture
def shared(browser_context: BrowserContext, node: Node) -> Page:
    """A joined tab whose runs end soon."""
    page = joined(browser_context, node)
    page.click("#more summary")
    page.fill("#timeout", "3")
    page.click("#more summary")
    return page
