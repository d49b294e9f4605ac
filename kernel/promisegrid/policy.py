"""Argument policies: small rules about the arguments of a call, for promises.

A rule is `(path, op, value)`. The path leads from the list of arguments to one value: positions in lists and
keys in maps. A policy is a list of rules that must all hold, so a longer policy only ever promises less.

Reading a policy may fail (`PolicyError`). Asking whether it holds never does: it is total, and its work is
bounded by the size of the policy, however large the arguments are, since whoever delegates a promise to
himself writes policies as he likes. A path that leads nowhere, or two values that cannot be
compared, make a rule false, `!=` too: what is not understood is not promised.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from promisegrid.cid import Cid

OPS: Final = ("==", "!=", "<", "<=", ">", ">=", "in", "like", "type")
RULES_MAX: Final = 32
"""Rules of one promise: each costs a look at the arguments for every call."""
PATH_MAX: Final = 8
TYPES: Final[dict[str, type]] = {
    "null": type(None),
    "bool": bool,
    "int": int,
    "float": float,
    "text": str,
    "bytes": bytes,
    "list": list,
    "map": dict,
    "link": Cid,
}


_SCALARS: Final = frozenset({type(None), bool, int, str, bytes, Cid})
_WRITTEN: Final = frozenset({*TYPES.values(), tuple})


class PolicyError(ValueError):
    """Not a policy; the text says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule about the value that `path` leads to."""

    path: tuple[int | str, ...]
    op: str
    value: Any

    def holds(self, args: Sequence[object]) -> bool:
        """Whether the arguments follow it. Never raises."""
        path = self.path
        if len(path) == 1 and type(path[0]) is int:
            found = path[0] < len(args)
            return found and _compare(args[path[0]], self.op, self.value)
        found, at = _follow(args, path)
        return found and _compare(at, self.op, self.value)

    def plain(self) -> list[Any]:
        """As it is written in a promise: [position or path, op, value]."""
        path: Any = self.path[0] if len(self.path) == 1 else list(self.path)
        return [path, self.op, self.value]


def read(value: object) -> tuple[Rule, ...]:
    """The rules in plain data. A selector is a position, a path, or text such as "0" or "0.width"."""
    if not isinstance(value, list | tuple) or len(value) > RULES_MAX:
        raise PolicyError(f"a policy is a list of at most {RULES_MAX} rules")
    return tuple(_rule(item) for item in value)


def _rule(item: object) -> Rule:
    if not isinstance(item, list | tuple) or len(item) != 3:
        raise PolicyError("a rule is [selector, operator, value]")
    selector, op, value = item
    if not isinstance(op, str) or op not in OPS:
        raise PolicyError(f"the operator of a rule is one of {' '.join(OPS)}")
    path = _path(selector)
    if op == "like" and not isinstance(value, str):
        raise PolicyError("like compares with text, in which * stands for anything")
    if op == "in" and not isinstance(value, list | tuple):
        raise PolicyError("in compares with a list")
    if op == "type" and (not isinstance(value, str) or value not in TYPES):
        raise PolicyError(f"a type is one of {' '.join(TYPES)}")
    return Rule(path, op, list(value) if isinstance(value, tuple) else value)


def _path(selector: object) -> tuple[int | str, ...]:
    parts: list[Any] = [selector]
    if isinstance(selector, str):
        parts = [int(part) if part.isdecimal() and len(part) < 7 else part for part in selector.split(".")]
    elif isinstance(selector, list | tuple):
        parts = list(selector)
    good = 0 < len(parts) <= PATH_MAX and type(parts[0]) is int
    if not good or not all(type(part) in (int, str) for part in parts):
        raise PolicyError("a selector is the position of an argument, or a path that begins with one")
    if any(type(part) is int and not 0 <= part < 1 << 20 for part in parts):
        raise PolicyError("positions count from 0")
    return tuple(parts)


def _follow(args: Sequence[object], path: tuple[int | str, ...]) -> tuple[bool, object]:
    at: object = args
    for part in path:
        listed = isinstance(at, list | tuple) and type(part) is int and part < len(at)
        mapped = isinstance(at, dict) and type(part) is str and part in at
        if not listed and not mapped:
            return False, None
        within: Any = at
        at = within[part]
    return True, at


def _compare(at: object, op: str, value: Any) -> bool:
    if op in ("==", "!="):
        same = _same(at, value)
        return same is not None and same is (op == "==")
    if op == "in":
        return any(_same(at, one) for one in value)
    if op == "type":
        kind = TYPES[value]
        return isinstance(at, list | tuple) if kind is list else type(at) is kind
    if op == "like":
        return type(at) is str and _like(at, value)
    return _ordered(at, op, value)


def _same(one: object, other: object) -> bool | None:
    """Whether two values are written alike (1, 1.0 and true all differ); None when one cannot be written.

    It looks at no more of one than there is of the other.
    """
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and _all_same(zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and _all_same((one[key], other[key]) for key in other)
    if isinstance(one, float) and isinstance(other, float):
        written = math.isfinite(one) and math.isfinite(other)
        return struct.pack(">d", one) == struct.pack(">d", other) if written else None
    if type(one) is type(other) and type(one) in _SCALARS:
        return one == other
    return False if type(one) in _WRITTEN and type(other) in _WRITTEN else None


def _all_same(pairs: Iterable[tuple[object, object]]) -> bool | None:
    return next((same for one, other in pairs if (same := _same(one, other)) is not True), True)


def _ordered(at: Any, op: str, value: Any) -> bool:
    numbers = type(at) in (int, float) and type(value) in (int, float)
    if not numbers and not (type(at) is type(value) and type(at) in (str, bytes)):
        return False
    if op == "<":
        return bool(at < value)
    if op == "<=":
        return bool(at <= value)
    return bool(at > value) if op == ">" else bool(at >= value)


def _like(text: str, pattern: str) -> bool:
    """Whether text fits a pattern in which * stands for any text, the empty one too."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == first
    *middle, last = rest
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True
