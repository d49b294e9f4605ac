"""The grid and this node's part in it: who is there, who may join, what it promises, what it keeps."""

from __future__ import annotations

import argparse
import time
from typing import Any

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node import watching
from promisegrid_node.output import Output
from promisegrid_node.qr import terminal_qr
from promisegrid_node.session import Node
from promisegrid_node.verbs_base import serves, when

GIB = 1024 * 1024 * 1024


async def identity(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Who this node is."""
    value = await node.call("id", {})
    out.answer(value, [f"{name:5}{value[name] or '(none)'}" for name in ("did", "grid", "url")])
    return 0


async def peers(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Who is connected; with --watch live, until Ctrl-C."""
    if options.watch:
        return await watching.peers(node, out, options.every)
    value = await node.call("peers", {})
    lines = [
        f"{peer['did']}  {peer['via']}  {_ms(peer['rtt_ms'])}{'  serves' if peer.get('serves') else ''}"
        for peer in value["peers"]
    ]
    out.answer(value, lines)
    if not lines:
        out.note("promisegrid: no peers are connected.")
    return 0


def _ms(rtt_ms: int | None) -> str:
    return "   – ms" if rtt_ms is None else f"{rtt_ms:4} ms"


async def invite(options: argparse.Namespace, node: Node, out: Output) -> int:
    """A fresh join URL."""
    value = await node.call("invite", {"uses": options.uses, "days": options.days})
    if value["url"] is None and not out.as_json:
        raise LocalError(
            "No node is listening, so there is no URL to join at: start it with `promisegrid up` first."
        )
    out.answer(value, [value["url"] or ""])
    if out.is_watched:
        out.note(terminal_qr(value["url"]))
    return 0


async def admit(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Admit a key in person."""
    value = await node.call("admit", {"did": options.did})
    out.answer(value, [f"admitted {value['did']}"])
    return 0


async def members(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Whom this founder's node has admitted."""
    value = await node.call("members", {})
    out.answer(value, value["members"])
    return 0


async def leave(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Leave the grid."""
    value = await node.call("leave", {})
    out.answer(value, [f"left {value['left']}"])
    return 0


async def ban(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Have nothing to do with a key; without one, list the bans."""
    if options.did is None:
        value = await node.call("ban.ls", {})
        rows = [[one["did"], when(one["at"]), one["reason"] or "–"] for one in value["banned"]]
        out.table(value, ["DID", "SINCE", "WHY"], rows, names=1)
        return 0
    asked = {"did": options.did, "reason": options.reason, "dismiss": options.dismiss}
    value = await node.call("ban", asked)
    out.answer(value, [f"banned {value['did']}"])
    return 0


async def unban(options: argparse.Namespace, node: Node, out: Output) -> int:
    """End a ban; exit code 1 when there was none."""
    value = await node.call("unban", {"did": options.did})
    if not value["banned"]:
        raise LocalError(f"{options.did} is not banned here; `promisegrid ban` lists who is.")
    out.answer(value, [f"no longer banned: {value['did']}"])
    return 0


async def serve(options: argparse.Namespace, node: Node, out: Output) -> int:
    """The owner's promise to run programs for other members."""
    asked: dict[str, Any] = {}
    if options.what == "on":
        asked = {"cpu": options.cpu, "memory": options.memory}
    elif options.what == "off":
        asked = {"cpu": 0, "memory": 0}
    value = await node.call("serve", asked)
    kept = value["serving"]
    out.answer(value, [f"This node runs {serves(kept)}."])
    return 0


async def carry(options: argparse.Namespace, node: Node, out: Output) -> int:
    """The owner's promise to carry messages of protocols that are not known here."""
    asked = {} if options.size is None else {"bytes": options.size, "days": options.days}
    value = await node.call("carry", asked)
    kept = value["carrying"]
    told = "nothing of protocols it does not know"
    if kept is not None:
        told = (
            f"up to {units.size(kept['bytes'])} of messages it does not know, each for {kept['days']} days;"
            f" {kept['messages']} just now, {units.size(kept['used'])}"
        )
    out.answer(value, [f"This node carries {told}."])
    return 0


async def trust(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Whose receipts answer from the cache."""
    value = await node.call("trust", _policy(options.whom))
    said = {
        "own": ["own receipts only"],
        "peers": ["own receipts, and those of:", *value["dids"]],
        "agree": [f"own receipts, and what {value['agree']} executors agree on"],
    }
    out.answer(value, said[value["mode"]])
    return 0


def _policy(whom: list[str]) -> dict[str, Any]:
    """What `trust` sets; nothing when it only asks. LocalError when it makes no sense."""
    if not whom:
        return {}
    if whom == ["own"]:
        return {"mode": "own", "dids": []}
    if whom[0] == "agree":
        if len(whom) != 2 or not whom[1].isdecimal():
            raise LocalError("Say how many executors must agree: promisegrid trust agree 3.")
        return {"mode": "agree", "dids": [], "agree": int(whom[1])}
    return {"mode": "peers", "dids": whom}


async def running(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What runs now, and for whom."""
    value = await node.call("running", {})
    lines = [f"{run['task']}  {run['func']} of {run['code']}  for {run['for']}" for run in value["running"]]
    out.answer(value, lines)
    return 0


async def stop(options: argparse.Namespace, node: Node, out: Output) -> int:
    """End a running task; exit code 1 when it was not running."""
    value = await node.call("stop", {"task": options.task})
    if not value["stopped"]:
        raise LocalError(f"{options.task} is not running; `promisegrid running` lists what is.")
    out.answer(value, ["stopped"])
    return 0


async def receipt(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What a receipt says; exit code 1 when its signature does not hold."""
    value = await node.call("receipt", {"cid": options.cid})
    shown = {**value, **_readable(value)}
    lines = [f"{name:10}{'–' if shown[name] is None else shown[name]}" for name in shown]
    out.answer(value, lines)
    return 0 if value["valid"] else 1


def _readable(receipt: dict[str, Any]) -> dict[str, str]:
    """What a receipt counts, in units."""
    made = {} if receipt["fuel"] is None else {"fuel": units.number(receipt["fuel"])}
    return {**made, "memory": units.size(receipt["memory"])}


async def evidence(options: argparse.Namespace, node: Node, out: Output) -> int:
    """Tasks on which peers disagreed: who said what, and the CID of the statement that keeps it."""
    value = await node.call("evidence", {})
    lines = []
    for kept in value["evidence"]:
        lines.append(f"{kept['evidence']}  task {kept['task']}")
        lines += [f"  {one['did']} says {one['result'] or one['refusal']}" for one in kept["said"]]
    out.answer(value, lines)
    return 0


async def history(options: argparse.Namespace, node: Node, out: Output) -> int:
    """What ran, for whom, newest first, since the node started."""
    value = await node.call("history", {"limit": options.limit})
    lines = [_line(run) for run in value["runs"]]
    out.answer(value, lines)
    return 0


def _line(run: dict[str, Any]) -> str:
    when = time.strftime("%H:%M:%S", time.localtime(run["at_ms"] / 1000))
    end = run["refused"] or ("remembered" if run["cached"] else f"ran in {run['ms']} ms")
    return f"{when}  {run['code']}  {run['func']}  {end}  for {run['for']}"
