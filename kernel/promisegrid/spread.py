"""Work spread over whoever serves: many independent tasks, or one wherever it is quickest.

Each worker, a peer that serves or this node itself, takes the next task when it has finished one, so the
quick ones do more. A task whose worker vanished, is busy or no longer serves goes back to the line; one that
failed by its own fault has failed. When the line is empty, idle workers repeat what others have had for long:
tasks are pure, and the first answer counts. Peers that begin to serve meanwhile join in.

A result is what one executor signed. Who needs more asks several (`verifying.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from promisegrid import reasons
from promisegrid.caller import Caller
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import OF_THE_PROGRAM, LocalError, RemoteError
from promisegrid.promises import Promises
from promisegrid.runner import Runner, Watch
from promisegrid.state import State
from promisegrid.strand import Late, Pause, Signal, Strand
from promisegrid.task import Deferred, RunResult, Task

_AT_PEER: Final = 2
"""Tasks one peer has at once: one running, one on its way."""
_ISSUERS: Final = 64
"""Members whose promises are looked through for one that fits a call."""
_TRIES: Final = 5
"""How often a task may be given back, by every worker there is, before it has failed."""
_LOOK_MS: Final = 500
"""How often new peers are looked for."""
_LONG: Final = 4
"""A task is repeated elsewhere when it has taken so many times what tasks took so far; at least a second."""
_FAILINGS_MAX: Final = 3
"""Failings in a row after which a worker is asked no more."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What became of one task: its result, or why there is none; and why it was run where it was."""

    done: RunResult | None
    wrong: RemoteError | None
    why: str


@dataclass(slots=True)
class _Job:
    task: Task
    number: int
    since_ms: int = 0
    workers: set[str] = field(default_factory=set)
    failings: int = 0
    failed: set[str] = field(default_factory=set)
    """Who gave it back: others come first, and as long as there are any it has not failed."""


