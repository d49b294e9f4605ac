"""The chunker in Wasmtime cuts as its specification does, and an edit re-stores a few chunks."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from tests.test_chunker import KUBO, chunks, stream

from promisegrid import chunker as specification
from promisegrid.chunker import CHUNKER_CID, LARGEST, ROOM
from promisegrid.errors import LocalError
from promisegrid.unixfs import FileImporter
from promisegrid_node.chunker import Buzhash
from promisegrid_node.storing import chunker

MIB = 1024 * 1024
LARGER = {
    "ones, all largest": (b"\1" * MIB, "bafybeiddwmd3ez7xxda376zudm5novpyawhyo2pwlhaxuuy3wxjptcifue"),
    "many chunks": (stream(3, 3 * MIB - 5), "bafybeihmqxh2q5itio2jcvsygup5ytqtqob23ndtaieedfdxqi5frdeq5q"),
    "8 MiB": (stream(2, 8 * MIB), "bafybeigycs5ik3qrkb5fxx4hlgisfqwpcrmb2wajuob5eyurbomwgusjqu"),
}
"""Kubo's CIDs, as in `KUBO`, of what takes the specification too long."""


@pytest.mark.parametrize("name", [*KUBO, *LARGER])
def test_the_cids_are_kubos(name: str) -> None:
    content, cid = {**KUBO, **LARGER}[name]
    importer = FileImporter(Buzhash())
    importer.feed(content)
    assert str(importer.finish()[0]) == cid


@pytest.mark.parametrize("last", [False, True])
def test_it_cuts_as_the_specification(last: bool) -> None:
    data = memoryview(stream(7, 1_300_000) + bytes(1_000_000) + stream(8, 700_000))
    native, slow = Buzhash(), specification.Buzhash()
    for size in (0, 1, LARGEST - 1, LARGEST, len(data)):
        assert native.cut(data[:size], last) == slow.cut(data[:size], last), size


def test_more_than_the_module_has_room_for() -> None:
    data = memoryview(stream(5, 2_000_003) * 5)
    native = Buzhash()
    lengths, at = [], 0
    while at < len(data):
        piece = data[at : at + LARGEST]
        lengths.append(native.cut(piece, True)[0])
        at += lengths[-1]
    assert len(data) > 2 * ROOM
    assert native.cut(data, True) == lengths


def test_a_byte_put_into_a_large_file_moves_few_chunks() -> None:
    data = stream(6, 8 * 1024 * 1024)
    before = chunks(data, Buzhash())
    after = chunks(data[:1_000_000] + b"!" + data[1_000_000:], Buzhash())
    assert len(before) > 25
    assert len(after - before) <= 2


def test_chunkers_are_named() -> None:
    assert isinstance(chunker("buzhash"), Buzhash)
    assert chunker("size-1048576").largest == 1024 * 1024
    for wrong in ("", "size-", "size-0", "size-9999999", "size-1e3", "rabin", "size-²"):
        with pytest.raises(LocalError, match="no chunker"):
            chunker(wrong)


@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_the_committed_module_is_what_the_source_gives() -> None:
    build = Path(__file__).parents[2] / "kernel" / "chunker" / "build.py"
    command = [sys.executable, str(build), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert CHUNKER_CID in done.stdout
