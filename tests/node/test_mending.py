"""`promisegrid verify --mend`, as somebody whose card is dying would type it."""

from __future__ import annotations

from pathlib import Path

import pytest

from promisegrid_node.cli import main
from promisegrid_node.home import Home
from promisegrid_node.mending import mend
from promisegrid_node.store_file import FILE, PAGE_BYTES


def typed(capsys: pytest.CaptureFixture[str], home: Path, *words: str) -> tuple[int, str]:
    """A command's exit code, and all it said."""
    code = main([*words, "--home", str(home)])
    said = capsys.readouterr()
    return code, said.out + said.err


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A home with a pinned file of many blocks."""
    file, home = tmp_path / "file", tmp_path / "home"
    file.write_bytes(bytes(range(256)) * 16384)
    assert typed(capsys, home, "put", str(file))[0] == 0
    return home


def test_a_damaged_file_is_named_with_the_remedy_and_mended(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(capsys, home, "verify")[0] == 0
    path = home / FILE
    data = bytearray(path.read_bytes())
    data[100:PAGE_BYTES] = b"\xa5" * (PAGE_BYTES - 100)  # the list of tables
    path.write_bytes(data)
    code, said = typed(capsys, home, "verify")
    assert code == 1 and "damaged" in said and "`promisegrid verify --mend`" in said and str(path) in said
    code, said = typed(capsys, home, "verify", "--mend")
    assert "Saved " in said and f"{path}.damaged-1" in said
    assert (home / f"{FILE}.damaged-1").read_bytes() == data
    code, said = typed(capsys, home, "verify")
    assert code == 0 and " 0 wrong" in said, said


def test_a_store_that_is_whole_or_in_use_is_left_alone(home: Path) -> None:
    said: list[str] = []
    before = (home / FILE).read_bytes()
    mend(Home(home), said.append)
    (home / FILE).write_bytes(b"\xa5" * 5000 + before[5000:])
    with Home(home).hold():
        mend(Home(home), said.append)
    mend(Home(home.parent / "none"), said.append)
    assert said == [] and sorted(path.name for path in home.glob(f"{FILE}*")) == [FILE]
