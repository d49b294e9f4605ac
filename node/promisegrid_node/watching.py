"""`promisegrid peers --watch`: the grid as it is from here, live in a terminal, or as lines of JSON.

Promises: looks again at a steady pace and never faster than the node answers; what peers named themselves is
harmless to a terminal; the first look has no speeds, since a speed needs two.
`watch` does not know how a node is reached nor how to wait: both are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from promisegrid import units
from promisegrid.errors import LocalError
from promisegrid_node.argtypes import Misuse
from promisegrid_node.output import Output, ending, harmless
from promisegrid_node.session import Node

View = Mapping[str, Any]
"""What the verb `view` answers: `Seeing.view`, and at_ms."""
NEAR_SHOWN: Final = 8
RUNS_SHOWN: Final = 12
WIDE: Final = 120
"""Columns that take everything."""
LINKS_LEAST: Final = 4
"""Rows, however small the terminal is."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Bytes a second over one link."""

    inward: float
    outward: float


Speeds = Mapping[int, Speed]
"""By the link's number."""


def speeds(before: View | None, now: View) -> dict[int, Speed]:
    """What went over each link between two looks. None for a link that is new, and for a node that is."""
    passed = 0 if before is None else now["at_ms"] - before["at_ms"]
    if before is None or passed <= 0:
        return {}
    known = {_key(link): link for link in before["links"]}
    found: dict[int, Speed] = {}
    for link in now["links"]:
        old = known.get(_key(link))
        if old is not None:
            inward, outward = (max(0, link[name] - old[name]) for name in ("bytes_in", "bytes_out"))
            found[link["link"]] = Speed(inward * 1000 / passed, outward * 1000 / passed)
    return found


def _key(link: View) -> tuple[int, str, int]:
    """A node that was started again counts its links from the beginning."""
    return link["link"], link["did"], link["since_ms"]


async def peers(node: Node, out: Output, every_s: float) -> int:
    """The verb: until Ctrl-C, which is how it ends, so that it ends well. LocalError when no node runs."""

    async def look() -> View:
        return await node.call("view", {})

    async def pause() -> None:
        await asyncio.sleep(every_s)

    if not out.as_json and not sys.stdout.isatty():
        raise Misuse("--watch draws in a terminal; with --json it prints a line for each look.")
    if (await node.call("id", {}))["url"] is None:
        raise LocalError("No node runs here, so there is nothing to watch: start one with `promisegrid up`.")
    with contextlib.suppress(asyncio.CancelledError):
        if out.as_json:
            await watch(look, lambda view, now: out.answer(as_json(view, now)), pause)
        else:
            with Screen(Console()) as screen:
                await watch(look, screen.show, pause)
    return 0


async def watch(
    look: Callable[[], Awaitable[View]],
    show: Callable[[View, Speeds], None],
    pause: Callable[[], Awaitable[None]],
) -> None:
    """Look, show, pause, again; until cancelled, or `look` raises."""
    before: View | None = None
    while True:
        now = await look()
        show(now, speeds(before, now))
        before = now
        await pause()


def as_json(view: View, now: Speeds) -> dict[str, Any]:
    """A look as one object: the view, and of each link "in_per_s" and "out_per_s", bytes, null at first."""
    links = [
        {
            **link,
            "in_per_s": round(now[link["link"]].inward) if link["link"] in now else None,
            "out_per_s": round(now[link["link"]].outward) if link["link"] in now else None,
        }
        for link in view["links"]
    ]
    return {**view, "links": links}


# -- in a terminal -------------------------------------------------------------------------------------


