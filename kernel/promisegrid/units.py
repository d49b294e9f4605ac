"""Numbers as people read them, for messages. Machines get the plain numbers.

Sizes are binary, as the options of the command line are: 512M there is 512 MiB here.
"""

from __future__ import annotations

from typing import Final

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """A number of bytes: "900 B", "1.5 KiB", "512 MiB"."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    unit = -1
    while round(amount) >= 1024 and unit < len(_UNITS) - 1:
        amount /= 1024
        unit += 1
    text = f"{amount:.1f}" if amount < 100 else f"{amount:.0f}"
    return f"{text.removesuffix('.0')} {_UNITS[unit]}"


def number(count: int) -> str:
    """A whole number in groups of three digits: "12,345,678"."""
    return f"{count:,}"
