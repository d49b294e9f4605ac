"""Running one task on several peers and comparing what they signed.

Agreement of N distinct keys is evidence, not proof: keys are free, and who owns them is for the caller to
know. Disagreement *is* proof that somebody is wrong. It is kept: a signed statement of who said what, with
the receipts, under the `evidence/` prefix of the `grid` table; a disputed task is from then on answered from
this node's own receipts only, whatever the trust policy says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from promisegrid import cose, dagcbor
from promisegrid.block import Block
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.effects import Budget, Commit, Scan, Write
from promisegrid.errors import OF_THE_PROGRAM, LocalError, RemoteError
from promisegrid.memo import Memo
from promisegrid.runner import Watch
from promisegrid.state import State
from promisegrid.strand import Strand
from promisegrid.task import RunResult, Task

_PREFIX: Final = b"evidence/"


@dataclass(frozen=True, slots=True)
class Said:
    """What one peer made of the task: a signed result, or a refusal of the program's own making."""

    did: str
    result: Cid | None = None
    refusal: str = ""
    fuel: int | None = None
    engine: str = ""
    receipt: Cid | None = None

    def value(self) -> dict[str, Any]:
        """Plain data, links as links, for dag-cbor."""
        return {
            "did": self.did,
            "result": self.result,
            "refusal": self.refusal,
            "fuel": self.fuel,
            "engine": self.engine,
            "receipt": self.receipt,
        }


@dataclass(frozen=True, slots=True)
class Verified:
    """A result on which distinct peers agreed, and who they are."""

    done: RunResult
    said: tuple[Said, ...]


class Verifier:
    """Asks several peers, compares, keeps the evidence."""

    def __init__(self, state: State, caller: Caller, memo: Memo) -> None:
        self._state, self._caller, self._memo = state, caller, memo

    async def load(self) -> None:
        """At boot: which tasks are disputed."""
        for key, _ in await Scan("grid", _PREFIX, _PREFIX, self._state.limits.disputes):
            self._memo.dispute(Cid.decode(key[len(_PREFIX) :]))

    async def run(self, task: Task, budget: Budget, peers: int, watch: Watch) -> Verified:
        """Have `peers` distinct serving peers run a settled task now.

        LocalError: fewer than two asked for, or not enough that serve. RemoteError: what every peer
        refused it with; "disagreement" when they differ; the last peer's excuse when too few could run it.
        """
        willing = self._willing(peers)
        asked, spare = willing[:peers], willing[peers:]
        said, results = list[Said](), dict[str, RunResult]()
        excuse: RemoteError | None = None
        while asked and len(said) < peers:
            strands = {did: self._start(did, task, budget, watch) for did in asked}
            try:
                for did, strand in strands.items():
                    try:
                        results[did] = await strand.done
                        said.append(await self._claim(did, results[did]))
                    except RemoteError as wrong:
                        if wrong.code in OF_THE_PROGRAM:
                            said.append(Said(did, refusal=wrong.code))
                        else:
                            excuse = wrong
            finally:
                for strand in strands.values():
                    self._state.scheduler.cancel(strand)
            missing = peers - len(said)
            asked, spare = spare[:missing], spare[missing:]
        if len(said) < peers:
            assert excuse is not None, "a peer that did not say anything had an excuse"
            text = f"Only {len(said)} of {peers} peers could run it. The last said: {excuse.text}"
            raise RemoteError(excuse.code, text)
        return await self._compare(task, said, results)

    def _willing(self, peers: int) -> list[str]:
        if peers < 2:
            raise LocalError("Comparing takes at least 2 peers.", "bad_args")
        dids = list(dict.fromkeys(link.did for link in self._state.open_links() if link.serves))
        if len(dids) < peers:
            raise LocalError(
                f"{peers} peers are to run it, and {len(dids)} that run programs for others are connected. "
                "`promisegrid peers` lists them; their owners allow it with `promisegrid serve on`.",
                "bad_args",
            )
        return dids

    def _start(self, did: str, task: Task, budget: Budget, watch: Watch) -> Strand[RunResult]:
        call = self._caller.call(did, task, budget, watch, fresh=True, remember=False)
        return self._state.scheduler.spawn(call)

    async def _claim(self, did: str, done: RunResult) -> Said:
        if done.by != did:
            raise RemoteError("malformed", f"{did} was to run it, and showed a receipt of {done.by}.")
        return Said(did, done.result, "", done.fuel, done.engine, done.receipt)

    # -- comparing -----------------------------------------------------------------------------------

    async def _compare(self, task: Task, said: list[Said], results: dict[str, RunResult]) -> Verified:
        block = task.block(self._state.limits)
        own = await self._memo.look_up(block.cid)
        if own is not None and own.by == self._state.me:
            said = [*said, Said(own.by, own.result, "", own.fuel, own.engine, own.receipt)]
        verdicts = {(one.result, one.refusal) for one in said}
        if len(verdicts) > 1:
            raise await self._disagreement(block, said)
        if said[0].result is None:
            raise RemoteError(said[0].refusal, f"All {len(said)} say: {RemoteError(said[0].refusal).text}.")
        for did, done in results.items():
            await self._memo.index(done, did)
        return Verified(results[said[0].did], tuple(said))

    async def _disagreement(self, block: Block, said: list[Said]) -> RemoteError:
        """Keep who said what, durably, and say it."""
        statement = dagcbor.encode(
            {
                "about": block.cid,
                "state": "disputed",
                "by": self._state.me,
                "at": self._state.now_ms // 1000,
                "said": [one.value() for one in said],
            }
        )
        sealed = await cose.sign("grid-statement", statement, detached=False)
        name = Cid.of(sealed)
        self._memo.dispute(block.cid)
        await Commit(
            (
                Write("blocks", bytes(name), sealed),
                Write("blocks", bytes(block.cid), block.data),
                Write("grid", _PREFIX + bytes(block.cid), bytes(name)),
            )
        )
        answers = "; ".join(f"{one.did} says {one.result or one.refusal}" for one in said)
        return RemoteError("disagreement", f"The peers disagree: {answers}. The evidence is {name}.")

    async def evidence(self) -> list[dict[str, Any]]:
        """Every disagreement kept here: {"evidence", "task", "at", "said"}, CIDs as text."""
        rows = await Scan("grid", _PREFIX, _PREFIX, self._state.limits.disputes)
        return [await self._kept(Cid.decode(name)) for _, name in rows]

    async def _kept(self, name: Cid) -> dict[str, Any]:
        data = await self._memo.block(name)
        if data is None:
            return {"evidence": str(name), "task": None, "at": None, "said": []}
        value = dagcbor.decode(cose.read(data, "grid-statement").payload or b"")
        said = [
            {key: str(part) if isinstance(part, Cid) else part for key, part in one.items()}
            for one in value["said"]
        ]
        return {"evidence": str(name), "task": str(value["about"]), "at": value["at"], "said": said}
