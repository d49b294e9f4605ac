"""The blobs into and out of the WASI module: one layout, and a broken one is refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.scenes import printed

from promisegrid import job
from promisegrid.errors import RemoteError

names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6)
nodes = st.lists(st.tuples(names, st.sampled_from([0, 1, 2]), st.binary(max_size=20)), max_size=5)


def test_a_job_byte_by_byte() -> None:
    blob = job.encode_job(b"s" * 32, 5, ["-v"], b"in", [("b", 1, b"x"), ("a", 0, b"")])
    u32 = struct.Struct("<I").pack
    assert blob == b"".join(
        [
            b"PGJ1", b"s" * 32, struct.pack("<Q", 5), u32(2), u32(4), b"main", u32(2), b"-v", u32(0),
            u32(2), b"in", u32(2), b"\0", u32(1), b"a", u32(0), b"\1", u32(1), b"b", u32(1), b"x",
        ]
    )  # fmt: skip


@given(st.binary(max_size=30), nodes, st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_a_result_is_read_as_it_was_written(
    stdout: bytes, tree: list[tuple[str, int, bytes]], code: int
) -> None:
    ended = job.decode_result(printed(stdout, tree, code).wasi, 10)
    assert (ended.stdout, ended.stderr, ended.exit, list(ended.nodes)) == (stdout, b"", code, tree)
    assert ended.flags & job.CHANGED


def test_a_result_with_too_many_files() -> None:
    with pytest.raises(RemoteError) as wrong:
        job.decode_result(printed(b"", [("a", 1, b"")] * 3).wasi, 2)
    assert wrong.value.code == "output_too_large"


@pytest.mark.parametrize(
    "blob",
    [
        b"", b"PGR1", b"PGR2" + bytes(24), b"PGR1" + b"\xff" * 40, b"PGR1" + bytes(8) + b"\xff\xff\xff\x7f",
        printed(b"x", [("a", 1, b"b")]).wasi[:-1], printed(b"").wasi + b"\0",
        printed(b"", [("a", 1, b"")]).wasi.replace(b"\1\0\0\0a", b"\1\0\0\0\xff"),
    ],
)  # fmt: skip
def test_what_is_no_result(blob: bytes) -> None:
    with pytest.raises(RemoteError) as wrong:
        job.decode_result(blob, 10)
    assert wrong.value.code == "bad_result"


def _wrote(stderr: bytes) -> bytes:
    """A result blob of a program that wrote to stderr only."""
    return b"PGR1" + bytes(12) + struct.pack("<I", len(stderr)) + stderr + bytes(4)


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        (b"", ""),
        (b"\n\n", ""),
        (b"thread 'main' panicked at a.rs:2:\r\nno\n", "thread 'main' panicked at a.rs:2: / no"),
        (b"\x1b[31mred\x1b[0m \xff", "[31mred [0m \ufffd"),
        ("\u202ereversed".encode(), "reversed"),
        (b"x" * 5_000 + b"end", "x" * 697 + "end"),
    ],
)
def test_last_words_are_one_plain_line(stderr: bytes, words: str) -> None:
    assert job.last_words(_wrote(stderr)) == words
    assert job.last_words(_wrote(b"12345")[:18]) == ""
