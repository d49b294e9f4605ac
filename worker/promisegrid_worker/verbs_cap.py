"""The verbs of promises, as a page calls them: `cap.…` of worker/rpc.mjs.

Plain data in and out: CIDs are texts, tokens bytes, times of budgets milliseconds.
"""

from __future__ import annotations

from typing import Any, Final

from promisegrid.effects import Budget
from promisegrid.errors import LocalError
from promisegrid.promises import Granted, Promises
from promisegrid.task import RunResult
from promisegrid_worker.plain import Args, read_cid, to_plain

DAYS: Final = 7
AWAIT_S: Final = 600


class CapVerbs:
    """The verbs over one node's promises."""

    def __init__(self, promises: Promises) -> None:
        self._promises = promises

    async def ls(self) -> object:
        """Every promise this node knows of."""
        return to_plain(await self._promises.ls())

    async def show(self, promise: object) -> object:
        """One promise, its chain and what was said about it."""
        return to_plain(await self._promises.show(read_cid(promise)))

    async def grant(self, args: Args) -> object:
        """Promise a did something."""
        what = {"code": read_cid(args["code"])} if args.get("code") else {"ability": _text(args, "ability")}
        narrowed = {"days": DAYS, **_narrowing(args)}
        later = bool(args.get("later"))
        return _granted(await self._promises.grant(_text(args, "to"), what, later=later, **narrowed))

    async def delegate(self, args: Args) -> object:
        """Pass a held promise on."""
        parent = read_cid(args.get("parent"))
        return _granted(await self._promises.delegate(parent, _text(args, "to"), **_narrowing(args)))

    async def accept(self, token: object) -> str:
        """Take a promise that came by other ways."""
        if not isinstance(token, bytes | bytearray | memoryview):
            raise LocalError("A promise is accepted from its bytes, a Uint8Array.", "bad_args")
        return str(await self._promises.accept(bytes(token)))

    async def revoke(self, args: Args) -> str:
        """Take a promise back; the CID of the statement."""
        return str(await self._promises.revoke(read_cid(args.get("promise")), str(args.get("reason") or "")))

    async def pending(self) -> object:
        """Calls that wait to be kept or broken."""
        return to_plain(await self._promises.pending())

    async def awaited(self) -> object:
        """Calls of ours that somebody else is to keep."""
        return to_plain(await self._promises.awaited())

    async def history(self) -> object:
        """What was said of promises, newest first."""
        return to_plain(await self._promises.history())

    async def keep(self, call: object) -> RunResult:
        """Run a call that waits."""
        return await self._promises.keep(read_cid(call))

    async def broken(self, args: Args) -> str:
        """Refuse a call that waits; the CID of the statement."""
        return str(await self._promises.break_(read_cid(args.get("call")), str(args.get("reason") or "")))

    async def wait(self, args: Args) -> RunResult:
        """Wait for a call that somebody else is to keep."""
        timeout = args.get("timeout") or AWAIT_S
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
            raise LocalError(f"timeout is a number of seconds above 0, not {timeout!r:.80}.", "bad_args")
        return await self._promises.awaiting(read_cid(args.get("call")), max(1, int(timeout * 1000)))


def _text(args: Args, name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise LocalError(f"{name} is a text, not {value!r:.80}.", "bad_args")
    return value


def _granted(made: Granted) -> object:
    return {"promise": str(made.promise), "token": made.token, "delivered": made.delivered}


def _narrowing(args: Args) -> dict[str, Any]:
    """What limits a promise, for the kernel; what was not said is left out."""
    budget = args.get("budget") or {}
    given = {name: args.get(name) for name in ("func", "uses", "days", "delegate")}
    for name in ("uses", "days", "delegate"):
        if given[name] is not None and type(given[name]) is not int:
            raise LocalError(f"{name} is a whole number, not {given[name]!r:.80}.", "bad_args")
    return {
        **{name: value for name, value in given.items() if value is not None},
        "policy": tuple(args.get("policy") or ()),
        "budget": Budget(budget.get("fuel"), budget.get("memory"), budget.get("time"), budget.get("output")),
    }
