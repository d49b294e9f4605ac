"""The effect loop of a tab: one call a turn, bytes in, bytes out, and no asyncio.

A turn's input is CBOR `[now_ms, [record…]]`; a record says what happened: `["frame", link, bytes]`,
`["open", link]`, `["down", link]`, `["answer", ticket, value]`, `["failure", ticket, code, text]`,
`["call", ask, verb, args]`, `["cancel", ask]`, `["tick"]`, `["awake"]`. Its output is CBOR
`[timer_ms or None, [record…]]`: what the shell has to do, in order; the first word of a record is a name in
`worker/shell.mjs`.

Promises: each record is taken by itself, so that a fault in one costs only what it was about; an exception
is answered as a refusal or told as a fault, with its traceback, never lost.
Does not know: JavaScript. This module and its siblings run on any CPython (`entry` is the one that does not).
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cbor2

from promisegrid import did, wasi
from promisegrid.cid import Cid
from promisegrid.effects import (
    Abandon,
    Cancel,
    Close,
    Commit,
    Describe,
    Digest,
    Effect,
    Establish,
    Failure,
    Gateway,
    Load,
    Notify,
    Prepare,
    Push,
    Read,
    Reply,
    Run,
    Save,
    Scan,
    Send,
    Sign,
    Verify,
)
from promisegrid.errors import CODES, LocalError, RemoteError
from promisegrid.kernel import Kernel
from promisegrid.limits import Limits
from promisegrid.state import Identity
from promisegrid.strand import Issued
from promisegrid_worker import keys, store, verbs, wire
from promisegrid_worker.runtime import Runtime

Record = list[Any]
TASK_BYTES: Final = 64 * 1024 * 1024
"""Input, and output, of one task: they pass through Python, whose memory in a tab never shrinks."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the shell hands in once. entropy: 32 bytes or more; runs: programs at once, of memory_bytes.

    direct: whether the shell can make data channels.
    """

    public_key: bytes
    entropy: bytes
    engine: str
    runs: int
    memory_bytes: int
    channel: str
    grid: str | None
    invite: str | None
    direct: bool = False

    @classmethod
    def read(cls, data: bytes) -> Settings:
        """From CBOR, a map of these fields."""
        return cls(**cbor2.loads(data))


class Host:
    """One kernel and what it waits for."""

    def __init__(self, settings: Settings) -> None:
        self.limits = Limits(
            runs=settings.runs,
            memory_bytes=settings.memory_bytes,
            input_bytes=TASK_BYTES,
            output_bytes=TASK_BYTES,
        )
        self._door = wire.Door.read(settings.channel, settings.grid, settings.invite)
        name = did.encode_p256(settings.public_key)
        self.kernel = Kernel(
            Identity(name, settings.public_key),
            settings.entropy,
            self.limits,
            settings.engine,
            Cid.of(wasi.load("wasi")),
        )
        self.kernel.signalling.enabled = settings.direct
        if settings.direct:
            self.kernel.overlay.use((), dials=False)
        self._directs: dict[int, Establish] = {}
        self._runtime = Runtime(self.limits)
        self._verbs = verbs.Verbs(self.kernel, self._told_fault, self._tell)
        self._waiting: dict[int, type[Effect]] = {}
        self._out: list[Record] = []
        self._now_ms = 0

    def turn(self, data: bytes) -> bytes:
        """Take what happened; say what to do."""
        self._now_ms, records = cbor2.loads(data)
        for record in records:
            try:
                self._HAPPENED[record[0]](self, *record[1:])
            except Exception as error:  # noqa: BLE001 - a fault of ours must be told, and the tab go on
                self._fault(record, error)
                self._go_on()
        out, self._out = self._out, []
        return cbor2.dumps([self.kernel.next_timer(), out])

    # -- what happens ----------------------------------------------------------------------------------

    def _frame(self, link: int, frame: bytes) -> None:
        self._perform(self.kernel.receive(link, frame, self._now_ms))

    def _open(self, link: int) -> None:
        if link >= wire.FIRST_DIRECT:
            made = self._directs.pop(link - wire.FIRST_DIRECT)
            self._perform(self.kernel.connect(link, made.role, made.channel, "webrtc", self._now_ms))
            return
        door = self._door
        opened = self.kernel.connect(
            link, "initiator", door.channel, "ws", self._now_ms, invite=door.invite, grid=door.grid
        )
        self._perform(opened)

    def _down(self, link: int) -> None:
        self._perform(self.kernel.disconnect(link, self._now_ms))

    def _awake(self) -> None:
        self._perform(self.kernel.awake(self._now_ms))

    def _tick(self) -> None:
        self._perform(self.kernel.tick(self._now_ms))

    def _call(self, ask: int, verb: str, args: Any) -> None:
        try:
            work = self._verbs.begin(verb, args)
        except (LocalError, RemoteError) as error:
            self._out.append(["refused", ask, error.code, error.text])
            return
        self._perform(self.kernel.ask(ask, work, self._now_ms))

    def _cancel(self, ask: int) -> None:
        self._perform(self.kernel.cancel(ask, self._now_ms))

    def _answer(self, ticket: int, value: Any) -> None:
        kind = self._waiting.pop(ticket, None)
        if kind is None:
            return
        if kind is Prepare or kind is Run:
            step = self._runtime.answered(ticket, value)
            if isinstance(step, list):
                self._waiting[ticket] = kind
                self._out.append(step)
                return
            value = step
        elif kind is Load:
            value = store.loaded(value)
        elif kind is Scan:
            value = store.scanned(value)
        elif kind is Read:
            value = store.have_read(value)
        elif kind is Commit:
            value = store.committed(value)
        self._perform(self.kernel.answer(ticket, value, self._now_ms))

    def _failure(self, ticket: int, code: str, text: str) -> None:
        self._waiting.pop(ticket, None)
        self._runtime.forget(ticket)
        failure = Failure(code if code in CODES else "internal", text)
        self._perform(self.kernel.answer(ticket, failure, self._now_ms))

    _HAPPENED: Final[dict[str, Callable[..., None]]] = {
        "frame": _frame,
        "open": _open,
        "down": _down,
        "tick": _tick,
        "awake": _awake,
        "call": _call,
        "cancel": _cancel,
        "answer": _answer,
        "failure": _failure,
    }

    # -- what is to be done ----------------------------------------------------------------------------

    def _perform(self, issued: Issued) -> None:
        for ticket, effect in issued:
            if ticket:
                self._waiting[ticket] = type(effect)
            self._out.append(self._TOLD[type(effect)](self, ticket, effect))

    def _prepare(self, ticket: int, effect: Prepare) -> Record:
        return self._runtime.prepare(ticket, effect)

    def _run(self, ticket: int, effect: Run) -> Record:
        return self._runtime.run(ticket, effect)

    def _gateway(self, ticket: int, effect: Gateway) -> Record:
        limits = self.limits
        return ["gateway", ticket, effect.url, str(effect.cid), limits.block_bytes, limits.gateway_ms]

    def _establish(self, _: int, effect: Establish) -> Record:
        self._directs[effect.number] = effect
        return ["establish", effect.number, effect.answer]

    def _abandon(self, _: int, effect: Abandon) -> Record:
        self._directs.pop(effect.number, None)
        return ["abandon", effect.number]

    def _notify(self, _: int, effect: Notify) -> Record:
        detail = dict(effect.detail)
        if effect.kind == "progress" and isinstance(ask := detail.get("ask"), int):
            return ["progress", ask, detail]
        return ["notify", effect.kind, detail]

    def _tell(self, kind: str, detail: object) -> None:
        self._out.append(["notify", kind, detail])

    def _reply(self, _: int, effect: Reply) -> Record:
        if isinstance(effect.error, LocalError | RemoteError):
            return ["refused", effect.ask, effect.error.code, effect.error.text]
        return ["reply", effect.ask, effect.value]

    _TOLD: Final[dict[type[Effect], Callable[..., Record]]] = {
        Send: lambda _self, _ticket, effect: wire.send(effect),
        Push: lambda _self, ticket, effect: wire.push(ticket, effect),
        Close: lambda _self, _ticket, effect: wire.close(effect),
        Notify: _notify,
        Reply: _reply,
        Cancel: lambda _self, _ticket, effect: ["cancel", effect.ticket],
        Load: lambda _self, ticket, effect: store.load(ticket, effect),
        Scan: lambda _self, ticket, effect: store.scan(ticket, effect),
        Read: lambda _self, ticket, effect: store.read(ticket, effect),
        Save: lambda _self, ticket, effect: store.save(ticket, effect),
        Commit: lambda _self, ticket, effect: store.commit(ticket, effect),
        Sign: lambda _self, ticket, effect: keys.sign(ticket, effect),
        Verify: lambda _self, ticket, effect: keys.verify(ticket, effect),
        Digest: lambda _self, ticket, effect: keys.digest(ticket, effect),
        Gateway: _gateway,
        Describe: lambda _self, ticket, effect: ["describe", ticket, effect.number, effect.offer],
        Establish: _establish,
        Abandon: _abandon,
        Prepare: _prepare,
        Run: _run,
    }

    # -- what must not happen --------------------------------------------------------------------------

    def _fault(self, record: Record, error: Exception) -> None:
        """Tell of our own bug, and let go of what the record was about."""
        self._told_fault(" ".join(str(part)[:80] for part in record[:2]), error)
        last = f"A fault of this node: {type(error).__name__}: {error}"
        if record[0] == "call":
            self._out.append(["refused", record[1], "internal", last])
        elif record[0] in ("frame", "open"):
            self._out.append(["close", record[1], "internal", "a fault of this node"])

    def _go_on(self) -> None:
        """Let those run whom the fault kept from it."""
        try:
            self._perform(self.kernel.tick(self._now_ms))
        except Exception as error:  # noqa: BLE001 - as in `turn`
            self._told_fault("tick", error)

    def _told_fault(self, where: str, error: Exception) -> None:
        self._out.append(["fault", where, "".join(traceback.format_exception(error))[-4000:]])
