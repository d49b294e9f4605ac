"""The verbs of `cap`, as the command line uses them: promises of one node.

Shapes are those of the kernel's promises; CIDs are texts, times milliseconds unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from promisegrid import did
from promisegrid.cid import Cid, CidError
from promisegrid.effects import Budget
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promises import Granted
from promisegrid.task import RunResult
from promisegrid_node.host import Host
from promisegrid_node.naming import only
from promisegrid_node.session import Args, Session, Verb

DAYS: Final = 7
AWAIT_MS: Final = 600_000

Finish = Callable[[RunResult, Session], Awaitable[dict[str, Any]]]


class CapApi:
    """The verbs over one host. `finish` puts out what a run left, as the verb `run` does."""

    def __init__(self, host: Host, finish: Finish) -> None:
        self._host, self._finish = host, finish
        self._promises = host.kernel.promises

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {
            "cap.grant": self.grant,
            "cap.delegate": self.delegate,
            "cap.backup": self.backup,
            "cap.accept": self.accept,
            "cap.ls": self.ls,
            "cap.show": self.show,
            "cap.history": self.history,
            "cap.pending": self.pending,
            "cap.revoke": self.revoke,
            "cap.keep": self.keep,
            "cap.break": self.break_,
            "cap.await": self.wait,
        }

    # -- giving --------------------------------------------------------------------------------------

    async def grant(self, args: Args, session: Session) -> dict[str, Any]:
        """{promise, token, delivered}; code or ability, and what `_narrowing` takes."""
        what: dict[str, Any] = {"ability": args.get("ability")}
        if args.get("code"):
            what = {"code": Cid.parse(str(args["code"]))}
        narrowed = {"days": DAYS, **_narrowing(args)}
        holder, later = self._holder(str(args["holder"])), bool(args.get("later"))
        return _granted(await self._host.ask(self._promises.grant(holder, what, later=later, **narrowed)))

    async def delegate(self, args: Args, session: Session) -> dict[str, Any]:
        """{promise, token, delivered}."""
        parent = await self.promise(str(args["parent"]))
        holder = self._holder(str(args["holder"]))
        return _granted(await self._host.ask(self._promises.delegate(parent, holder, **_narrowing(args))))

    async def backup(self, args: Args, session: Session) -> dict[str, Any]:
        """{promise, token, delivered, holder}."""
        holder = self._holder(str(args["holder"]))
        return {**_granted(await self._host.ask(self._promises.backup(holder))), "holder": holder}

    async def accept(self, args: Args, session: Session) -> dict[str, Any]:
        """{promise}."""
        token = args.get("token")
        if not isinstance(token, bytes) or not token:
            raise LocalError("That file is empty; give the one that `cap grant -o` wrote.", "bad_capability")
        return {"promise": str(await self._host.ask(self._promises.accept(token)))}

    # -- telling -------------------------------------------------------------------------------------

    async def ls(self, args: Args, session: Session) -> dict[str, Any]:
        """{promises: […]}; only those given, or held, where the arguments say so."""
        known = await self._host.ask(self._promises.ls())
        wanted = [name for name in ("given", "held") if args.get(name)]
        return {"promises": [one for one in known if all(one[name] for name in wanted)]}

    async def show(self, args: Args, session: Session) -> dict[str, Any]:
        """One promise, with "chain", "statements" and "token"."""
        promise = await self.promise(str(args["promise"]))
        return dict(await self._host.ask(self._promises.show(promise)))

    async def history(self, args: Args, session: Session) -> dict[str, Any]:
        """{statements: […]}, newest first."""
        return {"statements": await self._host.ask(self._promises.history())}

    async def pending(self, args: Args, session: Session) -> dict[str, Any]:
        """{pending: calls to keep or break, awaited: calls of ours that somebody else is to keep}."""
        return {
            "pending": await self._host.ask(self._promises.pending()),
            "awaited": await self._host.ask(self._promises.awaited()),
        }

    # -- keeping -------------------------------------------------------------------------------------

    async def revoke(self, args: Args, session: Session) -> dict[str, Any]:
        """{promise, statement}."""
        promise = await self.promise(str(args["promise"]))
        statement = await self._host.ask(self._promises.revoke(promise, str(args.get("reason") or "")))
        return {"promise": str(promise), "statement": str(statement)}

    async def keep(self, args: Args, session: Session) -> dict[str, Any]:
        """{call, result, receipt}: the call has been run, and its holder told."""
        call = await self._call(str(args["call"]))
        done = await self._host.ask(self._promises.keep(call), session.progress)
        return {"call": str(call), "result": str(done.result), "receipt": str(done.receipt)}

    async def break_(self, args: Args, session: Session) -> dict[str, Any]:
        """{call, statement}."""
        call = await self._call(str(args["call"]))
        statement = await self._host.ask(self._promises.break_(call, str(args.get("reason") or "")))
        return {"call": str(call), "statement": str(statement)}

    async def wait(self, args: Args, session: Session) -> dict[str, Any]:
        """As `run`, once the call is kept."""
        call = await self._call(str(args["call"]))
        time_ms = args.get("time_ms") or AWAIT_MS
        return await self._finish(await self._host.ask(self._promises.awaiting(call, time_ms)), session)

    # -- names ---------------------------------------------------------------------------------------

    def _holder(self, text: str) -> str:
        """A did:key in full, whoever has it; else the connected peer that is meant."""
        if text.startswith("did:key:"):
            try:
                did.decode(text)
            except RemoteError:
                pass  # the beginning of one, perhaps
            else:
                return text
        dids = [str(peer["did"]) for peer in self._host.kernel.peers()]
        remedy = "`promisegrid peers` lists who is connected; or give the whole did:key:…"
        return only(text, dids, "peer of this node", remedy, "no_such_peer")

    async def promise(self, text: str) -> Cid:
        """A promise's CID, in full or as an ending."""
        whole = _whole_cid(text)
        if whole is not None:
            return whole
        known = [str(one["promise"]) for one in await self._host.ask(self._promises.ls())]
        return Cid.parse(only(text, known, "promise", "`promisegrid cap ls` lists them", "not_found"))

    async def _call(self, text: str) -> Cid:
        """A deferred call's CID, in full or as an ending."""
        whole = _whole_cid(text)
        if whole is not None:
            return whole
        waiting = [
            *await self._host.ask(self._promises.pending()),
            *await self._host.ask(self._promises.awaited()),
        ]
        known = [str(one["call"]) for one in waiting]
        return Cid.parse(
            only(text, known, "deferred call", "`promisegrid cap pending` lists them", "not_found")
        )


def _whole_cid(text: str) -> Cid | None:
    try:
        return Cid.parse(text)
    except CidError:
        return None


def _granted(made: Granted) -> dict[str, Any]:
    return {"promise": str(made.promise), "token": made.token, "delivered": made.delivered}


def _narrowing(args: Args) -> dict[str, Any]:
    """What limits a promise, for the kernel; what was not said is left out."""
    budget = args.get("budget") or {}
    given = {name: args.get(name) for name in ("func", "uses", "days", "delegate")}
    return {
        **{name: value for name, value in given.items() if value is not None},
        "policy": tuple(args.get("policy") or ()),
        "budget": Budget(budget.get("fuel"), budget.get("memory"), budget.get("time"), budget.get("output")),
    }
