"""Messages inside messages: found among a call's arguments, evaluated, their values put in their place.

An argument, or any value inside one, of the form `{"grid/message": bytes}` is a signed message. What it is
worth is the dispatcher's business (`Evaluate`); this file finds them, bounds them, and says whose they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from promisegrid.claims import Claims
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

KEY: Final = "grid/message"
Evaluate = Callable[[bytes, "Tally"], Awaitable[object]]
"""Called with a message's bytes and the tally of its own inside: its value."""


@dataclass(slots=True)
class Tally:
    """How many messages may still come inside one outermost message, all together, and how deep this is."""

    left: list[int]
    depth: int

    @classmethod
    def of(cls, limits: Limits) -> Tally:
        """That of an outermost message."""
        return cls([limits.nested_total], limits.nested_depth)

    def inside(self) -> Tally:
        """That of a message inside. RemoteError("too_deep") when one more is too many."""
        if not self.depth or not self.left[0]:
            raise RemoteError("too_deep", "Messages are nested too deeply, or too many of them are nested.")
        self.left[0] -= 1
        return Tally(self.left, self.depth - 1)


def has_any(args: tuple[object, ...]) -> bool:
    """Whether there is a message among arguments; cheap for those that have none."""
    return any(isinstance(arg, (dict, list)) and _holds(arg) for arg in args)


async def replaced(args: tuple[object, ...], evaluate: Evaluate, tally: Tally) -> tuple[object, ...]:
    """The arguments, every message's value in its place, first to last. RemoteError: too_deep, its own."""
    return tuple([await _replaced(arg, evaluate, tally) for arg in args])


def check_presenter(inner: Claims, outer: Claims) -> None:
    """RemoteError("not_for_you") unless the inner message's signer meant whoever presents it.

    Otherwise whoever gets hold of somebody's message could have it evaluated with that signer's authority and
    read the result: the confused deputy.
    """
    if inner.iss != outer.iss and inner.sub != outer.iss:
        who = "names nobody" if inner.sub is None else f"names {inner.sub[:80]}"
        text = f"A message inside a message is for whom its signer names in sub; this one {who}."
        raise RemoteError("not_for_you", text)
    if inner.call is None:
        raise RemoteError("bad_args", "A message inside a message has to be a call.")


def fits(asked: Any, ran: Any) -> bool:
    """Whether what ran is what was asked, with any value where a message was."""
    if _message(asked) is not None:
        return True
    if isinstance(asked, dict):
        same = isinstance(ran, dict) and asked.keys() == ran.keys()
        return same and all(fits(item, ran[key]) for key, item in asked.items())
    if isinstance(asked, list | tuple):
        same = isinstance(ran, list | tuple) and len(asked) == len(ran)
        return same and all(map(fits, asked, ran))
    return type(asked) is type(ran) and bool(asked == ran)


def _message(value: object) -> bytes | None:
    if isinstance(value, dict) and len(value) == 1:
        raw = value.get(KEY)
        return raw if isinstance(raw, bytes) else None
    return None


def _holds(value: Any) -> bool:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if _message(item) is not None:
            return True
        if isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return False


async def _replaced(value: Any, evaluate: Evaluate, tally: Tally) -> object:
    """As deep as the claims' own bound on nesting allows."""
    raw = _message(value)
    if raw is not None:
        return await evaluate(raw, tally.inside())
    if isinstance(value, dict):
        return {key: await _replaced(item, evaluate, tally) for key, item in value.items()}
    if isinstance(value, list):
        return [await _replaced(item, evaluate, tally) for item in value]
    return value
