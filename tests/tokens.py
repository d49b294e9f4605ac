"""Capability tokens made by hand, right or wrong, signed with real keys."""

from __future__ import annotations

from functools import cache
from typing import Any

from tests import edges, p256

from promisegrid import capability, claims, cose, did
from promisegrid.capability import Promise
from promisegrid.cid import Cid
from promisegrid.limits import Limits

NOW = 1_795_000_000
LIMITS = Limits()
GRID = Cid.of(b"grid", "dag-cbor")
CODE = Cid.of(b"code")


@cache
def name_of(who: str) -> str:
    """The did:key of a test's person."""
    return did.encode_p256(p256.public_key(p256.secret_of(who)))


def token(
    by: str, to: str, parent: bytes | None = None, typ: Any = "grid-capability", **changes: Any
) -> bytes:
    """A token from `by` to `to`. `signer`: whose key signs, None for no signature at all; `claim_…`: claims;
    the rest: fields of the body, None leaves one out."""
    signer = changes.pop("signer", by)
    body: dict[str, Any] = {"grid": GRID, "promise": {"code": CODE}, "delegate": 0}
    if parent is not None:
        body["parent"] = Cid.of(parent)
    if "rests_on" in changes:
        body["parent"] = changes.pop("rests_on")
    fields: dict[str, Any] = {
        "iss": name_of(by),
        "aud": name_of(to),
        "exp": NOW + 1000,
        "cti": (by + to).encode().ljust(16, b"."),
        "extra": {claims.CNF: {3: name_of(to).encode()}},
    }
    for name, value in changes.items():
        if name.startswith("claim_"):
            fields[name.removeprefix("claim_")] = value
        elif value is None:
            body.pop(name, None)
        else:
            body[name] = value
    payload = claims.Claims(body=body, **fields).encode()
    protected = cose.protected_header(typ)
    if signer is None:
        return cose.assemble(protected, payload, bytes(64))
    raw = p256.sign(p256.secret_of(signer), cose.to_be_signed(protected, payload))
    return cose.assemble(protected, payload, cose.low_s(raw))


def chain(*people: str, each: tuple[dict[str, Any], ...] = ()) -> list[bytes]:
    """Tokens from person to person, each resting on the one before; each may be passed on just far enough."""
    tokens: list[bytes] = []
    hops = len(people) - 1
    for at in range(hops):
        changes = {"delegate": hops - 1 - at, **(each[at] if at < len(each) else {})}
        parent = tokens[-1] if tokens else None
        tokens.append(token(people[at], people[at + 1], parent, **changes))
    return tokens


def signed(grant: capability.Grant) -> None:
    """Check every signature of a chain. RemoteError as `Verdicts.check`."""
    coroutine = capability.Verdicts(LIMITS).check(grant.chain)
    answer: object = None
    try:
        while True:
            answer = edges.pure(coroutine.send(answer))
    except StopIteration:
        return


def read(raw: bytes) -> Promise:
    """One token, read."""
    return capability.read(raw, LIMITS)
