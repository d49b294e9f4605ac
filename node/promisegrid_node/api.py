"""The verbs of a node, as the command line uses them: through the door, or in its own process.

Each takes the arguments a frame of `door.py` can carry and answers with a value it can carry; bulk goes
through the session, piece by piece. What the command line prints of it is `output.py`'s business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from promisegrid import dagcbor, multibase, unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid, CidError
from promisegrid.effects import Budget
from promisegrid.errors import LocalError, RemoteError
from promisegrid.task import Deferred, RunResult, Task
from promisegrid.verifying import Said
from promisegrid_node.api_cap import CapApi
from promisegrid_node.host import Host
from promisegrid_node.naming import only
from promisegrid_node.session import Args, Progress, Session, Verb

STDOUT: Final = b"\x01"
STDERR: Final = b"\x02"
"""What a piece of a run's output begins with."""
PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class About:
    """What a node knows about itself beyond its kernel: its URL while it listens, else None."""

    url: str | None


def read_cid(text: object) -> Cid:
    """A CID given by a person. LocalError names it and says what a CID looks like."""
    if isinstance(text, Cid):
        return text
    if not isinstance(text, str):
        raise LocalError("A CID is missing.", "bad_cid")
    try:
        return Cid.parse(text)
    except CidError as error:
        raise LocalError(f"{error}.", "bad_cid") from error


