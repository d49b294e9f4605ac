"""The oracle's job, result, memory and descriptors; part of the readable specification of `kernel/wasi`
(job.c, descriptors.c, calls_descriptors.c). wasi_twin.py adds the calls by path and the others.

Does not know: out of memory (it has as much as Python has).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.oracle.wasi_tree import (
    DIRECTORY,
    FILE,
    INVAL,
    NAMETOOLONG,
    NOTDIR,
    SYMLINK,
    Node,
    Place,
    Wrong,
    check_path,
    find,
)

BADF, FAULT, FBIG, NOTSUP, SPIPE = 8, 21, 22, 58, 70
READ, WRITE = 1 << 1, 1 << 6
APPEND, NONBLOCK = 1, 4
EXITED, OUTPUT, CHANGED = 1, 2, 8
FILE_MAX, ENTRY_COST, VECTORS_MAX = 1 << 31, 64, 1024
START_NS, STEP_NS = 946_684_800 * 10**9, 1000
M32, M64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
TYPES = (DIRECTORY, FILE, SYMLINK)


class Ended(Exception):
    """The program is over: proc_exit, or more output than the job allows."""


@dataclass(eq=False)
class Descriptor:
    node: Node
    type: int  # 0 for the three standard streams
    rights: int = 0
    flags: int = 0
    preopened: bool = False
    offset: int = 0
    dirents: list[bytes] | None = None  # fd_readdir's snapshot


class Reader:
    """Little-endian fields, one after another."""

    def __init__(self, blob: bytes) -> None:
        self.blob, self.at = blob, 0

    def take(self, size: int) -> bytes:
        self.at += size
        assert self.at <= len(self.blob), "the blob is cut off"
        return self.blob[self.at - size : self.at]

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self) -> bytes:
        return self.take(self.number())


class Descriptors:
    """One program's world, and what it can do with what is open."""

    def __init__(self, job: bytes, memory: bytearray) -> None:
        self.memory, self.clock, self.inodes, self.flags, self.code = memory, 0, 0, 0, 0
        reader = Reader(job)
        assert reader.take(4) == b"PGJ1"
        seed = struct.unpack("<8I", reader.take(32))
        self.random: list[int] = [a ^ b for a, b in zip(seed[:4], seed[4:], strict=True)]
        for _ in range(12):
            self.next_word()
        self.output_left = reader.number(8)
        self.result_max = len(job) + self.output_left
        self.args = [reader.text() for _ in range(reader.number())]
        self.environ = [reader.text() for _ in range(reader.number())]
        stdin = Node(FILE, 0, [0] * 3, bytearray(reader.text()))
        self.out, self.err = (Node(FILE, 0, [0] * 3) for _ in range(2))
        self.root = self.new(DIRECTORY)
        self.root.links = 1
        for _ in range(reader.number()):
            kind, path, data = reader.number(1), reader.text(), reader.text()
            place = find(self.root, path, False)
            self.attach(place, self.new(TYPES[kind], data))
        streams = Descriptor(stdin, 0, READ), Descriptor(self.out, 0, WRITE), Descriptor(self.err, 0, WRITE)
        root = Descriptor(self.root, DIRECTORY, preopened=True)
        self.fds: dict[int, Descriptor] = dict(enumerate((*streams, root)))

    def call(self, name: str, *args: int) -> int:
        """One call by name. Returns its errno."""
        function: Callable[..., None] = getattr(self, name)
        try:
            function(*args)
        except Wrong as wrong:
            return wrong.errno
        return 0

    def result(self) -> bytes:
        """What is handed back: flags, exit code, streams; every node if any changed and they fit."""
        with_tree = self.flags & CHANGED and not self.flags & OUTPUT
        nodes = sorted(self.root.walk()) if with_tree else []
        streams = 24 + len(self.out.data) + len(self.err.data)
        if streams + sum(9 + len(path) + len(node.data) for path, node in nodes) > self.result_max:
            self.flags |= OUTPUT
            nodes = []
        out = [b"PGR1", struct.pack("<II", self.flags, self.code), run(self.out.data), run(self.err.data)]
        out.append(struct.pack("<I", len(nodes)))
        out += [bytes([TYPES.index(node.type)]) + run(path) + run(node.data) for path, node in nodes]
        return b"".join(out)

    def next_word(self) -> int:
        """sfc32 (Chris Doty-Humphrey, PractRand)."""
        a, b, c, d = self.random
        word: int = (a + b + d) & M32
        self.random = [b ^ b >> 9, (c + (c << 3)) & M32, ((c << 21 | c >> 11) + word) & M32, (d + 1) & M32]
        return word

    # ---- the program's memory ----

    def need(self, *spans: tuple[int, int]) -> None:
        if any(at + size > len(self.memory) for at, size in spans):
            raise Wrong(FAULT)

    def get(self, at: int, size: int) -> bytes:
        return bytes(self.memory[at : at + size])

    def put(self, at: int, data: bytes) -> None:
        self.memory[at : at + len(data)] = data

    def put_number(self, at: int, value: int, size: int = 4) -> None:
        self.put(at, value.to_bytes(size, "little"))

    # ---- tree and descriptors ----

    def now(self) -> int:
        return (START_NS + self.clock) & M64

    def new(self, kind: int, data: bytes = b"") -> Node:
        self.inodes += 1
        return Node(kind, self.inodes, [self.now()] * 3, bytearray(data))

    def touch(self, node: Node) -> None:
        node.times[1:] = [self.now()] * 2

    def attach(self, place: Place, node: Node) -> None:
        place.parent.entries[place.name] = node
        node.links += 1
        if node.type == DIRECTORY:
            node.parent = place.parent
        self.touch(place.parent)

    def add(self, place: Place, node: Node, more: int = 0) -> None:
        self.charge(ENTRY_COST + len(place.name) + more)
        self.attach(place, node)
        self.flags |= CHANGED

    def detach(self, place: Place) -> Node:
        node = place.parent.entries.pop(place.name)
        node.links -= 1
        node.parent = None
        node.times[2] = self.now()
        self.touch(place.parent)
        self.flags |= CHANGED
        return node

    def charge(self, size: int) -> None:
        if size > self.output_left:
            self.flags |= OUTPUT
            raise Ended
        self.output_left -= size

    def any(self, fd: int) -> Descriptor:
        if fd not in self.fds:
            raise Wrong(BADF)
        return self.fds[fd]

    def file(self, fd: int, rights: int = 0) -> Descriptor:
        found = self.any(fd)
        if found.type == DIRECTORY or found.rights & rights != rights:
            raise Wrong(BADF)
        return found

    def seekable(self, fd: int, rights: int = 0) -> Descriptor:
        if self.file(fd).type == 0:
            raise Wrong(SPIPE)
        return self.file(fd, rights)

    def directory(self, fd: int) -> Node:
        if self.any(fd).type != DIRECTORY:
            raise Wrong(NOTDIR)
        return self.fds[fd].node

    def look(self, fd: int, path: int, size: int, follow: bool = False) -> Place:
        base = self.directory(fd)
        return find(base, check_path(self.get(path, size)), follow)

    # ---- descriptors: reading and writing ----

    def vectors(self, at: int, count: int, sum_at: int) -> list[tuple[int, int]]:
        if count > VECTORS_MAX:
            raise Wrong(INVAL)
        self.need((at, 8 * count), (sum_at, 4))
        spans = [struct.unpack("<II", self.get(at + 8 * i, 8)) for i in range(count)]
        self.need(*spans)
        return spans

    def scatter(self, node: Node, offset: int, spans: list[tuple[int, int]], sum_at: int) -> int:
        start = offset
        for at, size in spans:
            part = bytes(node.data[offset : offset + size])
            self.put(at, part)
            offset += len(part)
        self.put_number(sum_at, offset - start)
        return offset

    def gather(self, found: Descriptor, offset: int, spans: list[tuple[int, int]], sum_at: int) -> int:
        node, data = found.node, b"".join(self.get(*span) for span in spans)
        end = offset + len(data)
        if data:
            if end > FILE_MAX:
                raise Wrong(FBIG)
            self.charge(max(0, end - len(node.data)))
            node.data.extend(bytes(max(0, offset - len(node.data))))
            node.data[offset:end] = data
            self.touch(node)
            self.flags |= CHANGED if found.type else 0
        self.put_number(sum_at, len(data))
        return end

    def fd_read(self, fd: int, at: int, count: int, sum_at: int) -> None:
        found = self.file(fd, READ)
        found.offset = self.scatter(found.node, found.offset, self.vectors(at, count, sum_at), sum_at)

    def fd_pread(self, fd: int, at: int, count: int, offset: int, sum_at: int) -> None:
        found = self.seekable(fd, READ)
        spans = self.vectors(at, count, sum_at)
        if offset >> 63:
            raise Wrong(INVAL)
        self.scatter(found.node, offset, spans, sum_at)

    def fd_write(self, fd: int, at: int, count: int, sum_at: int) -> None:
        found = self.file(fd, WRITE)
        spans = self.vectors(at, count, sum_at)
        at_end = found.type == 0 or found.flags & APPEND
        offset = len(found.node.data) if at_end else found.offset
        found.offset = self.gather(found, offset, spans, sum_at)

    def fd_pwrite(self, fd: int, at: int, count: int, offset: int, sum_at: int) -> None:
        found = self.seekable(fd, WRITE)
        spans = self.vectors(at, count, sum_at)
        if offset >> 63:
            raise Wrong(INVAL)
        self.gather(found, offset, spans, sum_at)

    def fd_seek(self, fd: int, by: int, whence: int, at: int) -> None:
        found = self.seekable(fd)
        self.need((at, 8))
        if whence > 2:
            raise Wrong(INVAL)
        by = by - (1 << 64) if by >> 63 else by
        offset = (0, found.offset, len(found.node.data))[whence] + by
        if not 0 <= offset < 1 << 63:
            raise Wrong(INVAL)
        found.offset = offset
        self.put_number(at, offset, 8)

    def fd_tell(self, fd: int, at: int) -> None:
        found = self.seekable(fd)
        self.need((at, 8))
        self.put_number(at, found.offset, 8)

    def fd_advise(self, fd: int, _offset: int, _size: int, advice: int) -> None:
        self.seekable(fd)
        if advice > 5:
            raise Wrong(INVAL)

    def fd_allocate(self, fd: int, _offset: int, _size: int) -> None:
        self.file(fd)
        raise Wrong(NOTSUP)

    def fd_sync(self, fd: int) -> None:
        self.any(fd)

    fd_datasync = fd_sync

    def fd_close(self, fd: int) -> None:
        self.any(fd)
        del self.fds[fd]

    def fd_renumber(self, source: int, target: int) -> None:
        self.any(source), self.any(target)
        self.fds[target] = self.fds[source]
        if source != target:
            del self.fds[source]

    def fd_readdir(self, fd: int, to: int, room: int, cookie: int, used_at: int) -> None:
        node, found = self.directory(fd), self.fds[fd]
        self.need((to, room), (used_at, 4))
        if cookie == 0 or found.dirents is None:
            entries = [(b".", node), (b"..", node.parent or node), *node.listing()]
            found.dirents = [
                struct.pack("<QQIB3x", i + 1, child.inode, len(name), child.type) + name
                for i, (name, child) in enumerate(entries)
            ]
        part = b"".join(found.dirents[cookie:])[:room]
        self.put(to, part)
        self.put_number(used_at, len(part))

    # ---- descriptors: what is known about them ----

    def fd_fdstat_get(self, fd: int, at: int) -> None:
        found = self.any(fd)
        self.need((at, 24))
        rights, inherited = found.rights | (0x08E001BD if found.type else 0x08200000), 0
        if found.type == DIRECTORY:
            rights, inherited = 0x07B7FE00, 0x0FF7FFFF
        self.put(at, struct.pack("<BxHxxxxQQ", found.type, found.flags, rights, inherited))

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        found = self.file(fd)
        if flags >> 5:
            raise Wrong(INVAL)
        if flags & ~(APPEND | NONBLOCK):
            raise Wrong(NOTSUP)
        found.flags = flags

    def fd_fdstat_set_rights(self, fd: int, _rights: int, _inherited: int) -> None:
        self.any(fd)
        raise Wrong(NOTSUP)

    def put_stat(self, at: int, node: Node) -> None:
        stat = struct.pack("<QQB7xQQ3Q", 1, node.inode, node.type, node.links, len(node.data), *node.times)
        self.put(at, stat)

    def fd_filestat_get(self, fd: int, at: int) -> None:
        found = self.any(fd)
        self.need((at, 64))
        if found.type:
            self.put_stat(at, found.node)
        else:
            self.put(at, bytes(64))

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        found = self.file(fd)
        if found.type == 0:
            raise Wrong(INVAL)
        self.file(fd, WRITE)
        if size > FILE_MAX:
            raise Wrong(FBIG)
        data = found.node.data
        if size == len(data):
            return
        self.charge(max(0, size - len(data)))
        data.extend(bytes(max(0, size - len(data))))
        del data[size:]
        self.touch(found.node)
        self.flags |= CHANGED

    def check_times(self, flags: int) -> None:
        if flags >> 4 or flags & 3 == 3 or flags & 12 == 12:
            raise Wrong(INVAL)

    def set_times(self, node: Node, times: tuple[int, int], flags: int) -> None:
        for i in (0, 1):
            if flags >> (2 * i) & 3:
                node.times[i] = times[i] if flags >> (2 * i) & 1 else self.now()
        node.times[2] = self.now()

    def fd_filestat_set_times(self, fd: int, accessed: int, modified: int, flags: int) -> None:
        found = self.any(fd)
        if found.type == 0:
            raise Wrong(BADF)
        self.check_times(flags)
        self.set_times(found.node, (accessed, modified), flags)

    def fd_prestat_get(self, fd: int, at: int) -> None:
        if not self.any(fd).preopened:
            raise Wrong(BADF)
        self.need((at, 8))
        self.put_number(at, 1 << 32, 8)

    def fd_prestat_dir_name(self, fd: int, at: int, room: int) -> None:
        if not self.any(fd).preopened:
            raise Wrong(BADF)
        self.need((at, room))
        if room < 1:
            raise Wrong(NAMETOOLONG)
        self.put(at, b"/")


def run(data: bytes | bytearray) -> bytes:
    """A length and that many bytes."""
    return struct.pack("<I", len(data)) + data
