"""The command line in this process: its grammar, what it reads, what it writes, what it prints."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.node.hosting import TestKeys, add_one, add_one_module, hosted, on_loop

from promisegrid import dagcbor, unixfs
from promisegrid.cid import Cid
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid_node import argtypes, arguments, cli, home, output, verbs_content, verbs_grid
from promisegrid_node.api import About, Api
from promisegrid_node.gather import BATCH_BYTES, Gatherer
from promisegrid_node.home import Home
from promisegrid_node.scatter import FolderWriter, whole_file
from promisegrid_node.session import Emit, InProcess, Progress

STRANGER = TestKeys("stranger").did

# -- the grammar ---------------------------------------------------------------------------------------


def test_what_follows_the_dashes_is_the_programs() -> None:
    options = arguments.parse(["run", "x.wasm", "--fuel", "5", "--", "--fuel", "-x", "--", "y"])
    assert (options.verb, options.fuel, options.args) == ("run", 5, ["--fuel", "-x", "--", "y"])


def test_negative_numbers_are_arguments_of_a_call() -> None:
    assert arguments.parse(["call", "x", "f", "-5", "[-1]"]).args == ["-5", "[-1]"]
    spread = arguments.parse(["map", "x", "0", "--func", "f", "-1", "2", "--elsewhere", "3", "--", "-v"])
    assert (spread.inputs, spread.args) == (["0", "-1", "2", "3"], ["-v"])
    late = arguments.parse(["call", "x", "f", "1", "--on", "zB", "-5", "[-1]"])
    assert (late.on, late.args) == ("zB", ["1", "-5", "[-1]"])


@pytest.mark.parametrize(
    "words", ["--home x --json cap ls", "cap --home x --json ls", "cap ls --json --home x"]
)
def test_what_every_verb_takes_may_stand_anywhere(words: str) -> None:
    options = arguments.parse(words.split())
    assert (options.verb, options.home, options.json) == ("cap ls", "x", True)
    assert arguments.parse(["cap", "ls"]).log == "WARNING"


def test_app_verbs_are_two_words() -> None:
    assert arguments.parse(["app", "publish", "d"]).verb == "app publish"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("65536", 65536), ("64K", 65536), ("1.5G", 3 * 1024**3 // 2), ("512M", 512 * 1024**2)],
)
def test_sizes_are_read(text: str, expected: int) -> None:
    assert arguments.size(text) == expected


@pytest.mark.parametrize(
    "words",
    [[], ["dance"], ["run"], ["run", "x", "--timeout", "0"], ["run", "x", "--fuel", "-1"],
     ["put", "x", "--", "y"],
     ["up", "--open", "--invite-only"], ["run", "x", "y"], ["call", "x", "f", "--on", "z", "-x"],
     ["serve", "maybe"], ["carry", "maybe"], ["invite", "--uses", "0"],
     ["up", "--listen", "nonsense"], ["up", "--listen", ":99999"], ["put", ""], ["id", "--home", ""],
     ["get", "x", "-o", ""], ["up", "--peer", ""], ["run", "x", "--", "\udcff"], ["call", "x", "\udcff"],
     ["cap", "grant", "z", "--ability", "\udcff"]],
)  # fmt: skip
def test_wrong_usage_is_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parse(words)
    assert ended.value.code == 2
    assert "usage: promisegrid" in capsys.readouterr().err


def test_every_verb_has_help_and_an_action(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in cli.VERBS:
        with pytest.raises(SystemExit) as ended:
            arguments.parse([*verb.split(), "--help"])
        assert ended.value.code == 0
    assert "examples" not in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "8420", ":8420", "a:b", "a:65536", "a:-1"])
def test_where_to_listen_must_be_an_address(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="HOST:PORT"):
        argtypes.address(text)


def test_some_texts_may_be_empty_and_paths_may_be_any_bytes() -> None:
    assert arguments.parse(["run", "x", "--", ""]).args == [""]
    assert arguments.parse(["cap", "revoke", "x", "--reason", ""]).reason == ""
    assert arguments.parse(["put", "\udcff"]).path == "\udcff"


# -- content in ----------------------------------------------------------------------------------------


def tree(folder: Path) -> Path:
    made = folder / "tree"
    (made / "b" / "empty").mkdir(parents=True)
    (made / "a.txt").write_text("a")
    (made / ".hidden").write_text("h")
    (made / "b" / "big.bin").write_bytes(bytes(range(256)) * 10_000)
    (made / "b" / "link").symlink_to("../a.txt")
    return made


def gathered(source: Path, **options: Any) -> tuple[Cid, dict[Cid, bytes]]:
    gatherer = Gatherer(**options)
    blocks = {}
    for batch in gatherer.batches(source):
        assert sum(len(block.data) for block in batch) < 2 * BATCH_BYTES
        blocks |= {block.cid: block.data for block in batch}
    assert gatherer.found.cid is not None
    return gatherer.found.cid, blocks


def test_a_folder_on_disk_has_the_cid_of_its_tree(tmp_path: Path) -> None:
    nodes = [
        ("a.txt", unixfs.FILE, b"a"),
        ("b", unixfs.FOLDER, b""),
        ("b/big.bin", unixfs.FILE, bytes(range(256)) * 10_000),
        ("b/empty", unixfs.FOLDER, b""),
        ("b/link", unixfs.SYMLINK, b"../a.txt"),
    ]
    cid, blocks = gathered(tree(tmp_path))
    expected, made = unixfs.import_tree(nodes)
    assert cid == expected
    assert blocks == {block.cid: block.data for block in made}
    assert (
        gathered(tree(tmp_path / "two"), hidden=True)[0]
        == unixfs.import_tree([(".hidden", 1, b"h"), *nodes])[0]
    )


def test_a_file_may_have_other_content_than_on_disk(tmp_path: Path) -> None:
    made = tree(tmp_path)
    cid, _ = gathered(made, instead={made / "a.txt": b"other"})
    (made / "a.txt").write_text("other")
    assert cid == gathered(made)[0]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="nothing cannot be read: No such file"):
        gathered(tmp_path / "nothing")


# -- content out ---------------------------------------------------------------------------------------


def write(target: Path, *pieces: list[object]) -> None:
    async def run() -> None:
        with FolderWriter(target) as writer:
            for piece in pieces:
                await writer.take(dagcbor.encode(piece))

    asyncio.run(run())


@pytest.mark.parametrize("path", ["../out", "a/../../out", "/etc/x", "a//b", ".", "..", "a/", "nul\0"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(LocalError):
        write(tmp_path / "target", ["a", "folder", b""], [path, "file", b""])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    hostile = (["a", "symlink", os.fsencode(outside)], ["a/x", "file", b""])
    with pytest.raises(LocalError):
        write(
            tmp_path / "t",
            ["a", "symlink", os.fsencode(outside / "x")],
            ["a", "file", b""],
            ["a", "more", b"!"],
        )
    with pytest.raises(LocalError):
        write(tmp_path / "t", hostile[0], ["a", "folder", b""], hostile[1])
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "t").exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), whole_file(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"before"
    with whole_file(target) as file:
        file.write(b"after")
    assert target.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("bafy", ("bafy", "")), ("/ipfs/bafy/a/b/", ("bafy", "a/b")), ("ipfs://bafy", ("bafy", ""))],
)
def test_a_path_in_content_is_read(text: str, expected: tuple[str, str]) -> None:
    assert verbs_content.split_path(text) == expected


# -- printing ------------------------------------------------------------------------------------------


def test_values_have_a_json_form_and_come_back() -> None:
    value = {"a": [1, 1.5, None, True, "x", b"\0\xff", Cid.of(b"x")], "b": {"c": b""}}
    assert output.from_json(json.loads(json.dumps(output.to_json(value)))) == value


@pytest.mark.parametrize("text", ['{"/": "nonsense"}', '{"/": {"bytes": "*"}}', "nonsense", "", "[1"])
def test_broken_json_arguments_are_one_sentence(text: str) -> None:
    with pytest.raises(argtypes.Misuse, match="is not a JSON value"):
        argtypes.value(text)


@pytest.mark.parametrize(
    "text",
    ["1e999", "NaN", "[-Infinity]", '"\\ud800"', "9" * 22,
     "[" * 40_000 + "]" * 40_000, "[" * 300 + "]" * 300],
    ids=["huge", "NaN", "infinite", "surrogate", "long", "deep", "deeper-than-blocks"],
)  # fmt: skip
def test_values_nobody_can_be_given_are_wrong_usage(text: str) -> None:
    with pytest.raises(argtypes.Misuse) as wrong:
        argtypes.value(text)
    assert len(wrong.value.text) < 300


# -- verbs over a host ---------------------------------------------------------------------------------


class OneNode:
    """`call` over a host in this process, for a verb's own coroutine."""

    def __init__(self, api: Api) -> None:
        self._node = InProcess(api.verbs)

    async def call(
        self,
        verb: str,
        args: Mapping[str, Any],
        pieces: AsyncIterator[bytes] | None = None,
        emit: Emit | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        value = await self._node.call(
            verb, dagcbor.decode(dagcbor.encode(dict(args))), pieces, emit, progress
        )
        again: dict[str, Any] = dagcbor.decode(dagcbor.encode(value))
        assert again == value, "a verb's value must pass the door unchanged"
        return again


async def say(node: OneNode, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run a verb with --json; its exit code and answer."""
    options = arguments.parse([*words[:1], "--json", *words[1:]])
    code = await cli.VERBS[options.verb](options, node, output.Output(True))
    return code, json.loads(capsys.readouterr().out)


def test_the_owners_verbs_answer_as_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    @on_loop
    async def run() -> None:
        async with hosted(limits=Limits()) as made:
            node = OneNode(Api(made.host, About("http://127.0.0.1:8420/")))
            told = (await say(node, capsys, "id"))[1]
            assert told == {
                "did": made.keys.did,
                "grid": str(made.kernel.grid),
                "url": "http://127.0.0.1:8420/",
            }
            assert (await say(node, capsys, "peers"))[1] == {"peers": []}
            invited = (await say(node, capsys, "invite", "--uses", "2"))[1]
            assert invited["url"].endswith(f"#/join/{told['grid']}/{invited['invite']}")
            assert (await say(node, capsys, "serve", "on", "--memory", "64M"))[1] == {
                "serving": {"cpu": 1, "memory": 64 * 1024**2}
            }
            assert (await say(node, capsys, "serve", "off"))[1] == {"serving": None}
            assert (await say(node, capsys, "carry"))[1] == {"carrying": None}
            assert (await say(node, capsys, "carry", "64K", "--days", "7"))[1] == {
                "carrying": {"bytes": 65536, "days": 7, "used": 0, "messages": 0}
            }
            with pytest.raises(LocalError, match="1 to 365 days"):
                await say(node, capsys, "carry", "64K", "--days", "366")
            assert (await say(node, capsys, "carry", "off"))[1] == {"carrying": None}
            assert (await say(node, capsys, "trust", made.keys.did))[1]["dids"] == [made.keys.did]
            assert (await say(node, capsys, "trust", "own"))[1]["mode"] == "own"
            banned = await say(node, capsys, "ban", STRANGER, "--reason", "floods")
            assert banned == (0, {"did": STRANGER, "reason": "floods", "dismissed": False})
            ((row,),) = (await say(node, capsys, "ban"))[1].values()
            assert (row["did"], row["reason"]) == (STRANGER, "floods")
            assert (await say(node, capsys, "unban", STRANGER))[1] == {"did": STRANGER, "banned": True}
            with pytest.raises(LocalError, match="not banned here"):
                await say(node, capsys, "unban", STRANGER)
            with pytest.raises(LocalError, match="not admitted here"):
                await say(node, capsys, "ban", STRANGER, "--dismiss")
            assert (await say(node, capsys, "ban"))[1] == {"banned": []}
            await say(node, capsys, "admit", STRANGER)
            assert (await say(node, capsys, "ban", STRANGER, "--dismiss"))[1]["dismissed"] is True
            assert (await say(node, capsys, "members"))[1] == {"members": []}
            with pytest.raises(LocalError, match="unban"):
                await say(node, capsys, "admit", STRANGER)
            assert (await say(node, capsys, "verify"))[1]["bad"] == []
            assert (await say(node, capsys, "stat"))[1]["blocks"] == 2  # genesis, end of a membership

    run()


def test_a_call_is_remembered_and_its_receipt_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @on_loop
    async def run() -> None:
        code = tmp_path / "module"
        code.write_bytes(b"\0asm module")
        async with hosted() as made:
            made.runtime.programs[b"\0asm module"] = (add_one_module(), add_one)
            node = OneNode(Api(made.host, About(None)))
            first = (await say(node, capsys, "call", str(code), "add_one", "41"))[1]
            again = (await say(node, capsys, "call", str(code), "add_one", "41"))[1]
            assert (first["value"], first["cached"], again["cached"]) == (42, False, True)
            assert "why" not in first
            told = (await say(node, capsys, "call", str(code), "add_one", "41", "--why"))[1]
            assert "this node ran it before" in told.pop("why") and told == again
            anywhere = ("call", str(code), "add_one", "1", "--on", "anywhere", "--why")
            assert (await say(node, capsys, *anywhere))[1]["why"] == "run here: nobody else serves"
            options = arguments.parse([*anywhere])
            assert await cli.VERBS["call"](options, node, output.Output(False)) == 0
            printed = capsys.readouterr()
            assert printed.out == "2\n" and "this node ran it before" in printed.err
            receipt = await say(node, capsys, "receipt", first["receipt"])
            assert (receipt[0], receipt[1]["valid"], receipt[1]["executor"]) == (0, True, made.keys.did)
            assert len((await say(node, capsys, "history"))[1]["runs"]) == 5
            with pytest.raises(LocalError, match="no peer of this node"):
                await say(node, capsys, "call", str(code), "add_one", "41", "--on", "zDn")

    run()


def test_the_default_home_is_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PROMISEGRID_HOME", str(tmp_path / "h"))
    assert arguments.parse(["id"]).home == str(tmp_path / "h")
    assert Home(Path("~/x")).path == Path.home() / "x"


def test_trust_says_whom() -> None:
    assert verbs_grid._policy([]) == {}
    assert verbs_grid._policy(["own"]) == {"mode": "own", "dids": []}
    assert verbs_grid._policy(["agree", "3"]) == {"mode": "agree", "dids": [], "agree": 3}
    assert verbs_grid._policy(["did:key:z1"]) == {"mode": "peers", "dids": ["did:key:z1"]}
    with pytest.raises(LocalError, match="how many"):
        verbs_grid._policy(["agree"])


def test_a_home_in_use_names_who_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "SHARE_WAIT_S", 0.0)
    mine = Home(tmp_path)
    with mine.hold(), pytest.raises(LocalError, match=f"process id {os.getpid()}"), mine.share():
        pass
    (tmp_path / "lock").write_text("nonsense")
    with mine.share(), pytest.raises(LocalError, match="another command"), mine.hold():
        pass
