"""What a disk may hold when the power goes: from a record of what a process did to its files (`powercut.c`).

Promised by a disk: what was synced is there. Not promised: anything since. Each such write is there, or not,
or only some of its sectors, in any order; a file made longer and never filled holds whatever lay there
before; a file made, renamed or removed is so only once its folder was synced. When a sync fails, what it was
to write is lost, though the system may still show it, and a later sync that succeeds does not write it.
Bytes next to a torn write keep their value, as SQLite assumes ("powersafe overwrite").
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

SECTOR: Final = 512
SOURCE: Final = Path(__file__).with_name("powercut.c")
_HEAD: Final = struct.Struct("<cqII")
How = Literal["none", "all", "some", "torn"]
"""What becomes of the writes not synced: lost, kept, some kept, some sectors of some kept."""
HOWS: Final[tuple[How, ...]] = ("none", "all", "some", "torn")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing done to a file; `kind` as `powercut.c` says."""

    kind: str
    at: int
    path: str
    data: bytes


def library(folder: Path) -> Path:
    """The recorder, compiled for this machine into a folder, once for each version of it."""
    made = folder / f"powercut-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]}.so"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        compiler = shutil.which("cc")
        command = [compiler] if compiler else [sys.executable, "-m", "ziglang", "cc"]
        part = made.with_suffix(f".{os.getpid()}")
        flags = ["-O2", "-shared", "-fPIC", "-o", str(part), str(SOURCE), "-ldl"]
        subprocess.run([*command, *flags], check=True, capture_output=True)
        part.replace(made)
    return made


def environment(library: Path, root: Path, log: Path) -> dict[str, str]:
    """What a process needs in its environment to be recorded."""
    return {**os.environ, "LD_PRELOAD": str(library), "POWERCUT_ROOT": str(root), "POWERCUT_LOG": str(log)}


def entries(log: bytes) -> Iterator[Entry]:
    """What was recorded, in order."""
    at = 0
    while at < len(log):
        kind, offset, length, size = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        path, data = log[at : at + length].decode(), log[at + length : at + length + size]
        at += length + size
        yield Entry(kind.decode(), offset, path, data)


@dataclass(slots=True)
class _File:
    """What is surely on the disk, and what was done since."""

    kept: bytes = b""
    since: list[Entry] = field(default_factory=list)

    def image(self, how: How, dice: random.Random) -> bytes:
        found = bytearray(self.kept)
        odds = 1.0 if how == "all" else 0.0 if how == "none" else dice.choice((0.1, 0.5, 0.9))
        for entry in self.since:
            if dice.random() >= odds:
                continue
            if entry.kind == "T":
                _resize(found, entry.at, how, dice)
                del found[entry.at :]
            elif how == "torn":
                _tear(found, entry, dice)
            else:
                _resize(found, entry.at + len(entry.data), how, dice)
                found[entry.at : entry.at + len(entry.data)] = entry.data
        return bytes(found)

    def sync(self) -> None:
        self.kept, self.since = self.image("all", random.Random(0)), []


def _resize(found: bytearray, size: int, how: How, dice: random.Random) -> None:
    """Longer, with what lay there before where nothing was written."""
    gap = size - len(found)
    if gap > 0:
        found += dice.randbytes(gap) if how != "all" and dice.random() < 0.5 else bytes(gap)


def _tear(found: bytearray, entry: Entry, dice: random.Random) -> None:
    """Some sectors of a write."""
    at, data = entry.at, entry.data
    while data:
        size = SECTOR - at % SECTOR
        if dice.random() < 0.7:
            _resize(found, at + len(data[:size]), "torn", dice)
            found[at : at + len(data[:size])] = data[:size]
        at, data = at + size, data[size:]


class Disk:
    """A disk that follows a record; `there` is what it holds at first."""

    def __init__(self, there: Mapping[str, bytes] | None = None) -> None:
        self._files = {path: _File(data) for path, data in (there or {}).items()}
        self._kept: dict[str, _File] = dict(self._files)
        self._since: list[tuple[str, str, _File | None]] = []
        self._folders: set[str] = set()

    def follow(self, entry: Entry) -> None:
        """Do what was done."""
        match entry.kind:
            case "K":
                self._folders.add(entry.path)
                self._since.append(("put", entry.path, _File()))
            case "C":
                self._files[entry.path] = _File()
                self._since.append(("put", entry.path, self._files[entry.path]))
            case "U":
                self._files.pop(entry.path)
                self._since.append(("drop", entry.path, None))
            case "R":
                moved = self._files.pop(entry.path)
                self._files[entry.data.decode()] = moved
                self._since += [("put", entry.data.decode(), moved), ("drop", entry.path, None)]
            case "L":
                self._files[entry.data.decode()] = self._files[entry.path]
                self._since.append(("put", entry.data.decode(), self._files[entry.path]))
            case "W" | "T" if entry.path in self._files:
                self._files[entry.path].since.append(entry)
            case "S" if entry.path in self._files:
                self._files[entry.path].sync()
            case "S":
                self._sync_folder(entry.path)
            case "F" if entry.path in self._files:
                self._files[entry.path].since.clear()

    def image(self, how: How, dice: random.Random) -> dict[str, bytes]:
        """One state the disk may be in after the power went now: path → bytes."""
        names = dict(self._kept)
        odds = {"none": 0.0, "all": 1.0}.get(how, 0.5)
        for name in self._since:
            if dice.random() < odds:
                _rename(names, name)
        gone = tuple(f"{folder}/" for folder in self._folders if folder not in names)
        return {
            path: file.image(how, dice)
            for path, file in names.items()
            if path not in self._folders and not path.startswith(gone)
        }

    def _sync_folder(self, path: str) -> None:
        for name in [name for name in self._since if os.path.dirname(name[1]) == path]:
            _rename(self._kept, name)
            self._since.remove(name)


def _rename(names: dict[str, _File], change: tuple[str, str, _File | None]) -> None:
    _, path, file = change
    if file is None:
        names.pop(path, None)
    else:
        names[path] = file
