"""The verbs of the base, as a page calls them: folders, pins, streams, collecting. See worker/rpc.mjs.

Plain data in and out: CIDs are texts, times seconds since 1970.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from promisegrid import dagpb, unixfs
from promisegrid.block import Block
from promisegrid.cid import DAG_PB, RAW, Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.kernel import Kernel
from promisegrid.promisebase.pins import Pin
from promisegrid.promisebase.streams import Head
from promisegrid_worker.plain import KINDS, Args, fields, read_cid

Work = Callable[[Any], Coroutine[Any, Any, object]]
FOLDER_FILES: Final = 100_000
"""Files of one folder made at once; their entries pass through Python together."""
DEPTH: Final = 200
"""Folders inside each other, as the command line takes them."""
_SIZED: Final = 256
"""Pins whose size is told; each costs a look into its first block."""
_LOOKED_INTO: Final = 256
"""Entries of a listing whose block is read to tell what they are."""


class BaseVerbs:
    """The verbs over one kernel's base."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel, self._base = kernel, kernel.base

    @property
    def verbs(self) -> Mapping[str, Work]:
        """Every verb by its name."""
        return {
            "look": self.look,
            "ls": self.ls,
            "folder": self.folder,
            "pin": self.pin,
            "unpin": self.unpin,
            "pins": self.pins,
            "gc": self.gc,
            "log": self.log,
            "log.move": self.move,
        }

    # -- looking ---------------------------------------------------------------------------------------

    async def look(self, asked: object) -> object:
        """What a path names: {cid, kind, size, target}; links are told, not followed."""
        args = fields(asked)
        cid, path = read_cid(args.get("cid")), str(args.get("path") or "").strip("/")
        if path:
            cid = await self._kernel.resolve(cid, path)
        try:
            item = unixfs.parse(cid, await self._kernel.block(cid))
        except unixfs.UnixFsError as error:
            raise RemoteError("bad_file", f"{cid} is neither file nor folder: {error}.") from error
        size = item.size if isinstance(item, unixfs.File) else await self._size(cid)
        return {"cid": str(cid), "kind": kind_of(item), "size": size, "target": target_of(item)}

    async def ls(self, cid: object) -> object:
        """The entries of a folder: {name, cid, size, kind, target}."""
        entries = await self._kernel.ls(read_cid(cid))
        return [await self._entry(entry, number < _LOOKED_INTO) for number, entry in enumerate(entries)]

    async def _entry(self, entry: unixfs.Entry, look: bool) -> object:
        kind, target, size = "file" if entry.cid.codec == RAW else "unknown", None, entry.tsize
        if kind == "unknown" and look:
            try:
                item = unixfs.parse(entry.cid, await self._kernel.block(entry.cid))
            except (RemoteError, unixfs.UnixFsError):
                pass  # it is nowhere, or neither file nor folder: the others are listed all the same
            else:
                kind, target = kind_of(item), target_of(item)
                size = item.size if isinstance(item, unixfs.File) else size
        return {"name": entry.name, "cid": str(entry.cid), "size": size, "kind": kind, "target": target}

    async def folder(self, nodes: object) -> object:
        """A folder of stored files: {cid, tsize}. nodes: {path, cid, tsize}, without cid an empty folder."""
        if not isinstance(nodes, list):
            raise LocalError(f"folder takes a list of {{path, cid, tsize}}, not {nodes!r:.80}.", "bad_args")
        if len(nodes) > FOLDER_FILES:
            raise LocalError(
                f"A folder of {len(nodes)} files; {FOLDER_FILES} are taken at once.", "too_large"
            )
        blocks: list[Block] = []
        try:
            cid, tsize = _build(_nested(nodes), blocks)
        except unixfs.UnixFsError as error:
            raise LocalError(f"These files make no folder: {error}.", "bad_args") from error
        await self._base.save(blocks)
        return {"cid": str(cid), "tsize": tsize}

    # -- keeping ---------------------------------------------------------------------------------------

    async def pin(self, asked: object) -> object:
        """Keep a CID and all below it; what is missing is fetched: {cid, name, kind, at}."""
        args = fields(asked)
        cid = read_cid(args.get("cid"))
        before = await self._base.pinned(cid)
        name = str(args.get("name") or (before.name if before is not None else ""))
        made = await self._base.pin(cid, name, "direct" if args.get("direct") else "recursive")
        return {"cid": str(made.cid), "name": made.name, "kind": made.kind, "at": made.at}

    async def unpin(self, cid: object) -> bool:
        """Let a CID go; whether it was pinned."""
        return await self._base.unpin(read_cid(cid))

    async def pins(self, _: None) -> object:
        """[{cid, name, kind, at, size}], the newest first; size with all below it, null where unknown."""
        kept: list[Pin] = []
        while page := await self._base.pins(bytes(kept[-1].cid) if kept else b""):
            kept += page
        kept.sort(key=lambda pin: (-pin.at, pin.name))
        return [
            {
                "cid": str(pin.cid),
                "name": pin.name,
                "kind": pin.kind,
                "at": pin.at,
                "size": await self._size(pin.cid) if number < _SIZED else None,
            }
            for number, pin in enumerate(kept)
        ]

    async def gc(self, asked: object) -> object:
        """Take away what nobody keeps: {dry_run, removed, freed, kept}: blocks, bytes, blocks."""
        args = fields(asked)
        dry_run = bool(args.get("dry_run"))
        gone = await self._base.collect(dry_run, bool(args.get("results")))
        return {"dry_run": dry_run, "removed": gone.blocks, "freed": gone.bytes, "kept": gone.kept}

    async def _size(self, cid: Cid) -> int | None:
        """Bytes of all blocks below a CID, as its first block says, if that is here."""
        if cid.codec not in (RAW, DAG_PB) or not await self._kernel.has(cid):
            return None
        data = await self._kernel.block(cid)
        try:
            return len(data) + (0 if cid.codec == RAW else sum(_tsizes(data)))
        except ValueError:
            return None

    # -- streams ---------------------------------------------------------------------------------------

    async def log(self, asked: object) -> object:
        """[{stream, heads}] of all streams; of one {stream, heads, history}, at most `limit` of that."""
        args = fields(asked)
        if args.get("stream"):
            return await self._history(str(args["stream"]), args.get("limit"))
        found: list[dict[str, Any]] = []
        while names := await self._base.streams(found[-1]["stream"] if found else ""):
            for name in names:
                heads = [_head(head) for head in await self._base.heads(name)]
                found.append({"stream": name, "heads": heads})
        return found

    async def _history(self, name: str, limit: object) -> object:
        most = limit if type(limit) is int and limit > 0 else 100
        heads = await self._base.heads(name)
        walk: AsyncIterator[Head] = self._base.history(heads)
        told: list[object] = []
        while len(told) < most and (head := await self._base.next_head(walk)) is not None:
            told.append(_head(head))
        return {"stream": name, "heads": [str(head.cid) for head in heads], "history": told}

    async def move(self, asked: object) -> object:
        """Move a stream to a value, after the heads `previous` or all there are: its new head."""
        args = fields(asked)
        previous = args.get("previous")
        after = None if previous is None else [read_cid(text) for text in previous]
        return _head(await self._base.move(str(args.get("stream") or ""), read_cid(args.get("cid")), after))


