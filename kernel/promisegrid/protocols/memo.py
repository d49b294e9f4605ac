"""The memo protocol (docs/protocols/memo.md): receipts. A question changes nothing."""

from __future__ import annotations

from promisegrid.cid import Cid
from promisegrid.dispatch import Verified
from promisegrid.errors import RemoteError
from promisegrid.link import Link
from promisegrid.protocols import Answer
from promisegrid.recollection import Recollection


class MemoProtocol:
    """Answers peers."""

    def __init__(self, recollection: Recollection) -> None:
        self._recollection = recollection

    async def handle(self, verified: Verified, link: Link) -> Answer:
        """Answer one message. RemoteError is the refusal."""
        op, args = verified.claims.call or ("", ())
        if op == "receipts" and len(args) == 2 and isinstance(args[0], Cid) and type(args[1]) is int:
            told = await self._recollection.tell(link, args[0], args[1])
            return Answer({"receipts": [list(one) for one in told]})
        raise RemoteError("bad_args", "The memo protocol has receipts, of one task, over so many hops.")
