"""providers, announce: who has content beyond the grid, and that this node has."""

from __future__ import annotations

import argparse

from promisegrid_node.output import Output
from promisegrid_node.session import Node
from promisegrid_node.verbs_content import split_path


async def providers(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Print the gateways that routers name for a CID."""
    asked = {"cid": split_path(options.cid)[0], "routers": options.routing}
    value = await node.call("providers", asked)
    out.answer(value, value["providers"])
    if not value["providers"]:
        out.note("No router knows a gateway that provides it.")
    return 0


async def announce(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Tell the routers what is published; exit code 1 when one did not take it."""
    value = await node.call("announce", {"cid": options.cid and split_path(options.cid)[0]})
    rows = [[one["cid"], one["router"], one["error"] or "announced"] for one in value["announced"]]
    out.table(value, ["CID", "ROUTER", ""], rows, names=1)
    if not rows:
        out.note("Nothing is published; `promisegrid publish CID` lets anybody read it here.")
    return 1 if any(one["error"] for one in value["announced"]) else 0
