"""A history with forks as lines of text: one lane for each line of heads that goes on side by side.

    *    the newest head of one fork
    | *  that of the other
    |/
    *    where they parted

Promises: every head has one line, in the order given. Does not know: what a head says, or how it is printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def draw(heads: Sequence[tuple[str, Sequence[str]]]) -> Iterator[tuple[str, str | None]]:
    """(what stands to the left, head) for each head; head is None between two.

    heads: (name, names of those just before it in time), each before all that it came from.
    """
    lanes: list[str] = []
    for head, before in heads:
        waiting = [lane for lane, awaited in enumerate(lanes) if awaited == head]
        if not waiting:
            waiting = [len(lanes)]
            lanes.append(head)
        lane, *others = waiting
        for other in reversed(others):
            yield _bent(len(lanes), lane, other, "/"), None
            del lanes[other]
        yield " ".join("*" if one == lane else "|" for one in range(len(lanes))), head
        lanes[lane : lane + 1] = before
        for other in range(lane + 1, lane + len(before)):
            yield _bent(len(lanes) - lane - len(before) + 1 + other, other - 1, other, "\\"), None


def _bent(lanes: int, lane: int, other: int, mark: str) -> str:
    """The line where the lane `other` leaves or joins `lane`, left of it; those beyond move along."""
    line = ""
    for one in range(lanes):
        if one < other:
            line += "|" + (mark if one == other - 1 else "_" if lane <= one else " ")
        elif one > other:
            line += f"{mark} "
    return line.rstrip()
