"""The verbs of many nodes: work spread over them, topics, shared streams, copies kept by others.

Each is reached through the door or in the command line's own process, see `api.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import LocalError
from promisegrid.spread import Spread
from promisegrid.task import Task
from promisegrid_node.api_args import passing, read_cid, whole
from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb

INPUTS_MAX: Final = 10_000
"""Inputs of one `map` through the door: the answer is one message."""


class GridApi:
    """The verbs over one host's grid."""

    def __init__(self, host: Host) -> None:
        self._host, self._kernel = host, host.kernel

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {
            "map": self.map,
            "topic.publish": self.publish,
            "topic.follow": self.follow,
            "topic.leave": self.leave,
            "topic.ls": self.topics,
            "topic.entries": self.entries,
            "share": self.share,
            "share.end": self.unshare,
            "share.ls": self.shared,
            "copies": self.copies,
            "copies.ls": self.copied,
        }

    # -- work ------------------------------------------------------------------------------------------

    async def map(self, args: Args, session: Session) -> dict[str, Any]:
        """Run one program on many inputs: {results, done, failed, by}.

        inputs: [{args, stdin}]; a result is {task, result, receipt, exit, value, stdout, files, cached, fuel,
        by, why}, or {error, code, why}; by: did:key → how many it ran.
        """
        inputs = args.get("inputs")
        if not isinstance(inputs, list) or len(inputs) > INPUTS_MAX:
            raise LocalError(f"Map takes at most {INPUTS_MAX} inputs at once; do it in parts.", "too_large")
        code, func = read_cid(args.get("code")), str(args.get("func") or "")
        tasks = [Task(code, func, tuple(one.get("args") or ()), None, _stdin(one)) for one in inputs]
        budget = Budget(args.get("fuel"), args.get("memory"), args.get("time_ms"))
        here = args.get("here") is not False
        ends = await self._host.ask(self._kernel.map(tasks, budget, here), passing(session))
        by = Counter(end.done.by for end in ends if end.done is not None)
        failed = sum(end.done is None for end in ends)
        return {
            "results": [_end(end) for end in ends],
            "done": len(ends) - failed,
            "failed": failed,
            "by": dict(by.most_common()),
        }

    # -- topics ----------------------------------------------------------------------------------------

    async def publish(self, args: Args, session: Session) -> dict[str, Any]:
        """Say something in a topic: {entry, topic, by, at, body}; at: milliseconds since 1970."""
        made = await self._host.ask(self._kernel.topics.publish(_text(args, "topic"), args.get("body")))
        return made.plain()

    async def follow(self, args: Args, session: Session) -> dict[str, Any]:
        """Follow a topic: {topic}."""
        await self._host.ask(self._kernel.topics.follow(_text(args, "topic")))
        return {"topic": _text(args, "topic")}

    async def leave(self, args: Args, session: Session) -> dict[str, Any]:
        """Follow a topic no more: {topic, followed}, whether it was."""
        topic = _text(args, "topic")
        return {"topic": topic, "followed": await self._host.ask(self._kernel.topics.leave(topic))}

    async def topics(self, args: Args, session: Session) -> dict[str, Any]:
        """The topics followed: {topics}."""
        return {"topics": await self._host.ask(self._kernel.topics.followed())}

    async def entries(self, args: Args, session: Session) -> dict[str, Any]:
        """The latest entries of a topic, the oldest of them first: {topic, entries}."""
        topic = _text(args, "topic")
        latest = await self._host.ask(self._kernel.topics.latest(topic, min(whole(args, "limit", 50), 1000)))
        return {"topic": topic, "entries": [one.plain() for one in reversed(latest)]}

    # -- streams and copies ------------------------------------------------------------------------------

    async def share(self, args: Args, session: Session) -> dict[str, Any]:
        """Share a stream: {stream, by}, whose moves are taken."""
        name, by = _text(args, "stream"), tuple(str(did) for did in args.get("by") or ())
        await self._host.ask(self._kernel.sharing.share(name, by))
        return {"stream": name, "by": list(by)}

    async def unshare(self, args: Args, session: Session) -> dict[str, Any]:
        """Share a stream no more: {stream, shared}, whether it was."""
        name = _text(args, "stream")
        return {"stream": name, "shared": await self._host.ask(self._kernel.sharing.unshare(name))}

    async def shared(self, args: Args, session: Session) -> dict[str, Any]:
        """The streams shared: {streams: {name: [did]}}."""
        return {"streams": await self._host.ask(self._kernel.sharing.shared())}

    async def copies(self, args: Args, session: Session) -> dict[str, Any]:
        """Have so many others keep a CID: {cid, copies, holders, missing}."""
        cid, count = read_cid(args.get("cid")), whole(args, "copies", 1)
        holders = await self._host.ask(self._kernel.replicas.want(cid, count), passing(session))
        return {"cid": str(cid), "copies": count, "holders": holders, "missing": max(0, count - len(holders))}

    async def copied(self, args: Args, session: Session) -> dict[str, Any]:
        """What copies are wanted of, and what is kept here for others: {wanted, kept}."""
        kept = await self._host.ask(self._kernel.storage.kept())
        return {
            "wanted": await self._host.ask(self._kernel.replicas.wanted()),
            "kept": [{**row, "cid": str(row["cid"])} for row in kept],
        }


def _text(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise LocalError(f"A {name} is missing.", "bad_args")
    return value


def _stdin(one: Mapping[str, Any]) -> Cid | None:
    return read_cid(one["stdin"]) if one.get("stdin") else None


def _end(end: Spread) -> dict[str, Any]:
    if end.done is None:
        assert end.wrong is not None
        return {"error": end.wrong.text, "code": end.wrong.code, "why": end.why}
    done = end.done
    named: dict[str, Cid | None] = {"task": done.task, "result": done.result, "receipt": done.receipt}
    named |= {"stdout": done.stdout, "files": done.files}
    texts = {name: None if cid is None else str(cid) for name, cid in named.items()}
    rest = {"exit": done.exit, "value": done.value, "cached": done.cached, "fuel": done.fuel, "by": done.by}
    return {**texts, **rest, "why": end.why}
