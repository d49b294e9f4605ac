"""Hosts for tests: real kernels, loop and keys, with a store in memory and programs in Python."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import ParamSpec

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from promisegrid import did
from promisegrid.cid import Cid
from promisegrid.effects import (
    Commit,
    Failure,
    Job,
    Outcome,
    Prepare,
    Run,
    Save,
    Scan,
)
from promisegrid.kernel import Kernel
from promisegrid.limits import Limits
from promisegrid.promisebase.memory import MemoryBase
from promisegrid.state import Identity
from promisegrid.wasm.module import FuncType, ModuleInfo
from promisegrid_node import bundle
from promisegrid_node.host import Host
from promisegrid_node.ports import Place, StoreEffect

P = ParamSpec("P")
Program = Callable[[Job], Outcome | Failure]


def on_loop(test: Callable[P, Awaitable[None]]) -> Callable[P, None]:
    """Run an async test on a loop of its own, with a hard end."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):
                await test(*args, **kwargs)

        asyncio.run(bounded())

    return run


class MemoryStore(MemoryBase):
    """Tables in memory. `full` makes every write fail as a full disk does."""

    place = Place("memory", "in this process")

    def check(self) -> list[str]:
        return []

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.full = self.broken = False

    def perform(self, effects: Sequence[StoreEffect]) -> list[object]:
        if self.broken:
            raise RuntimeError("the disk is on fire")
        self.batches.append(len(effects))
        return [self._one(effect) for effect in effects]

    def _one(self, effect: StoreEffect) -> object:
        if self.full and isinstance(effect, Save | Commit):
            return Failure("disk_full", "The disk is full: make room, or use another home.")
        return self.answer(effect)

    def glance(self, effect: Scan) -> tuple[tuple[bytes, bytes], ...] | Failure:
        if self.broken:
            return Failure("internal", "The disk is on fire.")
        answer = self.answer(effect)
        assert isinstance(answer, tuple)
        return answer

    def stat(self) -> dict[str, int]:
        return {"blocks": len(self.tables["blocks"]), "bytes": sum(map(len, self.tables["blocks"].values()))}

    def close(self) -> None:
        pass


class TestKeys:
    """A P-256 key by OpenSSL, the same for the same name."""

    __test__ = False

    def __init__(self, name: str) -> None:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest(), "big") >> 1
        self._secret = ec.derive_private_key(number, ec.SECP256R1())
        form = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        self.public_key = self._secret.public_key().public_bytes(*form)
        self.did = did.encode_p256(self.public_key)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self._secret.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, alg: int, key: bytes, message: bytes, signature: bytes) -> bool:
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
            halves = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            public.verify(encode_dss_signature(*halves), message, ec.ECDSA(hashes.SHA256()))
        except (ValueError, InvalidSignature):
            return False
        return True


class PythonRuntime:
    """Runs Python functions registered under the bytes of their "module"; `hang` is one that never ends."""

    def __init__(self) -> None:
        self.programs: dict[bytes, tuple[ModuleInfo, Program]] = {}
        self.prepared: dict[Cid, tuple[ModuleInfo, Program]] = {}
        self.cancelled = 0
        self.started = asyncio.Event()

    def at_once(self, effect: Prepare | Run) -> ModuleInfo | Outcome | Failure | None:
        return None

    async def prepare(self, effect: Prepare) -> ModuleInfo | Failure | None:
        code, data = effect.code, effect.data
        if data is not None:
            if data not in self.programs:
                return Failure("not_wasm", "Not a WebAssembly module.")
            self.prepared[code] = self.programs[data]
        return self.prepared[code][0] if code in self.prepared else None

    async def run(self, job: Job) -> Outcome | Failure:
        self.started.set()
        if job.func == "hang":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        if job.func == "fault":
            raise RuntimeError("the engine is on fire")
        return self.prepared[job.code][1](job)

    async def close(self) -> None:
        pass


class Hosted:
    """A host with its fakes at hand."""

    def __init__(self, name: str, limits: Limits) -> None:
        self.store, self.keys, self.runtime = MemoryStore(), TestKeys(name), PythonRuntime()
        identity = Identity(self.keys.did, self.keys.public_key)
        entropy = hashlib.sha256(b"entropy of " + name.encode()).digest()
        self.kernel = Kernel(identity, entropy, limits, engine="python")
        self.host = Host(self.kernel, self.store, self.keys, self.runtime)


@contextlib.asynccontextmanager
async def hosted(
    name: str = "ann", founds: bool = True, limits: Limits | None = None
) -> AsyncIterator[Hosted]:
    """A started host, by default the founder of its own grid."""
    made = Hosted(name, limits or Limits())
    await made.host.start()
    try:
        if founds:
            await made.host.ask(made.kernel.owner.found("test"))
        yield made
    finally:
        await made.host.close()


def add_one_module() -> ModuleInfo:
    """What `inspect` says of a module that exports add_one, hang and fault, each i64 → i64."""
    kind = (("i64",), ("i64",))
    func = FuncType(*kind)
    return ModuleInfo((), {"add_one": func, "hang": func, "fault": func}, None, False, False)


def add_one(job: Job) -> Outcome:
    """The program behind it."""
    number = int.from_bytes(job.params[:8], "little", signed=True) + 1
    return Outcome(number.to_bytes(8, "little", signed=True), b"", 7, 65_536)


def make_bundle(folder: Path) -> bundle.Bundle:
    """A small bundle on disk, in the form worker/bundle.py gives it."""
    files = {
        "index.html": b"<!doctype html><title>PromiseGrid</title>",
        "sw.js": b"// offline",
        "static/0123456789abcdef/boot.mjs": b"export const boot = 1;\n" * 100,
        "static/0123456789abcdef/node.worker.mjs": b"export const worker = 1;\n",
        "static/0123456789abcdef/grid.js": b"export const grid = 1;\n",
        "static/0123456789abcdef/engine.wasm": b"\0asm\1\0\0\0",
    }
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    twin = folder / "static/0123456789abcdef/boot.mjs.br"
    twin.write_bytes(b"brotli")
    listed = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
    }
    (folder / "manifest.json").write_text(json.dumps({"static": "/static/0123456789abcdef", "files": listed}))
    return bundle.load(folder)
