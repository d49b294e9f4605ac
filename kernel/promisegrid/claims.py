"""The claims of a message: a CWT claims set (RFC 8392) and the grid's own claims, in one table.

`read` checks what can be known without a signature: shape, times and audience. It promises nothing about
who wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field, fields
from operator import attrgetter
from typing import Any, Final

from promisegrid.cbor import CborError, Dialect, Encoded, byte_string, head, link, number, text
from promisegrid.cid import Cid
from promisegrid.did import DID_MAX
from promisegrid.effects import Budget
from promisegrid.errors import RemoteError
from promisegrid.frozen import frozen
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
GRID: Final = -65546  #    link: the grid, where no envelope names it
FUNC: Final = -65547  #    text: the function of a call, where the call does not name it

_DIALECT: Final = Dialect(name="claims", int_keys=True, max_bytes=1 << 20, depth=24)
BUDGET_NAMES: Final = {
    "fuel": "fuel",
    "memory": "memory_bytes",
    "output": "output_bytes",
    "time": "time_ms",
}


NO_BUDGET: Final = Budget()
"""That of claims which name none."""


@frozen
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
    budget: Budget = NO_BUDGET
    reply_to: Cid | None = None
    body: object = None
    refusal: tuple[str, str] | None = None
    fresh: bool = False
    sub: str | None = None
    grid: Cid | None = None
    func: str | None = None
    proofs: tuple[bytes, ...] = ()
    extra: Mapping[int, object] = field(default_factory=dict)
    rest: bytes = field(default=b"", compare=False, repr=False)
    """Where `Recall` knew them: the bytes of all but iss, aud, exp, iat and cti."""

    def encode(self) -> bytes:
        """The claims set, absent claims left out."""
        out: list[bytes] = []
        for value, (key, absent, write) in zip(_values(self), _WRITERS, strict=True):
            if value is not absent and (data := write(value)):
                out += (key, data)
        if self.extra:
            rows = [(len(key), key, data) for key, data in zip(out[::2], out[1::2], strict=True)]
            rows += [(len(key := number(name)), key, _DIALECT.encode(v)) for name, v in self.extra.items()]
            out = [part for _, *row in sorted(rows) for part in row]
        return head(5, len(out) // 2) + b"".join(out)


def reply(iss: str, aud: str, exp: int, iat: int, cti: bytes, reply_to: Cid, body: Encoded) -> bytes:
    """As `Claims(…).encode()` of a reply whose body is written already: the claims most often written."""
    parts = (
        b"\xa7\x01", text(iss), b"\x03", text(aud), b"\x04", number(exp), b"\x06", number(iat),
        b"\x07", byte_string(cti), _KEYS[REPLY_TO], link(reply_to), _KEYS[BODY], body.data,
    )  # fmt: skip
    return b"".join(parts)


def given(claims: Claims) -> dict[str, Any]:
    """The fields of claims that are there, by name."""
    rows = zip(_values(claims), _TABLE, _WRITERS, strict=True)
    there = {name: value for value, (_, name, _, _), (_, absent, _) in rows if value is not absent}
    return there | ({"extra": claims.extra} if claims.extra else {})


def read(data: bytes, audience: str, now_ms: int, limits: Limits) -> Claims:
    """Decode and check a claims set meant for `audience` now.

    RemoteError: bad_claims, no_expiry, expired, not_yet_valid, wrong_audience.
    """
    claims = decode(data, limits)
    check(claims, audience, now_ms, limits)
    return claims


def check(claims: Claims, audience: str, now_ms: int, limits: Limits) -> None:
    """RemoteError unless the claims are meant for `audience` now. As `read`."""
    if claims.aud != audience:
        raise RemoteError("wrong_audience", f"The message is for {claims.aud[:80]}, this is {audience}.")
    check_times(claims, now_ms, limits)


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


def encode_table(table: dict[int, object]) -> bytes:
    """The bytes of a claims set that stood inside something else. RemoteError("bad_claims")."""
    try:
        return _DIALECT.encode(table)
    except CborError as error:
        raise RemoteError("bad_claims", f"The claims cannot be written: {error}.") from error


def decode(data: bytes, limits: Limits) -> Claims:
    """The claims set in some bytes, only its shape checked. RemoteError: bad_claims, no_expiry.

    As everywhere, what would not be written is not read: the claims are written again and compared.
    """
    try:
        table = _DIALECT.decode_loosely(data)
    except CborError as error:
        raise RemoteError("bad_claims", f"The claims are not canonical CBOR: {error}.") from error
    if type(table) is not dict:
        raise RemoteError("bad_claims", "The claims are not a map with integer keys.")
    if EXP not in table:
        raise RemoteError("no_expiry", "The message carries no expiry (claim 4).")
    given: dict[str, Any] = {"iss": "", "aud": "", "cti": b""}
    extra = {}
    for key, value in table.items():
        if type(key) is not int:
            raise RemoteError("bad_claims", "The claims are not a map with integer keys.")
        known = _READERS.get(key)
        if known is None:
            extra[key] = value
        else:
            name, read_field = known
            given[name] = read_field(value, limits)
    if not given["iss"] or not given["aud"] or not given["cti"]:
        raise _wrong("iss (1), aud (3) or cti (7)")
    claims = Claims(**given, extra=extra)
    try:
        again = claims.encode()
    except CborError as error:
        raise RemoteError("bad_claims", f"The claims are not canonical CBOR: {error}.") from error
    if again != data:
        raise RemoteError("bad_claims", "The claims are not in their one canonical form.")
    return claims


def _wrong(what: str) -> RemoteError:
    return RemoteError("bad_claims", f"The claim {what} is missing or of the wrong kind.")


def _did(value: object, limits: Limits) -> str:
    if type(value) is not str or not 0 < len(value) <= DID_MAX:
        raise _wrong("iss (1) or aud (3)")
    return value


def _seconds(value: object, limits: Limits) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise _wrong("exp (4), nbf (5) or iat (6)")
    return value


def _cti(value: object, limits: Limits) -> bytes:
    if type(value) is not bytes or not 8 <= len(value) <= 64:
        raise _wrong("cti (7), 8 to 64 bytes,")
    return value


def _link(value: object, limits: Limits) -> Cid:
    if type(value) is not Cid:
        raise _wrong("files, stdin or in-reply-to")
    return value


def _call(value: object, limits: Limits) -> tuple[str, tuple[object, ...]]:
    if type(value) is not list or len(value) != 2:
        raise _wrong("call")
    func, args = value
    if type(func) is not str or not 0 < len(func) <= limits.text_chars:
        raise _wrong("call")
    if type(args) is not list or len(args) > limits.args:
        raise RemoteError("bad_claims", f"A call takes a list of at most {limits.args} arguments.")
    return func, tuple(args)


def _func(value: object, limits: Limits) -> str:
    if type(value) is not str or not 0 < len(value) <= limits.text_chars:
        raise _wrong("func")
    return value


def _budget(value: object, limits: Limits) -> Budget:
    if type(value) is not dict or not value.keys() <= BUDGET_NAMES.keys():
        raise _wrong("budget")
    if any(type(most) is not int or not 0 < most < 1 << 63 for most in value.values()):
        raise _wrong("budget")
    return Budget(**{BUDGET_NAMES[name]: most for name, most in value.items()})


def _refusal(value: object, limits: Limits) -> tuple[str, str]:
    if type(value) is not list or len(value) != 2 or not all(type(part) is str for part in value):
        raise _wrong("refusal")
    if len(value[0]) > 64 or len(value[1]) > limits.text_chars:
        raise _wrong("refusal")
    return value[0], value[1]


def _fresh(value: object, limits: Limits) -> bool:
    if value is not True:
        raise _wrong("fresh, true or absent,")
    return True


def _proofs(value: object, limits: Limits) -> tuple[bytes, ...]:
    if type(value) is not list or len(value) > 8 or not all(type(part) is bytes for part in value):
        raise _wrong("proofs")
    return tuple(value)


def _any(value: object, limits: Limits) -> object:
    return value


def _write_budget(budget: Budget) -> bytes:
    if budget is NO_BUDGET:
        return b""
    given = {name: most for name, at in BUDGET_NAMES.items() if (most := getattr(budget, at)) is not None}
    return _DIALECT.encode(given) if given else b""


def _write_proofs(proofs: tuple[bytes, ...]) -> bytes:
    return head(4, len(proofs)) + b"".join(map(byte_string, proofs)) if proofs else b""


# In canonical order: shorter keys first, then by their bytes. A writer that gives nothing leaves a claim out.
_TABLE: Final[tuple[tuple[int, str, Callable[[Any, Limits], object], Callable[[Any], bytes]], ...]] = (
    (ISS, "iss", _did, text),
    (SUB, "sub", _did, text),
    (AUD, "aud", _did, text),
    (EXP, "exp", _seconds, number),
    (NBF, "nbf", _seconds, number),
    (IAT, "iat", _seconds, number),
    (CTI, "cti", _cti, byte_string),
    (CALL, "call", _call, _DIALECT.encode),
    (PROOFS, "proofs", _proofs, _write_proofs),
    (REPLY_TO, "reply_to", _link, link),
    (BUDGET, "budget", _budget, _write_budget),
    (BODY, "body", _any, _DIALECT.encode),
    (FILES, "files", _link, link),
    (STDIN, "stdin", _link, link),
    (REFUSAL, "refusal", _refusal, _DIALECT.encode),
    (FRESH, "fresh", _fresh, lambda fresh: b"\xf5" if fresh else b""),
    (GRID, "grid", _link, link),
    (FUNC, "func", _func, text),
)
_READERS: Final = {key: (name, read_field) for key, name, read_field, _ in _TABLE}
_KEYS: Final = {key: number(key) for key, _, _, _ in _TABLE}
_ABSENT: Final = {at.name: at.default for at in fields(Claims)}
_WRITERS: Final = tuple((number(key), _ABSENT[name], write) for key, name, _, write in _TABLE)
_values: Final = attrgetter(*(name for _, name, _, _ in _TABLE))
