"""The verbs of many nodes, as a page calls them: work spread over them, topics, copies kept by others.

Plain data in and out: CIDs are texts, links in values `{"/": text}`. See worker/rpc.mjs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from promisegrid.entry import Entry
from promisegrid.errors import LocalError
from promisegrid.kernel import Kernel
from promisegrid.spread import Spread
from promisegrid.task import RunResult, Task
from promisegrid_worker.plain import (
    Args,
    cid_text,
    fields,
    from_plain,
    optional_cid,
    read_budget,
    read_cid,
    to_plain,
)

Row = dict[str, Any]
Work = Callable[[Any], Coroutine[Any, Any, object]]
Tell = Callable[[str, object], None]
INPUTS_MAX: Final = 10_000
"""Inputs of one `map`: the answer is one message to the page."""
ENTRIES_MAX: Final = 1_000
"""Entries of a topic told at once."""


@dataclass(slots=True, eq=False)
class _Map:
    """One map in work: how many are over, and who ran them."""

    code: str
    func: str
    total: int
    failed: int = 0
    by: Counter[str] = field(default_factory=Counter)

    def told(self, _: int, end: Spread) -> None:
        """One more is over."""
        if end.done is None:
            self.failed += 1
        else:
            self.by[end.done.by] += 1

    def so_far(self) -> dict[str, Any]:
        """{done, failed, by}: did:key → how many it ran, the busiest first."""
        return {"done": self.by.total(), "failed": self.failed, "by": dict(self.by.most_common())}


class GridVerbs:
    """The verbs over one kernel's grid. `tell` gets ("topic", entry) of what is new in a topic followed."""

    def __init__(self, kernel: Kernel, tell: Tell) -> None:
        self._kernel, self._tell = kernel, tell
        self._maps: list[_Map] = []
        kernel.topics.heard.append(self._heard)

    @property
    def verbs(self) -> Mapping[str, Work]:
        """Every verb by its name."""
        return {
            "map": self.map,
            "maps": self.maps,
            "seen": self.seen,
            "topic.publish": self.publish,
            "topic.follow": self.follow,
            "topic.leave": self.leave,
            "topic.ls": self.topics,
            "topic.entries": self.entries,
            "copies": self.copies,
            "copies.ls": self.copied,
        }

    # -- work ------------------------------------------------------------------------------------------

    async def map(self, asked: object) -> object:
        """Run one program on many inputs over all who serve: {results, done, failed, by}.

        inputs: [{args, files, stdin}]. A result is as `run` gives it, CIDs for what was written, with `why`
        it was run there; or {error, code, why}. by: did:key → how many it ran, the busiest first.
        """
        args = fields(asked)
        inputs = args.get("inputs")
        if not isinstance(inputs, list):
            raise LocalError(
                "map needs inputs: a list of {args, files, stdin}, one for each run.", "bad_args"
            )
        if len(inputs) > INPUTS_MAX:
            raise LocalError(f"{len(inputs)} inputs; map takes at most {INPUTS_MAX} at once.", "too_large")
        code, func = read_cid(args.get("code")), str(args.get("func") or "")
        tasks = [_task(code, func, fields(one)) for one in inputs]
        here, work = args.get("here") is not False, _Map(str(code), func, len(tasks))
        self._maps.append(work)
        try:
            ends = await self._kernel.map(tasks, read_budget(args), here, work.told)
        finally:
            self._maps.remove(work)
        return {"results": [_end(end) for end in ends], **work.so_far()}

    async def maps(self, _: None) -> list[Row]:
        """The maps in work: [{code, func, total, done, failed, by}]."""
        return [
            {"code": one.code, "func": one.func, "total": one.total, **one.so_far()} for one in self._maps
        ]

    async def seen(self, _: None) -> object:
        """The grid as it is from here: `Seeing.view`, and the maps in work."""
        return {**self._kernel.seeing.view(), "maps": await self.maps(None)}

    # -- topics ----------------------------------------------------------------------------------------

    async def publish(self, asked: object) -> object:
        """Say something in a topic: {entry, topic, by, at, body}; at: milliseconds since 1970."""
        args = fields(asked)
        made = await self._kernel.topics.publish(_topic(args), from_plain(args.get("body")))
        self._heard(made)
        return to_plain(made.plain())

    async def follow(self, asked: object) -> object:
        """Follow a topic, also after a restart: {topic}."""
        topic = _topic(fields(asked))
        await self._kernel.topics.follow(topic)
        return {"topic": topic}

    async def leave(self, asked: object) -> object:
        """Follow a topic no more: {topic, followed}, whether it was."""
        topic = _topic(fields(asked))
        return {"topic": topic, "followed": await self._kernel.topics.leave(topic)}

    async def topics(self, _: None) -> object:
        """The topics followed, in order."""
        return await self._kernel.topics.followed()

    async def entries(self, asked: object) -> object:
        """The latest entries of a topic, the oldest of them first: {topic, entries}."""
        args = fields(asked)
        topic, limit = _topic(args), args.get("limit")
        most = limit if type(limit) is int and 0 < limit <= ENTRIES_MAX else 50
        latest = await self._kernel.topics.latest(topic, most)
        return {"topic": topic, "entries": [to_plain(one.plain()) for one in reversed(latest)]}

    def _heard(self, entry: Entry) -> None:
        if self._kernel.topics.follows(entry.topic):
            self._tell("topic", to_plain(entry.plain()))

    # -- copies ----------------------------------------------------------------------------------------

    async def copies(self, asked: object) -> object:
        """Have so many others keep a CID, 0 for none: {cid, copies, holders, missing}."""
        args = fields(asked)
        cid, count = read_cid(args.get("cid")), args.get("copies")
        if type(count) is not int:
            raise LocalError(f"copies is a whole number of nodes, not {count!r:.80}.", "bad_args")
        holders = await self._kernel.replicas.want(cid, count)
        return {"cid": str(cid), "copies": count, "holders": holders, "missing": max(0, count - len(holders))}

    async def copied(self, _: None) -> object:
        """What copies are wanted of, and what is kept here for others: {wanted, kept}."""
        kept = await self._kernel.storage.kept()
        return {
            "wanted": await self._kernel.replicas.wanted(),
            "kept": [{**row, "cid": str(row["cid"])} for row in kept],
        }


def ran(done: RunResult) -> dict[str, Any]:
    """A run's answer as plain data, but for how long it took."""
    return {
        "task": str(done.task),
        "result": str(done.result),
        "receipt": str(done.receipt),
        "exit": done.exit,
        "value": to_plain(done.value),
        "stdout": cid_text(done.stdout),
        "stderr": cid_text(done.stderr),
        "files": cid_text(done.files),
        "cached": done.cached,
        "fuel": done.fuel,
        "by": done.by,
    }


def _end(end: Spread) -> dict[str, Any]:
    if end.done is not None:
        return {**ran(end.done), "why": end.why}
    assert end.wrong is not None
    return {"error": end.wrong.text, "code": end.wrong.code, "why": end.why}


def _task(code: Any, func: str, one: Args) -> Task:
    args = one.get("args") or ()
    if not isinstance(args, list | tuple):
        raise LocalError(f"The args of an input are a list, not {args!r:.80}.", "bad_args")
    given = tuple(from_plain(arg) for arg in args)
    return Task(code, func, given, optional_cid(one.get("files")), optional_cid(one.get("stdin")))


def _topic(args: Args) -> str:
    topic = args.get("topic")
    if not isinstance(topic, str):
        raise LocalError(f"A topic's name is a text, not {topic!r:.80}.", "bad_args")
    return topic