class Spreader:
    """Runs tasks on this node and its peers."""

    def __init__(self, state: State, caller: Caller, runner: Runner, promises: Promises) -> None:
        self._state, self._caller, self._runner, self._promises = state, caller, runner, promises

    async def on(
        self,
        did: str,
        task: Task,
        budget: Budget,
        watch: Watch,
        fresh: bool = False,
        proofs: tuple[Cid, ...] | None = None,
        tagged: bool = False,
    ) -> RunResult | Deferred:
        """One settled task on that peer, presenting a promise of it that fits; see `Kernel.run`."""
        while True:
            grant = self._promises.presentable(did, task, proofs)
            try:
                done = await self._caller.run(did, task, budget, watch, fresh, grant=grant, tagged=tagged)
            except RemoteError as wrong:
                if grant is None or not self._promises.is_spent(grant, wrong.code) or proofs is not None:
                    raise
                continue
            if grant is not None:
                await self._promises.used(grant, done, task)
            return done

    def keepers(self, task: Task) -> list[str]:
        """Members who promised this very call, to be kept at once; those linked to here first."""
        near = {did for link in self._state.open_links() for did in link.near}
        issuers = sorted(self._promises.issuers() - self._state.banned)
        issuers.sort(key=lambda did: (self._state.link_to(did) is None, did not in near))
        grants = [(did, self._promises.presentable(did, task, None)) for did in issuers[:_ISSUERS]]
        return [did for did, grant in grants if grant is not None and not grant.later]

    async def promised(self, task: Task, budget: Budget, watch: Watch, fresh: bool = False) -> Spread:
        """One settled task on whoever promised to run it. LocalError when nobody did.

        RemoteError of the last that tried.
        """
        keepers = self.keepers(task)
        if not keepers:
            text = "Nobody promised this node to run this call: `promisegrid cap ls --held` lists promises."
            raise LocalError(text, "not_permitted")
        kept = await self._first(keepers, None, "who promised it", task, budget, watch, fresh)
        if isinstance(kept, RemoteError):
            raise kept
        return kept

    async def _first(
        self,
        dids: list[str],
        proofs: tuple[Cid, ...] | None,
        said: str,
        task: Task,
        budget: Budget,
        watch: Watch,
        fresh: bool,
    ) -> Spread | RemoteError:
        """The first of some peers that gives a result; what kept the last of them from it."""
        wrong = RemoteError("closed", "Nobody is there.")
        for did in dids[:_TRIES]:
            try:
                done = await self.on(did, task, budget, watch, fresh, proofs)
            except (RemoteError, LocalError) as error:
                wrong = error if isinstance(error, RemoteError) else RemoteError("closed", error.text)
                if wrong.code in OF_THE_PROGRAM or wrong.code == "cancelled":
                    raise wrong from None
                continue
            if isinstance(done, RunResult):
                return Spread(done, None, f"run on {did}: {'remembered there' if done.cached else said}")
        return wrong

    def servers(self) -> list[str]:
        """Members who serve and can be reached: linked ones first, the nearest first."""
        links = [link for link in self._state.open_links() if link.serves and link.via != "relay"]
        links.sort(key=lambda link: (link.rtt_ms is None, link.rtt_ms or 0))
        found = [link.did for link in links]
        for link in self._state.open_links():
            found += [did for did, one in link.near.items() if one.serves]
        return [did for did in dict.fromkeys(found) if did not in {self._state.me, *self._state.banned}]

    async def anywhere(self, task: Task, budget: Budget, watch: Watch, fresh: bool = False) -> Spread:
        """One settled task: from the cache, here if there is room, else on the peer with the least to do.

        RemoteError of the last that tried; `why` says in a few words how it was chosen.
        """
        known = None if fresh else await self._runner.remembered(task)
        if known is not None:
            return Spread(known, None, reasons.remembered(self._state, known))
        peers = self.servers()
        busy = len(self._runner.flights) >= self._state.limits.runs
        if not busy:
            why = "a place was free here" if peers else "nobody else serves"
            return await self._here(task, budget, watch, fresh, why)
        known = None if fresh else await self._runner.recollected(task, watch)
        if known is not None:
            return Spread(known, None, reasons.remembered(self._state, known))
        full = "all places here were taken"
        there = await self._first(peers, (), full, task, budget, watch, fresh)
        if isinstance(there, RemoteError) and (keepers := self.keepers(task)):
            full += ", and it promised this call"
            there = await self._first(keepers, None, full, task, budget, watch, fresh)
        if isinstance(there, Spread):
            return there
        return await self._here(task, budget, watch, fresh, f"no peer would ({there.code})")

    async def _here(self, task: Task, budget: Budget, watch: Watch, fresh: bool, why: str) -> Spread:
        """Run it here; if others turn out to remember it, that is why."""
        done = await self._runner.execute(task, budget, self._state.me, watch, None, fresh)
        said = reasons.remembered(self._state, done) if done.cached else f"run here: {why}"
        return Spread(done, None, said)

    async def map(
        self,
        tasks: Sequence[Task],
        budget: Budget,
        watch: Watch,
        here: bool = True,
        told: Callable[[int, Spread], None] = lambda number, spread: None,
    ) -> list[Spread]:
        """Run settled tasks wherever there is room; what became of each, in their order.

        `told` is called with (number, what became of it) as each is over; `here`: this node takes part.
        LocalError: too_large; no_such_peer when nobody is there to run any.
        """
        if len(tasks) > self._state.limits.map_tasks:
            most = self._state.limits.map_tasks
            raise LocalError(f"{len(tasks)} tasks at once; at most {most}: map them in parts.", "too_large")
        if not here and not self.servers():
            raise LocalError("Nobody serves: no connected member runs programs for others.", "no_such_peer")
        return await _Map(self, tasks, budget, watch, here, told).run()

    async def here(self, task: Task, budget: Budget) -> RunResult:
        """Run one of many on this node; whoever remembers it is a worker like any other."""
        return await self._runner.execute(task, budget, self._state.me, _unwatched, None, alone=True)

    async def there(self, did: str, task: Task, budget: Budget) -> RunResult:
        """Run one on a peer, unless it is remembered here."""
        known = await self._runner.remembered(task)
        return known or await self._caller.call(did, task, budget, _unwatched)

    @property
    def state(self) -> State:
        """The node's."""
        return self._state


def _unwatched(phase: str, done: int, total: int | None) -> None:
    pass


