"""What a reply to a call says: the receipt, whether it was remembered, and small blocks at once.

The blocks spare the asker round trips: the receipt, the result and its content while it is small. The reply
to a task that is asked again and again is put together once.
"""

from __future__ import annotations

from collections import OrderedDict

from promisegrid import dagcbor
from promisegrid.cbor import Encoded, link
from promisegrid.cid import Cid
from promisegrid.effects import Load
from promisegrid.errors import RemoteError
from promisegrid.state import State
from promisegrid.task import RunResult


class Replies:
    """Puts replies together; keeps those of remembered results, within `Limits.replies_bytes`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._kept: OrderedDict[bytes, Encoded] = OrderedDict()
        self._bytes = 0

    async def body(self, done: RunResult) -> Encoded:
        """The body of the reply, written as dag-cbor."""
        body = self._kept.get(done.receipt.encoded) if done.cached else None
        if body is not None:
            self._kept.move_to_end(done.receipt.encoded)
            return body
        blocks = await self._inline(done)
        cached = b"\xf5" if done.cached else b"\xf4"
        inline = dagcbor.encode_within([[cid, data] for cid, data in blocks])
        parts = (b"\xa3\x66blocks", inline, b"\x66cached", cached, b"\x67receipt", link(done.receipt))
        body = Encoded(b"".join(parts))
        if done.cached and done.receipt.encoded not in self._kept:
            self._keep(done.receipt, body)
        return body

    def _keep(self, receipt: Cid, body: Encoded) -> None:
        self._kept[receipt.encoded] = body
        self._bytes += len(body.data)
        while self._bytes > self._state.limits.replies_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= len(oldest.data)

    async def _inline(self, done: RunResult) -> list[tuple[Cid, bytes]]:
        if done.blocks:
            small = sum(len(block.data) for block in done.blocks) <= self._state.limits.inline_bytes
            return [(block.cid, block.data) for block in done.blocks] if small else []
        cids = list(dict.fromkeys((done.receipt, done.result, *done.content.parts())))
        loaded: tuple[bytes | None, ...] = await Load("blocks", tuple(bytes(cid) for cid in cids))
        blocks, left = [], self._state.limits.inline_bytes
        for cid, data in zip(cids, loaded, strict=True):
            if data is not None and len(data) <= left and cid.holds(data):
                blocks.append((cid, data))
                left -= len(data)
        return blocks


def read_body(body: object) -> tuple[Cid, bool, dict[Cid, bytes]]:
    """The receipt, whether it was remembered, and the blocks, each of them verified.

    RemoteError: malformed, bad_block.
    """
    if isinstance(body, dict) and set(body) == {"receipt", "cached", "blocks"}:
        receipt_cid, cached, blocks = body["receipt"], body["cached"], body["blocks"]
        if isinstance(receipt_cid, Cid) and isinstance(cached, bool) and isinstance(blocks, list):
            inline: dict[Cid, bytes] = {}
            for item in blocks:
                shaped = isinstance(item, list) and len(item) == 2
                if not shaped or not isinstance(item[0], Cid) or not isinstance(item[1], bytes):
                    raise RemoteError("malformed", "A reply with an inline block of the wrong shape.")
                if not item[0].holds(item[1]):
                    raise RemoteError("bad_block", f"A reply with bytes that do not hash to {item[0]}.")
                inline[item[0]] = item[1]
            return receipt_cid, cached, inline
    raise RemoteError("malformed", "A reply without its receipt.")