class Screen:
    """A picture that is drawn over the last one. Open it with `with`."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")

    def __enter__(self) -> Screen:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, view: View, now: Speeds) -> None:
        """Draw one look."""
        place = self._live.console.size
        self._live.update(drawn(view, now, place.height, place.width), refresh=True)


def drawn(view: View, now: Speeds, lines: int | None = None, columns: int = WIDE) -> RenderableType:
    """One look as tables: links, what runs where, who is near. lines, columns: the place there is to draw on.

    Where links find no place the busiest are shown; where columns do not, what went over in all is left out.
    """
    below: list[Table] = []
    if view["here"] or view["there"]:
        below.append(_runs(view))
    if view["near"]:
        below.append(_near(view))
    taken = 4 + sum(table.row_count + 2 for table in below)
    most = None if lines is None else max(LINKS_LEAST, lines - taken)
    parts: list[RenderableType] = [_text(summary(view, now)), Text("")]
    links = _links(view, now, most, columns >= WIDE)
    parts.append(links if view["links"] else _text("No peers are connected."))
    for table in below:
        parts += [Text(""), table]
    return Group(*parts)


def summary(view: View, now: Speeds) -> str:
    """Who this is, how many links of which kind, how fast all together."""
    kinds = Counter(link["via"] for link in view["links"])
    links = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "no links"
    greeting = f", {view['greeting']} greeting" if view["greeting"] else ""
    # a circuit's bytes go over the link below it as well, and are counted there
    direct = [now[one["link"]] for one in view["links"] if one["via"] != "relay" and one["link"] in now]
    inward, outward = sum(one.inward for one in direct), sum(one.outward for one in direct)
    speed = f"   in {_speed(inward)}  out {_speed(outward)}" if direct else ""
    serves = " serves" if view["serves"] else ""
    return f"{ending(view['me'])}{serves}   {links}{greeting}, {view['near_count']} near{speed}"


def _links(view: View, now: Speeds, most: int | None, wide: bool) -> Table:
    def busy(link: View) -> float:
        speed = now.get(link["link"])
        return 0.0 if speed is None else speed.inward + speed.outward

    more = ("in all", "out all", "carried", "blocks in/out", "calls out/in", "queue") if wide else ()
    table = _table("peer", "by", "rtt", "in", "out", "", *more)
    links = sorted(view["links"], key=lambda one: (one["via"] == "relay", one["since_ms"]))
    if most is not None and len(links) > most:
        links = sorted(links, key=busy, reverse=True)[: most - 1]
    for link in links:
        speed = now.get(link["link"])
        by = link["via"] if link["through"] is None else f"{link['via']} {ending(link['through'])}"
        row = (
            ending(link["did"]),
            by,
            "–" if link["rtt_ms"] is None else f"{link['rtt_ms']} ms",
            "–" if speed is None else _speed(speed.inward),
            "–" if speed is None else _speed(speed.outward),
            "serves" if link["serves"] else "",
            *(_in_all(link) if wide else ()),
        )
        table.add_row(*map(_text, row))
    return _and_more(table, len(view["links"]))


def _in_all(link: View) -> tuple[str, ...]:
    """What went over a link since it opened, and what waits."""
    return (
        units.size(link["bytes_in"]),
        units.size(link["bytes_out"]),
        units.size(link["carried"]) if link["carried"] else "",
        f"{link['blocks_in']}/{link['blocks_out']}",
        f"{link['asked']}/{link['served']}",
        str(link["unsent"] or ""),
    )


def _runs(view: View) -> Table:
    table = _table("task", "runs", "of", "for", "since")
    here = [(run, "waits here" if run["waits"] else "here", run["for"]) for run in view["here"]]
    there = [(run, f"on {ending(run['by'])}", view["me"]) for run in view["there"]]
    for run, where, whom in [*here, *there][:RUNS_SHOWN]:
        whose = "us" if whom == view["me"] else ending(whom)
        of = f"{run['func']} of {ending(run['code'])}"
        since = _duration(view["at_ms"] - run["since_ms"])
        table.add_row(*map(_text, (ending(run["task"]), where, of, whose, since)))
    return _and_more(table, view["here_count"] + view["there_count"])


def _near(view: View) -> Table:
    table = _table("near", "through", "")
    for one in view["near"][:NEAR_SHOWN]:
        row = (ending(one["did"]), ending(one["through"]), "serves" if one["serves"] else "")
        table.add_row(*map(_text, row))
    return _and_more(table, view["near_count"])


def _and_more(table: Table, count: int) -> Table:
    if count > table.row_count:
        table.add_row(_text(f"and {units.number(count - table.row_count)} more"))
    return table


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")


def _text(text: str) -> Text:
    return Text(harmless(text), no_wrap=True)


def _speed(a_second: float) -> str:
    return f"{units.size(round(a_second))}/s"


def _duration(ms: int) -> str:
    seconds = max(0, ms) // 1000
    return f"{seconds} s" if seconds < 60 else f"{seconds // 60}:{seconds % 60:02} min"
