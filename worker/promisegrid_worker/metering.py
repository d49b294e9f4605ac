"""The door of a tab's second Python (`worker/meter.worker.mjs`): a large module in, what is made of it out.

Promises: the same functions in the same order as `runtime` calls them for a small module; a refusal comes
back as its code and sentence, not as an exception. Does not know: the kernel, its state, or who asks.

Every answer is CBOR `[code, text]` of a refusal, or `[None, bytes]`.
"""

from __future__ import annotations

from collections.abc import Callable

import cbor2
from pyodide.ffi import JsBuffer, JsProxy, to_js

from promisegrid.errors import RemoteError
from promisegrid.wasm.guard import guard
from promisegrid_worker.runtime import look


def look_at(data: JsBuffer) -> JsProxy:
    """What is known about a module that may be checked by the engine now, as CBOR of `ModuleInfo`."""
    return _told(lambda: cbor2.dumps(look(data.to_bytes()).to_value()))


def guarded(data: JsBuffer, pages: int) -> JsProxy:
    """A module that the engine has checked, with the meter in it; pages: the most memory it may ask for."""
    return _told(lambda: guard(data.to_bytes(), pages))


def _told(work: Callable[[], bytes]) -> JsProxy:
    try:
        return to_js(cbor2.dumps([None, work()]))
    except RemoteError as error:
        return to_js(cbor2.dumps([error.code, error.text]))
