"""The verbs of the base: what is kept, for how long, where, and whether it is whole.

Each is reached through the door or in the command line's own process, see `api.py`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator, Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from promisegrid.cid import Cid, CidError
from promisegrid.errors import LocalError, RemoteError
from promisegrid.promisebase.pins import Kind, Pin
from promisegrid.promisebase.streams import Head
from promisegrid_node.api_args import passing, read_cid, whole
from promisegrid_node.api_content import ContentApi
from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb

T = TypeVar("T")
ENDING: Final = 4
"""Letters at the end of a CID that may stand for it, where it is one of a few."""
SIZED: Final = 1000
"""Pins whose size is told; each costs a look into its first block."""


class BaseApi:
    """The verbs over one host's base."""

    def __init__(self, host: Host, content: ContentApi) -> None:
        self._host, self._content = host, content
        self._kernel, self._owner, self._base = host.kernel, host.kernel.owner, host.kernel.base

    async def _ask(self, verb: Coroutine[Any, Any, T], session: Session) -> T:
        return await self._host.ask(verb, passing(session))

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {
            "pin": self.pin,
            "unpin": self.unpin,
            "pins": self.pins,
            "gc": self.gc,
            "log.streams": self.streams,
            "log.history": self.history,
            "log.move": self.move,
            "stat": self.stat,
            "verify": self.verify,
            "rebuild": self.rebuild,
        }

    # -- pins ----------------------------------------------------------------------------------------

    async def pin(self, args: Args, session: Session) -> dict[str, Any]:
        """Keep a CID, `direct` or with all below it: {cid, name, kind, at}."""
        cid, kind = read_cid(args.get("cid")), _kind(args)
        before = await self._ask(self._base.pinned(cid), session)
        name = str(args.get("name") or (before.name if before is not None else ""))
        made = await self._ask(self._base.pin(cid, name, kind), session)
        return {"cid": str(made.cid), "name": made.name, "kind": made.kind, "at": made.at}

    async def unpin(self, args: Args, session: Session) -> dict[str, Any]:
        """Let go of what a CID, or the name of just one pin, says: {cid, name}."""
        kept = await self._pinned(str(args.get("cid") or ""))
        await self._ask(self._base.unpin(kept.cid), session)
        return {"cid": str(kept.cid), "name": kept.name}

    async def _pinned(self, text: str) -> Pin:
        """The pin that a person names. LocalError when there is none, or several."""
        try:
            cid = Cid.parse(text)
        except CidError:
            kept = [pin async for pin in self._every_pin()]
            found = [pin for pin in kept if pin.name == text and text]
            end = text.removeprefix("…")  # as a table shows it
            if not found and len(end) >= ENDING:
                found = [pin for pin in kept if str(pin.cid).endswith(end)]
        else:
            one = await self._host.ask(self._base.pinned(cid))
            found = [] if one is None else [one]
        if not found:
            raise LocalError(f"{text[:80]!r} is not pinned; `promisegrid pins` lists what is.", "not_found")
        if len(found) > 1:
            raise LocalError(f"{len(found)} pins are called {text[:80]!r}: say which by its CID.", "bad_args")
        return found[0]

    async def pins(self, args: Args, session: Session) -> dict[str, Any]:
        """{pins: [{cid, name, kind, at, size}]}, the newest first; size with all below it, or None."""
        kept = [pin async for pin in self._every_pin()]
        kept.sort(key=lambda pin: (-pin.at, pin.name))
        told = []
        for number, pin in enumerate(kept):
            size = await self._content.size(pin.cid) if number < SIZED else None
            told.append({"cid": str(pin.cid), "name": pin.name, "kind": pin.kind, "at": pin.at, "size": size})
        return {"pins": told}

    async def _every_pin(self) -> AsyncIterator[Pin]:
        after = b""
        while page := await self._host.ask(self._base.pins(after)):
            for pin in page:
                yield pin
            after = bytes(page[-1].cid)

    async def gc(self, args: Args, session: Session) -> dict[str, Any]:
        """Take away what nobody keeps: {dry_run, removed, freed, kept}: blocks, bytes, blocks."""
        dry_run, results = bool(args.get("dry_run")), bool(args.get("results"))
        gone = await self._ask(self._base.collect(dry_run, results), session)
        return {"dry_run": dry_run, "removed": gone.blocks, "freed": gone.bytes, "kept": gone.kept}

    # -- streams -------------------------------------------------------------------------------------

    async def streams(self, args: Args, session: Session) -> dict[str, Any]:
        """{streams: [{stream, heads: [head]}]}, by name; a head as in `history`."""
        found = []
        async for name in self._every_stream():
            heads = await self._host.ask(self._base.heads(name))
            found.append({"stream": name, "heads": [_head(head) for head in heads]})
        return {"streams": found}

    async def _every_stream(self) -> AsyncIterator[str]:
        after = ""
        while names := await self._host.ask(self._base.streams(after)):
            for name in names:
                yield name
            after = names[-1]

    async def history(self, args: Args, session: Session) -> dict[str, Any]:
        """{stream, heads, history, more, broken}: the newest `limit` heads, and whether there are more.

        A head: {head, value, previous, height, by, at}. broken: why it cannot be told further, else None.
        """
        name, limit = str(args.get("stream") or ""), whole(args, "limit", 100)
        heads = await self._host.ask(self._base.heads(name))
        told, broken, walk = list[dict[str, Any]](), None, self._base.history(heads)
        more = False
        try:
            while (head := await self._host.ask(self._base.next_head(walk))) is not None:
                if more := len(told) >= limit:
                    break
                told.append(_head(head))
        except RemoteError as wrong:
            broken = wrong.text
        tips = [str(head.cid) for head in heads]
        return {"stream": name, "heads": tips, "history": told, "more": more, "broken": broken}

    async def move(self, args: Args, session: Session) -> dict[str, Any]:
        """Move a stream to `cid`, after the heads `previous`, or all there are: {stream, head, value, …}."""
        name, value = str(args.get("stream") or ""), read_cid(args.get("cid"))
        previous = [read_cid(text) for text in args["previous"]] if "previous" in args else None
        made = await self._ask(self._base.move(name, value, previous), session)
        return {"stream": name, **_head(made)}

    # -- looking after -------------------------------------------------------------------------------

    async def stat(self, args: Args, session: Session) -> dict[str, Any]:
        """What this node holds and does: {blocks, bytes, pins, streams, backend, store, file_bytes, free, …}.

        file_bytes: what the store's files take up; free: what their disk has left; None where there is none.
        """
        place = self._host.store.place
        return {
            **await self._host.stat(),
            "pins": len([pin async for pin in self._every_pin()]),
            "streams": len([name async for name in self._every_stream()]),
            "backend": place.backend,
            "store": place.where,
            "file_bytes": None if place.file is None else _taken(place.file),
            "free": None if place.file is None else shutil.disk_usage(place.file.parent).free,
            "peers": len(self._kernel.peers()),
            "serving": await self._host.ask(self._owner.serving()),
        }

    async def verify(self, args: Args, session: Session) -> dict[str, Any]:
        """Hash everything once more: {checked, bad: [cid], wrong: [sentence], mended: [cid]}.

        With `mend`, what is damaged or missing is fetched from whoever has it.
        """
        file = await self._host.check()
        total = (await self._host.stat())["blocks"]
        try:
            found = await self._ask(self._base.audit(bool(args.get("mend")), total), session)
        except (LocalError, RemoteError) as error:
            if not file:
                raise
            return {"checked": 0, "bad": [], "wrong": [*file, error.text], "mended": []}
        return {
            "checked": found.checked,
            "bad": [str(cid) for cid in found.bad],
            "wrong": [*file, *found.wrong],
            "mended": [str(cid) for cid in found.mended],
        }

    async def rebuild(self, args: Args, session: Session) -> dict[str, Any]:
        """Make indexes anew from blocks: {blocks, heads, receipts, removed}: read, found, found, rows."""
        made = await self._ask(self._base.rebuild(), session)
        await self._ask(self._kernel.publishing.rebuild(), session)
        return {name: getattr(made, name) for name in ("blocks", "heads", "receipts", "removed")}


def _kind(args: Args) -> Kind:
    return "direct" if args.get("direct") else "recursive"


def _head(head: Head) -> dict[str, Any]:
    """A head of a stream as the verbs tell it."""
    return {
        "head": str(head.cid),
        "value": str(head.value),
        "previous": [str(cid) for cid in head.previous],
        "height": head.height,
        "by": head.by,
        "at": head.at,
    }


def _taken(file: Path) -> int:
    """Bytes that a store's file and its log take up."""
    size = 0
    for one in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        with contextlib.suppress(OSError):
            size += one.stat().st_size
    return size