class _Map:
    """One map: a line of jobs, and workers that take from it."""

    def __init__(
        self,
        spreader: Spreader,
        tasks: Iterable[Task],
        budget: Budget,
        watch: Watch,
        here: bool,
        told: Callable[[int, Spread], None],
    ) -> None:
        self._spreader, self._state = spreader, spreader.state
        self._budget, self._watch, self._here, self._told = budget, watch, here, told
        self._line = deque(_Job(task, number) for number, task in enumerate(tasks))
        self._open: dict[int, _Job] = {}
        self._ends: list[Spread | None] = [None] * len(self._line)
        self._over = 0
        self._took_ms = 0
        self._workers: dict[str, list[Strand[None]]] = {}
        self._done: Signal[None] = self._state.scheduler.signal()
        self._more: Signal[None] = self._state.scheduler.signal()

    async def run(self) -> list[Spread]:
        """To the end of all jobs."""
        total = len(self._ends)
        self._watch("map", 0, total)
        if not total:
            return []
        try:
            if self._here:
                self._hire(self._state.me, self._state.limits.runs)
            while not self._done.is_set:
                for did in self._spreader.servers():
                    if did not in self._workers:
                        self._hire(did, _AT_PEER)
                try:
                    await Pause(self._done, _LOOK_MS)
                except Late:
                    self._check_workers()
        finally:
            for strands in self._workers.values():
                for strand in strands:
                    self._state.scheduler.cancel(strand)
        return [end for end in self._ends if end is not None]

    def _hire(self, did: str, places: int) -> None:
        spawn = self._state.scheduler.spawn
        self._workers[did] = [spawn(self._work(did)) for _ in range(places)]

    def _check_workers(self) -> None:
        """Workers that have stopped may be asked again later; with nobody left what remains has failed."""
        for did, strands in list(self._workers.items()):
            if all(strand.done.is_set for strand in strands):
                del self._workers[did]
        if not self._workers and not self._spreader.servers():
            for job in [*self._line, *self._open.values()]:
                self._end(job, Spread(None, RemoteError("closed", "Nobody is left to run it."), "alone"))
            self._line.clear()

    async def _work(self, did: str) -> None:
        failings = 0
        while not self._done.is_set and failings < _FAILINGS_MAX:
            job = self._next(did)
            if job is None:
                self._more = self._more if not self._more.is_set else self._state.scheduler.signal()
                with suppress(Late):
                    await Pause(self._more, 1_000)
                continue
            failings = 0 if await self._try(did, job) else failings + 1

    def _next(self, did: str) -> _Job | None:
        """The next of the line; else one that another has had for long."""
        now_ms = self._state.steady_ms
        fit = next(
            (at for at, job in enumerate(self._line) if did not in job.failed or self._by_all(job)), None
        )
        if fit is not None:
            job = self._line[fit]
            del self._line[fit]
            job.since_ms = now_ms
        else:
            usual = self._took_ms // max(1, self._over)
            late = now_ms - max(1_000, _LONG * usual)
            stuck = [
                job
                for job in self._open.values()
                if job.since_ms < late and did not in job.workers | job.failed
            ]
            if not stuck:
                return None
            job = min(stuck, key=lambda one: (len(one.workers), one.since_ms))
        self._open[job.number] = job
        job.workers.add(did)
        return job

    def _by_all(self, job: _Job) -> bool:
        """Whether every worker there is gave a job back."""
        return self._workers.keys() <= job.failed

    async def _try(self, did: str, job: _Job) -> bool:
        """Have a worker do a job; False when the worker, not the job, was at fault."""
        here = did == self._state.me
        began_ms = self._state.steady_ms
        try:
            if here:
                done = await self._spreader.here(job.task, self._budget)
            else:
                done = await self._spreader.there(did, job.task, self._budget)
        except (RemoteError, LocalError) as error:
            wrong = error if isinstance(error, RemoteError) else RemoteError("closed", error.text)
            if wrong.code == "cancelled" and not here:
                wrong = RemoteError("closed", wrong.text)
            return self._failed(did, job, wrong, here)
        self._took_ms += self._state.steady_ms - began_ms
        why = "remembered" if done.cached else "run here" if here else f"run on {did}"
        self._end(job, Spread(done, None, why))
        return True

    def _failed(self, did: str, job: _Job, wrong: RemoteError, here: bool) -> bool:
        job.workers.discard(did)
        job.failings += 1
        job.failed.add(did)
        of_the_job = wrong.code in OF_THE_PROGRAM or here or (job.failings >= _TRIES and self._by_all(job))
        if of_the_job:
            self._end(job, Spread(None, wrong, f"failed on {'this node' if here else did}"))
        elif not job.workers and self._open.pop(job.number, None) is not None:
            self._line.append(job)
            self._wake()
        return of_the_job

    def _end(self, job: _Job, end: Spread) -> None:
        self._open.pop(job.number, None)
        if self._ends[job.number] is not None:
            return
        self._ends[job.number] = end
        self._over += 1
        self._told(job.number, end)
        self._watch("map", self._over, len(self._ends))
        if self._over == len(self._ends):
            self._done.set(None)
            self._wake()

    def _wake(self) -> None:
        self._more.set(None)
