"""What goes over links, counted: of each link while it lives, and of the whole node since it started.

Promises: counting a frame is two additions and keeps nothing of it; every count only goes up; what is counted
by name is counted by names of ours (kinds of links, codes of refusals), so that no stranger makes it grow.
Does not know: time. A rate is the difference of two looks, and whoever looks has a clock.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import Final

from promisegrid.errors import RemoteError

KINDS: Final = ("ws", "webrtc", "unix", "relay")
"""What carries links: the `via` of `Kernel.connect`, and "relay"."""
OTHER: Final = "other"
"""Stands for whatever kind is not in that list."""


@dataclass(slots=True)
class Traffic:
    """Counts of one link, or of several together. "in" is from the peer, "out" is to it.

    bytes, frames: as the kernel has them, before a wire adds its own headers. A circuit's frames count on
    the circuit's link and, wrapped, on the link below it as well.
    carried: bytes of circuits between others, that came in here to be passed on.
    blocks: blocks with their bytes; the word that there is none does not count.
    served, refused: calls and questions of the peer that got an answer, or a refusal. asked: ours to it.
    """

    bytes_in: int = 0
    bytes_out: int = 0
    frames_in: int = 0
    frames_out: int = 0
    carried: int = 0
    blocks_in: int = 0
    blocks_out: int = 0
    served: int = 0
    refused: int = 0
    asked: int = 0

    def add(self, other: Traffic) -> None:
        """Count what another counted as well."""
        for name in _NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def plain(self) -> dict[str, int]:
        """Every count by its name."""
        return {name: getattr(self, name) for name in _NAMES}


_NAMES: Final = tuple(field.name for field in fields(Traffic))


class Totals:
    """What one node counts besides its links, since it started; and the links that are gone."""

    def __init__(self) -> None:
        self.gone: dict[str, Traffic] = {}
        """By kind: what links that are closed have carried."""
        self.opened: Counter[str] = Counter()
        """By kind: links whose peer proved who it is."""
        self.refusals: Counter[str] = Counter()
        """By code (`errors.CODES`): what peers were refused, signed or not."""
        self.answers: Counter[str] = Counter()
        """By where it came from: results of calls, our own and those of others."""
        self.bad_signatures = 0

    def refused(self, wrong: RemoteError) -> None:
        """A message was refused."""
        self.refusals[wrong.code] += 1

    def dealt(self, traffic: Traffic, wrong: RemoteError | None) -> None:
        """A call that came over a link was answered, or refused for a reason that was signed."""
        if wrong is None:
            traffic.served += 1
        else:
            traffic.refused += 1
            self.refused(wrong)

    def ended(self, via: str, traffic: Traffic, bad_signatures: int) -> None:
        """A link is gone; what it counted stays."""
        self.gone.setdefault(kind_of(via), Traffic()).add(traffic)
        self.bad_signatures += bad_signatures


def kind_of(via: str) -> str:
    """The kind a link is counted under."""
    return via if via in KINDS else OTHER
