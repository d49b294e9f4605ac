"""Task and result: what was asked, and what came out. Both are dag-cbor blocks named by CID.

A task is the key under which work is remembered: it says what was asked, never who asked or with what
budget. Two people who ask the same task name the same CID, so it runs once. Any exit code is a result;
traps, limits and refusals are not, and are never kept.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any

from promisegrid import dagcbor, units
from promisegrid.block import Block
from promisegrid.cbor import head, link, text
from promisegrid.cid import Cid
from promisegrid.errors import LocalError, RemoteError
from promisegrid.frozen import frozen
from promisegrid.limits import Limits


@frozen
class Task:
    """One call: `code` names a UnixFS file holding a module; args are text for `_start`, else dag-cbor.

    `func` "" means the module's own entry (`_start`, else `handle`); the kernel settles it before the task
    gets its CID.
    """

    code: Cid
    func: str = ""
    args: tuple[object, ...] = ()
    files: Cid | None = None
    stdin: Cid | None = None
    named: Block | None = field(default=None, compare=False, repr=False)
    """Its block, if somebody has written it already."""

    def block(self, limits: Limits) -> Block:
        """The task's block. LocalError when the arguments cannot be written or are too large."""
        if self.named is not None:
            return self.named
        assert self.func, "the function is settled before a task is named"
        try:
            data = self._encode()
        except ValueError as error:
            raise LocalError(f"The arguments cannot be written as dag-cbor: {error}.", "bad_args") from error
        if len(data) > limits.args_bytes:
            most = units.size(limits.args_bytes)
            text = f"The arguments take {units.size(len(data))}; at most {most}. Use stdin or files."
            raise LocalError(text, "bad_args")
        return Block(Cid.of(data, "dag-cbor"), data)


    def _encode(self) -> bytes:
        """{args, code, func, files?, stdin?} as dag-cbor, which has the keys in this order."""
        files = b"" if self.files is None else b"efiles" + link(self.files)
        stdin = b"" if self.stdin is None else b"estdin" + link(self.stdin)
        size = 3 + bool(files) + bool(stdin)
        parts = (head(5, size), b"dargs", dagcbor.encode_within(self.args), b"dcode", link(self.code),
                 b"dfunc", text(self.func), files, stdin)  # fmt: skip
        return b"".join(parts)


@frozen
class Result:
    """What a task gave: a command's exit, output and folder, or a function's value."""

    exit: int | None = None
    stdout: Cid | None = None
    stderr: Cid | None = None
    files: Cid | None = None
    value: object = None

    def block(self) -> Block:
        """The result's block: `{"exit", "stdout", "stderr", "files"?}` or `{"value"}`."""
        if self.exit is None:
            data = b"\xa1\x65value" + dagcbor.encode_within(self.value)
        else:
            content: dict[str, Any] = {"exit": self.exit, "stdout": self.stdout, "stderr": self.stderr}
            if self.files is not None:
                content["files"] = self.files
            data = dagcbor.encode(content)
        return Block(Cid.of(data, "dag-cbor"), data)

    def parts(self) -> tuple[Cid, ...]:
        """The roots of the content it names."""
        return tuple(cid for cid in (self.stdout, self.stderr, self.files) if cid is not None)


def read_result(data: bytes) -> Result:
    """A result from its block's bytes. RemoteError("malformed") for anything else."""
    try:
        value = dagcbor.decode(data)
    except ValueError as error:
        raise RemoteError("malformed", f"Not a result: {error}.") from error
    if isinstance(value, dict) and set(value) == {"value"}:
        return Result(value=value["value"])
    if isinstance(value, dict) and set(value) - {"files"} == {"exit", "stdout", "stderr"}:
        code, links = value["exit"], [value[name] for name in value if name != "exit"]
        if type(code) is int and 0 <= code < 1 << 32 and all(isinstance(link, Cid) for link in links):
            return Result(code, value["stdout"], value["stderr"], value.get("files"))
    raise RemoteError("malformed", 'A result holds "value", or "exit", "stdout" and "stderr".')


@frozen
class Deferred:
    """Neither a result nor a failure: `by` keeps `promise` later. `call` names what is awaited."""

    call: Cid
    by: str
    promise: Cid


@frozen
class RunResult:
    """What whoever asked for a run gets. `by` is the did:key of the executor, `cached` whether nobody ran.

    blocks: the receipt's and the result's, where they were just made here and the result is a value.
    """

    task: Cid
    result: Cid
    receipt: Cid
    content: Result
    by: str
    cached: bool
    fuel: int | None
    engine: str = ""
    blocks: tuple[Block, ...] = field(default=(), compare=False, repr=False)

    @property
    def exit(self) -> int | None:
        """A command's exit code; None for a function's value."""
        return self.content.exit

    @property
    def value(self) -> object:
        """A function's value; None for a command."""
        return self.content.value

    @property
    def stdout(self) -> Cid | None:
        """A command's standard output, a UnixFS file."""
        return self.content.stdout

    @property
    def stderr(self) -> Cid | None:
        """A command's standard error, a UnixFS file."""
        return self.content.stderr

    @property
    def files(self) -> Cid | None:
        """A command's folder, if it changed it."""
        return self.content.files
