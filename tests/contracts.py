"""What any Store and Keys must do, said in effects: every host passes this same text. See contracts_runtime.

A law is an async function of `perform`, which carries out effects of its port, in order, and gives their
answers. `STORE` laws begin with an empty store.

    @pytest.mark.parametrize("law", contracts.STORE, ids=contracts.name)
    def test_store(law): asyncio.run(law(perform))
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final

from tests import p256

from promisegrid.effects import (
    TABLES,
    Commit,
    Conflict,
    Effect,
    Load,
    Read,
    Save,
    Scan,
    Seen,
    Sign,
    Table,
    Verify,
    Write,
)

Perform = Callable[[Sequence[Effect]], Awaitable[list[object]]]
Law = Callable[[Perform], Coroutine[Any, Any, None]]


def name(law: Law) -> str:
    """A law's name, for a test's id."""
    return getattr(law, "__name__", "law")


async def one(perform: Perform, effect: Effect) -> object:
    """The answer of one effect."""
    (answer,) = await perform([effect])
    return answer


# -- store -------------------------------------------------------------------------------------------


def put(key: bytes, value: bytes | None, table: Table = "blocks") -> Write:
    return Write(table, key, value)


async def what_is_written_is_read_back(perform: Perform) -> None:
    for kind, key in ((Save, b"saved"), (Commit, b"committed")):
        assert await one(perform, kind((put(key, b"1"), put(key + b"2", b"")))) is None
        assert await one(perform, Load("blocks", (key + b"2", b"none", key, key))) == (b"", None, b"1", b"1")
    assert await one(perform, Load("blocks", ())) == ()


async def effects_of_a_batch_see_each_other_in_order(perform: Perform) -> None:
    answers = await perform(
        [
            Load("grid", (b"k",)),
            Save((put(b"k", b"1", "grid"),)),
            Load("grid", (b"k",)),
            Commit((put(b"k", b"2", "grid"), put(b"l", b"3", "grid"))),
            Scan("grid", b"", b"", 9),
            Save((put(b"k", None, "grid"),)),
            Load("grid", (b"k", b"l")),
        ]
    )
    assert answers == [(None,), None, (b"1",), None, ((b"k", b"2"), (b"l", b"3")), None, (None, b"3")]


async def tables_do_not_mix(perform: Perform) -> None:
    await perform([Commit(tuple(put(b"key", table.encode(), table) for table in TABLES))])
    for table in TABLES:
        assert await one(perform, Load(table, (b"key",))) == (table.encode(),)
        assert await one(perform, Scan(table, b"", b"", 9)) == ((b"key", table.encode()),)


async def the_last_write_of_a_key_counts(perform: Perform) -> None:
    for table in TABLES:
        await perform([Commit((put(b"a", b"1", table), put(b"a", b"22", table), put(b"b", b"1", table)))])
        await perform([Commit((put(b"b", None, table), put(b"never", None, table)))])
        assert await one(perform, Load(table, (b"a", b"b"))) == (b"22", None)
        await perform([Commit((put(b"a", None, table), put(b"a", b"333", table)))])
        assert await one(perform, Load(table, (b"a",))) == (b"333",)


async def a_scan_gives_rows_in_byte_order(perform: Perform) -> None:
    keys = [
        b"\x00",
        b"\x00\x00",
        b"a",
        b"a\x00",
        b"a\xff",
        b"a\xff\xff\x01",
        b"b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"\xff\xff",
    ]
    await perform([Save(tuple(put(key, key * 2, "memo") for key in reversed(keys)))])

    async def scan(prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        rows = await one(perform, Scan("memo", prefix, after, limit))
        assert isinstance(rows, tuple) and all(value == key * 2 for key, value in rows)
        return [key for key, _ in rows]

    keys.sort()
    assert await scan(b"", b"", 99) == keys
    for prefix in (b"a", b"a\xff", b"\xff", b"\x00", b"c", b"\xff\xff\xff"):
        expected = [key for key in keys if key.startswith(prefix)]
        assert await scan(prefix, b"", 99) == expected, prefix
        assert await scan(prefix, b"a\x00", 2) == [key for key in expected if key > b"a\x00"][:2], prefix
    assert await scan(b"", b"\xff\xff", 9) == []
    named = await one(perform, Scan("memo", b"a", b"a", 2, keys_only=True))
    assert named == ((b"a\x00", b""), (b"a\xff", b""))


async def keys_and_values_are_any_bytes(perform: Perform) -> None:
    every, large = bytes(range(256)), bytes(range(256)) * 8192
    await perform([Commit((put(every, large), put(b"\0", b"\0")))])
    assert await one(perform, Load("blocks", (b"\0", every))) == (b"\0", large)


async def a_damaged_block_is_mended(perform: Perform) -> None:
    await perform([Commit((put(b"cid", b"damaged"),))])
    await perform([Commit((put(b"cid", b"whole"),))])
    await perform([Save((put(b"cid", b"whole"),))])
    assert await one(perform, Load("blocks", (b"cid",))) == (b"whole",)


async def a_read_answers_all_its_reads(perform: Perform) -> None:
    await perform([Commit((put(b"a", b"1", "kv"), put(b"b", b"2", "kv"), put(b"c", b"", "streams")))])
    several = Read((Load("kv", (b"b", b"none")), Scan("kv", b"", b"", 9), Scan("streams", b"x", b"", 9)))
    assert await one(perform, several) == ((b"2", None), ((b"a", b"1"), (b"b", b"2")), ())
    assert await one(perform, Read(())) == ()


async def a_commit_rests_on_what_it_saw(perform: Perform) -> None:
    await perform([Commit((put(b"a", b"1", "kv"), put(b"b", b"2", "kv")))])
    key, none = Seen(Load("kv", (b"a",)), (b"1",)), Seen(Load("kv", (b"n",)), (None,))
    rows = Seen(Scan("kv", b"", b"", 9), ((b"a", b"1"), (b"b", b"2")))
    assert await one(perform, Commit((put(b"a", b"3", "kv"), put(b"cid", b"4")), (none, rows, key))) is None
    assert await one(perform, Load("kv", (b"a",))) == (b"3",)
    assert await one(perform, Load("blocks", (b"cid",))) == (b"4",)


async def a_commit_that_saw_otherwise_changes_nothing(perform: Perform) -> None:
    await perform([Commit((put(b"a", b"1", "kv"), put(b"b", b"2", "kv")))])
    right = Seen(Load("kv", (b"a",)), (b"1",))
    never = (put(b"a", b"9", "kv"), put(b"cid", b"9"), put(b"b", None, "kv"))
    for wrong in (
        Seen(Load("kv", (b"a",)), (b"2",)),
        Seen(Load("kv", (b"a",)), (None,)),
        Seen(Load("kv", (b"n",)), (b"",)),
        Seen(Scan("kv", b"", b"", 9), ((b"a", b"1"),)),
        Seen(Scan("kv", b"n", b"", 9), ((b"n", b""),)),
        Seen(Scan("streams", b"", b"", 9), ((b"a", b"1"),)),
    ):
        assert await one(perform, Commit(never, (right, wrong))) == Conflict(1), wrong
        assert await one(perform, Commit(never, (wrong, wrong))) == Conflict(0), wrong
    assert await one(perform, Commit((), (right,))) is None
    assert await one(perform, Scan("kv", b"", b"", 9)) == ((b"a", b"1"), (b"b", b"2"))
    assert await one(perform, Load("blocks", (b"cid",))) == (None,)


async def of_two_that_saw_the_same_one_wins(perform: Perform) -> None:
    await perform([Commit((put(b"n", b"0", "kv"),))])
    seen = (Seen(Load("kv", (b"n",)), (b"0",)),)
    both = [Commit((put(b"n", value, "kv"), put(value, value)), seen) for value in (b"1", b"2")]
    assert await perform(both) == [None, Conflict(0)]
    assert await one(perform, Read((Load("kv", (b"n",)), Load("blocks", (b"1", b"2"))))) == (
        (b"1",),
        (b"1", None),
    )


STORE: Final[tuple[Law, ...]] = (
    what_is_written_is_read_back,
    effects_of_a_batch_see_each_other_in_order,
    tables_do_not_mix,
    the_last_write_of_a_key_counts,
    a_scan_gives_rows_in_byte_order,
    keys_and_values_are_any_bytes,
    a_damaged_block_is_mended,
    a_read_answers_all_its_reads,
    a_commit_rests_on_what_it_saw,
    a_commit_that_saw_otherwise_changes_nothing,
    of_two_that_saw_the_same_one_wins,
)


# -- keys --------------------------------------------------------------------------------------------

ES256, EDDSA, PS256 = -7, -8, -37
SAMPLE: Final = {
    # RFC 6979, A.2.5, with SHA-256
    ES256: (
        b"sample",
        "0460fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
        "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299",
        "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
        "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8",
    ),
    # RFC 8032, 7.1, test 3
    EDDSA: (
        b"\xaf\x82",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
}
"""alg: message, public key, signature."""
RSA_KEY: Final = base64.b64decode(
    "MIIBCgKCAQEAsGGbsHeW27Zsz4QeuphURC4GA0rOtA4KuuMqmbZCbAgx3Md4u9DEuJvqh5wKGDLfWOyTUHhNg4k1yNiFT4s09eJ28XTh"
    "AMQwiZRyQibNdVEOZZBqHHj3ek4pouJq9lfp6YK2RGGRVVooflwBxpgj6+DvG4//olV7nh15//QK28rqsfN/vVblgMKOeujIoIeNCipV"
    "vvJVFrPzf1HSq+aftYiBuFiBOp2PqMXjOcWqm3tpM+mzlx9SM9tzyQcOTPhvi8m+8HjGeVqLvE1BA/L8ycHk1vUWHQPTN8X38BtrO13E"
    "fn0W2hFJs0R9N08+FKe1AIAxjY2lzwsAX5L5979GvQIDAQAB"
)
RSA_SIGNATURE: Final = base64.b64decode(
    "JuQSPGCBwtUOrCk1yZULSxRcD4HmaVHht7XMVJYshPjTeaLuB6yLWGsuARDysCAlJiDVsh22k6KfpWIDM/JSE/EP3wz+dDIELDRRmnf/"
    "b3u3/gl2/hlgEGgNJCF0iw21w5VZqncnHlsP/jXkHxRUejPzjlMogGFDZYiAqY8rgzIsGV3DKaraYVYV05UONHP7ruBdrfa4s3pZWOSr"
    "bJTQHaD3H6rh1/HrUR+8aRGM4H39lmXZsqj/zFe1FRotf4gfT/9b6ko2s/yBUZKak+8zE1jrPSeFevVZSjIWlbTI0/6ZQaL0pAuZWcKN"
    "XDPR2c8bACTodTjkfEeU3vjIIN71fw=="
)
"""Of b"sample", by a key made for this test and thrown away."""


def samples() -> list[Verify]:
    """One good signature of each algorithm."""
    found = [
        Verify(alg, bytes.fromhex(key), message, bytes.fromhex(signature))
        for alg, (message, key, signature) in SAMPLE.items()
    ]
    return [*found, Verify(PS256, RSA_KEY, b"sample", RSA_SIGNATURE)]


async def known_signatures_hold(perform: Perform) -> None:
    assert await perform(samples()) == [True] * 3


async def anything_else_does_not_hold(perform: Perform) -> None:
    for good in samples():
        alg, key, message, signature = good.alg, good.key, good.message, good.signature
        bad = [
            Verify(alg, key, message + b"!", signature),
            Verify(alg, key, message, signature[:-1]),
            Verify(alg, key, message, signature + b"\0"),
            Verify(alg, key, message, b""),
            Verify(alg, key, message, bytes(len(signature))),
            Verify(alg, key, message, b"\xff" * len(signature)),
            Verify(alg, key[:-1], message, signature),
            Verify(alg, key + b"\0", message, signature),
            Verify(alg, b"", message, signature),
            Verify(alg, bytes(len(key)), message, signature),
            *(
                Verify(other, key, message, signature)
                for other in (ES256, EDDSA, PS256, 0, -257)
                if other != alg
            ),
        ]
        bad += [
            Verify(alg, key, message, signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :])
            for at in (0, len(signature) // 2, len(signature) - 1)
        ]
        assert await perform(bad) == [False] * len(bad), alg


async def a_signature_has_one_length(perform: Perform) -> None:
    """r and s are 32 bytes each; a zero in front of s would be the same number."""
    message, key, signature = SAMPLE[ES256]
    raw = bytes.fromhex(signature)
    check = Verify(ES256, bytes.fromhex(key), message, raw[:32] + b"\0" + raw[32:])
    assert await one(perform, check) is False


async def a_point_has_one_spelling(perform: Perform) -> None:
    """Compressed points are legal elsewhere; here they would give one key two names."""
    message, key, signature = SAMPLE[ES256]
    point = bytes.fromhex(key)
    compressed = bytes([2 + point[-1] % 2]) + point[1:33]
    hybrid = bytes([6 + point[-1] % 2]) + point[1:]
    off_curve = point[:-1] + bytes([point[-1] ^ 1])
    checks = [
        Verify(ES256, odd, message, bytes.fromhex(signature)) for odd in (compressed, hybrid, off_curve)
    ]
    assert await perform(checks) == [False] * 3


def signs_for(public_key: bytes) -> Law:
    """The law of a node's own key: it signs what others verify."""

    async def what_is_signed_is_verified(perform: Perform) -> None:
        assert len(public_key) == 65 and public_key[0] == 4
        for message in (b"", b"hello", bytes(100_000)):
            signature = await one(perform, Sign(message))
            assert isinstance(signature, bytes) and len(signature) == 64
            checks = [Verify(ES256, public_key, m, signature) for m in (message, message + b"\0")]
            assert await perform(checks) == [True, False]
            assert p256.verify(public_key, message, signature)

    return what_is_signed_is_verified


KEYS: Final[tuple[Law, ...]] = (
    known_signatures_hold,
    anything_else_does_not_hold,
    a_signature_has_one_length,
    a_point_has_one_spelling,
)
