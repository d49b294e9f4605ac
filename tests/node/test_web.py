"""HTTP, through a real server on loopback: the guard, the page, apps, health."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from tests.node.hosting import Hosted, hosted, make_bundle, on_loop

from promisegrid import unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.limits import Limits
from promisegrid_node import headers
from promisegrid_node.web import Site

STATIC = "/static/0123456789abcdef"


@dataclass(frozen=True)
class Served:
    node: Hosted
    client: TestClient  # type: ignore[type-arg]

    async def put(self, data: bytes) -> Cid:
        cid, blocks = unixfs.import_bytes(data)
        await self.save(blocks)
        return cid

    async def put_tree(self, *nodes: unixfs.TreeNode) -> Cid:
        cid, blocks = unixfs.import_tree(nodes)
        await self.save(blocks)
        return cid

    async def save(self, blocks: list[Block]) -> None:
        await self.node.host.ask(self.node.kernel.save(blocks))

    async def app(self) -> Cid:
        return await self.put_tree(
            ("index.html", 1, b"<!doctype html>app"),
            ("src/main.js", 1, b"export {}"),
            ("logo.svg", 1, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
            ("big.bin", 1, b"b" * 3_000_000),
        )


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Served]:
    async with hosted() as node:
        site = Site(node.host, make_bundle(folder), headers.served_names("127.0.0.1"), Limits())
        async with TestClient(
            TestServer(site.application(), host="127.0.0.1"), auto_decompress=False
        ) as client:
            yield Served(node, client)


# -- the guard -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/grid", STATIC + "/boot.mjs", "/nothing"])
def test_a_rebound_name_gets_nothing(tmp_path: Path, path: str) -> None:
    @on_loop
    async def run() -> None:
        async with served(tmp_path) as site:
            answer = await site.client.get(path, headers={"Host": "evil.example"})
            assert answer.status == 421
            assert "evil.example" in await answer.text()
            assert "Content-Security-Policy" not in answer.headers or path != "/"

    run()


@on_loop
async def test_a_foreign_page_may_not_open_the_grid(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            answer = await site.client.get("/grid", headers={"Origin": origin})
            assert answer.status == 403, origin
            assert origin in await answer.text()
        answer = await site.client.get("/grid")
        assert answer.status == 426


# -- the page ------------------------------------------------------------------------------------------


@on_loop
async def test_the_page_has_a_strict_policy_and_is_revalidated(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        answer = await site.client.get("/")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-cache"
        again = await site.client.get("/", headers={"If-None-Match": answer.headers["ETag"]})
        assert again.status == 304


@on_loop
async def test_hashed_files_are_immutable_typed_and_compressed_as_asked(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        plain = await site.client.get(f"{STATIC}/boot.mjs", headers={"Accept-Encoding": "identity"})
        assert plain.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert "immutable" in plain.headers["Cache-Control"]
        assert "Content-Encoding" not in plain.headers
        packed = await site.client.get(f"{STATIC}/boot.mjs", headers={"Accept-Encoding": "gzip, br"})
        assert packed.headers["Content-Encoding"] == "br"
        assert await packed.read() == b"brotli"
        refused = await site.client.get(f"{STATIC}/boot.mjs", headers={"Accept-Encoding": "br;q=0, gzip"})
        assert "Content-Encoding" not in refused.headers
        wasm = await site.client.get(f"{STATIC}/engine.wasm")
        assert wasm.headers["Content-Type"] == "application/wasm"


@on_loop
async def test_a_tabs_worker_may_ask_the_gateways_named_now(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        url = f"{STATIC}/node.worker.mjs"
        before = await site.client.get(url)
        assert before.headers["Cache-Control"] == "no-cache"
        await site.node.host.ask(site.node.kernel.gateways.add("https://ipfs.example/gateway"))
        after = await site.client.get(url, headers={"If-None-Match": before.headers["ETag"]})
        assert after.status == 200
        assert " https://ipfs.example/gateway/ipfs/;" in after.headers["Content-Security-Policy"]
        again = await site.client.get(url, headers={"If-None-Match": after.headers["ETag"]})
        assert again.status == 304
        assert "ipfs.example" in again.headers["Content-Security-Policy"]
        other = await site.client.get(f"{STATIC}/boot.mjs")
        assert "ipfs.example" not in other.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/stamp", "/static/../../stamp", "/static/%2e%2e/%2e%2e/stamp", "/%00"])
def test_only_what_is_listed_can_be_had(tmp_path: Path, path: str) -> None:
    @on_loop
    async def run() -> None:
        (tmp_path / "stamp").write_text("beside the bundle")
        async with served(tmp_path) as site:
            answer = await site.client.get(path)
            assert answer.status == 404

    run()


@on_loop
async def test_health(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        health = await site.client.get("/healthz")
        assert await health.json() == {"ok": True, "grid": str(site.node.kernel.grid)}


# -- apps ----------------------------------------------------------------------------------------------


@on_loop
async def test_an_apps_files_come_typed_sandboxed_and_readable_by_its_own_modules(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        app = await site.app()
        for path, kind in (
            ("", "text/html; charset=utf-8"),
            ("src/main.js", "text/javascript; charset=utf-8"),
        ):
            answer = await site.client.get(f"/app/{app}/{path}")
            assert answer.status == 200
            assert answer.headers["Content-Type"] == kind
            assert answer.headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        big = await site.client.get(f"/app/{app}/big.bin")
        assert await big.read() == b"b" * 3_000_000


@on_loop
async def test_an_app_opened_directly_leads_to_the_page(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        app = await site.app()
        answer = await site.client.get(
            f"/app/{app}/", headers={"Sec-Fetch-Dest": "document"}, allow_redirects=False
        )
        assert (answer.status, answer.headers["Location"]) == (302, f"/#/app/{app}")
        bare = await site.client.get(f"/app/{app}", allow_redirects=False)
        assert (bare.status, bare.headers["Location"]) == (302, f"/app/{app}/")


@on_loop
async def test_grid_js_is_ours_whatever_the_folder_holds(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        app = await site.put_tree(("index.html", 1, b"x"), ("grid.js", 1, b"theirs"))
        answer = await site.client.get(f"/app/{app}/grid.js")
        assert await answer.read() == b"export const grid = 1;\n"


@on_loop
async def test_no_service_worker_comes_from_content(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        app = await site.app()
        for path in (f"/app/{app}/src/main.js", f"/app/{app}", f"/ipfs/{app}/src/main.js"):
            answer = await site.client.get(path, headers={"Service-Worker": "script"}, allow_redirects=False)
            assert answer.status == 403, path


@on_loop
async def test_what_an_app_lacks_is_one_sentence(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        app = await site.app()
        answer = await site.client.get(f"/app/{app}/nothing.js")
        assert answer.status in (400, 404)
        assert "nothing.js" in await answer.text()
        answer = await site.client.get("/app/not-a-cid/")
        assert answer.status == 400
        assert "not-a-cid" in await answer.text()
        answer = await site.client.get(f"/app/{Cid.of(b'nobody has this')}/")
        assert answer.status in (400, 404)
