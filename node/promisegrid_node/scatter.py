"""From content by CID to files on disk: what `get -o` and `run -o` write.

Promises: nothing is written outside the target; a file or folder appears under its name only when it is
whole; and what is there already is not overwritten unless it is a file asked for by name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from promisegrid import dagcbor, unixfs
from promisegrid.errors import LocalError


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the target's place when the block ends well."""
    try:
        descriptor, fresh = tempfile.mkstemp(prefix=f".{target.name[:40]}.", dir=target.parent)
    except OSError as error:
        raise LocalError(f"{target} cannot be written: {error.strerror}.") from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
        os.chmod(fresh, 0o666 & ~_umask())
        os.replace(fresh, target)
    except OSError as error:
        raise LocalError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class FolderWriter:
    """Takes the pieces of the verb `export` and makes a folder of them; use as a context manager."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._file: BinaryIO | None = None

    def __enter__(self) -> FolderWriter:
        target = self._target
        if target.is_symlink() or (target.exists() and not target.is_dir()):
            raise LocalError(f"{target} exists and is not a folder: choose another name.")
        if target.is_dir() and any(target.iterdir()):
            raise LocalError(f"{target} is not empty: choose another name, or empty it first.")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._root = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", dir=target.parent))
        except OSError as error:
            raise LocalError(f"{target} cannot be written: {error.strerror}.") from error
        self._folders = {self._root}
        return self

    async def take(self, piece: bytes) -> None:
        """One piece of the export. LocalError when it cannot be written here."""
        path, kind, data = dagcbor.decode(piece)
        try:
            self._write(self._inside(path), kind, data)
        except OSError as error:
            raise LocalError(f"{path!r} cannot be written below {self._target}: {error.strerror}.") from error

    def _write(self, place: Path, kind: str, data: bytes) -> None:
        if kind == "more":
            assert self._file is not None, "more of no file"
            self._file.write(data)
            return
        self._close()
        if kind == "folder":
            place.mkdir()
            self._folders.add(place)
        elif kind == "symlink":
            os.symlink(data, os.fsencode(place))
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL  # which follows no link
            self._file = os.fdopen(os.open(place, flags, 0o666), "wb")

    def _inside(self, path: str) -> Path:
        try:
            names = [unixfs.check_name(name) for name in path.split("/")]
        except ValueError as error:
            raise LocalError(f"The folder has a name that cannot be written: {error}.") from error
        if ".." in names or "." in names:
            raise LocalError(f"The folder has a name that leads out of it: {path!r}.")
        place = self._root.joinpath(*names)
        if place.parent not in self._folders:  # a link of that name would lead out
            raise LocalError(f"The folder has {path!r} in something that is no folder.")
        return place

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._close()
            if kind is None:
                if self._target.is_dir():
                    self._target.rmdir()
                os.chmod(self._root, 0o777 & ~_umask())
                self._root.rename(self._target)
        except OSError as error:
            raise LocalError(f"{self._target} cannot be written: {error.strerror}.") from error
        finally:
            shutil.rmtree(self._root, ignore_errors=True)
