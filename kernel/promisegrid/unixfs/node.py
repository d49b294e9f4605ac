"""One UnixFS block: a piece of a file, a folder, a shard of a large folder, or a symbolic link.

`parse` turns a block into one of four values and promises that what it says about itself is consistent: sizes
add up, names are names and there is one of each. `write_*` make the blocks of the `unixfs-v1-2025` profile.
Modes and times are read over and never written. Where blocks come from this file does not know.
(Source: specs.ipfs.tech/unixfs, IPIP-499.)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from promisegrid import dagpb, protobuf, varint
from promisegrid.block import Block
from promisegrid.cid import DAG_PB, RAW, Cid
from promisegrid.dagpb import Link, Node

_RAW, _DIRECTORY, _FILE, _SYMLINK, _SHARD = 0, 1, 2, 4, 5
MURMUR: Final = 0x22
"""The multicodec number of the hash that shards use: murmur3, 64 bits."""
SYMLINK_MAX: Final = 4096
"""Bytes of a link's target, as most systems allow."""


class UnixFsError(ValueError):
    """Not a file or folder, or one that contradicts itself; the text says what and where."""


@dataclass(frozen=True, slots=True)
class File:
    """A file or a piece of one: `data`, then the content of each part. `size` is that of all of it.

    parts: (CID, bytes of the file below it) in order.
    """

    size: int
    data: bytes = b""
    parts: tuple[tuple[Cid, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a folder. `tsize`: what its writer says it weighs with all its blocks, in bytes."""

    name: str
    cid: Cid
    tsize: int = 0


@dataclass(frozen=True, slots=True)
class Directory:
    """A folder in one block. `entries` are sorted by the bytes of their names."""

    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class HamtShard:
    """One node of a folder spread over many blocks: by slot, either an entry or the shard below.

    bits: how many bits of a name's hash choose the slot.
    """

    bits: int
    entries: tuple[tuple[int, Entry], ...] = ()
    shards: tuple[tuple[int, Cid], ...] = ()


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link; `target` is as its maker wrote it, and need not exist."""

    target: bytes


Item = File | Directory | HamtShard | Symlink


def check_name(name: str) -> str:
    """The name itself when a folder may hold it. UnixFsError for "", ".", "..", or "/" or NUL in it."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UnixFsError(f"{name!r} cannot be a name in a folder")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UnixFsError(f"{name!r} cannot be a name in a folder: it is not UTF-8") from error
    return name


def parse(cid: Cid, data: bytes) -> Item:
    """What a block is. The caller has checked that `cid` holds `data`. Raises `UnixFsError`."""
    if cid.codec == RAW:
        return File(len(data), data)
    if cid.codec != DAG_PB:
        raise UnixFsError(f"{cid} is not a file or folder: its codec is {cid.codec_name}")
    try:
        node = dagpb.decode(data)
        message = _Message.read(node.data)
        if message.kind in (_FILE, _RAW):
            return _file(message, node)
        if message.kind == _DIRECTORY:
            return Directory(_unique([_entry(link, 0) for link in node.links]))
        if message.kind == _SHARD:
            return _shard(message, node)
        if message.kind == _SYMLINK and not node.links and len(message.data) <= SYMLINK_MAX:
            return Symlink(message.data)
    except (dagpb.DagPbError, protobuf.ProtobufError, varint.VarintError, UnixFsError) as error:
        raise UnixFsError(f"{cid} is not a file or folder: {error}") from error
    raise UnixFsError(f"{cid} is not a file or folder: UnixFS type {message.kind} is not read")


@dataclass(frozen=True, slots=True)
class _Message:
    """UnixFS's own protobuf message within a node."""

    kind: int
    data: bytes
    filesize: int | None
    blocksizes: tuple[int, ...]
    hash_type: int | None
    fanout: int | None

    @classmethod
    def read(cls, data: bytes | None) -> _Message:
        numbers: dict[int, int] = {}
        runs: dict[int, bytes] = {}
        sizes: list[int] = []
        for field, value in protobuf.fields(data or b""):
            if field == 4:
                sizes.extend([value] if isinstance(value, int) else _packed(value))
            elif isinstance(value, int):
                numbers[field] = value
            else:
                runs[field] = value
        if 1 not in numbers:
            raise UnixFsError("a node without a UnixFS type")
        return cls(
            numbers[1], runs.get(2, b""), numbers.get(3), tuple(sizes), numbers.get(5), numbers.get(6)
        )


def _packed(data: bytes) -> list[int]:
    """Varints one after another: what some writers make of a repeated field."""
    at, out = 0, []
    while at < len(data):
        value, at = varint.decode(data, at)
        out.append(value)
    return out


def _file(message: _Message, node: Node) -> File:
    if len(message.blocksizes) != len(node.links):
        raise UnixFsError(f"{len(node.links)} parts with {len(message.blocksizes)} sizes")
    size = len(message.data) + sum(message.blocksizes)
    if message.filesize is not None and message.filesize != size:
        raise UnixFsError(f"it says {message.filesize} bytes and its parts have {size}")
    cids = (link.cid for link in node.links)
    return File(size, message.data, tuple(zip(cids, message.blocksizes, strict=True)))


def _entry(link: Link, skip: int) -> Entry:
    return Entry(check_name((link.name or "")[skip:]), link.cid, link.tsize or 0)


def _unique(entries: list[Entry]) -> tuple[Entry, ...]:
    entries.sort(key=lambda entry: entry.name.encode())
    for one, other in pairwise(entries):
        if one.name == other.name:
            raise UnixFsError(f"the name {one.name!r} is there twice")
    return tuple(entries)


def _shard(message: _Message, node: Node) -> HamtShard:
    fanout = message.fanout or 0
    bits = fanout.bit_length() - 1
    if message.hash_type != MURMUR or not 3 <= bits <= 10 or fanout != 1 << bits:
        raise UnixFsError(f"a sharded folder with hash {message.hash_type} and fanout {fanout}")
    width = len(f"{fanout - 1:X}")
    entries: list[tuple[int, Entry]] = []
    shards: list[tuple[int, Cid]] = []
    slots: set[int] = set()
    for link in node.links:
        label = (link.name or "")[:width]
        if len(label) != width or label.strip("0123456789ABCDEF"):
            raise UnixFsError(f"a sharded folder with the label {link.name!r}")
        slot = int(label, 16)
        if slot in slots or slot >= fanout:
            raise UnixFsError(f"a sharded folder with slot {label} twice or out of range")
        slots.add(slot)
        if link.name == label:
            shards.append((slot, link.cid))
        else:
            entries.append((slot, _entry(link, width)))
    return HamtShard(bits, tuple(entries), tuple(shards))


def write_file(parts: list[tuple[Cid, int, int]]) -> Block:
    """The block above the parts of a file: (CID, bytes of the file below it, its tsize) in order."""
    message = [protobuf.number(1, _FILE), protobuf.number(3, sum(size for _, size, _ in parts))]
    message.extend(protobuf.number(4, size) for _, size, _ in parts)
    links = tuple(Link(cid, "", tsize) for cid, _, tsize in parts)
    return _block(b"".join(message), links)


def write_directory(entries: list[Entry]) -> Block:
    """The block of a folder that fits one. Raises `UnixFsError` for bad or repeated names."""
    checked = _unique([Entry(check_name(entry.name), entry.cid, entry.tsize) for entry in entries])
    links = tuple(Link(entry.cid, entry.name, entry.tsize) for entry in checked)
    return _block(protobuf.number(1, _DIRECTORY), links)


def write_shard(bits: int, slots: dict[int, Link]) -> Block:
    """The block of one shard: by slot a link, its name still without label ("" for a shard below)."""
    width = len(f"{(1 << bits) - 1:X}")
    field = sum(1 << slot for slot in slots)
    message = (
        protobuf.number(1, _SHARD)
        + protobuf.run(2, field.to_bytes((field.bit_length() + 7) // 8, "big"))
        + protobuf.number(5, MURMUR)
        + protobuf.number(6, 1 << bits)
    )
    named = (Link(link.cid, f"{slot:0{width}X}{link.name}", link.tsize) for slot, link in slots.items())
    return _block(message, tuple(named))


def write_symlink(target: bytes) -> Block:
    """The block of a symbolic link."""
    if not 0 < len(target) <= SYMLINK_MAX:
        raise UnixFsError(f"a link's target of {len(target)} bytes; 1 to {SYMLINK_MAX} are possible")
    return _block(protobuf.number(1, _SYMLINK) + protobuf.run(2, target), ())


def _block(message: bytes, links: tuple[Link, ...]) -> Block:
    return Block.of(dagpb.encode(Node(message, links)), DAG_PB)
