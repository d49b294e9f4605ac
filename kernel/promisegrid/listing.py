"""Promises, statements and waiting calls as plain data, for people: links as text, times in seconds."""

from __future__ import annotations

from typing import Any

from promisegrid import statement as statements
from promisegrid.cid import Cid
from promisegrid.ledger import Ledger
from promisegrid.shelf import Known
from promisegrid.task import Task
from promisegrid.terms import budget_plain


def promise(ledger: Ledger, known: Known, me: str) -> dict[str, Any]:
    """A promise as JSON-able data; what the whole chain says, links as text, times in seconds."""
    grant = known.grant
    kind, value = grant.what
    last = grant.chain[-1]
    ends = (ledger.gone.get(one.name) for one in grant.chain)
    gone = next((end for end in ends if end is not None), None)
    return {
        "promise": str(grant.name),
        "issuer": last.issuer,
        "holder": grant.holder,
        "root": grant.root,
        "what": {kind: str(value)},
        "func": grant.func,
        "policy": [rule.plain() for rule in grant.policy] or None,
        "budget": budget_plain(grant.budget) or None,
        "uses": min((most for _, most in grant.uses), default=None),
        "used": ledger.used(grant.name),
        "delegate": grant.delegate,
        "later": grant.later,
        "not_before": grant.starts or None,
        "expires_at": grant.until,
        "parent": None if last.parent is None else str(last.parent),
        "state": ledger.state_of(grant),
        "reason": "" if gone is None else gone.said.reason or "",
        "given": last.issuer == me,
        "held": grant.holder == me,
    }


def statement(name: Cid, data: bytes) -> dict[str, Any]:
    """One statement; nothing is verified."""
    said, _ = statements.read(data)
    return {
        "statement": str(name),
        "about": str(said.about),
        "state": said.state,
        "by": said.by,
        "at": said.at,
        "receipt": None if said.receipt is None else str(said.receipt),
        "result": None if said.result is None else str(said.result),
        "reason": said.reason or "",
    }


def call(name: Cid, task: Task, promise: Cid, at: int) -> dict[str, Any]:
    """A call as plain data; its arguments as they are, links as text, at in seconds."""
    return {
        "call": str(name),
        "promise": str(promise),
        "code": str(task.code),
        "func": task.func,
        "args": list(task.args),
        "at": at,
    }
