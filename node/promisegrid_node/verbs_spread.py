"""map, topic, share, copies: what many nodes do together."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node import argtypes
from promisegrid_node.aside import aside, standard_input
from promisegrid_node.output import Output, Watcher, to_json
from promisegrid_node.session import Node
from promisegrid_node.storing import store
from promisegrid_node.verbs_base import amount, when
from promisegrid_node.verbs_run import GRID_FAILED, code_cid

# -- map -----------------------------------------------------------------------------------------------


async def map_inputs(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Run a program on many inputs, over all nodes and tabs that serve."""
    texts = [*options.inputs, *await _lines(options.list)]
    if not texts:
        raise LocalError("There is nothing to do: name inputs, or --inputs FILE with one a line.", "bad_args")
    target = None if options.output is None else _folder(options.output)
    with out.watching() as watch:
        code = await code_cid(options.code, node, watch)
        inputs = [await _input(text, options, node, watch) for text in texts]
        asked = {
            "code": code,
            "func": options.func or "",
            "inputs": inputs,
            "here": not options.elsewhere,
            "fuel": options.fuel,
            "memory": options.memory,
            "time_ms": None if options.timeout is None else max(1, round(options.timeout * 1000)),
        }
        value = await node.call("map", asked, progress=watch)
    for text, end in zip(texts, value["results"], strict=True):
        end["input"] = text
        await _tell(text, end, node, out, target)
    out.answer(value)
    who = ", ".join(f"{units.number(count)} by {did}" for did, count in value["by"].items())
    out.note(f"promisegrid: {units.number(value['done'])} done ({who or 'nobody'}), {value['failed']} failed")
    return 0 if not value["failed"] else GRID_FAILED if not value["done"] else 1


async def _tell(text: str, end: Mapping[str, Any], node: Node, out: Output, target: Path | None) -> None:
    """One result: a value as a line, a command's output as it is or as a file."""
    if "error" in end:
        out.say(f"promisegrid: {text[:200]}: {end['error']}")
    elif end["exit"] is None:
        if not out.as_json:
            out.raw(json.dumps(to_json(end["value"]), ensure_ascii=False).encode() + b"\n")
    elif target is not None or not out.as_json:
        pieces: list[bytes] = []

        async def emit(piece: bytes) -> None:
            if target is None:
                out.raw(piece)
            else:
                pieces.append(piece)

        if end["stdout"]:
            await node.call("read", {"cid": end["stdout"]}, emit=emit)
        if target is not None:
            (target / f"{Path(text).name}.out").write_bytes(b"".join(pieces))
        if end["exit"]:
            out.say(f"promisegrid: {text[:200]}: the program ended with {end['exit']}")


async def _input(text: str, options: argparse.Namespace, node: Node, watch: Watcher) -> dict[str, Any]:
    """What one input gives the program: JSON arguments for a function, a file as stdin for a command."""
    if options.func and options.func != "_start":
        value = argtypes.value(text)
        return {"args": value if isinstance(value, list) else [value]}
    path = Path(text)
    if not path.is_file():
        sorry = f"{text} is no file: a command's inputs are files; for a function, name it with --func."
        raise LocalError(sorry)
    return {"args": list(options.args), "stdin": str((await store(node, path, watch)).cid)}


async def _lines(source: str | None) -> list[str]:
    if source is None:
        return []
    if source == "-":
        data = await aside(standard_input().readall)
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise LocalError(f"{source} cannot be read: {error.strerror}.") from error
    try:
        return [line for line in data.decode().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise LocalError(f"{source} is not text in UTF-8: {error.reason}.") from error


def _folder(text: str) -> Path:
    path = Path(text)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{text} cannot be a folder for the results: {error.strerror}.") from error
    return path


# -- topics --------------------------------------------------------------------------------------------


async def topic_publish(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Say something to whoever follows a topic."""
    value = await node.call("topic.publish", {"topic": options.topic, "body": argtypes.value(options.body)})
    out.answer({**value, "body": to_json(value["body"])}, [value["entry"]])
    return 0


async def topic_follow(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Follow a topic."""
    value = await node.call("topic.follow", {"topic": options.topic})
    out.answer(value, [f"following {value['topic']}"])
    out.note(f"`promisegrid topic read {value['topic']}` shows what was said.")
    return 0


async def topic_leave(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Follow a topic no more."""
    value = await node.call("topic.leave", {"topic": options.topic})
    was = "left" if value["followed"] else "was not followed:"
    out.answer(value, [f"{was} {value['topic']}"])
    return 0


async def topic_ls(options: argparse.Namespace, node: Node, out: Output) -> int:
    """The topics this node follows."""
    value = await node.call("topic.ls", {})
    out.answer(value, value["topics"])
    if not value["topics"]:
        out.note("No topic is followed; `promisegrid topic follow NAME` begins.")
    return 0


async def topic_read(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What was said in a topic, the latest last."""
    value = await node.call("topic.entries", {"topic": options.topic, "limit": options.limit})
    entries = [{**one, "body": to_json(one["body"])} for one in value["entries"]]
    rows = [[_moment(one["at"]), one["by"], json.dumps(one["body"], ensure_ascii=False)] for one in entries]
    out.table({**value, "entries": entries}, ["WHEN", "BY", "WHAT"], rows, names=2)
    return 0


def _moment(at_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_ms / 1000))


# -- shared streams and copies ---------------------------------------------------------------------------


async def share(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Share a stream with whoever shares it too; or list what is shared."""
    if options.stream is None:
        value = await node.call("share.ls", {})
        rows = [[name, ", ".join(by) or "any member"] for name, by in value["streams"].items()]
        out.table(value, ["STREAM", "MOVES TAKEN OF"], rows, names=2)
        return 0
    if options.end:
        value = await node.call("share.end", {"stream": options.stream})
        was = "shared no more" if value["shared"] else "was not shared"
        out.answer(value, [f"{value['stream']}: {was}"])
        return 0
    value = await node.call("share", {"stream": options.stream, "by": options.by or []})
    out.answer(value, [f"sharing {value['stream']}"])
    return 0


async def copies(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Have others keep content, because they promised to; or list it."""
    if options.cid is None:
        value = await node.call("copies.ls", {})
        rows = [
            [one["cid"], f"{len(one['holders'])} of {one['copies']}", ", ".join(one["holders"]) or "–"]
            for one in value["wanted"]
        ]
        rows += [
            [one["cid"], f"kept for {one['for']}", f"{amount(one['bytes'])}, until {when(one['until'])}"]
            for one in value["kept"]
        ]
        out.table(value, ["CID", "COPIES", ""], rows, names=1)
        return 0
    with out.watching() as watch:
        value = await node.call("copies", {"cid": options.cid, "copies": options.count}, progress=watch)
    lines = [f"{len(value['holders'])} of {value['copies']} copies"]
    lines += [f"  {did}" for did in value["holders"]]
    out.answer(value, lines)
    if value["missing"]:
        out.note("More are asked as they come: `promisegrid cap grant DID --ability store` promises to keep.")
    return 0
