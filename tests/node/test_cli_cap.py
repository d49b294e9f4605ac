"""`promisegrid cap`: its grammar, what it asks of a node, and what it prints."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from promisegrid.errors import LocalError
from promisegrid_node import arguments, cli, naming, output, verbs_cap, verbs_run
from promisegrid_node.session import Emit, Progress

CODE = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
GIVEN = {
    "promise": CODE,
    "issuer": "did:key:zAnn",
    "holder": "did:key:zBob",
    "root": "did:key:zAnn",
    "what": {"code": CODE},
    "func": "add_one",
    "policy": [["0", "<=", 100]],
    "budget": {"fuel": 1_000_000},
    "uses": 3,
    "used": 2,
    "delegate": 1,
    "later": True,
    "expires_at": 1_800_000_000,
    "parent": None,
    "state": "kept",
    "reason": "",
    "statements": [{"at": 1_790_000_000, "state": "kept", "by": "did:key:zAnn"}],
}


class Told:
    """A node that answers with what it is given here, and remembers what it was asked."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def call(
        self,
        verb: str,
        args: Mapping[str, Any],
        pieces: AsyncIterator[bytes] | None = None,
        emit: Emit | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Any]:
        self.asked.append((verb, dict(args)))
        return self.answers[verb.replace("cap.", "")]


def say(node: Told, *words: str, as_json: bool = False) -> int:
    options = arguments.parse(words)
    return asyncio.run(cli.VERBS[options.verb](options, node, output.Output(as_json)))


@pytest.mark.parametrize(
    "words",
    [
        ["cap"],
        ["cap", "dance"],
        ["cap", "grant", "zB"],
        ["cap", "grant", "--code", CODE],
        ["cap", "grant", "zB", "--code", CODE, "--ability", "run"],
        ["cap", "grant", "zB", "--code", CODE, "--uses", "0"],
        ["cap", "ls", "--given", "--held"],
        ["cap", "delegate", CODE],
        ["cap", "keep"],
        ["run", "x", "--verify", "1"],
        ["run", "x", "--verify", "2", "--on", "zB"],
    ],
)
def test_wrong_usage_is_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments.parse(words)
    assert ended.value.code == 2


def test_what_is_promised_reaches_the_node_as_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = Told(grant={"promise": "bafkreip", "token": b"token", "delivered": False})
    token = tmp_path / "promise.cbor"
    said = "cap grant zBob --code CODE --func add_one --uses 3 --days 30 --fuel 5"
    said += " --memory 1M --time 0.5 --delegate 2"
    words = [CODE if word == "CODE" else word for word in said.split()]
    assert say(node, *words, "--arg", "0 <= 100", "--arg", '1 == "x y"', "--later", "-o", str(token)) == 0
    ((verb, asked),) = node.asked
    assert verb == "cap.grant"
    assert asked == {
        "holder": "zBob",
        "code": CODE,
        "func": "add_one",
        "uses": 3,
        "days": 30,
        "delegate": 2,
        "later": True,
        "policy": [["0", "<=", 100], ["1", "==", "x y"]],
        "budget": {"fuel": 5, "memory": 1024**2, "time": 500},
    }
    assert token.read_bytes() == b"token"
    assert capsys.readouterr().out == "bafkreip\n"


@pytest.mark.parametrize("text", ["", "0 <= ", "0 ~ 1", "<= 1", "0 <= x"])
def test_a_broken_rule_is_one_sentence(text: str) -> None:
    with pytest.raises(LocalError, match="is not a rule"):
        verbs_cap.rule(text)


def test_promises_are_listed_with_what_became_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    node = Told(ls={"promises": [GIVEN]})
    say(node, "cap", "ls")
    line = capsys.readouterr().out
    assert line.startswith(f"{CODE}  did:key:zAnn  did:key:zBob  add_one of …")
    assert "kept, 2 of 3" in line
    say(node, "cap", "ls", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"promises": [GIVEN]}


def test_a_promise_is_told_with_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    say(Told(show=GIVEN), "cap", "show", CODE)
    told = capsys.readouterr().out
    parts = ("add_one of bafkrei", "0 <= 100", "1,000,000 of fuel", "1 more", "later, by hand")
    for part in (*parts, "kept by did:key:zAnn"):
        assert part in told


def test_a_deferred_answer_names_what_to_wait_for(capsys: pytest.CaptureFixture[str]) -> None:
    node = Told(run={"deferred": "bafkreicall", "by": "did:key:zAnn"})
    assert say(node, "call", CODE, "add_one", "1") == verbs_run.GRID_FAILED
    assert "cap await bafkreicall" in capsys.readouterr().err


def test_who_agreed_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    said = [
        {"did": f"did:key:z{name}", "result": CODE, "refusal": "", "engine": "x/1"} for name in ("Ann", "Bob")
    ]
    done = {
        "exit": None,
        "value": 42,
        "files": None,
        "cached": False,
        "by": "did:key:zAnn",
        "result": CODE,
        "fuel": 12,
        "verified": said,
    }
    assert say(Told(run=done), "call", CODE, "add_one", "41", "--verify", "2") == 0
    told = capsys.readouterr()
    assert told.out == "42\n"
    assert "did:key:zAnn (x/1) says bafkrei" in told.err and "zBob" in told.err


def test_a_name_from_a_peer_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    say(Told(ls={"promises": [{**GIVEN, "func": "\x1b[2J\u202eeno_dda\n"}]}), "cap", "ls")
    told = capsys.readouterr().out
    assert told.count("\n") == 1
    assert "\x1b" not in told and "\u202e" not in told


def test_names_are_shortened_to_endings() -> None:
    assert output.ending(CODE) == f"…{CODE[-12:]}"
    assert output.ending("short") == "short"
    assert isinstance(arguments.parse(["cap", "ls"]), argparse.Namespace)


PEERS = ["did:key:zDnaeAnnx7k2", "did:key:zDnaeBobx7k2", "did:key:zDnaeEvep9s1"]


@pytest.mark.parametrize("text", ["did:key:zDnaeEvep9s1", "zDnaeEv", "p9s1", "…p9s1", "zDnae…9s1"])
def test_a_name_is_found_by_what_only_it_has(text: str) -> None:
    assert naming.only(text, PEERS, "peer", "look again", "no_such_peer") == PEERS[2]


@pytest.mark.parametrize(
    ("text", "word"), [("x7k2", "2 of them"), ("zz", "look again"), ("", "no"), ("…", "no")]
)
def test_a_name_of_none_or_several_is_refused(text: str, word: str) -> None:
    with pytest.raises(LocalError, match=word):
        naming.only(text, PEERS, "peer", "look again", "no_such_peer")
