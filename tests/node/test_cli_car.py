"""export, import, gateways on the command line: backups, broken files, and what is said of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.node.hosting import hosted, on_loop
from tests.node.test_cli import tree
from tests.node.test_cli_base import ABSENT, Person, person

from promisegrid import car
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid_node import verbs_car


def test_what_is_exported_is_brought_in_elsewhere_and_pinned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tree(tmp_path), tmp_path / "out.car"

    @on_loop
    async def run() -> None:
        async with person(capsys) as me, hosted("bob") as other:
            cid = (await me.asks("put", str(folder)))["cid"]
            gone = await me.asks("export", cid, "-o", str(file))
            assert (gone["roots"], gone["path"]) == ([cid], str(file))
            assert (await me.types("export", cid, "-o", str(file)))[1] == [
                f"{gone['blocks']} blocks, 1.4 MiB, in {file}"
            ]
            you = Person(other, capsys)
            assert (await you.types("import", str(file))) == (0, [cid])
            came = await you.asks("import", str(file))
            assert (came["roots"], came["blocks"], came["backup"]) == ([cid], gone["blocks"], False)
            assert [pin["name"] for pin in (await you.asks("pins"))["pins"]] == ["out.car"]
            await you.types("get", cid, "-o", str(tmp_path / "back"))
            assert (tmp_path / "back" / "b" / "big.bin").read_bytes() == bytes(range(256)) * 10_000
            await you.types("unpin", "out.car")
            await you.types("import", str(file), "--no-pin")
            assert (await you.asks("pins"))["pins"] == []

    run()


def test_a_backup_brings_pins_and_streams_back_and_says_when_it_is_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "backup.car"

    @on_loop
    async def run() -> None:
        async with person(capsys) as me, hosted("bob") as other, hosted("eve") as third:
            one, two = await me.stores(b"1"), await me.stores(b"2")
            await me.types("pin", one, "--name", "one")
            await me.types("log", "move", "notes", two)
            assert (await me.types("export", "--all", "-o", str(file)))[0] == 0
            you = Person(other, capsys)
            came = await you.asks("import", str(file))
            assert (came["backup"], came["pinned"], came["streams"], came["lost"]) == (True, 1, 1, [])
            assert [pin["name"] for pin in (await you.asks("pins"))["pins"]] == ["one"]
            assert (await you.asks("log", "notes"))["history"][0]["value"] == two
            me.made.store.tables["blocks"][bytes(Cid.parse(one))] = b"rot"
            code, lines = await me.types("export", "--all", "-o", str(file))
            assert code == 1 and lines, "it is written all the same, and said not to be whole"
            code, _ = await Person(third, capsys).types("import", str(file))
            assert code == 1

    run()


def test_what_is_no_car_changes_no_pin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block, other = Block.of(b"content"), Block.of(b"other")
    whole = car.header([block.cid]) + car.frame(block) + car.frame(other)
    wrong = {
        "empty": (b"", "malformed"),
        "text": (b"not a CAR at all, but some text", "malformed"),
        "cut": (whole[:-3], "malformed"),
        "lying": (whole.replace(b"other", b"0ther"), "bad_block"),
    }

    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            for name, (data, code) in wrong.items():
                (tmp_path / name).write_bytes(data)
                with pytest.raises(RemoteError) as refused:
                    await me.types("import", str(tmp_path / name))
                assert refused.value.code == code, name
            assert (await me.asks("pins"))["pins"] == []
            with pytest.raises(LocalError, match="No such file or directory; give a CAR file"):
                await me.types("import", str(tmp_path / "none"))
            with pytest.raises(LocalError, match="cannot be read: Is a directory"):
                await me.types("import", str(tmp_path))

    run()


def test_mistakes_about_exports_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            cid = await me.stores(b"content")
            for words, said in (
                ([], "Say what to export: CIDs, or --all"),
                ([cid, "--all"], "Say what to export: CIDs, or --all"),
                (["nonsense", "-o", str(tmp_path / "x")], "nonsense"),
                ([cid, "--json"], "cannot both go to stdout"),
                ([cid, "-o", str(tmp_path / "no" / "x.car")], "cannot be written"),
            ):
                with pytest.raises(LocalError, match=said):
                    await me.types("export", *words)
            with pytest.raises(RemoteError) as missing:
                await me.types("export", ABSENT, "-o", str(tmp_path / "x.car"))
            assert missing.value.code == "not_found"
            assert not list(tmp_path.iterdir()), "no half of a file is left"
            monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
            with pytest.raises(LocalError, match="no text for a terminal"):
                await me.types("export", cid)

    run()


def test_gateways_are_named_once_and_by_their_address(capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with person(capsys) as me:
            assert (await me.types("gateways"))[1] == []
            assert (await me.types("gateways", "add", "https://ipfs.example"))[0] == 0
            await me.types("gateways", "add", "https://ipfs.example/")
            (url,) = (await me.asks("gateways"))["gateways"]
            assert url.startswith("https://ipfs.example")
            for words in (["add"], ["rm"], ["ls", "https://x"]):
                with pytest.raises(LocalError, match="Say `gateways add URL`"):
                    await me.types("gateways", *words)
            for nonsense in ("ipfs.example", "file:///etc/passwd", "https://", "https://u:p@ipfs.example"):
                with pytest.raises(LocalError):
                    await me.types("gateways", "add", nonsense)
            with pytest.raises(LocalError):
                await me.types("gateways", "rm", "https://other.example")
            assert (await me.types("gateways", "rm", url))[1] == []

    run()


def test_what_is_written_is_counted() -> None:
    seen: list[int] = []
    written: list[bytes] = []

    @on_loop
    async def run() -> None:
        emit = verbs_car._counted(written.append, lambda detail: seen.append(detail["done"]))
        for piece in (b"ab", b"cde"):
            await emit(piece)

    run()
    assert (seen, written) == ([2, 5], [b"ab", b"cde"])
