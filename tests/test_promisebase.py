"""PromiseBase's meaning: transactions, streams, pins, collecting, rebuilding."""

from __future__ import annotations

import pytest
from tests.sim import Node, World

from promisegrid import dagcbor, unixfs
from promisegrid.block import Block
from promisegrid.cid import DAG_CBOR, Cid
from promisegrid.effects import Commit, Write
from promisegrid.errors import LocalError, RemoteError
from promisegrid.limits import Limits
from promisegrid.promisebase.streams import Head
from promisegrid.promisebase.transaction import Committed, Conflicted, Transaction


@pytest.fixture
def ann() -> Node:
    return World().grid("ann")[0]


def stored(node: Node, cid: Cid) -> bool:
    return bytes(cid) in node.tables["blocks"]


def age(node: Node) -> None:
    """So much time that nothing is fresh any more."""
    node.world.now_ms += node.limits.fresh_ms + 1


# -- transactions ------------------------------------------------------------------------------------


def test_keys_and_blocks_take_effect_together(ann: Node) -> None:
    block = Block.of(b"kept along")

    async def work(t: Transaction) -> int:
        assert await t.get(b"n") is None
        t.put(b"n", b"1")
        t.put(b"m", b"2")
        t.keep(block)
        assert await t.get(b"n") == b"1", "its own writes"
        assert await t.scan() == ((b"m", b"2"), (b"n", b"1"))
        t.delete(b"m")
        assert await t.scan() == ((b"n", b"1"),) and await t.get(b"m") is None
        return 7

    assert ann.do(ann.kernel.base.transact("space", work)) == Committed(7)
    rows = {key: value for key, value in ann.tables["kv"].items() if not key.startswith(b"\0")}
    assert rows == {b"space\0n": b"1"} and stored(ann, block.cid)
    assert [type(effect) for effect in ann.log if isinstance(effect, Commit)][-1] is Commit


def test_a_transaction_that_fails_changes_nothing(ann: Node) -> None:
    async def work(t: Transaction) -> None:
        t.put(b"n", b"1")
        raise LocalError("Not today.", "bad_args")

    before = {name: dict(rows) for name, rows in ann.tables.items()}
    with pytest.raises(LocalError, match="Not today"):
        ann.do(ann.kernel.base.transact("space", work))
    assert {name: dict(rows) for name, rows in ann.tables.items()} == before


def test_who_is_overtaken_begins_again_with_what_is_there_now(ann: Node) -> None:
    seen = []

    async def work(t: Transaction) -> None:
        seen.append(await t.get(b"n"))
        if len(seen) == 1:
            await Commit((Write("kv", b"space\0n", b"5"),))
        t.put(b"n", b"%d" % (int(seen[-1] or b"0") + 1))

    assert isinstance(ann.do(ann.kernel.base.transact("space", work)), Committed)
    assert seen == [None, b"5"] and ann.tables["kv"][b"space\0n"] == b"6"


def test_what_a_transaction_reads_is_one_state(ann: Node) -> None:
    """Between its two reads another moves an amount from one key to the other."""
    sums = []
    ann.do(ann.kernel.base.transact("bank", lambda t: set_both(t, 10, 0)))

    async def work(t: Transaction) -> int:
        a = int(await t.get(b"a") or b"")
        if not sums:
            sums.append(0)
            await Commit((Write("kv", b"bank\0a", b"4"), Write("kv", b"bank\0b", b"6")))
        b = int(await t.get(b"b") or b"")
        sums.append(a + b)
        return a + b

    assert ann.do(ann.kernel.base.transact("bank", work)) == Committed(10) and sums == [0, 10]


async def set_both(t: Transaction, a: int, b: int) -> None:
    t.put(b"a", b"%d" % a)
    t.put(b"b", b"%d" % b)


def test_a_conflict_is_an_outcome(ann: Node) -> None:
    async def work(t: Transaction) -> None:
        value = await t.get(b"n") or b""
        await Commit((Write("kv", b"space\0n", value + b"!"),))
        t.put(b"n", b"mine")

    assert ann.do(ann.kernel.base.transact("space", work, attempts=3)) == Conflicted(3)
    assert ann.tables["kv"][b"space\0n"] == b"!!!"


def test_a_range_that_was_read_is_guarded_too(ann: Node) -> None:
    found = []

    async def work(t: Transaction) -> None:
        found.append(len(await t.scan(b"room/")))
        if len(found) == 1:
            await Commit((Write("kv", b"space\0room/2", b"taken"),))
        t.put(b"count", b"%d" % found[-1])

    ann.do(ann.kernel.base.transact("space", work))
    assert found == [0, 1] and ann.tables["kv"][b"space\0count"] == b"1"


