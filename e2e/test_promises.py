"""Promises between real nodes: given, used up, kept later over a restart, taken back; drawn in the page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from e2e import programs
from e2e.conftest import RunNode
from e2e.harness import Node, wait_for
from e2e.test_page import identity, joined
from playwright.sync_api import BrowserContext, Page, expect


@pytest.fixture
def add_one(tmp_path: Path) -> Path:
    """A program of one function."""
    path = tmp_path / "add.wasm"
    path.write_bytes(programs.add_one())
    return path


def meet(run_node: RunNode) -> tuple[Node, Node]:
    """Two nodes of one grid, connected: who promises, and whom."""
    ann = run_node("ann")
    bob = run_node("bob", "--peer", ann.join)
    wait_for(lambda: bob.cli.ok("peers", "--json").json["peers"], what="the peer")
    return ann, bob


def states(node: Node) -> dict[str, str]:
    """What became of the promises to run something that a node knows; memberships left out."""
    return {one["promise"]: one["state"] for one in told(node)}


def told(node: Node) -> list[dict[str, Any]]:
    """The promises to run something that a node knows."""
    known = node.cli.ok("cap", "ls", "--json").json["promises"]
    return [one for one in known if one["what"] != {"ability": "member"}]


def test_a_promise_is_used_up_and_another_taken_back(run_node: RunNode, add_one: Path) -> None:
    ann, bob = meet(run_node)
    call = ("call", add_one, "add_one", "--on", ann.did[-8:])
    once = ("cap", "grant", bob.did[-8:], "--code", add_one, "--func", "add_one", "--uses", "1", "--json")
    given = ann.cli.ok(*once).json
    assert given["delivered"]
    assert states(bob) == {given["promise"]: "offered"}
    assert bob.cli.ok(*call, "41").text == "42"
    assert bob.cli.refused(*call, "5")
    wait_for(lambda: states(bob) == states(ann) == {given["promise"]: "used up"}, what="used up")

    more = ann.cli.ok("cap", "grant", bob.did, "--code", add_one, "--arg", "0 <= 100").text
    assert bob.cli.ok(*call, "5").text == "6"
    assert "argument" in bob.cli.refused(*call, "101", "--promise", more[-10:])
    assert "runs programs for others" in bob.cli.refused(*call, "101")
    assert ann.cli.ok("cap", "revoke", more[-10:], "--reason", "enough").text == f"revoked {more}"
    shown = bob.cli.ok("cap", "show", more, "--json").json
    assert (shown["state"], shown["reason"]) == ("revoked", "enough")


def test_a_promise_is_kept_later_over_a_restart(run_node: RunNode, add_one: Path) -> None:
    ann, bob = meet(run_node)
    promise = ann.cli.ok("cap", "grant", bob.did, "--code", add_one, "--later").text
    done = bob.cli("call", add_one, "add_one", "41", "--on", ann.did, "--json")
    assert (done.code, done.json["promise"]) == (125, promise)
    call = done.json["deferred"]
    assert ann.stop() == 0
    ann = run_node("ann", port=ann.port)
    (waiting,) = ann.cli.ok("cap", "pending", "--json").json["pending"]
    assert (waiting["call"], waiting["for"], waiting["func"]) == (call, bob.did, "add_one")
    assert states(ann) == {promise: "deferred"}
    ann.cli.ok("cap", "keep", call[-10:])
    assert bob.cli.ok("cap", "await", call, "--timeout", "30").text == "42"
    assert states(bob) == {promise: "kept"}


def edge(page: Page, state: str) -> None:
    """The one promise drawn is in this state, in words too."""
    label = page.locator("#promise-graph .edge[role=button]")
    expect(label).to_have_attribute("data-state", state)
    expect(label).to_contain_text(state)


def test_a_tab_promises_and_takes_back(browser_context: BrowserContext, node: Node, add_one: Path) -> None:
    page = joined(browser_context, node)
    did = identity(page)["did"]
    page.click("#give summary")
    page.set_input_files("#give-file", add_one)
    expect(page.locator("#give-code")).to_have_value(node.cli.ok("put", add_one).text)
    page.fill("#give-func", "add_one")
    page.fill("#give-uses", "2")
    page.fill("#give-fuel", "1000000")
    page.fill("#give-memory", "64")
    page.fill("#give-time", "5")
    page.click("#give-form button[type=submit]")
    edge(page, "offered")
    expect(page.locator("#promise-detail")).to_contain_text("fuel 1,000,000, memory 64 MiB, time 5 s")
    (held,) = told(node)
    assert held["budget"] == {"fuel": 1_000_000, "memory": 64 * 1024 * 1024, "time": 5_000}
    call = ("call", add_one, "add_one", "--on", did)
    assert node.cli.ok(*call, "41").text == "42"
    edge(page, "kept")
    expect(page.locator("#promise-detail")).to_contain_text("kept, 1 of 2")
    page.locator("#promise-detail").get_by_role("button", name="Revoke").click()
    edge(page, "revoked")
    assert node.cli.refused(*call, "5")
    expect(page.locator("#promise-detail").get_by_role("button", name="Revoke")).to_have_count(0)


def test_a_tab_passes_on_what_it_holds(browser_context: BrowserContext, node: Node, add_one: Path) -> None:
    page = joined(browser_context, node)
    held = node.cli.ok(
        "cap", "grant", identity(page)["did"], "--code", add_one, "--uses", "5", "--delegate", "1"
    ).text
    label = page.locator(f'#promise-graph .edge[data-id="{held}"][role=button]')
    label.focus()
    page.keyboard.press("Enter")
    page.locator("#promise-detail").get_by_role("button", name="Pass it on").click()
    page.fill("#give-uses", "9")
    page.click("#give-form button[type=submit]")
    expect(page.locator("#give-error")).to_contain_text("uses")
    page.fill("#give-uses", "2")
    page.click("#give-form button[type=submit]")
    expect(page.locator("#promise-detail")).to_contain_text("rests on")
    expect(page.locator("#promise-graph .edge.chain[role=button]")).to_have_attribute("data-id", held)
    assert {(one["promise"] == held, one["uses"], one["state"]) for one in told(node)} == {
        (True, 5, "offered"),
        (False, 2, "offered"),
    }


def test_a_tab_keeps_by_hand_what_it_promised_for_later(
    browser_context: BrowserContext, node: Node, add_one: Path
) -> None:
    page = joined(browser_context, node)
    code = page.evaluate(
        """async ([bytes, to]) => {
          const code = await promisegrid.put(new Uint8Array(bytes));
          await promisegrid.caps.grant({to, code, func: "add_one", later: true});
          return code;
        }""",
        [list(add_one.read_bytes()), node.did],
    )
    call = ("call", code, "add_one", "41", "--on", identity(page)["did"], "--json")
    first = node.cli(*call)
    assert first.code == 125
    page.locator("#pending").get_by_role("button", name="Keep").click()
    edge(page, "kept")
    assert node.cli.ok("cap", "await", first.json["deferred"], "--timeout", "30").text == "42"
    expect(page.locator("#pending-part")).to_be_hidden()
