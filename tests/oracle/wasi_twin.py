"""WASI preview 1 in memory, in Python: the readable specification of `kernel/wasi`, and its test oracle.

    twin = Twin(job, memory)          # the same job blob; `memory` is the program's, a bytearray
    twin.call("fd_write", 1, 0, 1, 8) # → errno; raises Ended where the module traps
    twin.result()                     # the same result blob

Laws: a call checks the descriptor, counts, every pointer, the other arguments, then the tree; nothing has
changed when it returns an errno; what cannot be answered truthfully ends the program.
"""

from __future__ import annotations

import struct

from tests.oracle.wasi_descriptors import (
    BADF,
    CHANGED,
    EXITED,
    M64,
    NOTSUP,
    READ,
    START_NS,
    STEP_NS,
    WRITE,
    Descriptor,
    Descriptors,
    Ended,
)
from tests.oracle.wasi_tree import (
    DIRECTORY,
    EXIST,
    FILE,
    INVAL,
    LOOP,
    NOENT,
    NOTDIR,
    PERM,
    SYMLINK,
    Node,
    Place,
    Wrong,
    check_path,
    find,
    lies_within,
    vacant,
)

BUSY, ISDIR, MFILE, NOTEMPTY, NOTSOCK = 10, 31, 33, 55, 57
CREAT, ODIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
CLOCKS, DESCRIPTORS_MAX, SUBSCRIPTIONS_MAX = 4, 4096, 1024
WAIT_CLOCK, WAIT_READ, WAIT_WRITE = 0, 1, 2