def test_spaces_do_not_mix_and_the_base_s_own_is_closed(ann: Node) -> None:
    async def work(t: Transaction) -> object:
        t.put(b"k", b"v")
        return await t.scan()

    assert ann.do(ann.kernel.base.transact("a", work)) == ann.do(ann.kernel.base.transact("ab", work))
    for space in ("", "a\0b", "a" * 257):
        with pytest.raises(LocalError, match="space"):
            ann.do(ann.kernel.base.transact(space, work))


def test_a_transaction_is_bounded() -> None:
    world = World()
    ann = world.node("ann", Limits(transaction_reads=2, transaction_writes=2, transaction_bytes=10))

    async def reads(t: Transaction) -> None:
        for key in (b"a", b"a", b"b", b"c"):
            await t.get(key)

    async def writes(t: Transaction) -> None:
        for key in (b"a", b"b", b"c"):
            t.put(key, b"")

    async def size(t: Transaction) -> None:
        t.put(b"a", bytes(9))
        t.put(b"a", bytes(10))
        t.put(b"b", bytes(1))

    for work in (reads, writes, size):
        with pytest.raises(LocalError, match="split it"):
            ann.do(ann.kernel.base.transact("s", work))
    with pytest.raises(LocalError, match="at most 1024"):
        ann.do(ann.kernel.base.transact("s", lambda t: t.get(bytes(1023))))


# -- streams -----------------------------------------------------------------------------------------


def test_a_stream_moves_and_its_history_stays(ann: Node) -> None:
    values = [ann.put(b"version %d" % n) for n in range(3)]
    for value in values:
        ann.do(ann.kernel.base.move("notes", value))
    (head,) = ann.do(ann.kernel.base.heads("notes"))
    assert (head.value, head.height, head.by, head.stream) == (values[2], 2, ann.did, "notes")
    assert [one.value for one in history(ann, [head])] == values[::-1]
    assert ann.do(ann.kernel.base.streams()) == ["notes"]


def history(node: Node, heads: list[Head]) -> list[Head]:
    walk, found = node.kernel.base.history(heads), []
    while (head := node.do(node.kernel.base.next_head(walk))) is not None:
        found.append(head)
    return found


def test_those_who_move_at_once_leave_a_fork_until_it_is_joined(ann: Node) -> None:
    value = ann.put(b"v")
    first = ann.do(ann.kernel.base.move("s", value))
    left = ann.do(ann.kernel.base.move("s", ann.put(b"left"), [first.cid]))
    right = ann.do(ann.kernel.base.move("s", ann.put(b"right"), [first.cid]))
    heads = ann.do(ann.kernel.base.heads("s"))
    assert {head.cid for head in heads} == {left.cid, right.cid}
    joined = ann.do(ann.kernel.base.move("s", ann.put(b"both")))
    assert joined.previous == tuple(sorted((left.cid, right.cid))) and joined.height == 2
    assert ann.do(ann.kernel.base.heads("s")) == [joined]
    assert [head.height for head in history(ann, [joined])] == [2, 1, 1, 0]


def test_names_are_listed_a_page_at_a_time(ann: Node) -> None:
    value = ann.put(b"v")
    for name in ("b", "a", "ab", "é"):
        ann.do(ann.kernel.base.move(name, value))
        ann.do(ann.kernel.base.move(name, value, []))
    assert ann.do(ann.kernel.base.streams()) == ["a", "ab", "b", "é"]
    assert ann.do(ann.kernel.base.streams("a", 2)) == ["ab", "b"]


@pytest.mark.parametrize("name", ["", "a\0b", "line\nfeed", "x" * 257])
def test_a_name_that_cannot_be_one(ann: Node, name: str) -> None:
    with pytest.raises(LocalError, match="name"):
        ann.do(ann.kernel.base.move(name, ann.put(b"v")))


def test_a_head_of_another_stream_cannot_come_before(ann: Node) -> None:
    other = ann.do(ann.kernel.base.move("other", ann.put(b"v")))
    with pytest.raises(LocalError, match="not of 's'"):
        ann.do(ann.kernel.base.move("s", ann.put(b"v"), [other.cid]))


