"""The first frames of a link: each side proves its key, its grid, and that it is talking on this connection.

    initiator                                responder
    Hello(did, nonce, grid?, channel)  ⇄     Hello(did, nonce, grid?, channel)
    Proof(signature, membership?)      ⇄     Proof(signature, membership?, genesis)
    Join(invitation?)                  →     only if the initiator is not a member yet
                                       ←     Admitted(membership)

The signature (typ `grid-hello`) is over a transcript of both names, both nonces, the signer's role, the grid
and the channel, so that it proves nothing on any other connection: a relay in the middle has another
channel, and either side notices. Membership is checked only after the key is proved.
"""

from __future__ import annotations

from typing import TypeVar

from promisegrid import cose, dagcbor, frames, genesis, membership
from promisegrid.cid import Cid
from promisegrid.effects import Commit, Load, Write
from promisegrid.errors import RemoteError
from promisegrid.frames import Admitted, Hello, Join, Proof
from promisegrid.link import Link
from promisegrid.membership import Membership
from promisegrid.state import State

F = TypeVar("F", Hello, Proof, Join, Admitted)
VERSION = 1
_NONCE_BYTES = 32
_BANNED = "The owner of this node has banned that key, or the one that admitted it."
_NO_ADMITTER = "This node may not admit members; connect to the founder's, or to another that may, first."


async def greet(state: State, link: Link) -> None:
    """Run the handshake; afterwards the link is open. RemoteError says why it failed."""
    mine, theirs = await _exchange_hello(state, link)
    grid = mine.grid or theirs.grid
    assert grid is not None
    proof = Proof(
        signature=await cose.sign("grid-hello", _transcript(mine, theirs, grid, link.role), detached=True),
        membership=state.membership.proof if state.membership else None,
        genesis=state.genesis_data,
    )
    link.send(proof)
    shown = await _expect(state, link, Proof)
    their_transcript = _transcript(theirs, mine, grid, theirs.role)
    sign1 = cose.read(shown.signature, "grid-hello")
    if sign1.payload is not None or not await cose.holds(sign1, their_transcript, theirs.did):
        raise RemoteError("hello", "The peer did not prove that it holds the key it claims.")
    link.did = theirs.did
    founded = _genesis(state, grid, shown.genesis)
    await _settle_membership(state, link, grid, founded, shown)
    if state.bars(link.did, link.membership):
        raise RemoteError("banned", _BANNED)
    if link.is_closed:
        raise RemoteError("closed", "The link closed before the greeting was over.")
    link.is_open = True


async def _exchange_hello(state: State, link: Link) -> tuple[Hello, Hello]:
    grid = state.grid or link.expected_grid
    mine = Hello(VERSION, state.me, state.entropy.take(_NONCE_BYTES), grid, link.role, link.channel)
    link.send(mine)
    theirs = await _expect(state, link, Hello)
    if theirs.version != VERSION:
        raise RemoteError("hello", f"The peer speaks link version {theirs.version}, this node {VERSION}.")
    if {mine.role, theirs.role} != {"initiator", "responder"} or len(theirs.nonce) != _NONCE_BYTES:
        raise RemoteError("hello", "The peer's hello does not fit this connection.")
    if theirs.did == state.me:
        raise RemoteError("hello", "This node reached itself.")
    if state.bars(theirs.did, None):  # before anything is signed or verified for it
        raise RemoteError("banned", _BANNED)
    if theirs.channel != mine.channel:
        text = f"The peer thinks it is reached at {theirs.channel[:200]!r}, not {mine.channel!r}."
        raise RemoteError("hello", f"{text} Is something between the two?")
    if mine.grid and theirs.grid and mine.grid != theirs.grid:
        raise RemoteError("wrong_grid", f"The peer is in grid {theirs.grid}, this node in {mine.grid}.")
    if state.grid is None and {mine.grid, theirs.grid} & state.left:
        raise RemoteError("wrong_grid", "This node left that grid; start it again to join it anew.")
    if mine.grid is None and theirs.grid is None:
        raise RemoteError("hello", "Neither side is in a grid yet.")
    return mine, theirs


def _transcript(signer: Hello, other: Hello, grid: Cid, role: str) -> bytes:
    return dagcbor.encode(
        [
            "hello",
            VERSION,
            grid,
            signer.channel,
            role,
            signer.did,
            other.did,
            signer.nonce,
            other.nonce,
        ]
    )


def _genesis(state: State, grid: Cid, shown: bytes | None) -> tuple[bytes, genesis.Genesis]:
    if state.genesis is not None and state.genesis_data is not None:
        return state.genesis_data, state.genesis
    if shown is None:
        raise RemoteError("hello", "The peer is not in the grid yet and cannot show its genesis block.")
    cid, founded = genesis.read(shown)
    if cid != grid:
        raise RemoteError("hello", "The peer's genesis block does not hash to the grid it claims.")
    return shown, founded


