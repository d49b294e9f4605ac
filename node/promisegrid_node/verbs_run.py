"""run, call: programs by CID or from a file."""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from promisegrid import units
from promisegrid.cid import Cid, CidError
from promisegrid.errors import LocalError
from promisegrid_node import argtypes
from promisegrid_node.aside import standard_input
from promisegrid_node.output import Output, Watcher, to_json
from promisegrid_node.session import STDOUT, Node
from promisegrid_node.storing import store
from promisegrid_node.verbs_content import to_folder

GRID_FAILED = 125
"""The exit code of `run` when there is no program's own."""


async def run(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Run a command; its stdout is ours, its exit code too."""
    target = None if options.output is None else Path(options.output)
    if target is not None and target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise LocalError(f"{target} exists and is not an empty folder: choose another name for -o.")
    with out.watching() as watch:
        asked = {
            "code": await code_cid(options.code, node, watch),
            "func": options.func or "",
            "args": list(options.args),
            "files": await _named(options.files, node, watch, "--files"),
            "stdin": await _stdin(options.stdin, node, watch),
            **_budget(options),
        }
    return await told("run", asked, node, out, target, options.why)


async def told(
    verb: str,
    asked: Mapping[str, Any],
    node: Node,
    out: Output,
    target: Path | None = None,
    explained: bool = False,
) -> int:
    """Ask for a run's result, and tell it: stdout, stderr, the folder, the exit code; if wanted, why."""
    kept = bytearray(), bytearray()

    async def emit(piece: bytes) -> None:
        first = piece[:1] == STDOUT
        if out.as_json:
            kept[0 if first else 1].extend(piece[1:])
        elif first:
            out.raw(piece[1:])
        else:
            sys.stderr.buffer.write(piece[1:])
            sys.stderr.buffer.flush()

    with out.watching() as watch:
        done = await node.call(verb, asked, emit=emit, progress=watch)
        if done.get("deferred"):
            return _deferred(done, out)
        why = done.pop("why", "")
        if explained:
            out.say(f"promisegrid: {why}")
            done |= {"why": why} if out.as_json else {}
        if target is not None and done["files"] is not None:
            await to_folder(node, done["files"], target)
    if target is not None and done["files"] is None:
        out.note("promisegrid: the program changed no files, so nothing was written.")
    if done["exit"] is None:
        out.answer(
            {**done, "stdout": None, "stderr": None}, [json.dumps(to_json(done["value"]), ensure_ascii=False)]
        )
        _tell(done, out, why)
        return 0
    if out.as_json:
        streams = {
            name: base64.b64encode(data).decode()
            for name, data in zip(("stdout", "stderr"), kept, strict=True)
        }
        out.answer({**done, **streams})
    _tell(done, out, why)
    return min(int(done["exit"]), 255)


def _deferred(done: Mapping[str, Any], out: Output) -> int:
    """The other side will keep its promise later: not a result, and not a failure of anybody's."""
    out.answer(done)
    out.say(
        f"promisegrid: {done['by']} keeps this promise later. `promisegrid cap await {done['deferred']}`"
        " waits for the result; `run --wait` does so at once."
    )
    return GRID_FAILED


async def call(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Call an exported function over numbers, or a handler over dag-cbor."""
    values = [argtypes.value(text) for text in options.args]
    with out.watching() as watch:
        asked = {
            "code": await code_cid(options.code, node, watch),
            "func": options.func,
            "args": values,
            **_budget(options),
        }
    return await told("run", asked, node, out, explained=options.why)


def _budget(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "on": options.on,
        "fuel": options.fuel,
        "memory": options.memory,
        "time_ms": None if options.timeout is None else max(1, round(options.timeout * 1000)),
        "fresh": options.fresh,
        "verify": options.verify,
        "wait": options.wait,
        "promise": options.promise,
    }


def _tell(done: dict[str, Any], out: Output, why: str) -> None:
    for one in done.get("verified", ()):
        who = f"{one['did']} ({one['engine']})" if one["engine"] else one["did"]
        out.say(f"promisegrid: {who} says {one['result'] or one['refusal']}")
    why = why or f"{'remembered' if done['cached'] else 'run'} by {done['by']}"
    fuel = "" if done["fuel"] is None else f", {units.number(done['fuel'])} instructions"
    out.note(f"promisegrid: {why}{fuel}, result {done['result']}")


async def code_cid(text: str, node: Node, watch: Watcher) -> str:
    """The CID of CODE: a file is put first."""
    found = await _named(text, node, watch, "CODE")
    assert found is not None
    return found


async def _named(text: str | None, node: Node, watch: Watcher, what: str) -> str | None:
    """A CID, or the CID of a path after putting it. A name that is both is the path."""
    if text is None:
        return None
    if os.path.lexists(text):
        return str((await store(node, Path(text), watch)).cid)
    try:
        return str(Cid.parse(text))
    except CidError as error:
        raise LocalError(f"{what} is {text!r}, which is neither a file here nor a CID ({error}).") from error


async def _stdin(text: str | None, node: Node, watch: Watcher) -> str | None:
    if text is None:
        return None
    source: Path | BinaryIO = standard_input() if text == "-" else Path(text)
    if isinstance(source, Path) and not source.is_file():
        return await _named(text, node, watch, "--stdin")
    return str((await store(node, source, watch)).cid)
