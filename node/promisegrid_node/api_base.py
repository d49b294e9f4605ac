"""The verbs of the base: what is kept, for how long, where, and whether it is whole.

Each is reached through the door or in the command line's own process, see `api.py`.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promisegrid_node.api_content import ContentApi
from promisegrid_node.host import Host
from promisegrid_node.session import Args, Session, Verb


class BaseApi:
    """The verbs over one host's base."""

    def __init__(self, host: Host, content: ContentApi) -> None:
        self._host, self._content = host, content
        self._kernel, self._owner = host.kernel, host.kernel.owner

    @property
    def verbs(self) -> Mapping[str, Verb]:
        """Every verb by its name."""
        return {"stat": self.stat, "verify": self.verify}

    # -- looking after -------------------------------------------------------------------------------

    async def stat(self, args: Args, session: Session) -> dict[str, Any]:
        """What this node holds and does: {blocks, bytes, backend, store, file_bytes, free, …}.

        file_bytes: what the store's files take up; free: what their disk has left; None where there is none.
        """
        place = self._host.store.place
        return {
            **await self._host.stat(),
            "backend": place.backend,
            "store": place.where,
            "file_bytes": None if place.file is None else _taken(place.file),
            "free": None if place.file is None else shutil.disk_usage(place.file.parent).free,
            "peers": len(self._kernel.peers()),
            "serving": await self._host.ask(self._owner.serving()),
        }

    async def verify(self, args: Args, session: Session) -> dict[str, Any]:
        """Hash everything stored once more: {checked, bad: [cid]}."""
        total = (await self._host.stat())["blocks"]
        after, checked, bad = b"", 0, list[str]()
        while True:
            after, count, wrong = await self._host.ask(self._owner.verify_store(after))
            checked, bad = checked + count, bad + [str(cid) for cid in wrong]
            session.progress({"phase": "verify", "done": checked, "total": max(total, checked)})
            if not after:
                return {"checked": checked, "bad": bad}


def _taken(file: Path) -> int:
    """Bytes that a store's file and its log take up."""
    size = 0
    for one in (file, file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-shm")):
        with contextlib.suppress(OSError):
            size += one.stat().st_size
    return size
