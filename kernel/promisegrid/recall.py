"""What one call has in common with the next, remembered by its exact bytes.

Of two calls of one sender often only the times and the number differ: thirty bytes in one place, behind who
and to whom. The items before them and behind them mean the same whatever stands between (CBOR has no
context), so what was found in order once, with another time and number, is in order. Times, audience,
signature, replay and rights are checked for every message: nothing of that is remembered here.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

from promisegrid import claims, nested
from promisegrid.cbor import number
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.errors import LocalError
from promisegrid.limits import Limits
from promisegrid.task import Task

_TIMES: Final = struct.Struct(">HIHIH16s")
"""exp, iat and cti as calls have them, each behind its key and head: two of four bytes, one of sixteen."""
_CALL: Final = number(claims.CALL)


class Recall:
    """Reads the claims and tasks of calls. Bounded by `Limits.calls` and `Limits.call_bytes`."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._claims: OrderedDict[tuple[bytes, bytes], dict[str, Any]] = OrderedDict()
        self._tasks: OrderedDict[tuple[bytes, bytes], Task] = OrderedDict()

    def claims(self, data: bytes) -> Claims:
        """As `claims.decode`: what is in some bytes, only its shape checked. RemoteError: as there."""
        times = _times_at(data)
        if times is None:
            return claims.decode(data, self._limits)
        at, exp, iat, cti = times
        end = at + _TIMES.size
        if data[end : end + len(_CALL)] != _CALL or len(data) > self._limits.call_bytes:
            return claims.decode(data, self._limits)
        key = data[:at], data[end:]
        known = self._claims.get(key)
        if known is None:
            content = claims.decode(data, self._limits)
            self._put(self._claims, key, claims.given(content) | {"rest": key[1]})
            return content
        self._claims.move_to_end(key)
        known["exp"], known["iat"], known["cti"] = exp, iat, cti
        return Claims(**known)

    def task(self, protocol: Cid, content: Claims) -> Task:
        """What a call asks for; with its block where the same was asked for before."""
        key = protocol.encoded, content.rest
        known = self._tasks.get(key) if content.rest else None
        if known is not None:
            self._tasks.move_to_end(key)
            return known
        func, args = content.call or ("", ())
        task = Task(protocol, func, args, content.files, content.stdin)
        if content.rest and func and not nested.has_any(args):
            try:
                task = replace(task, named=task.block(self._limits))
            except LocalError:
                return task
            self._put(self._tasks, key, task)
        return task

    def _put(self, book: OrderedDict[Any, Any], key: object, value: object) -> None:
        book[key] = value
        if len(book) > self._limits.calls:
            book.popitem(last=False)


def _times_at(data: bytes) -> tuple[int, int, int, bytes] | None:
    """Where they begin, exp, iat and cti, if a claims set begins with iss, aud and them in usual widths."""
    try:
        aud = 4 + data[3]
        at = aud + 3 + data[aud + 2]
        key_exp, exp, key_iat, iat, key_cti, cti = _TIMES.unpack_from(data, at)
    except (IndexError, struct.error):
        return None
    usual = (
        data[1:3] == b"\x01\x78"
        and data[aud : aud + 2] == b"\x03\x78"
        and (key_exp, key_iat, key_cti) == (0x041A, 0x061A, 0x0750)
        and exp > 0xFFFF
        and iat > 0xFFFF
    )
    return (at, exp, iat, cti) if usual else None
