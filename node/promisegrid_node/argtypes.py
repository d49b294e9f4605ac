"""Kinds of arguments: what a person may write for a size, a number or a time, and what is said otherwise."""

from __future__ import annotations

import argparse
import re
from typing import Final

_UNITS: Final = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3}


def size(text: str) -> int:
    """A number of bytes, such as 65536, 64K or 1.5G."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)i?B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write bytes, or 64K, 512M, 1G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


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
