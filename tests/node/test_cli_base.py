"""put, pin, gc, log, stat, verify, rebuild on the command line: what they do, and what they say."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.node.hosting import Hosted, hosted, on_loop
from tests.node.test_cli import OneNode, tree

from promisegrid import dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid_node import arguments, cli, output, verbs_content
from promisegrid_node.api import About, Api
from promisegrid_node.lanes import draw

ABSENT = str(Cid.of(b"nobody has this"))
UNFRESH = replace(Limits(), fresh_ms=0)
"""What was stored a moment ago may be collected: nobody waits ten minutes here."""


class Person:
    """Somebody at a command line, with a node in memory."""

    def __init__(self, made: Hosted, capsys: pytest.CaptureFixture[str]) -> None:
        self.made, self.node, self._capsys = made, OneNode(Api(made.host, About(None))), capsys

    async def types(self, *words: str) -> tuple[int, list[str]]:
        """The exit code, and the lines on stdout."""
        options = arguments.parse(words)
        self._capsys.readouterr()
        code = await cli.VERBS[options.verb](options, self.node, output.Output(options.json))
        return code, self._capsys.readouterr().out.splitlines()

    async def asks(self, *words: str) -> dict[str, Any]:
        """What `--json` gives."""
        _, (line,) = await self.types(*words, "--json")
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    async def stores(self, data: bytes) -> str:
        """The CID of some bytes, stored and not pinned."""
        block = Block.of(data)
        await self.made.host.ask(self.made.kernel.base.save([block]))
        return str(block.cid)

    def dates(self, cid: str, at: int) -> None:
        """Have a pin be from another time, in seconds since 1970."""
        pins = self.made.store.tables["pins"]
        key = bytes(Cid.parse(cid))
        pins[key] = dagcbor.encode({**dagcbor.decode(pins[key]), "at": at})


@contextlib.asynccontextmanager
async def person(capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Person]:
    """A person with a fresh node."""
    async with hosted(limits=UNFRESH) as made:
        yield Person(made, capsys)


def test_what_is_put_is_pinned_and_what_is_let_go_is_collected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tree(tmp_path)

    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            kept = await me.asks("put", str(folder))
            assert (kept["pinned"], kept["files"], kept["bytes"]) == ("tree", 2, 256 * 10_000 + 1)
            (pin,) = (await me.asks("pins"))["pins"]
            assert (pin["cid"], pin["name"], pin["kind"]) == (kept["cid"], "tree", "recursive")
            assert 256 * 10_000 < pin["size"] < 256 * 10_000 + 2000
            assert (await me.asks("gc", "--dry-run"))["removed"] == 0
            older = await me.stores(b"older")
            await me.types("pin", older, "--name", "a")
            me.dates(older, 1_000_000_000)
            assert [kept["name"] for kept in (await me.asks("pins"))["pins"]] == ["tree", "a"]
            await me.types("unpin", older)
            assert (await me.asks("unpin", "tree")) == {"cid": kept["cid"], "name": "tree"}
            assert (await me.asks("pins"))["pins"] == []
            dry = await me.asks("gc", "--dry-run")
            assert dry["removed"] >= 5 and dry["freed"] > 1024**2
            assert await me.asks("gc") == {**dry, "dry_run": False}
            assert (await me.types("gc"))[1] == ["0 blocks removed, 0 B", "1 block kept"]
            with pytest.raises(LocalError, match="is not pinned; `promisegrid pins` lists"):
                await me.types("unpin", "tree")
            with pytest.raises(LocalError, match="is a file, no folder: `promisegrid get`"):
                await me.types("ls", await me.stores(b"a file"))

    run()


def test_a_person_at_a_terminal_is_told_what_became_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tree(tmp_path)
    monkeypatch.setattr("promisegrid_node.output.sys.stderr.isatty", lambda: True, raising=False)

    @on_loop
    async def run() -> None:
        async with person(capsys) as me:

            async def hears(*words: str) -> str:
                options = arguments.parse(words)
                capsys.readouterr()
                await cli.VERBS[options.verb](options, me.node, output.Output(options.json))
                return capsys.readouterr().err

            assert "Nothing is pinned" in await hears("pins")
            assert "No streams yet" in await hears("log")
            assert "2.4 MiB in 2 files; pinned as “tree”." in await hears("put", str(folder))
            assert "not pinned: `promisegrid gc` may" in await hears("put", str(folder), "--no-pin")
            assert "`promisegrid gc` takes away" in await hears("unpin", "tree")
            assert "Nothing was touched" in await hears("gc", "--dry-run")
            assert "left alone" in (await hears("gc"), await hears("gc"))[1]
            assert await hears("pins", "--json") == "", "nothing but the object for a program"

    run()


def test_put_may_be_told_not_to_pin_or_what_to_call_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("text")

    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            assert (await me.asks("put", str(file), "--no-pin"))["pinned"] is None
            assert (await me.asks("pins"))["pins"] == []
            assert (await me.asks("put", str(file), "--name", "letter"))["pinned"] == "letter"
            assert (await me.asks("gc"))["removed"] == 0

    run()


def test_a_pin_is_one_of_content_that_is_here(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = await me.stores(b"content")
            assert await me.types("pin", cid, "--name", "mine") == (0, [f"pinned {cid} as “mine”"])
            assert (await me.asks("pin", cid))["name"] == "mine", "pinned again, it keeps its name"
            assert (await me.asks("pin", cid, "--direct"))["kind"] == "direct"
            (line,) = (await me.types("pins"))[1]
            assert line.startswith(f"{cid}  7 B  ") and line.endswith("mine  this block only")
            with pytest.raises(RemoteError) as missing:
                await me.types("pin", ABSENT)
            assert missing.value.code == "not_found"
            for nonsense in ("nonsense", f"{cid}x"):
                with pytest.raises(LocalError) as wrong:
                    await me.types("pin", nonsense)
                assert wrong.value.code == "bad_cid"
            other = await me.stores(b"other")
            await me.types("pin", other, "--name", "mine")
            with pytest.raises(LocalError, match="2 pins are called 'mine': say which by its CID"):
                await me.types("unpin", "mine")
            assert (await me.asks("unpin", f"…{other[-12:]}"))["cid"] == other
            for ending in (cid[-3:], "…", ""):
                with pytest.raises(LocalError, match="is not pinned"):
                    await me.node.call("unpin", {"cid": ending})

    run()


def test_a_stream_is_moved_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            one, two, three = [await me.stores(data) for data in (b"1", b"2", b"3")]
            assert await me.types("log") == (0, [])
            first = await me.asks("log", "move", "notes", one)
            assert (first["value"], first["previous"], first["by"]) == (one, [], me.made.keys.did)
            left = await me.asks("log", "move", "notes", two)
            right = await me.asks("log", "move", "notes", three, "--from", first["head"])
            (told,) = (await me.asks("log"))["streams"]
            assert {head["head"] for head in told["heads"]} == {left["head"], right["head"]}
            assert "fork 2 of 2" in (await me.types("log"))[1][1]
            code, lines = await me.types("log", "move", "notes", one)
            assert lines == [f"notes is now {one}; 2 heads joined"]
            code, lines = await me.types("log", "notes")
            marks = [line[:4].rstrip() for line in lines]
            assert marks in (["*", "|\\", "* |", "| *", "|/", "*"], ["*", "|\\", "| *", "* |", "|/", "*"])
            assert code == 0 and one in lines[0] and one in lines[-1]
            history = await me.asks("log", "notes", "--limit", "2")
            assert len(history["history"]) == 2 and history["more"] and history["broken"] is None
            assert (await me.asks("gc"))["removed"] == 0, "what a stream was is kept"

    run()


def test_mistakes_about_streams_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = await me.stores(b"1")
            await me.types("log", "move", "a", cid)
            (other,) = (await me.asks("log", "move", "b", cid))["head"].split()
            for words, said in (
                (["a", "b", "c"], "log takes nothing, a stream's NAME"),
                (["nix"], "There is no stream 'nix'"),
                (["move", "x\x7fy", cid], "A stream's name is"),
                (["move", "a", "nonsense"], "nonsense"),
                (["move", "a", cid, "--from", other], "is a head of 'b', not of 'a'"),
            ):
                with pytest.raises(LocalError, match=said):
                    await me.types("log", *words)
            with pytest.raises(RemoteError):
                await me.types("log", "move", "a", ABSENT)

    run()


def test_a_history_with_a_hole_is_told_as_far_as_it_goes(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = await me.stores(b"1")
            first = (await me.asks("log", "move", "a", cid))["head"]
            await me.types("log", "move", "a", cid)
            del me.made.store.tables["blocks"][bytes(Cid.parse(first))]
            code, lines = await me.types("log", "a")
            assert code == 0 and lines[0].startswith("*  ") and "cannot be told" in lines[1]

    run()


def test_verify_names_what_is_wrong_and_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = await me.stores(b"content")
            assert await me.types("verify") == (0, ["2 blocks checked, 0 wrong"])
            me.made.store.tables["blocks"][bytes(Cid.parse(cid))] = b"c0ntent"
            code, lines = await me.types("verify")
            assert code == 1 and lines[0].startswith(f"{cid} ") and lines[-1] == "2 blocks checked, 1 wrong"
            assert (await me.asks("verify"))["bad"] == [cid]

    run()


def test_stat_says_what_is_where(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = await me.stores(b"content")
            await me.types("pin", cid)
            await me.types("log", "move", "a", cid)
            told = await me.asks("stat")
            assert (told["blocks"], told["pins"], told["streams"]) == (3, 1, 1)
            assert (told["backend"], told["file_bytes"], told["free"]) == ("memory", None, None)
            lines = (await me.types("stat"))[1]
            assert lines[0].startswith("blocks      3, ") and "free there  –" in lines
            assert (await me.asks("rebuild")) == {"blocks": 3, "heads": 1, "receipts": 0, "removed": 0}
            assert (await me.types("rebuild"))[1][0].startswith("3 blocks read: 1 heads of streams")

    run()


def test_a_long_listing_says_what_entries_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tree(tmp_path)

    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = (await me.asks("put", str(folder)))["cid"]
            assert [line.split()[1:] for line in (await me.types("ls", cid))[1]] == [
                ["1", "B", "a.txt"],
                ["2.4", "MiB", "b/"],
            ]
            _, lines = await me.types("ls", "-l", f"{cid}/b")
            assert [line.split()[0] for line in lines] == ["file", "folder", "symlink", "3"]
            assert lines[2].endswith("link@ → ../a.txt") and lines[3] == "3 entries, 2.4 MiB"
            inner = (await me.asks("ls", f"{cid}/b"))["entries"]
            assert [entry["target"] for entry in inner] == [None, None, "../a.txt"]
            big = next(entry for entry in inner if entry["name"] == "big.bin")
            assert (big["kind"], big["size"]) == ("file", 2_560_000)
            for entry in inner[:2]:
                del me.made.store.tables["blocks"][bytes(Cid.parse(entry["cid"]))]
            kinds = [entry["kind"] for entry in (await me.asks("ls", f"{cid}/b"))["entries"]]
            assert kinds == ["unknown", "unknown", "symlink"]

    run()


def test_how_much_will_be_stored_is_known_before(tmp_path: Path) -> None:
    assert verbs_content.size_of(tree(tmp_path)) == 2_560_000 + 1 + 1 + len("../a.txt")
    assert verbs_content.size_of(tmp_path / "tree" / "a.txt") == 1
    assert verbs_content.size_of(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("detail", "speed", "said"),
    [
        (("put", 5 * 1024**2, 10 * 1024**2), 2.0 * 1024**2, "Storing 5 MiB of 10 MiB, 2 MiB/s"),
        (("import", 1024, None), None, "Checking and storing 1 KiB"),
        (("verify", 1234, 5000), 1.0, "Checking blocks: 1,234 of 5,000 blocks"),
        (("run", 0, None), None, "Running"),
    ],
)
def test_a_bar_says_what_how_much_and_how_fast(
    detail: tuple[str, int, int | None], speed: float | None, said: str
) -> None:
    assert output.progress_text(*detail, speed) == said


def test_a_speed_is_that_of_this_phase() -> None:
    rate = output._Rate()
    assert rate.of("fetch", 100, 0.0) is None and rate.of("fetch", 300, 0.5) is None
    assert rate.of("fetch", 500, 2.0) == 200.0
    assert rate.of("put", 10, 3.0) is None and rate.of("put", 40, 5.0) == 15.0


def test_lanes_part_and_meet() -> None:
    history = [("d", ["b", "c"]), ("c", ["a"]), ("b", ["a"]), ("a", [])]
    drawn = [("*", "d"), ("|\\", None), ("| *", "c"), ("* |", "b"), ("|/", None), ("*", "a")]
    assert list(draw(history)) == drawn
    apart = [("x", ["a"]), ("y", ["b"]), ("z", ["a"]), ("a", []), ("b", [])]
    assert [left for left, _ in draw(apart)] == ["*", "| *", "| | *", "|_|/", "* |", "*"]
    three = [("m", ["x", "y", "z"]), ("x", []), ("y", []), ("z", [])]
    assert [left for left, _ in draw(three)] == ["*", "|\\", "| |\\", "* | |", "* |", "*"]
