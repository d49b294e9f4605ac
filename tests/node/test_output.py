"""What strangers wrote, as it reaches a terminal: no control characters, no forged lines, no markup."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import pytest
from rich.console import Console
from tests.node.test_cli_cap import CODE, GIVEN, Told

from promisegrid_node import arguments, cli, output
from promisegrid_node.output import Plain, complain, harmless

EVIL = "a\x1b[2J\x9b31m\u202eb\n\x07\r\udcff\u2028c\x7f[/x]"
SHOWN = "a\ufffd[2J\ufffd31m\ufffdb\ufffd\ufffd\ufffd\ufffd\ufffdc\ufffd[/x]"
RUN = {"at_ms": 0, "code": CODE, "func": EVIL, "refused": EVIL, "cached": False, "ms": 1, "for": EVIL}
ENTRY = {"cid": CODE, "size": 1, "name": EVIL, "kind": "file"}
SAID = {"did": EVIL, "result": None, "refusal": EVIL}
CALL = {"call": CODE, "for": EVIL, "by": EVIL, "func": EVIL, "code": CODE, "at": 0}
ANSWERS: dict[str, Any] = {
    "locate": {"cid": CODE, "kind": "folder"},
    "peers": {"peers": [{"did": EVIL, "via": EVIL, "rtt_ms": 1, "serves": True}]},
    "history": {"runs": [RUN]},
    "running": {"running": [{"task": CODE, "func": EVIL, "code": CODE, "for": EVIL}]},
    "published": {"apps": [{"cid": CODE, "name": EVIL, "description": EVIL}]},
    "members": {"members": [EVIL]},
    "receipt": {"fuel": None, "memory": 1, "engine": EVIL, "valid": True},
    "evidence": {"evidence": [{"evidence": CODE, "task": CODE, "said": [SAID]}]},
    "pending": {"pending": [CALL], "awaited": [CALL]},
    "show": {**GIVEN, "reason": EVIL, "func": EVIL},
}


@pytest.mark.parametrize(
    "words",
    [
        ["ls", CODE], ["peers"], ["history"], ["running"], ["app", "ls"], ["members"], ["receipt", CODE],
        ["evidence"], ["cap", "ls"], ["cap", "show", CODE], ["cap", "pending"],
    ],
    ids=lambda words: "-".join(words[:2]),
)  # fmt: skip
@pytest.mark.parametrize("as_json", [False, True])
def test_what_strangers_named_moves_no_cursor(
    words: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = {"entries": [ENTRY]} if words[0] == "ls" else {"promises": [{**GIVEN, "func": EVIL}]}
    node = Told(**ANSWERS, ls=listed)
    options = arguments.parse(words)
    asyncio.run(cli.VERBS[options.verb](options, node, output.Output(as_json)))
    told = capsys.readouterr().out
    assert told.replace("\n", "").isprintable()
    if as_json:
        assert told.count("\n") == 1
        assert json.loads(told) == node.answers[node.asked[-1][0].replace("cap.", "")]
    else:
        assert SHOWN in told


def test_errors_notes_and_the_log_are_harmless_too(capsys: pytest.CaptureFixture[str]) -> None:
    complain(EVIL)
    out = output.Output(False)
    out.say(EVIL)
    out.is_watched = True
    out.note(EVIL)
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (EVIL,), None)
    said = capsys.readouterr().err + Plain("promisegrid: %(message)s").format(record)
    assert said.replace("\n", "").isprintable()
    assert said.count(SHOWN) == 2  # a note and the log keep their lines


def test_plain_text_of_any_language_stays_as_it_is() -> None:
    for text in ("naïve – «ok» 日本語 שלום", "👩‍👩‍👧 क्षि", "a b"):
        assert harmless(text) == text


@pytest.mark.parametrize("phase", ["[/x]", "\x1b]0;you\x07", "[bold]b", "run\n"])
def test_what_a_peer_calls_its_progress_is_not_shown(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    monkeypatch.setattr(output, "Console", lambda stderr: console)
    monkeypatch.setattr(output, "PATIENCE_S", 0.0)
    out = output.Output(False)
    out.is_watched = True
    with out.watching() as watch:
        watch({"phase": phase, "done": 1, "total": None})
    assert "Working" in shown.getvalue()
    assert phase not in shown.getvalue()
