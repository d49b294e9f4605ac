"""peers --watch, fed with looks and with a pause of our own: speeds, what is drawn, how it ends."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console
from tests.node.hosting import on_loop
from tests.scenes import module, never
from tests.sim import World

from promisegrid.effects import Budget
from promisegrid.errors import LocalError
from promisegrid.task import Task
from promisegrid_node import watching
from promisegrid_node.argtypes import Misuse
from promisegrid_node.output import Output
from promisegrid_node.session import InProcess
from promisegrid_node.watching import Screen, Speed, View, drawn, speeds, summary, watch

View_ = dict[str, Any]
ME, BOB, EVE = "did:key:zMe0000000000me", "did:key:zBob000000000bob", "did:key:zEve000000000eve"


def link(number: int = 1, did: str = BOB, via: str = "ws", **more: Any) -> View_:
    counts = dict.fromkeys(
        ("bytes_in", "bytes_out", "frames_in", "frames_out", "carried", "blocks_in", "blocks_out", "served",
         "refused", "asked"), 0,
    )  # fmt: skip
    return {
        "link": number, "did": did, "via": via, "role": "initiator", "through": None, "rtt_ms": 3,
        "serves": True, "engine": "wasmtime", "since_ms": 500, "unsent": 0, **counts, **more,
    }  # fmt: skip


def view(at_ms: int, *links: View_, **more: Any) -> View_:
    made = {
        "at_ms": at_ms, "me": ME, "serves": False, "engine": "wasmtime", "links": list(links), "greeting": 0,
        "near": [], "here": [], "there": [], **more,
    }  # fmt: skip
    counts = {f"{name}_count": len(made[name]) for name in ("near", "here", "there")}
    return {**counts, **made}


def text(seen: View, now: dict[int, Speed] | None = None, lines: int | None = None) -> str:
    file = io.StringIO()
    Console(file=file, width=140).print(drawn(seen, now or {}, lines))
    return file.getvalue()


# -- speeds --------------------------------------------------------------------------------------------


def test_a_speed_is_what_went_over_between_two_looks() -> None:
    before = view(10_000, link(bytes_in=1_000, bytes_out=50))
    now = view(12_000, link(bytes_in=5_000, bytes_out=50))
    assert speeds(before, now) == {1: Speed(2_000.0, 0.0)}
    assert speeds(None, now) == {}


@pytest.mark.parametrize(
    "before",
    [
        view(10_000),  # the link is new
        view(10_000, link(bytes_in=9_000, since_ms=400)),  # the node was started again: another link 1
        view(12_000, link()),  # no time passed
        view(13_000, link()),  # the clock was set back
    ],
)
def test_no_speed_where_there_is_none_to_tell(before: View_) -> None:
    assert speeds(before, view(12_000, link(bytes_in=5_000))) == {}


# -- the loop ------------------------------------------------------------------------------------------


@on_loop
async def test_it_looks_shows_and_pauses_until_it_is_cancelled() -> None:
    looks = iter([view(1_000, link()), view(2_000, link(bytes_in=7)), view(3_000)])
    shown: list[tuple[View, Any]] = []
    done = asyncio.Event()

    async def look() -> View:
        return next(looks)

    async def pause() -> None:
        if len(shown) == 3:
            done.set()
            await asyncio.Event().wait()

    going = asyncio.create_task(watch(look, lambda seen, now: shown.append((seen, now)), pause))
    await done.wait()
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert [now for _, now in shown] == [{}, {1: Speed(7.0, 0.0)}, {}]


@on_loop
async def test_a_node_that_goes_away_ends_it() -> None:
    async def look() -> View:
        raise LocalError("The node stopped before it had answered.")

    with pytest.raises(LocalError, match="stopped"):
        await watch(look, lambda seen, now: None, lambda: asyncio.sleep(0))


# -- what is drawn -------------------------------------------------------------------------------------


def test_links_by_kind_with_their_speeds() -> None:
    seen = view(
        9_000,
        link(2, EVE, "relay", through=BOB, rtt_ms=None, serves=False, since_ms=100),
        link(1, BOB, bytes_in=3 * 1024 * 1024, carried=2_048, blocks_in=4, blocks_out=5, asked=6, served=7),
        greeting=2,
    )
    lines = text(seen, {1: Speed(1_536.0, 10.0), 2: Speed(512.0, 0.0)}).splitlines()
    assert "1 relay, 1 ws, 2 greeting, 0 near" in lines[0]
    assert "in 1.5 KiB/s  out 10 B/s" in lines[0], "what is relayed counts once"
    bob, eve = lines[3], lines[4]
    assert bob.split() == [
        "…000000000bob", "ws", "3", "ms", "1.5", "KiB/s", "10", "B/s", "serves", "3", "MiB", "0", "B",
        "2", "KiB", "4/5", "6/7",
    ]  # fmt: skip
    assert "relay …000000000bob" in eve and "–" in eve and "serves" not in eve


def test_what_runs_where_and_for_whom() -> None:
    run = {"task": "bafytask", "code": "bafycode", "func": "render", "since_ms": 1_000}
    seen = view(
        66_000,
        link(),
        here=[{**run, "for": EVE, "waits": False}, {**run, "for": ME, "waits": True}],
        there=[{**run, "by": BOB}],
    )
    one, two, three = text(seen).splitlines()[-3:]
    assert one.split() == ["bafytask", "here", "render", "of", "bafycode", "…000000000eve", "1:05", "min"]
    assert "waits here" in two and " us " in two
    assert "on …000000000bob" in three and " us " in three


def test_long_lists_say_how_much_is_left_out() -> None:
    near = [{"did": f"did:key:z{n:020}", "serves": True, "engine": "", "through": BOB} for n in range(9)]
    seen = view(1_000, link(), near=near, near_count=1_234)
    assert text(seen).splitlines()[-1].strip() == "and 1,226 more"
    run = {"task": "t", "code": "c", "func": "f", "since_ms": 0, "by": BOB}
    assert "and 1 more" in text(view(1_000, link(), there=[run] * 13))


def test_in_a_small_terminal_the_busiest_links_are_shown_and_what_runs_too() -> None:
    run = {"task": "bafytask", "code": "c", "func": "f", "since_ms": 0, "by": BOB}
    seen = view(1_000, *(link(n, f"did:key:z{n:020}") for n in range(300)), there=[run])
    lines = text(seen, {n: Speed(float(n), 0.0) for n in range(300)}, 20).splitlines()
    assert len(lines) == 19, "the last line of a terminal stays free"
    assert lines[3].startswith("…000000000299") and "and 288 more" in lines[15]
    assert lines[-1].startswith("bafytask")
    assert len(text(seen, lines=3).splitlines()) == 10 and "and 297 more" in text(seen, lines=3)
    assert "more" not in text(view(1_000, *(link(n) for n in range(9))), lines=30)


def test_a_usual_terminal_is_wide_enough_for_the_speeds() -> None:
    file = io.StringIO()
    seen = view(9_000, link(2, EVE, "relay", through=BOB, rtt_ms=1_234))
    Console(file=file, width=80).print(drawn(seen, {2: Speed(1_023.4 * 1024, 99.9 * 2**20)}, 24, 80))
    row = file.getvalue().splitlines()[3]
    assert "relay …000000000bob" in row and "1234 ms" in row and "1023 KiB/s" in row and "serves" in row


def test_nobody_is_there() -> None:
    assert "No peers are connected." in text(view(1_000)) and "no links" in summary(view(1_000), {})


def test_what_strangers_name_themselves_moves_no_cursor() -> None:
    run = {"task": "t", "code": "c", "func": "\x1b[2J[bold]\u202e", "since_ms": 0, "for": BOB, "waits": False}
    written = text(view(1_000, link(), here=[run]))
    assert "\x1b" not in written and "\u202e" not in written and "[bold]" in written


def test_a_screen_draws_over_what_it_drew() -> None:
    file = io.StringIO()
    with Screen(Console(file=file, force_terminal=True, width=100, height=30)) as screen:
        screen.show(view(1_000, link()), {})
        screen.show(view(2_000, link(bytes_in=1_000)), {1: Speed(1_000.0, 0.0)})
    written = file.getvalue()
    assert written.count("…000000000bob") >= 2 and "1000 B/s" in written
    assert "\x1b[1A" in written and written.endswith("\x1b[?25h"), "the cursor is given back"


def test_a_view_of_a_real_kernel_is_drawn() -> None:
    ann, bob = World().grid("ann", "bob")
    bob.do(bob.kernel.owner.set_serving(2, 1024 * 1024))
    ann.start(ann.kernel.run(Task(module(ann, never), "add_one", (1,)), Budget(), on=bob.did))
    ann.world.run()
    for node, where in ((ann, f"on …{bob.did[-12:]}"), (bob, "here")):
        written = text({"at_ms": node.world.now_ms, **node.kernel.seeing.view()})
        assert where in written and "add_one of" in written


# -- the verb ------------------------------------------------------------------------------------------


def node(*looks: View_, url: str | None = "http://127.0.0.1:1/") -> InProcess:
    """A node whose last look never comes."""
    left = list(looks)

    async def look(_: object, __: object) -> View_:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    async def who(_: object, __: object) -> View_:
        return {"did": ME, "grid": None, "url": url}

    return InProcess({"view": look, "id": who})


async def stopped(verb: Any, enough: Callable[[], bool]) -> Any:
    """The end of a verb that is interrupted once it has done enough."""
    going = asyncio.create_task(verb)
    while not enough():
        await asyncio.sleep(0)
    going.cancel()
    return await going


def test_json_is_an_object_a_line_and_ctrl_c_its_good_end(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []

    def enough() -> bool:
        lines.extend(capsys.readouterr().out.splitlines())
        return len(lines) == 2

    @on_loop
    async def run() -> None:
        there = node(view(1_000, link()), view(2_000, link(bytes_in=64)))
        assert await stopped(watching.peers(there, Output(True), 1e-9), enough) == 0

    run()
    one, two = map(json.loads, lines)
    assert (one["at_ms"], one["links"][0]["in_per_s"]) == (1_000, None)
    assert (two["at_ms"], two["links"][0]["in_per_s"], two["links"][0]["out_per_s"]) == (2_000, 64, 0)
    assert two["me"] == ME and two["links"][0]["did"] == BOB


@on_loop
async def test_without_a_terminal_or_a_node_it_says_what_to_do() -> None:
    with pytest.raises(Misuse, match="--json"):
        await watching.peers(node(), Output(False), 1.0)
    with pytest.raises(LocalError, match="promisegrid up"):
        await watching.peers(node(url=None), Output(True), 1.0)