def test_somebody_else_s_head_is_taken_in_where_it_is_new() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    first = ann.do(ann.kernel.base.move("s", ann.put(b"1")))
    second = ann.do(ann.kernel.base.move("s", ann.put(b"2")))
    assert bob.do(bob.kernel.base.adopt(first.cid)) is True
    assert bob.do(bob.kernel.base.adopt(second.cid)) is True
    assert bob.do(bob.kernel.base.heads("s")) == [second]
    assert bob.do(bob.kernel.base.adopt(first.cid)) is False, "the stream is past it"
    assert bob.do(bob.kernel.base.adopt(second.cid)) is True, "again is nothing new"
    mine = bob.do(bob.kernel.base.move("s", bob.put(b"bob's"), [first.cid]))
    assert {head.cid for head in bob.do(bob.kernel.base.heads("s"))} == {mine.cid, second.cid}
    assert mine.by == bob.did and stored(bob, second.value)


def test_a_forged_head_is_refused() -> None:
    world = World()
    ann, bob = world.grid("ann", "bob")
    head = ann.do(ann.kernel.base.move("s", ann.put(b"1")))
    claim = dagcbor.decode(ann.tables["blocks"][bytes(head.cid)])
    for change in ({"by": bob.did}, {"at": 1}, {"height": 3}, {"value": head.cid}):
        block = Block.of(dagcbor.encode({**claim, **change}), DAG_CBOR)
        ann.do(ann.kernel.save([block]))
        with pytest.raises(RemoteError) as wrong:
            bob.do(bob.kernel.base.adopt(block.cid))
        assert wrong.value.code in {"bad_signature", "malformed"}, change
    assert not len(bob.tables["streams"])


# -- pins and collecting -----------------------------------------------------------------------------


def test_what_is_pinned_stays_and_the_rest_goes(ann: Node) -> None:
    size = 3 * 1024 * 1024 + 5
    kept, gone = ann.put(b"k" * size), ann.put(b"g" * size)
    ann.do(ann.kernel.base.pin(kept, "kept.bin"))
    age(ann)
    dry = ann.do(ann.kernel.base.collect(dry_run=True))
    assert stored(ann, gone) and dry.blocks > 0 and dry.bytes > 1024 * 1024
    assert ann.do(ann.kernel.base.collect()) == dry
    assert ann.get(kept) == b"k" * size and not stored(ann, gone)
    assert ann.do(ann.kernel.base.collect()).blocks == 0
    assert ann.do(ann.kernel.base.unpin(kept)) and not ann.do(ann.kernel.base.unpin(kept))
    ann.do(ann.kernel.base.collect())
    assert not stored(ann, kept)


def test_a_stream_keeps_every_value_it_ever_had(ann: Node) -> None:
    values = [ann.put(b"version %d" % n) for n in range(4)]
    for value in values:
        ann.do(ann.kernel.base.move("s", value))
    age(ann)
    ann.do(ann.kernel.base.collect())
    assert all(stored(ann, value) for value in values)
    assert len(history(ann, ann.do(ann.kernel.base.heads("s")))) == 4


def test_what_was_stored_lately_is_left_alone(ann: Node) -> None:
    cid = ann.put(b"on its way")
    assert ann.do(ann.kernel.base.collect()).blocks == 0 and stored(ann, cid)
    age(ann)
    assert ann.do(ann.kernel.base.collect()).blocks == 1 and not stored(ann, cid)


def test_storing_what_is_there_already_makes_it_new(ann: Node) -> None:
    cid = ann.put(b"old")
    age(ann)
    ann.put(b"old")
    ann.do(ann.kernel.base.collect())
    assert stored(ann, cid)


def test_who_asks_what_is_lacking_finds_it_when_the_answer_comes(ann: Node) -> None:
    """What is said to be here stays for a while; what has rotted is not here."""
    here, rotten, gone = ann.put(b"here"), ann.put(b"rotten"), Cid.of(b"gone")
    age(ann)
    ann.tables["blocks"][bytes(rotten)] = b"rotted"
    asked = [gone, here, rotten]
    assert ann.do(ann.kernel.base.lacking(asked)) == [gone, rotten]
    ann.do(ann.kernel.base.collect())
    assert stored(ann, here)
    assert ann.do(ann.kernel.base.lacking([])) == []


def test_nothing_is_collected_while_something_is_stored(ann: Node) -> None:
    leaf = ann.put(b"the first leaf of a long file")
    with ann.kernel.base.storing():
        age(ann)
        with pytest.raises(RemoteError, match="being put"):
            ann.do(ann.kernel.base.collect())
    assert stored(ann, leaf)
    assert ann.do(ann.kernel.base.collect()).blocks == 1


def test_apps_keys_and_what_the_grid_keeps_stay(ann: Node) -> None:
    app, named = ann.put(b"an app"), ann.put(b"named in a value")
    ann.do(ann.kernel.owner.publish(app, "app", ""))

    async def work(t: Transaction) -> None:
        t.put(b"see", b"the file " + bytes(named))

    ann.do(ann.kernel.base.transact("notes", work))
    age(ann)
    ann.do(ann.kernel.base.collect())
    assert stored(ann, app) and stored(ann, named)
    assert ann.kernel.grid is not None and stored(ann, ann.kernel.grid)


