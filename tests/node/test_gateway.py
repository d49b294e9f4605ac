"""`/ipfs`, through a real server on loopback: formats, headers, refusals, who may have what, and pages."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiohttp import ClientPayloadError
from aiohttp.test_utils import make_mocked_request
from tests.node.hosting import on_loop
from tests.node.test_web import Served, served
from yarl import URL

from promisegrid import dagcbor, unixfs
from promisegrid.block import Block
from promisegrid.car import CarError, CarReader
from promisegrid.cid import Cid
from promisegrid_node.asking import OPEN_S, OPENED_MAX, Asker, Opened

CAR = "application/vnd.ipld.car"
RAW = "application/vnd.ipld.raw"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
EMPTY = "bafkqaaa"


async def site_of(site: Served) -> Cid:
    return await site.put_tree(
        ("index.html", 1, b"<!doctype html>home"),
        ("docs/read me.txt", 1, b"hello"),
        ("docs/<b>&.txt", 1, b"odd"),
        ("big.bin", 1, b"b" * 3_000_000),
        ("page.svg", 1, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    )


def read(data: bytes) -> list[Cid]:
    reader = CarReader()
    blocks = reader.feed(data)
    reader.finish()
    return [block.cid for block in blocks]


# -- formats -------------------------------------------------------------------------------------------


@on_loop
async def test_the_probe(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        for ask in ({"format": "raw"}, {}):
            answer = await site.client.get(f"/ipfs/{EMPTY}", params=ask, headers={"Accept": RAW})
            assert (answer.status, await answer.read()) == (200, b"")
            head = await site.client.head(f"/ipfs/{EMPTY}", params=ask, headers={"Accept": RAW})
            assert head.status == 200
        answer = await site.client.get(f"/ipfs/{EMPTY}?format=car")
        reader = CarReader()
        assert reader.feed(await answer.read()) == []
        reader.finish()
        assert reader.roots == (Cid.parse(EMPTY),)


@on_loop
async def test_a_raw_block_and_what_is_said_of_it(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        cid = await site.put(b"<script>alert(1)</script>")
        answer = await site.client.get(f"/ipfs/{cid}?format=raw")
        assert cid.holds(await answer.read())
        told = answer.headers
        assert told["Content-Type"] == RAW
        assert told["Content-Disposition"] == f'attachment; filename="{cid}.bin"'
        assert told["ETag"] == f'"{cid}.raw"'
        assert "immutable" in told["Cache-Control"]
        assert told["X-Content-Type-Options"] == "nosniff"
        assert told["X-Ipfs-Path"] == f"/ipfs/{cid}"
        assert told["X-Ipfs-Roots"] == str(cid)
        assert told["Content-Security-Policy"].startswith("sandbox;")
        assert "Content-Location" not in told
        by_accept = await site.client.get(f"/ipfs/{cid}", headers={"Accept": RAW})
        assert by_accept.headers["Content-Location"] == f"/ipfs/{cid}?format=raw"
        head = await site.client.head(f"/ipfs/{cid}?format=raw")
        assert (head.headers["ETag"], head.headers["Content-Length"]) == (told["ETag"], "25")


@on_loop
async def test_a_tag_that_is_known_is_304(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        for query in ("/page.svg", "/", "/page.svg?format=raw", "?format=car", "?format=car&dag-scope=block"):
            first = await site.client.get(f"/ipfs/{root}{query}")
            assert first.status == 200
            for tag in (first.headers["ETag"], f'"x", {first.headers["ETag"]}', "*"):
                again = await site.client.get(f"/ipfs/{root}{query}", headers={"If-None-Match": tag})
                assert (again.status, await again.read()) == (304, b"")
            other = await site.client.get(f"/ipfs/{root}{query}", headers={"If-None-Match": '"x"'})
            assert other.status == 200


@on_loop
async def test_every_car_has_its_own_tag(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        tags = set()
        queries = [
            f"{path}?format=car{more}"
            for path in ("", "/docs", "/big.bin")
            for more in ("", "&dag-scope=block", "&dag-scope=entity", "&entity-bytes=0:9", "&car-dups=y")
        ]
        for query in queries:
            tags.add((await site.client.head(f"/ipfs/{root}{query}")).headers["ETag"])
        assert len(tags) == len(queries)


@on_loop
async def test_a_car_holds_the_whole_folder_and_says_what_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        answer = await site.client.get(f"/ipfs/{root}", headers={"Accept": CAR})
        cids = read(await answer.read())
        held = {Cid.decode(key) for key in site.node.store.tables["blocks"]} - {site.node.kernel.grid}
        assert cids[0] == root
        assert set(cids) == held
        assert len(cids) == len(held)
        told = answer.headers
        assert told["Content-Type"] == f"{CAR}; version=1; order=dfs; dups=n"
        assert told["Content-Disposition"] == f'attachment; filename="{root}.car"'
        assert told["Accept-Ranges"] == "none"
        assert told["ETag"].startswith("W/")
        assert told["Content-Location"] == f"/ipfs/{root}?format=car"
        head = await site.client.head(f"/ipfs/{root}", headers={"Accept": CAR})
        assert (head.status, await head.read()) == (200, b"")


@on_loop
async def test_scopes_ranges_and_repeats(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)

        async def count(query: str, accept: str = CAR) -> int:
            answer = await site.client.get(f"/ipfs/{root}{query}", headers={"Accept": accept})
            assert answer.status == 200, await answer.text()
            return len(read(await answer.read()))

        assert await count("?dag-scope=block") == 1
        assert await count("?dag-scope=entity") == 1
        assert await count("/docs/read%20me.txt") == 3
        assert await count("/big.bin?dag-scope=entity") == 1 + 1 + 2
        assert await count("/big.bin?dag-scope=entity&car-dups=y") == 1 + 1 + 3
        assert await count("/big.bin", f"{CAR}; version=1; order=dfs; dups=y") == 1 + 1 + 3
        assert await count("/big.bin?format=car", f"{CAR};dups=y") == 1 + 1 + 3
        assert await count("/big.bin?format=car&car-dups=n", f"{CAR};dups=y") == 1 + 1 + 2
        assert await count("/big.bin?entity-bytes=0:9&dag-scope=all") == 1 + 1 + 1
        assert await count("/big.bin?entity-bytes=-10:*") == 1 + 1 + 1
        assert await count("/docs?entity-bytes=0:*") == 2
        assert await count("", f"{CAR};order=unk, {RAW};q=0.5") == await count("")


@pytest.mark.parametrize(
    ("query", "accept", "status"),
    [
        ("?format=html", "", 406),
        ("?format=ipns-record", "", 501),
        ("", "application/vnd.ipfs.ipns-record", 501),
        ("?format=car&dag-scope=everything", "", 400),
        ("?format=car&entity-bytes=1", "", 400),
        ("?format=car&entity-bytes=*:1", "", 400),
        ("?format=car&entity-bytes=9:1", "", 400),
        ("?format=car&entity-bytes=-1:-9", "", 400),
        ("/page.svg?format=car&entity-bytes=99999:*", "", 400),
        ("?format=car&car-version=2", "", 406),
        ("?format=car&car-order=random", "", 406),
        ("?format=car&car-dups=maybe", "", 406),
        ("", f"{CAR}; version=3", 406),
        ("/no/such", "", 404),
        ("/no/such?format=car", "", 404),
        ("/docs/..%2Fpage.svg?format=raw", "", 404),
        ("/page.svg/deeper", "", 404),
        ("/docs/", "application/json", 406),
    ],
)
def test_what_cannot_be_had_is_one_sentence(tmp_path: Path, query: str, accept: str, status: int) -> None:
    @on_loop
    async def run() -> None:
        async with served(tmp_path) as site:
            root = await site_of(site)
            url = URL(f"/ipfs/{root}{query}", encoded=True)
            answer = await site.client.get(url, headers={"Accept": accept} if accept else {})
            text = await answer.text()
            assert (answer.status, text.count("\n")) == (status, 1), text
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Content-Security-Policy"].startswith("sandbox")

    run()


@on_loop
async def test_what_is_not_here_is_404_or_412(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        cid = Cid.of(b"absent")
        for query in ("?format=raw", "?format=car", ""):
            assert (await site.client.get(f"/ipfs/{cid}{query}")).status == 404
            assert (await site.client.head(f"/ipfs/{cid}{query}")).status == 404
            cached = {"Cache-Control": "only-if-cached"}
            assert (await site.client.get(f"/ipfs/{cid}{query}", headers=cached)).status == 412
        assert (await site.client.get("/ipfs/nonsense?format=raw")).status == 400
        present = await site.put(b"here")
        cached = {"Cache-Control": "only-if-cached"}
        assert (await site.client.get(f"/ipfs/{present}?format=raw", headers=cached)).status == 200


@on_loop
async def test_a_corrupt_block_is_a_missing_block(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        cid = await site.put(b"truth")
        site.node.store.tables["blocks"][bytes(cid)] = b"lie"
        assert (await site.client.get(f"/ipfs/{cid}?format=raw")).status == 404


@on_loop
async def test_a_car_that_cannot_be_whole_does_not_look_whole(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site.put_tree(("a", 1, bytes(1_000_000)), ("b", 1, b"gone"))
        del site.node.store.tables["blocks"][bytes(Cid.of(b"gone"))]
        answer = await site.client.get(f"/ipfs/{root}?format=car")
        assert answer.status == 200
        with pytest.raises((ClientPayloadError, CarError)):
            read(await answer.read())


# -- for a browser -------------------------------------------------------------------------------------


@on_loop
async def test_a_folder_is_its_index_and_its_files_are_what_their_names_say(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        bare = await site.client.get(f"/ipfs/{root}?a=b", headers=BROWSER, allow_redirects=False)
        assert (bare.status, bare.headers["Location"]) == (301, f"/ipfs/{root}/?a=b")
        for path, kind in (("/", "text/html"), ("/index.html", "text/html"), ("/page.svg", "image/svg+xml")):
            answer = await site.client.get(f"/ipfs/{root}{path}", headers=BROWSER)
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith(kind)
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("sandbox allow-scripts allow-downloads;")
            assert "allow-same-origin" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert "Content-Disposition" not in answer.headers
        unknown = await site.client.get(f"/ipfs/{root}/big.bin", headers=BROWSER)
        assert unknown.headers["Content-Disposition"] == 'attachment; filename="big.bin"'
        named = await site.client.get(f"/ipfs/{root}/page.svg?download=true&filename=x%22y.svg")
        assert named.headers["Content-Disposition"] == 'attachment; filename="x_y.svg"'


@on_loop
async def test_a_folder_without_an_index_is_a_list_of_harmless_names(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        answer = await site.client.get(f"/ipfs/{root}/docs/", headers=BROWSER)
        text = await answer.text()
        assert "./read%20me.txt" in text
        assert "<b>&.txt" not in text
        assert "&lt;b&gt;&amp;.txt" in text
        assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        ("bytes=0-9", 206, 0, 10),
        ("bytes=2999990-", 206, 2_999_990, 3_000_000),
        ("bytes=-10", 206, 2_999_990, 3_000_000),
        ("bytes=1048570-1048590", 206, 1_048_570, 1_048_591),
        ("bytes=5-9999999", 206, 5, 3_000_000),
        ("bytes=3000000-", 416, 0, 0),
        ("bytes=9-5", 200, 0, 3_000_000),
        ("bytes=0-1,5-6", 200, 0, 3_000_000),
        ("lines=0-1", 200, 0, 3_000_000),
    ],
)
def test_ranges_of_a_file(tmp_path: Path, asked: str, status: int, start: int, stop: int) -> None:
    @on_loop
    async def run() -> None:
        data = bytes(range(250)) * 12_000
        async with served(tmp_path) as site:
            cid = await site.put(data)
            answer = await site.client.get(f"/ipfs/{cid}", headers={"Range": asked})
            assert answer.status == status
            if status == 416:
                assert answer.headers["Content-Range"] == "bytes */3000000"
                return
            assert await answer.read() == data[start:stop]
            if status == 206:
                assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/3000000"

    run()


@on_loop
async def test_data_that_is_no_file_needs_a_format(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        block = Block.of(dagcbor.encode({"a": 1}), "dag-cbor")
        link = unixfs.symlink(b"/etc/passwd")
        await site.save([block, link])
        for one in (block, link):
            answer = await site.client.get(f"/ipfs/{one.cid}", headers=BROWSER)
            assert answer.status == 406
            assert "format=car" in await answer.text()


# -- who may have what ---------------------------------------------------------------------------------

ELSEWHERE = {"X-Forwarded-For": "203.0.113.9"}
FOREIGN = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "empty", "Origin": "https://evil.example"}
OLD_FOREIGN = {"Origin": "https://evil.example"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}


@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize(
    ("who", "invited", "everybody"),
    [
        ({}, 200, 200),
        (LINK, 200, 200),
        (ELSEWHERE, 404, 200),
        (FOREIGN, 404, 404),
        (OLD_FOREIGN, 404, 404),
        ({"Sec-Fetch-Site": "same-site"}, 404, 404),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}, 200, 200),
    ],
    ids=["owner", "link", "elsewhere", "foreign page", "old browser", "other port", "own page"],
)
def test_private_content_is_for_the_owners_machine(
    tmp_path: Path, who: dict[str, str], invited: int, everybody: int, is_open: bool
) -> None:
    @on_loop
    async def run() -> None:
        async with served(tmp_path) as site:
            root = await site_of(site)
            site.node.kernel.open_mode = is_open
            for path in ("/page.svg", "?format=raw", "?format=car", "/docs/", "/"):
                answer = await site.client.get(f"/ipfs/{root}{path}", headers={**BROWSER, **who})
                assert answer.status == (everybody if is_open else invited), path
                if answer.status == 200 and who != LINK:
                    assert "Access-Control-Allow-Origin" not in answer.headers
                assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
                assert answer.headers.get("Cross-Origin-Opener-Policy", "same-origin") == "same-origin"
            app = await site.client.get(f"/app/{root}/page.svg", headers=who, allow_redirects=False)
            expected = everybody if is_open else invited
            assert app.status == (302 if who == LINK else expected)

    run()


@pytest.mark.parametrize("who", [{}, ELSEWHERE, FOREIGN, {**ELSEWHERE, **FOREIGN}])
def test_what_is_published_is_for_anybody_and_any_page(tmp_path: Path, who: dict[str, str]) -> None:
    @on_loop
    async def run() -> None:
        async with served(tmp_path) as site:
            root, other = await site_of(site), await site.put(b"mine")
            await site.node.host.ask(site.node.kernel.publishing.publish(root))
            leaf = Cid.of(b"hello")
            for path in (
                f"{root}/page.svg",
                f"{root}?format=car",
                f"{leaf}?format=raw",
                f"{EMPTY}?format=raw",
            ):
                answer = await site.client.get(f"/ipfs/{path}", headers=who)
                assert answer.status == 200, path
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
            if who:
                assert (await site.client.get(f"/ipfs/{other}?format=raw", headers=who)).status == 404
                await site.node.host.ask(site.node.kernel.publishing.withdraw(root))
                assert (await site.client.get(f"/ipfs/{root}?format=raw", headers=who)).status == 404

    run()


@on_loop
async def test_private_or_absent_looks_the_same_from_elsewhere(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        private, absent = await site.put(b"mine"), Cid.of(b"nobody has it")
        answers = []
        for cid in (private, absent):
            for query in ("?format=raw", "?format=car", "", "/a"):
                answer = await site.client.get(f"/ipfs/{cid}{query}", headers=ELSEWHERE)
                told = {name: value for name, value in answer.headers.items() if name != "Date"}
                answers.append((answer.status, (await answer.text()).replace(str(cid), "CID"), str(told)))
        half = len(answers) // 2
        sizes = [answer[0] for answer in answers]
        assert set(sizes) == {404}
        assert [answer[1] for answer in answers[:half]] == [answer[1] for answer in answers[half:]]


@on_loop
async def test_a_folder_that_is_shown_has_itself_and_nothing_else(tmp_path: Path) -> None:
    inner = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script", "Origin": "null"}
    shown = {"Sec-Fetch-Site": "none", "Sec-Fetch-Dest": "document"}
    framed = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"}
    for base, opening in (("ipfs", shown), ("app", framed)):
        async with served(tmp_path / base) as site:
            root, other = await site_of(site), await site.put(b"mine")
            path = f"/{base}/{root}/page.svg"
            assert (await site.client.get(path, headers=inner)).status == 404
            led = await site.client.get(path, headers=LINK, allow_redirects=False)
            assert led.status in (200, 302)
            assert (await site.client.get(path, headers=inner)).status == 404
            assert (await site.client.get(path, headers=opening)).status == 200
            answer = await site.client.get(path, headers=inner)
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
            for more in ({"Origin": "https://evil.example"}, {"Referer": "https://evil.example/"}):
                assert (await site.client.get(path, headers={**inner, **more})).status == 404
            assert (await site.client.get(f"/ipfs/{other}?format=raw", headers=inner)).status == 404


def test_a_folder_counts_as_opened_for_a_while_and_not_too_many_do() -> None:
    now = 0.0
    opened = Opened(lambda: now)
    who = Asker("127.0.0.1", True, True, False, False)
    stranger = Asker("127.0.0.1", True, True, True, False)
    request = make_mocked_request("GET", "/")
    roots = [Cid.of(b"%d" % number) for number in range(OPENED_MAX + 1)]
    opened.note(who, request, roots[0])
    now = OPEN_S - 1
    assert opened.is_inner(stranger, request, roots[0])
    now += OPEN_S - 1
    assert opened.is_inner(stranger, request, roots[0])
    assert not opened.is_inner(Asker("10.0.0.1", False, True, True, False), request, roots[0])
    now += OPEN_S
    assert not opened.is_inner(stranger, request, roots[0])
    for root in roots:
        opened.note(who, request, root)
    assert not opened.is_inner(stranger, request, roots[0])
    assert opened.is_inner(stranger, request, roots[-1])


@on_loop
async def test_another_sites_link_is_a_question(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        answer = await site.client.get(f"/ipfs/{root}/page.svg?a=%22%3E", headers=LINK)
        text = await answer.text()
        assert answer.headers["Content-Type"].startswith("text/html")
        assert f'href="/ipfs/{root}/page.svg?a=%22%3E"' in text or "&quot;" in text
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        assert "sandbox" not in answer.headers["Content-Security-Policy"]
        await site.node.host.ask(site.node.kernel.publishing.publish(root))
        answer = await site.client.get(f"/ipfs/{root}/page.svg", headers=LINK)
        assert answer.headers["Content-Type"] == "image/svg+xml"


@on_loop
async def test_an_app_is_for_pages_of_this_node_wherever_they_are(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        app = await site.put_tree(("app.json", 1, b"{}"), ("index.html", 1, b"app"), ("x.js", 1, b"1"))
        other = await site.put_tree(("index.html", 1, b"no app"))
        framed = {**ELSEWHERE, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"}
        inner = {**ELSEWHERE, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "script", "Origin": "null"}
        assert (await site.client.get(f"/app/{app}/x.js", headers=inner)).status == 404
        assert (await site.client.get(f"/app/{app}/", headers=framed)).status == 200
        assert (await site.client.get(f"/app/{app}/x.js", headers=inner)).status == 200
        assert (await site.client.get(f"/app/{other}/", headers=framed)).status == 404
        assert (await site.client.get(f"/ipfs/{app}/", headers=framed)).status == 404


@on_loop
async def test_pages_elsewhere_may_ask_first(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        answer = await site.client.options(f"/ipfs/{EMPTY}", headers={"Origin": "https://app.example"})
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Credentials" not in str(answer.headers)


@on_loop
async def test_no_service_worker_comes_from_a_folder(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        root = await site_of(site)
        answer = await site.client.get(f"/ipfs/{root}/page.svg", headers={"Service-Worker": "script"})
        assert answer.status == 403


@on_loop
async def test_a_part_of_another_version_is_not_given(tmp_path: Path) -> None:
    async with served(tmp_path) as site:
        cid = await site.put(b"0123456789")
        whole = await site.client.get(f"/ipfs/{cid}")
        for tag, status in ((whole.headers["ETag"], 206), ('"another"', 200)):
            headers = {"Range": "bytes=0-4", "If-Range": tag}
            assert (await site.client.get(f"/ipfs/{cid}", headers=headers)).status == status
