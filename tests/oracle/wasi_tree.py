"""The oracle's files: nodes, and from a path to the place it names. Half of the readable specification of
`kernel/wasi` (tree.c, paths.c); the calls are in wasi_twin.py.

Promises: plain dictionaries and bytes, no cleverness: slow, and easy to check against the documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

DIRECTORY, FILE, SYMLINK = 3, 4, 7
NAME_MAX, PATH_MAX, LINKS_MAX = 255, 4095, 40
EXIST, ILSEQ, INVAL, LOOP, NAMETOOLONG, NOENT, NOTDIR, PERM = 20, 25, 28, 32, 37, 44, 54, 63


class Wrong(Exception):
    """A call answers with this errno, and has changed nothing."""

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


@dataclass(eq=False)
class Node:
    """A directory, file or symbolic link. Times are ns since 1970."""

    type: int
    inode: int
    times: list[int]  # accessed, modified, changed
    data: bytearray = field(default_factory=bytearray)
    entries: dict[bytes, Node] = field(default_factory=dict)
    parent: Node | None = None  # of a directory; None for the root and for one that was removed
    links: int = 0

    def listing(self) -> list[tuple[bytes, Node]]:
        return sorted(self.entries.items())

    def walk(self, prefix: bytes = b"") -> Iterator[tuple[bytes, Node]]:
        for name, node in self.entries.items():
            yield prefix + name, node
            yield from node.walk(prefix + name + b"/")


@dataclass
class Place:
    """Where a path leads: a name in a directory, and the node that is there, if any."""

    parent: Node
    name: bytes
    node: Node | None
    slashed: bool  # a "/" followed the last name

    @property
    def dots(self) -> bool:
        return self.name in (b".", b"..")


def check_text(text: bytes) -> bytes:
    """NUL is INVAL, anything but UTF-8 is ILSEQ."""
    if 0 in text:
        raise Wrong(INVAL)
    try:
        text.decode()
    except UnicodeDecodeError as error:
        raise Wrong(ILSEQ) from error
    return text


def check_path(path: bytes) -> bytes:
    """A path as given to a call, or a symbolic link's target: not empty, not too long, text, relative."""
    if not path:
        raise Wrong(NOENT)
    if len(path) > PATH_MAX:
        raise Wrong(NAMETOOLONG)
    if check_text(path).startswith(b"/"):
        raise Wrong(PERM)
    return path


def find(base: Node, path: bytes, follow: bool) -> Place:
    """Look a checked path up. `base` is a wall: ".." there is PERM. Nothing at the last name is no error."""
    here, rest, links = base, path, 0
    while True:
        name, slash, after = rest.lstrip(b"/").partition(b"/")
        after = after.lstrip(b"/")
        last = not after
        if len(name) > NAME_MAX:
            raise Wrong(NAMETOOLONG)
        if name == b".":
            node: Node | None = here
        elif name == b"..":
            if here is base:
                raise Wrong(PERM)
            node = here.parent
        else:
            node = here.entries.get(name)
        if node is None:
            if last:
                return Place(here, name, None, bool(slash))
            raise Wrong(NOENT)
        if node.type == SYMLINK and (not last or follow or slash):
            links += 1
            target = bytes(node.data)
            if links > LINKS_MAX:
                raise Wrong(LOOP)
            rest = target + slash + after
            if len(rest) > PATH_MAX:
                raise Wrong(NAMETOOLONG)
            if target.startswith(b"/"):
                raise Wrong(PERM)
            continue
        if node.type != DIRECTORY and (not last or slash):
            raise Wrong(NOTDIR)
        if last:
            return Place(here, name, node, bool(slash))
        here, rest = node, after


def vacant(place: Place, root: Node) -> None:
    """Can a node be added there? Something there is EXIST; in a removed directory NOENT."""
    if place.node:
        raise Wrong(EXIST)
    if place.parent is not root and not place.parent.links:
        raise Wrong(NOENT)


def lies_within(node: Node | None, ancestor: Node) -> bool:
    while node is not None and node is not ancestor:
        node = node.parent
    return node is ancestor
