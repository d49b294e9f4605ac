"""The verbs of content: blocks in, files and folders out.

Each is reached through the door or in the command line's own process, see `api.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

from promisegrid import dagcbor, dagpb, units, unixfs
from promisegrid.cid import DAG_PB, RAW, Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid_node.ahead import ahead
from promisegrid_node.api_args import passing, read_cid, whole
from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb

_LOOKED_INTO: Final = 256
"""Entries of one listing that peers are asked about; of the others, what is here."""


_PAGE: Final = 512
"""Leaves named in one piece of output."""
UNFOLDED: Final = 65_536
"""Files and folders written out that lie in folders written before: the same folder again and again."""
UNFOLDED_BYTES: Final = 1 << 50
"""Bytes of its files, where whoever asks does not say what there is room for."""
LACKS: Final = 1024
"""Blocks that may be asked about together."""
WRITING: Final = 8 * 1024 * 1024
"""Bytes of one `save` on their way to the disk, while more is taken in."""


class ContentApi:
    """The verbs over one host's content."""

    def __init__(self, host: Host) -> None:
        self._host, self._kernel = host, host.kernel

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        named = (self.lacks, self.save, self.locate, self.ls, self.read, self.leaves, self.export, self.fetch)
        return {verb.__name__: verb for verb in named}

    async def lacks(self, args: Args, session: Session) -> dict[str, Any]:
        """{lacks: [cid]}: which of some blocks ({cids}) this node does not have. At most LACKS at once."""
        cids = args.get("cids")
        if not isinstance(cids, list) or len(cids) > LACKS:
            raise LocalError(f"Name at most {LACKS} blocks in a list.", "bad_args")
        return {"lacks": await self._host.ask(self._kernel.base.lacking([read_cid(cid) for cid in cids]))}

    async def save(self, args: Args, session: Session) -> dict[str, Any]:
        """Keep blocks, durably: while some are written, the next are taken in. {blocks, bytes}."""
        count = size = written = 0
        writing: deque[tuple[asyncio.Task[None], int]] = deque()

        async def settle() -> None:
            nonlocal written
            task, some = writing[0]
            await task
            writing.popleft()
            written += some

        with self._kernel.base.storing():
            try:
                async for blocks in session.blocks():
                    while size - written >= WRITING:
                        await settle()
                    some = sum(len(block.data) for block in blocks)
                    writing.append((asyncio.create_task(self._host.ask(self._kernel.save(blocks))), some))
                    count, size = count + len(blocks), size + some
                while writing:
                    await settle()
            finally:
                for task, _ in writing:
                    task.cancel()
                await asyncio.gather(*(task for task, _ in writing), return_exceptions=True)
        return {"blocks": count, "bytes": size}

    async def locate(self, args: Args, session: Session) -> dict[str, Any]:
        """Follow a path: {cid, kind, size}: kind "file", "folder" or "symlink"; size None but for a file."""
        cid = read_cid(args.get("cid"))
        path = str(args.get("path") or "").strip("/")
        if path:
            cid = await self._host.ask(self._kernel.resolve(cid, path))
        item = await self._item(cid)
        size = item.size if isinstance(item, unixfs.File) else None
        return {"cid": str(cid), "kind": _kind(item), "size": size}

    async def ls(self, args: Args, session: Session) -> dict[str, Any]:
        """{entries: [{name, cid, size, kind, target}]} of a folder; target of a symlink, else None.

        An entry whose block is needed to tell what it is, and is nowhere, is "unknown".
        """
        entries, lookups = [], _LOOKED_INTO
        for entry in await self._host.ask(self._kernel.ls(read_cid(args.get("cid")))):
            item: unixfs.Item | None = None
            if entry.cid.codec != RAW and (lookups or await self._host.ask(self._kernel.has(entry.cid))):
                try:
                    item, lookups = await self._item(entry.cid), max(0, lookups - 1)
                except RemoteError:
                    lookups = 0  # nobody has it: the others are looked for here only
            entries.append(_listed(entry, item))
        return {"entries": entries}

    async def read(self, args: Args, session: Session) -> dict[str, Any]:
        """A file's bytes as output, from the byte `start` on."""
        size = 0
        async for piece in ahead(self.pieces(read_cid(args.get("cid")), whole(args, "start", 0))):
            await session.emit(piece)
            size += len(piece)
        return {"bytes": size}

    async def leaves(self, args: Args, session: Session) -> dict[str, Any]:
        """What a file's bytes hash to, in order; every piece of output is dag-cbor [[raw cid, bytes]…]."""
        source, page, count = self._kernel.leaves(read_cid(args.get("cid"))), list[list[object]](), 0
        while (leaf := await self._host.ask(self._kernel.piece(source))) is not None:
            page.append(list(leaf))
            count += 1
            if len(page) == _PAGE:
                await session.emit(dagcbor.encode(page))
                page = []
        if page:
            await session.emit(dagcbor.encode(page))
        return {"leaves": count}

    async def export(self, args: Args, session: Session) -> dict[str, Any]:
        """A folder as output, a parent before its children; every piece is dag-cbor [path, kind, data].

        kind: "folder", "file", "symlink" (data is the target), or "more" of the file before it.
        A few blocks can unfold to more than any disk holds: `most` bounds the bytes of its files, in all.
        """
        waiting = [("", read_cid(args.get("cid")))]
        count, again, left = 0, 0, whole(args, "most", UNFOLDED_BYTES)
        seen: set[Cid] = set()
        while waiting:
            folder, cid = waiting.pop()
            if folder:
                await session.emit(dagcbor.encode([folder, "folder", b""]))
            found, is_known = [], cid in seen
            seen.add(cid)
            for entry in await self._host.ask(self._kernel.ls(cid)):
                again += is_known
                path, count = f"{folder}/{entry.name}".lstrip("/"), count + 1
                item = await self._item(entry.cid)
                left -= item.size if isinstance(item, unixfs.File) else 0
                if left < 0 or again > UNFOLDED or path.count("/") > unixfs.DEPTH:
                    raise RemoteError("too_large", _unfolds(args))
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
        async for piece in ahead(self.pieces(cid)):
            await session.emit(dagcbor.encode([path, "more", piece]))

    async def fetch(self, args: Args, session: Session) -> dict[str, Any]:
        """Bring everything under a CID into this node's store: {blocks, bytes}."""
        blocks, size = await self._host.ask(self._kernel.fetch(read_cid(args.get("cid"))), passing(session))
        return {"blocks": blocks, "bytes": size}

    async def pieces(self, cid: Cid, start: int = 0) -> AsyncIterator[bytes]:
        """A file's bytes, fetched from peers where they are not here, at most a block in memory."""
        source = self._kernel.read(cid, start)
        while (piece := await self._host.ask(self._kernel.piece(source))) is not None:
            yield piece

    async def size(self, cid: Cid) -> int | None:
        """Bytes of all blocks below a CID, as its first block says, if that is here; None if not known."""
        if cid.codec not in (RAW, DAG_PB) or not await self._host.ask(self._kernel.has(cid)):
            return None
        data = await self._host.ask(self._kernel.block(cid))
        if cid.codec == RAW:
            return len(data)
        try:
            return len(data) + sum(link.tsize or 0 for link in dagpb.decode(data).links)
        except ValueError:
            return None

    async def _item(self, cid: Cid) -> unixfs.Item:
        try:
            return unixfs.parse(cid, await self._host.ask(self._kernel.block(cid)))
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{cid} is neither file nor folder: {error}.") from error


def _listed(entry: unixfs.Entry, item: unixfs.Item | None) -> dict[str, Any]:
    """An entry of a folder as `ls` tells it; `item` is None for raw leaves and for what is not here."""
    leaf = "file" if entry.cid.codec == RAW else "unknown"
    return {
        "name": entry.name,
        "cid": str(entry.cid),
        "size": item.size if isinstance(item, unixfs.File) else entry.tsize,
        "kind": leaf if item is None else _kind(item),
        "target": item.target.decode(errors="replace") if isinstance(item, unixfs.Symlink) else None,
    }


def _kind(item: unixfs.Item) -> str:
    if isinstance(item, unixfs.File):
        return "file"
    return "symlink" if isinstance(item, unixfs.Symlink) else "folder"


def _unfolds(args: Args) -> str:
    room = "" if "most" not in args else f", or to more than the {units.size(args['most'])} that are free"
    return f"{args.get('cid')} unfolds to too many of the same folders, too deep{room}: get parts by path."
