"""map, topic, share, copies, as they are typed; on one node's own store, where nobody else is there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.programs import COMMAND, NUMBERS

from promisegrid_node.assemble import node_limits, open_host
from promisegrid_node.home import Home


class Typed:
    """The command on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "promisegrid_node", words[0], "--home", self.home, *words[1:]]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def json(self, *words: str | Path, stdin: str = "") -> Any:
        done = self(*words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    return Typed(tmp_path / "home")


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    path = tmp_path / "numbers.wasm"
    path.write_bytes(NUMBERS)
    return path


def test_a_function_over_many_inputs(typed: Typed, numbers: Path) -> None:
    done = typed("map", numbers, "1", "[2]", "--inputs", "-", "--func", "add_one", stdin="3\n\n40\n")
    assert (done.returncode, done.stdout) == (0, "2\n3\n4\n41\n")
    value = typed.json("map", numbers, "1", "41", "--func", "add_one")
    ends = value["results"]
    assert [end["value"] for end in ends] == [2, 42] and ends[0]["why"] == "remembered"
    assert value["done"] == 2 and value["failed"] == 0 and list(value["by"].values()) == [2]


def test_a_command_over_files(typed: Typed, tmp_path: Path) -> None:
    code = tmp_path / "command.wasm"
    code.write_bytes(COMMAND)
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"input {name}")
    done = typed("map", code, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.out", "b.out"]


def test_what_failed_is_told_and_the_rest_is_done(typed: Typed, numbers: Path) -> None:
    done = typed("map", numbers, "1", '"x"', "2", "--func", "add_one")
    assert done.returncode == 1 and done.stdout == "2\n3\n" and '"x"' in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["map", "CODE"], 1, "nothing to do"),
        (["map", "CODE", "nowhere"], 1, "--func"),
        (["map", "CODE", "--inputs", "/nowhere", "--func", "add_one"], 1, "cannot be read"),
        (["map", "CODE", "1", "--func", "add_one", "--elsewhere"], 1, "Nobody serves"),
        (["topic"], 2, "publish"),
        (["topic", "publish", "news", "{"], 2, "JSON"),
        (["topic", "follow", ""], 2, "empty"),
        (["copies", "nonsense"], 1, "nonsense"),
        (["share", "notes", "--by", "did:key:nobody"], 1, "did:key"),
    ],
)
def test_mistakes_are_told(
    typed: Typed, numbers: Path, words: list[str], code: int, sentence: str
) -> None:
    typed("id")
    done = typed(*[str(numbers) if word == "CODE" else word for word in words])
    assert done.returncode == code and sentence in done.stderr, done.stderr


async def found(home: Home) -> None:
    """The node of a home founds a grid."""
    home.create()
    async with open_host(home, node_limits()) as host:
        await host.ask(host.kernel.owner.found("test"))


def test_topics_and_shared_streams_are_kept(typed: Typed) -> None:
    alone = typed("topic", "publish", "news", "1")
    assert alone.returncode == 1 and "in no grid yet" in alone.stderr
    asyncio.run(found(Home(typed.home)))
    typed.json("topic", "follow", "news")
    assert typed.json("topic", "ls") == {"topics": ["news"]}
    said = typed.json("topic", "publish", "news", '{"n": 1}')
    assert said["body"] == {"n": 1} and said["entry"].startswith("bafkrei")
    assert [one["body"] for one in typed.json("topic", "read", "news")["entries"]] == [{"n": 1}]
    assert typed.json("topic", "leave", "news")["followed"] is True
    assert typed.json("share", "notes")["stream"] == "notes"
    assert typed.json("share") == {"streams": {"notes": []}}
    assert typed.json("share", "notes", "--end")["shared"] is True


def test_copies_that_nobody_promised_are_missing(typed: Typed, numbers: Path) -> None:
    cid = typed.json("put", numbers)["cid"]
    assert typed.json("copies", cid, "2") == {"cid": cid, "copies": 2, "holders": [], "missing": 2}
    assert typed.json("copies")["wanted"][0]["missing"] == 2
    assert typed.json("copies", cid, "0")["copies"] == 0 and typed.json("copies")["wanted"] == []


def test_the_home_may_be_named_before_or_behind_the_second_word(typed: Typed, tmp_path: Path) -> None:
    typed("topic", "follow", "before")  # --home stands between the two words
    command = [sys.executable, "-m", "promisegrid_node", "topic", "ls", "--json", "--home", typed.home]
    behind = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(behind.stdout) == {"topics": ["before"]} == typed.json("topic", "ls")
