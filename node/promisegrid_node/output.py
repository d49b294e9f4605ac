"""What the command line prints: answers on stdout, everything else on stderr.

One JSON object a verb with `--json`; else a few plain lines. Progress is for people: only on a terminal, only
on stderr, and only for what takes longer than half a second.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from promisegrid.cid import Cid
from promisegrid.units import number, size

Watcher = Callable[[Mapping[str, Any]], None]
PATIENCE_S: Final = 0.5
_WORDS: Final = {
    "fetch": "Fetching from peers",
    "compile": "Compiling (once for each module)",
    "run": "Running",
    "store": "Storing",
    "verify": "Checking blocks",
    "put": "Storing",
    "get": "Reading",
    "mark": "Looking for what is kept",
    "sweep": "Looking for what nobody keeps",
    "rebuild": "Making anew",
    "export": "Writing the CAR file",
    "import": "Checking and storing",
    "map": "Running",
}
_TURNING: Final = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of what follows."""
_UNSEEN: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Kinds of characters that act on a terminal, end a line, or cannot be written in UTF-8 at all."""
_ACTING: Final = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_BYTES: Final = frozenset({"fetch", "put", "get", "export", "import"})
_BLOCKS: Final = frozenset({"verify", "mark", "sweep", "rebuild"})
"""What each phase counts."""
RATE_S: Final = 1.0
"""How long a speed is measured before it is told."""


def complain(text: str) -> None:
    """One sentence on stderr."""
    print(f"promisegrid: {harmless(text)}", file=sys.stderr, flush=True)


class Plain(logging.Formatter):
    """Log lines for a terminal: what strangers had a part in is harmless there."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as its lines."""
        return "\n".join(map(harmless, super().format(record).split("\n")))


def log_to_stderr(level: str) -> None:
    """Have everything logged from `level` on said on stderr; once a process."""
    handler = logging.StreamHandler()
    handler.setFormatter(Plain("promisegrid: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def to_json(value: object) -> Any:
    """A dag-cbor value as JSON, bytes and links in DAG-JSON's form."""
    if isinstance(value, bytes):
        return {"/": {"bytes": base64.b64encode(value).decode().rstrip("=")}}
    if isinstance(value, Cid):
        return {"/": str(value)}
    if isinstance(value, Mapping):
        return {str(name): to_json(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(inner) for inner in value]
    return value


def from_json(value: Any) -> Any:
    """The dag-cbor value that JSON in DAG-JSON's form spells. ValueError for a broken link or base64."""
    if isinstance(value, list):
        return [from_json(inner) for inner in value]
    if isinstance(value, dict):
        if set(value) == {"/"}:
            inner = value["/"]
            if isinstance(inner, str):
                return Cid.parse(inner)
            if isinstance(inner, dict) and set(inner) == {"bytes"} and isinstance(inner["bytes"], str):
                return base64.b64decode(inner["bytes"] + "=" * (-len(inner["bytes"]) % 4), validate=True)
        return {name: from_json(inner) for name, inner in value.items()}
    return value


def harmless(text: str) -> str:
    """A line for a terminal: what a peer named itself moves no cursor and turns no text around."""
    if text.isascii() and text.isprintable():
        return text
    return "".join("\ufffd" if unicodedata.category(c) in _UNSEEN or c in _TURNING else c for c in text)


def _escaped(line: str) -> str:
    """JSON with what a terminal would act on as JSON's own escapes: the same value, harmless to see."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def ending(name: str) -> str:
    """The end of a long name, as every verb takes it."""
    return name if len(name) <= 16 else f"…{name[-12:]}"


class Output:
    """Where one verb's answer goes."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.is_watched = sys.stderr.isatty() and not as_json

    def answer(self, value: Mapping[str, Any], lines: Sequence[str] = ()) -> None:
        """The answer: one JSON object, or these lines."""
        if self.as_json:
            print(_escaped(json.dumps(to_json(value), ensure_ascii=False)), flush=True)
        elif lines:
            print("\n".join(harmless(line) for line in lines), flush=True)

    def table(
        self, value: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[str]], names: int
    ) -> None:
        """The answer as rows: on a terminal a table with its first `names` columns shortened to endings."""
        if self.as_json or not sys.stdout.isatty():
            self.answer(value, ["  ".join(row).rstrip() for row in rows])
            return
        shown = Table(*columns, box=None, pad_edge=False, header_style="dim")
        for row in rows:
            cells = [*(ending(text) for text in row[:names]), *row[names:]]
            shown.add_row(*(Text(harmless(cell)) for cell in cells))
        if rows:
            Console().print(shown)

    def raw(self, data: bytes) -> None:
        """Bytes of a file or a program, unchanged."""
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def say(self, text: str) -> None:
        """What belongs to the answer where stdout is a program's; on stderr, and in the JSON instead."""
        if not self.as_json:
            print(harmless(text), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Something a person at a terminal may like to know."""
        if self.is_watched:
            print("\n".join(map(harmless, text.split("\n"))), file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watcher]:
        """A function to call with progress details while the verb runs."""
        if not self.is_watched:
            yield lambda detail: None
            return
        bar = _Bar()
        try:
            yield bar.show
        finally:
            bar.stop()


class _Bar:
    """A progress line that appears only when the wait is long."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._rate = _Rate()

    def show(self, detail: Mapping[str, Any]) -> None:
        phase, done, total = str(detail.get("phase")), detail.get("done") or 0, detail.get("total")
        speed = self._rate.of(phase, done, time.monotonic())
        if self._bar is None:
            if time.monotonic() - self._since < PATIENCE_S and phase != "compile":
                return
            self._bar = Progress(
                SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(),
                TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("")
        assert self._task is not None
        text = progress_text(phase, done, total, speed)
        self._bar.update(self._task, description=text, completed=done if total else 0, total=total)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()


class _Rate:
    """How fast a phase goes: what is done in a second, after the first one."""

    def __init__(self) -> None:
        self._phase, self._at, self._done = "", 0.0, 0

    def of(self, phase: str, done: int, now: float) -> float | None:
        """Amount a second of this phase so far, once that means something."""
        if phase != self._phase or done < self._done:
            self._phase, self._at, self._done = phase, now, done
        passed = now - self._at
        return None if passed < RATE_S else (done - self._done) / passed


def progress_text(phase: str, done: int, total: int | None, speed: float | None) -> str:
    """One line about how far it is: what, how much of it, how fast."""
    text = _WORDS.get(phase, "Working")  # what a peer calls it is not for this terminal
    if phase in _BYTES and done:
        text += f" {size(done)}" + (f" of {size(total)}" if total else "")
        return text if speed is None else f"{text}, {size(round(speed))}/s"
    if phase == "map":
        return f"{text}: {number(done)} of {number(total or 0)}"
    if phase in _BLOCKS and done:
        return f"{text}: {number(done)}" + (f" of {number(total)}" if total else "") + " blocks"
    return text
