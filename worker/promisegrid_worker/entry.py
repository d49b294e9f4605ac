"""The door JavaScript comes in by: bytes in, bytes out, and no proxy left behind.

`worker/node.worker.mjs` calls `start` once and keeps the function it returns; that is the only PyProxy of the
node. Everything that crosses is CBOR (`worker/cbor.mjs`). Only this module and `metering` name Pyodide.
"""

from __future__ import annotations

from collections.abc import Callable

import cbor2
from pyodide.ffi import JsBuffer, JsProxy, to_js

from promisegrid import chunker, wasi
from promisegrid_worker.host import Host, Settings


def wasi_modules() -> JsProxy:
    """The four modules of our WASI as CBOR `{name: bytes}`, for the handler workers."""
    return to_js(cbor2.dumps({name: wasi.load(name) for name in wasi.MODULES}))


def chunker_module() -> JsProxy:
    """The module that cuts files by content, for `worker/chunker.mjs`."""
    return to_js(chunker.load())


def start(settings: JsBuffer) -> Callable[[JsBuffer], JsProxy]:
    """Make the node of this tab; the function returned performs one turn (see `Host.turn`)."""
    host = Host(Settings.read(settings.to_bytes()))

    def turn(data: JsBuffer) -> JsProxy:
        return to_js(host.turn(data.to_bytes()))

    return turn
