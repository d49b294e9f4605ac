"""Files put from a page: cut as it asks, and never otherwise than its bytes allow."""

from __future__ import annotations

import pytest
from tests.test_chunker import stream

from promisegrid.chunker import LARGEST, Buzhash
from promisegrid.errors import LocalError
from promisegrid.unixfs import FileImporter, import_bytes
from promisegrid_worker.putting import CutImporter, importer

DATA = stream(41, 900_000)


def test_what_was_cut_elsewhere_is_the_same_file() -> None:
    expected = FileImporter(Buzhash())
    expected.feed(DATA)
    made, at = importer({"chunker": "buzhash"}), 0
    assert isinstance(made, CutImporter)
    for length in Buzhash().cut(memoryview(DATA), True):
        made.tell(length, [length])
        assert len(made.feed(DATA[at : at + length])) == 1
        at += length
    assert made.finish()[0] == expected.finish()[0]
    assert CutImporter().finish()[0] == import_bytes(b"")[0]


@pytest.mark.parametrize("lengths", [None, [], [4], [3, 3], [5, 0], [6, -1], [5.0], [True, 4], "5"])
def test_lengths_that_cannot_be(lengths: object) -> None:
    with pytest.raises(LocalError, match="lengths of its chunks"):
        CutImporter().tell(5, lengths)
    with pytest.raises(LocalError, match="lengths of its chunks"):
        CutImporter().tell(LARGEST + 1, [LARGEST + 1])


def test_a_page_says_how_a_file_is_cut() -> None:
    for how, chunk in ((None, 1 << 20), ({}, 1 << 20), ({"chunker": "size-300000"}, 300_000)):
        made = importer(how)
        first = next(iter(made.feed(DATA) or made.finish()[2]))
        assert len(first.data) == min(chunk, len(DATA))
    for wrong in ("", "size-0", "size-9999999", "size-99999999999", "rabin", 7):
        with pytest.raises(LocalError, match="no chunker"):
            importer({"chunker": wrong})
