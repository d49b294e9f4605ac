#!/usr/bin/env python3
"""Pictures of the page, to be looked at: joining, ready, after a run, an app, errors; in four looks.

    .venv/bin/python -m e2e.screenshots DIR [--bundle build/web] [--only NAME]

Everything is real: a node, Chromium, the bundle, resvg from its package.
Prints each picture's path, and fails when a page is wider than its screen. A person judges the rest.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from e2e.conftest import NO_CHANNELS
from e2e.harness import BUNDLE, ROOT, Node, chromium_path, running, wait_for
from e2e.netspace import apart
from e2e.programs import counts_to
from playwright.sync_api import BrowserContext, Page, Route, ViewportSize, sync_playwright

ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
]
RENDER = ROOT / "apps" / "render"
WASM = RENDER / "handlers" / "resvg.wasm"
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 140">
<rect width="240" height="140" fill="#f3e9d2"/><circle cx="175" cy="48" r="24" fill="#e4572e"/>
<path d="M0 110 Q60 60 120 110 T240 110 V140 H0Z" fill="#20545c"/></svg>"""
SLOW_MS = 60_000
WIDE: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
LOOKS = {"light": (WIDE, False), "dark": (WIDE, True), "phone": (PHONE, False), "phone-dark": (PHONE, True)}


class Camera:
    """Takes pictures of one page into a folder."""

    def __init__(self, folder: Path, look: str) -> None:
        self._folder, self._look = folder, look

    def shoot(self, page: Page, name: str, whole: bool = True) -> None:
        """One picture; an AssertionError when the page scrolls sideways."""
        path = self._folder / f"{name}-{self._look}.png"
        page.screenshot(path=path, full_page=whole)
        print(path)
        wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} ({self._look}) is {wide} px wider than the screen"


def joining(page: Page, node: Node, camera: Camera) -> None:
    """The way to being a node, held where Python is on its way."""
    held: list[Route] = []
    page.route("**/*.wasm", lambda route: held.append(route))
    page.goto(node.join)
    page.wait_for_selector("#phases li")
    page.wait_for_timeout(600)
    camera.shoot(page, "1-joining", whole=False)
    for route in held:
        route.abort()
    page.unroute_all(behavior="wait")
    page.goto("about:blank")


def ready(page: Page, node: Node, camera: Camera) -> None:
    """A node that has just come up."""
    page.goto(node.join)
    page.wait_for_selector("#main:not([hidden])", timeout=SLOW_MS)
    page.wait_for_selector("#link[data-state=online]", timeout=SLOW_MS)
    page.wait_for_selector("#peer-list .copy", timeout=SLOW_MS)
    camera.shoot(page, "2-ready")


def after_a_run(page: Page, node: Node, camera: Camera) -> None:
    """resvg, chosen by hand, on a drawing."""
    page.set_input_files("#code-file", WASM)
    page.set_input_files("#files", {"name": "hill.svg", "mimeType": "image/svg+xml", "buffer": SVG.encode()})
    page.fill("#args", "hill.svg hill.png")
    camera.shoot(page, "3-filled")
    page.click("#go")
    page.wait_for_selector("#result .verdict", timeout=SLOW_MS)
    page.wait_for_timeout(400)
    camera.shoot(page, "4-run")
    page.click("#go")
    page.wait_for_selector("#result .verdict", timeout=SLOW_MS)
    page.wait_for_selector("#tape > :nth-child(2)")
    camera.shoot(page, "5-again")


def for_each_file(page: Page, node: Node, camera: Camera) -> None:
    """The same program on several drawings, over this tab and the node."""
    page.set_input_files("#code-file", WASM)
    names = ("hill.svg", "a drawing with a longer name.svg", "not a drawing.txt", "sea.svg")
    buffers = [SVG.replace("240", f"{240 + at}") if "svg" in name else "no" for at, name in enumerate(names)]
    page.set_input_files(
        "#files",
        [
            {"name": name, "mimeType": "text/plain", "buffer": data.encode()}
            for name, data in zip(names, buffers, strict=True)
        ],
    )
    page.get_by_text("a run each").click()
    page.fill("#args", "--resources-dir / - -c")
    page.click("#go")
    page.wait_for_selector("#result .each", timeout=SLOW_MS)
    camera.shoot(page, "5-each")
    page.get_by_text("a folder", exact=True).click()
    for _ in names:
        page.locator("#files-list button").first.click()


