"""export, import, publish, gateways: content in CAR files, for anybody, and from elsewhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node.aside import aside, standard_input
from promisegrid_node.output import Output, Watcher, complain
from promisegrid_node.scatter import whole_file
from promisegrid_node.session import Emit, Node
from promisegrid_node.verbs_content import split_path

PIECE: Final = 1024 * 1024


async def export(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Write content as a CAR file."""
    if options.all == bool(options.cids):
        raise LocalError("Say what to export: CIDs, or --all for a backup of everything.")
    roots = [split_path(text)[0] for text in options.cids]
    asked = {"cids": roots, "all": options.all}
    if options.output == "-":
        if options.json:
            raise LocalError("--json and the CAR file cannot both go to stdout: give -o FILE.")
        if sys.stdout.isatty():
            raise LocalError("A CAR file is no text for a terminal: give -o FILE, or pipe it on.")
    with out.watching() as watch:
        if options.output == "-":
            return _left_out(await node.call("car.export", asked, emit=_counted(out.raw, watch)))
        target = Path(options.output)
        with whole_file(target) as file:
            value = await node.call("car.export", asked, emit=_counted(file.write, watch))
    value = {**value, "path": str(target), "roots": roots}
    out.answer(value, [f"{units.number(value['blocks'])} blocks, {units.size(value['bytes'])}, in {target}"])
    return _left_out(value)


def _left_out(value: Mapping[str, Any]) -> int:
    """Say what a backup had to leave out; exit code 1 then, for whoever relies on its being whole."""
    if value["bad"]:
        complain(f"{value['bad']} blocks had rotted and were left out: `promisegrid verify` names them.")
    return 1 if value["bad"] else 0


def _counted(write: Callable[[bytes], object], watch: Watcher) -> Emit:
    size = 0

    async def emit(piece: bytes) -> None:
        nonlocal size
        write(piece)
        size += len(piece)
        watch({"phase": "export", "done": size})

    return emit


async def bring(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Take in a CAR file; print its roots."""
    if options.path == "-":
        value = await _brought(standard_input(), None, options, node, out)
    else:
        try:
            with Path(options.path).open("rb") as file:
                value = await _brought(file, Path(options.path).stat().st_size, options, node, out)
        except OSError as error:
            raise LocalError(
                f"{options.path} cannot be read: {error.strerror}; give a CAR file, or - for standard input."
            ) from error
    out.answer(value, value["roots"])
    if value["left"]:
        out.note("This is a backup; its blocks are here. As this home has pins, streams or keys of its own,")
        out.note("those of the backup were left alone: --restore brings them back, and may move streams.")
    if value["backup"]:
        brought = f"{value['pinned']} pins, {value['streams']} heads of streams and {value['values']} keys"
        out.note(f"{units.number(value['blocks'])} blocks, {units.size(value['bytes'])}; {brought} added.")
        for cid in value["lost"]:
            complain(f"{cid} was kept there, and is not whole in the backup: left out.")
        return 1 if value["lost"] else 0
    kept = "pinned its roots" if options.pin else "nothing pinned: `promisegrid gc` may take it away"
    out.note(f"{units.number(value['blocks'])} blocks, {units.size(value['bytes'])}; {kept}.")
    return 0


async def _brought(
    file: BinaryIO | FileIO, total: int | None, options: argparse.Namespace, node: Node, out: Output
) -> dict[str, Any]:
    async def pieces(watch: Watcher) -> AsyncIterator[bytes]:
        done = 0
        while piece := await aside(lambda: file.read(PIECE)):
            yield piece
            done += len(piece)
            watch({"phase": "import", "done": done, "total": total})

    name = "" if options.path == "-" else Path(options.path).name
    with out.watching() as watch:
        asked = {"pin": options.pin, "name": name, "restore": options.restore}
        return await node.call("car.import", asked, pieces=pieces(watch))


async def publish(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Publish content, and print where it is to be had; or list what is published."""
    if options.cid is None:
        value = await node.call("content.published", {})
        rows = [[one["cid"], one["name"] or "–"] for one in value["published"]]
        out.table(value, ["CID", "NAME"], rows, names=1)
        if not rows:
            out.note("Nothing is published; `promisegrid publish CID` lets anybody read it here.")
        return 0
    cid, path = split_path(options.cid)
    with out.watching() as watch:
        if path:
            cid = (await node.call("locate", {"cid": cid, "path": path}, progress=watch))["cid"]
        name = options.name or path.rpartition("/")[2]
        value = await node.call("content.publish", {"cid": cid, "name": name}, progress=watch)
    out.answer(value, [value["url"] or value["cid"]])
    return 0


async def unpublish(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Publish it no longer."""
    value = await node.call("content.unpublish", {"cid": split_path(options.cid)[0]})
    out.answer(value, [value["cid"]])
    return 0


async def gateways(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Which gateways are asked; add one, or take one away."""
    if (options.what == "ls") != (options.url is None):
        raise LocalError("Say `gateways add URL`, `gateways rm URL`, or `gateways` alone to list them.")
    asked = {} if options.what == "ls" else {options.what: options.url}
    value = await node.call("gateways", asked)
    out.answer(value, value["gateways"])
    if not value["gateways"]:
        out.note("None: content is fetched from peers only. `promisegrid gateways add URL` adds one.")
    return 0
