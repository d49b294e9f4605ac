"""What the kernel asks of its host: effects, and how they are answered.

The kernel does no I/O. Each of its entry points returns `list[tuple[ticket, Effect]]`; the host performs
them in order. Ticket 0 needs no answer. Any other ticket is answered exactly once, by
`kernel.answer(ticket, value, now_ms)`, where `value` is what the effect's docstring says under *Answer*, or
a `Failure`. Answers may come in any order and at any later time; the kernel keeps the deadlines.

A host may perform neighbouring effects of one list together (one store transaction, one gather of
verifications), as long as a `Commit` is durable before it is answered.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Literal

from promisegrid.cid import Cid
from promisegrid.frozen import frozen

Table = Literal["blocks", "memo", "grid", "apps", "kv", "streams", "pins"]
"""The store's tables, each a map from bytes to bytes ordered by key.

- `blocks`: CID bytes → block bytes.
- `memo`: task CID bytes + receipt CID bytes → executor's did:key (UTF-8).
- `grid`: names → dag-cbor: genesis, members, invitations, settings.
- `apps`: app CID bytes → dag-cbor of what was published here.
- `kv`: the key-value space of transactions (`promisebase.transaction`): any bytes → any bytes.
- `streams`: stream's name (UTF-8) + 0x00 + a head's CID bytes → b"" (`promisebase.streams`).
- `pins`: CID bytes → dag-cbor (`promisebase.pins`).

