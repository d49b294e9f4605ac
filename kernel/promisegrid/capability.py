"""Capabilities: a promise its issuer signed for one holder, and chains of them that only get narrower.

A promise is a CWT in COSE_Sign1 (typ `grid-capability`, payload attached): iss and aud are issuer and holder,
`cnf` binds it to the holder's key (RFC 8747), the body says what is promised. Its name is the raw CID of its
bytes. Whoever holds a promise that may be passed on can promise the same, or less, to another; the chain,
root first, shows it. What a chain promises is what every link of it promises.

Laws:
1. No chain of any shape promises more than each of its links (`Grant` is their conjunction; a link that
   *says* more than the one before it is refused as well).
2. Verifying needs no network. Cheap checks come first; signatures last, each checked once (`Verdicts`).
3. Only the root issuer redeems. Whether it still keeps a promise, and how often it was used, is not known
   here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from promisegrid import claims, cose, dagcbor, did, policy
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits
from promisegrid.policy import Rule
from promisegrid.terms import DELEGATE_MAX, DIMENSIONS, RUN, Terms, What, least
from promisegrid.terms import read as read_terms

TOKEN_MAX: Final = 16 * 1024
"""Bytes of one promise: a policy of 32 rules and two long names fit; what a stranger can make us parse."""
CHAIN_MAX: Final = DELEGATE_MAX + 1
"""Promises in one chain, as many as a message can carry."""


@dataclass(frozen=True, slots=True)
class Promise:
    """One promise as read, its signature not looked at. Times in seconds since 1970; starts: 0 if unsaid."""

    name: Cid
    raw: bytes
    sign1: cose.Sign1
    grid: Cid
    issuer: str
    holder: str
    starts: int
    until: int
    terms: Terms
    parent: Cid | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a chain promises: the conjunction of its links. `uses`: of every link that counts them."""

    chain: tuple[Promise, ...]
    what: What
    func: str | None
    policy: tuple[Rule, ...]
    budget: Budget
    uses: tuple[tuple[Cid, int], ...]
    starts: int
    until: int
    delegate: int
    later: bool

    def steps(self) -> Iterator[Grant]:
        """This chain as it grew: its root alone, with the first delegation, and so on."""
        grant = alone(self.chain[0])
        yield grant
        for one in self.chain[1:]:
            grant = extend(grant, one)
            yield grant

    @property
    def root(self) -> str:
        """Who keeps it."""
        return self.chain[0].issuer

    @property
    def holder(self) -> str:
        """Who may present it."""
        return self.chain[-1].holder

    @property
    def name(self) -> Cid:
        """Its last promise, by which the whole is known."""
        return self.chain[-1].name

    def lacks(self, code: Cid, func: str, args: Sequence[object]) -> str | None:
        """Why it does not promise this call, in words; None when it does."""
        kind, value = self.what
        if value != (RUN if kind == "ability" else code):
            return f"The capability does not promise {code}."
        if self.func is not None and func != self.func:
            return f"The capability promises the function {self.func[:80]!r}, not {func[:80]!r}."
        for rule in self.policy:
            if not rule.holds(args):
                return f"The capability promises only calls with {rule.plain()!r:.300} about their arguments."
        return None

    def narrowed(self, budget: Budget) -> Budget:
        """A budget that is asked for, within the one that is promised."""
        return self.budget if budget is claims.NO_BUDGET else least(self.budget, budget)


# -- making ------------------------------------------------------------------------------------------------


async def promise(
    terms: Terms, grid: Cid, me: str, holder: str, times: tuple[int, int | None, int], cti: bytes,
    limits: Limits, parent: Grant | None = None,
) -> Promise:  # fmt: skip
    """Sign a promise with this node's key. times: (now, not before or None, until), in seconds.

    RemoteError("widened") when it would say more than its parent; "bad_capability" when it cannot be written.
    """
    now, starts, until = times
    content = Claims(
        iss=me, aud=holder, exp=until, cti=cti, iat=now, nbf=starts,
        body=terms.body(grid, None if parent is None else parent.name),
        extra={claims.CNF: {3: holder.encode()}},
    )  # fmt: skip
    unsigned = cose.assemble(cose.protected_header("grid-capability"), content.encode(), bytes(64))
    made = read(unsigned, limits)
    if parent is not None:
        extend(parent, made)
    return read(await cose.sign("grid-capability", content.encode(), detached=False), limits)


# -- reading -----------------------------------------------------------------------------------------------


