"""Scenario trees (seed 001, sections 3, 4 and 6): what may come of what, how likely, and what that is worth.

A branch is `[42(event), 42(state), probability, weight, [branch…]]`: probability is a uint16 where 65535 is
1, weight a uint16 where 8192 is 1 (Q13), at most 16384. Siblings are sorted by the bytes of their event's
CID, then their state's, no two alike. A tree is one branch, at most 256 deep. It is read without recursion,
by a reader of its own: a general one would have to allow that depth everywhere.

Trust is moved by the Brier rule in integers, so that it comes out the same on every host.
(Source: docs/protocols/scenario-tree.md.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from promisegrid.cbor import byte_string, head
from promisegrid.cid import Cid, CidError
from promisegrid.errors import RemoteError

ONE: Final = 0xFFFF
"""Certainty, and full trust."""
WEIGHT_ONE: Final = 8192
WEIGHT_MAX: Final = 16_384
DEPTH_MAX: Final = 256
BRANCHES_MAX: Final = 4096
TREE_BYTES: Final = 1024 * 1024
_FIVE: Final = 0x85
_LINK: Final = b"\xd8\x2a"


@dataclass(frozen=True, slots=True)
class Branch:
    """One transition: the event, the state it leads to, how likely, how much it counts, what may follow."""

    event: Cid
    state: Cid
    probability: int
    weight: int
    branches: tuple[Branch, ...] = ()


def update_trust(prior: int, actual: int, predicted: int, weight: int) -> int:
    """Trust after an outcome: `prior · (1 - weight/8192 · ((actual - predicted)/65535)²)`, as a uint16.

    All arguments are uint16 (65535 is 1), the weight Q13 up to 16384. Computed exactly; a factor below zero
    counts as zero; rounded once, to the nearest, a half upwards. ValueError outside the ranges.
    """
    if not all(0 <= value <= ONE for value in (prior, actual, predicted)) or not 0 <= weight <= WEIGHT_MAX:
        raise ValueError("trust and probabilities are 0 to 65535, weights 0 to 16384")
    whole = WEIGHT_ONE * ONE * ONE
    factor = max(0, whole - weight * (actual - predicted) ** 2)
    return (2 * prior * factor + whole) // (2 * whole)


def encode(tree: Branch) -> bytes:
    """The bytes of a tree; siblings are sorted here. ValueError when it is none."""
    out: list[bytes] = []
    waiting: list[tuple[Branch, int]] = [(tree, 1)]
    while waiting:
        branch, depth = waiting.pop()
        if depth > DEPTH_MAX or not 0 <= branch.probability <= ONE or not 0 <= branch.weight <= WEIGHT_MAX:
            raise ValueError("a branch is too deep, or its probability or weight is out of range")
        children = sorted(branch.branches, key=_order)
        out += (bytes((_FIVE,)), _link(branch.event), _link(branch.state))
        out += (head(0, branch.probability), head(0, branch.weight), head(4, len(children)))
        waiting.extend((child, depth + 1) for child in reversed(children))
    return b"".join(out)


def read(data: bytes) -> Branch:
    """A tree from its bytes. RemoteError: too_large, bad_tree."""
    if len(data) > TREE_BYTES:
        raise RemoteError("too_large", f"A scenario tree has at most {TREE_BYTES} bytes, not {len(data)}.")
    reader = _Reader(data)
    tree = reader.tree()
    if reader.at != len(data):
        raise RemoteError("bad_tree", "There are bytes after the scenario tree.")
    return tree


def measure(tree: Branch) -> tuple[int, int]:
    """How many branches a tree has, and how deep it is."""
    count, deepest, waiting = 0, 0, [(tree, 1)]
    while waiting:
        branch, depth = waiting.pop()
        count, deepest = count + 1, max(deepest, depth)
        waiting.extend((child, depth + 1) for child in branch.branches)
    return count, deepest


def _order(branch: Branch) -> tuple[bytes, bytes]:
    return branch.event.encoded, branch.state.encoded


def _link(cid: Cid) -> bytes:
    return _LINK + byte_string(b"\x00" + cid.encoded)


@dataclass(slots=True)
class _Open:
    """A branch whose children are being read."""

    event: Cid
    state: Cid
    probability: int
    weight: int
    left: int
    children: list[Branch]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.count = data, 0, 0

    def tree(self) -> Branch:
        """The branch here with all below it; the stack is a list, as deep as the tree."""
        stack = [self.opening()]
        while True:
            top = stack[-1]
            if top.left:
                top.left -= 1
                if len(stack) >= DEPTH_MAX:
                    raise RemoteError("bad_tree", f"A scenario tree deeper than {DEPTH_MAX} branches.")
                stack.append(self.opening())
                continue
            stack.pop()
            done = Branch(top.event, top.state, top.probability, top.weight, tuple(top.children))
            if not stack:
                return done
            siblings = stack[-1].children
            if siblings and _order(siblings[-1]) >= _order(done):
                raise RemoteError("bad_tree", "Siblings in a scenario tree are sorted, and no two are alike.")
            siblings.append(done)

    def opening(self) -> _Open:
        self.count += 1
        if self.count > BRANCHES_MAX:
            raise RemoteError("bad_tree", f"A scenario tree of more than {BRANCHES_MAX} branches.")
        if self.data[self.at : self.at + 1] != bytes((_FIVE,)):
            raise RemoteError("bad_tree", f"A branch is an array of five; byte {self.at} begins none.")
        self.at += 1
        event, state = self.link(), self.link()
        probability, weight = self.number(0, ONE), self.number(0, WEIGHT_MAX)
        return _Open(event, state, probability, weight, self.number(4, BRANCHES_MAX), [])

    def link(self) -> Cid:
        if self.data[self.at : self.at + 2] != _LINK:
            raise RemoteError("bad_tree", f"Event and state are links (tag 42); byte {self.at} begins none.")
        self.at += 2
        size = self.number(2, 160)
        content = self.data[self.at : self.at + size]
        self.at += size
        try:
            return Cid.decode(content[1:] if content[:1] == b"\x00" else content)
        except CidError as error:
            raise RemoteError("bad_tree", f"A link holds no CID: {error}.") from error

    def number(self, major: int, most: int) -> int:
        """The number in a head of that major type, in its shortest form."""
        first = self.data[self.at] if self.at < len(self.data) else 0xFF
        width = {24: 1, 25: 2, 26: 4}.get(first & 31, 0)
        text = self.data[self.at + 1 : self.at + 1 + width]
        value = int.from_bytes(text, "big") if width else first & 31
        if self.data[self.at : self.at + 1 + width] != head(major, value) or value > most:
            raise RemoteError("bad_tree", f"Byte {self.at} of a scenario tree is no number up to {most}.")
        self.at += 1 + width
        return value
