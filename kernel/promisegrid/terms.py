"""What a promise says, apart from who gave it to whom: the thing promised, and what limits it.

`Terms` are the body of a capability token; `read` takes them from one, strictly: one value, one spelling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from promisegrid import claims, policy
from promisegrid.cid import Cid
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.policy import Rule

DELEGATE_MAX: Final = 7
"""Further hops: a chain has at most one promise more."""
USES_MAX: Final = 1 << 40
RUN: Final = "run"
"""The ability to have any program run."""
MEMBER: Final = "member"
"""The ability to belong to the grid; redeemed by each node, see `membership.py`."""
ABILITIES: Final = {RUN: "any program", MEMBER: "belong to the grid"}
"""What can be promised by name, and what it means; others' abilities are read, and allow nothing here."""

Kind = Literal["ability", "code", "protocol"]
What = tuple[Kind, str | Cid]
_FIELDS: Final = {"grid", "promise", "func", "policy", "budget", "uses", "delegate", "keep", "parent"}
_UNBOUNDED: Final = claims.NO_BUDGET
DIMENSIONS: Final = tuple(claims.BUDGET_NAMES.items())


@dataclass(frozen=True, slots=True)
class Terms:
    """What is promised. func, uses: None says nothing; delegate: how many further hops.

    later: whether calls are kept by hand, later; None says nothing.
    """

    what: What
    func: str | None = None
    policy: tuple[Rule, ...] = ()
    budget: Budget = _UNBOUNDED
    uses: int | None = None
    delegate: int = 0
    later: bool | None = None

    def body(self, grid: Cid, parent: Cid | None) -> dict[str, Any]:
        """The body of the token."""
        kind, value = self.what
        body: dict[str, Any] = {"grid": grid, "promise": {kind: value}, "delegate": self.delegate}
        if self.func is not None:
            body["func"] = self.func
        if self.policy:
            body["policy"] = [rule.plain() for rule in self.policy]
        if budget := budget_plain(self.budget):
            body["budget"] = budget
        if self.uses is not None:
            body["uses"] = self.uses
        if self.later is not None:
            body["keep"] = "later" if self.later else "now"
        if parent is not None:
            body["parent"] = parent
        return body


def read(body: object) -> tuple[Terms, Cid, Cid | None]:
    """The terms, grid and parent in a token's body. RemoteError("bad_capability"), PolicyError."""
    if not isinstance(body, dict) or not body.keys() <= _FIELDS or not isinstance(body.get("grid"), Cid):
        raise _wrong("its body")
    func, uses, delegate = body.get("func"), body.get("uses"), body.get("delegate")
    keep, parent = body.get("keep"), body.get("parent")
    if func is not None and (not isinstance(func, str) or not 0 < len(func) <= 1024):
        raise _wrong("func")
    if uses is not None and (type(uses) is not int or not 0 < uses <= USES_MAX):
        raise _wrong("uses")
    if type(delegate) is not int or not 0 <= delegate <= DELEGATE_MAX:
        raise _wrong("delegate")
    if keep not in (None, "now", "later") or ("keep" in body and keep is None):
        raise _wrong("keep")
    if parent is not None and not isinstance(parent, Cid):
        raise _wrong("parent")
    rules = policy.read(body.get("policy", []))
    later = None if keep is None else keep == "later"
    terms = Terms(_what(body.get("promise")), func, rules, _budget(body), uses, delegate, later)
    if terms.body(body["grid"], parent) != body:
        raise _wrong("its one spelling")
    return terms, body["grid"], parent


def _what(value: object) -> What:
    if isinstance(value, dict) and len(value) == 1:
        ((kind, what),) = value.items()
        if kind == "ability" and isinstance(what, str) and 0 < len(what) <= 64:
            return "ability", what
        if kind in ("code", "protocol") and isinstance(what, Cid):
            return ("code" if kind == "code" else "protocol"), what
    raise _wrong("promise")


def _budget(body: dict[str, Any]) -> Budget:
    value = body.get("budget", {})
    if not isinstance(value, dict) or not value.keys() <= claims.BUDGET_NAMES.keys():
        raise _wrong("budget")
    if any(type(most) is not int or not 0 < most < 1 << 63 for most in value.values()):
        raise _wrong("budget")
    return Budget(**{claims.BUDGET_NAMES[name]: most for name, most in value.items()})


def _wrong(what: str) -> RemoteError:
    return RemoteError("bad_capability", f"{what} is missing or of the wrong kind.")


def budget_plain(budget: Budget) -> dict[str, int]:
    """{fuel, memory, output, time}, as far as they are bounded."""
    return {name: most for name, at in DIMENSIONS if (most := getattr(budget, at)) is not None}


def least(one: Budget, other: Budget) -> Budget:
    """The smaller of each bound; None bounds nothing."""
    return Budget(**{at: _smaller(getattr(one, at), getattr(other, at)) for _, at in DIMENSIONS})


def _smaller(one: int | None, other: int | None) -> int | None:
    return one if other is None else other if one is None else min(one, other)
