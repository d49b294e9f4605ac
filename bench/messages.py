"""What the kernel adds to the cryptography of a message, in one process and without a socket.

    python bench/messages.py [--rounds 5] [--calls 2000]

The baseline is one bare ES256 verification and one bare signature (OpenSSL, through `cryptography`). Ours is
a distinct signed call to a kernel that presents a capability promise and is answered from the result cache
with a signed reply: frame, structure, claims, signature, replay rule, promise, cache, reply, frame. The
promise is the same in every call, as it is wherever one is used more than once. Goal: 0.6 of the baseline's
rate. Then the very same bytes again, which get the same reply and cost no cryptography: ten times that rate.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from promisegrid import capability, claims, cose, dagcbor, envelope, frames
from promisegrid.cid import Cid
from promisegrid.effects import (
    TABLES,
    Budget,
    Commit,
    Digest,
    Load,
    Outcome,
    Prepare,
    Reply,
    Run,
    Save,
    Scan,
    Send,
    Sign,
    Verify,
)
from promisegrid.kernel import Kernel
from promisegrid.state import Identity
from promisegrid.task import Task
from promisegrid.unixfs import import_bytes
from promisegrid.wasm.layout import FuncType
from promisegrid.wasm.module import ModuleInfo
from promisegrid_node.keys import Keys

NOW_MS = 1_795_000_000_000
TASKS = 16
TURN = 16
"""Frames a turn of a busy host's loop brings."""


class Node:
    """A kernel and the least host it can live with: a store of dicts, real keys, one program."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.keys = Keys.open(home)
        self.kernel = Kernel(Identity(self.keys.did, self.keys.public_key), hashlib.sha256(b"bench").digest())
        self.tables: dict[str, dict[bytes, bytes]] = {table: {} for table in TABLES}
        self.info = ModuleInfo((), {"add_one": FuncType(("i64",), ("i64",))}, None, False, False)
        self.sent: list[bytes] = []
        self.replies: dict[int, Reply] = {}

    def perform(self, effects: list[tuple[int, Any]]) -> None:
        """Answer effects a round at a time, as a busy host does; frames go into `sent`."""
        while effects:
            answers: list[tuple[int, object]] = []
            for ticket, effect in effects:
                if type(effect) is Verify:
                    held = self.keys.verify(effect.alg, effect.key, effect.message, effect.signature)
                    answers.append((ticket, held))
                elif type(effect) is Sign:
                    answers.append((ticket, self.keys.sign(effect.message)))
                elif ticket:
                    answers.append((ticket, self._answer(effect)))
                elif isinstance(effect, Send):
                    self.sent.append(effect.frame)
                elif isinstance(effect, Reply):
                    self.replies[effect.ask] = effect
            effects = self.kernel.answers(answers, NOW_MS)

    def _answer(self, effect: Any) -> object:
        match effect:
            case Load(table, keys):
                return tuple(self.tables[table].get(key) for key in keys)
            case Scan(table, prefix, after, limit):
                found = [row for row in self.tables[table].items() if row[0].startswith(prefix)]
                return tuple(sorted(row for row in found if row[0] > after)[:limit])
            case Save(writes) | Commit(writes):
                for write in writes:
                    self.tables[write.table][write.key] = write.value or b""
                return None
            case Digest(data):
                return hashlib.sha256(data).digest()
            case Prepare():
                return self.info
            case Run(job):
                return Outcome((int.from_bytes(job.params, "little") + 1).to_bytes(8, "little"), b"", 7, 0)
            case _:
                raise AssertionError(effect)

    def ask(self, verb: Any) -> Any:
        """Carry out a verb that needs nobody else."""
        self.perform(self.kernel.ask(1, verb, NOW_MS))
        reply = self.replies.pop(1)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def receive(self, frame: bytes) -> None:
        """A frame on the one link."""
        self.perform(self.kernel.receive(1, frame, NOW_MS))


def pair(folder: Path) -> tuple[Node, Node]:
    """A founder that serves, and a member linked to it."""
    founder, member = Node(folder / "founder"), Node(folder / "member")
    for node in (founder, member):
        node.ask(node.kernel.owner.boot())
    founder.ask(founder.kernel.owner.found("bench"))
    founder.ask(founder.kernel.owner.set_serving(1, 1 << 20))
    invite = founder.ask(founder.kernel.owner.invite())
    member.perform(member.kernel.connect(1, "initiator", "b/grid", "ws", NOW_MS, invite=invite))
    founder.perform(founder.kernel.connect(1, "responder", "b/grid", "ws", NOW_MS))
    talk(founder, member)
    return founder, member


def talk(founder: Node, member: Node) -> None:
    """Carry frames between the two until neither has more to say."""
    while founder.sent or member.sent:
        for near, far in ((founder, member), (member, founder)):
            frames_out, near.sent = near.sent, []
            for frame in frames_out:
                far.receive(frame)


def served(founder: Node, member: Node) -> tuple[Cid, bytes]:
    """A module whose results are remembered, and the founder's promise to the member to call it."""
    code, blocks = import_bytes(b"a module")
    founder.ask(founder.kernel.save(blocks))
    for number in range(TASKS):
        founder.ask(founder.kernel.run(Task(code, "add_one", (number,)), Budget()))
    rules = [[0, ">=", 0], [0, "<", TASKS]]
    giving = founder.kernel.promises.grant(member.keys.did, {"code": code}, func="add_one", policy=rules)
    founder.perform(founder.kernel.ask(1, giving, NOW_MS))
    talk(founder, member)
    return code, capability.unpack(founder.replies.pop(1).value.token)[0]