def kind_of(item: unixfs.Item) -> str:
    """file, symlink or folder."""
    if isinstance(item, unixfs.File):
        return KINDS[unixfs.FILE]
    return KINDS[unixfs.SYMLINK if isinstance(item, unixfs.Symlink) else unixfs.FOLDER]


def target_of(item: unixfs.Item) -> str | None:
    """Where a symlink leads, as text."""
    return item.target.decode(errors="replace") if isinstance(item, unixfs.Symlink) else None


def _tsizes(data: bytes) -> list[int]:
    return [link.tsize or 0 for link in dagpb.decode(data).links]


def _head(head: Head) -> dict[str, object]:
    return {
        "head": str(head.cid),
        "value": str(head.value),
        "previous": [str(cid) for cid in head.previous],
        "height": head.height,
        "by": head.by,
        "at": head.at,
    }


# -- a folder from its files' CIDs ---------------------------------------------------------------------

Tree = dict[str, "Tree | tuple[Cid, int]"]


def _nested(nodes: Sequence[object]) -> Tree:
    """Files by their places. LocalError for a path twice, or one that is no path."""
    root: Tree = {}
    for node in map(fields, nodes):
        *above, name = str(node.get("path") or "").split("/")
        if len(above) > DEPTH:
            raise LocalError(f"{node['path']!r:.80} is nested deeper than {DEPTH} folders.", "too_large")
        place = root
        for folder in above:
            inner = place.setdefault(unixfs.check_name(folder), {})
            if not isinstance(inner, dict):
                raise LocalError(f"{folder!r} is a file and a folder at once.", "bad_args")
            place = inner
        unixfs.check_name(name)
        if node.get("cid") is None:
            place.setdefault(name, {})
        elif name in place:
            raise LocalError(f"Two files are named {node['path']!r}; a folder takes one of them.", "bad_args")
        else:
            place[name] = _leaf(node)
    return root


def _leaf(node: Args) -> tuple[Cid, int]:
    size = node.get("tsize")
    if type(size) is not int or size < 0:
        raise LocalError(f"tsize is the size that put.end told, not {size!r:.80}.", "bad_args")
    return read_cid(node["cid"]), size


def _build(folder: Tree, blocks: list[Block]) -> tuple[Cid, int]:
    """The CID and size of a folder; its blocks are added, inner ones first."""
    entries = []
    for name, inner in folder.items():
        cid, tsize = inner if isinstance(inner, tuple) else _build(inner, blocks)
        entries.append(unixfs.Entry(name, cid, tsize))
    cid, tsize, made = unixfs.build_directory(entries)
    blocks += made
    return cid, tsize
