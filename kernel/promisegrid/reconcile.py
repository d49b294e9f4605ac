"""What two sets differ in, found by exchanging little more than what they differ in.

Items are keys in byte order, a time first and a hash behind it. A range of keys has a *fingerprint*: how many
there are, and the sum of their hashes. Where two fingerprints differ the range is split and compared again,
until it is short enough to be listed, each key by a few bytes of its hash. (Source: A. Meyer, "Range-Based
Set Reconciliation", 2023.)

Whoever knows the keys beforehand can make different sets with one fingerprint; that keeps from him, and from
nobody else, what he could as well have kept to himself.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

TIME_BYTES: Final = 8
KEY_BYTES: Final = TIME_BYTES + 32
SHORT_BYTES: Final = 6
"""Of a key's hash, in a list: two of 64 keys are alike once in 10^11 lists, and then one is missed."""
BOUND_MAX: Final = KEY_BYTES + 1
_MASK: Final = (1 << 128) - 1
_STEP: Final = 256
Range = tuple[bytes, bytes]
"""(lower, upper): keys from `lower` on and below `upper`; an empty `upper` is the end of all."""
Print = tuple[int, bytes]
"""(count, sum): how many keys, and the sum of the first 16 bytes of their hashes."""
ALL: Final[Range] = (b"", b"")


def key_of(at_ms: int, digest: bytes) -> bytes:
    """The key of an item of that time (milliseconds since 1970) and hash (32 bytes)."""
    return at_ms.to_bytes(TIME_BYTES, "big") + digest


def short(key: bytes) -> bytes:
    """A key's name within a short range."""
    return key[TIME_BYTES : TIME_BYTES + SHORT_BYTES]


class Index:
    """A set of keys in order."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self.keys = sorted(set(keys))
        self._sums = [0]
        """Of the hashes of the first 0, 256, 512, … keys, as far as they were asked for."""

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, key: bytes) -> bool:
        at = bisect_left(self.keys, key)
        return at < len(self.keys) and self.keys[at] == key

    def add(self, key: bytes) -> bool:
        """Add a key; False when it was there."""
        at = bisect_left(self.keys, key)
        if at < len(self.keys) and self.keys[at] == key:
            return False
        self.keys.insert(at, key)
        del self._sums[at // _STEP + 1 :]
        return True

    def drop(self, key: bytes) -> None:
        """Remove a key, if it is there."""
        at = bisect_left(self.keys, key)
        if at < len(self.keys) and self.keys[at] == key:
            del self.keys[at]
            del self._sums[at // _STEP + 1 :]

    def drop_first(self, count: int) -> list[bytes]:
        """Remove the oldest keys."""
        gone = self.keys[:count]
        del self.keys[:count]
        del self._sums[1:]
        return gone

    def within(self, between: Range) -> Sequence[bytes]:
        """The keys of a range, in order."""
        first, last = self._at(between)
        return self.keys[first:last]

    def fingerprint(self, between: Range) -> Print:
        """A range's fingerprint."""
        first, last = self._at(between)
        return last - first, ((self._sum(last) - self._sum(first)) & _MASK).to_bytes(16, "big")

    def _sum(self, count: int) -> int:
        """Of the hashes of the first keys. Of many ranges asked for at once each costs little."""
        steps = count // _STEP
        while len(self._sums) <= steps:
            at = (len(self._sums) - 1) * _STEP
            self._sums.append(self._sums[-1] + _summed(self.keys[at : at + _STEP]))
        return self._sums[steps] + _summed(self.keys[steps * _STEP : count])

    def split(self, between: Range, parts: int) -> list[Range]:
        """A range in about so many, with about as many of these keys in each; at least two."""
        keys, (lower, upper) = self.within(between), between
        if len(keys) <= parts:
            bounds = [bound for key in keys for bound in (key, key + b"\0")]
            inner = [bound for bound in bounds if bound > lower and (not upper or bound < upper)]
        else:
            places = [len(keys) * n // parts for n in range(1, parts)]
            inner = [_between(max(keys[at - 1], lower), keys[at]) for at in places]
        return list(pairwise([lower, *inner, upper]))

    def _at(self, between: Range) -> tuple[int, int]:
        lower, upper = between
        first = bisect_left(self.keys, lower)
        return first, max(first, bisect_left(self.keys, upper) if upper else len(self.keys))


def _summed(keys: Sequence[bytes]) -> int:
    return sum(int.from_bytes(key[TIME_BYTES : TIME_BYTES + 16]) for key in keys)


def _between(before: bytes, key: bytes) -> bytes:
    """As little of a key as lies behind the one before it."""
    return next(key[:size] for size in range(1, len(key) + 1) if key[:size] > before)


def is_range(value: object) -> bool:
    """Whether a peer's value is a range."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(bound, bytes) and len(bound) <= BOUND_MAX for bound in value)
    )