def promises(page: Page, node: Node, camera: Camera) -> None:
    """Two promises between the tab and the node, one of them chosen, one call that waits."""
    code = node.cli.ok("put", WASM).text
    later = page.evaluate(
        """async ([to, code]) => {
          const budget = {memory: 67108864, time: 5000};
          await promisegrid.caps.grant({to, code, uses: 3, delegate: 1, budget});
          return (await promisegrid.caps.grant({to, code, later: true})).promise;
        }""",
        [node.did, code],
    )
    did = page.evaluate("promisegrid.ready.then(({did}) => did)")
    svg = ("run", code, "--on", did, "--stdin", "-", "--")
    node.cli.ok(*svg, "--resources-dir", "/", "-", "-c", stdin=SVG.encode())
    node.cli(*svg[:-1], "--promise", later, "--", "-", "-c", stdin=SVG.encode())
    node.cli.ok("cap", "grant", did, "--code", code, "--json")
    page.wait_for_selector("#promise-graph .edge[role=button] >> nth=2")
    page.locator("#promise-graph .edge[role=button]").first.click()
    page.click("#give summary")
    page.wait_for_timeout(400)
    camera.shoot(page, "5-promises")


def files(page: Page, node: Node, camera: Camera) -> None:
    """The Files view: while a large file is stored, then a folder, a look into it, and a picture."""
    page.goto(f"{node.url}#/files")
    page.wait_for_selector("#files-view:not([hidden])", timeout=SLOW_MS)
    camera.shoot(page, "6-files-empty")
    home = node.cli.home.parent
    (home / "large.bin").write_bytes(random.Random(1).randbytes(100_000_000))
    page.set_input_files("#put-files", home / "large.bin")
    while page.evaluate("document.getElementById('put-progress').value") < 0.25:
        page.wait_for_timeout(20)
    camera.shoot(page, "6-files-storing")
    folder = home / "holiday"
    (folder / "beach").mkdir(parents=True, exist_ok=True)
    (folder / "readme.txt").write_text("What we did, day by day.\n")
    (folder / "beach" / "hill.svg").write_text(SVG)
    (folder / "beach" / "a file with a rather long name, as people give them, of 2026.txt").write_text("x")
    for number in range(12):
        (folder / f"day {number + 1}.txt").write_text(f"Day {number + 1}\n" * 40 * (number + 1))
    page.set_input_files("#put-folder", folder)
    page.locator("#put-done li", has_text="holiday/").locator("a").click(timeout=SLOW_MS)
    page.wait_for_selector("#look-body .listing")
    page.wait_for_timeout(300)
    camera.shoot(page, "6-files-folder")
    page.get_by_role("link", name="beach").click()
    page.get_by_role("link", name="hill.svg").click()
    page.wait_for_selector("#look-body img")
    page.wait_for_timeout(300)
    camera.shoot(page, "6-files-picture")
    page.goto(f"{node.url}#/")
    page.wait_for_selector("#main:not([hidden])", timeout=SLOW_MS)


