"""pin, unpin, pins, gc, log, stat, verify, rebuild: what is kept, for how long, and whether it is whole."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node.lanes import draw
from promisegrid_node.output import Output, ending
from promisegrid_node.session import Node
from promisegrid_node.verbs_content import called, split_path

# -- pins ----------------------------------------------------------------------------------------------


async def pin(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Keep content: fetch what is not here, and pin it."""
    cid, path = split_path(options.cid)
    with out.watching() as watch:
        if path:
            cid = (await node.call("locate", {"cid": cid, "path": path}, progress=watch))["cid"]
        name = options.name or path.rpartition("/")[2]
        asked = {"cid": cid, "name": name, "direct": options.direct}
        value = await node.call("pin", asked, progress=watch)
    out.answer(value, [f"pinned {value['cid']}{called(value['name'])}"])
    return 0


async def unpin(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Let go of content by its CID, or by the name it was pinned under."""
    value = await node.call("unpin", {"cid": split_path(options.cid)[0]})
    out.answer(value, [f"let go of {value['cid']}{called(value['name'])}"])
    out.note("`promisegrid gc` takes away what nothing else keeps.")
    return 0


async def pins(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What is pinned."""
    value = await node.call("pins", {})
    rows = [
        [kept["cid"], amount(kept["size"]), when(kept["at"]), kept["name"] or "–", _direct(kept["kind"])]
        for kept in value["pins"]
    ]
    out.table(value, ["CID", "SIZE", "SINCE", "NAME", ""], rows, names=1)
    if not rows:
        out.note("Nothing is pinned; `promisegrid put PATH` stores and pins.")
    return 0


def _direct(kind: str) -> str:
    return "this block only" if kind == "direct" else ""


def when(at: int) -> str:
    """A time in seconds since 1970, as people read it here."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def amount(count: int | None) -> str:
    """A size, or a dash where it is not known."""
    return "–" if count is None else units.size(count)


async def gc(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Take away what nobody keeps."""
    with out.watching() as watch:
        asked = {"dry_run": options.dry_run, "results": options.results}
        value = await node.call("gc", asked, progress=watch)
    did = "would go" if options.dry_run else "removed"
    blocks, freed = units.number(value["removed"]), units.size(value["freed"])
    lines = [f"{blocks} {_plural('block', value['removed'])} {did}, {freed}"]
    lines.append(f"{units.number(value['kept'])} {_plural('block', value['kept'])} kept")
    out.answer(value, lines)
    if not value["removed"]:
        out.note("What a running node stored in the last ten minutes is left alone, pinned or not.")
    elif options.dry_run:
        out.note("Nothing was touched; `promisegrid gc` does it, `promisegrid pin CID` keeps.")
    return 0


def _plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}s"


# -- streams -------------------------------------------------------------------------------------------


async def log(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Every stream; one stream's history; or a move."""
    match options.words:
        case []:
            return await _streams(node, out)
        case ["move", name, cid]:
            return await _move(name, split_path(cid)[0], options.previous, node, out)
        case [name]:
            return await _history(name, options.limit, node, out)
    raise LocalError(
        "log takes nothing, a stream's NAME, or: move NAME CID (`promisegrid log --help` has examples)."
    )


async def _streams(node: Node, out: Output) -> int:
    value = await node.call("log.streams", {})
    rows = []
    for stream in value["streams"]:
        for at, head in enumerate(stream["heads"]):
            name = stream["stream"] if at == 0 else ""
            fork = f"fork {at + 1} of {len(stream['heads'])}" if len(stream["heads"]) > 1 else ""
            rows.append([name, head["value"], when(head["at"]), fork])
    out.table(value, ["STREAM", "VALUE", "SINCE", ""], rows, names=0)
    if not rows:
        out.note("No streams yet; `promisegrid log move NAME CID` begins one.")
    return 0


async def _history(name: str, limit: int, node: Node, out: Output) -> int:
    with out.watching() as watch:
        value = await node.call("log.history", {"stream": name, "limit": limit}, progress=watch)
    told = {head["head"]: head for head in value["history"]}
    known = [(cid, [one for one in head["previous"] if one in told]) for cid, head in told.items()]
    drawn = list(draw(known))
    width = max((len(left) for left, _ in drawn), default=0)
    lines = [left if cid is None else f"{left:{width}}  {_said(told[cid])}" for left, cid in drawn]
    if value["broken"]:
        lines.append(f"… what came before cannot be told: {value['broken']}")
    elif value["more"]:
        lines.append(f"… and older ones; --limit {2 * limit} tells more")
    out.answer(value, lines)
    if len(value["heads"]) > 1:
        out.note(
            f"{name} has {len(value['heads'])} heads: moves made without knowing of each other."
            f" `promisegrid log move {name} CID` joins them."
        )
    return 0


def _said(head: Mapping[str, Any]) -> str:
    return f"{head['value']}  {when(head['at'])}  by {ending(head['by'])}"


async def _move(name: str, cid: str, previous: Sequence[str], node: Node, out: Output) -> int:
    asked: dict[str, Any] = {"stream": name, "cid": cid}
    if previous:
        asked["previous"] = list(previous)
    value = await node.call("log.move", asked)
    count = len(value["previous"])
    joined = f"; {count} heads joined" if count > 1 else ""
    out.answer(value, [f"{name} is now {value['value']}{joined}"])
    return 0


# -- looking after -------------------------------------------------------------------------------------


async def stat(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What this node holds, where, and how much room is left."""
    value = await node.call("stat", {})
    rows = {
        "blocks": f"{units.number(value['blocks'])}, {units.size(value['bytes'])}",
        "pins": units.number(value["pins"]),
        "streams": units.number(value["streams"]),
        "store": f"{value['backend']}, {value['store']}",
        "on disk": amount(value["file_bytes"]),
        "free there": amount(value["free"]),
        "peers": units.number(value["peers"]),
        "serving": serves(value["serving"]),
    }
    out.answer(value, [f"{name:11} {text}" for name, text in rows.items()])
    return 0


def serves(kept: Mapping[str, int] | None) -> str:
    """The owner's promise to run programs for others, in words."""
    if kept is None:
        return "nothing for others"
    return f"up to {kept['cpu']} programs at once for members, {units.size(kept['memory'])} of memory each"


async def verify(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Hash everything stored once more, look for all that is kept; exit code 1 if anything is wrong."""
    with out.watching() as watch:
        value = await node.call("verify", {"mend": options.mend}, progress=watch)
    wrong = [f"{cid} is not what its name says; it is fetched again when needed" for cid in value["bad"]]
    wrong += value["wrong"]
    mended = [f"{cid} was fetched anew" for cid in value["mended"]]
    count = value["checked"]
    told = f"{units.number(count)} {_plural('block', count)} checked, {len(wrong)} wrong"
    out.answer(value, [*wrong, *mended, told])
    return 1 if wrong else 0


async def rebuild(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Make anew what can be made from blocks and streams."""
    with out.watching() as watch:
        value = await node.call("rebuild", {}, progress=watch)
    count = {name: units.number(number) for name, number in value.items()}
    text = f"{count['blocks']} blocks read: {count['heads']} heads of streams, {count['receipts']} receipts"
    out.answer(value, [f"{text}; {count['removed']} unfounded rows removed"])
    return 0
