"""Keys and signatures at the edge of what is allowed: Chromium and Node.js say what OpenSSL says."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path

import pytest
from e2e.pages.site import ROOT, chromium, serve
from playwright.sync_api import sync_playwright
from tests import edges

from promisegrid.effects import Verify

VERIFY = """async questions => {
  const { Keys } = await import("/worker/keys.mjs");
  const keys = new Keys(null, new Uint8Array());
  const bytes = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
  return Promise.all(questions.map(([alg, ...parts]) => keys.verify(alg, ...parts.map(bytes))));
}"""


def as_json(asked: list[Verify]) -> list[list[object]]:
    """The questions for JavaScript."""
    return [
        [q.alg, *(base64.b64encode(part).decode() for part in (q.key, q.message, q.signature))] for q in asked
    ]


def in_chromium(asked: list[Verify], profile: Path) -> list[object]:
    mounts = {"/worker/": ROOT / "worker", "/pages/": ROOT / "e2e" / "pages"}
    with serve(mounts) as url, sync_playwright() as playwright:
        context = chromium(playwright, profile)
        page = context.new_page()
        page.goto(f"{url}/pages/blank.html")
        verdicts = page.evaluate(VERIFY, as_json(asked))
        context.close()
    return list(verdicts)


def in_nodejs(asked: list[Verify], _: Path) -> list[object]:
    done = subprocess.run(
        ["node", ROOT / "e2e" / "verify.mjs"],
        input=json.dumps(as_json(asked)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return list(json.loads(done.stdout))


@pytest.mark.parametrize("host", [in_chromium, in_nodejs])
def test_the_edges_get_their_verdicts(host: object, tmp_path: Path) -> None:
    assert callable(host)
    assert edges.wrong(lambda asked: host(asked, tmp_path)) == []
