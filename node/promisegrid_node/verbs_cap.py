"""cap …: promises given, passed on, shown, kept, broken and taken back."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from promisegrid import units
from promisegrid.errors import LocalError, RemoteError
from promisegrid_node import argtypes
from promisegrid_node.aside import aside, standard_input
from promisegrid_node.output import Output, to_json
from promisegrid_node.scatter import whole_file
from promisegrid_node.session import Node
from promisegrid_node.verbs_run import code_cid, told

OPERATORS: Final = ("==", "!=", "<=", ">=", "<", ">", "in", "like", "type")
TOKEN_MAX: Final = 1024 * 1024

# -- giving --------------------------------------------------------------------------------------------


async def grant(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Promise somebody something; print the promise's CID."""
    what: dict[str, Any] = {"ability": options.ability}
    if options.code is not None:
        with out.watching() as watch:
            what = {"code": await code_cid(options.code, node, watch)}
    asked = {"holder": options.holder, **what, "later": options.later, **narrowing(options)}
    return _given(await node.call("cap.grant", asked), options, out)


async def delegate(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Pass a promise on; print the CID of the new one."""
    asked = {"parent": options.promise, "holder": options.holder, **narrowing(options)}
    return _given(await node.call("cap.delegate", asked), options, out)


async def backup(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Name another key that may admit members."""
    value = await node.call("cap.backup", {"holder": options.holder})
    out.answer(value, [f"{value['holder']} may now admit members as this node does."])
    return 0


async def accept(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Take a promise from a file; print its CID."""
    try:
        token = await aside(lambda: _token(options.file))
    except OSError as error:
        raise LocalError(
            f"{options.file} cannot be read: {error.strerror}; give the file `cap grant -o` wrote."
        ) from error
    try:
        value = await node.call("cap.accept", {"token": token})
    except RemoteError as wrong:
        raise LocalError(
            f"{options.file} holds no promise for this node: {wrong.text} Give the file that `cap grant -o`"
            " wrote for it.",
            wrong.code,
        ) from wrong
    out.answer(value, [value["promise"]])
    return 0


def _token(name: str) -> bytes:
    with standard_input() if name == "-" else open(name, "rb", buffering=0) as file:
        token = b""
        while len(token) < TOKEN_MAX and (piece := file.read(TOKEN_MAX - len(token))):
            token += piece
        return token


def narrowing(options: argparse.Namespace) -> dict[str, Any]:
    """What limits a promise, of what the command line said."""
    budget = {
        "fuel": options.fuel,
        "memory": options.memory,
        "output": options.output,
        "time": None if options.time is None else max(1, round(options.time * 1000)),
    }
    return {
        "func": options.func,
        "policy": [rule(text) for text in options.arg],
        "budget": {name: value for name, value in budget.items() if value is not None},
        "uses": options.uses,
        "days": options.days,
        "delegate": options.delegate,
    }


def rule(text: str) -> list[Any]:
    """A rule about arguments: [selector, operator, value]. Misuse says how one is written."""
    parts = text.split(None, 2)
    if len(parts) == 3 and parts[1] in OPERATORS:
        try:
            return [parts[0], parts[1], argtypes.value(parts[2])]
        except argtypes.Misuse:
            pass
    raise argtypes.Misuse(
        f"--arg {text!r} is not a rule: write the argument's number, one of {' '.join(OPERATORS)}, and a"
        " JSON value, such as '0 <= 100'."
    )


def _given(value: Mapping[str, Any], options: argparse.Namespace, out: Output) -> int:
    if options.token is not None:
        with whole_file(Path(options.token)) as file:
            file.write(value["token"])
    out.answer(value, [value["promise"]])
    if not value["delivered"] and options.token is None:
        out.note(
            "promisegrid: the holder is not connected; it gets the promise when it is, or give it the file"
            " that -o FILE writes."
        )
    return 0


# -- telling -------------------------------------------------------------------------------------------


async def listing(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Every promise this node knows of."""
    value = await node.call("cap.ls", {"given": options.given, "held": options.held})
    rows = [
        (given["promise"], given["issuer"], given["holder"], what(given), state(given), until(given))
        for given in value["promises"]
    ]
    out.table(value, ("promise", "from", "to", "what", "state", "until"), rows, names=3)
    if not rows:
        out.note("promisegrid: no promises yet; `promisegrid cap grant --help` shows how to make one.")
    return 0


async def show(options: argparse.Namespace, node: Node, out: Output) -> int:
    """One promise."""
    value = await node.call("cap.show", {"promise": options.promise})
    given = value
    lines = {
        "promise": given["promise"],
        "by": given["issuer"],
        "to": given["holder"],
        "what": what(given, whole=True),
        "state": state(given),
        "until": until(given),
        "arguments": ", ".join(" ".join(_worded(part) for part in rule) for rule in given["policy"] or ()),
        "at most": budget(given["budget"] or {}),
        "passed on": f"{given['delegate']} more times in a row" if given["delegate"] else "",
        "kept": "later, by hand" if given["later"] else "",
        "rests on": given["parent"] or "",
        "reason": given["reason"],
    }
    shown = [f"{name:10}{text}" for name, text in lines.items() if text]
    shown += [f"{when(said['at'])}  {said['state']} by {said['by']}" for said in value["statements"]]
    out.answer(value, shown)
    return 0


async def pending(options: argparse.Namespace, node: Node, out: Output) -> int:
    """The calls that wait to be kept or broken."""
    value = await node.call("cap.pending", {})
    rows = [(call["call"], "for", call["for"], _call(call), when(call["at"])) for call in value["pending"]]
    rows += [(call["call"], "by", call["by"], _call(call), when(call["at"])) for call in value["awaited"]]
    out.table(value, ("call", "", "whom", "what", "since"), rows, names=3)
    if not rows:
        out.note("promisegrid: no call waits to be kept.")
    return 0


# -- keeping -------------------------------------------------------------------------------------------


async def revoke(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Take a promise back."""
    value = await node.call("cap.revoke", {"promise": options.promise, "reason": options.reason})
    out.answer(value, [f"revoked {value['promise']}"])
    return 0


async def keep(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Run a call that waits."""
    with out.watching() as watch:
        value = await node.call("cap.keep", {"call": options.promise}, progress=watch)
    out.answer(value, [f"kept {value['call']}"])
    return 0


async def broken(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Refuse a call that waits."""
    value = await node.call("cap.break", {"call": options.promise, "reason": options.reason})
    out.answer(value, [f"broke {value['call']}"])
    return 0


async def wait(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Wait for a call that was deferred, and print what it gave as `run` does."""
    asked = {"call": options.promise, "time_ms": round(options.timeout * 1000)}
    return await told("cap.await", asked, node, out)


# -- words ---------------------------------------------------------------------------------------------


def what(given: Mapping[str, Any], whole: bool = False) -> str:
    """What is promised, in a few words."""
    if given["what"].get("ability"):
        return str(given["what"]["ability"])
    link = str(given["what"].get("code") or given["what"].get("protocol"))
    return f"{given['func'] or 'run'} of {link if whole else '…' + link[-12:]}"


def state(given: Mapping[str, Any]) -> str:
    """Its state, with how often it was used."""
    used, uses = given["used"], given["uses"]
    if uses:
        return f"{given['state']}, {used} of {uses}"
    times = "once" if used == 1 else f"{used} times"
    return f"{given['state']}, used {times}" if used else str(given["state"])


def budget(most: Mapping[str, int]) -> str:
    """A budget in units."""
    said = {
        "fuel": units.number(most.get("fuel", 0)),
        "memory": units.size(most.get("memory", 0)),
        "output": units.size(most.get("output", 0)),
        "time": f"{most.get('time', 0) / 1000:g} s",
    }
    return ", ".join(f"{said[name]} of {name}" for name in said if name in most)


def until(given: Mapping[str, Any]) -> str:
    """When it ends."""
    return when(given["expires_at"])


def when(seconds: int) -> str:
    """A time of day, here."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _call(call: Mapping[str, Any]) -> str:
    return f"{call['func'] or 'run'} of …{str(call['code'])[-12:]}"


def _worded(part: object) -> str:
    return part if isinstance(part, str) else json.dumps(to_json(part), ensure_ascii=False)
