"""The data directory of a node: where things lie, and who may use it.

One node at a time holds a home (`hold`); verbs that open the store themselves share it (`share`). A home is
0700, and its door a Unix socket of 0600.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from promisegrid.errors import LocalError

SOCKET_PATH_MAX: Final = 100
"""Unix socket paths are limited to 104 or 108 bytes, depending on the system."""
SHARE_WAIT_S: Final = 3.0


def default_home() -> Path:
    """`PROMISEGRID_HOME`, or `~/.promisegrid`."""
    named = os.environ.get("PROMISEGRID_HOME")
    return Path(named) if named else Path.home() / ".promisegrid"


class Home:
    """One data directory. Making the object touches nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.door = self.path / "door.sock"
        self.pins = self.path / "pins.json"
        self.log = self.path / "node.log"

    def create(self) -> None:
        """Make the directory, durably. LocalError says what is in the way."""
        fresh = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in fresh:
                sync_folder(folder.parent)
        except OSError as error:
            raise LocalError(
                f"{self.path} cannot be the home of a node: {error.strerror}; use --home DIR."
            ) from error
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise LocalError(f"{self.path} cannot be written to; use --home DIR.")

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Have the home alone. LocalError when another process uses it."""
        with self._locked(fcntl.LOCK_EX, SHARE_WAIT_S) as descriptor:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)  # for whoever finds it taken
            yield

    @contextlib.contextmanager
    def share(self) -> Iterator[None]:
        """Have the home together with other short-lived verbs, while no node runs on it."""
        with self._locked(fcntl.LOCK_SH, SHARE_WAIT_S):
            yield

    @property
    def is_held(self) -> bool:
        """Whether a node runs on this home just now."""
        try:
            with self._locked(fcntl.LOCK_SH, 0):
                return False
        except LocalError:
            return True

    @contextlib.contextmanager
    def _locked(self, how: int, wait_s: float) -> Iterator[int]:
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LocalError(f"{self.path} cannot be used as a home: {error.strerror}.") from error
        try:
            self._wait_for(descriptor, how, wait_s)
            yield descriptor
        finally:
            os.close(descriptor)

    def _wait_for(self, descriptor: int, how: int, wait_s: float) -> None:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                return
            except OSError as error:
                if time.monotonic() >= until:
                    raise LocalError(
                        f"The home {self.path} is used by {_holder(descriptor)}: stop it, or use --home DIR."
                    ) from error
            time.sleep(0.05)


def sync_folder(folder: Path) -> None:
    """Make durable which files a folder has. OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Who holds a lock just now, as far as its file tells: a verb under way shares it without a word."""
    told = os.pread(descriptor, 20, 0).strip()
    if not (told.isdigit() and _lives(int(told))):
        return "another command"
    return f"the node with process id {int(told)}"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A path of a Unix socket short enough for the system: through an open directory where it is too long."""
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        through = f"/proc/self/fd/{folder}"
        if os.path.isdir(through):
            yield f"{through}/{path.name}"
            return
        with tempfile.TemporaryDirectory(prefix="promisegrid-") as short:
            os.symlink(path.parent, f"{short}/home")
            yield f"{short}/home/{path.name}"
    finally:
        os.close(folder)
