"""The signal protocol (docs/protocols/signal.md): offer.

An offer changes nothing that is kept; one that is repeated gets the reply to the first.
"""

from __future__ import annotations

from promisegrid.dispatch import Verified
from promisegrid.errors import RemoteError
from promisegrid.link import Link
from promisegrid.protocols import Answer
from promisegrid.signalling import Signalling


class SignalProtocol:
    """Answers peers."""

    def __init__(self, signalling: Signalling) -> None:
        self._signalling = signalling

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        op, args = verified.claims.call or ("", ())
        if op != "offer" or len(args) != 1:
            raise RemoteError("bad_args", "The signal protocol has offer, with one description.")
        return Answer({"answer": await self._signalling.answer(link.did, args[0])})