In a base that several nodes share, `grid` and `apps` are each node's own; the others are everybody's.
"""
TABLES: tuple[Table, ...] = ("blocks", "memo", "grid", "apps", "kv", "streams", "pins")

Plain = str | int | bool | float | None
Detail = Mapping[str, "Plain | list[Plain] | Mapping[str, Plain]"]


@frozen
class Effect:
    """The base of all effects. Inside the kernel `await effect` performs it and gives the answer."""

    def __await__(self) -> Generator[Effect, Any, Any]:
        return (yield self)


@frozen
class Failure:
    """The answer of a host that could not do it: a code of `errors.CODES` and one sentence."""

    code: str
    text: str


# -- told, not answered (ticket 0) -------------------------------------------------------------------


@frozen
class Send(Effect):
    """Send one frame on a link, whole and in order. A link that is gone swallows it."""

    link: int
    frame: bytes


@frozen
class Close(Effect):
    """Close a link after what was sent on it. The host still calls `disconnect` when it is down."""

    link: int
    code: str
    text: str


@frozen
class Notify(Effect):
    """Something the owner may like to see. `kind`: peer, progress, receipt, message, grid, promise.

    The detail is JSON-able. `progress` has phase ("fetch", "compile", "run", "store"), done, total (or
    null), and ask (the number of the ask it belongs to, or null), text.
    """

    kind: Literal["peer", "progress", "receipt", "message", "grid", "promise"]
    detail: Detail


@frozen
class Reply(Effect):
    """The end of an ask: its value, or the error that ended it."""

    ask: int
    value: object = None
    error: Exception | None = None


@frozen
class Cancel(Effect):
    """Stop the `Run` or `Prepare` of that ticket. It is still answered: with `Failure("cancelled", …)`."""

    ticket: int


@frozen
class Establish(Effect):
    """Make data channel `number`, described before, with the peer's `answer` (None: ours was the answer).

    When it opens the host calls `connect` with a link of its own, this role and channel, via "webrtc". When
    it does not, nothing: the kernel waits, and abandons it.
    """

    number: int
    role: Literal["initiator", "responder"]
    channel: str
    answer: str | None


@frozen
class Abandon(Effect):
    """Let go of the data channel `number`, which has not opened."""

    number: int


# -- links (answered) ---------------------------------------------------------------------------------


@frozen
class Push(Send):
    """Send one frame, as `Send`. Answer: None, once the link can take another: at once while little waits.

    "Little" is what leaves soon, some 256 KiB at most: a frame sent meanwhile must not stand behind more. On
    a link that is gone, None as well.
    """


# -- store (answered) --------------------------------------------------------------------------------


@frozen
class Write:
    """One change of the store; `value` None removes the key."""

    table: Table
    key: bytes
    value: bytes | None


@frozen
class Load(Effect):
    """Read keys of one table. Answer: tuple[bytes | None, ...], in the order of `keys`."""

    table: Table
    keys: tuple[bytes, ...]


@frozen
class Scan(Effect):
    """Read a table in key order, at most `limit` rows with key > `after` that begin with `prefix`.

    Answer: tuple[tuple[bytes, bytes], ...]; fewer than `limit` rows means the end. With `keys_only` every
    value comes as b"", and large ones cost nothing. With `everyone`, in a base that several nodes share, the
    rows of all nodes, each key with its node in front.
    """

    table: Table
    prefix: bytes
    after: bytes
    limit: int
    keys_only: bool = False
    everyone: bool = False


@frozen
class Read(Effect):
    """Several reads of one state of the store. Answer: a tuple of their answers, in order."""

    reads: tuple[Load | Scan, ...]


@frozen
class Seen:
    """What a transaction rests on: a read, and the answer it had."""

    read: Load | Scan
    answer: tuple[object, ...]


@frozen
class Conflict:
    """The answer to a `Commit` that would rest on what is no longer so: `seen[at]` reads otherwise now."""

    at: int


@frozen
class Save(Effect):
    """Write behind: losing it costs work, never truth. Answer: None, once it may be read back.

    A full store answers `Failure("disk_full", …)`.
    """

    writes: tuple[Write, ...]


@frozen
class Commit(Effect):
    """Write all or nothing, durably. Answer: None, once it would survive a power cut.

    Every `seen` is read again in the same transaction; where one differs, nothing is changed and the answer
    is `Conflict`. Commits take effect as if one came after another, whoever else shares the base.
    A full store answers `Failure("disk_full", …)` and has changed nothing.
    """

    writes: tuple[Write, ...]
    seen: tuple[Seen, ...] = ()


# -- gateways (answered) -------------------------------------------------------------------------------


@frozen
class Gateway(Effect):
    """Ask a trustless gateway for one raw block: GET `url`/ipfs/`cid`?format=raw, no redirect followed.

    Answer: bytes, unverified, at most `Limits.block_bytes`; None when it says that it has none (404, 410,
    451). Or a Failure: busy (it asks for patience), out_of_time (`Limits.gateway_ms`), too_large, closed
    (not reached, broken off, or any other status).

    is_found: a stranger named the address, so it must not lead into a network that only its owner is in.
    """

    url: str
    cid: Cid
    is_found: bool = False


@frozen
class Providers(Effect):
    """Ask a router who provides a block: GET `url`/routing/v1/providers/`cid`, no redirect followed.

    Answer: tuple[str, ...], the trustless gateways it names, as `gateways.read_url` writes them, at most
    `Limits.providers`, nothing of it proved. Or a Failure: busy, out_of_time (`Limits.routing_ms`), closed.
    Only a host that named a router is asked.
    """

    url: str
    cid: Cid


# -- data channels (answered) --------------------------------------------------------------------------


@frozen
class Describe(Effect):
    """Begin data channel `number` (docs/protocols/signal.md). Answer: str, this side's whole description.

    With `offer` the description answers it. Or a Failure, when the host cannot. Only a host that set
    `kernel.signalling.enabled` is asked.
    """

    number: int
    offer: str | None


# -- dialling (answered) -------------------------------------------------------------------------------


@frozen
class Approach(Effect):
    """Dial a member at one of the addresses it signed, the first that answers and that this host may dial.

    Answer: int, the number of the link, which the host has begun with `connect` ("initiator", via "ws")
    before; the host does not dial again when it ends. Or a Failure: closed (nobody answers, or may not be
    dialled). `urls` are strangers' text of the form of `address.py`. Only a host that said so to
    `kernel.overlay.use` is asked.
    """

    urls: tuple[str, ...]


# -- keys and hashes (answered) ----------------------------------------------------------------------


@frozen
class Sign(Effect):
    """Sign with this node's key. Answer: 64 bytes, ES256's raw r‖s (either s; the kernel lowers it)."""

    message: bytes


@frozen
class Verify(Effect):
    """Check a signature. Answer: bool. It never fails: a key or signature that cannot be read is False.

    `alg` is COSE's: -7 ES256 (key: 65 bytes, uncompressed P-256 point; signature raw r‖s), -8 EdDSA
    (key: 32 bytes, Ed25519), -37 PS256 (key: DER of RSAPublicKey).
    """

    alg: int
    key: bytes
    message: bytes
    signature: bytes


@frozen
class Digest(Effect):
    """SHA-256 of more bytes than the kernel likes to hash itself. Answer: 32 bytes."""

    data: bytes


# -- runtime (answered) ------------------------------------------------------------------------------


@frozen
class Budget:
    """What one run may cost. None leaves the choice to the node that runs it.

    fuel: units of its meter; memory_bytes: linear memory; time_ms: wall clock of the run itself;
    output_bytes: stdout, stderr and changed files together.
    """

    fuel: int | None = None
    memory_bytes: int | None = None
    time_ms: int | None = None
    output_bytes: int | None = None


@frozen
class Prepare(Effect):
    """Make a module ready to run. Answer: ModuleInfo, or None for "not in my cache, send the bytes".

    With `data` None the host looks only into its cache of compiled modules. With bytes it validates them
    with its engine, applies `wasm.inspect` and `wasm.guard`, compiles within bounds, caches, and answers the
    ModuleInfo, or a Failure: not_wasm, invalid_wasm, bad_import, unsupported, too_complex, out_of_memory.
    """

    code: Cid
    data: bytes | None
    budget: Budget


@frozen
class Job:
    """One call of one exported function of a prepared module, on a fresh instance.

    - abi "command": call `_start`; `wasi` is the job blob of `job.py`; `params` is empty.
    - abi "handle": call `alloc(len)`, write `params` there, call `handle(ptr, len)`; the answer's
      `values` is the memory at (result >> 32, result & 0xffffffff), bounds checked.
    - abi "plain": call `func` with one 8-byte little-endian word a parameter (i32 and f32 in the low four
      bytes, floats as their IEEE bits); the answer's `values` holds one word a result.

    `_initialize` is called first if exported (not before `_start`). `wasi` is offered to every ABI.
    """

    code: Cid
    abi: Literal["command", "handle", "plain"]
    func: str
    params: bytes
    wasi: bytes
    fuel: int | None
    memory_bytes: int
    time_ms: int
    output_bytes: int


@frozen
class Outcome:
    """How a run ended, when it ended by itself.

    values: see Job (empty for a command); wasi: the result blob of `job.py`;
    fuel: units used, None where this host does not meter; memory_bytes: the size linear memory grew to.
    """

    values: bytes
    wasi: bytes
    fuel: int | None
    memory_bytes: int


@frozen
class Run(Effect):
    """Run a prepared module. Answer: Outcome.

    Or a Failure: trap, out_of_fuel, out_of_time, out_of_memory, stack_overflow, output_too_large,
    bad_result (a handler's pointer outside its memory), cancelled, not_found (no longer in the cache).
    """

    job: Job