def read(raw: bytes, limits: Limits) -> Promise:
    """One promise in its bytes. RemoteError("bad_capability") unless it is one, whole and well formed."""
    if len(raw) > TOKEN_MAX:
        raise RemoteError("bad_capability", f"A capability of {len(raw)} bytes; at most {TOKEN_MAX}.")
    try:
        sign1 = cose.read(raw, "grid-capability")
        content = claims.decode(sign1.payload or b"", limits)
        did.decode(content.iss)
        said, grid, parent = read_terms(content.body)
    except (RemoteError, policy.PolicyError) as error:
        why = str(error).rstrip(".")
        raise RemoteError("bad_capability", f"The capability cannot be read: {why}.") from error
    if content.extra != {claims.CNF: {3: content.aud.encode()}}:
        raise RemoteError("bad_capability", "The capability is not bound to the key of its holder.")
    only = Claims(
        content.iss, content.aud, content.exp, content.cti, content.iat, content.nbf, body=content.body,
        extra=content.extra,
    )  # fmt: skip
    if content != only:
        raise RemoteError("bad_capability", "The capability carries claims that belong to a message.")
    return Promise(
        Cid.of(raw), raw, sign1, grid, content.iss, content.aud, content.nbf or 0, content.exp, said, parent
    )


# -- chains ------------------------------------------------------------------------------------------------


def check(
    tokens: Sequence[bytes], grid: Cid, holder: str, now_ms: int, limits: Limits, root: str | None = None
) -> Grant:
    """Everything about a chain but its signatures, for whoever presents it now, this being `root`.

    RemoteError: bad_capability, wrong_grid, not_holder, expired, not_yet_valid, widened, not_my_promise.
    """
    if not 0 < len(tokens) <= CHAIN_MAX:
        raise RemoteError("bad_capability", f"A chain has 1 to {CHAIN_MAX} capabilities, not {len(tokens)}.")
    chain = tuple(read(raw, limits) for raw in tokens)
    _check_presenter(chain, grid, holder, now_ms, limits)
    if chain[0].parent is not None:
        raise RemoteError("bad_capability", "The chain does not begin with a promise of its own.")
    grant = alone(chain[0])
    for child in chain[1:]:
        grant = extend(grant, child)
    _check_root(grant, root)
    return grant


def check_again(
    grant: Grant, grid: Cid, holder: str, now_ms: int, limits: Limits, root: str | None = None
) -> Grant:
    """As `check`, of a chain that held before: what depends on who presents it, and when."""
    now, skew = now_ms // 1000, limits.clock_skew_ms // 1000
    at_once = (
        grant.chain[0].grid == grid  # a chain has one grid, ends first with its last, begins last of all
        and grant.holder == holder
        and (root is None or grant.root == root)
        and grant.starts - skew <= now < grant.until + skew
    )
    if at_once:
        return grant
    _check_presenter(grant.chain, grid, holder, now_ms, limits)
    _check_root(grant, root)
    return grant


def _check_presenter(chain: Sequence[Promise], grid: Cid, holder: str, now_ms: int, limits: Limits) -> None:
    for one in chain:
        if one.grid != grid:
            raise RemoteError("wrong_grid", f"The capability {one.name} is for grid {one.grid}.")
    if chain[-1].holder != holder:
        raise RemoteError("not_holder", f"The capability {chain[-1].name} was promised to somebody else.")
    for one in chain:
        _check_times(one, now_ms, limits)


def _check_root(grant: Grant, root: str | None) -> None:
    if root is not None and grant.root != root:
        raise RemoteError("not_my_promise", f"{grant.root} made this promise; redeem it there.")


def _check_times(one: Promise, now_ms: int, limits: Limits) -> None:
    if one.until * 1000 + limits.clock_skew_ms < now_ms:
        raise RemoteError("expired", f"The capability {one.name} expired {now_ms // 1000 - one.until} s ago.")
    if one.starts * 1000 > now_ms + limits.clock_skew_ms:
        text = f"The capability {one.name} begins in {one.starts - now_ms // 1000} s."
        raise RemoteError("not_yet_valid", text)


def alone(root: Promise) -> Grant:
    """What a promise says that rests on no other."""
    terms = root.terms
    return Grant(
        (root,), terms.what, terms.func, terms.policy, terms.budget, _counted(root), root.starts, root.until,
        terms.delegate, bool(terms.later),
    )  # fmt: skip


