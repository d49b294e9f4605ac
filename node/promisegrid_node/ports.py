"""What the host's loop needs of a disk, a key and an engine. The built-in ones are just one choice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from promisegrid.cid import Cid
from promisegrid.effects import (
    Abandon,
    Approach,
    Commit,
    Describe,
    Establish,
    Failure,
    Job,
    Load,
    Outcome,
    Prepare,
    Read,
    Run,
    Save,
    Scan,
)
from promisegrid.wasm.module import ModuleInfo

StoreEffect = Load | Scan | Read | Save | Commit


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store keeps things, for people: what it is, where (without a password), its file if any."""

    backend: str
    where: str
    file: Path | None = None


class Store(Protocol):
    """A disk. Every call but `glance` and `place` comes from one thread, never the loop's."""

    @property
    def place(self) -> Place:
        """Where it is."""

    def glance(self, effect: Scan) -> tuple[tuple[bytes, bytes], ...] | Failure | None:
        """The answer to a scan of small rows, from the loop's own thread at any time: it never waits.

        None where an answer takes its time: `perform` it.
        """

    def perform(self, effects: Sequence[StoreEffect]) -> list[object]:
        """Perform effects in order, together; one answer each, as `effects.py` says, or a Failure."""

    def check(self) -> list[str]:
        """What is wrong with how it keeps things, a sentence each, with the remedy. From any thread."""

    def stat(self) -> dict[str, int]:
        """{"blocks", "bytes"}."""

    def close(self) -> None:
        """Finish what was written behind."""


class Keys(Protocol):
    """This node's key. Quick enough for the loop's own thread."""

    def sign(self, message: bytes) -> bytes:
        """64 bytes, ES256's raw r‖s."""

    def verify(self, alg: int, key: bytes, message: bytes, signature: bytes) -> bool:
        """Whether it holds; never raises."""


class Runtime(Protocol):
    """A WebAssembly engine. Cancelling the awaiting task stops the program."""

    def at_once(self, effect: Prepare | Run) -> ModuleInfo | Outcome | Failure | None:
        """The answer, if it takes no longer than a few signatures; None: await `prepare` or `run` for it."""

    async def prepare(self, effect: Prepare) -> ModuleInfo | Failure | None:
        """See `effects.Prepare`."""

    async def run(self, job: Job) -> Outcome | Failure:
        """See `effects.Run`."""

    async def close(self) -> None:
        """Stop whatever still runs."""


class Transport(Protocol):
    """One open connection, as the host needs it. Both calls return at once and never raise."""

    room: asyncio.Event
    """Set while little waits to be sent, and once nothing can be any more."""

    def send(self, frame: bytes) -> None:
        """Queue a frame, in order."""

    def close(self, code: str, text: str) -> None:
        """Close after what was sent; the owner of the transport then calls `Host.disconnect`."""


class Fetcher(Protocol):
    """Asks gateways and routers. Cancelling the awaiting task ends it."""

    async def block(self, url: str, cid: Cid, is_found: bool = False) -> bytes | Failure | None:
        """See `effects.Gateway`."""

    async def providers(self, url: str, cid: Cid) -> tuple[str, ...] | Failure:
        """See `effects.Providers`."""

    async def close(self) -> None:
        """Hang up."""


class Channels(Protocol):
    """Makes data channels to other members; those that open come to `Host.connect`."""

    async def describe(self, effect: Describe) -> str | Failure:
        """See `effects.Describe`."""

    def told(self, effect: Establish | Abandon) -> None:
        """See there. Returns at once and never raises."""


class NoChannels:
    """For a host that makes none; the kernel does not ask it."""

    async def describe(self, effect: Describe) -> str | Failure:
        """Nothing to describe."""
        return Failure("closed", "This host makes no data channels.")

    def told(self, effect: Establish | Abandon) -> None:
        """Nothing to do."""


async def no_dials(effect: Approach) -> Failure:
    """For a host that dials nobody by itself."""
    return Failure("closed", "This host dials nobody by itself.")
