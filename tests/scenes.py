"""What several tests need: programs for the simulated engine, and messages made by hand, right or wrong."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from tests import p256
from tests.sim import Node, World

from promisegrid import claims, cose, envelope, frames
from promisegrid.capability import Terms
from promisegrid.cid import Cid
from promisegrid.effects import Effect, Job, Outcome, Reply, Send
from promisegrid.frames import Frame
from promisegrid.limits import Limits
from promisegrid.wasm.layout import FuncType
from promisegrid.wasm.module import ModuleInfo

FRAME_MAX = 4 * 1024 * 1024
NUMBERS = ModuleInfo((), {"add_one": FuncType(("i32",), ("i32",))}, None, False, False)
COMMAND = ModuleInfo((), {"_start": FuncType((), ())}, None, True, False)


def add_one(job: Job) -> Outcome:
    """The program of NUMBERS: one more than its argument, for 7 units of fuel."""
    number = int.from_bytes(job.params[:4], "little", signed=True) + 1
    return Outcome((number & 0xFFFFFFFF).to_bytes(8, "little"), b"", 7, 65_536)


def never(job: Job) -> None:
    """A program that runs until it is stopped."""
    return


def printed(stdout: bytes, nodes: list[tuple[str, int, bytes]] | None = None, code: int = 0) -> Outcome:
    """How a command ends that wrote `stdout` and, if given, left that folder."""
    out = [b"PGR1", struct.pack("<III", 1 if nodes is None else 9, code, len(stdout)), stdout, bytes(4)]
    out.append(struct.pack("<I", len(nodes or ())))
    for path, kind, data in nodes or ():
        name = path.encode()
        out += [bytes([kind]), struct.pack("<I", len(name)), name, struct.pack("<I", len(data)), data]
    return Outcome(b"", b"".join(out), None, 65_536)


def module(
    node: Node, program: Callable[[Job], Any], info: ModuleInfo = NUMBERS, name: bytes = b"module"
) -> Cid:
    """A module in that node's store, which the simulated engines of the whole world can run."""
    node.world.programs[name] = (info, program)
    return node.put(name)


def claims_of(
    sender: Node, to: Node, func: str = "add_one", args: tuple[object, ...] = (41,)
) -> claims.Claims:
    """The claims of a call that is in order."""
    now = sender.world.now_ms // 1000
    cti = len(sender.log).to_bytes(8, "big") + len(to.log).to_bytes(8, "big")
    return claims.Claims(iss=sender.did, aud=to.did, exp=now + 60, cti=cti, iat=now, call=(func, args))


def sealed(
    sender: Node,
    protocol: Cid,
    content: claims.Claims | bytes,
    grid: Cid | None = None,
    secret: int | None = None,
    typ: Any = "grid-message",
    low: bool = True,
) -> bytes:
    """A signed message by hand: other claims, grid, key, typ or half of the curve as a test likes."""
    data = content if isinstance(content, bytes) else content.encode()
    home = grid or sender.kernel.grid
    assert home is not None
    signed = envelope.prepare(protocol, home, data)
    protected = cose.protected_header(typ)
    raw = p256.sign(sender.secret if secret is None else secret, cose.to_be_signed(protected, signed))
    raw = cose.low_s(raw)
    if not low:
        raw = raw[:32] + (p256.N - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return envelope.seal(signed, cose.assemble(protected, None, raw))


def promised(
    issuer: Node,
    holder: str,
    terms: Terms,
    parent: Cid | None = None,
    secret: int | None = None,
    **changes: Any,
) -> bytes:
    """A capability by hand: a promise of `issuer` to `holder`, resting on `parent`."""
    now, grid = issuer.world.now_ms // 1000, issuer.kernel.grid
    assert grid is not None
    fields: dict[str, Any] = {
        "iss": issuer.did,
        "aud": holder,
        "exp": now + 1000,
        "cti": b"12345678",
        "body": terms.body(grid, parent),
        "extra": {claims.CNF: {3: holder.encode()}},
        **changes,
    }
    payload = claims.Claims(**fields).encode()
    protected = cose.protected_header("grid-capability")
    raw = p256.sign(secret or issuer.secret, cose.to_be_signed(protected, payload))
    return cose.assemble(protected, payload, cose.low_s(raw))


def with_claims(content: claims.Claims, **changes: Any) -> claims.Claims:
    """The same claims but for some."""
    return replace(content, **changes)


def link_from(node: Node, peer: Node) -> int:
    """The number `node` knows its link to `peer` by."""
    return next(number for number, (other, _) in node.links.items() if other is peer)


def hand(node: Node, peer: Node, raw: bytes) -> list[Effect]:
    """Give `node` a message as if `peer` had sent it; what `node` then did, in order, until all was quiet."""
    return hand_frame(node, peer, frames.encode(frames.Message(raw)))


def hand_frame(node: Node, peer: Node, data: bytes) -> list[Effect]:
    """Give `node` a frame as if `peer` had sent it; what `node` then did."""
    before = len(node.log)
    node.perform(node.kernel.receive(link_from(node, peer), data, node.world.now_ms))
    node.world.run()
    return node.log[before:]


def chain(*names: str, limits: Limits | None = None) -> list[Node]:
    """Members in a row, each linked to the next and to nobody else."""
    world = World()
    nodes = world.grid(*names, limits=limits)
    for node in nodes[1:]:
        for link in list(node.links):
            world.cut(node, link)
    world.run()
    for one, other in pairwise(nodes):
        world.link(one, other)
    world.pass_time(2_000)
    return nodes


def sent(effects: list[Effect]) -> list[Frame]:
    """The frames among some effects, read."""
    return [frames.decode(e.frame, FRAME_MAX) for e in effects if isinstance(e, Send)]


def refusals(effects: list[Effect]) -> list[str]:
    """The codes of the unsigned refusals among some effects."""
    return [frame.code for frame in sent(effects) if isinstance(frame, frames.Refusal)]


def replies(effects: list[Effect]) -> list[bytes]:
    """The signed messages among some effects."""
    return [frame.raw for frame in sent(effects) if isinstance(frame, frames.Message)]


def read_reply(raw: bytes, to: Node) -> claims.Claims:
    """A signed reply's claims, its signature checked."""
    assert to.kernel.grid is not None
    opened = envelope.open_message(raw, to.kernel.grid, FRAME_MAX)
    content = claims.read(opened.claims, to.did, to.world.now_ms, to.limits)
    signer = next(node for node in to.world.nodes if node.did == content.iss)
    signed = cose.to_be_signed(opened.sign1.protected, opened.signed)
    assert p256.verify(p256.public_key(signer.secret), signed, opened.sign1.signature)
    return content


def names(effects: list[Effect]) -> list[str]:
    """The kinds of some effects, in order."""
    return [type(effect).__name__ for effect in effects]


def ended(node: Node, ask: int) -> Reply:
    """The end of an ask that is already over."""
    return node.replies.pop(ask)


def pair(serving: bool = True) -> tuple[Node, Node, Cid]:
    """Ann, who founded a grid and serves; Bob, a member linked to her; and add_one in Ann's store."""
    world = World()
    ann, bob = world.grid("ann", "bob")
    if serving:
        ann.do(ann.kernel.owner.set_serving(1, 1 << 20))
    return ann, bob, module(ann, add_one)


def forgive(node: Node, peer: Node) -> None:
    """Let a second pass and forget bad signatures, so that one link serves many bad messages."""
    node.world.now_ms += 1000
    node.kernel._state.links[link_from(node, peer)].bad_signatures = 0
