"""What messages under the grid's tag say, in the words of the five-element ones, and the other way round.

A request of the capability call protocol is `[0, fCID, [arg…]]`. Every reply, of any protocol known here, is
`[1, body]`, `[2, code, text]` for a refusal, or `[3, 42(promise)]` for a call that is kept later. So replay,
capability, cache and receipt rules are one text for both forms.
(Source: docs/protocols/capability-call.md.)
"""

from __future__ import annotations

from dataclasses import replace

from promisegrid import gridtag
from promisegrid.cid import Cid
from promisegrid.claims import Claims
from promisegrid.envelope import Envelope
from promisegrid.errors import RemoteError
from promisegrid.gridtag import Tagged
from promisegrid.limits import Limits
from promisegrid.protocols import CAPABILITY_CALL

_CALL, _BODY, _REFUSAL, _PROMISE = range(4)


def open_known(tagged: Tagged, grid: Cid, limits: Limits) -> tuple[Envelope, Claims]:
    """A message of a protocol known here, its signature not checked yet. RemoteError: as `open_signed`."""
    opened, content, payload = gridtag.open_signed(tagged, grid, limits)
    if content.call is not None or content.body is not None or content.refusal is not None:
        raise RemoteError("bad_claims", "What a tagged message says stands in its payload.")
    if content.reply_to is not None:
        return opened, _reply(content, payload, limits)
    if opened.pcid == CAPABILITY_CALL:
        return _request(opened, content, payload, limits)
    return opened, replace(content, body=payload)


def _request(
    opened: Envelope, content: Claims, payload: object, limits: Limits
) -> tuple[Envelope, Claims]:
    match payload:
        case [0, Cid() as code, list() as args] if payload[0] is not False and len(args) <= limits.args:
            return replace(opened, protocol=code), replace(content, call=(content.func or "", tuple(args)))
    raise RemoteError("malformed", "A capability call is [0, link to the function, [arguments]].")


def _reply(content: Claims, payload: object, limits: Limits) -> Claims:
    match payload:
        case [int(1), body] if payload[0] is not True:
            return replace(content, body=body)
        case [int(2), str(code), str(text)] if len(code) <= 64 and len(text) <= limits.text_chars:
            return replace(content, refusal=(code, text))
        case [int(3), Cid() as promise]:
            return replace(content, body={"promise": promise})
    raise RemoteError("malformed", "A reply is [1, body], [2, code, text] or [3, link to the promise].")


def payload_of(content: Claims, code: Cid) -> tuple[object, Claims]:
    """The payload that says what the claims say, and the claims without it. `code` is what is called."""
    rest = replace(content, call=None, body=None, refusal=None)
    if content.call is not None:
        func, args = content.call
        return [_CALL, code, list(args)], replace(rest, func=func or None)
    if content.refusal is not None:
        return [_REFUSAL, *content.refusal], rest
    body = content.body
    if content.reply_to is None:
        return body, rest
    match body:
        case {"promise": Cid() as promise, **more} if not more:
            return [_PROMISE, promise], rest
    return [_BODY, body], rest