def messages(
    founder: Node, member: Node, code: Cid, promise: bytes, count: int, first: int
) -> list[bytes]:
    """Distinct signed calls, as frames."""
    grid = founder.kernel.grid
    assert grid is not None
    out = []
    for number in range(first, first + count):
        content = claims.Claims(
            iss=member.keys.did,
            aud=founder.keys.did,
            exp=NOW_MS // 1000 + 600,
            cti=number.to_bytes(16, "big"),
            iat=NOW_MS // 1000,
            call=("add_one", (number % TASKS,)),
            proofs=(promise,),
        )
        signed = envelope.prepare(code, grid, content.encode())
        protected = cose.protected_header("grid-message")
        signature = cose.low_s(member.keys.sign(cose.to_be_signed(protected, signed)))
        out.append(
            frames.encode(frames.Message(envelope.seal(signed, cose.assemble(protected, None, signature))))
        )
    return out


def bare(node: Node, calls: int) -> float:
    """Seconds for one verification and one signature, over as many bytes as a message has."""
    message = bytes(600)
    signature = node.keys.sign(message)
    started = time.perf_counter()
    for _ in range(calls):
        node.keys.verify(-7, node.keys.public_key, message, signature)
        node.keys.sign(message)
    return (time.perf_counter() - started) / calls


def timed(node: Node, batch: list[bytes]) -> float:
    """Seconds a message; every one must have been answered with a result."""
    node.sent.clear()
    credit = frames.encode(frames.Credit(TURN))
    started = time.perf_counter()
    for first in range(0, len(batch), TURN):
        effects = []
        for frame in batch[first : first + TURN]:
            effects += node.kernel.receive(1, frame, NOW_MS)
        node.perform(effects)
        node.perform(node.kernel.receive(1, credit, NOW_MS))
    spent = (time.perf_counter() - started) / len(batch)
    answers = [frame for frame in node.sent if dagcbor.decode(frame)[0] == 4]
    assert len(answers) == len(batch), f"{len(answers)} replies to {len(batch)} calls"
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        founder, member = pair(Path(folder))
        code, promise = served(founder, member)
        floors, firsts, agains = [], [], []
        for turn in range(options.rounds):
            batch = messages(founder, member, code, promise, options.calls, turn * options.calls)
            floors.append(bare(founder, options.calls))
            firsts.append(timed(founder, batch))
            agains.append(timed(founder, batch))
        floor, first, again = map(statistics.median, (floors, firsts, agains))
    print(f"one verify + one sign                {floor * 1e6:7.1f} µs")
    rate, faster = floor / first, first / again
    print(f"distinct call, from the cache        {first * 1e6:7.1f} µs   {rate:.2f} of that rate (goal 0.6)")
    print(f"the same bytes again                 {again * 1e6:7.1f} µs   {faster:.1f} times that (goal 10)")


if __name__ == "__main__":
    main()
