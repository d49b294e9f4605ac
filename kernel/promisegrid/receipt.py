"""Receipts: a signed statement that a task gave a result. And whose receipts count.

A receipt is a COSE_Sign1 (typ `grid-receipt`) over dag-cbor `{task, result, fuel, meter, memory, engine,
wasi, executor}`; its name is the raw CID of its bytes. A signature proves who claims, not that it is true:
`TrustPolicy` is the owner's answer to whose claims spare a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType
from typing import Final, Literal

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.cbor import link, number, text
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen

METER: Final = Cid.parse("bafkreigkgem462edatcoxxnhkw47jagmec2l7qdhlvks3fdpuyctdqztaa")
"""docs/meter.md, by which fuel is counted."""
_FIELDS = {"task", "result", "fuel", "meter", "memory", "engine", "wasi", "executor"}


@frozen
class Receipt:
    """What an executor states.

    fuel: units of `meter`, the CID of its specification; None where unmetered. memory: the bytes it grew to;
    wasi: the CID of the WASI module it was linked to; the program's own is in the task.
    """

    task: Cid
    result: Cid
    executor: str
    engine: str
    fuel: int | None
    memory: int
    wasi: Cid | None
    meter: Cid | None = METER

    def payload(self) -> bytes:
        """The bytes that are signed: dag-cbor, which has the keys in this order."""
        wasi = b"\xf6" if self.wasi is None else link(self.wasi)
        meter = b"\xf6" if self.meter is None else link(self.meter)
        fuel = b"\xf6" if self.fuel is None else number(self.fuel)
        parts = (
            b"\xa8\x64fuel", fuel, b"\x64task", link(self.task), b"\x64wasi", wasi, b"\x65meter", meter,
            b"\x66engine", text(self.engine), b"\x66memory", number(self.memory), b"\x66result",
            link(self.result), b"\x68executor", text(self.executor),
        )  # fmt: skip
        return b"".join(parts)


async def seal(receipt: Receipt) -> Block:
    """Sign a receipt with this node's key."""
    data = await cose.sign("grid-receipt", receipt.payload(), detached=False)
    return Block(Cid.of(data), data)


def read(data: bytes) -> tuple[Receipt, cose.Sign1]:
    """A receipt as claimed; nothing is verified. RemoteError("malformed")."""
    sign1 = cose.read(data, "grid-receipt")
    try:
        value = dagcbor.decode_loosely(sign1.payload or b"")
    except ValueError as error:
        raise RemoteError("malformed", f"Not a receipt: {error}.") from error
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise RemoteError("malformed", "Not a receipt: its fields are " + ", ".join(sorted(_FIELDS)) + ".")
    fuel, memory, wasi, meter = value["fuel"], value["memory"], value["wasi"], value["meter"]
    if (
        not isinstance(value["task"], Cid)
        or not isinstance(value["result"], Cid)
        or not isinstance(value["executor"], str)
        or not 0 < len(value["executor"]) <= DID_MAX
        or not isinstance(value["engine"], str)
        or len(value["engine"]) > 80
        or (fuel is not None and (type(fuel) is not int or fuel < 0))
        or type(memory) is not int
        or not isinstance(wasi, (Cid, NoneType))
        or not isinstance(meter, (Cid, NoneType))
    ):
        raise RemoteError("malformed", "Not a receipt: a field is of the wrong kind.")
    who, engine = value["executor"], value["engine"]
    receipt = Receipt(value["task"], value["result"], who, engine, fuel, memory, wasi, meter)
    if receipt.payload() != sign1.payload:
        raise RemoteError("malformed", "Not a receipt: not in its one canonical form.")
    return receipt, sign1


async def verify(data: bytes) -> Receipt | None:
    """The receipt, if its executor signed exactly this; else None."""
    try:
        receipt, sign1 = read(data)
        signed = await cose.holds(sign1, sign1.payload or b"", receipt.executor)
    except RemoteError:
        return None
    return receipt if signed else None


@frozen
class TrustPolicy:
    """Whose receipt answers from the cache: this node's own; also some peers'; or any N that agree.

    `executors` are did:keys beside our own; `agree` is how many distinct executors must name one result.
    """

    mode: Literal["own", "peers", "agree"] = "own"
    executors: frozenset[str] = frozenset()
    agree: int = 2

    def choose(self, me: str, claims: Iterable[tuple[str, Cid]]) -> Cid | None:
        """The result to use, given verified (executor, result) claims about one task; None to run it."""
        by_result: dict[Cid, set[str]] = {}
        for executor, result in claims:
            by_result.setdefault(result, set()).add(executor)
        for result, executors in by_result.items():
            if me in executors or (self.mode == "peers" and executors & self.executors):
                return result
        if self.mode == "agree" and len(by_result) == 1:
            ((result, executors),) = by_result.items()
            return result if len(executors) >= self.agree else None
        return None
