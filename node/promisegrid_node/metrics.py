"""What a node tells Prometheus: its counts in the text format, and who may read them.

Promises: no label is a word of a stranger's (kinds of links, codes of refusals, directions, and no more), so
the number of lines is bounded; every counter only goes up while the node runs; nothing names a member.
How busy a node is tells of its owner's life, so that beyond his machine it is told only if he says so.
Does not know: HTTP headers, nor sockets. (Source: Prometheus, "Exposition formats" 0.0.4 and "Metric and
label naming"; the `process_` names are those of its own client libraries.)
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from promisegrid.errors import CODES
from promisegrid.traffic import KINDS
from promisegrid_node.host import Host

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OF_CAPABILITIES: Final = (
    "bad_capability", "not_my_promise", "not_holder", "widened", "revoked", "used_up", "not_permitted",
    "broken",
)  # fmt: skip
"""Refusals for what a presented capability is, or does not say."""
SOURCES: Final = ("remembered", "remembered_of_peer", "here", "there")
_PROC: Final = Path("/proc/self")

Labels = tuple[tuple[str, str], ...]
Sample = tuple[Labels, float]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: a counter's name ends in _total, a name with a unit says the unit in the plural."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[Sample, ...]

    def lines(self) -> Iterator[str]:
        """HELP, TYPE and the samples. Label values are words of ours: nothing in them needs escaping."""
        yield f"# HELP {self.name} {self.help}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            named = ",".join(f'{name}="{text}"' for name, text in labels)
            yield f"{self.name}{{{named}}} {_number(value)}" if named else f"{self.name} {_number(value)}"


def exposition(families: Iterable[Family]) -> str:
    """The text Prometheus reads."""
    return "".join(f"{line}\n" for family in families for line in family.lines())


async def of_host(host: Host) -> list[Family]:
    """The metrics of a node as it is. LocalError when its store cannot be asked."""
    peers = len({peer["did"] for peer in host.kernel.peers()})
    return of_node(host.kernel.seeing.counts(), peers, await host.stat(), host.runs, host.waits)


def of_node(
    counts: Mapping[str, Any],
    peers: int,
    stored: Mapping[str, int],
    runs: int,
    waits: Mapping[str, int],
) -> list[Family]:
    """A node's metrics.

    counts: `Seeing.counts`; peers: members connected; stored: {"blocks", "bytes"}; runs: programs run here
    since the start; waits: {"disk", "disk_bytes", "asks"}, what stands in line.
    """
    refusals = counts["refusals"]
    return [
        gauge("promisegrid_peers", "Members connected, by whatever links.", peers),
        *_of_links(counts["links"], counts["greeting"]),
        Family(
            "promisegrid_refusals_total",
            "counter",
            "Messages of peers refused, by the code of the refusal.",
            by("code", refusals, CODES),
        ),
        counter(
            "promisegrid_capability_refusals_total",
            "Calls refused for the capability they presented.",
            sum(refusals.get(code, 0) for code in OF_CAPABILITIES),
        ),
        counter(
            "promisegrid_bad_signatures_total",
            "Signatures and blocks of peers that did not hold.",
            counts["bad_signatures"],
        ),
        counter("promisegrid_runs_total", "Programs run here.", runs),
        Family(
            "promisegrid_results_total",
            "counter",
            "Results of calls: from the cache (on our receipt, on a peer's), or run, here or there.",
            by("source", counts["answers"], SOURCES),
        ),
        gauge("promisegrid_runs_running", "Programs that run here now.", counts["running"]),
        gauge("promisegrid_runs_waiting", "Programs that wait for their turn here.", counts["waiting"]),
        gauge("promisegrid_calls_waiting", "Messages that peers have not answered yet.", counts["away"]),
        gauge("promisegrid_blocks_wanted", "Blocks asked of peers and not here yet.", counts["wants"]),
        gauge("promisegrid_circuits", "Circuits that end here or pass through.", counts["circuits"]),
        gauge("promisegrid_topics", "Topics followed.", counts["topics"]),
        gauge("promisegrid_topic_entries", "Entries kept of topics that are in use.", counts["entries"]),
        gauge("promisegrid_store_blocks", "Blocks kept.", stored["blocks"]),
        gauge("promisegrid_store_bytes", "Bytes of the blocks kept.", stored["bytes"]),
        gauge("promisegrid_store_queue_length", "Effects that wait for the disk.", waits["disk"]),
        gauge("promisegrid_store_queue_bytes", "Bytes that wait to be written.", waits["disk_bytes"]),
        gauge("promisegrid_verbs_waiting", "What the owner asked of the node and waits for.", waits["asks"]),
    ]


def _of_links(links: Mapping[str, Mapping[str, int]], greeting: int) -> list[Family]:
    def of(name: str) -> dict[str, int]:
        return {kind: counted[name] for kind, counted in links.items()}

    def both(unit: str) -> tuple[Sample, ...]:
        kinds = _known(links, KINDS)
        return tuple(
            ((("kind", kind), ("direction", way)), links.get(kind, {}).get(f"{unit}_{way}", 0))
            for kind in kinds
            for way in ("in", "out")
        )

    def each(name: str, kind: Literal["counter", "gauge"], help_text: str, what: str) -> Family:
        return Family(name, kind, help_text, by("kind", of(what), KINDS))

    return [
        each("promisegrid_links", "gauge", "Open links to members, by what carries them.", "open"),
        gauge("promisegrid_links_greeting", "Connections whose peer has not proved who it is.", greeting),
        each("promisegrid_link_queue_length", "gauge", "Messages and blocks that wait to be sent.", "unsent"),
        each("promisegrid_links_opened_total", "counter", "Links that members have opened.", "opened"),
        Family(
            "promisegrid_link_bytes_total",
            "counter",
            "Bytes of frames; those of a relayed link count on the link below it too.",
            both("bytes"),
        ),
        Family("promisegrid_link_frames_total", "counter", "Frames.", both("frames")),
        Family("promisegrid_link_blocks_total", "counter", "Blocks with their bytes.", both("blocks")),
        each(
            "promisegrid_carried_bytes_total", "counter",
            "Bytes between others that came in to be passed on.", "carried",
        ),
        each("promisegrid_calls_served_total", "counter", "Messages of peers answered.", "served"),
        each(
            "promisegrid_calls_refused_total", "counter", "Messages of peers refused, in a reply.", "refused",
        ),
        each("promisegrid_calls_asked_total", "counter", "Messages to peers that ask for a reply.", "asked"),
    ]  # fmt: skip


def of_process() -> list[Family]:
    """This process: CPU and start in seconds, memory in bytes, files. What the system does not tell is left
    out."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = used.ru_utime + used.ru_stime
    families = [counter("process_cpu_seconds_total", "CPU time, user and system, in seconds.", spent)]
    with contextlib.suppress(OSError, ValueError, IndexError):
        pages = int((_PROC / "statm").read_text().split()[1])
        size = pages * resource.getpagesize()
        families.append(gauge("process_resident_memory_bytes", "Memory in use, in bytes.", size))
        families.append(gauge("process_start_time_seconds", "When it started, seconds since 1970.", _start()))
    with contextlib.suppress(OSError):
        families.append(gauge("process_open_fds", "Open files and sockets.", len(os.listdir(_PROC / "fd"))))
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        families.append(gauge("process_max_fds", "How many may be open.", most))
    return families


def _start() -> float:
    """When this process started. The name in /proc's line may hold spaces, so it is read from its end."""
    ticks = int((_PROC / "stat").read_text().rpartition(")")[2].split()[19])
    up = float(Path("/proc/uptime").read_text().split()[0])
    return round(time.time() - up + ticks / os.sysconf("SC_CLK_TCK"), 1)


def counter(name: str, help_text: str, value: float) -> Family:
    """One that only goes up, without labels."""
    return Family(name, "counter", help_text, (((), value),))


def gauge(name: str, help_text: str, value: float) -> Family:
    """One that goes up and down, without labels."""
    return Family(name, "gauge", help_text, (((), value),))


def by(label: str, counted: Mapping[str, int], names: Iterable[str]) -> tuple[Sample, ...]:
    """A sample for each name, those not counted yet as 0: a rate needs the line before the first event."""
    return tuple((((label, name),), counted.get(name, 0)) for name in _known(counted, names))


def _known(counted: Mapping[str, object], names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys((*names, *counted)))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(float(value))
