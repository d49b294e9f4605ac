"""The node of a home, as a verb needs it: the one that runs, through its door, else one of this process.

`assemble` is loaded in the second case only: with the kernel, the store and the engine behind it, it would
treble the time a verb takes that has a running node to talk to.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator
from typing import Final

from promisegrid_node.door import RemoteNode
from promisegrid_node.home import Home
from promisegrid_node.session import Node

DOOR_WAIT_S: Final = 10.0
STEP_S: Final = 0.1


@contextlib.asynccontextmanager
async def reach(home: Home, alone: bool = False) -> AsyncIterator[Node]:
    """The node of a home. alone: one of this process has the home to itself."""
    home.create()
    for _ in range(round(DOOR_WAIT_S / STEP_S)):
        if not home.is_held:
            break
        if home.door.exists():
            yield RemoteNode(home.door)
            return
        await asyncio.sleep(STEP_S)  # the node of this home is just starting
    async with importlib.import_module("promisegrid_node.assemble").open_node(home, alone) as node:
        yield node
