"""`verify --mend` before there is a node: a store whose file is damaged is saved into a new file."""

from __future__ import annotations

from collections.abc import Callable

from promisegrid_node.home import Home
from promisegrid_node.store_file import FILE, check
from promisegrid_node.store_salvage import salvage


def mend(home: Home, say: Callable[[str], None]) -> None:
    """Save what can be read of a home's damaged store, and say what could not. Takes as long as reading it.

    Leaves alone a store that is whole, and one that a node is using: that node says what is wrong with it.
    LocalError when another verb uses the home, or the disk is full.
    """
    path = home.path / FILE
    if not path.exists() or home.is_held:
        return
    with home.hold():
        if not check(path):
            return
        found = salvage(home.path)
    for text in found.lost:
        say(text)
    blocks = found.saved.pop("blocks")
    rows = sum(found.saved.values())
    say(f"Saved {blocks} blocks and {rows} other rows; the damaged file is kept as {found.aside}.")
