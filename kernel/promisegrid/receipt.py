"""Receipts: a signed statement that a task gave a result. And whose receipts count.

A receipt is a COSE_Sign1 (typ `grid-receipt`) over dag-cbor `{task, result, fuel, memory, engine, wasi,
executor}`; its name is the raw CID of its bytes. A signature proves who claims, not that it is true:
`TrustPolicy` is the owner's answer to whose claims spare a run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.errors import RemoteError

_FIELDS = {"task", "result", "fuel", "memory", "engine", "wasi", "executor"}


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an executor states. fuel: None where unmetered; memory: bytes; wasi: the module's CID."""

    task: Cid
    result: Cid
    executor: str
    engine: str
    fuel: int | None
    memory: int
    wasi: Cid | None

    def payload(self) -> bytes:
        """The bytes that are signed."""
        return dagcbor.encode(
            {
                "task": self.task,
                "result": self.result,
                "fuel": self.fuel,
                "memory": self.memory,
                "engine": self.engine,
                "wasi": self.wasi,
                "executor": self.executor,
            }
        )


async def seal(receipt: Receipt) -> Block:
    """Sign a receipt with this node's key."""
    data = await cose.sign("grid-receipt", receipt.payload(), detached=False)
    return Block(Cid.of(data), data)


def read(data: bytes) -> tuple[Receipt, cose.Sign1]:
    """A receipt as claimed; nothing is verified. RemoteError("malformed")."""
    sign1 = cose.read(data, "grid-receipt")
    try:
        value = dagcbor.decode(sign1.payload or b"")
    except ValueError as error:
        raise RemoteError("malformed", f"Not a receipt: {error}.") from error
    if not isinstance(value, dict) or set(value) != _FIELDS:
        raise RemoteError("malformed", "Not a receipt: its fields are " + ", ".join(sorted(_FIELDS)) + ".")
    fuel, memory, wasi = value["fuel"], value["memory"], value["wasi"]
    if (
        not isinstance(value["task"], Cid)
        or not isinstance(value["result"], Cid)
        or not isinstance(value["executor"], str)
        or not 0 < len(value["executor"]) <= DID_MAX
        or not isinstance(value["engine"], str)
        or len(value["engine"]) > 80
        or (fuel is not None and (type(fuel) is not int or fuel < 0))
        or type(memory) is not int
        or (wasi is not None and not isinstance(wasi, Cid))
    ):
        raise RemoteError("malformed", "Not a receipt: a field is of the wrong kind.")
    receipt = Receipt(value["task"], value["result"], value["executor"], value["engine"], fuel, memory, wasi)
    return receipt, sign1


async def verify(data: bytes) -> Receipt | None:
    """The receipt, if its executor signed exactly this; else None."""
    try:
        receipt, sign1 = read(data)
        signed = await cose.holds(sign1, sign1.payload or b"", receipt.executor)
    except RemoteError:
        return None
    return receipt if signed else None


@dataclass(frozen=True, slots=True)
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