@pytest.mark.parametrize("step", range(24))
def test_a_pin_made_while_it_runs_is_honoured(step: int) -> None:
    """At whichever effect of the collection the pin comes, what it keeps is there, or the pin is refused."""
    ann = World().grid("ann")[0]
    folder, blocks = unixfs.import_tree([("a", 1, b"file a"), ("b", 1, b"file b")])
    ann.do(ann.kernel.save(blocks))
    for n in range(80):
        ann.put(b"garbage %d" % n)
    age(ann)
    asked = ann.start(ann.kernel.base.collect())
    for _ in range(step):
        ann.world.step()
    try:
        ann.do(ann.kernel.base.pin(folder, "kept"))
    except RemoteError as wrong:
        assert wrong.code == "not_found"
        assert not len(ann.tables["pins"])
    else:
        ann.end(asked)
        assert all(stored(ann, block.cid) for block in blocks)


@pytest.mark.parametrize("step", range(1, 40, 3))
def test_another_node_of_the_base_pins_meanwhile(step: int) -> None:
    """Two kernels on one store: the second knows nothing of the first's collection."""
    world = World()
    ann = world.grid("ann")[0]
    bob = world.node("bob")
    bob.tables = ann.tables
    kept = ann.put(b"pinned by the other" * 1000)
    for n in range(80):
        ann.put(b"garbage %d" % n)
    age(ann)
    asked = ann.start(ann.kernel.base.collect())
    for _ in range(step):
        world.step()
    try:
        bob.do(bob.kernel.base.pin(kept, "theirs"))
    except RemoteError:
        return
    ann.end(asked)
    assert stored(ann, kept)


def test_one_collection_at_a_time_and_giving_it_up_harms_nothing(ann: Node) -> None:
    for n in range(200):
        ann.put(b"garbage %d" % n)
    kept = ann.put(b"kept")
    ann.do(ann.kernel.base.pin(kept))
    age(ann)
    asked = ann.start(ann.kernel.base.collect())
    with pytest.raises(RemoteError, match="already"):
        ann.do(ann.kernel.base.collect())
    ann.end(asked)
    for n in range(200):
        ann.put(b"more garbage %d" % n)
    age(ann)
    asked = ann.start(ann.kernel.base.collect())
    for _ in range(20):
        ann.world.step()
    ann.perform(ann.kernel.cancel(asked, ann.world.now_ms))
    with pytest.raises(RemoteError, match="cancelled"):
        ann.end(asked)
    ann.do(ann.kernel.base.collect())
    assert stored(ann, kept)


def test_pinning_what_is_nowhere_is_refused(ann: Node) -> None:
    cid, blocks = unixfs.import_bytes(b"x" * (2 * 1024 * 1024))
    ann.do(ann.kernel.save([block for block in blocks if block.cid == cid]))
    for missing in (cid, Cid.of(b"nowhere")):
        with pytest.raises(RemoteError) as wrong:
            ann.do(ann.kernel.base.pin(missing, "x"))
        assert wrong.value.code == "not_found"
    assert not len(ann.tables["pins"])


def test_a_pin_brings_what_is_missing_from_peers() -> None:
    ann, bob = World().grid("ann", "bob")
    cid = ann.put(b"y" * (2 * 1024 * 1024 + 1))
    pin = bob.do(bob.kernel.base.pin(cid, "from ann"))
    assert bob.do(bob.kernel.base.pins()) == [pin] and bob.do(bob.kernel.base.pinned(cid)) == pin
    assert set(bob.tables["blocks"]) >= {key for key in ann.tables["blocks"] if key[1] == 0x70}


# -- rebuilding --------------------------------------------------------------------------------------


def test_indexes_are_made_anew_from_blocks(ann: Node) -> None:
    for n in range(3):
        ann.do(ann.kernel.base.move("s", ann.put(b"%d" % n)))
    ann.do(ann.kernel.base.move("fork", ann.put(b"a"), []))
    ann.do(ann.kernel.base.move("fork", ann.put(b"b"), []))
    before = dict(ann.tables["streams"])
    for key in list(ann.tables["streams"]):
        del ann.tables["streams"][key]
    ann.tables["streams"][b"stray\0" + bytes(Cid.of(b"nothing"))] = b""
    found = ann.do(ann.kernel.base.rebuild())
    assert dict(ann.tables["streams"]) == before and found.heads == 3 and found.removed == 1
    assert ann.do(ann.kernel.base.rebuild()).removed == 0
