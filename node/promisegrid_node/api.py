"""The verbs of a node, as the command line uses them: through the door, or in its own process.

Each takes the arguments a frame of `door.py` can carry and answers with a value it can carry; bulk goes
through the session, piece by piece. What the command line prints of it is `output.py`'s business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from promisegrid import did, multibase
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.task import Deferred, RunResult, Task
from promisegrid.verifying import Said
from promisegrid_node.announcing import Announcer
from promisegrid_node.api_archive import ArchiveApi
from promisegrid_node.api_args import passing, read_cid, whole
from promisegrid_node.api_bans import BansApi
from promisegrid_node.api_base import BaseApi
from promisegrid_node.api_cap import CapApi
from promisegrid_node.api_content import ContentApi
from promisegrid_node.api_grid import GridApi
from promisegrid_node.api_routing import RoutingApi
from promisegrid_node.host import Host, clock_ms
from promisegrid_node.naming import only
from promisegrid_node.session import STDERR, STDOUT, Args, Session, Verb

PIECE: Final = 1024 * 1024
ANYWHERE: Final = "anywhere"
"""In place of a peer: from memory, here or at a peer, wherever it is quickest."""
PROMISED: Final = "promised"
"""In place of a peer: whoever promised this very call."""


@dataclass(frozen=True, slots=True)
class About:
    """What a node knows about itself beyond its kernel: its URL while it listens; what tells its routers."""

    url: str | None
    announcer: Announcer | None = None


class Api:
    """The verbs over one host."""

    def __init__(self, host: Host, about: About) -> None:
        self._host, self._about = host, about
        self._kernel, self._owner = host.kernel, host.kernel.owner
        self._content = ContentApi(host)
        self._base = BaseApi(host, self._content)
        self._archive = ArchiveApi(host, about.url)
        self._caps = CapApi(host, self._finish)
        self._grid, self._routing = GridApi(host), RoutingApi(host, about.announcer)
        self._bans = BansApi(host, self.peer)

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        named = (
            self.id, self.peers, self.view, self.run, self.publish, self.published, self.invite, self.admit,
            self.members, self.leave, self.serve, self.carry, self.trust, self.receipt, self.history,
            self.running, self.stop, self.evidence,
        )  # fmt: skip
        own = {verb.__name__: verb for verb in named}
        others = (self._content, self._base, self._archive, self._caps, self._grid, self._bans, self._routing)
        return {name: verb for verbs in (own, *(one.verbs for one in others)) for name, verb in verbs.items()}

    # -- who and where -------------------------------------------------------------------------------

    async def id(self, args: Args, session: Session) -> dict[str, Any]:
        """{did, grid, url}."""
        grid = self._kernel.grid
        return {"did": self._kernel.me, "grid": None if grid is None else str(grid), "url": self._about.url}

    async def peers(self, args: Args, session: Session) -> dict[str, Any]:
        """{peers: [{did, via, rtt_ms, serves, engine}]}."""
        return {"peers": self._kernel.peers()}

    async def view(self, args: Args, session: Session) -> dict[str, Any]:
        """What is to be seen from here, as `Seeing.view` says, and {at_ms}: when it was looked."""
        return {"at_ms": clock_ms(), **self._kernel.seeing.view()}

    async def history(self, args: Args, session: Session) -> dict[str, Any]:
        """{runs: […]}, newest first."""
        return {"runs": await self._host.ask(self._owner.history(whole(args, "limit", 50)))}

    async def running(self, args: Args, session: Session) -> dict[str, Any]:
        """{running: [{task, code, func, for, since_ms}]}."""
        return {"running": await self._host.ask(self._owner.running())}

    async def stop(self, args: Args, session: Session) -> dict[str, Any]:
        """End a running task, whoever asked for it: {stopped}."""
        return {"stopped": await self._host.ask(self._owner.stop(read_cid(args.get("task"))))}

    async def evidence(self, args: Args, session: Session) -> dict[str, Any]:
        """{evidence: [{evidence, task, at, said}]}: tasks on which peers disagreed."""
        return {"evidence": await self._host.ask(self._owner.evidence())}

    # -- running -------------------------------------------------------------------------------------

    async def run(self, args: Args, session: Session) -> dict[str, Any]:
        """Run a task here or on a peer; stdout and stderr as output, each piece marked by its first byte."""
        task = Task(
            read_cid(args.get("code")),
            str(args.get("func") or ""),
            tuple(args.get("args") or ()),
            read_cid(args["files"]) if args.get("files") else None,
            read_cid(args["stdin"]) if args.get("stdin") else None,
        )
        budget = Budget(args.get("fuel"), args.get("memory"), args.get("time_ms"), args.get("output"))
        if args.get("verify"):
            compared = self._kernel.run_verified(task, budget, whole(args, "verify", 2))
            verified = await self._host.ask(compared, passing(session))
            told = {"verified": [_said(one) for one in verified.said]}
            why = f"run by {len(verified.said)} peers, who agree"
            return {**await self._finish(verified.done, session), **told, "why": why}
        if args.get("on") in (ANYWHERE, PROMISED):
            kernel, fresh = self._kernel, bool(args.get("fresh"))
            way = kernel.run_anywhere if args["on"] == ANYWHERE else kernel.run_promised
            spread = await self._host.ask(way(task, budget, fresh), passing(session))
            assert spread.done is not None
            return {**await self._finish(spread.done, session), "why": spread.why}
        on = self.peer(args["on"]) if args.get("on") else None
        done = await self._run(task, budget, on, args, session)
        if isinstance(done, Deferred):
            return {"deferred": str(done.call), "by": done.by, "promise": str(done.promise)}
        return {**await self._finish(done, session), "why": self._kernel.recollection.why(done, on)}

    async def _run(
        self, task: Task, budget: Budget, on: str | None, args: Args, session: Session
    ) -> RunResult | Deferred:
        """Here, or on that peer, presenting a promise of it; what is kept later is waited for if wanted."""
        proofs = (await self._caps.promise(str(args["promise"])),) if args.get("promise") else None
        asked = self._kernel.run(task, budget, on=on, fresh=bool(args.get("fresh")), proofs=proofs)
        try:
            done = await self._host.ask(asked, passing(session))
        except RemoteError as wrong:
            if on is None or wrong.code != "not_serving":
                raise
            raise _nobodys_promise(on, wrong) from wrong
        if isinstance(done, Deferred) and args.get("wait"):
            return await self._host.ask(self._kernel.promises.awaiting(done.call))
        return done

    async def _finish(self, done: RunResult, session: Session) -> dict[str, Any]:
        """What a run left: its output through the session, the rest as the verb's value."""
        for mark, cid in ((STDOUT, done.stdout), (STDERR, done.stderr)):
            if cid is not None:
                async for piece in self._content.pieces(cid):
                    await session.emit(mark + piece)
        return _run_value(done)

    def peer(self, text: str) -> str:
        """The did:key that a text names: in full, or the beginning or ending of that of one around here."""
        with contextlib.suppress(RemoteError):
            did.decode(text)
            return text
        known = [str(peer["did"]) for peer in self._kernel.peers()]
        known += [str(member["did"]) for member in self._kernel.near()]
        remedy = "`promisegrid peers` lists who is"
        return only(text, list(dict.fromkeys(known)), "peer of this node", remedy, "no_such_peer")

    # -- apps ----------------------------------------------------------------------------------------

    async def publish(self, args: Args, session: Session) -> dict[str, Any]:
        """Note a folder, saved before, as an app of this node: {cid, url}."""
        cid = read_cid(args.get("cid"))
        await self._host.ask(self._owner.publish(cid, str(args["name"]), str(args["description"])))
        await self._host.ask(self._kernel.publishing.publish(cid, str(args["name"])))
        return {"cid": str(cid), "url": self._app_url(str(cid))}

    async def published(self, args: Args, session: Session) -> dict[str, Any]:
        """{apps: [{cid, name, description, at, url}]}."""
        apps = await self._host.ask(self._owner.published())
        return {"apps": [{**app, "url": self._app_url(app["cid"])} for app in apps]}

    def _app_url(self, cid: str) -> str | None:
        return None if self._about.url is None else f"{self._about.url}#/app/{cid}"

    # -- belonging -----------------------------------------------------------------------------------

    async def invite(self, args: Args, session: Session) -> dict[str, Any]:
        """A fresh invitation: {url, invite, uses, days}; url is None while the node does not listen."""
        uses, days = whole(args, "uses", 1), whole(args, "days", 7)
        secret = await self._host.ask(self._owner.invite(uses, days))
        text, url = multibase.base32(secret), self._about.url
        joined = None if url is None else f"{url}#/join/{self._kernel.grid}/{text}"
        return {"url": joined, "invite": text, "uses": uses, "days": days}

    async def admit(self, args: Args, session: Session) -> dict[str, Any]:
        """Admit a did:key in person."""
        await self._host.ask(self._owner.admit(str(args.get("did"))))
        return {"did": str(args.get("did"))}

    async def members(self, args: Args, session: Session) -> dict[str, Any]:
        """{members: [did]}."""
        return {"members": await self._host.ask(self._owner.members())}

    async def leave(self, args: Args, session: Session) -> dict[str, Any]:
        """Leave the grid, to join another: {left}."""
        left = str(self._kernel.grid)
        await self._host.ask(self._owner.leave())
        return {"left": left}

    # -- the owner's promises --------------------------------------------------------------------------

    async def serve(self, args: Args, session: Session) -> dict[str, Any]:
        """Promise to run programs for members ({cpu, memory}), stop (cpu 0), or just tell: {serving}."""
        if "cpu" in args:
            await self._host.ask(self._owner.set_serving(whole(args, "cpu", 0), whole(args, "memory", 0)))
        return {"serving": await self._host.ask(self._owner.serving())}

    async def carry(self, args: Args, session: Session) -> dict[str, Any]:
        """Promise to carry unknown protocols ({bytes, days}; 0 bytes ends it), or just tell: {carrying}."""
        carriage = self._kernel.carriage
        if "bytes" in args:
            await self._host.ask(carriage.promise(whole(args, "bytes", 0), whole(args, "days", 1)))
        return {"carrying": await self._host.ask(carriage.carrying())}

    async def trust(self, args: Args, session: Session) -> dict[str, Any]:
        """Set whose receipts count ({mode, dids, agree}), or just tell: the same."""
        if "mode" in args:
            dids = [str(did) for did in args.get("dids") or ()]
            await self._host.ask(self._owner.set_trust(args["mode"], dids, whole(args, "agree", 2)))
        return dict(await self._host.ask(self._owner.trust()))

    # -- looking after -------------------------------------------------------------------------------

    async def receipt(self, args: Args, session: Session) -> dict[str, Any]:
        """A receipt read and checked."""
        return dict(await self._host.ask(self._owner.receipt(read_cid(args.get("cid")))))


def _said(one: Said) -> dict[str, Any]:
    """What one peer made of a task that several were given."""
    return {name: str(part) if isinstance(part, Cid) else part for name, part in one.value().items()}


def _nobodys_promise(on: str, wrong: RemoteError) -> RemoteError:
    """A peer neither serves nor promised this call: what would change that."""
    text = (
        f"{on} has not said that it runs programs for others, and none of its promises fits this call:"
        " `promisegrid cap ls --held` lists those; its owner gives one with `promisegrid cap grant`."
    )
    return RemoteError(wrong.code, text)


def _run_value(done: RunResult) -> dict[str, Any]:
    return {
        "task": str(done.task),
        "result": str(done.result),
        "receipt": str(done.receipt),
        "exit": done.exit,
        "value": done.value,
        "stdout": None if done.stdout is None else str(done.stdout),
        "stderr": None if done.stderr is None else str(done.stderr),
        "files": None if done.files is None else str(done.files),
        "cached": done.cached,
        "fuel": done.fuel,
        "by": done.by,
    }
