"""A large module in a tab is metered by a second Python, once, while the kernel's thread answers others."""

from __future__ import annotations

import pytest
from e2e.conftest import RunNode
from e2e.harness import wait_for
from e2e.test_page import RESVG, SVG, joined
from playwright.sync_api import BrowserContext, Page, Route
from tests import programs

pytestmark = pytest.mark.engine

RUN = "(asked) => promisegrid.run({...asked, fresh: true}).then(({result}) => result)"
SMALL = """async (bytes) => {
  const code = await promisegrid.put(new Uint8Array(bytes));
  return (await promisegrid.run({code, func: 'add_one', args: [41], fresh: true})).value;
}"""


def second_pythons(page: Page) -> int:
    """How many workers for large modules there are."""
    return sum(worker.url.endswith("/meter.worker.mjs") for worker in page.workers)


@pytest.mark.timeout(90)
def test_the_kernel_answers_while_a_large_module_is_metered(
    browser_context: BrowserContext, run_node: RunNode
) -> None:
    node = run_node()
    page = joined(browser_context, node)
    code = node.cli.ok("put", RESVG).text
    assert page.evaluate(SMALL, list(programs.NUMBERS)) == 42
    assert second_pythons(page) == 0, "a small module needs none"
    held: list[Route] = []
    browser_context.route("**/bundle.json", lambda route: held.append(route))
    asked = {"code": code, "args": ["-", "-c"], "stdin": SVG.decode()}
    page.evaluate(f"(asked) => {{ window.done = ({RUN})(asked); }}", asked)
    wait_for(lambda: page.evaluate("promisegrid.put('x')") and held, what="a second Python")
    assert page.evaluate(SMALL, list(programs.NUMBERS)) == 42, "and the first one is free"
    held[0].continue_()
    first = page.evaluate("window.done")
    assert page.evaluate(RUN, asked) == first
    assert (len(held), second_pythons(page)) == (1, 1)
    browser_context.unroute("**/bundle.json")
    page.reload()
    page.wait_for_selector("#main:not([hidden])")
    assert page.evaluate(RUN, asked) == first
    assert second_pythons(page) == 0, "what was metered is kept"