def extend(grant: Grant, child: Promise) -> Grant:
    """A chain with one delegation more: by its holder, of that promise, and no wider than all before it.

    RemoteError: bad_capability, widened.
    """
    if child.parent != grant.name or child.grid != grant.chain[-1].grid:
        text = f"The capability {child.name} rests on another than the one before it in the chain."
        raise RemoteError("bad_capability", text)
    if child.issuer != grant.holder:
        raise RemoteError("bad_capability", f"{child.issuer} delegated a promise that is not its own.")
    if len(grant.chain) >= CHAIN_MAX:
        raise RemoteError("bad_capability", f"A chain has at most {CHAIN_MAX} capabilities.")
    wider = widens(grant, child)
    if wider is not None:
        text = f"The delegation {child.name} says more than the promise it rests on: {wider}."
        raise RemoteError("widened", text)
    terms = child.terms
    return Grant(
        (*grant.chain, child), terms.what, terms.func or grant.func, (*grant.policy, *terms.policy),
        least(grant.budget, terms.budget), (*grant.uses, *_counted(child)), max(grant.starts, child.starts),
        child.until, terms.delegate, grant.later or bool(terms.later),
    )  # fmt: skip


def _counted(one: Promise) -> tuple[tuple[Cid, int], ...]:
    return () if one.terms.uses is None else ((one.name, one.terms.uses),)


def widens(grant: Grant, child: Promise) -> str | None:
    """In which respect a delegation says more than what it rests on; None when it only narrows."""
    mine = child.terms
    any_code = grant.what == ("ability", RUN) and mine.what[0] == "code"
    if mine.what != grant.what and not any_code:
        return "what is promised"
    if grant.func is not None and mine.func not in (None, grant.func):
        return "func"
    for name, at in DIMENSIONS:
        if _exceeds(getattr(mine.budget, at), getattr(grant.budget, at)):
            return f"budget, {name}"
    if _exceeds(mine.uses, min((uses for _, uses in grant.uses), default=None)):
        return "uses"
    if mine.delegate >= grant.delegate:
        return "delegate, how far it may be passed on"
    if grant.later and mine.later is False:
        return "keep"
    if child.until > grant.until:
        return "exp"
    return "nbf" if child.starts and child.starts < grant.starts else None


def _exceeds(child: int | None, parent: int | None) -> bool:
    """None says nothing, and so leaves the parent's bound as it is."""
    return child is not None and parent is not None and child > parent


class Verdicts:
    """Signatures that held, by the name of the exact bytes they are over; the oldest forgotten first.

    Whole chains that held are kept too, by their exact bytes, while they are short: what a chain says does
    not change. Who presents it, when, and whether it was taken back is looked at every time.
    """

    def __init__(self, limits: Limits) -> None:
        self._held: OrderedDict[Cid, None] = OrderedDict()
        self._grants: OrderedDict[tuple[bytes, ...], Grant] = OrderedDict()
        self._limits, self._max = limits, limits.verdicts

    def recall(self, tokens: tuple[bytes, ...]) -> Grant | None:
        """What a chain of exactly these bytes promises, if it was found good before; see `check_again`."""
        grant = self._grants.get(tokens)
        if grant is not None:
            self._grants.move_to_end(tokens)
        return grant

    def remember(self, grant: Grant) -> None:
        """The chain was checked, and every signature in it held."""
        tokens = tuple([one.raw for one in grant.chain])
        if sum(map(len, tokens)) <= self._limits.grant_bytes:
            self._grants[tokens] = grant
            if len(self._grants) > self._limits.grants:
                self._grants.popitem(last=False)

    async def check(self, chain: Sequence[Promise]) -> None:
        """RemoteError("bad_capability") unless every issuer signed its promise."""
        for one in chain:
            if one.name in self._held:
                self._held.move_to_end(one.name)
                continue
            if not await cose.holds(one.sign1, one.sign1.payload or b"", one.issuer):
                raise RemoteError("bad_capability", f"{one.issuer} did not sign the capability {one.name}.")
            self._held[one.name] = None
            if len(self._held) > self._max:
                self._held.popitem(last=False)


def pack(tokens: Sequence[bytes]) -> bytes:
    """A chain in one piece: dag-cbor list of the tokens, root first."""
    return dagcbor.encode(list(tokens))


def unpack(data: bytes) -> tuple[bytes, ...]:
    """The tokens of a chain in one piece. RemoteError("bad_capability")."""
    if len(data) > CHAIN_MAX * (TOKEN_MAX + 8):
        raise RemoteError("bad_capability", f"A chain of {len(data)} bytes is longer than any.")
    try:
        value = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("bad_capability", f"Not a chain of capabilities: {error}.") from error
    if isinstance(value, list) and 0 < len(value) <= CHAIN_MAX and all(type(item) is bytes for item in value):
        return tuple(value)
    raise RemoteError("bad_capability", f"Not a chain: a list of 1 to {CHAIN_MAX} capabilities, root first.")