async def _settle_membership(
    state: State, link: Link, grid: Cid, founded: tuple[bytes, genesis.Genesis], shown: Proof
) -> None:
    """Both sides end up members, or the handshake fails."""
    founder = founded[1].founder
    theirs: Membership | None = None
    if link.did != founder and shown.membership is not None:
        theirs = await membership.verify(
            shown.membership, grid, founder, link.did, state.now_ms, state.limits, state.verdicts,
            state.revoked,
        )  # fmt: skip
    link.membership = theirs
    if state.me != founder and (state.membership is None or state.membership.until * 1000 < state.now_ms):
        if link.did != founder and (theirs is None or theirs.delegate < 1):
            raise RemoteError("not_member", _NO_ADMITTER)
        await _ask_to_join(state, link, grid, founded)
    elif link.did != founder and theirs is None:
        await _let_join(state, link, grid)
    elif theirs is not None and state.may_admit and theirs.renewable(state.now_ms):
        await _renew(state, link, theirs)


async def _renew(state: State, link: Link, theirs: Membership) -> None:
    """A member in the second half of its time is promised anew, if we can promise it as much, for longer."""
    delegate = min(theirs.delegate, _further(state))
    if delegate != theirs.delegate or _until(state) <= theirs.until:
        return
    given = await _given(state, link.did, delegate)
    if given is None or given.until <= theirs.until:
        given = await admit(state, link.did, delegate=delegate)
    link.send(Admitted(given.proof))


def _until(state: State) -> int:
    """How long a membership of our making would last, in seconds since 1970."""
    until = state.now_ms // 1000 + membership.LIFE_S
    return until if state.membership is None else min(until, state.membership.until)


async def _given(state: State, did: str, delegate: int = 0) -> Membership | None:
    """The membership a key was given here before, while a new one would not last much longer.

    Whoever asks again and again gets the same: nobody collects more than can be taken back.
    """
    assert state.grid is not None and state.genesis is not None
    (proof,) = await Load("grid", (b"member/" + did.encode(),))
    if proof is None:
        return None
    try:
        given = await membership.verify(
            proof, state.grid, state.genesis.founder, did, state.now_ms, state.limits, state.verdicts,
            state.revoked,
        )  # fmt: skip
    except RemoteError:
        return None
    lasts = given.until + membership.LIFE_S // 4 >= _until(state)
    return given if lasts and given.delegate >= delegate else None


def _further(state: State) -> int:
    """How far a membership of our making may be passed on, at most."""
    return membership.BACKUP_DELEGATE if state.membership is None else state.membership.delegate - 1


async def _ask_to_join(
    state: State, link: Link, grid: Cid, founded: tuple[bytes, genesis.Genesis]
) -> None:
    link.send(Join(link.invitation))
    admitted = await _expect(state, link, Admitted)
    data, block = founded
    mine = await membership.verify(
        admitted.membership, grid, block.founder, state.me, state.now_ms, state.limits, state.verdicts,
        state.revoked,
    )  # fmt: skip
    await Commit(
        (
            Write("grid", b"genesis", data),
            Write("grid", b"membership", mine.proof),
            Write("blocks", bytes(grid), data),
        )
    )
    state.grid, state.genesis, state.genesis_data, state.membership = grid, block, data, mine


async def _let_join(state: State, link: Link, grid: Cid) -> None:
    request = await _expect(state, link, Join)
    if not state.may_admit:
        raise RemoteError("not_member", _NO_ADMITTER)
    (known,) = await Load("grid", (b"member/" + link.did.encode(),))
    if known is None and link.did in state.dismissed:
        raise RemoteError("not_member", "Your membership was taken back; whoever admits may do so in person.")
    if known is None and not state.open_mode:
        await state.admissions.take()
        try:
            await _use_invitation(state, request.invitation)
        finally:
            state.admissions.give()
    link.membership = await _given(state, link.did) or await admit(state, link.did)
    link.send(Admitted(link.membership.proof))


async def _use_invitation(state: State, secret: bytes | None) -> None:
    if secret is None:
        raise RemoteError("bad_invitation", "This grid admits by invitation; ask a member of it for a link.")
    key = membership.invitation_key(secret)
    (record,) = await Load("grid", (key,))
    invitation = membership.read_invitation(record) if record is not None else None
    if invitation is None or invitation.uses < 1 or invitation.until * 1000 < state.now_ms:
        raise RemoteError("bad_invitation", "The invitation is unknown, used up or expired; ask for another.")
    left = membership.Invitation(invitation.uses - 1, invitation.until)
    await Commit((Write("grid", key, left.record() if left.uses else None),))


async def admit(
    state: State, did: str, life_s: int = membership.LIFE_S, delegate: int = 0
) -> Membership:
    """Promise membership to a key, durably, as an admitter may. RemoteError: not_member, banned, widened."""
    if state.grid is None or not state.may_admit:
        raise RemoteError("not_member", _NO_ADMITTER)
    if did in state.banned:
        raise RemoteError("banned", f"{did} is banned here; `promisegrid unban` ends that.")
    promised = await membership.promise(
        state.grid, state.me, state.membership, did, state.entropy.take(16), state.now_ms, state.limits,
        life_s, delegate,
    )  # fmt: skip
    await Commit((Write("grid", b"member/" + did.encode(), promised.proof),))
    return promised


async def _expect(state: State, link: Link, kind: type[F]) -> F:
    frame = await link.next_frame(state.limits.hello_ms)
    if isinstance(frame, frames.Refusal):
        raise RemoteError.from_wire(frame.code, frame.text)
    if not isinstance(frame, kind):
        raise RemoteError("hello", f"Expected {kind.__name__}, not {type(frame).__name__}.")
    return frame
