"""Unix sockets in a home: made so that only its owner can open them, and who is at the other end.

The door of the command line (`door.py`) and the way in for other nodes of the same user (`unix.py`) are such.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from promisegrid.errors import LocalError
from promisegrid_node.home import short_path


def bound(path: Path, what: str) -> socket.socket:
    """A socket of mode 0600 there; one left by a node that died is replaced (the caller holds the home).

    what: its name, for a sentence. LocalError when it cannot be made.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise LocalError(
            f"{path} is where {what} must be, and something else is there that cannot be replaced"
            f" ({error.strerror}): remove it, or use --home DIR."
        ) from error
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with short_path(path) as short:
            listener.bind(short)
    except OSError as error:
        listener.close()
        raise LocalError(f"{path}, {what}, cannot be opened: {error.strerror}.") from error
    finally:
        os.umask(before)
    return listener


def other_end(connection: socket.socket) -> tuple[int, int] | None:
    """(process id, user id) of the other end; None where the system does not tell."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return pid, uid
