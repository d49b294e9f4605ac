"""Links as the shell sees them. Twin of the node's `wire`, without a server: a tab only dials.

Promises: `opened` reads what the shell says of a new connection; frames pass as they are. Does not know
sockets: `worker/wire.mjs` opens them, and opens them again.
"""

from __future__ import annotations

from base64 import b32decode
from dataclasses import dataclass
from typing import Final

from promisegrid.cid import Cid
from promisegrid.effects import Close, Push, Send
from promisegrid.errors import LocalError

Record = list[object]
FIRST_DIRECT: Final = 2**30
"""Where the numbers of links over data channels begin. Twin: worker/channels.mjs."""


@dataclass(frozen=True, slots=True)
class Door:
    """What the join URL said. grid: whom to expect there; invite: the invitation's bytes."""

    channel: str
    grid: Cid | None
    invite: bytes | None

    @classmethod
    def read(cls, channel: str, grid: str | None, invite: str | None) -> Door:
        """LocalError when the join URL cannot be read."""
        try:
            return cls(channel, Cid.parse(grid) if grid else None, _base32(invite) if invite else None)
        except ValueError as error:
            raise LocalError(f"The join link is damaged ({error}); ask for it again.", "bad_args") from error


def send(effect: Send) -> Record:
    """`["send", link, frame]`."""
    return ["send", effect.link, effect.frame]


def push(ticket: int, effect: Push) -> Record:
    """`["push", ticket, link, frame]`."""
    return ["push", ticket, effect.link, effect.frame]


def close(effect: Close) -> Record:
    """`["close", link, code, text]`."""
    return ["close", effect.link, effect.code, effect.text]


def _base32(text: str) -> bytes:
    """RFC 4648 base32, lower case, without padding."""
    return b32decode(text.upper() + "=" * (-len(text) % 8))