def the_grid(page: Page, node: Node, camera: Camera) -> None:
    """The Grid view: another tab and a node, while work is spread over them and a file comes."""
    assert page.context.browser is not None
    other = page.context.browser.new_context()
    direct = page.evaluate("'RTCPeerConnection' in globalThis")
    if not direct:
        other.add_init_script(NO_CHANNELS)
    bob = other.new_page()
    bob.goto(node.join)
    bob.wait_for_selector("#peer-list .copy", timeout=SLOW_MS)
    bob.evaluate(
        "promisegrid.serve({cpu: 1, memory: 64 * 2 ** 20}).then(() => promisegrid.follow('weather'))"
    )
    did = bob.evaluate("promisegrid.ready.then(({did}) => did)")
    page.goto(f"{node.url}#/grid")
    page.wait_for_selector("#net-view:not([hidden])", timeout=SLOW_MS)
    if direct:
        via = "(did) => promisegrid.peers().filter((peer) => peer.did === did).map(({via}) => via)"
        wait_for(lambda: "webrtc" in page.evaluate(via, did), what="a direct channel")
    page.wait_for_timeout(2_500)
    camera.shoot(page, "6-grid-quiet")
    code = page.evaluate("(bytes) => promisegrid.put(new Uint8Array(bytes))", list(counts_to()))
    page.evaluate(
        """(code) => {
          const fresh = Math.floor(1e9 * (1 + Math.random()));
          const inputs = Array.from({length: 80}, (_, at) => [fresh + at]);
          promisegrid.map({code, func: "count", inputs}).catch(() => {});
        }""",
        code,
    )
    page.evaluate(
        "promisegrid.follow('weather').then(() => promisegrid.publish('weather', 'Rain, some sun.'))"
    )
    bob.evaluate("promisegrid.publish('weather', 'Here it snows.')")
    done = "promisegrid.seen().then(({maps}) => maps[0]?.done > 6)"
    wait_for(lambda: page.evaluate(done), 60, "some results")
    big = node.cli.ok("put", "-", stdin=random.randbytes(60_000_000)).text
    page.evaluate("(cid) => { promisegrid.get(cid).catch(() => {}); }", big)
    page.locator(".card[data-did]").first.click()
    page.wait_for_selector(".lane.in:not([data-level='0'])", timeout=SLOW_MS, state="attached")
    page.wait_for_timeout(1_200)
    camera.shoot(page, "6-grid")
    page.evaluate("promisegrid.stopMaps()")
    other.close()
    page.goto(f"{node.url}#/")
    page.wait_for_selector("#main:not([hidden])", timeout=SLOW_MS)


def an_error(page: Page, node: Node, camera: Camera) -> None:
    """What a mistake is told."""
    page.fill("#code", "bafkrei-not-a-cid")
    page.click("#go")
    page.wait_for_selector("#run-error:not(:empty)")
    camera.shoot(page, "6-error", whole=False)


def an_app(page: Page, node: Node, camera: Camera) -> None:
    """The render app: its grant, and a picture made by it."""
    cid = node.cli.ok("app", "publish", RENDER, "--json").json["cid"]
    page.goto(f"{node.url}#/app/{cid}")
    page.wait_for_selector("#grant[open]", timeout=SLOW_MS)
    camera.shoot(page, "7-grant", whole=False)
    page.click("#grant button[value=yes]")
    frame = page.frame_locator("#app-stage iframe")
    frame.locator("#go").click()
    frame.locator("#image").wait_for(timeout=SLOW_MS)
    page.wait_for_timeout(300)
    camera.shoot(page, "8-app", whole=False)


def no_app(page: Page, node: Node, camera: Camera) -> None:
    """A CID that is no app."""
    cid = node.cli.ok("put", "-", stdin=b"just a text").text
    page.goto(f"{node.url}#/app/{cid}")
    page.wait_for_selector("#app-stage .error", timeout=SLOW_MS)
    camera.shoot(page, "9-no-app", whole=False)


SCENES: tuple[Callable[[Page, Node, Camera], None], ...] = (
    joining,
    ready,
    after_a_run,
    for_each_file,
    promises,
    files,
    the_grid,
    an_error,
    an_app,
    no_app,
)


def tour(context: BrowserContext, node: Node, camera: Camera, only: str) -> None:
    """Every scene in one profile; a second tab stays `ready`, so that scenes may be left out."""
    page = context.new_page()
    page.on("pageerror", lambda error: print(f"  page error: {error}"))
    for scene in SCENES:
        if scene is ready or not only or only in scene.__name__:
            scene(page, node, camera)


def alone(stack: ExitStack) -> bool:
    """Move into a network of its own, where tabs may make direct channels; False where none can be made."""
    try:
        stack.enter_context(apart())
    except pytest.skip.Exception as error:
        print(f"  no direct channels between tabs: {error}")
        return False
    return True


def main() -> None:
    """Take the pictures the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--only", default="", help="part of a scene's name")
    parser.add_argument("--look", default="", help="one of the looks")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        direct = alone(stack)
        playwright = stack.enter_context(sync_playwright())
        node = stack.enter_context(
            running(scratch / "home", "--serve", "--no-discover", bundle=options.bundle)
        )
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=ARGS)
        for look, (viewport, dark) in LOOKS.items():
            if options.look in ("", look):
                context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
                if not direct:
                    context.add_init_script(NO_CHANNELS)
                tour(context, node, Camera(options.folder, look), options.only)
                context.close()
        browser.close()


if __name__ == "__main__":
    main()
