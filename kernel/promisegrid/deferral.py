"""Calls that are kept later, as both sides write them down: the keeper's `Call`, the asker's `Wait`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

from promisegrid import claims, dagcbor
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.task import Task
from promisegrid.terms import budget_plain

Outcome = Literal["deferred", "kept", "broken"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that is kept later: `holder` asked for it in `message`, with `promise`; times in seconds."""

    holder: str
    promise: Cid
    message: Cid
    task: Task
    budget: Budget
    at: int
    until: int
    state: Outcome = "deferred"
    statement: Cid | None = None
    receipt: Cid | None = None
    result: Cid | None = None

    def record(self) -> bytes:
        """What is stored."""
        return dagcbor.encode(
            {
                "holder": self.holder,
                "promise": self.promise,
                "message": self.message,
                "task": _task_plain(self.task),
                "budget": budget_plain(self.budget),
                "times": [self.at, self.until],
                "state": self.state,
                "ends": [self.statement, self.receipt, self.result],
            }
        )


@dataclass(frozen=True, slots=True)
class Wait:
    """A call this node asked for and `by` deferred."""

    by: str
    promise: Cid
    task: Task
    at: int
    until: int

    def record(self) -> bytes:
        """What is stored."""
        times = [self.at, self.until]
        return dagcbor.encode(
            {"by": self.by, "promise": self.promise, "task": _task_plain(self.task), "times": times}
        )


def ended(call: Call, state: Outcome, said: Block, done: tuple[Cid, Cid] | None = None) -> Call:
    """The call as it ended; done: receipt and result."""
    receipt, result = done or (None, None)
    return replace(call, state=state, statement=said.cid, receipt=receipt, result=result)


def _task_plain(task: Task) -> list[Any]:
    return [task.code, task.func, list(task.args), task.files, task.stdin]


def _read_task(plain: list[Any]) -> Task:
    code, func, args, files, stdin = plain
    return Task(code, func, tuple(args), files, stdin)


def read_call(plain: dict[str, Any]) -> Call:
    """What `Call.record` wrote, decoded."""
    budget = {at: plain["budget"].get(name) for name, at in claims.BUDGET_NAMES.items()}
    at, until = plain["times"]
    return Call(
        plain["holder"], plain["promise"], plain["message"], _read_task(plain["task"]), Budget(**budget),
        at, until, plain["state"], *plain["ends"],
    )  # fmt: skip


def read_wait(plain: dict[str, Any]) -> Wait:
    """What `Wait.record` wrote, decoded."""
    at, until = plain["times"]
    return Wait(plain["by"], plain["promise"], _read_task(plain["task"]), at, until)
