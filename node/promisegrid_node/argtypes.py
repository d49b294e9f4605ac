"""Kinds of arguments: what may be written for a size, a number, a time, an address or a value, and what
is said to whoever wrote something else. Knows neither verbs nor nodes.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any, Final

from promisegrid import dagcbor
from promisegrid.errors import LocalError
from promisegrid_node.output import from_json

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}
_MAY_BE_EMPTY: Final = frozenset({"args", "arg", "reason", "func", "name"})
_PATHS: Final = frozenset(
    {"home", "path", "output", "files", "stdin", "code", "folder", "file", "token", "bundle", "tls_cert",
     "tls_key"}
)  # fmt: skip
"""Options that name files; a file's name need not be text in UTF-8."""


class Misuse(LocalError):
    """Wrong usage found after the grammar: the command ends with 2."""


def size(text: str) -> int:
    """A number of bytes, such as 65536, 64K or 1.5G."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write bytes, or 64K, 512M, 1G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def size_or_off(text: str) -> int:
    """A number of bytes; off is none."""
    return 0 if text == "off" else size(text)


def positive(text: str) -> int:
    """A whole number above 0."""
    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0 of 18 digits at most")
    return int(text)


def several(text: str) -> int:
    """A whole number above 1."""
    if positive(text) < 2:
        raise argparse.ArgumentTypeError("comparing takes at least 2 peers")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds, with or without a fraction."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def address(text: str) -> tuple[str, int]:
    """Where to listen: a host and a port."""
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()) or len(port) > 5 or int(port) > 65535:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not HOST:PORT, such as 127.0.0.1:8420 or 0.0.0.0:8420"
        )
    return host, int(port)


def value(text: str) -> Any:
    """The dag-cbor value that a JSON argument spells. Misuse names the argument."""
    try:
        found = from_json(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise Misuse(
            f"{_short(text)} is not a JSON value ({_why(error)}); text needs its quotes: '\"like this\"'."
        ) from error
    try:
        dagcbor.encode(found)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"{_short(text)} is no value a program can be given: {_why(error)}.") from error
    return found


def unsound(options: Mapping[str, Any]) -> str | None:
    """What is wrong with the texts of a command, whichever they are; None when nothing is."""
    for name, given in options.items():
        for text in given if isinstance(given, list) else [given]:
            if text == "" and name not in _MAY_BE_EMPTY:
                return f"{name} is empty: a variable that is not set, perhaps?"
            if isinstance(text, str) and name not in _PATHS and not _is_text(text):
                return f"{name}: {_short(text)} is not text in UTF-8."
    return None


def _is_text(text: str) -> bool:
    """Whether every byte of what was typed was UTF-8: Python keeps the others as lone surrogates."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


def _why(error: Exception) -> str:
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