class Twin(Descriptors):
    """All 46 calls."""

    # ---- by path ----

    def path_create_directory(self, fd: int, path: int, size: int) -> None:
        self.directory(fd)
        self.need((path, size))
        place = self.look(fd, path, size)
        vacant(place, self.root)
        self.add(place, self.new(DIRECTORY))

    def path_filestat_get(self, fd: int, flags: int, path: int, size: int, at: int) -> None:
        self.directory(fd)
        self.need((path, size), (at, 64))
        if flags >> 1:
            raise Wrong(INVAL)
        self.put_stat(at, there(self.look(fd, path, size, bool(flags))))

    def path_filestat_set_times(
        self, fd: int, flags: int, path: int, size: int, accessed: int, modified: int, which: int
    ) -> None:
        self.directory(fd)
        self.need((path, size))
        if flags >> 1:
            raise Wrong(INVAL)
        self.check_times(which)
        self.set_times(there(self.look(fd, path, size, bool(flags))), (accessed, modified), which)

    def path_link(
        self, old_fd: int, flags: int, old: int, old_size: int, new_fd: int, new: int, new_size: int
    ) -> None:
        bases = self.directory(old_fd), self.directory(new_fd)
        self.need((old, old_size), (new, new_size))
        if flags:
            raise Wrong(INVAL)
        old_path, new_path = check_path(self.get(old, old_size)), check_path(self.get(new, new_size))
        node = there(find(bases[0], old_path, False))
        if node.type == DIRECTORY:
            raise Wrong(PERM)
        place = find(bases[1], new_path, False)
        vacant(place, self.root)
        if place.slashed:
            raise Wrong(NOENT)
        self.add(place, node)
        node.times[2] = self.now()

    def path_open(
        self,
        fd: int,
        flags: int,
        path: int,
        size: int,
        oflags: int,
        rights: int,
        _inherited: int,
        fdflags: int,
        at: int,
    ) -> None:
        self.directory(fd)
        self.need((path, size), (at, 4))
        if flags >> 1 or oflags >> 4 or fdflags >> 5 or (oflags & CREAT and oflags & ODIRECTORY):
            raise Wrong(INVAL)
        exclusive = bool(oflags & CREAT and oflags & EXCL)
        place = self.look(fd, path, size, bool(flags) and not exclusive)
        node, granted = place.node, rights & (READ | WRITE)
        if node is None:
            self.check_new(place, oflags)
        else:
            check_existing(node, oflags, granted, exclusive)
        free = next((n for n in range(DESCRIPTORS_MAX) if n not in self.fds), None)
        if free is None:
            raise Wrong(MFILE)
        if node is None:
            node = self.new(FILE)
            self.add(place, node)
        elif oflags & TRUNC and node.data:
            node.data.clear()
            self.touch(node)
            self.flags |= CHANGED
        granted = 0 if node.type == DIRECTORY else granted or READ | WRITE
        self.fds[free] = Descriptor(node, node.type, granted, fdflags)
        self.put_number(at, free)

    def check_new(self, place: Place, oflags: int) -> None:
        if not oflags & CREAT:
            raise Wrong(NOENT)
        if place.slashed:
            raise Wrong(ISDIR)
        vacant(place, self.root)

    def path_readlink(self, fd: int, path: int, size: int, to: int, room: int, used_at: int) -> None:
        self.directory(fd)
        self.need((path, size), (to, room), (used_at, 4))
        node = there(self.look(fd, path, size))
        if node.type != SYMLINK:
            raise Wrong(INVAL)
        self.put(to, bytes(node.data[:room]))
        self.put_number(used_at, len(node.data[:room]))

    def path_remove_directory(self, fd: int, path: int, size: int) -> None:
        self.directory(fd)
        self.need((path, size))
        place = self.look(fd, path, size)
        node = there(place)
        if node.type != DIRECTORY:
            raise Wrong(NOTDIR)
        if place.name == b".":
            raise Wrong(INVAL)
        if place.name == b".." or node.entries:
            raise Wrong(NOTEMPTY)
        self.detach(place)

    def path_unlink_file(self, fd: int, path: int, size: int) -> None:
        self.directory(fd)
        self.need((path, size))
        place = self.look(fd, path, size)
        if there(place).type == DIRECTORY:
            raise Wrong(ISDIR)
        self.detach(place)

    def path_symlink(self, target: int, target_size: int, fd: int, path: int, size: int) -> None:
        self.directory(fd)
        self.need((target, target_size), (path, size))
        data = check_path(self.get(target, target_size))
        place = self.look(fd, path, size)
        vacant(place, self.root)
        if place.slashed:
            raise Wrong(NOENT)
        self.add(place, self.new(SYMLINK, data), len(data))

    def path_rename(self, old_fd: int, old: int, old_size: int, new_fd: int, new: int, new_size: int) -> None:
        bases = self.directory(old_fd), self.directory(new_fd)
        self.need((old, old_size), (new, new_size))
        old_path, new_path = check_path(self.get(old, old_size)), check_path(self.get(new, new_size))
        source, target = find(bases[0], old_path, False), find(bases[1], new_path, False)
        if source.dots or target.dots:
            raise Wrong(BUSY)
        moved = there(source)
        if moved is target.node:
            return
        self.check_replace(moved, target)
        if target.node:
            self.detach(target)
        self.attach(target, self.detach(source))

    def check_replace(self, moved: Node, target: Place) -> None:
        directory, there_is = moved.type == DIRECTORY, target.node
        if there_is and directory and there_is.type != DIRECTORY:
            raise Wrong(NOTDIR)
        if there_is and not directory and there_is.type == DIRECTORY:
            raise Wrong(ISDIR)
        if not there_is and not directory and target.slashed:
            raise Wrong(NOTDIR)
        if directory and lies_within(target.parent, moved):
            raise Wrong(INVAL)
        if there_is and there_is.entries:
            raise Wrong(NOTEMPTY)
        if not there_is:
            vacant(target, self.root)

    # ---- arguments, environment, clocks, randomness ----

    def texts(self, texts: list[bytes], pointers: int, buffer: int) -> None:
        self.need((pointers, 4 * len(texts)), (buffer, sum(len(text) + 1 for text in texts)))
        for i, text in enumerate(texts):
            self.put_number(pointers + 4 * i, buffer)
            self.put(buffer, text + b"\0")
            buffer += len(text) + 1

    def sizes(self, texts: list[bytes], count_at: int, size_at: int) -> None:
        self.need((count_at, 4), (size_at, 4))
        self.put_number(count_at, len(texts))
        self.put_number(size_at, sum(len(text) + 1 for text in texts))

    def args_get(self, pointers: int, buffer: int) -> None:
        self.texts(self.args, pointers, buffer)

    def args_sizes_get(self, count_at: int, size_at: int) -> None:
        self.sizes(self.args, count_at, size_at)

    def environ_get(self, pointers: int, buffer: int) -> None:
        self.texts(self.environ, pointers, buffer)

    def environ_sizes_get(self, count_at: int, size_at: int) -> None:
        self.sizes(self.environ, count_at, size_at)

    def check_clock(self, clock: int, at: int) -> None:
        self.need((at, 8))
        if clock >= CLOCKS:
            raise Wrong(INVAL)

    def clock_res_get(self, clock: int, at: int) -> None:
        self.check_clock(clock, at)
        self.put_number(at, STEP_NS, 8)

    def clock_time_get(self, clock: int, _precision: int, at: int) -> None:
        self.check_clock(clock, at)
        self.clock = (self.clock + STEP_NS) & M64
        self.put_number(at, self.clock if clock else self.now(), 8)

    def random_get(self, at: int, size: int) -> None:
        self.need((at, size))
        words = [self.next_word() for _ in range((size + 3) // 4)]
        self.put(at, struct.pack(f"<{len(words)}I", *words)[:size])

    # ---- waiting ----

    def poll_oneoff(self, start: int, out: int, count: int, count_at: int) -> None:
        if not 1 <= count <= SUBSCRIPTIONS_MAX:
            raise Wrong(INVAL)
        self.need((start, 48 * count), (out, 32 * count), (count_at, 4))
        waits = [self.get(start + 48 * i, 48) for i in range(count)]
        if any(wait[8] > WAIT_WRITE for wait in waits):
            raise Wrong(INVAL)
        answers = [self.ready(wait) for wait in waits]
        if all(deadline is not None for deadline, _, _ in answers):
            self.clock = max(self.clock, min(deadline or 0 for deadline, _, _ in answers))
        events = 0
        for wait, (deadline, errno, size) in zip(waits, answers, strict=True):
            if deadline is None or deadline <= self.clock:
                event = wait[:8] + struct.pack("<HB5xQQ", errno, wait[8], size, 0)
                self.put(out + 32 * events, event)
                events += 1
        self.put_number(count_at, events)

    def ready(self, wait: bytes) -> tuple[int | None, int, int]:
        """(when, on our clock, or None for at once; errno; bytes to read)."""
        clock, timeout, _, flags = struct.unpack("<I4xQQH", wait[16:42])
        if wait[8] == WAIT_CLOCK:
            if clock >= CLOCKS or flags > 1:
                return None, INVAL, 0
            if not flags:
                return min(self.clock + timeout, M64), 0, 0
            return max(0, timeout - (0 if clock else START_NS)), 0, 0
        try:
            found = self.file(clock, READ if wait[8] == WAIT_READ else WRITE)
        except Wrong as wrong:
            return None, wrong.errno, 0
        left = len(found.node.data) - found.offset if wait[8] == WAIT_READ else 0
        return None, 0, max(0, left)

    # ---- the end, and what there is none of ----

    def proc_exit(self, code: int) -> None:
        self.flags |= EXITED
        self.code = code
        raise Ended

    def proc_raise(self, _signal: int) -> None:
        raise Wrong(NOTSUP)

    def sched_yield(self) -> None:
        """Nobody else is waiting."""

    def no_socket(self, fd: int, *_: int) -> None:
        raise Wrong(NOTSOCK if fd in self.fds else BADF)

    sock_accept = sock_recv = sock_send = sock_shutdown = no_socket


def there(place: Place) -> Node:
    """The node a path led to. NOENT if there is none."""
    if place.node is None:
        raise Wrong(NOENT)
    return place.node


def check_existing(node: Node, oflags: int, granted: int, exclusive: bool) -> None:
    if exclusive:
        raise Wrong(EXIST)
    if node.type == DIRECTORY:
        if oflags & (CREAT | TRUNC) or granted & WRITE:
            raise Wrong(ISDIR)
    elif oflags & ODIRECTORY:
        raise Wrong(NOTDIR)
    elif node.type == SYMLINK:
        raise Wrong(LOOP)
