"""Strangers' modules in a real tab: each ends as its entry says, and the tab's node answers after it."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from e2e.harness import Node
from e2e.test_page import joined
from playwright.sync_api import BrowserContext, Page
from tests import programs
from tests.hostile import ALL
from tests.probes import ALL_DIGEST, FLOATS

from promisegrid.errors import CODES

pytestmark = pytest.mark.engine

RUN = """async (asked) => {
  const bytes = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const one = async ({module, name, ...more}) => {
    try {
      const code = await promisegrid.put(bytes(module));
      const {value, fuel} = await promisegrid.run({...more, code, fresh: true});
      return {name, code: "ok", fuel: Number(fuel), text: `${value}`};
    } catch (error) {
      return {name, code: error.code, text: error.message};
    }
  };
  const ended = [];
  const line = [...asked];
  const next = async () => { while (line.length) ended.push(await one(line.shift())); };
  await Promise.all([next(), next()]);
  return ended;
}"""


def text(data: bytes) -> str:
    """Bytes as a page can be handed them."""
    return base64.b64encode(data).decode()


def ran(page: Page, asked: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Store and run each, two at a time; how each ended, by name."""
    return {one["name"]: one for one in page.evaluate(RUN, asked)}


@pytest.mark.timeout(120)
def test_hostile_modules_are_contained_and_floats_are_as_promised(
    browser_context: BrowserContext, node: Node
) -> None:
    page = joined(browser_context, node)
    floats = ran(page, [{"name": "floats", "module": text(FLOATS), "func": "all"}])["floats"]
    assert int(floats["text"]) % 2**64 == ALL_DIGEST, floats
    asked = [
        {
            "name": one.name, "module": text(one.make()), "func": one.func, "fuel": one.fuel,
            "memory": one.memory, "output": one.output, "timeout": one.time_ms / 1000,
        }
        for one in ALL
    ]  # fmt: skip
    for one in asked:
        if one["func"] == "_start":
            del one["func"]
    ended = ran(page, asked)
    assert {name: one["code"] for name, one in ended.items()} == {one.name: one.ends for one in ALL}
    for name, one in ended.items():
        if one["code"] == "ok":
            assert one["fuel"] > 0, name
        else:
            said = one["text"]
            assert one["code"] in CODES
            assert said[0].isupper() and said.endswith(".") and "\n" not in said, (name, said)
    after = ran(page, [{"name": "n", "module": text(programs.NUMBERS), "func": "add_one", "args": [41]}])
    assert after["n"]["text"] == "42", after
