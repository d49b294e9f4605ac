"""Real processes for tests: a home, the command, a running node. For fixtures see conftest.py."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = ROOT / "build" / "web"
START_S = 60
CHROMIUM = ("--no-sandbox", "--disable-gpu")
"""How tests start Chromium."""
QUICK = (*CHROMIUM, "--js-flags=--liftoff-only")
"""With the first of V8's two WebAssembly compilers alone: a tab boots with a quarter less work,
in half the time. Not where it matters what handlers compute or how fast."""


def environment(home: Path) -> dict[str, str]:
    """What the command needs to run from the source tree, on this home."""
    path = os.pathsep.join(str(ROOT / room) for room in ("kernel", "node"))
    return {**os.environ, "PYTHONPATH": path, "PROMISEGRID_HOME": str(home), "PYTHONUNBUFFERED": "1"}


def command(*arguments: str | Path) -> list[str]:
    """The command line of `promisegrid`."""
    return [sys.executable, "-m", "promisegrid_node", *map(str, arguments)]


def chromium_path() -> str | None:
    """A Chromium on the PATH; None leaves the choice to Playwright."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """stdout, without the last line's end."""
        return self.out.decode().rstrip("\n")

    @property
    def json(self) -> dict[str, Any]:
        """stdout as the one JSON object it must be."""
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


class Cli:
    """The command on one home."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(
        self, *arguments: str | Path, stdin: bytes = b"", timeout: float = 120, cwd: Path | None = None
    ) -> Done:
        """Run a verb to its end, whatever its exit code. No verb ever shows a traceback."""
        done = subprocess.run(
            command(*arguments), env=environment(self.home), input=stdin, capture_output=True,
            timeout=timeout, check=False, cwd=cwd,
        )  # fmt: skip
        err = done.stderr.decode()
        assert "Traceback" not in err, err
        return Done(done.returncode, done.stdout, err)

    def ok(self, *arguments: str | Path, stdin: bytes = b"", timeout: float = 120) -> Done:
        """Run a verb that must succeed."""
        done = self(*arguments, stdin=stdin, timeout=timeout)
        assert done.code == 0, f"{arguments} ended with {done.code}: {done.err}"
        return done

    def refused(self, *arguments: str | Path, code: int = 1, stdin: bytes = b"") -> str:
        """Run a verb that must fail with one sentence on stderr; the sentence."""
        done = self(*arguments, stdin=stdin)
        lines = [line for line in done.err.splitlines() if line.strip()]
        assert done.code == code, f"{arguments} ended with {done.code}, not {code}: {done.err}"
        assert len(lines) == 1 and lines[0].startswith("promisegrid: "), done.err
        assert done.out == b"", done.out[:200]
        return lines[0].removeprefix("promisegrid: ")


@dataclass
class Node:
    """A node that runs, and the command on its home."""

    cli: Cli
    url: str
    join: str
    did: str
    grid: str | None
    process: subprocess.Popen[str] = field(repr=False)
    log: Path = field(repr=False)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rstrip("/").rpartition(":")[2])

    @property
    def said(self) -> str:
        """Its stderr so far."""
        return self.log.read_text()

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def running(home: Path, *arguments: str | Path, bundle: Path = BUNDLE, port: int = 0) -> Iterator[Node]:
    """A node on a home, listening on loopback, stopped at the end; `port` 0 takes a free one."""
    home.mkdir(parents=True, exist_ok=True)
    log = home / "stderr.txt"
    listen = () if "--listen" in arguments else ("--listen", f"127.0.0.1:{port}")
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command("up", "--json", "--bundle", bundle, *listen, *arguments),
            env=environment(home), stdout=subprocess.PIPE, stderr=stderr, text=True,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the node did not start: {log.read_text()}"
        told = json.loads(line)
        yield Node(Cli(home), told["url"], told["join"], told["did"], told["grid"], process, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()


def wait_for(check: Any, seconds: float = 20, what: str = "it") -> Any:
    """What `check()` gives once it is true; for what other processes bring about."""
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, f"{what} did not come about in {seconds} s"
        time.sleep(0.05)
    return found
