"""The book of promises: which this node knows of, how often each was used, which are gone, which calls wait.

Everything here is read at boot and kept in memory; every change is returned as writes, to be committed before
anybody hears of it (`commit`; whoever commits them otherwise calls `undo` when that failed: memory and disk
agree). Nothing that was written is undone: a count never falls, a revocation is never lifted, a call that was
kept or broken stays so. Rows go when what they are about has expired for good.

Rows of the `grid` table, below `cap/`:

    known/<promise>          {at, chain}: a promise given, held or shown, with all it rests on
    use/<promise><message>   when the message expires: this message used this promise
    used/<promise>           how often it was used by messages that can no longer come again
    gone/<promise>           {statement, chain}: it was revoked
    call/<call>              a deferred call, see `Call`
    wait/<call>              {by, promise, …}: what this node awaits from others
    said/<at><statement>     statements made and heard here, in the order of time
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from promisegrid import dagcbor, deferral, statement
from promisegrid.block import Block
from promisegrid.capability import Grant
from promisegrid.cid import Cid
from promisegrid.deferral import Call, Wait
from promisegrid.effects import Commit, Scan, Write
from promisegrid.errors import RemoteError
from promisegrid.scan import BATCH, rows
from promisegrid.shelf import Gone, Impressions, Known, Shelf, Uses, checked
from promisegrid.state import State
from promisegrid.statement import Statement
from promisegrid.strand import Signal
from promisegrid.terms import MEMBER

_ROOT: Final = b"cap/"
_FOLD: Final = 16
"""Uses forgotten by name with each new one: more than one, so that the names do not pile up."""
_SWEEP_S: Final = 60
_SWEPT: Final = 64


class Ledger:
    """One node's book."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.known = Shelf(state.me)
        self.gone: dict[Cid, Gone] = {}
        self._unwritten: dict[Cid, tuple[Write, ...]] = {}
        self.calls: dict[Cid, Call] = {}
        self.call_of: dict[Cid, Cid] = {}
        self.ending: set[Cid] = set()
        self.waits: dict[Cid, Wait] = {}
        self.said: list[tuple[int, Cid]] = []
        self._news: dict[Cid, Signal[None]] = {}
        self._ends_of: dict[str, int] = {}
        self._swept_at = 0
        self._uses: dict[Cid, Uses] = {}
        self._seen = Impressions()

    async def load(self) -> None:
        """At boot. Rows that cannot be read any more are passed over, and stay."""
        async for row, value in rows("grid", _ROOT):
            kind, _, key = row[len(_ROOT) :].partition(b"/")
            try:
                self._take(kind, key, value)
            except (ValueError, KeyError, TypeError, RemoteError):
                continue
        self.said = self.said[-self._state.limits.statements :]

    async def leave(self) -> None:
        """The grid is left: what was promised there is forgotten. Statements remain as blocks."""
        while found := await Scan("grid", _ROOT, _ROOT, BATCH, keys_only=True):
            await Commit(tuple(Write("grid", row, None) for row, _ in found))
        for book in (self.known, self.gone, self.calls, self.call_of, self.waits):
            book.clear()
        for numbers in (self._uses, self._seen, self._ends_of, self.said):
            numbers.clear()
        self._state.revoked.clear()
        self._state.dismissed.clear()

    def _take(self, kind: bytes, key: bytes, value: bytes) -> None:
        if kind == b"said":
            self.said.append((int.from_bytes(key[:8], "big"), Cid.decode(key[8:])))
            return
        if kind == b"use":
            size = len(key) // 2
            self._counted(Cid.decode(key[:size])).names[Cid.decode(key[size:])] = dagcbor.decode(value)
            return
        name, plain = Cid.decode(key), dagcbor.decode(value)
        if kind == b"used":
            self._counted(name).folded = plain
        elif kind == b"known":
            self.known.put(Known(checked(plain["chain"], self._state.limits), plain["at"]))
        elif kind == b"gone":
            said, _ = statement.read(plain["statement"])
            self._is_gone(said, plain["statement"], checked(plain["chain"], self._state.limits))
        elif kind == b"call":
            self._put(name, deferral.read_call(plain))
        elif kind == b"wait":
            self.waits[name] = deferral.read_wait(plain)

    # -- writing -------------------------------------------------------------------------------------

    async def commit(self, writes: Iterable[Write], then: Callable[[], object] | None = None) -> None:
        """Write rows, carried out though whoever asks gives up; `then` is what they change here.

        RemoteError when they could not be written: then memory is as before.
        """
        await self._state.scheduler.spawn(self._commit(tuple(writes), then)).done

    async def _commit(self, writes: tuple[Write, ...], then: Callable[[], object] | None) -> None:
        try:
            await Commit(writes)
        except RemoteError:
            self.undo(writes)
            raise
        if then is not None:
            then()

    def undo(self, writes: Iterable[Write]) -> None:
        """These rows could not be written: what is new by them is not known. What is gone stays gone."""
        owed = {write.key for writes in self._unwritten.values() for write in writes}
        for write in writes:
            if write.table != "grid" or write.value is None or write.key in owed:
                continue
            kind, _, key = write.key.removeprefix(_ROOT).partition(b"/")
            if kind == b"said":
                self.said = [one for one in self.said if _said(*one) != write.key]
            elif kind == b"use":
                name, message = (Cid.decode(key[at : at + len(key) // 2]) for at in (0, len(key) // 2))
                self._counted(name).names.pop(message, None)
            elif kind == b"known" and (name := Cid.decode(key)) in self.known:
                self.known.drop(name)
            elif kind == b"call" and (name := Cid.decode(key)) in self.ending:
                self.ending.discard(name)
            elif kind == b"call":
                self.forget_call(name)

    # -- promises ------------------------------------------------------------------------------------

    def room(self, grant: Grant, teller: str | None = None) -> None:
        """RemoteError("busy") when there is no room for another promise, or for one more of this side.

        Ours count for whom we promised the first of the chain to, those of others for their `teller`, and
        leave half the book to ours: further names in a chain cost nothing to make up. Memberships this node
        gave to the member itself are few, and must be known to be taken back.
        """
        limits, me = self._state.limits, self._state.me
        if grant.name in self.known:
            return
        who, kind, most = grant.chain[0].holder, self.known.ours(), limits.promises
        mine = self.known.ours(who)
        if grant.root != me:
            who, kind, most = teller or grant.root, self.known.theirs(), limits.promises // 2
            mine = self.known.theirs(who)
        if grant.root == me and len(grant.chain) == 1 and grant.what == ("ability", MEMBER):
            mine = 0
        if len(self.known) >= limits.promises or kind >= most or mine >= limits.promises_per_holder:
            raise RemoteError("busy", f"Too many promises on account of {who}; some have to end first.")

    def room_for_end(self, grant: Grant, by: str) -> None:
        """RemoteError("busy") when no more revocations are taken from this side of the first promise.

        Whoever made that first promise is bounded by the book alone.
        """
        most = self._state.limits.revocations
        mine = self._ends_of.get(grant.chain[0].holder, 0)
        if len(self.gone) >= most or (by != grant.root and mine >= most // 16):
            raise RemoteError("busy", "Too many revocations to remember.")

    def note(self, grant: Grant) -> tuple[Write, ...]:
        """Know a promise from now on; nothing when it is known. Call `room` first where a peer sent it."""
        if grant.name in self.known:
            return ()
        known = Known(grant, self._now)
        self.known.put(known)
        return (Write("grid", _row(b"known", grant.name), known.record()), *self._prune())

    def is_revoked(self, promise: Cid) -> bool:
        """Whether a known promise, or one it rests on, was taken back."""
        known = self.known.get(promise)
        return known is not None and any(one.name in self.gone for one in known.grant.chain)

    def state_of(self, grant: Grant) -> str:
        """What became of a promise: revoked, expired, deferred, broken, used up, kept or offered."""
        if any(one.name in self.gone for one in grant.chain):
            return "revoked"
        if grant.until < self._now:
            return "expired"
        ends = [call.state for call in self.calls.values() if call.promise == grant.name]
        if "deferred" in ends or any(wait.promise == grant.name for wait in self.waits.values()):
            return "deferred"
        if grant.name in self._seen.broken or (ends and ends[-1] == "broken"):
            return "broken"
        if grant.uses and any(self.used(name) >= most for name, most in grant.uses):
            return "used up"
        return "kept" if ends or self.used(grant.name) else "offered"

    # -- uses ----------------------------------------------------------------------------------------

    def count(self, grant: Grant) -> None:
        """The holder's own impression: it used this promise once. The issuer's count is what holds."""
        self._seen.count(grant)

    def used(self, name: Cid) -> int:
        """How often a promise was used here."""
        return self._uses[name].count if name in self._uses else self._seen.times.get(name, 0)

    def is_used_up(self, grant: Grant, message: Cid) -> bool:
        """Whether a link of the chain has no use left for this message, which may have used it already."""
        for name, most in grant.uses:
            uses = self._uses.get(name)
            if uses is not None and message not in uses.names and uses.count >= most:
                return True
        return False

    def use(self, grant: Grant, message: Cid, expires_at: int) -> tuple[Write, ...]:
        """Count one use of every link that counts; nothing when this message was counted before.

        Counted in memory at once, so that two messages cannot share a last use: commit, or call `undo`.
        RemoteError("busy") when too many messages that may come again have used it.
        """
        if not grant.uses:
            self.count(grant)
            return ()
        new = [name for name, _ in grant.uses if message not in self._counted(name).names]
        for name in new:
            if len(self._counted(name).names) >= self._state.limits.uses_recent:
                raise RemoteError("busy", f"The promise {name} was used too often just now; try again later.")
        self.count(grant)
        writes: list[Write] = []
        for name in new:
            uses = self._counted(name)
            uses.names[message] = expires_at
            key = _row(b"use", name) + bytes(message)
            writes += [Write("grid", key, dagcbor.encode(expires_at)), *self._fold(name, uses)]
        return tuple(writes)

    def _fold(self, name: Cid, uses: Uses) -> list[Write]:
        """Messages that have expired are counted, no longer named."""
        late = self._now - self._state.limits.clock_skew_ms // 1000 - 1
        old = [message for message, expires in list(uses.names.items())[:_FOLD] if expires < late]
        for message in old:
            del uses.names[message]
        uses.folded += len(old)
        gone = [Write("grid", _row(b"use", name) + bytes(message), None) for message in old]
        return [*gone, Write("grid", _row(b"used", name), dagcbor.encode(uses.folded))] if old else []

    def _counted(self, name: Cid) -> Uses:
        return self._uses.setdefault(name, Uses())

    # -- what is said --------------------------------------------------------------------------------

    def revoke(self, said: Statement, block: Block, grant: Grant) -> tuple[Write, ...]:
        """A promise is gone, and whatever rests on it. There is no way back."""
        if said.about in self.gone:
            return self.unwritten(said.about)
        self._is_gone(said, block.data, grant)
        for name, call in self.calls.items():
            if call.state == "deferred" and self.is_revoked(call.promise):
                self._wake(name)
        member = Write("grid", b"member/" + grant.holder.encode(), None)
        also = (member,) if self.gone[said.about].of_member else ()
        record = dagcbor.encode({"statement": block.data, "chain": [one.raw for one in grant.chain]})
        writes = (Write("grid", _row(b"gone", said.about), record), *also, *self.say(said, block))
        self._unwritten[said.about] = writes
        return writes

    def unwritten(self, name: Cid) -> tuple[Write, ...]:
        """What still has to be committed about a promise that is gone; nothing once `written` was called."""
        return self._unwritten.get(name, ())

    def written(self, *names: Cid) -> None:
        """The end of these promises is durable."""
        for name in names:
            self._unwritten.pop(name, None)

    def _is_gone(self, said: Statement, data: bytes, grant: Grant) -> None:
        chain = tuple(one.raw for one in grant.chain)
        of_member = grant.what == ("ability", MEMBER)
        first = grant.chain[0].holder
        self._ends_of[first] = self._ends_of.get(first, 0) + 1
        self.gone[said.about] = Gone(said, data, chain, grant.until, grant.holder, first, of_member)
        self._state.revoked.add(said.about)
        if of_member:
            self._state.dismissed.add(grant.holder)

    def say(self, said: Statement, block: Block) -> tuple[Write, ...]:
        """Keep a statement as a block, and in the order of time; the oldest of too many leave the order."""
        self.said.append((said.at, block.cid))
        writes = [
            Write("blocks", bytes(block.cid), block.data),
            Write("grid", _said(said.at, block.cid), b""),
        ]
        while len(self.said) > self._state.limits.statements:
            writes.append(Write("grid", _said(*self.said.pop(0)), None))
        return tuple(writes)

    # -- calls that are kept later -------------------------------------------------------------------

    def defer(self, name: Cid, call: Call) -> tuple[Write, ...]:
        """A call waits for the owner. RemoteError("busy") when too many do."""
        limits = self._state.limits
        waiting = [other for other in self.calls.values() if other.state == "deferred"]
        mine = sum(other.holder == call.holder for other in waiting)
        if len(waiting) >= limits.deferred or mine >= limits.deferred_per_holder:
            raise RemoteError("busy", "Too many calls wait to be kept; try again later.")
        self._put(name, call)
        return (Write("grid", _row(b"call", name), call.record()), *self._prune())

    async def end(self, name: Cid, call: Call, writes: Iterable[Write]) -> None:
        """A deferred call is kept or broken, once this is written; until then it is `ending`."""
        self.ending.add(name)
        row = Write("grid", _row(b"call", name), call.record())
        await self.commit((*writes, row), lambda: self._ended(name, call))

    def _ended(self, name: Cid, call: Call) -> None:
        self.ending.discard(name)
        self._put(name, call)
        self._wake(name)

    def _put(self, name: Cid, call: Call) -> None:
        self.calls[name] = call
        self.call_of[call.message] = name

    def forget_call(self, name: Cid) -> None:
        """What `defer` noted could not be written down."""
        call = self.calls.pop(name, None)
        if call is not None:
            self.call_of.pop(call.message, None)

    async def wait_for(self, name: Cid, wait: Wait) -> None:
        """Remember, durably, what this node awaits."""
        row = Write("grid", _row(b"wait", name), wait.record())
        await self.commit((row, *self._prune()), lambda: self.waits.update({name: wait}))

    async def waited(self, name: Cid, said: Statement, block: Block) -> None:
        """What was awaited has come, or will not: a statement says so."""
        row = Write("grid", _row(b"wait", name), None)
        came = self._seen.came
        await self.commit((row, *self.say(said, block)), lambda: came(self.waits.pop(name, None), said.state))

    def news(self, name: Cid) -> Signal[None]:
        """Set when something happens to a deferred call."""
        return self._news.setdefault(name, self._state.scheduler.signal())

    def _wake(self, name: Cid) -> None:
        signal = self._news.pop(name, None)
        if signal is not None:
            signal.set(None)

    # -- forgetting ----------------------------------------------------------------------------------

    @property
    def _now(self) -> int:
        return self._state.now_ms // 1000

    def _prune(self) -> tuple[Write, ...]:
        """Let go of rows that have expired long ago, a few a minute; they were shown as expired until now."""
        if self._now < self._swept_at + _SWEEP_S:
            return ()
        self._swept_at = self._now
        late = self._now - self._state.limits.promise_shown_ms // 1000
        writes: list[Write] = []
        for name in [name for name, known in self.known.items() if known.grant.until < late][:_SWEPT]:
            self.known.drop(name)
            writes.append(Write("grid", _row(b"known", name), None))
            uses = self._uses.pop(name, Uses())
            writes.append(Write("grid", _row(b"used", name), None))
            writes += [Write("grid", _row(b"use", name) + bytes(message), None) for message in uses.names]
            self._seen.drop(name)
        for name in [name for name, gone in self.gone.items() if gone.until < late][:_SWEPT]:
            self._ends_of[self.gone.pop(name).first] -= 1
            self._state.revoked.discard(name)
            writes.append(Write("grid", _row(b"gone", name), None))
        for name in [name for name, call in self.calls.items() if call.until < late][:_SWEPT]:
            self.forget_call(name)
            writes.append(Write("grid", _row(b"call", name), None))
        for name in [name for name, wait in self.waits.items() if wait.until < late][:_SWEPT]:
            del self.waits[name]
            writes.append(Write("grid", _row(b"wait", name), None))
        return tuple(writes)


def _row(kind: bytes, name: Cid) -> bytes:
    return _ROOT + kind + b"/" + bytes(name)


def _said(at: int, name: Cid) -> bytes:
    return _ROOT + b"said/" + at.to_bytes(8, "big") + bytes(name)
