"""The claims of a message: a CWT claims set (RFC 8392) and the grid's own claims, in one table.

`read` checks what can be known without a signature: shape, times and audience. It promises nothing about
who wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from promisegrid.cbor import CborError, Dialect
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.limits import Limits

# name           key       what it holds
ISS: Final = 1  #          text: did:key of the sender, which carries its public key
SUB: Final = 2  #          text: whom or what it is about
AUD: Final = 3  #          text: did:key of the node it is meant for
EXP: Final = 4  #          int: seconds since 1970, required
NBF: Final = 5  #          int: seconds since 1970
IAT: Final = 6  #          int: seconds since 1970
CTI: Final = 7  #          bytes: this message's number, required, 8 to 64 of them
CNF: Final = 8  #          map: confirmation of RFC 8747, for capabilities
CALL: Final = -65537  #    [func, [arg…]]: what to do
PROOFS: Final = -65538  #  [bytes…]: capabilities presented
REPLY_TO: Final = -65539  # link: the message this answers
BUDGET: Final = -65540  #  {fuel?, memory?, output?, time?}: what the call may cost
BODY: Final = -65541  #    any dag-cbor: what the protocol defines
FILES: Final = -65542  #   link: the folder of a call
STDIN: Final = -65543  #   link: the standard input of a call
REFUSAL: Final = -65544  # [code, text]: why not
FRESH: Final = -65545  #   true: run it, even if a result is remembered

_DIALECT: Final = Dialect(name="claims", int_keys=True, max_bytes=1 << 20, depth=24)
_BUDGET_NAMES: Final = ("fuel", "memory", "output", "time")


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of one message. Times are whole seconds since 1970; absent claims are None or empty."""

    iss: str
    aud: str
    exp: int
    cti: bytes
    iat: int | None = None
    nbf: int | None = None
    call: tuple[str, tuple[object, ...]] | None = None
    files: Cid | None = None
    stdin: Cid | None = None
    budget: Budget = field(default_factory=Budget)
    reply_to: Cid | None = None
    body: object = None
    refusal: tuple[str, str] | None = None
    fresh: bool = False
    proofs: tuple[bytes, ...] = ()
    extra: Mapping[int, object] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The claims set, absent claims left out."""
        table: dict[int, object] = {ISS: self.iss, AUD: self.aud, EXP: self.exp, CTI: self.cti}
        budget = dict(zip(_BUDGET_NAMES, _budget_values(self.budget), strict=True))
        optional: dict[int, object] = {
            NBF: self.nbf,
            IAT: self.iat,
            CALL: None if self.call is None else [self.call[0], list(self.call[1])],
            FILES: self.files,
            STDIN: self.stdin,
            BUDGET: {name: value for name, value in budget.items() if value is not None} or None,
            REPLY_TO: self.reply_to,
            BODY: self.body,
            REFUSAL: None if self.refusal is None else list(self.refusal),
            PROOFS: list(self.proofs) or None,
            FRESH: self.fresh or None,
        }
        table.update((key, value) for key, value in optional.items() if value is not None)
        return _DIALECT.encode({**table, **self.extra})


def read(data: bytes, audience: str, now_ms: int, limits: Limits) -> Claims:
    """Decode and check a claims set meant for `audience` now.

    RemoteError: bad_claims, no_expiry, expired, not_yet_valid, wrong_audience.
    """
    claims = decode(data, limits)
    if claims.aud != audience:
        raise RemoteError("wrong_audience", f"The message is for {claims.aud[:80]}, this is {audience}.")
    check_times(claims, now_ms, limits)
    return claims


def check_times(claims: Claims, now_ms: int, limits: Limits) -> None:
    """RemoteError unless the claims are valid now, one clock skew allowed, and not for too long."""
    if claims.exp * 1000 + limits.clock_skew_ms < now_ms:
        raise RemoteError("expired", f"The message expired {now_ms // 1000 - claims.exp} s ago.")
    if claims.exp * 1000 > now_ms + limits.message_life_ms + limits.clock_skew_ms:
        hours = limits.message_life_ms // 3_600_000
        raise RemoteError("bad_claims", f"The expiry lies more than {hours} h ahead, the longest accepted.")
    starts = max(claims.nbf or 0, claims.iat or 0)
    if starts * 1000 > now_ms + limits.clock_skew_ms:
        raise RemoteError("not_yet_valid", f"Valid only in {starts - now_ms // 1000} s; check both clocks.")


def decode(data: bytes, limits: Limits) -> Claims:
    """The claims set in some bytes, only its shape checked. RemoteError: bad_claims, no_expiry."""
    try:
        table = _DIALECT.decode(data)
    except CborError as error:
        raise RemoteError("bad_claims", f"The claims are not canonical CBOR: {error}.") from error
    if not isinstance(table, dict) or not all(type(key) is int for key in table):
        raise RemoteError("bad_claims", "The claims are not a map with integer keys.")
    if EXP not in table:
        raise RemoteError("no_expiry", "The message carries no expiry (claim 4).")
    known = {ISS, AUD, EXP, CTI, NBF, IAT, CALL, FILES, STDIN, BUDGET, REPLY_TO, BODY, REFUSAL, PROOFS, FRESH}
    return Claims(
        iss=_text(table, ISS, DID_MAX),
        aud=_text(table, AUD, DID_MAX),
        exp=_seconds(table, EXP),
        cti=_cti(table.get(CTI)),
        iat=_seconds(table, IAT) if IAT in table else None,
        nbf=_seconds(table, NBF) if NBF in table else None,
        call=_call(table[CALL], limits) if CALL in table else None,
        files=_link(table, FILES),
        stdin=_link(table, STDIN),
        budget=_budget(table[BUDGET]) if BUDGET in table else Budget(),
        reply_to=_link(table, REPLY_TO),
        body=table.get(BODY),
        refusal=_refusal(table[REFUSAL], limits) if REFUSAL in table else None,
        proofs=_proofs(table[PROOFS]) if PROOFS in table else (),
        fresh=_flag(table, FRESH),
        extra={key: value for key, value in table.items() if key not in known},
    )


def _wrong(what: str) -> RemoteError:
    return RemoteError("bad_claims", f"The claim {what} is missing or of the wrong kind.")


def _text(table: dict[int, Any], key: int, longest: int) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise _wrong({ISS: "iss (1)", AUD: "aud (3)"}.get(key, str(key)))
    return value


def _seconds(table: dict[int, Any], key: int) -> int:
    value = table[key]
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise _wrong({EXP: "exp (4)", NBF: "nbf (5)", IAT: "iat (6)"}[key])
    return value


def _cti(value: object) -> bytes:
    if not isinstance(value, bytes) or not 8 <= len(value) <= 64:
        raise _wrong("cti (7), 8 to 64 bytes,")
    return value


def _link(table: dict[int, Any], key: int) -> Cid | None:
    value = table.get(key)
    if value is not None and not isinstance(value, Cid):
        raise _wrong({FILES: "files", STDIN: "stdin", REPLY_TO: "in-reply-to"}[key])
    return value


def _call(value: object, limits: Limits) -> tuple[str, tuple[object, ...]]:
    if not isinstance(value, list) or len(value) != 2:
        raise _wrong("call")
    func, args = value
    if not isinstance(func, str) or not 0 < len(func) <= limits.text_chars:
        raise _wrong("call")
    if not isinstance(args, list) or len(args) > limits.args:
        raise RemoteError("bad_claims", f"A call takes a list of at most {limits.args} arguments.")
    return func, tuple(args)


def _budget(value: object) -> Budget:
    if not isinstance(value, dict) or not set(value) <= set(_BUDGET_NAMES):
        raise _wrong("budget")
    if any(type(number) is not int or not 0 < number < 1 << 63 for number in value.values()):
        raise _wrong("budget")
    fuel, memory, output, time = (value.get(name) for name in _BUDGET_NAMES)
    return Budget(fuel=fuel, memory_bytes=memory, time_ms=time, output_bytes=output)


def _budget_values(budget: Budget) -> tuple[int | None, ...]:
    return budget.fuel, budget.memory_bytes, budget.output_bytes, budget.time_ms


def _refusal(value: object, limits: Limits) -> tuple[str, str]:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(part, str) for part in value):
        raise _wrong("refusal")
    return value[0][:64], value[1][: limits.text_chars]


def _flag(table: dict[int, Any], key: int) -> bool:
    if table.get(key, True) is not True:
        raise _wrong("fresh, true or absent,")
    return key in table


def _proofs(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > 8 or not all(isinstance(part, bytes) for part in value):
        raise _wrong("proofs")
    return tuple(value)
