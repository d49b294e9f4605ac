"""A network of the test's own: what browsers say to each other never touches the machine's network.

Linux network namespaces: the calling thread moves into a new, empty one, and whatever it starts lives there.
It has loopback and a pair of virtual interfaces with an address and a default route, since browsers gather
no addresses where nothing leads anywhere; none comes by itself later (IPv6), at which they would drop every
request under way. Needs root; where it cannot be made the test is skipped, saying so.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_MINE = "/proc/thread-self/ns/net"
_SET_UP = (
    "link set lo up",
    "link add promise0 type veth peer name promise1",
    "link set promise0 addrgenmode none",
    "link set promise1 addrgenmode none",
    "link set promise1 up",
    "link set promise0 up",
    "addr add 10.77.0.1/24 dev promise0",
    "route add default via 10.77.0.2 dev promise0",
)
_NEIGHBOUR = (
    "link set lo up",
    "link set promise1 addrgenmode none",
    "link set promise1 up",
    "addr add 10.77.0.2/24 dev promise1",
    "route add default via 10.77.0.1 dev promise1",
)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """This thread, and what it starts, in a network namespace of its own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not Path(_MINE).exists() or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux and the `ip` command")
    before = os.open(_MINE, os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET) != 0:
            pytest.skip(f"no network namespace can be made here: {os.strerror(ctypes.get_errno())}")
        try:
            for line in _SET_UP:
                done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
                if done.returncode:
                    pytest.skip(f"no network can be made in the namespace: ip {line}: {done.stderr.strip()}")
            yield
        finally:
            if libc.setns(before, _CLONE_NEWNET) != 0:
                pytest.exit(f"cannot leave the network namespace: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(before)


@contextlib.contextmanager
def neighbour() -> Iterator[Callable[[], contextlib.AbstractContextManager[None]]]:
    """Inside `apart()`: a second host, 10.77.0.2, at the other end of the pair.

    Gives what brings this thread, and what it starts meanwhile, there and back.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    here = os.open(_MINE, os.O_RDONLY)
    assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    there = os.open(_MINE, os.O_RDONLY)
    holder = subprocess.Popen(["sleep", "600"])  # `ip` knows a namespace by a process in it

    def go(where: int) -> None:
        assert libc.setns(where, _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    @contextlib.contextmanager
    def visit() -> Iterator[None]:
        go(there)
        try:
            yield
        finally:
            go(here)

    try:
        go(here)
        subprocess.run(["ip", "link", "set", "promise1", "netns", str(holder.pid)], check=True)
        with visit():
            for line in _NEIGHBOUR:
                subprocess.run(["ip", *line.split()], check=True)
        yield visit
    finally:
        go(here)
        holder.kill()
        holder.wait()
        os.close(there)
        os.close(here)
