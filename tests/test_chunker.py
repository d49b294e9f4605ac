"""Where files are cut: as IPFS cuts them, alike however the bytes arrive, and nearly alike after an edit."""

from __future__ import annotations

import hashlib
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promisegrid.chunker import CHUNKER_CID, LARGEST, SMALLEST, Buzhash, Chunker, Sized, load
from promisegrid.chunker.table import TABLE
from promisegrid.cid import Cid
from promisegrid.unixfs import FileImporter

KIB = 1024


def stream(seed: int, size: int) -> bytes:
    """Bytes without a pattern: SHA-256 of a seed and a counter, as text."""
    pieces = (hashlib.sha256(b"%d %d" % (seed, number)).digest() for number in range(-(-size // 32)))
    return b"".join(pieces)[:size]


KUBO = {
    "nothing": (b"", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
    "a byte": (b"x", "bafkreibnoelefnzgwbcacyt4vh52ymxvzbjq7mmqhtcnwarfq4lzegsiqe"),
    "smallest - 1": (stream(1, 128 * KIB - 1), "bafkreidj2zch45dil76pnfli63gzu34qrjwklqry3l2b5nmdw3hzltcrde"),
    "smallest": (stream(1, 128 * KIB), "bafkreib753z3nddujjaeb2wzvb5i6twrj2js6shx7uof6onrcv62fys3je"),
    "smallest + 1": (stream(1, 128 * KIB + 1), "bafkreicfsdszh5r7ubrvcpyiebfmvswhps5u3iv32ymhdtiyr32lkkdmlu"),
    "two chunks": (stream(4, 300 * KIB), "bafybeiagxv3d7gpqv2h72ins2gqjsztnlp4kkb6ki7d3vxr4fsigvz4iru"),
    "a pattern": (
        bytes(range(256)) * 2047 + bytes(255),
        "bafybeig4vb2xfwn6qe5dm42cwlc24tjgfjotiufucl35ejyjjojq2i6kxm",
    ),
    "zeros, all smallest": (bytes(1024 * KIB), "bafybeigf6zaslutodysdfhbkspzejow436zidh2dnobktpiljd4cgrwto4"),
    "zeros and one": (bytes(1024 * KIB + 1), "bafybeiestnzqzod66fxh2o6xqr5bftycqdqg7s5ylxmu4z6jfkjnuqr3ku"),
}
"""Content, and the CID that Kubo 0.22 (boxo 0.11) gives it with CIDv1, raw leaves and `--chunker buzhash`.

Kubo's default of 174 links a node makes no difference below 43 MB; above, it needs `--max-file-links 1024`.
"""



@pytest.mark.parametrize("name", KUBO)
def test_the_cids_are_kubos(name: str) -> None:
    content, cid = KUBO[name]
    importer = FileImporter(Buzhash())
    importer.feed(content)
    assert str(importer.finish()[0]) == cid


def test_the_table_has_256_different_words() -> None:
    assert len(TABLE) == len(set(TABLE)) == 256
    assert all(0 < word < 1 << 32 for word in TABLE)


@given(st.binary(max_size=400), st.integers(1, 50), st.booleans())
def test_cut_every_so_many_bytes(data: bytes, size: int, last: bool) -> None:
    lengths = Sized(size).cut(memoryview(data), last)
    assert all(length == size for length in lengths[:-1])
    assert sum(lengths) == len(data) if last else 0 <= len(data) - sum(lengths) < size
    assert all(0 < length <= size for length in lengths)


def test_chunks_have_their_bounds() -> None:
    data = stream(9, 1000 * KIB)
    lengths = Buzhash().cut(memoryview(data), True)
    assert sum(lengths) == len(data)
    assert all(SMALLEST <= length <= LARGEST for length in lengths[:-1])
    assert 0 < lengths[-1] <= LARGEST
    assert Buzhash().cut(memoryview(b""), True) == []
    assert Buzhash().cut(memoryview(data[: LARGEST - 1]), False) == []
    assert len(Buzhash().cut(memoryview(data[:LARGEST]), False)) > 0


class Coarse:
    """Cuts behind every byte 7 and after ten: a chunker by content that is quick."""

    largest = 10

    def cut(self, data: memoryview, last: bool) -> list[int]:
        lengths, at = [], 0
        while at < len(data) and (last or len(data) - at >= self.largest):
            piece = bytes(data[at : at + self.largest])
            lengths.append(piece.index(7) + 1 if 7 in piece else len(piece))
            at += lengths[-1]
        return lengths


@settings(max_examples=300)
@given(
    st.binary(max_size=120), st.lists(st.integers(1, 40), max_size=12), st.sampled_from([Coarse(), Sized(6)])
)
def test_it_does_not_matter_how_bytes_arrive(data: bytes, steps: list[int], chunker: Chunker) -> None:
    whole = FileImporter(chunker, 3)
    blocks = whole.feed(data)
    cid, tsize, last = whole.finish()
    leaves = [block.data for block in blocks + last if block.cid.codec_name == "raw"]
    assert b"".join(leaves) == data
    cuts = list(accumulate(chunker.cut(memoryview(data), True)))
    assert list(accumulate(map(len, leaves))) == (cuts or [0])
    pieces, at = FileImporter(chunker, 3), 0
    made = []
    for step in [*steps, len(data)]:
        made += pieces.feed(data[at : at + step])
        at += step
    again, size, rest = pieces.finish()
    assert (again, size) == (cid, tsize)
    assert [block.cid for block in made + rest] == [block.cid for block in blocks + last]


def chunks(data: bytes, chunker: Chunker) -> set[Cid]:
    """The CIDs of a file's leaves."""
    importer = FileImporter(chunker)
    blocks = importer.feed(data) + importer.finish()[2]
    return {block.cid for block in blocks if block.cid.codec_name == "raw"}


def test_the_module_is_the_pinned_one() -> None:
    assert str(Cid.of(load())) == CHUNKER_CID