class Api:
    """The verbs over one host."""

    def __init__(self, host: Host, about: About) -> None:
        self._host, self._about = host, about
        self._kernel, self._owner = host.kernel, host.kernel.owner
        self._caps = CapApi(host, self._finish)

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        named = (
            self.id, self.peers, self.save, self.locate, self.ls, self.read, self.export, self.fetch,
            self.run, self.publish, self.published, self.invite, self.admit, self.members,
            self.leave, self.serve, self.trust, self.receipt, self.stat, self.verify, self.history,
            self.running, self.stop, self.evidence,
        )  # fmt: skip
        return {**{verb.__name__: verb for verb in named}, **self._caps.verbs}

    # -- who and where -------------------------------------------------------------------------------

    async def id(self, args: Args, session: Session) -> dict[str, Any]:
        """{did, grid, url}."""
        grid = self._kernel.grid
        return {"did": self._kernel.me, "grid": None if grid is None else str(grid), "url": self._about.url}

    async def peers(self, args: Args, session: Session) -> dict[str, Any]:
        """{peers: [{did, via, rtt_ms, serves, engine}]}."""
        return {"peers": self._kernel.peers()}

    async def history(self, args: Args, session: Session) -> dict[str, Any]:
        """{runs: […]}, newest first."""
        return {"runs": await self._host.ask(self._owner.history(_whole(args, "limit", 50)))}

    async def running(self, args: Args, session: Session) -> dict[str, Any]:
        """{running: [{task, code, func, for, since_ms}]}."""
        return {"running": await self._host.ask(self._owner.running())}

    async def stop(self, args: Args, session: Session) -> dict[str, Any]:
        """End a running task, whoever asked for it: {stopped}."""
        return {"stopped": await self._host.ask(self._owner.stop(read_cid(args.get("task"))))}

    async def evidence(self, args: Args, session: Session) -> dict[str, Any]:
        """{evidence: [{evidence, task, at, said}]}: tasks on which peers disagreed."""
        return {"evidence": await self._host.ask(self._owner.evidence())}

    # -- content -------------------------------------------------------------------------------------

    async def save(self, args: Args, session: Session) -> dict[str, Any]:
        """Keep blocks, durably. A piece of input is a dag-cbor list of [cid, bytes]; each is checked."""
        count = size = 0
        async for piece in session.pieces():
            blocks = [_checked(pair) for pair in dagcbor.decode(piece)]
            await self._host.ask(self._kernel.save(blocks))
            count, size = count + len(blocks), size + sum(len(block.data) for block in blocks)
        return {"blocks": count, "bytes": size}

    async def locate(self, args: Args, session: Session) -> dict[str, Any]:
        """Follow a path: {cid, kind} with kind "file", "folder" or "symlink"."""
        cid = read_cid(args.get("cid"))
        path = str(args.get("path") or "").strip("/")
        if path:
            cid = await self._host.ask(self._kernel.resolve(cid, path))
        return {"cid": str(cid), "kind": _kind(await self._item(cid))}

    async def ls(self, args: Args, session: Session) -> dict[str, Any]:
        """{entries: [{name, cid, size, kind}]} of a folder."""
        entries = []
        for entry in await self._host.ask(self._kernel.ls(read_cid(args.get("cid")))):
            item = await self._item(entry.cid)
            size = item.size if isinstance(item, unixfs.File) else entry.tsize
            entries.append({"name": entry.name, "cid": str(entry.cid), "size": size, "kind": _kind(item)})
        return {"entries": entries}

    async def read(self, args: Args, session: Session) -> dict[str, Any]:
        """A file's bytes as output."""
        size = 0
        async for piece in self.pieces(read_cid(args.get("cid"))):
            await session.emit(piece)
            size += len(piece)
        return {"bytes": size}

    async def export(self, args: Args, session: Session) -> dict[str, Any]:
        """A folder as output, a parent before its children; every piece is dag-cbor [path, kind, data].

        kind: "folder", "file", "symlink" (data is the target), or "more" of the file before it.
        """
        waiting = [("", read_cid(args.get("cid")))]
        count = 0
        while waiting:
            folder, cid = waiting.pop()
            if folder:
                await session.emit(dagcbor.encode([folder, "folder", b""]))
            found = []
            for entry in await self._host.ask(self._kernel.ls(cid)):
                path, count = f"{folder}/{entry.name}".lstrip("/"), count + 1
                item = await self._item(entry.cid)
                if isinstance(item, unixfs.Directory | unixfs.HamtShard):
                    found.append((path, entry.cid))
                else:
                    await self._export_file(session, path, item, entry.cid)
            waiting.extend(reversed(found))
        return {"entries": count}

    async def _export_file(self, session: Session, path: str, item: unixfs.Item, cid: Cid) -> None:
        if isinstance(item, unixfs.Symlink):
            await session.emit(dagcbor.encode([path, "symlink", item.target]))
            return
        await session.emit(dagcbor.encode([path, "file", b""]))
        async for piece in self.pieces(cid):
            await session.emit(dagcbor.encode([path, "more", piece]))

    async def fetch(self, args: Args, session: Session) -> dict[str, Any]:
        """Bring everything under a CID into this node's store: {blocks, bytes}."""
        blocks, size = await self._host.ask(self._kernel.fetch(read_cid(args.get("cid"))), _passing(session))
        return {"blocks": blocks, "bytes": size}

    async def pieces(self, cid: Cid) -> AsyncIterator[bytes]:
        """A file's bytes, fetched from peers where they are not here, at most a block in memory."""
        source = self._kernel.read(cid)
        while (piece := await self._host.ask(self._kernel.piece(source))) is not None:
            yield piece

    async def _item(self, cid: Cid) -> unixfs.Item:
        try:
            return unixfs.parse(cid, await self._host.ask(self._kernel.block(cid)))
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{cid} is neither file nor folder: {error}.") from error

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
            compared = self._kernel.run_verified(task, budget, _whole(args, "verify", 2))
            verified = await self._host.ask(compared, _passing(session))
            done, said = verified.done, {"verified": [_said(one) for one in verified.said]}
        else:
            on = self.peer(args["on"]) if args.get("on") else None
            proofs = (await self._caps.promise(str(args["promise"])),) if args.get("promise") else None
            asked = self._kernel.run(task, budget, on=on, fresh=bool(args.get("fresh")), proofs=proofs)
            try:
                answer = await self._host.ask(asked, _passing(session))
            except RemoteError as wrong:
                if on is None or wrong.code != "not_serving":
                    raise
                raise _nobodys_promise(on, wrong) from wrong
            if isinstance(answer, Deferred) and args.get("wait"):
                answer = await self._host.ask(self._kernel.promises.awaiting(answer.call))
            if isinstance(answer, Deferred):
                promise = str(answer.promise)
                return {"deferred": str(answer.call), "by": answer.by, "promise": promise}
            done, said = answer, {}
        return {**await self._finish(done, session), **said}

    async def _finish(self, done: RunResult, session: Session) -> dict[str, Any]:
        """What a run left: its output through the session, the rest as the verb's value."""
        for mark, cid in ((STDOUT, done.stdout), (STDERR, done.stderr)):
            if cid is not None:
                async for piece in self.pieces(cid):
                    await session.emit(mark + piece)
        return _run_value(done)

    def peer(self, text: str) -> str:
        """The did:key that a text names: in full, or the beginning or ending of one linked peer's."""
        if text == self._kernel.me:
            return text
        linked = [str(peer["did"]) for peer in self._kernel.peers()]
        remedy = "`promisegrid peers` lists who is"
        return only(text, linked, "peer of this node", remedy, "no_such_peer")

    # -- apps ----------------------------------------------------------------------------------------

    async def publish(self, args: Args, session: Session) -> dict[str, Any]:
        """Note a folder, saved before, as an app of this node: {cid, url}."""
        cid = read_cid(args.get("cid"))
        await self._host.ask(self._owner.publish(cid, str(args["name"]), str(args["description"])))
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
        uses, days = _whole(args, "uses", 1), _whole(args, "days", 7)
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
            await self._host.ask(self._owner.set_serving(_whole(args, "cpu", 0), _whole(args, "memory", 0)))
        return {"serving": await self._host.ask(self._owner.serving())}

    async def trust(self, args: Args, session: Session) -> dict[str, Any]:
        """Set whose receipts count ({mode, dids, agree}), or just tell: the same."""
        if "mode" in args:
            dids = [str(did) for did in args.get("dids") or ()]
            await self._host.ask(self._owner.set_trust(args["mode"], dids, _whole(args, "agree", 2)))
        return dict(await self._host.ask(self._owner.trust()))

    # -- looking after -------------------------------------------------------------------------------

    async def receipt(self, args: Args, session: Session) -> dict[str, Any]:
        """A receipt read and checked."""
        return dict(await self._host.ask(self._owner.receipt(read_cid(args.get("cid")))))

    async def stat(self, args: Args, session: Session) -> dict[str, Any]:
        """What this node holds and does."""
        return {
            **await self._host.stat(),
            "peers": len(self._kernel.peers()),
            "serving": await self._host.ask(self._owner.serving()),
        }

    async def verify(self, args: Args, session: Session) -> dict[str, Any]:
        """Re-hash everything stored: {checked, bad: [cid]}."""
        after, checked, bad = b"", 0, list[str]()
        while True:
            after, count, wrong = await self._host.ask(self._owner.verify_store(after))
            checked, bad = checked + count, bad + [str(cid) for cid in wrong]
            session.progress({"phase": "verify", "done": checked, "total": None})
            if not after:
                return {"checked": checked, "bad": bad}


def _kind(item: unixfs.Item) -> str:
    if isinstance(item, unixfs.File):
        return "file"
    return "symlink" if isinstance(item, unixfs.Symlink) else "folder"


def _checked(pair: Any) -> Block:
    """A block of the input whose bytes are what its CID says."""
    if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], Cid) and isinstance(pair[1], bytes):
        if pair[0].holds(pair[1]):
            return Block(pair[0], pair[1])
        raise RemoteError("bad_block", f"The bytes given for {pair[0]} do not hash to it.")
    raise LocalError("A block is given as [cid, bytes].")


def _whole(args: Args, name: str, default: int) -> int:
    value = args.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise LocalError(f"{name} must be a whole number, not {value!r}.", "bad_args")
    return value


def _passing(session: Session) -> Progress:
    """Progress of an ask, handed on without what only the host needs."""

    def pass_on(detail: Mapping[str, Any]) -> None:
        session.progress({name: detail.get(name) for name in ("phase", "done", "total")})

    return pass_on


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
