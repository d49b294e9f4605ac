"""What a page may ask of the kernel in its tab, and how questions and answers look as plain data.

A verb is a method of `Verbs` named in its table: it takes the page's arguments and is a coroutine for
`Kernel.ask`. What `worker/rpc.mjs` lists beyond these is put together from them in `worker/node.mjs`.

Plain data: a CID is its text; inside arguments and values of calls a link is `{"/": text}`, as in DAG-JSON.
Kinds of nodes in a tree are the words of `KINDS`.

Promises: a bad argument is a LocalError that names it; handles are bounded, the longest unused making room.
Does not know: who asks (any tab of this browser profile may), or how bytes get here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

from promisegrid import unixfs
from promisegrid.block import Block
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.kernel import Kernel
from promisegrid.task import Deferred, RunResult, Task
from promisegrid_worker import putting
from promisegrid_worker.plain import (
    KINDS,
    Args,
    from_plain,
    optional_cid,
    read_budget,
    read_bytes,
    read_cid,
    read_kind,
)
from promisegrid_worker.verbs_base import BaseVerbs
from promisegrid_worker.verbs_cap import CapVerbs
from promisegrid_worker.verbs_grid import GridVerbs, ran

_HANDLES: Final = 128
ANYWHERE: Final = "anywhere"
"""Said for `on`: where it is quickest."""
_LATEST: Final = 16
"""Calls looked through for the one that has just ended."""


class Verbs:
    """The verbs of one kernel, and the files open for reading and writing."""

    def __init__(
        self, kernel: Kernel, fault: Callable[[str, Exception], None], tell: Callable[[str, object], None]
    ) -> None:
        """`fault` is told of an exception that should not be, `tell` of an event and its detail."""
        self._kernel, self._fault = kernel, fault
        self._handles: OrderedDict[int, unixfs.FileImporter | AsyncIterator[bytes]] = OrderedDict()
        self._next_handle = 1
        self._caps = CapVerbs(kernel.promises)
        self._others = {**BaseVerbs(kernel).verbs, **GridVerbs(kernel, tell).verbs}

    def begin(self, verb: str, args: Any) -> Coroutine[Any, Any, Any]:
        """The coroutine of a verb. LocalError when there is no such verb."""
        if verb in self._others:
            return self._watched(verb, self._others[verb](args))
        work = self._TABLE.get(verb)
        if work is None:
            raise LocalError(f"There is no verb {verb!r}; worker/rpc.mjs lists them.", "bad_args")
        return self._watched(verb, work(self, args))

    async def _watched(self, verb: str, work: Coroutine[Any, Any, Any]) -> Any:
        """Whatever goes wrong ends this call and nothing else."""
        try:
            return await work
        except (LocalError, RemoteError):
            raise
        except Exception as error:
            self._fault(f"call {verb}", error)
            text = f"A fault of this node in {verb!r}: {type(error).__name__}: {error}"
            raise LocalError(text, "internal") from error

    # -- who and where ---------------------------------------------------------------------------------

    async def _boot(self, _: None) -> object:
        return await self._kernel.owner.boot()

    async def _info(self, _: None) -> object:
        owner, grid = self._kernel.owner, self._kernel.grid
        return {
            "did": self._kernel.me,
            "grid": None if grid is None else str(grid),
            "serving": await owner.serving(),
            "trust": await owner.trust(),
        }

    async def _peers(self, _: None) -> object:
        return self._kernel.peers()

    # -- content ---------------------------------------------------------------------------------------

    async def _put_open(self, args: Args | None) -> int:
        return self._keep(putting.importer(args))

    async def _put_chunk(self, args: Args) -> object:
        """The blocks it came to: [[cid, bytes]…]."""
        handle = args["handle"]
        importer = self._importer(handle)
        if isinstance(importer, putting.CutImporter):
            importer.tell(len(args["data"]), args.get("lengths"))
        blocks = importer.feed(args["data"])
        try:
            await self._kernel.save(blocks)
        except (LocalError, RemoteError):
            self._handles.pop(handle, None)  # a file with a hole gets no CID
            raise
        return _told(blocks)

    async def _put_close(self, handle: int) -> str:
        return str((await self._put_end(handle))["cid"])

    async def _put_end(self, handle: int) -> dict[str, object]:
        """The file: {cid, tsize, blocks}: the last of its blocks, as `put.chunk` told the others."""
        importer = self._importer(handle)
        del self._handles[handle]
        cid, tsize, blocks = importer.finish()
        await self._kernel.save(blocks)
        return {"cid": str(cid), "tsize": tsize, "blocks": _told(blocks)}

    async def _put_tree(self, nodes: list[Args]) -> str:
        try:
            made = [
                (str(node["path"]), read_kind(node.get("kind", "file")), read_bytes(node)) for node in nodes
            ]
            cid, blocks = unixfs.import_tree(made)
        except unixfs.UnixFsError as error:
            raise LocalError(f"These files make no folder: {error}.", "bad_args") from error
        await self._kernel.save(blocks)
        return str(cid)

    async def _read_open(self, cid: str) -> int:
        return self._keep(self._kernel.read(read_cid(cid)))

    async def _read_next(self, handle: int) -> bytes | None:
        pieces = self._handle(handle)
        if isinstance(pieces, unixfs.FileImporter):
            raise LocalError(f"Handle {handle} is open for writing.", "bad_args")
        piece = None
        try:
            piece = await self._kernel.piece(pieces)
        finally:
            if piece is None:
                self._handles.pop(handle, None)  # at its end, or broken: what follows would look like the end
        return piece

    async def _read_close(self, handle: int) -> None:
        self._handles.pop(handle, None)

    async def _tree(self, cid: str) -> object:
        nodes = await self._kernel.tree(read_cid(cid))
        return [{"path": path, "kind": KINDS[kind], "data": data} for path, kind, data in nodes]

    async def _fetch(self, cid: str) -> object:
        blocks, size = await self._kernel.fetch(read_cid(cid))
        return {"blocks": blocks, "bytes": size}

    # -- running ---------------------------------------------------------------------------------------

    async def _run(self, args: Args) -> object:
        task = Task(
            read_cid(args.get("code")),
            args.get("func") or "",
            tuple(from_plain(arg) for arg in args.get("args") or ()),
            optional_cid(args.get("files")),
            optional_cid(args.get("stdin")),
        )
        if args.get("verify"):
            return await self._verified(task, args)
        if args.get("on") == ANYWHERE:
            spread = await self._kernel.run_anywhere(task, read_budget(args), bool(args.get("fresh")))
            assert spread.done is not None
            return {**await self._ran(spread.done), "why": spread.why}
        on = args.get("on") or None
        done = await self._kernel.run(task, read_budget(args), on, bool(args.get("fresh")))
        if isinstance(done, Deferred):
            return {"deferred": str(done.call), "by": done.by, "promise": str(done.promise)}
        return {**await self._ran(done), "why": self._kernel.recollection.why(done, on)}

    async def _verified(self, task: Task, args: Args) -> object:
        """Have several peers run it and agree."""
        peers = args["verify"]
        if type(peers) is not int:
            raise LocalError(f"verify is a number of peers, not {peers!r:.80}.", "bad_args")
        compared = await self._kernel.run_verified(task, read_budget(args), peers)
        said = [
            {name: str(part) if isinstance(part, Cid) else part for name, part in one.value().items()}
            for one in compared.said
        ]
        return {**await self._ran(compared.done), "verified": said}

    async def _ran(self, done: RunResult) -> dict[str, Any]:
        return {**ran(done), "ms": await self._took(done.task)}

    async def _took(self, task: Cid) -> int | None:
        """How long the call just made took, as the history says it: one number wherever it is shown."""
        calls = await self._kernel.owner.history(_LATEST)
        return next((call["ms"] for call in calls if call["task"] == str(task)), None)

    async def _serve(self, promise: Args | None) -> None:
        if promise is None:
            await self._kernel.owner.set_serving(0, 0)
            return
        cpu, memory = promise.get("cpu", 1), promise.get("memory", 256 * 1024 * 1024)
        if type(cpu) is not int or type(memory) is not int:
            raise LocalError(
                "serve takes {cpu: programs at once, memory: bytes for each} or false.", "bad_args"
            )
        await self._kernel.owner.set_serving(cpu, memory)

    async def _trust(self, policy: Args | None) -> object:
        owner = self._kernel.owner
        if policy is not None:
            await owner.set_trust(policy["mode"], list(policy.get("dids") or ()), policy.get("agree", 2))
        return await owner.trust()

    async def _running(self, _: None) -> object:
        return await self._kernel.owner.running()

    async def _stop(self, task: str) -> bool:
        return await self._kernel.owner.stop(read_cid(task))

    async def _history(self, limit: int | None) -> object:
        return await self._kernel.owner.history(50 if limit is None else limit)

    async def _gateways(self, args: Args | None) -> object:
        gateways = self._kernel.gateways
        for name, step in (("add", gateways.add), ("rm", gateways.remove)):
            if args is not None and args.get(name):
                await step(str(args[name]))
        return gateways.ls()

    async def _receipt(self, cid: str) -> object:
        return await self._kernel.owner.receipt(read_cid(cid))

    # -- promises --------------------------------------------------------------------------------------

    async def _cap_keep(self, call: str) -> object:
        return await self._ran(await self._caps.keep(call))

    async def _cap_await(self, args: Args) -> object:
        return await self._ran(await self._caps.wait(args))

    # -- belonging -------------------------------------------------------------------------------------

    async def _leave(self, _: None) -> None:
        await self._kernel.owner.leave()

    async def _ban(self, args: Args) -> None:
        await self._kernel.bans.ban(str(args.get("did")), str(args.get("reason") or ""))

    async def _publish(self, args: Args) -> None:
        await self._kernel.owner.publish(read_cid(args["cid"]), args["name"], args.get("description", ""))

    async def _published(self, _: None) -> object:
        return await self._kernel.owner.published()

    async def _verify(self, args: Args | None) -> object:
        found = await self._kernel.base.audit(bool((args or {}).get("mend")))
        return {
            "checked": found.checked,
            "bad": [str(cid) for cid in found.bad],
            "wrong": found.wrong,
            "mended": [str(cid) for cid in found.mended],
        }

    # -- handles ---------------------------------------------------------------------------------------

    def _keep(self, what: unixfs.FileImporter | AsyncIterator[bytes]) -> int:
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self._handles[handle] = what
        if len(self._handles) > _HANDLES:
            self._handles.popitem(last=False)
        return handle

    def _handle(self, handle: int) -> unixfs.FileImporter | AsyncIterator[bytes]:
        if handle not in self._handles:
            raise LocalError(f"Handle {handle} is not open (any more); open the content again.", "bad_args")
        self._handles.move_to_end(handle)
        return self._handles[handle]

    def _importer(self, handle: int) -> unixfs.FileImporter:
        importer = self._handle(handle)
        if not isinstance(importer, unixfs.FileImporter):
            raise LocalError(f"Handle {handle} is open for reading.", "bad_args")
        return importer

    _TABLE: Final[dict[str, Callable[[Verbs, Any], Coroutine[Any, Any, Any]]]] = {
        "boot": _boot,
        "info": _info,
        "peers": _peers,
        "put.open": _put_open,
        "put.chunk": _put_chunk,
        "put.close": _put_close,
        "put.end": _put_end,
        "putTree": _put_tree,
        "read.open": _read_open,
        "read.next": _read_next,
        "read.close": _read_close,
        "tree": _tree,
        "fetch": _fetch,
        "run": _run,
        "serve": _serve,
        "trust": _trust,
        "running": _running,
        "stop": _stop,
        "history": _history,
        "receipt": _receipt,
        "gateways": _gateways,
        "cap.ls": lambda self, _: self._caps.ls(),
        "cap.show": lambda self, promise: self._caps.show(promise),
        "cap.history": lambda self, _: self._caps.history(),
        "cap.grant": lambda self, args: self._caps.grant(args),
        "cap.delegate": lambda self, args: self._caps.delegate(args),
        "cap.accept": lambda self, token: self._caps.accept(token),
        "cap.revoke": lambda self, args: self._caps.revoke(args),
        "cap.pending": lambda self, _: self._caps.pending(),
        "cap.awaited": lambda self, _: self._caps.awaited(),
        "cap.keep": _cap_keep,
        "cap.break": lambda self, args: self._caps.broken(args),
        "cap.await": _cap_await,
        "leave": _leave,
        "ban": _ban,
        "unban": lambda self, who: self._kernel.bans.unban(str(who)),
        "bans": lambda self, _: self._kernel.bans.ls(),
        "publish": _publish,
        "published": _published,
        "verify": _verify,
    }


def _told(blocks: Sequence[Block]) -> list[list[object]]:
    return [[str(block.cid), len(block.data)] for block in blocks]
